"""Sentences beside the tables: what failed, what is missing, what no fit uses, and prior data."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.records.results import RunRecord
from cvfp.records.sweep import Sweep
from cvfp.report.lines import Line
from cvfp.report.markdown import plain


def priors(lines: Sequence[Line]) -> list[str]:
    """One sentence per kind of data, other than the training documents, that lines profited from."""
    users: dict[str, list[str]] = {}
    for line in lines:
        for prior in line.prior:
            users.setdefault(prior, []).append(plain(line.label))
    return [
        f"{'all lines' if len(labels) == len(lines) else ', '.join(labels)}: {plain(prior)}"
        for prior, labels in users.items()
    ]


def failures(sweep: Sweep) -> list[str]:
    """One sentence per failed point, with its error."""
    return [
        f"{plain(point.arm)} {plain(point.config_name)}, {point.num_samples:,} documents, seed {point.seed}: "
        f"{_error(sweep.run_of(point))}"
        for point in sweep.points
        if point.status == "failed"
    ]


def missing(sweep: Sweep) -> list[str]:
    """One sentence per line that has planned points without a record."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for point in sweep.missing():
        place = f"{point.config.data.num_samples:,} documents (seed {point.config.seed})"
        lacking.setdefault((point.config.arm, point.config_name), []).append(place)
    return [f"{plain(arm)} {plain(name)}: {', '.join(places)}" for (arm, name), places in lacking.items()]


def exclusions(lines: Sequence[Line]) -> list[str]:
    """One sentence per point that is not in its line's fit, with the reason."""
    return [f"{plain(line.label)}, {plain(why)}" for line in lines for why in line.summary.excluded]


def _error(run: RunRecord | None) -> str:
    if run is None or run.error is None:
        return "its run record is missing, so the error is not known"
    return plain(run.error)
