"""The figure of what contexts are: their effective rank, their dimensions, and what their parameters buy."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvfp.records.arms import arm_kind
from cvfp.records.results import PointRecord
from cvfp.report.changes import LineChange, changes_within_arms
from cvfp.report.figures.axes import (
    Limits,
    grid_shape,
    padded,
    set_linear,
    set_linear_at,
    set_log,
    set_log_at,
    widened,
    with_intervals,
)
from cvfp.report.figures.marks import by_size, draw_interval, draw_mean, draw_seeds, mean_of, spread
from cvfp.report.figures.style import (
    INK,
    Styles,
    _,
    documents,
    fills_of,
    house_style,
    legend_below,
    line_entries,
    new_figure,
    plain_handle,
    seeds_entry,
    short_label,
    styles_together,
)
from cvfp.report.lines import Line, several_seeds
from cvfp.report.numbers import short_count
from cvfp.report.standings import Headline, Standing, headline
from cvfp.scaling.power_law import Number

# --- Panels of the effective rank of contexts: against training data, and as dimensions against the width.


def ranked(line: Line) -> list[PointRecord]:
    """Its scored points that know the rank of the contexts of the test text; none without contexts."""
    return [point for point in line.scored if line.summary.context_dim and point.val_er is not None]


def draw_ranks(axes: Axes, lines: Sequence[Line], styles: Styles) -> None:
    """The effective rank in percent of the width over training tokens: seeds light, their means joined."""
    for line in lines:
        style = styles[line.label]
        if several_seeds(ranked(line)):
            draw_seeds(axes, [(p.tokens, 100 * p.rank) for p in ranked(line)], style)
        means = [
            (mean_of(points, "train_tokens"), 100 * mean_of(points, "val_er"))
            for points in by_size(ranked(line)).values()
        ]
        draw_mean(axes, means, style, joined=True)
    points = [point for line in lines for point in ranked(line)]
    set_log(axes.xaxis, padded([point.tokens for point in points], 0.06), most=5)
    set_linear(axes.yaxis, widened([100 * point.rank for point in points], 0.10))
    axes.set(xlabel=_("training tokens"), ylabel=_("% of the width"))
    axes.set_title(_("effective rank of the test contexts"))


def draw_dimensions(axes: Axes, lines: Sequence[Line], styles: Styles) -> None:
    """Rank times width against the width, at each line's largest size; dotted where all would be used."""
    for line in lines:
        width, points = line.summary.width, largest(line)
        draw_seeds(axes, [(width, width * p.rank) for p in points], styles[line.label])
        draw_mean(axes, [(width, width * mean_of(points, "val_er"))], styles[line.label])
    widths = sorted({line.summary.width for line in lines})
    used = [line.summary.width * p.rank for line in lines for p in largest(line)]
    limits = _above_zero(widened(widths, 0.15))
    axes.plot(limits, limits, color="#555555", linestyle=":", zorder=1)
    set_linear_at(axes.xaxis, limits, widths, [str(width) for width in widths])
    set_linear(axes.yaxis, _above_zero(widened([*used, *widths], 0.08)))
    axes.set(xlabel=_("width of the context"), ylabel=_("effective dimensions"))
    axes.set_title(_("effective rank × width (dotted: all used)"))


def largest(line: Line) -> list[PointRecord]:
    """The ranked points of its largest size."""
    return by_size(ranked(line))[max(by_size(ranked(line)))]


def _above_zero(limits: Limits) -> Limits:
    return max(limits[0], 0), limits[1]


# --- Panels of what the parameters of the context block buy: perplexity against their number and their ratio.


DODGE = 0.025
"""Between lines with as many parameters, as a share of the range, so that they do not hide each other."""
OFF_SCALE = 1.6
"""A reference further from the lines with contexts than this factor is named but not drawn to scale."""
LABEL_GAP = 0.075
"""Between labels beside a panel, as a share of its height."""


def changes_of_size(lines: Sequence[Line]) -> list[LineChange]:
    """Lines with contexts against the nearest before them; none where all have as many parameters."""
    changes = [
        change
        for change in changes_within_arms([line for line in lines if line.summary.context_block_params])
        if change.ppl is not None
    ]
    return changes if any(ratio(change) != 1 for change in changes) else []


def ratio(change: LineChange) -> float:
    """Parameters of the context block over those of the reference line."""
    return change.other.summary.block_params / change.reference.summary.block_params


def draw_efficiency(axes: Axes, changes: Sequence[LineChange], styles: Styles) -> None:
    """Change of test PPL in percent against the ratio of parameters, with 95% intervals."""
    ratios = sorted({1.0, *map(ratio, changes)})
    limits = padded(ratios, 0.12)
    places = dodged([ratio(change) for change in changes], limits)
    axes.axhline(0, color=INK, linewidth=1.0, zorder=1.5)
    axes.plot([1], [0], marker="o", color=INK, markersize=4)
    for change, x in zip(changes, places, strict=True):
        style = styles[change.other.label]
        draw_interval(axes, x, change.percent.interval, style)
        draw_mean(axes, [(x, change.percent.value)], style)
    values = [0.0, *(change.percent.value for change in changes)]
    shown = with_intervals(values, [change.percent.interval for change in changes])
    set_log_at(axes.xaxis, limits, ratios, [f"{each:.3g}×" for each in ratios])
    set_linear(axes.yaxis, widened(shown, 0.10))
    axes.set(xlabel=_("parameters of the context block, ratio"), ylabel=_("% against the setting before"))
    axes.set_title(_("change of test PPL, {size}").format(size=_sizes(changes)))


def several_perplexities(top: Headline) -> bool:
    """Whether a line with a context block has anything to stand beside."""
    return len(_sized(top)) > 0 and len(_sized(top)) + len(_references(top)) > 1


def draw_perplexity(axes: Axes, top: Headline, styles: Styles) -> None:
    """Test PPL against parameters; a horizontal line for the best line of every arm without contexts."""
    shown = _sized(top)
    params = [one.line.summary.block_params for one in shown]
    across = padded(params, 0.12)
    for one, x in zip(shown, dodged(params, across), strict=True):
        draw_seeds(axes, [(x, point.ppl) for point in one.points], styles[one.line.label])
        draw_mean(axes, [(x, one.ppl)], styles[one.line.label])
    ppls = [point.ppl for one in shown for point in one.points]
    references = _references(top)
    near = [one for one in references if _near(one, ppls)]
    limits = padded([*ppls, *(one.ppl for one in near)], 0.10)
    counts = sorted(set(params))
    set_log_at(axes.xaxis, across, counts, [_millions(count) for count in counts])
    set_log(axes.yaxis, limits)
    _draw_references(axes, references, near, limits)
    axes.set(xlabel=_("parameters of the context block"), ylabel=_("test PPL"))
    axes.set_title(_("test PPL at {size}").format(size=documents(top.num_samples)))


def dodged(values: Sequence[Number], limits: Limits) -> list[float]:
    """Positive values, equal ones moved apart about where they were on a logarithmic axis."""
    step = (limits[1] / limits[0]) ** DODGE
    seen: Counter[Number] = Counter()
    total, moved = Counter(values), []
    for value in values:
        moved.append(value * step ** (seen[value] - (total[value] - 1) / 2))
        seen[value] += 1
    return moved


def _sized(top: Headline) -> list[Standing]:
    """The standings of lines with a context block, of known width and parameters."""
    summaries = [(one, one.line.summary) for one in top.standings]
    return [one for one, summary in summaries if summary.context_dim and summary.context_block_params]


def _references(top: Headline) -> list[Standing]:
    """The best line of every arm without contexts."""
    best: dict[str, Standing] = {}
    for one in top.standings:
        if not arm_kind(one.line.arm).has_context:
            best.setdefault(one.line.arm, one)
    return list(best.values())


def _near(reference: Standing, ppls: Sequence[float]) -> bool:
    return min(ppls) / OFF_SCALE <= reference.ppl <= max(ppls) * OFF_SCALE


def _draw_references(
    axes: Axes, references: Sequence[Standing], near: Sequence[Standing], limits: Limits
) -> None:
    """The lines that are near, and all names to the right of the panel, where they do not touch."""
    low, high = map(math.log, limits)
    heights = [(math.log(one.ppl) - low) / (high - low) for one in references]
    for one, height, place in zip(references, heights, spread(heights, LABEL_GAP), strict=True):
        name, inside = short_label(one.line.label), one in near
        if inside:
            axes.axhline(one.ppl, color="#555555", linestyle=(0, (4, 2)), linewidth=1.0, zorder=1.5)
        arrow = {"arrowstyle": "-", "color": "#999999", "linewidth": 0.6, "shrinkA": 0, "shrinkB": 0}
        axes.annotate(
            name if inside else f"{name} {one.ppl:.0f} {'↑' if height > 1 else '↓'}",
            xy=(1.0, min(max(height, 0.0), 1.0)),
            xytext=(1.03, place),
            xycoords="axes fraction",
            textcoords="axes fraction",
            va="center",
            fontsize=8,
            arrowprops=arrow if inside else None,
        )


def _millions(count: int) -> str:
    return f"{count / 1e6:.3g}M" if count >= 1e5 else short_count(count)


def _sizes(changes: Sequence[LineChange]) -> str:
    sizes = {change.top[0][0].num_samples for change in changes}
    return documents(sizes.pop()) if len(sizes) == 1 else _("largest common size")


# --- The figure: panels of ranks and of parameters.


PANEL = 3.1
"""Inches of height of a row of panels."""
Draw = Callable[[Axes], None]


@house_style
def analysis_figure(lines: Sequence[Line]) -> Figure | None:
    """Effective rank and dimensions, and test PPL against parameters and their ratio; panels with content."""
    shown = [line for line in lines if line.scored and line.summary.context_dim]
    styles = styles_together(shown, lines)
    panels = _panels(shown, lines, styles)
    if not panels:
        return None
    rows, columns = grid_shape(len(panels))
    entries = _entries(shown, lines)
    figure = new_figure(rows * PANEL + 0.25 + 0.1 * len(entries))
    grid = figure.subplots(rows, columns, squeeze=False)
    for axes, draw in zip(grid.flat, panels, strict=False):
        draw(axes)
    legend_below(figure, entries)
    return figure


def _panels(shown: Sequence[Line], lines: Sequence[Line], styles: Styles) -> list[Draw]:
    """The panels that have something to show."""
    found: list[Draw] = []
    with_rank = [line for line in shown if ranked(line)]
    if with_rank:
        found.append(partial(draw_ranks, lines=with_rank, styles=styles))
    if len({line.summary.context_dim for line in with_rank}) > 1:
        found.append(partial(draw_dimensions, lines=with_rank, styles=styles))
    changes = changes_of_size(shown)
    if changes:
        found.append(partial(draw_efficiency, changes=changes, styles=styles))
    top = headline(lines)
    if top is not None and several_perplexities(top):
        found.append(partial(draw_perplexity, top=top, styles=styles))
    return found


def _entries(shown: Sequence[Line], lines: Sequence[Line]) -> list:
    entries = line_entries(shown, lines)
    fills = fills_of(shown, lines)
    if len(set(fills.values())) > 1:
        settings = {"marker": "o", "markerfacecoloralt": "white", "markersize": 7}
        entries += [(arm, plain_handle(fillstyle=fill, **settings)) for arm, fill in fills.items()]
    if any(several_seeds(line.scored) for line in shown):
        entries.append(seeds_entry())
    return entries
