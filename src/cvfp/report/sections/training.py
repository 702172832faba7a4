"""How the models learned: curves, the gap between training and test text, time and compute."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cvfp.records.results import PointRecord
from cvfp.report import numbers
from cvfp.report.blocks import Picture, Section, present
from cvfp.report.figures.training import compute_figure, learning_figure
from cvfp.report.language import _, sentences
from cvfp.report.lines import Line
from cvfp.report.markdown import Column, plain, table
from cvfp.report.view import View
from cvfp.scaling.points import Cell, cells


def section(view: View) -> Section | None:
    """None where nothing was trained."""
    pictures = []
    figure = learning_figure(view.sweep, view.lines)
    if figure is not None:
        text = _("Dev PPL of every model against the training tokens that its steps have read")
        pictures.append(Picture("learning_curves.png", text, figure))
    figure = compute_figure(view.lines)
    if figure is not None:
        pictures.append(Picture("compute.png", _("Test PPL against the FLOPs of training"), figure))
    gaps, times = gap_table(view.lines), time_table(view.lines)
    if not (pictures or gaps or times):
        return None
    return Section(
        _("Training"),
        present(
            [
                tuple(pictures),
                _("A curve is of the first seed; its mark is the lowest dev PPL, whose weights are kept.")
                if pictures
                else "",
                gaps,
                sentences(
                    _(
                        "ln(test PPL / train PPL) in nats per token: how much better the training text is "
                        "known."
                    ),
                    _(
                        "The train PPL is a running mean over the best epoch, while the weights change; that "
                        "of an n-gram is of the text that it has counted, so its gap says nothing."
                    ),
                )
                if gaps
                else "",
                times,
            ]
        ),
    )


# --- The gap between training and test text.


def gap_table(lines: Sequence[Line]) -> str:
    """ln(test PPL / train PPL) in nats by model and size; empty where no model knows its training PPL."""
    shown = [line for line in lines if any(p.train_ppl is not None for p in line.scored)]
    sizes = sorted({point.num_samples for line in shown for point in line.scored})
    columns = [
        Column[Line](_("gap by model / documents"), lambda line: plain(line.label), words=True),
        *(
            Column[Line](
                numbers.count(size),
                lambda line, size=size: numbers.decimals(_mean_gap(line, size), 2),
            )
            for size in sizes
        ),
    ]
    return table(columns, shown)


def _mean_gap(line: Line, size: int) -> float | None:
    known = [p for p in line.scored if p.num_samples == size and p.train_ppl is not None]
    return mean_of_cells(cells(known), _gap)


def _gap(point: PointRecord) -> float | None:
    return None if point.train_ppl is None else math.log(point.ppl / point.train_ppl)


def mean_of_cells(
    group: Sequence[Cell], measure: Callable[[PointRecord], numbers.Number | None]
) -> float | None:
    """Over seeds, of means over their runs; None when there is none, or one is not known."""
    found = [[measure(point) for point in cell.runs] for cell in group]
    known = [[value for value in values if value is not None] for values in found]
    if not known or known != found:
        return None
    return statistics.fmean(map(statistics.fmean, known))


# --- Time.


@dataclass(frozen=True)
class _Times:
    """Wall time of a model: of all its runs, and of one at its largest size."""

    line: Line
    runs: int
    seconds: float
    largest: int
    each: float


def time_table(lines: Sequence[Line]) -> str:
    """Wall time of every model: of all its runs, and of one at its largest size."""
    columns = [
        Column[_Times](_("model"), lambda row: plain(row.line.label), words=True),
        Column[_Times](_("runs"), lambda row: numbers.count(row.runs)),
        Column[_Times](_("seconds in all"), lambda row: numbers.seconds(row.seconds)),
        Column[_Times](_("at documents"), lambda row: numbers.count(row.largest)),
        Column[_Times](_("seconds of one run"), lambda row: numbers.seconds(row.each)),
    ]
    return table(columns, [row for line in lines if (row := _times(line)) is not None])


def _times(line: Line) -> _Times | None:
    known = [(p.num_samples, p.wall_seconds) for p in line.points if p.wall_seconds is not None]
    if not known:
        return None
    size = max(number for number, _seconds in known)
    largest = [seconds for number, seconds in known if number == size]
    total = sum(seconds for _number, seconds in known)
    return _Times(line, len(known), total, size, statistics.fmean(largest))
