"""The one forecast of a line: what may be said of it beyond its data, or why nothing may.

All seeds are fitted at once. A point is the curve at its tokens plus an error,

    ln PPL_ds = f(ln D_ds) + e_ds,    sd(e) = s * exp(g * (ln D - mean)),    corr(e_ds, e_dt) = rho^|log2 D_s
    / D_t|,

independent between seeds d: the sizes of a seed are nested, so its errors go together, and small sizes
scatter more. (g, rho) are not known: the errors about the means of the sizes weigh a grid of them by
restricted likelihood (Patterson & Thompson 1971), and everything is averaged over the grid. So a seed with
two sizes weighs what it knows.

f is each of the three forms (`cvfp.scaling.forms`) in turn, by generalised least squares; the exponent of a
power law of the loss is averaged over its likelihood. A form is **adequate** where the curve misses the
means of the sizes by no more than their error explains (lack of fit, F test; with one seed, which has no
such error, a form is held against the one with a floor). The forecast is the **envelope** of the adequate
forms: from the lowest lower to the highest upper end of their intervals. Where none is adequate nothing is
forecast.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from scipy.optimize import brentq
from scipy.special import fdtrc, stdtr, stdtrit

from cvfp.records.errors import InputError
from cvfp.records.texts import N_
from cvfp.scaling.forms import BENDS, NUM_PARAMETERS, ROUNDING, FormName, possible_forms
from cvfp.scaling.points import Points
from cvfp.scaling.power_law import Number, Numbers, log_of_positive

GROWTHS = (-0.9, -0.6, -0.3, 0.0)
"""g, per unit of ln D: from errors that fall as 1/D to equal ones."""
CORRELATIONS = (0.0, 0.3, 0.6, 0.8)
"""rho, per doubling of the data."""
ADEQUATE = 0.15
"""p of the lack of fit from which a form is adequate. Measured (`docs/explanation/statistics.md`): with it a
curve with a knee is refused in 92 to 100% of cases with three seeds, a true form in 4 to 12%."""
FEWEST = 4
"""Sizes: a form with a floor has three parameters."""
EXPONENTS, ZOOMS = 241, 3
"""Values of an exponent that are averaged over, and how often the grid is narrowed to where they count."""
COUNTED = 200.0
"""Drop of the weighted sum of squares, in units of s^2, beyond which an exponent does not count."""
NEGLIGIBLE = 1e-6
LEAST_NEW = 1e-9
"""Variance of an error that is not carried over from the size before, as a share: above rounding."""
FARTHEST = 1e4
"""Nats; exp of more than 710 is beyond a float."""
LEAST_ERROR = 1e-12
"""Nats: far from the data an error can be too small for a float."""

Refusal = Literal["sizes", "seed", "fit"]
REFUSALS: dict[Refusal, str] = {
    "sizes": N_("fewer than four sizes"),
    "seed": N_("one seed with fewer than five sizes"),
    "fit": N_("no form of the law fits within error"),
}
"""Why a forecast is refused."""


@dataclass(frozen=True)
class Extrapolated:
    """PPL at a size, with the 95% interval of the law, and that of one new run (its error comes on top)."""

    tokens: float
    ppl: float
    low: float
    high: float
    run_low: float
    run_high: float


@dataclass(frozen=True, eq=False)
class Mixture:
    """The loss of one form at any size: Student's t of `dof` around m candidates, with their weights.

    A candidate has an exponent `beta` (m,), coefficients (m, p) and their covariance (m, p, p) of [1, x] for
    the power law, of [exp(-beta * x)] or [1, exp(-beta * x)] for those of the loss, x = ln D - centre.
    """

    form: FormName
    lack_of_fit: float
    """p."""
    weights: np.ndarray
    beta: np.ndarray
    coefficients: np.ndarray
    covariance: np.ndarray
    error: np.ndarray
    """Variance of one new run at the largest size, (m,)."""
    dof: float

    def at(self, x: float, level: float = 0.95) -> tuple[float, float, float, float, float]:
        """Median, ends of the interval of the law, ends of that of one new run; nats."""
        with np.errstate(over="ignore", invalid="ignore"):  # what is beyond float64 has no finite quantile
            basis = design(self.form, self.beta, np.array([x]))[:, 0]
            centre = np.einsum("mp,mp->m", basis, self.coefficients)
            variance = np.einsum("mp,mpq,mq->m", basis, self.covariance, basis)
        tail = (1 - level) / 2
        median, low, high = (self._quantile(q, centre, np.sqrt(variance)) for q in (0.5, tail, 1 - tail))
        whole = np.sqrt(variance + self.error)
        return median, low, high, self._quantile(tail, centre, whole), self._quantile(1 - tail, centre, whole)

    def _quantile(self, q: float, centre: np.ndarray, error: np.ndarray) -> float:
        """Nats, from -`FARTHEST`; infinite beyond `FARTHEST`."""
        if not np.isfinite(centre + error).all():
            return np.inf
        error = np.maximum(error, LEAST_ERROR)

        def excess(z: float) -> float:
            return float(self.weights @ stdtr(self.dof, (z - centre) / error)) - q

        ends = centre + stdtrit(self.dof, q) * error  # a mixture's quantile lies between those of its parts
        low, high = max(float(ends.min()), -FARTHEST), min(float(ends.max()), FARTHEST)
        if low >= FARTHEST:
            return np.inf
        if high <= low or excess(low) >= 0:
            return low
        if excess(high) <= 0:
            return high if high < FARTHEST else np.inf
        root: Any = brentq(excess, low, high, xtol=1e-10, maxiter=1000)
        return float(root)


@dataclass(frozen=True, eq=False)
class Outlook:
    """What may be said of a line beyond its data; `refused` says why nothing may."""

    refused: Refusal | None
    forms: tuple[Mixture, ...]
    """The adequate ones."""
    centre: float
    tried: dict[FormName, float]
    """p of the lack of fit of every form that was tried."""

    def fits(self, form: FormName) -> bool:
        """Whether a form was tried and is adequate."""
        return self.tried.get(form, 0.0) >= ADEQUATE

    def at(self, tokens: Number) -> Extrapolated | None:
        """The forecast at so many training tokens; None where it is refused.

        Raises:
            InputError: a token count that is not positive and finite, or so far from the data that the PPL
                is not finite.
        """
        x = float(log_of_positive(tokens, "tokens")) - self.centre
        if self.refused is not None:
            return None
        found = np.array([form.at(x) for form in self.forms])
        weights = np.array([form.lack_of_fit for form in self.forms])
        median = float(weights @ found[:, 0] / weights.sum())
        low, high, run_low, run_high = (
            max(float(ends), 0.0)
            for ends in (found[:, 1].min(), found[:, 2].max(), found[:, 3].min(), found[:, 4].max())
        )
        with np.errstate(over="ignore"):
            values = np.exp([max(median, 0.0), low, high, run_low, run_high])
        if not np.isfinite(values[0]):
            raise InputError(f"tokens: {tokens:g} is so far from the data that the forecast is not finite")
        return Extrapolated(float(tokens), *map(float, values))

    def predict(self, tokens: Number | Numbers) -> np.ndarray:
        """PPL in the shape of `tokens`, where it is not refused."""
        return self._each(tokens, "ppl")

    def prediction_interval(
        self, tokens: Number | Numbers, level: float = 0.95
    ) -> tuple[np.ndarray, np.ndarray]:
        """The ends of the 95% interval of one new run, where it is not refused."""
        assert level == 0.95
        return self._each(tokens, "run_low"), self._each(tokens, "run_high")

    def _each(self, tokens: Number | Numbers, name: str) -> np.ndarray:
        asked = np.asarray(tokens, dtype=np.float64)
        return np.array([getattr(self.at(one), name) for one in asked.ravel().tolist()]).reshape(asked.shape)


def outlook(points: Points) -> Outlook:
    """The forecast of a line from its points, initialisations of one draw averaged before.

    Everything but the scale of the tokens is free of the order of points and of what seeds are called.
    """
    sizes, ranks = np.unique(points.sizes, return_inverse=True)
    centre = float(points.log_tokens.mean())
    if len(sizes) < FEWEST:
        return Outlook("sizes", (), centre, {})
    if len(set(points.draws)) > 1 and len(points.tokens) > len(sizes):
        noises = _noises(points, ranks)
        fitted = [_averaged(points, form, noises, len(sizes)) for form in possible_forms(points)]
    elif len(points.tokens) > FEWEST:  # one seed at each size: nothing tells errors but the line
        fitted = _of_one_seed(points)
    else:
        return Outlook("seed", (), centre, {})
    tried: dict[FormName, float] = {one.form: one.lack_of_fit for one in fitted}
    adequate = tuple(one for one in fitted if one.lack_of_fit >= ADEQUATE)
    return Outlook(None if adequate else "fit", adequate, centre, tried)


def design(form: FormName, beta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """What the coefficients of a form are multiplied with, (m, n, p), at exponents (m,) and x (n,)."""
    if form == "ppl_power":
        return np.broadcast_to(np.stack([np.ones_like(x), x], axis=1), (len(beta), len(x), 2))
    falling = np.exp(-beta[:, None] * x)
    if form == "loss_power":
        return falling[:, :, None]
    return np.stack([np.ones_like(falling), falling], axis=2)


# --- The error about the means of the sizes: a grid of what it may be like, with weights.


@dataclass(frozen=True, eq=False)
class _Errors:
    """Errors of n points in units of s: each is `carried` times the one before it in its draw (both over
    their `scale`), and a new part. A chain: what makes them independent and equal takes n steps.
    """

    order: np.ndarray
    """The points by draw, smallest size first, (n,); the others are in this order."""
    scale: np.ndarray
    """Standard deviation, (n,)."""
    carried: np.ndarray
    """Correlation with the error before it, (n,); 0 at the smallest size of a draw."""

    def whitened(self, values: np.ndarray) -> np.ndarray:
        """What of `values` (..., n, p) is left when the errors are made independent and equal."""
        scaled = values[..., self.order, :] / self.scale[:, None]
        before = np.roll(scaled, 1, axis=-2)
        return (scaled - self.carried[:, None] * before) / self._new[:, None]

    @property
    def log_determinant(self) -> float:
        """The logarithm of the determinant of their covariance, s being 1."""
        return 2 * float(np.log(self.scale * self._new).sum())

    @property
    def _new(self) -> np.ndarray:
        """Standard deviation of the new part, over `scale`; sizes next to each other have next to none."""
        return np.sqrt(np.maximum(1 - self.carried**2, LEAST_NEW))


def _equal_errors(count: int) -> _Errors:
    return _Errors(np.arange(count), np.ones(count), np.zeros(count))


@dataclass(frozen=True, eq=False)
class _Noise:
    """One (g, rho): its errors, what is left of the points about the means of the sizes, its likelihood."""

    errors: _Errors
    rest: float
    """Sum of squares about the means of the sizes."""
    dof: int
    log_weight: float
    at_largest: float
    """Variance at the largest size, in units of s^2."""

    @property
    def variance(self) -> float:
        """s^2."""
        return max(self.rest / self.dof, ROUNDING**2)


def _noises(points: Points, ranks: np.ndarray) -> list[_Noise]:
    x, y = points.log_tokens, points.log_ppl
    number, count = len(x), int(ranks.max()) + 1
    belongs = np.eye(count)[ranks]
    per_size = belongs.sum(axis=0)
    means_x, means_y = belongs.T @ x / per_size, belongs.T @ y / per_size
    # Draws of one size differ in tokens: they are compared along the slope of the line.
    level = y - np.polyfit(means_x, means_y, 1)[0] * (x - means_x[ranks])
    names = {draw: index for index, draw in enumerate(dict.fromkeys(points.draws))}
    draw = np.array([names[one] for one in points.draws])
    order = np.lexsort([ranks, draw])
    follows = np.diff(draw[order], prepend=-1) == 0
    doublings = np.abs(np.diff(means_x[ranks[order]], prepend=0.0)) / np.log(2)
    found = []
    for growth in GROWTHS:
        scale = np.exp(growth * (means_x - means_x.mean()))
        for rho in CORRELATIONS:
            errors = _Errors(order, scale[ranks[order]], np.where(follows, rho**doublings, 0.0))
            basis, root = np.linalg.qr(errors.whitened(belongs))
            target, dof = errors.whitened(level[:, None])[:, 0], number - count
            rest = float(np.sum((target - basis @ (basis.T @ target)) ** 2))
            log_weight = -0.5 * (
                dof * np.log(max(rest, dof * ROUNDING**2))
                + errors.log_determinant
                + 2 * np.log(np.abs(np.diag(root))).sum()
            )
            found.append(_Noise(errors, rest, dof, float(log_weight), float(scale[-1] ** 2)))
    return found


# --- A form under each of these errors, averaged.


@dataclass(frozen=True, eq=False)
class _Fits:
    """A form at m exponents under one error."""

    beta: np.ndarray
    rss: np.ndarray
    coefficients: np.ndarray
    inverse: np.ndarray


def _averaged(points: Points, form: FormName, noises: Sequence[_Noise], sizes: int) -> Mixture:
    x, y = points.log_tokens - points.log_tokens.mean(), points.log_ppl
    shift = max(noise.log_weight for noise in noises)
    prior = np.exp(np.array([noise.log_weight for noise in noises]) - shift)
    prior /= prior.sum()
    parts, p = [], NUM_PARAMETERS[form]
    lack = 0.0
    for weight, noise in zip(prior, noises, strict=True):
        fits = _fits(form, x, y, noise.errors, noise.variance)
        more = max(float(fits.rss.min()) - noise.rest, 0.0)
        lack += weight * float(fdtrc(sizes - p, noise.dof, more / (sizes - p) / noise.variance))
        parts.append((weight, fits, noise.variance, noise.at_largest, max(noise.rest, noise.variance)))
    dof = noises[0].dof
    return _mixture(form, lack, parts, dof, dof + sizes - p)


def _of_one_seed(points: Points) -> list[Mixture]:
    """Fits with equal, independent errors, whose size the form with a floor leaves."""
    x, y = points.log_tokens - points.log_tokens.mean(), points.log_ppl
    forms = possible_forms(points)
    widest = forms[-1]
    dof = len(x) - NUM_PARAMETERS[widest]
    equal = _equal_errors(len(x))
    whole = _fits(widest, x, y, equal, ROUNDING**2)
    rest = float(whole.rss.min())
    variance = max(rest / dof, ROUNDING**2)
    found = []
    for form in forms:
        fits = _fits(form, x, y, equal, variance)
        fewer = NUM_PARAMETERS[widest] - NUM_PARAMETERS[form]
        more = max(float(fits.rss.min()) - rest, 0.0)
        lack = 1.0 if fewer == 0 else float(fdtrc(fewer, dof, more / fewer / variance))
        parts = [(1.0, fits, variance, 1.0, max(rest, variance))]
        found.append(_mixture(form, lack, parts, dof, len(x) - NUM_PARAMETERS[form]))
    return found


def _fits(form: FormName, x: np.ndarray, y: np.ndarray, errors: _Errors, variance: float) -> _Fits:
    """Least squares at the exponents that count; they are found on a grid that is narrowed to them."""
    target = errors.whitened(y[:, None])[:, 0]

    def solved(beta: np.ndarray) -> _Fits:
        return _solved(beta, errors.whitened(design(form, beta, x)), target)

    if form == "ppl_power":
        return solved(np.zeros(1))
    low, high = (bend / np.ptp(x) for bend in BENDS)
    for _zoom in range(ZOOMS):
        grid = np.geomspace(low, high, EXPONENTS)
        rss = solved(grid).rss
        near = np.flatnonzero(rss - rss.min() <= COUNTED * variance)
        low, high = grid[max(near[0] - 1, 0)], grid[min(near[-1] + 1, EXPONENTS - 1)]
    return solved(np.geomspace(low, high, EXPONENTS))


def _solved(beta: np.ndarray, basis: np.ndarray, target: np.ndarray) -> _Fits:
    inverse = np.linalg.pinv(np.einsum("mni,mnj->mij", basis, basis), hermitian=True)
    coefficients = np.einsum("mij,mnj,n->mi", inverse, basis, target)
    rest = target - np.einsum("mnp,mp->mn", basis, coefficients)
    return _Fits(beta, np.sum(rest**2, axis=1), coefficients, inverse)


def _mixture(
    form: FormName,
    lack_of_fit: float,
    parts: Sequence[tuple[float, _Fits, float, float, float]],
    dof: int,
    power: int,
) -> Mixture:
    """All candidates of all errors, weighed; what has no weight is left out.

    None of them, and a p of 0, where errors of most of the weight leave no candidate.
    """
    weights, betas, coefficients, covariances, errors = [], [], [], [], []
    counted = 0.0
    for weight, fits, variance, at_largest, rest in parts:
        likelihood = (1 + (fits.rss - fits.rss.min()) / rest) ** (-0.5 * (power + 1))
        if form == "loss_floor":  # E and B are not below 0
            error = np.sqrt(variance * fits.inverse[:, 0, 0])
            likelihood = (
                likelihood * stdtr(dof, fits.coefficients[:, 0] / error) * (fits.coefficients[:, 1] > 0)
            )
        if likelihood.sum() <= 0:
            continue
        counted += weight
        weights.append(weight * likelihood / likelihood.sum())
        betas.append(fits.beta)
        coefficients.append(fits.coefficients)
        covariances.append(variance * fits.inverse)
        errors.append(np.full(len(fits.beta), variance * at_largest))
    if counted < 0.5:  # most say that the loss does not fall to a floor above 0
        empty = np.zeros(0)
        return Mixture(form, 0.0, empty, empty, empty, empty, empty, float(dof))
    joined = np.concatenate(weights)
    kept = joined > NEGLIGIBLE * joined.max()
    return Mixture(
        form,
        lack_of_fit,
        joined[kept] / joined[kept].sum(),
        np.concatenate(betas)[kept],
        np.concatenate(coefficients)[kept],
        np.concatenate(covariances)[kept],
        np.concatenate(errors)[kept],
        float(dof),
    )
