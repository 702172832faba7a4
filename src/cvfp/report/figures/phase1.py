"""The figure of phase 1: how the contexts of a run converge while the context block learns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvfp.records.sweep import Sweep
from cvfp.records.texts import N_
from cvfp.report.figures.axes import padded, set_linear, set_log, widened
from cvfp.report.figures.curves import Phase1Curve, curves_by_size, largest_curve, phase1_curve
from cvfp.report.figures.style import (
    INK,
    Style,
    _,
    documents,
    handle,
    house_style,
    legend_below,
    new_figure,
    plain_handle,
    runs,
    short_label,
    style_of,
    styles_of,
)
from cvfp.report.lines import Line

PHASE1_HEIGHT = 3.3
"""Inches without the legend."""


@dataclass(frozen=True)
class Shown:
    """One curve of a line, how it is drawn, and what it is called."""

    line: Line
    curve: Phase1Curve
    style: Style
    name: str

    @property
    def threshold(self) -> float:
        """The rate at which it was to stop."""
        return self.line.config.phase1.convergence_rate


@house_style
def phase1_figure(sweep: Sweep, lines: Sequence[Line]) -> Figure | None:
    """Convergence rate, convergence loss and dispersion loss by iteration.

    Of every line at its largest size; where one line has a phase 1, of each of its sizes. First seed.
    """
    shown = _shown(sweep, lines)
    if not shown:
        return None
    entries = [(one.name, handle(one.style, face=_face(one))) for one in shown]
    entries += [(name, plain_handle(**look)) for name, look in _notes(shown)]
    figure = new_figure(PHASE1_HEIGHT + 0.3 + 0.08 * len(entries))
    panels = [panel for panel in PANELS if any(panel.known(one.curve).any() for one in shown)]
    grid = figure.subplots(1, len(panels), squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=True):
        panel.draw(axes, shown)
    figure.suptitle(_phase1_title(shown), x=0.01, ha="left", fontsize=9, fontweight="bold")
    legend_below(figure, entries)
    return figure


@dataclass(frozen=True)
class _Panel:
    """One quantity by iteration."""

    title: str
    field: str
    set_values: Callable[[Axes, Sequence[float]], None]
    positive: bool = False
    threshold: bool = False

    def values(self, curve: Phase1Curve) -> np.ndarray:
        return getattr(curve, self.field)

    def known(self, curve: Phase1Curve) -> np.ndarray:
        """Which values the panel can show, (n,)."""
        values = self.values(curve)
        return np.isfinite(values) & (values > 0) if self.positive else np.isfinite(values)

    def draw(self, axes: Axes, shown: Sequence[Shown]) -> None:
        for one in shown:
            _draw_phase1(axes, one, self.values(one.curve), self.known(one.curve))
        if self.threshold:
            for rate in {one.threshold for one in shown}:
                axes.axhline(rate, color=INK, linestyle=":", linewidth=1.2, zorder=1.5)
        self.set_values(axes, [x for one in shown for x in self.values(one.curve)[self.known(one.curve)]])
        set_linear(
            axes.xaxis, widened([x for one in shown for x in one.curve.iterations.tolist()], 0.05), most=6
        )
        axes.set(xlabel=_("iteration"))
        axes.set_title(_(self.title))


def _set_rate(axes: Axes, values: Sequence[float]) -> None:
    set_linear(axes.yaxis, widened([0.0, 1.0], 0.04))


def _set_loss(axes: Axes, values: Sequence[float]) -> None:
    set_log(axes.yaxis, padded(values, 0.06))


def _set_dispersion(axes: Axes, values: Sequence[float]) -> None:
    set_linear(axes.yaxis, widened(values, 0.08))


PANELS = (
    _Panel(N_("convergence rate (share of positions)"), "convergence_rate", _set_rate, threshold=True),
    _Panel(N_("convergence loss"), "convergence_loss", _set_loss, positive=True),
    _Panel(N_("dispersion loss"), "dispersion_loss", _set_dispersion),
)


def _draw_phase1(axes: Axes, one: Shown, values: np.ndarray, known: np.ndarray) -> None:
    """The curve, with a marker where it ends: hollow where its cap ended it."""
    if not known.any():
        return
    iterations, values = one.curve.iterations[known], values[known]
    axes.plot(
        iterations,
        values,
        color=one.style.color,
        linestyle=one.style.dashes,
        marker=one.style.marker,
        markevery=[len(values) - 1],
        markersize=7,
        markerfacecolor=_face(one) or one.style.color,
        zorder=one.style.zorder,
    )


def _phase1_title(shown: Sequence[Shown]) -> str:
    """Whose curves these are, where it is one line, and of which runs."""
    labels = {one.line.label for one in shown}
    of = runs([one.curve.point for one in shown])
    return _(", ").join([short_label(labels.pop()), of]) if len(labels) == 1 else of


def _face(one: Shown) -> str | None:
    return "white" if one.curve.converged is False else None


def _notes(shown: Sequence[Shown]) -> list[tuple[str, dict]]:
    rates = ", ".join(f"{rate:g}" for rate in sorted({one.threshold for one in shown}))
    notes: list[tuple[str, dict]] = [(_("stops at {rate}").format(rate=rates), {"linestyle": ":"})]
    if any(one.curve.converged is False for one in shown):
        notes.append((_("ended at its cap"), {"marker": "o", "markerfacecolor": "white"}))
    return notes


def _shown(sweep: Sweep, lines: Sequence[Line]) -> list[Shown]:
    """The curves to show: of each line the largest size with one, or of the only line every size."""
    found = [(line, largest_curve(sweep, line, phase1_curve)) for line in lines]
    told = [(line, curve) for line, curve in found if curve is not None]
    if len(told) == 1:
        return _sizes_of(sweep, told[0][0])
    sizes, styles = {curve.point.num_samples for _line, curve in told}, styles_of(lines)
    return [
        Shown(line, curve, styles[line.label], _name(line, curve, len(sizes) > 1)) for line, curve in told
    ]


def _sizes_of(sweep: Sweep, line: Line) -> list[Shown]:
    return [
        Shown(line, curve, style_of(index), documents(curve.point.num_samples))
        for index, curve in enumerate(curves_by_size(sweep, line, phase1_curve))
    ]


def _name(line: Line, curve: Phase1Curve, sizes_differ: bool) -> str:
    return f"{line.label}, {documents(curve.point.num_samples)}" if sizes_differ else line.label
