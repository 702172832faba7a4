"""The health of the contexts, as the run records tell it."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.records.results import Health, Phase1Facts, RunRecord
from cvfp.report import numbers
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table

HEADER = (
    "line",
    "documents",
    "seed",
    "P1 convergence rate",
    "memory length",
    "Lipschitz estimate",
    "solve contraction",
    "solve passes",
    "identity cosine",
    "roll-out trials",
    "failures",
)


def health_table(lines: Sequence[Line]) -> str:
    """One row per run with a context block; empty where no run record says anything of health."""
    rows = [
        _row(line, run, run.facts.health)
        for line in lines
        for run in line.runs
        if run is not None and run.facts.health is not None
    ]
    return table(HEADER, rows) if rows else ""


def _row(line: Line, run: RunRecord, health: Health) -> list[str]:
    length = health.memory_length
    return [
        plain(line.label),
        numbers.count(run.point.num_samples),
        str(run.point.seed),
        _convergence(run.facts.phase1),
        "not reached" if length is None else numbers.count(length),
        numbers.decimals(health.lipschitz, 2),
        numbers.decimals(health.solve_contraction),
        str(health.solve_passes)
        + ("" if health.solve_status == "converged" else f" ({plain(health.solve_status)})"),
        numbers.decimals(health.identity_cosine),
        plain(health.trial_trend),
        "; ".join(plain(failure) for failure in health.failures) or "none",
    ]


def _convergence(phase1: Phase1Facts | None) -> str:
    return numbers.ABSENT if phase1 is None else numbers.share(phase1.convergence_rate)
