"""The two figures that a report opens with: test PPL against data, and against the reference model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvfp.records.results import PointRecord
from cvfp.report.changes import LineChange
from cvfp.report.figures.axes import Limits, padded, set_linear, set_log, set_ticks, widened, with_intervals
from cvfp.report.figures.marks import End, by_size, draw_mean, draw_seeds, mean_of, mean_ppl, name_ends
from cvfp.report.figures.style import (
    HALF,
    Style,
    Styles,
    _,
    drawable,
    house_style,
    new_figure,
    styles_together,
)
from cvfp.report.lines import Line
from cvfp.report.numbers import count, signed_percent
from cvfp.scaling.points import Change

HEIGHT = 4.3
"""Inches."""
MOST_NAMES = 14
"""Lines that can be named beside one panel: of more, the best of each arm at the largest size, the others
are drawn without a name."""
FAR = 100.0
"""Percent. Lines that go beyond it leave the panel, so that the others can be told apart in it."""
APART = 0.035
"""Between the bars of two lines at one size, as a share of the distance of two sizes."""


@house_style
def ppl_figure(lines: Sequence[Line]) -> Figure | None:
    """Test PPL against training tokens in log-log axes, named where the lines end.

    Means over seeds, joined, with the seeds light beside them; the fitted law is not drawn. None where no
    line has two sizes: one size is a table.
    """
    known = [(line, line.scored) for line in lines if line.scored]
    if max((len(by_size(points)) for _line, points in known), default=0) < 2:
        return None
    several = any(len(at) > 1 for _line, points in known for at in by_size(points).values())
    xlabel = _("training tokens (pale: single seeds)") if several else _("training tokens")
    title = _("Test PPL (lower is better)")
    return means_figure(known, styles_together(lines, lines), "tokens", xlabel, title)


def means_figure(
    known: Sequence[tuple[Line, Sequence[PointRecord]]], styles: Styles, field: str, xlabel: str, title: str
) -> Figure:
    """Test PPL of some points of each line against a field of theirs: means over seeds, joined and named."""
    figure = new_figure(HEIGHT, HALF)
    axes, ends = figure.subplots(), []
    named = named_lines([line for line, _points in known])
    for line, points in known:
        style = styles[line.label]
        draw_seeds(axes, [(getattr(point, field), point.ppl) for point in points], style)
        means = [(mean_of(at, field), mean_ppl(at)) for at in by_size(points).values()]
        draw_mean(axes, means, style, joined=True)
        if line in named:
            ends.append(End(*means[-1], line.label, style.color))
    every = [point for _line, points in known for point in points]
    set_log(axes.xaxis, padded([getattr(point, field) for point in every], 0.05), most=6)
    set_log(axes.yaxis, padded([point.ppl for point in every], 0.05))
    axes.set(xlabel=xlabel)
    axes.set_title(title, loc="left", fontweight="bold")
    name_ends(axes, ends)
    return figure


@dataclass(frozen=True)
class _Course:
    """A line against the reference, size by size."""

    line: Line
    style: Style
    changes: dict[int, Change]


@house_style
def ratio_figure(reference: Line, changes: Sequence[LineChange], lines: Sequence[Line]) -> Figure | None:
    """PPL(model) / PPL(reference) - 1 in percent by size, paired, with 95% bars; below 0 is better.

    Where some lines stay within `FAR`, the others leave the panel and are named with their value at its edge.
    None where there is no other line, or one size alone.
    """
    sizes = sorted({a.num_samples for change in changes for a, _b in change.pairs})
    if len(sizes) < 2:
        return None
    figure = new_figure(HEIGHT, HALF)
    axes, styles = figure.subplots(), styles_together(lines, lines)
    courses = [_course(change, sizes, styles) for change in changes]
    named = named_lines([course.line for course in courses])
    places = {size: place for place, size in enumerate(sizes)}
    axes.axhline(0, color=styles[reference.label].color, linewidth=1.6, zorder=1.5)
    near = [one for one in courses if max(abs(each.value) for each in one.changes.values()) <= FAR] or courses
    found = [change for course in near for change in course.changes.values()]
    values = [0.0, *(change.value for change in found)]
    limits = widened(with_intervals(values, [change.interval for change in found]), 0.06)
    ends = [End(len(sizes) - 1, 0, reference.label, styles[reference.label].color)]
    step = min(APART, 0.5 / max(len(courses), 1))
    for number, course in enumerate(courses):
        shift = step * (number - (len(courses) - 1) / 2)
        _draw(axes, course, {size: place + shift for size, place in places.items()})
        if course.line in named:
            last = max(course.changes)
            ends.append(_end(course, places[last], course.changes[last].value, limits))
    set_linear(axes.yaxis, limits)
    axes.set_xlim(-0.3, len(sizes) - 0.7)
    set_ticks(axes.xaxis, list(places.values()), [count(size) for size in sizes])
    lone = any(change.interval is not None and change.one_draw for change in found)
    axes.set(xlabel=_("training documents (dotted bars: one seed)") if lone else _("training documents"))
    title = _("PPL against {model}, % (bars: 95% intervals)").format(model=drawable(reference.label))
    axes.set_title(title, loc="left", fontweight="bold")
    name_ends(axes, ends)
    return figure


def _end(course: _Course, x: int, value: float, limits: Limits) -> End:
    """Where the name of a line stands: at the edge, with its value, where the line has left the panel."""
    low, high = limits
    if low <= value <= high:
        return End(x, value, course.line.label, course.style.color)
    name = f"{course.line.label} {signed_percent(value)}"
    return End(x, min(max(value, low), high), name, course.style.color)


def _course(change: LineChange, sizes: Sequence[int], styles: Styles) -> _Course:
    found = {size: change.ppl_at(size) for size in sizes}
    return _Course(
        change.other,
        styles[change.other.label],
        {size: one for size, one in found.items() if one is not None},
    )


def _draw(axes: Axes, course: _Course, places: dict[int, float]) -> None:
    """Means joined, with their bars; those of one seed, which say nothing of another, are dotted."""
    for size, change in course.changes.items():
        if change.interval is not None:
            axes.plot(
                [places[size]] * 2,
                change.interval,
                color=course.style.color,
                linestyle=":" if change.one_draw else "-",
                linewidth=1.2,
                alpha=0.8,
                zorder=course.style.zorder - 1,
            )
    draw_mean(axes, [(places[size], one.value) for size, one in course.changes.items()], course.style, True)


def named_lines(lines: Sequence[Line]) -> list[Line]:
    """The lines that have a name in the figure."""
    if len(lines) <= MOST_NAMES:
        return list(lines)
    best: dict[str, Line] = {}
    for line in sorted(lines, key=lambda line: min(point.ppl for point in line.scored)):
        best.setdefault(line.arm, line)
    return list(best.values())[:MOST_NAMES]
