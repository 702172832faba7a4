"""How lines are told apart, in colour and without: colours, markers, dashes, and the names in legends."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from cvfp.report.figures.canvas import INK
from cvfp.report.lines import Line
from cvfp.report.numbers import count, short_count

PALETTE = ("#0072B2", "#D55E00", "#009E73", "#000000", "#CC79A7", "#E69F00", "#56B4E9")
"""Okabe and Ito's colours without yellow, which does not show on white."""
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">", "*", "p")
DASHES: tuple[Any, ...] = ("-", (0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)), (0, (9, 2, 1.5, 2, 1.5, 2)))
"""Line styles of fits; dotted is for predictions."""
MOST_TOGETHER = 7
"""Lines that can be told apart in one panel: the number of colours. More get a panel per arm."""
LONGEST_LABEL = 42
ROW_CHARACTERS = 140
"""Of a legend as wide as a figure."""

WIDTH_IN_NAME = re.compile(r"(?<=L_)\d+(?=d_)")


@dataclass(frozen=True)
class Style:
    """How one line is drawn.

    `rank` orders the markers of equal points: the first line's lies on top and is the smallest.
    """

    color: str
    marker: str
    dashes: Any
    rank: int
    fill: str = "full"
    """Of the marker: half of it tells two arms apart that share a style in one panel."""

    @property
    def size(self) -> float:
        """Of a marker, in points."""
        return 6.5 + 1.3 * min(self.rank, 3)

    @property
    def zorder(self) -> float:
        return 4 - self.rank / 100


Styles = dict[str, Style]
"""By the label of the line."""


def style_of(index: int) -> Style:
    """The style of the index-th line; combinations repeat only after 385 lines."""
    return Style(
        PALETTE[index % len(PALETTE)], MARKERS[index % len(MARKERS)], DASHES[index % len(DASHES)], index
    )


def crowded(lines: Sequence[Line]) -> bool:
    """Whether the lines need a panel per arm."""
    return len(lines) > MOST_TOGETHER and len({line.arm for line in lines}) > 1


def styles_of(lines: Sequence[Line]) -> Styles:
    """The style of every line of a sweep by its label, the same in all figures of the sweep.

    Lines that share a panel have a style of their own. Where every arm has a panel, the same config has the
    same style in all of them; so has a line without contexts whose name differs from one other in the width
    alone.
    """
    groups = _config_groups(lines) if crowded(lines) else [line.label for line in lines]
    places = {group: index for index, group in enumerate(dict.fromkeys(groups))}
    return {line.label: style_of(places[group]) for line, group in zip(lines, groups, strict=True)}


def named_groups(shown: Sequence[Line], lines: Sequence[Line]) -> list[tuple[str, list[Line]]]:
    """The lines of one style together, in order of first appearance, under the name that a legend gives them.

    Args:
        shown: the lines of the figure.
        lines: those of the sweep.
    """
    styles = styles_of(lines)
    groups: dict[Style, list[Line]] = {}
    for line in shown:
        groups.setdefault(styles[line.label], []).append(line)
    together = crowded(lines)
    return [
        (_joined([one.config_name for one in members]) if together else members[0].label, members)
        for members in groups.values()
    ]


def arm_groups(lines: Sequence[Line], sweep_lines: Sequence[Line]) -> dict[str, list[Line]]:
    """The lines by panel, titled: one untitled panel, or one per arm where those of the sweep are many."""
    if not crowded(sweep_lines):
        return {"": list(lines)}
    return by_arm(lines)


def by_arm(lines: Sequence[Line]) -> dict[str, list[Line]]:
    """The lines of every arm, in order of first appearance."""
    arms = dict.fromkeys(line.arm for line in lines)
    return {arm: [line for line in lines if line.arm == arm] for arm in arms}


def short_label(label: str) -> str:
    """A label that fits beside the axes: the middle of a long one is left out."""
    label = " ".join(label.split())
    if len(label) <= LONGEST_LABEL:
        return label
    half = LONGEST_LABEL // 2
    return f"{label[:half]}…{label[-half:]}"


def documents(number: int) -> str:
    """A size in few characters."""
    return f"{count(number) if number < 100_000 else short_count(number)} documents"


def handle(style: Style, dashes: Any = None, face: str | None = None) -> Line2D:
    """What stands for a line in a legend; `dashes` and `face` where they are not the style's own."""
    shown = style.dashes if dashes is None else dashes
    return Line2D(
        [],
        [],
        color=style.color,
        marker=style.marker,
        linestyle=shown,
        markerfacecolor=style.color if face is None else face,
    )


def plain_handle(**settings: Any) -> Line2D:
    """What stands in a legend for something that all lines have."""
    return Line2D([], [], **({"color": INK, "linestyle": "none"} | settings))


def seeds_entry() -> tuple[str, Line2D]:
    """What the light markers are."""
    return "single seeds", plain_handle(marker="o", markersize=4, alpha=0.35)


def legend_below(figure: Figure | SubFigure, entries: Sequence[tuple[str, Line2D]]) -> Legend:
    """A legend under the panels, in as many columns as fit."""
    names = [short_label(name) for name, _handle in entries]
    fitting = max(1, ROW_CHARACTERS // (max(map(len, names)) + 10))
    columns = math.ceil(len(names) / math.ceil(len(names) / fitting))
    handles = [each for _name, each in entries]
    return figure.legend(handles, names, loc="outside lower center", ncols=columns)


def line_entries(
    shown: Sequence[Line], lines: Sequence[Line], dashes: Any = None
) -> list[tuple[str, Line2D]]:
    """The legend's entries of the shown lines of a sweep; `dashes` where they are not the style's own."""
    styles = styles_of(lines)
    return [(name, handle(styles[members[0].label], dashes)) for name, members in named_groups(shown, lines)]


def grid_along(axes: Axes, which: str) -> None:
    """Grid lines for one axis only."""
    axes.grid(visible=False)
    axes.grid(visible=True, axis=which)


def _config_groups(lines: Sequence[Line]) -> list[str]:
    """What lines share a style by: the config name, but for the width of those without contexts."""
    with_contexts = list(dict.fromkeys(line.config_name for line in lines if line.summary.context_dim))
    return [_config_group(line, with_contexts) for line in lines]


def _config_group(line: Line, with_contexts: Sequence[str]) -> str:
    if line.summary.context_dim != 0:
        return line.config_name
    bare = WIDTH_IN_NAME.sub("", line.config_name)
    twins = [name for name in with_contexts if WIDTH_IN_NAME.sub("", name) == bare]
    return twins[0] if len(twins) == 1 else line.config_name


def _joined(names: Sequence[str]) -> str:
    """`1L_768d_1tok / 0d` for names that differ in the width alone."""
    first, *others = dict.fromkeys(names)
    widths = [WIDTH_IN_NAME.search(name) for name in others]
    return " / ".join([first, *(f"{width.group()}d" for width in widths if width)])
