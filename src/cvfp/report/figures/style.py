"""The look that all figures share: fonts, canvas and file, and how lines are told apart.

Lines differ in colour and without it: colours, markers, dashes, and the names in legends.
"""

from __future__ import annotations

import functools
import itertools
import logging
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import matplotlib.style
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager, get_font
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.legend import Legend
from matplotlib.lines import Line2D

from cvfp.records.files import atomic_path
from cvfp.records.results import PointRecord
from cvfp.report.language import _ as translated
from cvfp.report.lines import Line
from cvfp.report.numbers import count, short_count
from cvfp.report.standings import JOINT, MIXTURE, TWO_PHASE

# --- Fonts of the figures: names of lines may hold signs, Japanese ones say, that the common font has not.


COMMON = "DejaVu Sans"
"""Comes with matplotlib."""
FURTHER = (
    "Noto Sans CJK JP",
    "Noto Sans JP",
    "Source Han Sans JP",
    "IPAexGothic",
    "IPAGothic",
    "Hiragino Sans",
    "Hiragino Kaku Gothic ProN",
    "Yu Gothic",
    "Meiryo",
    "MS Gothic",
    "TakaoGothic",
    "VL Gothic",
    "Noto Sans CJK SC",
    "Noto Sans CJK KR",
    "Arial Unicode MS",
)
"""Where the common one has no glyph the first of these that is installed is used."""
SHOWN_CODES, SHOWN_SIGNS = 3, 8


def _(text: str) -> str:
    """`text` in the language of the page, as far as the fonts have its characters, else in English."""
    said = translated(text)
    return said if all(map(_has_glyph, said)) else text


@functools.cache
def families() -> tuple[str, ...]:
    """The font families of all texts: a glyph is taken from the first that has it."""
    found = _first_installed()
    if found is None:
        _look_again()
        found = _first_installed()
    return (COMMON,) if found is None else (COMMON, found)


def drawable(text: str) -> str:
    """The text with the code points of characters that no font has: `日本.txt` as `[65E5 672C].txt`."""
    parts = itertools.groupby(text, key=_has_glyph)
    return "".join("".join(signs) if has else _codes(list(signs)) for has, signs in parts)


def columns(text: str) -> int:
    """The width of a text; signs of East Asian scripts are two columns wide."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def font_note(names: Iterable[str]) -> str | None:
    """A line that says which characters of these names figures cannot show, and what helps; None: all can."""
    missing = dict.fromkeys(sign for name in names for sign in name if not _has_glyph(sign))
    if not missing:
        return None
    signs = "".join(itertools.islice(missing, SHOWN_SIGNS)) + ("…" if len(missing) > SHOWN_SIGNS else "")
    return (
        f"no installed font has {signs}: figures show code points instead; install {FURTHER[0]} (Debian, "
        f"Ubuntu: apt install fonts-noto-cjk) and write the report again"
    )


def _has_glyph(sign: str) -> bool:
    return sign.isspace() or any(ord(sign) in _glyphs(family) for family in families())


@functools.cache
def _glyphs(family: str) -> frozenset[int]:
    """Code points of a font."""
    path = fontManager.findfont(FontProperties(family=[family]), fallback_to_default=False)
    return frozenset(get_font(path).get_charmap())


def _codes(signs: list[str]) -> str:
    more = f" +{len(signs) - SHOWN_CODES}" if len(signs) > SHOWN_CODES else ""
    return f"[{' '.join(f'{ord(sign):04X}' for sign in signs[:SHOWN_CODES])}{more}]"


def _first_installed() -> str | None:
    installed = {font.name for font in fontManager.ttflist}
    return next((family for family in FURTHER if family in installed), None)


def _look_again() -> None:
    """matplotlib remembers which fonts there were: add those installed since."""
    known = {font.fname for font in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - known):
        try:
            fontManager.addfont(path)
        except (OSError, RuntimeError):  # not a font that it reads
            continue


# --- Making a figure and its file: the look that all figures share, and writing them whole or not at all.


DPI = 150
WIDTH = 10.0
HALF = 5.4
"""Inches: of a figure, and of one of two that stand side by side, with one size of type."""
INK, GRID = "#222222", "#dddddd"

HOUSE: dict[str, Any] = {
    "font.size": 9,
    "axes.titlesize": 9,
    "axes.labelsize": 9,
    "legend.fontsize": 8.5,
    "xtick.labelsize": 8,
    "ytick.labelsize": 8,
    "text.color": INK,
    "axes.labelcolor": INK,
    "axes.edgecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.5,
    "legend.frameon": False,
    "legend.handlelength": 3.2,
    "hatch.linewidth": 1.0,
    # Names come out of records: a dollar sign in them is no formula.
    "text.parse_math": False,
}


@contextmanager
def _house_style() -> Iterator[None]:
    # It warns that a further font has no bold face.
    fonts = logging.getLogger("matplotlib.font_manager")
    before = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        with matplotlib.style.context(["default", HOUSE | {"font.family": list(families())}]):
            yield
    finally:
        fonts.setLevel(before)


house_style = _house_style()
"""Around whatever draws: what the user's own matplotlibrc says does not change a figure."""


def new_figure(height: float, width: float = WIDTH) -> Figure:
    """An empty figure of this height and width in inches, that lays itself out."""
    layout = ConstrainedLayoutEngine(w_pad=0.07, h_pad=0.06)
    figure = Figure(figsize=(width, height), layout=layout, facecolor="white")
    FigureCanvasAgg(figure)
    return figure


@house_style
def save(figure: Figure | None, path: Path) -> bool:
    """Write the figure as a PNG, the same bytes for the same figure. False, and no file, without a figure.

    Raises:
        CvfpError: the file cannot be written.
    """
    if figure is None:
        return False
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    return True


# --- How lines are told apart.


Look = tuple[str, Any, Any]
"""Colour, marker, and dashes of fits; dotted is for predictions."""
DASHES: tuple[Any, ...] = ((0, (6, 2)), (0, (6, 2, 1.5, 2)), (0, (3, 1.5)), (0, (9, 2, 1.5, 2, 1.5, 2)), "-")
STAR, CROSSED_STAR = (6, 1, 0), (4, 1, 0)
"""Markers of six and of four points."""
STAR_WIDTH = 1.4
LOOKS: dict[str, Look] = {
    TWO_PHASE: ("#0072B2", "o", "-"),
    JOINT: ("#2337C6", STAR, "-"),
    "kneser-ney": ("#000000", "D", DASHES[3]),
    "unigram": ("#767676", "X", DASHES[0]),
    "no-context": ("#E69F00", "s", DASHES[2]),
    "random-context": ("#CC79A7", "v", DASHES[1]),
    "lstm": ("#D55E00", "^", DASHES[4]),
    "transformer": ("#009E73", "P", DASHES[0]),
    MIXTURE: ("#6B4226", CROSSED_STAR, DASHES[1]),
}
"""How the first line of an arm looks in every report. The markers, and colours that are not in the palette,
are for no other lines."""
PALETTE = ("#D55E00", "#009E73", "#56B4E9", "#CC79A7", "#E69F00", "#767676", "#000000", "#0072B2")
"""Of further lines, in this order: Okabe and Ito's colours without yellow, which does not show on white, and
a grey."""
SPARE_MARKERS = (">", "<", "*", "p", "d", "h", "8", "H")
"""Those of further lines."""
MOST_TOGETHER = 7
"""Lines that can be told apart in one panel; where each is the only one of its arm, as many as there are
looks. More get a panel per arm."""
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
    marker: Any
    dashes: Any
    rank: int
    fill: str = "full"
    """Of the marker: half of it tells two arms apart that share a style in one panel."""

    @property
    def size(self) -> float:
        """The size of a marker, in points; a star covers less than a disk as wide."""
        return (3.6 + 0.8 * min(self.rank, 3)) * (STAR_WIDTH if isinstance(self.marker, tuple) else 1)

    @property
    def zorder(self) -> float:
        return 4 - self.rank / 100


Styles = dict[str, Style]
"""By the label of the line."""


def style_of(index: int) -> Style:
    """The style of the index-th of things that belong to no arm; markers and dashes repeat after 41."""
    looks = itertools.chain([LOOKS[TWO_PHASE]], _spare_looks([TWO_PHASE]))
    return Style(*next(itertools.islice(looks, index, None)), index)


def crowded(lines: Sequence[Line]) -> bool:
    """Whether the lines need a panel per arm."""
    arms = len({line.arm for line in lines})
    return len(lines) > (len(LOOKS) if arms == len(lines) else MOST_TOGETHER) and arms > 1


def styles_of(lines: Sequence[Line]) -> Styles:
    """The style of every line of a sweep by its label, the same in all figures of the sweep.

    Lines that share a panel have a style of their own. Where every arm has a panel, the same config has the
    same style in all of them; so has a line without contexts whose name differs from one other in the width
    alone. The only line of an arm has that of its arm in the sweeps of all experiments, and so have the first
    ones of the two trainings of the model.
    """
    groups = _style_groups(lines)
    own, spare = dict(LOOKS), _spare_looks([TWO_PHASE, *(line.arm for line in lines)])
    looks: dict[str, Look] = {}
    for arm in (JOINT, TWO_PHASE):
        first = next((line for line in lines if line.arm == arm), None)
        if first is not None and groups[first.label] not in looks:
            looks[groups[first.label]] = own.pop(arm)
    for line in sorted(lines, key=lambda line: line.arm != TWO_PHASE):
        if groups[line.label] not in looks:
            looks[groups[line.label]] = own.pop(line.arm, None) or next(spare)
    ranks = {group: rank for rank, group in enumerate(dict.fromkeys(groups.values()))}
    return {label: Style(*looks[group], ranks[group]) for label, group in groups.items()}


FILLS = ("full", "left", "top")


def fills_of(shown: Sequence[Line], lines: Sequence[Line]) -> dict[str, str]:
    """How the markers of each arm are filled in one panel: lines of two arms may share a look."""
    arms = by_arm(shown)
    return {arm: FILLS[index % len(FILLS)] if crowded(lines) else "full" for index, arm in enumerate(arms)}


def styles_together(shown: Sequence[Line], lines: Sequence[Line]) -> Styles:
    """The styles of the shown lines of a sweep in one panel: `styles_of`, with the fill of their arm."""
    styles, fills = styles_of(lines), fills_of(shown, lines)
    return {line.label: replace(styles[line.label], fill=fills[line.arm]) for line in shown}


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
    named = {line.label for line in lines} if not crowded(lines) else _lone_lines(lines)
    return [
        (members[0].label if members[0].label in named else _joined(members), members)
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
    """A label that fits beside the axes: the middle of a long one is left out. All of it has glyphs."""
    label = drawable(" ".join(label.split()))
    if columns(label) <= LONGEST_LABEL:
        return label
    half = LONGEST_LABEL // 2 * len(label) // columns(label)
    return f"{label[:half]}…{label[-half:]}"


def documents(number: int) -> str:
    """A size in few characters."""
    shown = count(number) if number < 100_000 else short_count(number)
    return _("{count} documents").format(count=shown)


def runs(points: Collection[PointRecord]) -> str:
    """Sizes and seeds of runs in few characters."""
    sizes, seeds = ({getattr(point, name) for point in points} for name in ("num_samples", "seed"))
    size = documents(max(sizes))
    if len(sizes) > 1:
        size = _("{smallest} to {size}").format(smallest=count(min(sizes)), size=size)
    text = _("{size}, seed {seeds}") if len(seeds) == 1 else _("{size}, seeds {seeds}")
    return text.format(size=size, seeds=", ".join(map(str, sorted(seeds))))


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
    look: dict[str, Any] = {"color": INK, "linestyle": "none"} | settings
    return Line2D([], [], **look)


def seeds_entry() -> tuple[str, Line2D]:
    """What the light markers are."""
    return _("single seeds"), plain_handle(marker="o", markersize=4, alpha=0.35)


def legend_below(figure: Figure | SubFigure, entries: Sequence[tuple[str, Line2D]]) -> Legend:
    """A legend under the panels, in as many columns as fit."""
    names = [short_label(name) for name, _handle in entries]
    fitting = max(1, ROW_CHARACTERS // (max(map(columns, names)) + 10))
    ncols = math.ceil(len(names) / math.ceil(len(names) / fitting))
    handles = [each for _name, each in entries]
    return figure.legend(handles, names, loc="outside lower center", ncols=ncols)


def line_entries(
    shown: Sequence[Line], lines: Sequence[Line], dashes: Any = None
) -> list[tuple[str, Line2D]]:
    """The legend's entries of the shown lines of a sweep; `dashes` where they are not the style's own."""
    styles = styles_of(lines)
    return [(name, handle(styles[members[0].label], dashes)) for name, members in named_groups(shown, lines)]


def grid_along(axes: Axes, which: Literal["x", "y"]) -> None:
    """Grid lines for one axis only."""
    axes.grid(visible=False)
    axes.grid(visible=True, axis=which)


def _spare_looks(arms: Collection[str]) -> Iterator[Look]:
    """Looks without end, in colours that none of the arms has."""
    taken = {LOOKS[arm][0] for arm in arms if arm in LOOKS}
    colors = [color for color in PALETTE if color not in taken]
    return zip(*map(itertools.cycle, (colors, SPARE_MARKERS, DASHES)), strict=False)


def _lone_lines(lines: Sequence[Line]) -> set[str]:
    """The labels of lines that are the only one of their arm."""
    arms = Counter(line.arm for line in lines)
    return {line.label for line in lines if arms[line.arm] == 1}


def _style_groups(lines: Sequence[Line]) -> dict[str, str]:
    """What lines share a style by, by their labels: nothing, or the config where arms have panels.

    That is its name, but for the width of lines without contexts.
    """
    alone = _lone_lines(lines) if crowded(lines) else {line.label for line in lines}
    with_contexts = list(dict.fromkeys(line.config_name for line in lines if line.summary.context_dim))
    return {
        line.label: line.label if line.label in alone else _config_group(line, with_contexts)
        for line in lines
    }


def _config_group(line: Line, with_contexts: Sequence[str]) -> str:
    if line.summary.context_dim != 0:
        return line.config_name
    bare = WIDTH_IN_NAME.sub("", line.config_name)
    twins = [name for name in with_contexts if WIDTH_IN_NAME.sub("", name) == bare]
    return twins[0] if len(twins) == 1 else line.config_name


def _joined(members: Sequence[Line]) -> str:
    """`1L_768d_1tok / 0d` for configs that differ in the width alone."""
    first, *others = dict.fromkeys(line.config_name for line in members)
    widths = [WIDTH_IN_NAME.search(name) for name in others]
    return " / ".join([first, *(f"{width.group()}d" for width in widths if width)])
