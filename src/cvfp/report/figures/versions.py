"""The figure that sets versions of an experiment side by side, at equal tokens."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from cvfp.report.figures.axes import set_linear
from cvfp.report.figures.canvas import house_style, new_figure, save
from cvfp.report.figures.entries import Entry, Group, Iterations, groups_of
from cvfp.report.figures.forest import NARROW, Column, draw_column, name_rows, places
from cvfp.report.figures.style import (
    Style,
    documents,
    grid_along,
    handle,
    legend_below,
    plain_handle,
    seeds_entry,
    short_label,
    style_of,
)
from cvfp.report.numbers import average
from cvfp.report.versions import Version, rows_of

ROW, GAP = 0.23, 0.8
"""Inches per row, and rows of space between two lines."""
TITLES = {
    "alpha": "α",
    "rank": "effective rank, %",
    "iterations": "phase 1 iterations",
    "ppl": "val PPL",
    "accuracy": "val accuracy, %",
}
"""By the fields of an entry."""
BAR_ROOM = 1.5
"""Length of the axis of bars over that of the longest: their numbers stand beside them."""


def write_versions(path: Path, versions: Sequence[Version]) -> bool:
    """Draw the versions side by side to a PNG. False, and no file, when no two of them share a line."""
    return save(versions_figure(versions), path)


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
        draw_column(axes, Column(TITLES[name], tuple(values), log=name == "ppl"), heights, styles)
    axes.set_title(TITLES[name])
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
    size = "no size in common" if group.num_samples is None else documents(group.num_samples)
    return f"{short_label(group.name)}\n{size}"


def _legend(versions: Sequence[Version], entries: Sequence[Entry]) -> list[tuple[str, Line2D]]:
    found = [
        (version.name, handle(style_of(index), dashes="none"))
        for index, version in enumerate(versions)
        if any(entry.version == index for entry in entries)
    ]
    if any(entry.alpha is not None and entry.alpha.other is not None for entry in entries):
        found.append(("α over common sizes only", plain_handle(marker="o", markerfacecolor="white")))
    if any(len(mark.seeds) > 1 for entry in entries for mark in (entry.ppl, entry.accuracy) if mark):
        found.append(seeds_entry())
    return found
