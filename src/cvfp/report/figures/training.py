"""How models learn: dev PPL against tokens seen, and what a lower loss costs in arithmetic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvfp.records.sweep import Sweep
from cvfp.report.figures.answer import HEIGHT, means_figure, named_lines
from cvfp.report.figures.axes import padded, set_log
from cvfp.report.figures.curves import LearningCurve, largest_curve, learning_curve
from cvfp.report.figures.marks import End, by_size, name_ends
from cvfp.report.figures.style import HALF, Style, _, documents, house_style, new_figure, styles_together
from cvfp.report.lines import Line


@house_style
def learning_figure(sweep: Sweep, lines: Sequence[Line]) -> Figure | None:
    """Dev PPL against the training tokens that steps have read, of every line at its largest size, first
    seed.

    A marker stands at the lowest dev PPL, whose weights are kept. None where no run told of it.
    """
    found = [(line, largest_curve(sweep, line, learning_curve)) for line in lines]
    curves = [(line, curve) for line, curve in found if curve is not None and _drawable(curve)]
    if not curves:
        return None
    figure = new_figure(HEIGHT, HALF)
    axes, styles, ends = figure.subplots(), styles_together(lines, lines), []
    named = named_lines([line for line, _curve in curves])
    for line, curve in curves:
        _draw_curve(axes, curve, styles[line.label])
        if line in named:
            known = np.isfinite(curve.dev_ppl)
            ends.append(
                End(
                    curve.tokens[known][-1],
                    curve.dev_ppl[known][-1],
                    line.label,
                    styles[line.label].color,
                )
            )
    tokens = np.concatenate([curve.tokens for _line, curve in curves])
    ppls = np.concatenate([curve.dev_ppl for _line, curve in curves])
    set_log(axes.xaxis, padded(tokens[tokens > 0], 0.04), most=6)
    set_log(axes.yaxis, padded(ppls[np.isfinite(ppls)], 0.05))
    axes.set(xlabel=_("training tokens seen"))
    sizes = {curve.point.num_samples for _line, curve in curves}
    at = documents(sizes.pop()) if len(sizes) == 1 else _("largest size of each")
    axes.set_title(_("Dev PPL while learning, {size}").format(size=at), loc="left", fontweight="bold")
    name_ends(axes, ends)
    return figure


@house_style
def compute_figure(lines: Sequence[Line]) -> Figure | None:
    """Test PPL against the FLOPs of training, a line per model over its sizes; None where they are not
    known."""
    known = [(line, [point for point in line.scored if point.flops]) for line in lines]
    known = [(line, points) for line, points in known if len(by_size(points)) > 1]
    if not known:
        return None
    return means_figure(
        known, styles_together(lines, lines), "compute", _("training FLOPs"), _("Test PPL against compute")
    )


def _drawable(curve: LearningCurve) -> bool:
    return curve.tokens_seen is not None and bool(np.isfinite(curve.dev_ppl).any())


def _draw_curve(axes: Axes, curve: LearningCurve, style: Style) -> None:
    known = np.isfinite(curve.dev_ppl)
    tokens, ppl = curve.tokens[known], curve.dev_ppl[known]
    axes.plot(
        tokens,
        ppl,
        color=style.color,
        linestyle=style.dashes,
        linewidth=1.3,
        marker=style.marker,
        fillstyle=style.fill,
        markerfacecoloralt="white",
        markevery=[int(np.argmin(ppl))],
        markersize=5,
        zorder=style.zorder,
    )
