"""What runs say beyond their row: health of the contexts, prior data; what failed and what is missing."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvfp.records.results import RunRecord
from cvfp.records.sweep import Sweep
from cvfp.report import numbers
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table


def health_table(lines: Sequence[Line]) -> str:
    """One row per run with a context block; empty where no run record says anything of health."""
    header = (
        "line",
        "documents",
        "seed",
        "memory length",
        "Lipschitz estimate",
        "identity cosine",
        "roll-out trials",
        "failures",
    )
    rows = [_row(line, run) for line in lines for run in line.runs if run is not None and _health(run)]
    return table(header, rows) if rows else ""


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


def _health(run: RunRecord) -> dict[str, Any]:
    found = run.facts.get("health")
    return found if isinstance(found, dict) else {}


def _row(line: Line, run: RunRecord) -> list[str]:
    health = _health(run)
    return [
        plain(line.label),
        numbers.count(run.point.num_samples),
        str(run.point.seed),
        _memory(health),
        numbers.decimals(health.get("lipschitz"), 2),
        numbers.decimals(health.get("identity_cosine")),
        plain(health.get("trial_trend", numbers.ABSENT)),
        "; ".join(plain(failure) for failure in health.get("failures", ())) or "none",
    ]


def _memory(health: dict[str, Any]) -> str:
    if "memory_length" not in health:
        return numbers.ABSENT
    length = health["memory_length"]
    return "not reached" if length is None else numbers.count(length)


def _error(run: RunRecord | None) -> str:
    if run is None or run.error is None:
        return "its run record is missing, so the error is not known"
    return plain(run.error)
