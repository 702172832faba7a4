"""Panels of the effective rank of contexts: against training data, and as dimensions against the width."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.axes import Axes

from cvfp.records.results import PointRecord
from cvfp.report.figures.axes import Limits, padded, set_linear, set_linear_at, set_log, widened
from cvfp.report.figures.marks import by_size, draw_mean, draw_seeds, mean_of
from cvfp.report.figures.style import Styles
from cvfp.report.lines import Line, several_seeds


def ranked(line: Line) -> list[PointRecord]:
    """Its scored points that know the rank of the contexts of the test text; none without contexts."""
    return [point for point in line.scored if line.summary.context_dim and point.val_er is not None]


def draw_ranks(axes: Axes, lines: Sequence[Line], styles: Styles) -> None:
    """The effective rank in percent of the width over training tokens: seeds light, their means joined."""
    for line in lines:
        style = styles[line.label]
        if several_seeds(ranked(line)):
            draw_seeds(axes, [(p.train_tokens, 100 * p.val_er) for p in ranked(line)], style)
        means = [
            (mean_of(points, "train_tokens"), 100 * mean_of(points, "val_er"))
            for points in by_size(ranked(line)).values()
        ]
        draw_mean(axes, means, style, joined=True)
    points = [point for line in lines for point in ranked(line)]
    set_log(axes.xaxis, padded([point.train_tokens for point in points], 0.06), most=5)
    set_linear(axes.yaxis, widened([100 * point.val_er for point in points], 0.10))
    axes.set(xlabel="training tokens", ylabel="% of the width")
    axes.set_title("effective rank of the validation contexts")


def draw_dimensions(axes: Axes, lines: Sequence[Line], styles: Styles) -> None:
    """Rank times width against the width, at each line's largest size; dotted where all would be used."""
    for line in lines:
        width, points = line.summary.context_dim, largest(line)
        draw_seeds(axes, [(width, width * p.val_er) for p in points], styles[line.label])
        draw_mean(axes, [(width, width * mean_of(points, "val_er"))], styles[line.label])
    widths = sorted({line.summary.context_dim for line in lines})
    used = [line.summary.context_dim * p.val_er for line in lines for p in largest(line)]
    limits = _above_zero(widened(widths, 0.15))
    axes.plot(limits, limits, color="#555555", linestyle=":", zorder=1)
    set_linear_at(axes.xaxis, limits, widths, [str(width) for width in widths])
    set_linear(axes.yaxis, _above_zero(widened([*used, *widths], 0.08)))
    axes.set(xlabel="width of the context", ylabel="effective dimensions")
    axes.set_title("effective rank × width (dotted: all used)")


def largest(line: Line) -> list[PointRecord]:
    """The ranked points of its largest size."""
    return by_size(ranked(line))[max(by_size(ranked(line)))]


def _above_zero(limits: Limits) -> Limits:
    return max(limits[0], 0), limits[1]
