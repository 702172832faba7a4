"""The figure that sets versions of an experiment side by side, at equal tokens."""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cvfp.records.results import PointRecord
from cvfp.records.texts import N_
from cvfp.report.changes import LineChange
from cvfp.report.figures.axes import set_linear
from cvfp.report.figures.marks import NARROW, Column, Mark, draw_column, mean_mark, name_rows, places
from cvfp.report.figures.style import (
    Style,
    _,
    documents,
    grid_along,
    handle,
    house_style,
    legend_below,
    new_figure,
    plain_handle,
    seeds_entry,
    short_label,
    style_of,
)
from cvfp.report.lines import Line
from cvfp.report.numbers import average
from cvfp.report.versions import Row, Version, rows_of
from cvfp.scaling.summary import law_of

# --- What a figure of versions shows: the exponents of each line, and its results at equal tokens.


Key = tuple[int, int]
"""(num_samples, draw) of a point."""


@dataclass(frozen=True)
class Iterations:
    """Mean iterations of phase 1; `censored` where a run ended at its cap: it would have taken more."""

    value: float
    censored: bool


@dataclass(frozen=True)
class Entry:
    """A line of one version, by the index of the version; None for what it does not have.

    `alpha` is of all its sizes, its other value of the common ones where those are fewer. The rest is at the
    group's size.
    """

    version: int
    alpha: Mark | None
    rank: Mark | None
    iterations: Iterations | None
    ppl: Mark | None
    accuracy: Mark | None


@dataclass(frozen=True)
class Group:
    """Lines that belong together, one entry per version that has one.

    `num_samples` is the largest size at which all of them were trained on the same tokens and scored on the
    same text; None where there is none.
    """

    name: str
    num_samples: int | None
    entries: tuple[Entry, ...]


def groups_of(rows: Sequence[Row]) -> list[Group]:
    """A group per row that at least two versions have and that has anything to show."""
    groups = [_group(row) for row in rows if sum(line is not None for line in row.lines) > 1]
    return [group for group in groups if any(_known(entry) for entry in group.entries)]


def _group(row: Row) -> Group:
    numbered = [(index, line) for index, line in enumerate(row.lines) if line is not None]
    lines = [line for _index, line in numbered]
    keys = _common(lines)
    size = max((num_samples for num_samples, _draw in keys), default=None)
    top = {key for key in keys if key[0] == size}
    fitted = keys.intersection(*({_key(point) for point in line.fitted} for line in lines))
    return Group(row.name, size, tuple(_entry(index, line, top, fitted) for index, line in numbered))


def _common(lines: Sequence[Line]) -> set[Key]:
    """The points that all lines have on the same tokens, scored on the same text."""
    first, *others = lines
    pairs = ({(a.num_samples, a.draw) for a, _b in LineChange(first, other).pairs} for other in others)
    return set.intersection(*pairs)


def _key(point: PointRecord) -> Key:
    return point.num_samples, point.draw


def _entry(version: int, line: Line, top: set[Key], fitted: set[Key]) -> Entry:
    points = [point for point in line.scored if _key(point) in top]
    return Entry(
        version=version,
        alpha=_alpha(line, fitted),
        rank=mean_mark([_percent(point.val_er) for point in points]),
        iterations=_iterations(line, points),
        ppl=mean_mark([point.val_ppl for point in points], geometric=True),
        accuracy=mean_mark([_percent(point.val_acc) for point in points]),
    )


def _alpha(line: Line, fitted: set[Key]) -> Mark | None:
    """The exponent of all sizes; beside it that of the common ones, where those are others and make a law."""
    if line.summary.alpha is None:
        return None
    common = [point for point in line.fitted if _key(point) in fitted]
    sizes = {point.num_samples for point in common}, {point.train_tokens for point in common}
    has_law = min(map(len, sizes)) > 1 and len(common) < len(line.fitted)
    law = law_of(common) if has_law else None
    other = None if law is None else Mark(law.alpha, law.alpha_ci95)
    return Mark(line.summary.alpha, line.summary.alpha_ci95, other=other)


def _iterations(line: Line, points: Sequence[PointRecord]) -> Iterations | None:
    values = [point.phase1_iter for point in points if point.phase1_iter is not None]
    if not values or len(values) < len(points):
        return None
    runs = [run for point, run in zip(line.points, line.runs, strict=True) if point in points]
    censored = any(run is not None and run.phase1_converged is False for run in runs)
    return Iterations(statistics.fmean(values), censored)


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


def _known(entry: Entry) -> bool:
    return any(value is not None for value in (entry.alpha, entry.rank, entry.iterations, entry.ppl))


# --- The figure: forests of exponents and results, bars of iterations.


ROW, GAP = 0.23, 0.8
"""Inches per row, and rows of space between two lines."""
TITLES = {
    "alpha": "α",
    "rank": N_("effective rank, %"),
    "iterations": N_("phase 1 iterations"),
    "ppl": N_("test PPL"),
    "accuracy": N_("test accuracy, %"),
}
"""By the fields of an entry."""
BAR_ROOM = 1.5
"""Length of the axis of bars over that of the longest: their numbers stand beside them."""


@house_style
def versions_figure(versions: Sequence[Version]) -> Figure | None:
    """A group of rows per line that at least two versions have, a row per version.

    Exponents with their 95% intervals, hollow over the sizes in common where those are fewer; the rest at the
    largest size on whose tokens all versions of the line were trained, scored on the same text.
    """
    groups = groups_of(rows_of(versions))
    if not groups:
        return None
    entries = [entry for group in groups for entry in group.entries]
    heights = places([group.name for group in groups for _entry in group.entries], GAP)
    shown = [name for name in TITLES if any(getattr(entry, name) is not None for entry in entries)]
    figure = new_figure(1.35 + ROW * (heights[-1] + 1))
    panels = list(figure.subplots(1, len(shown), sharey=True, squeeze=False).flat)
    for axes, name in zip(panels, shown, strict=True):
        _draw(axes, name, entries, heights)
    ends = itertools.accumulate(len(group.entries) for group in groups)
    middles = [
        (heights[end - len(group.entries)] + heights[end - 1]) / 2
        for group, end in zip(groups, ends, strict=True)
    ]
    name_rows(panels[0], middles, [_label(group) for group in groups])
    panels[0].set_ylim(heights[-1] + 0.7, heights[0] - 0.7)
    legend_below(figure, _legend(versions, entries))
    return figure


def _draw(axes: Axes, name: str, entries: Sequence[Entry], heights: Sequence[float]) -> None:
    values, styles = [getattr(entry, name) for entry in entries], [style_of(each.version) for each in entries]
    if name == "iterations":
        _draw_bars(axes, values, heights, styles)
    else:
        draw_column(axes, Column(_(TITLES[name]), tuple(values), log=name == "ppl"), heights, styles)
    axes.set_title(_(TITLES[name]))
    axes.tick_params(axis="y", length=0)


def _draw_bars(
    axes: Axes, bars: Sequence[Iterations | None], heights: Sequence[float], styles: Sequence[Style]
) -> None:
    """A bar per row, its number beside it; hatched, and `≥`, where a run ended at its cap."""
    for bar, y, style in zip(bars, heights, styles, strict=True):
        if bar is not None:
            hatch = "////" if bar.censored else None
            axes.barh(y, bar.value, height=0.75, color=style.color, edgecolor="white", hatch=hatch)
            text = f"{'≥ ' if bar.censored else ''}{average(bar.value)}"
            axes.annotate(text, (bar.value, y), (3, 0), textcoords="offset points", va="center", fontsize=7.5)
    longest = max(bar.value for bar in bars if bar is not None)
    set_linear(axes.xaxis, (0.0, BAR_ROOM * longest), most=NARROW)
    grid_along(axes, "x")


def _label(group: Group) -> str:
    """Its name, and below it the size of what is compared."""
    size = _("no size in common") if group.num_samples is None else documents(group.num_samples)
    return f"{short_label(group.name)}\n{size}"


def _legend(versions: Sequence[Version], entries: Sequence[Entry]) -> list[tuple[str, Line2D]]:
    found = [
        (version.name, handle(style_of(index), dashes="none"))
        for index, version in enumerate(versions)
        if any(entry.version == index for entry in entries)
    ]
    if any(entry.alpha is not None and entry.alpha.other is not None for entry in entries):
        found.append((_("α over common sizes only"), plain_handle(marker="o", markerfacecolor="white")))
    if any(len(mark.seeds) > 1 for entry in entries for mark in (entry.ppl, entry.accuracy) if mark):
        found.append(seeds_entry())
    return found
