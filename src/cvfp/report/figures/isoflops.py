"""IsoFLOP curves: PPL against parameters at equal compute, by the law of parameters and data together."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvfp.report.figures.answer import HEIGHT
from cvfp.report.figures.axes import Limits, padded, set_log
from cvfp.report.figures.marks import MARKER
from cvfp.report.figures.style import HALF, INK, _, house_style, new_figure
from cvfp.scaling.joint_law import FLOPS, JointFit

BUDGETS = 5
PLACES = 60
"""At which a curve is drawn."""
SHADES = (0.85, 0.15)
"""Of `viridis`, from the smallest budget to the largest: light to dark."""


@house_style
def isoflop_figure(fits: Mapping[str, JointFit]) -> Figure | None:
    """A panel per model whose law is converged: a curve per budget, within the sizes that were measured.

    Dots are the runs, a mean over seeds each, in the shade of the budget that they cost; a diamond is the
    lowest PPL of a budget with the 95% interval of its N. None without such a law.
    """
    known = {name: fit for name, fit in fits.items() if fit.status == "converged"}
    if not known:
        return None
    figure = new_figure(HEIGHT, HALF * min(len(known), 2))
    panels = figure.subplots(1, len(known), squeeze=False)[0]
    for axes, (name, fit) in zip(panels, known.items(), strict=True):
        _draw(axes, fit)
        axes.set_title(_("PPL at equal FLOPs: {model}").format(model=name), loc="left", fontweight="bold")
        axes.set_xlabel(_("parameters"))
    return figure


def _draw(axes: Axes, fit: JointFit) -> None:
    cells, law = fit.cells, fit.law
    assert law is not None
    compute = FLOPS * cells.params * cells.tokens
    low, high = float(np.log(compute.min())), float(np.log(compute.max()))

    def shade(flops: float) -> tuple[float, ...]:
        share = (np.log(flops) - low) / (high - low)
        return colormaps["viridis"](SHADES[0] + share * (SHADES[1] - SHADES[0]))

    sizes: list[float] = [*np.exp(cells.loss)]
    for flops in np.exp(np.linspace(low, high, BUDGETS + 2)[1:-1]).tolist():
        ends = _range(fit, flops)
        if ends is None:
            continue
        params = np.geomspace(*ends, PLACES)
        ppl = np.exp(law.loss(params, flops / FLOPS / params))
        sizes += [float(ppl.min()), float(ppl.max())]
        axes.plot(params, ppl, color=shade(flops), linewidth=1.3)
        axes.annotate(
            f"{flops:.1e}",
            (params[-1], ppl[-1]),
            (3, 0),
            textcoords="offset points",
            va="center",
            color=shade(flops),
            fontsize=7,
            annotation_clip=False,
        )
        _draw_optimum(axes, fit, flops)
    colors = [shade(each) for each in compute.tolist()]
    axes.scatter(cells.params, np.exp(cells.loss), c=colors, s=MARKER**2 / 2, zorder=3)
    set_log(axes.xaxis, padded(cells.params, 0.12), most=6)
    set_log(axes.yaxis, padded(sizes, 0.05))


def _range(fit: JointFit, flops: float) -> Limits | None:
    """The parameters at which N and D of a budget are both within those measured; None where none are."""
    params, most = fit.cells.params, flops / FLOPS
    tokens = fit.cells.tokens
    low, high = max(params.min(), most / tokens.max()), min(params.max(), most / tokens.min())
    return (float(low), float(high)) if low < high else None


def _draw_optimum(axes: Axes, fit: JointFit, flops: float) -> None:
    best = fit.optimum(flops)
    if best is None or best.beyond:
        return
    ppl = float(np.exp(best.loss))
    if best.params_ci95 is not None:
        ends = np.clip(best.params_ci95, fit.cells.params.min(), fit.cells.params.max())
        axes.plot(ends, [ppl, ppl], color=INK, linewidth=1.0, zorder=4)
    axes.plot([best.params], [ppl], color=INK, marker="D", markersize=MARKER, zorder=5)
