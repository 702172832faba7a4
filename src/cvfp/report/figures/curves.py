"""What runs told while they trained, as curves: phase 1 by iteration, the learning of tokens by step."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from cvfp.records.results import Measurement, PointRecord
from cvfp.records.schema import LARGEST
from cvfp.records.sweep import Sweep
from cvfp.report.lines import Line

PHASE1, LEARNING = ("phase 1",), ("phase 2", "training", "joint")
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
class LearningCurve:
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
    def tokens(self) -> np.ndarray:
        """`tokens_seen` of a run that counted them."""
        assert self.tokens_seen is not None
        return self.tokens_seen

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


def learning_curve(sweep: Sweep, point: PointRecord) -> LearningCurve | None:
    """The curve of the run behind a row; None when it is not trained by gradients, or nothing was kept.

    Raises:
        InputError: as `read_metrics`.
    """
    told = _of_phase(sweep.metrics_of(point), LEARNING)
    if not told:
        return None
    return LearningCurve(
        point=point,
        steps=_steps(told),
        dev_ppl=_values(told, "dev_ppl"),
        train_ppl=_values(told, "train_ppl"),
        lr=_values(told, "lr"),
    )


Curve = TypeVar("Curve", Phase1Curve, LearningCurve)
Reader = Callable[[Sweep, PointRecord], Curve | None]


def largest_curve(sweep: Sweep, line: Line, read: Reader[Curve]) -> Curve | None:
    """The curve of the line's largest size, of its first seed, that has one; None when no point has.

    Points that failed or have not finished are passed over.
    """
    ordered = sorted(line.scored, key=lambda point: (-point.num_samples, point.seed))
    curves = (read(sweep, point) for point in ordered)
    return next((curve for curve in curves if curve is not None), None)


def curves_by_size(sweep: Sweep, line: Line, read: Reader[Curve]) -> list[Curve]:
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
