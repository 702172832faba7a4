"""Perplexity at sizes that were not run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np

from cvfp.records.errors import InputError
from cvfp.scaling.power_law import Number, Numbers

DEFAULT_MULTIPLES = (4, 10)
"""Sizes to predict at when none are asked for, as multiples of the largest fitted one."""


@runtime_checkable
class Predictor(Protocol):
    """A fitted law, of one draw or the mean of several, of any form."""

    def predict(self, tokens: Number | Numbers) -> np.ndarray | np.number:
        """PPL in the shape of `tokens`."""

    def prediction_interval(
        self, tokens: Number | Numbers, level: float = 0.95
    ) -> tuple[np.ndarray | np.number, np.ndarray | np.number] | None:
        """Its ends; None without degrees of freedom."""


@dataclass(frozen=True)
class Forecast:
    """What a law says of one size, with its 95% prediction interval.

    The interval is of one new run when the law is of one draw, of the law of a new draw when it is the mean
    over several. `low` and `high` are None when the fit has no residual degrees of freedom; `high` also when
    it is beyond the range of a float.
    """

    tokens: float
    ppl: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Backtest:
    """What the law of the smaller sizes says of the largest one, beside what was measured there.

    `measured` is the geometric mean over draws; the interval is that of `Forecast`.
    """

    tokens: float
    predicted: float
    low: float
    high: float | None
    measured: float

    @property
    def held(self) -> bool:
        """Whether the measured value lies in the 95% interval."""
        return self.low <= self.measured and (self.high is None or self.measured <= self.high)


def forecast(law: Predictor, largest: Number, requested: Sequence[Number]) -> list[Forecast]:
    """Forecasts at the `requested` token counts; at 4 and 10 times `largest` when that is empty.

    Raises:
        InputError: a token count that is not positive and finite, or a prediction that is not finite.
    """
    sizes = requested if len(requested) > 0 else [multiple * largest for multiple in DEFAULT_MULTIPLES]
    return [_forecast_at(law, float(tokens)) for tokens in sizes]


def backtest(law: Predictor, tokens: float, measured: float) -> Backtest | None:
    """What a law says of `tokens`, which it was fitted without; None where it has no interval.

    Raises:
        InputError: a prediction that is not finite.
    """
    found = _forecast_at(law, tokens)
    if found.low is None:
        return None
    return Backtest(tokens, found.ppl, found.low, found.high, measured)


def _forecast_at(law: Predictor, tokens: float) -> Forecast:
    with np.errstate(over="ignore"):
        ppl = float(law.predict(tokens))
    if not math.isfinite(ppl):
        raise InputError(f"the perplexity predicted at {tokens:g} tokens is beyond the range of a float")
    interval = law.prediction_interval(tokens)
    if interval is None:
        return Forecast(tokens, ppl, None, None)
    low, high = float(interval[0]), float(interval[1])
    return Forecast(tokens, ppl, low, high if math.isfinite(high) else None)
