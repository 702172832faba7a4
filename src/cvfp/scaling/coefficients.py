"""The highest coefficient of a polynomial of ln D that ln PPL follows: slopes and curvatures of many rows."""

from __future__ import annotations

import numpy as np

from cvfp.scaling.estimate import Estimate, across_draws, along_line
from cvfp.scaling.points import Points


def top_coefficients(points: Points, rows: np.ndarray, degree: int) -> list[Estimate | None]:
    """q of ln PPL = ... + q * x^degree, x = ln D, by least squares, for each row of `rows`.

    q = w . ln PPL with w = z / (z . z), z being x^degree without its part in the lower powers. Several draws
    (`Points.units`): one q each, and Student's t across them. One: q -+ t * s / sqrt(z . z), with s^2 = RSS /
    (n - degree - 1) and t at as many degrees of freedom; it holds for independent, equal noise.

    Args:
        points: of one line.
        rows: values of ln PPL at these points, nats, (m, n).
        degree: 1 for the exponent, 2 for the curvature.

    Returns:
        One per row; None where the units have no more sizes than `degree`.
    """
    units = points.units(degree + 1)
    distinct = [len(np.unique(values[unit])) for unit in units for values in (points.sizes, points.tokens)]
    if min(distinct) <= degree:
        return [None] * len(rows)
    fits = [_fit(points.log_tokens[unit], rows[:, unit], degree) for unit in units]
    if len(fits) > 1:
        return [across_draws(values) for values in np.stack([q for q, _ in fits], axis=1)]
    ((values, variances),) = fits
    dof = len(units[0]) - degree - 1
    return [along_line(float(q), float(v), dof) for q, v in zip(values, variances, strict=True)]


def top_weights(log_tokens: np.ndarray, degree: int) -> np.ndarray:
    """w (n,) with q = w . ln PPL along one line."""
    z = _top_part(*_powers(log_tokens, degree))
    return z / (z @ z)


def _fit(x: np.ndarray, y: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """q (m,) and the variance of its error (m,); 0 degrees of freedom are taken for 1."""
    lower, top = _powers(x, degree)
    z = _top_part(lower, top)
    q = y @ z / (z @ z)
    residuals = y - y @ lower @ lower.T - np.outer(q, z)
    return q, (residuals**2).sum(axis=1) / max(len(x) - degree - 1, 1) / (z @ z)


def _powers(x: np.ndarray, degree: int) -> tuple[np.ndarray, np.ndarray]:
    """An orthonormal basis (n, degree) of the powers of x below `degree`, and (x - mean)^degree, (n,)."""
    centred = x - x.mean()
    return np.linalg.qr(np.vander(centred, degree, increasing=True))[0], centred**degree


def _top_part(lower: np.ndarray, top: np.ndarray) -> np.ndarray:
    return top - lower @ (lower.T @ top)
