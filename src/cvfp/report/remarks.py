"""Sentences beside the tables: what failed, what is missing, what no fit uses, and prior data."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.records.results import Exclusion, RunRecord
from cvfp.records.sweep import Sweep
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.report.lines import Line
from cvfp.report.markdown import plain

REASONS = {
    "failed": N_("failed"),
    "no_result": N_("has no perplexity or no number of tokens"),
    "cap": N_("stopped at its cap"),
    "repeated": N_("the same result as seed {seed}"),
    "lone_seed": N_("the only size of its draw, and a fit needs two"),
    "lone_size": N_("the only size left, and a fit needs two"),
}


def priors(lines: Sequence[Line]) -> list[str]:
    """One sentence per kind of data, other than the training documents, that lines profited from."""
    users: dict[str, list[str]] = {}
    for line in lines:
        for prior in line.prior:
            users.setdefault(prior, []).append(plain(line.label))
    everyone = _("all lines")
    return [
        f"{everyone if len(labels) == len(lines) else ', '.join(labels)}: {plain(_(prior))}"
        for prior, labels in users.items()
    ]


def failures(sweep: Sweep) -> list[str]:
    """One sentence per failed point, with its error."""
    return [
        f"{plain(point.arm)} {plain(point.config_name)}, {_place(point.num_samples, point.seed)}: "
        f"{_error(sweep.run_of(point))}"
        for point in sweep.points
        if point.status == "failed"
    ]


def missing(sweep: Sweep) -> list[str]:
    """One sentence per line that has planned points without a record."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for point in sweep.missing():
        place = _place(point.config.data.num_samples, point.config.seed)
        lacking.setdefault((point.config.arm, point.config_name), []).append(place)
    return [f"{plain(arm)} {plain(name)}: {'; '.join(places)}" for (arm, name), places in lacking.items()]


def exclusions(lines: Sequence[Line]) -> list[str]:
    """One sentence per point that is not in its line's fit, with the reason."""
    return [f"{plain(line.label)}, {exclusion_text(why)}" for line in lines for why in line.fit.excluded]


def exclusion_text(why: Exclusion) -> str:
    """Which point is in no fit, and why."""
    reason = _(REASONS[why.reason]).format(seed=why.repeated_seed)
    return f"{_place(why.num_samples, why.seed)}: {reason}"


def _place(num_samples: int, seed: int) -> str:
    return _("{documents} documents, seed {seed}").format(documents=numbers.count(num_samples), seed=seed)


def _error(run: RunRecord | None) -> str:
    if run is None or run.error is None:
        return _("its run record is missing, so the error is not known")
    return plain(run.error)
