"""Tables of a row per line and size or a column per size: means over draws of the means of their runs."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from cvfp.records.results import PointRecord, RunRecord
from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table
from cvfp.scaling.cells import Cell, cells, mean_over

Runs = dict[PointRecord, RunRecord | None]


def gap_table(lines: Sequence[Line]) -> str:
    """ln(val PPL / train PPL) in nats by line and size; empty where no line knows its training PPL."""
    shown = [line for line in lines if any(p.train_ppl is not None for p in line.scored)]
    if not shown:
        return ""
    sizes = sorted({point.num_samples for line in shown for point in line.scored})
    rows = [
        [plain(line.label), *(numbers.decimals(_mean_gap(line, size), 2) for size in sizes)] for line in shown
    ]
    return table((_("line"), *map(numbers.count, sizes)), rows)


def dimension_table(lines: Sequence[Line]) -> str:
    """Effective dimensions of the contexts, ER * d_c, at each line's largest size; empty without contexts."""
    header = (
        _("line"),
        _("documents"),
        _("train ER"),
        _("val ER"),
        _("effective dimensions, val"),
        _("dimensions not used"),
    )
    rows = [row for line in lines if (row := _dimension_row(line)) is not None]
    return table(header, rows) if rows else ""


def phase1_table(lines: Sequence[Line]) -> str:
    """Iterations of phase 1 beside the wall time of both phases; empty where no arm has a phase 1."""
    header = (
        _("line"),
        _("documents"),
        _("P1 iterations"),
        _("P1 seconds"),
        _("seconds per iteration"),
        _("P2 steps"),
        _("P2 seconds"),
        _("seconds in all"),
    )
    rows = [
        _phase1_row(line, size, found)
        for line in lines
        for size, found in _by_size(line).items()
        if any(point.phase1_iter is not None for cell in found for point in cell.runs)
    ]
    return table(header, rows) if rows else ""


def time_table(lines: Sequence[Line]) -> str:
    """Wall time of every line: of all its points, and of one at its largest size."""
    header = (_("line"), _("points"), _("seconds in all"), _("at documents"), _("seconds of one point"))
    rows = []
    for line in lines:
        known = [point for point in line.points if point.wall_seconds is not None]
        if known:
            size = max(point.num_samples for point in known)
            largest = [point.wall_seconds for point in known if point.num_samples == size]
            seconds = sum(point.wall_seconds for point in known)
            rows.append(
                [
                    plain(line.label),
                    numbers.count(len(known)),
                    numbers.seconds(seconds),
                    numbers.count(size),
                    numbers.seconds(statistics.fmean(largest)),
                ]
            )
    return table(header, rows) if rows else ""


def _by_size(line: Line) -> dict[int, list[Cell]]:
    """The finished points by number of documents, smallest first."""
    found: dict[int, list[Cell]] = {}
    for cell in sorted(cells(line.points), key=lambda cell: (cell.num_samples, cell.draw)):
        found.setdefault(cell.num_samples, []).append(cell)
    return found


def _mean(group: Sequence[Cell], measure: Callable[[PointRecord], numbers.Number | None]) -> float | None:
    """Over draws, of means over their runs; None when there is none, or one is not known."""
    found = [[measure(point) for point in cell.runs] for cell in group]
    if not found or any(None in values for values in found):
        return None
    return statistics.fmean(map(statistics.fmean, found))


def _mean_gap(line: Line, size: int) -> float | None:
    known = [p for p in line.scored if p.num_samples == size and p.train_ppl is not None]
    return _mean(cells(known), lambda point: math.log(point.val_ppl / point.train_ppl))


def _dimension_row(line: Line) -> list[str] | None:
    by_size = _by_size(line)
    if not by_size or not line.summary.context_dim:
        return None
    size, found = max(by_size.items())
    train, val = (mean_over(found, name) for name in ("train_er", "val_er"))
    if val is None:
        return None
    width = line.summary.context_dim
    return [
        plain(line.label),
        numbers.count(size),
        numbers.share(train),
        numbers.share(val),
        f"{val * width:.0f}/{width}",
        f"{(1 - val) * width:.0f}",
    ]


def _phase1_row(line: Line, size: int, found: Sequence[Cell]) -> list[str]:
    runs = dict(zip(line.points, line.runs, strict=True))
    first, second = (_mean_seconds(found, runs, phase) for phase in ("phase1", "phase2"))
    iterations = mean_over(found, "phase1_iter")
    ended = [runs[point] for cell in found for point in cell.runs]
    censored = any(run is not None and run.phase1_converged is False for run in ended)
    shown = numbers.average(iterations)
    # Iteration 1 is the random start: it costs no sweep.
    each = None if first is None or iterations < 2 else first / (iterations - 1)
    return [
        plain(line.label),
        numbers.count(size),
        f"≥ {shown}" if censored else shown,
        numbers.seconds(first),
        numbers.decimals(each, 3),
        numbers.count(mean_over(found, "steps")),
        numbers.seconds(second),
        numbers.seconds(mean_over(found, "wall_seconds")),
    ]


def _mean_seconds(found: Sequence[Cell], runs: Runs, phase: str) -> float | None:
    def seconds(point: PointRecord) -> float | None:
        facts = None if runs[point] is None else getattr(runs[point].facts, phase)
        return None if facts is None else facts.seconds

    return _mean(found, seconds)
