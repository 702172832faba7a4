"""The health of the contexts, as the run records tell it."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.records.results import Health, Phase1Facts, RunRecord
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table

TRENDS = (N_("converged"), N_("converging"), N_("diverging"), N_("unstable"), N_("bound"))
"""Words of the records on roll-outs and solves, for the catalogues."""


def health_table(lines: Sequence[Line]) -> str:
    """One row per run with a context block; empty where no run record says anything of health."""
    rows = [
        _row(line, run, run.facts.health)
        for line in lines
        for run in line.runs
        if run is not None and run.facts.health is not None
    ]
    header = (
        _("line"),
        _("documents"),
        _("seed"),
        _("P1 convergence rate"),
        _("memory length"),
        _("Lipschitz estimate"),
        _("solve contraction"),
        _("solve passes"),
        _("identity cosine"),
        _("roll-out trials"),
        _("failures"),
    )
    return table(header, rows) if rows else ""


def _row(line: Line, run: RunRecord, health: Health) -> list[str]:
    length = health.memory_length
    return [
        plain(line.label),
        numbers.count(run.point.num_samples),
        str(run.point.seed),
        _convergence(run.facts.phase1),
        _("not reached") if length is None else numbers.count(length),
        numbers.decimals(health.lipschitz, 2),
        numbers.decimals(health.solve_contraction),
        str(health.solve_passes)
        + ("" if health.solve_status == "converged" else f" ({plain(_(health.solve_status))})"),
        numbers.decimals(health.identity_cosine),
        plain(_(health.trial_trend)),
        _("; ").join(plain(_(failure)) for failure in health.failures) or _("none"),
    ]


def _convergence(phase1: Phase1Facts | None) -> str:
    return numbers.ABSENT if phase1 is None else numbers.share(phase1.convergence_rate)
