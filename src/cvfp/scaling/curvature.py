"""Does the exponent change with size: the coefficient of (ln D)^2 in ln PPL."""

from __future__ import annotations

from typing import Literal

import numpy as np

from cvfp.scaling.estimate import Estimate, across_draws, along_line
from cvfp.scaling.points import Points

Bend = Literal["curved", "straight within error", "not testable"]


def curvature(points: Points) -> Estimate | None:
    """q of ln PPL = a + b * x + q * x^2, x = ln D, by least squares; positive where the law flattens.

    q = w . ln PPL with w = z / (z . z), z being x^2 without its part in 1 and x. Several draws: one q each,
    and Student's t across them. One: q -+ t * s / sqrt(z . z), with s^2 = RSS / (n - 3) and t at n - 3
    degrees of freedom; it holds for independent, equal noise.

    None where the units of inference (`Points.units`) have fewer than three sizes.
    """
    return curvatures(points, points.log_ppl[None])[0]


def curvatures(points: Points, rows: np.ndarray) -> list[Estimate | None]:
    """`curvature` of each row (m, n) of other values of ln PPL at these points."""
    units = points.units(3)
    if points.fewest_sizes(units) < 3:
        return [None] * len(rows)
    if len(units) > 1:
        return [
            across_draws(row) for row in np.stack([_fit(points, rows, unit)[0] for unit in units], axis=1)
        ]
    (unit,) = units
    values, rss, norm = _fit(points, rows, unit)
    dof = len(unit) - 3
    variances = rss / max(dof, 1) / norm
    return [along_line(float(q), float(v), dof) for q, v in zip(values, variances, strict=True)]


def bend(estimate: Estimate | None) -> Bend:
    """The verdict on `curvature`, from its 95% interval."""
    if estimate is None or estimate.sign is None:
        return "not testable"
    return "curved" if estimate.sign != 0 else "straight within error"


def curvature_weights(log_tokens: np.ndarray) -> np.ndarray:
    """w (n,) with q = w . ln PPL, of points of at least three sizes."""
    z = _quadratic_part(log_tokens)
    return z / (z @ z)


def _fit(points: Points, rows: np.ndarray, unit: np.ndarray) -> tuple[np.ndarray, np.ndarray, float]:
    """q and RSS of each row, (m,), and z . z."""
    x, y = points.log_tokens[unit], rows[:, unit]
    z, dx = _quadratic_part(x), x - x.mean()
    dy = y - y.mean(axis=1, keepdims=True)
    q = y @ z / (z @ z)
    residuals = dy - np.outer(dy @ dx / (dx @ dx), dx) - np.outer(q, z)
    return q, (residuals**2).sum(axis=1), float(z @ z)


def _quadratic_part(x: np.ndarray) -> np.ndarray:
    """x^2 without its least-squares part in 1 and x, (n,)."""
    dx = x - x.mean()
    square = dx**2 - np.mean(dx**2)
    return square - (square @ dx) / (dx @ dx) * dx
