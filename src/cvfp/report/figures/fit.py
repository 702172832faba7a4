"""The figure of a table's fit: the points of every group and its power law."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from cvfp.report.figures.answer import HEIGHT, MOST_NAMES
from cvfp.report.figures.axes import padded, set_log
from cvfp.report.figures.marks import End, name_ends
from cvfp.report.figures.style import HALF, _, house_style, new_figure, style_of
from cvfp.scaling.table import TableFit

PLACES = 50
"""At which a law is drawn."""


@house_style
def fit_figure(fit: TableFit) -> Figure:
    """Perplexity against training tokens in log-log axes, a law within its data, named at its end."""
    figure = new_figure(HEIGHT, HALF)
    axes, ends = figure.subplots(), []
    groups = [(group, group.line.law) for group in fit.groups if group.line is not None]
    for index, (group, law) in enumerate(groups):
        style, points = style_of(index), group.points.points
        settings = {"color": style.color, "marker": style.marker, "markersize": style.size}
        axes.plot(points.tokens, points.ppl, linestyle="none", **settings)
        tokens = np.geomspace(points.tokens.min(), points.tokens.max(), PLACES)
        axes.plot(tokens, law.predict(tokens), color=style.color, linestyle=style.dashes, linewidth=1.3)
        ends.append(End(tokens[-1], float(law.predict(tokens[-1])), group.name, style.color))
    if groups:
        every = [group.points.points for group, _law in groups]
        set_log(axes.xaxis, padded(np.concatenate([one.tokens for one in every]), 0.05), most=6)
        set_log(axes.yaxis, padded(np.concatenate([one.ppl for one in every]), 0.05))
        name_ends(axes, ends[:MOST_NAMES])
    axes.set(xlabel=_("training tokens"), ylabel=_("perplexity"))
    return figure
