"""What runs told while they trained, as curves: phase 1 by iteration, phase 2 by optimiser step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cvfp.records.results import Measurement, PointRecord
from cvfp.records.schema import LARGEST
from cvfp.records.sweep import Sweep
from cvfp.report.figures.axes import grid_shape, label_outer, padded, panel_grid, set_linear, set_log, widened
from cvfp.report.figures.style import (
    INK,
    Style,
    by_arm,
    documents,
    handle,
    house_style,
    legend_below,
    line_entries,
    new_figure,
    plain_handle,
    runs,
    save,
    short_label,
    style_of,
    styles_of,
)
from cvfp.report.lines import Line

# --- What runs told while they trained, as curves: phase 1 by iteration, phase 2 by optimiser step.


PHASE1, PHASE2 = ("phase 1",), ("phase 2", "training", "joint")
"""Names of the phases in metrics files; what phase 2 is to two-phase models, arms trained through time call
training, and joint training joint."""


@dataclass(frozen=True)
class Phase1Curve:
    """How the context block of one run converged, each (n,); nan where the run did not tell.

    The rate is the share of positions that moved less than the threshold; losses in squared units of a
    context. Iteration 1 is the random start, so the first that tells anything is 2.
    """

    point: PointRecord
    converged: bool | None
    """False when its cap on iterations ended it."""
    iterations: np.ndarray
    convergence_rate: np.ndarray
    convergence_loss: np.ndarray
    dispersion_loss: np.ndarray


@dataclass(frozen=True)
class Phase2Curve:
    """How one run learned to predict, a value per evaluation, each (n,); nan where the run did not tell.

    `train_ppl` is the running mean over the last pass.
    """

    point: PointRecord
    steps: np.ndarray
    dev_ppl: np.ndarray
    train_ppl: np.ndarray
    lr: np.ndarray

    @property
    def tokens_seen(self) -> np.ndarray | None:
        """Training tokens seen at each evaluation, of those of the whole run in proportion to the steps."""
        if self.point.steps is None or self.point.tokens_seen is None:
            return None
        return self.steps * (self.point.tokens_seen / self.point.steps)

    @property
    def epochs(self) -> np.ndarray | None:
        """Passes over the training tokens at each evaluation."""
        if self.tokens_seen is None or self.point.train_tokens is None:
            return None
        return self.tokens_seen / self.point.train_tokens

    @property
    def best(self) -> int | None:
        """Index of the evaluation with the lowest dev PPL."""
        known = np.isfinite(self.dev_ppl)
        return int(np.nanargmin(np.where(known, self.dev_ppl, np.nan))) if known.any() else None


def phase1_curve(sweep: Sweep, point: PointRecord) -> Phase1Curve | None:
    """The curve of the run behind a row; None when it has no phase 1, or what it told was not kept.

    Raises:
        InputError: as `read_metrics`.
    """
    told = _of_phase(sweep.metrics_of(point), PHASE1)
    if not told:
        return None
    run = sweep.run_of(point)
    return Phase1Curve(
        point=point,
        converged=None if run is None else run.phase1_converged,
        iterations=_steps(told),
        convergence_rate=_values(told, "convergence_rate"),
        convergence_loss=_values(told, "convergence_loss"),
        dispersion_loss=_values(told, "dispersion_loss"),
    )


def phase2_curve(sweep: Sweep, point: PointRecord) -> Phase2Curve | None:
    """The curve of the run behind a row; None when it is not trained by gradients, or nothing was kept.

    Raises:
        InputError: as `read_metrics`.
    """
    told = _of_phase(sweep.metrics_of(point), PHASE2)
    if not told:
        return None
    return Phase2Curve(
        point=point,
        steps=_steps(told),
        dev_ppl=_values(told, "dev_ppl"),
        train_ppl=_values(told, "train_ppl"),
        lr=_values(told, "lr"),
    )


Curve = Phase1Curve | Phase2Curve
Reader = Callable[[Sweep, PointRecord], Curve | None]


def largest_curve(sweep: Sweep, line: Line, read: Reader) -> Curve | None:
    """The curve of the line's largest size, of its first seed, that has one; None when no point has.

    Points that failed or have not finished are passed over.
    """
    ordered = sorted(line.scored, key=lambda point: (-point.num_samples, point.seed))
    curves = (read(sweep, point) for point in ordered)
    return next((curve for curve in curves if curve is not None), None)


def curves_by_size(sweep: Sweep, line: Line, read: Reader) -> list[Curve]:
    """One curve per size, smallest first: of the first seed that has one."""
    found: dict[int, Curve] = {}
    for point in sorted(line.scored, key=lambda point: (point.num_samples, point.seed)):
        if point.num_samples not in found and (curve := read(sweep, point)) is not None:
            found[point.num_samples] = curve
    return list(found.values())


def _of_phase(told: Sequence[Measurement], names: Sequence[str]) -> list[Measurement]:
    return [one for one in told if one.phase in names and one.values]


def _steps(told: Sequence[Measurement]) -> np.ndarray:
    return np.array([one.step for one in told])


def _values(told: Sequence[Measurement], name: str) -> np.ndarray:
    return np.array([_number(one.values.get(name)) for one in told], dtype=np.float64)


def _number(value: Any) -> float:
    """NaN for what is no number, or a whole one beyond a float."""
    return float(value) if isinstance(value, float) or _is_whole(value) else float("nan")


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and abs(value) <= LARGEST


# --- The figure of phase 1: how the contexts of a run converge while the context block learns.


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


def write_phase1(path: Path, sweep: Sweep, lines: Sequence[Line]) -> bool:
    """Draw the convergence of phase 1 to a PNG. False, and no file, when no run told of it.

    Raises:
        InputError: a metrics file is damaged.
    """
    return save(phase1_figure(sweep, lines), path)


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
        set_linear(axes.xaxis, widened([x for one in shown for x in one.curve.iterations], 0.05), most=6)
        axes.set(xlabel="iteration")
        axes.set_title(self.title)


def _set_rate(axes: Axes, values: Sequence[float]) -> None:
    set_linear(axes.yaxis, widened([0.0, 1.0], 0.04))


def _set_loss(axes: Axes, values: Sequence[float]) -> None:
    set_log(axes.yaxis, padded(values, 0.06))


def _set_dispersion(axes: Axes, values: Sequence[float]) -> None:
    set_linear(axes.yaxis, widened(values, 0.08))


PANELS = (
    _Panel("convergence rate (share of positions)", "convergence_rate", _set_rate, threshold=True),
    _Panel("convergence loss", "convergence_loss", _set_loss, positive=True),
    _Panel("dispersion loss", "dispersion_loss", _set_dispersion),
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
    return f"{short_label(labels.pop())}, {of}" if len(labels) == 1 else of


def _face(one: Shown) -> str | None:
    return "white" if one.curve.converged is False else None


def _notes(shown: Sequence[Shown]) -> list[tuple[str, dict]]:
    rates = ", ".join(f"{rate:g}" for rate in sorted({one.threshold for one in shown}))
    notes: list[tuple[str, dict]] = [(f"stops at {rates}", {"linestyle": ":"})]
    if any(one.curve.converged is False for one in shown):
        notes.append(("ended at its cap", {"marker": "o", "markerfacecolor": "white"}))
    return notes


def _shown(sweep: Sweep, lines: Sequence[Line]) -> list[Shown]:
    """Of each line the largest size with a curve, or of the only line every size."""
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


# --- The figure of phase 2, and of training through time: perplexity of dev and training text by step.


ONE_ROW, EACH_ROW = 3.6, 2.9
"""Inches of height, without the legend: of an only row of panels, of each of several."""
NOTES = (
    ("dev", {"linestyle": "-"}),
    ("train, mean of the last pass", {"linestyle": (0, (3, 1.5))}),
    ("best dev", {"marker": "o"}),
)

Curves = dict[str, Phase2Curve]
"""By the label of the line."""


def write_phase2(path: Path, sweep: Sweep, lines: Sequence[Line]) -> bool:
    """Draw the training to a PNG. False, and no file, when no run told of it.

    Raises:
        InputError: a metrics file is damaged.
    """
    return save(phase2_figure(sweep, lines), path)


@house_style
def phase2_figure(sweep: Sweep, lines: Sequence[Line]) -> Figure | None:
    """Dev (solid) and train PPL (dashed) by optimiser step, of every line at its largest size, first seed.

    One panel per arm, on one scale of PPL. The evaluation with the lowest dev PPL is marked on both.
    """
    found = {line.label: largest_curve(sweep, line, phase2_curve) for line in lines}
    curves = {label: curve for label, curve in found.items() if curve is not None and _drawable(curve)}
    shown = [line for line in lines if line.label in curves]
    if not shown:
        return None
    groups, entries = by_arm(shown), line_entries(shown, lines, dashes="-")
    entries += [(name, plain_handle(**look)) for name, look in NOTES]
    rows, columns = grid_shape(len(groups))
    figure = new_figure((ONE_ROW if rows == 1 else rows * EACH_ROW) + 0.3 + 0.08 * len(entries))
    panels = panel_grid(
        figure, [_phase2_title(arm, members, curves) for arm, members in groups.items()], sharex=False
    )
    for axes, members in zip(panels, groups.values(), strict=True):
        for line in members:
            _draw_phase2(axes, curves[line.label], styles_of(lines)[line.label])
        _set_axes(axes, [curves[line.label] for line in members], list(curves.values()), columns)
    label_outer(panels, "optimiser steps", "perplexity", sharex=False)
    legend_below(figure, entries)
    return figure


def _drawable(curve: Phase2Curve) -> bool:
    return bool(np.isfinite(curve.dev_ppl).any() or np.isfinite(curve.train_ppl).any())


def _phase2_title(arm: str, members: Sequence[Line], curves: Curves) -> str:
    return f"{arm}\n{runs([curves[line.label].point for line in members])}"


def _draw_phase2(axes: Axes, curve: Phase2Curve, style: Style) -> None:
    for values, dashes, face in (
        (curve.dev_ppl, "-", style.color),
        (curve.train_ppl, (0, (3, 1.5)), "white"),
    ):
        axes.plot(
            curve.steps,
            values,
            color=style.color,
            linestyle=dashes,
            linewidth=1.3,
            marker=style.marker,
            markevery=[] if curve.best is None else [curve.best],
            markersize=7,
            markerfacecolor=face,
            zorder=style.zorder,
        )


def _set_axes(axes: Axes, own: Sequence[Phase2Curve], every: Sequence[Phase2Curve], columns: int) -> None:
    ppls = np.concatenate([values for curve in every for values in (curve.dev_ppl, curve.train_ppl)])
    set_log(axes.yaxis, padded(ppls[np.isfinite(ppls)], 0.05))
    last = max(float(curve.steps.max()) for curve in own)
    set_linear(axes.xaxis, (-0.03 * last, 1.05 * last), most=7 if columns == 1 else 5)
