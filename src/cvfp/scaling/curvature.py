"""Does the exponent change with size: a test, and the exponent between neighbouring sizes."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import numpy as np

from cvfp.scaling.coefficients import top_coefficients
from cvfp.scaling.estimate import Estimate
from cvfp.scaling.forms import ROUNDING
from cvfp.scaling.points import Points
from cvfp.scaling.power_law import Number

Bend = Literal["curved", "straight within error", "not testable"]


def curvature(points: Points) -> Estimate | None:
    """The coefficient of (ln D)^2 in ln PPL (`top_coefficients`): positive where the law flattens.

    None where the units of inference (`Points.units`) have fewer than three sizes.
    """
    return top_coefficients(points, points.log_ppl[None], 2)[0]


def bend(estimate: Estimate | None) -> Bend:
    """The verdict on a `curvature`, from its 95% interval; what is no more than rounding is no curve."""
    if estimate is None or estimate.sign is None:
        return "not testable"
    told = estimate.sign != 0 and abs(estimate.value) > ROUNDING
    return "curved" if told else "straight within error"


def bends(points: Points, rows: np.ndarray) -> list[str]:
    """The verdict for each row (m, n) of values of ln PPL at these points."""
    return [bend(estimate) for estimate in top_coefficients(points, rows, 2)]


@dataclass(frozen=True)
class LocalExponent:
    """The slope of ln PPL on ln D between two neighbouring sizes; None where their tokens do not differ."""

    size_range: tuple[Number, Number]
    token_range: tuple[float, float]
    exponent: Estimate | None


def local_exponents(points: Points) -> list[LocalExponent]:
    """One per two neighbouring sizes, smallest first; its interval is across draws, with one draw there is
    none.

    Unlike a window it asks for no factor A, which is beyond a float where two sizes are close together.
    """
    return [_between(points.of_sizes(ends), ends) for ends in pairwise(points.distinct_sizes)]


def _between(points: Points, ends: tuple[Number, Number]) -> LocalExponent:
    token_range = float(points.tokens.min()), float(points.tokens.max())
    return LocalExponent(ends, token_range, top_coefficients(points, points.log_ppl[None], 1)[0])
