"""The law of parameters and data together: L(N, D) = E + A / N^a + B / D^b, with what follows from it.

L = ln PPL in nats, N parameters, D training tokens (Hoffmann et al. 2022, "Training Compute-Optimal Large
Language Models", approach 3). It answers whether more parameters, more data, or both, lower the loss, and how
a budget is best divided between them.

Points are **cells**: one for each model size and data size, the mean of L over its runs. The errors of ln L
are taken for independent and Student's t with 4 degrees of freedom. The field minimises a Huber loss of ln L
with a threshold of 1e-3 for the same reason: single runs that are far off must not bend the law, and with
least squares they do (of the 240 points that Besiroglu et al. 2024 read off, least squares of L gives a b of
0.43, far from their 0.37). Student's t is a likelihood with a scale of its own: it knows no threshold that is
right for one noise only, and its profile gives the intervals.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from scipy.optimize import brentq, least_squares, nnls
from scipy.special import fdtri

from cvfp.records.errors import InputError
from cvfp.records.texts import N_
from cvfp.scaling.forms import BENDS, FormStatus
from cvfp.scaling.power_law import Number, Numbers, log_of_positive, student_quantile

FLOPS = 6.0
"""Of training, per parameter and token: 2 of the forward pass, 4 of the backward (Kaplan et al. 2020)."""
TAIL = 4.0
"""Degrees of freedom of the errors: the usual choice of robust regression (Lange et al. 1989)."""
GRID = 25
"""Exponents of the first grid, per axis."""
LEAST_SCALE = 1e-6
"""Of the errors of ln L: a millionth of the loss, which is about what tables are written with."""
TOLERANCE = 1e-12
"""Of the minimisation, relative: of points without noise the exponents come back to a relative 1e-8."""
PARAMETERS = 5
FEWEST = 3
"""Model sizes, and data sizes: an exponent, its coefficient and the floor."""

Reason = Literal["cells", "params", "tokens", "together", "E", "a", "b", "E zero", "flat in N", "flat in D"]
REASONS: dict[Reason, str] = {
    "cells": N_("no more cells of model size and data size than parameters of the law"),
    "params": N_("fewer than three model sizes"),
    "tokens": N_("fewer than three data sizes"),
    "together": N_("N and D move together"),
    "E": N_("the floor E cannot be told from none"),
    "a": N_("the exponent of N cannot be told"),
    "b": N_("the exponent of D cannot be told"),
    "E zero": N_("the best floor is E = 0"),
    "flat in N": N_("the loss does not follow a power law of N"),
    "flat in D": N_("the loss does not follow a power law of D"),
}
"""Why a law is not converged."""


# --- The cells: what a joint law is fitted to.


@dataclass(frozen=True, eq=False)
class JointCells:
    """The mean loss of each model size and data size: (n,) each; made by `joint_cells`."""

    params: np.ndarray
    tokens: np.ndarray
    loss: np.ndarray
    """Nats."""
    sizes: np.ndarray
    """What makes two cells of one data size: numbers of samples where tokens differ between draws."""

    def kept(self, keep: np.ndarray) -> JointCells:
        """Those marked with True (n,)."""
        return JointCells(self.params[keep], self.tokens[keep], self.loss[keep], self.sizes[keep])


def joint_cells(params: Numbers, tokens: Numbers, ppl: Numbers, sizes: Numbers | None = None) -> JointCells:
    """The cells of runs, (n,) values each, sorted by parameters and size: order of the runs does not matter.

    Args:
        params: parameters of the model, by whichever convention.
        tokens: training tokens; a cell has their geometric mean.
        ppl: perplexities.
        sizes: what makes two runs of one data size; None: the tokens.

    Raises:
        InputError: unequal lengths, no run, values that are not positive and finite, a perplexity of 1 or
            less, which has no loss above 0.
    """
    u, x, y = (
        np.atleast_1d(log_of_positive(values, name))
        for values, name in ((params, "params"), (tokens, "tokens"), (ppl, "ppl"))
    )
    size_of = np.exp(x) if sizes is None else np.asarray(sizes)
    if not len(u) == len(x) == len(y) == len(size_of) or len(u) == 0:
        counts = ", ".join(str(len(values)) for values in (u, x, y, size_of))
        raise InputError(f"params, tokens, ppl and sizes: one value each per run is needed, got {counts}")
    if (y <= 0).any():
        raise InputError(f"a law of the loss needs perplexities above 1, got {math.exp(y.min()):g}")
    members: dict[Hashable, list[int]] = {}
    for index, key in enumerate(zip(u.tolist(), size_of.tolist(), strict=True)):
        members.setdefault(key, []).append(index)
    found = [np.array(members[key]) for key in sorted(members)]  # pyright: ignore[reportArgumentType]
    first = np.array([cell[0] for cell in found])
    return JointCells(
        np.exp(u[first]),
        np.exp([x[cell].mean() for cell in found]),
        np.array([np.sort(y[cell]).mean() for cell in found]),
        size_of[first],
    )


# --- The law.


@dataclass(frozen=True)
class JointLaw:
    """L(N, D) = E + A / N^a + B / D^b in nats, with N parameters and D training tokens."""

    E: float
    p: float
    """A / N^a at the geometric mean of N, nats: A itself may be beyond a float."""
    q: float
    """B / D^b at the geometric mean of D, nats."""
    a: float
    b: float
    centre: tuple[float, float]
    """Means of ln N and ln D."""

    @property
    def A(self) -> float | None:
        """Nats; None beyond the range of a float."""
        return _finite(self.p, self.a * self.centre[0])

    @property
    def B(self) -> float | None:
        """Nats; None beyond the range of a float."""
        return _finite(self.q, self.b * self.centre[1])

    def loss(self, params: Number | Numbers, tokens: Number | Numbers) -> np.ndarray | np.number:
        """Nats, in the shape of both. Raises `InputError` where one is not positive and finite."""
        u = log_of_positive(params, "params") - self.centre[0]
        x = log_of_positive(tokens, "tokens") - self.centre[1]
        return self.E + self.p * np.exp(-self.a * u) + self.q * np.exp(-self.b * x)

    @property
    def share(self) -> float:
        """b / (a + b): the compute-optimal N grows as C^share, D as C^(1 - share)."""
        return self.b / (self.a + self.b)

    def best_params(self, budget: float) -> float:
        """ln N where the loss is lowest under 6 * N * D = budget: there a * A / N^a = b * B / D^b."""
        u, x = self.centre
        total = math.log(budget / FLOPS) - u - x
        gain = math.log(self.a * self.p / (self.b * self.q))
        return u + (gain + self.b * total) / (self.a + self.b)


def _finite(factor: float, log: float) -> float | None:
    with np.errstate(over="ignore"):
        value = float(factor * np.exp(log))
    return value if math.isfinite(value) else None


@dataclass(frozen=True)
class Optimum:
    """The model and the data that a budget is best spent on, with 95% profile intervals."""

    flops: float
    params: float
    tokens: float
    loss: float
    """Nats, by the law."""
    params_ci95: tuple[float, float] | None
    tokens_ci95: tuple[float, float] | None
    beyond: bool
    """Whether N or D lie beyond those that were measured."""


# --- The fit: a grid of the exponents by variable projection, then all parameters at once.


@dataclass(frozen=True, eq=False)
class _Chart:
    """A way to write the law with k parameters, (k,): all five, or four where one number is held.

    `theta` gives (E, p, q, a, b), `slopes` their derivatives (5, k), `chosen` the parameters nearest to given
    ones, `low` and `high` the bounds.
    """

    low: np.ndarray
    high: np.ndarray
    theta: Callable[[np.ndarray], np.ndarray]
    slopes: Callable[[np.ndarray], np.ndarray]
    chosen: Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class _Data:
    """Centred ln N and ln D, ln L, all (n,), and the bounds of (E, p, q, a, b)."""

    u: np.ndarray
    x: np.ndarray
    y: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def model(self, theta: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """This is `_log_loss` at the cells."""
        return _log_loss(theta, self.u, self.x)

    def least(self, chart: _Chart, scale: float, start: np.ndarray) -> tuple[float, np.ndarray]:
        """The lowest deviance, -2 ln likelihood of t errors of this scale, and the (E, p, q, a, b) there.

        Infinite where the law is beyond a float at the start.
        """

        def residuals(point: np.ndarray) -> np.ndarray:
            return (self.model(chart.theta(point))[0] - self.y) / scale

        def jacobian(point: np.ndarray) -> np.ndarray:
            return self.model(chart.theta(point))[1] @ chart.slopes(point) / scale

        begin = np.clip(chart.chosen(start), chart.low, chart.high)
        if not np.isfinite(residuals(begin)).all():
            return math.inf, start
        found = least_squares(
            residuals,
            begin,
            jacobian,  # pyright: ignore[reportArgumentType]
            (chart.low, chart.high),
            loss=_student,  # pyright: ignore[reportArgumentType]
            x_scale="jac",
            ftol=TOLERANCE,
            xtol=TOLERANCE,
            gtol=TOLERANCE,
            max_nfev=200,
        )
        return 2 * float(found.cost), chart.theta(found.x)

    def free(self) -> _Chart:
        """All five parameters."""
        return _Chart(self.low, self.high, lambda p: p, lambda _: np.eye(PARAMETERS), lambda theta: theta)

    def holding(self, index: int, value: float) -> _Chart:
        """One of (E, p, q, a, b) held."""
        others = np.arange(PARAMETERS) != index
        slopes = np.eye(PARAMETERS)[:, others]
        fixed = np.eye(PARAMETERS)[index] * value
        return _Chart(
            self.low[others],
            self.high[others],
            lambda p: slopes @ p + fixed,
            lambda _: slopes,
            lambda theta: theta[others],
        )

    def holding_share(self, share: float) -> _Chart:
        """b / (a + b) held: b = a * ratio."""
        ratio = share / (1 - share)
        low, high = self.low[:4].copy(), self.high[:4].copy()
        low[3], high[3] = max(low[3], self.low[4] / ratio), min(high[3], self.high[4] / ratio)
        slopes = np.vstack([np.eye(4), [0, 0, 0, ratio]])
        return _Chart(low, high, lambda p: slopes @ p, lambda _: slopes, lambda theta: theta[:4])

    def holding_optimum(self, u: float, x: float) -> _Chart:
        """That no other N and D of the same product have less loss than these, centred ln N and ln D.

        Then a * p * exp(-a * u) = b * q * exp(-b * x) = k, and the parameters are (E, k, a, b).
        """

        def theta(point: np.ndarray) -> np.ndarray:
            E, k, a, b = point
            return np.array([E, k * np.exp(a * u) / a, k * np.exp(b * x) / b, a, b])

        def slopes(point: np.ndarray) -> np.ndarray:
            _E, k, a, b = point
            of_p, of_q = np.exp(a * u) / a, np.exp(b * x) / b
            return np.array(
                [
                    [1, 0, 0, 0],
                    [0, of_p, k * of_p * (u - 1 / a), 0],
                    [0, of_q, 0, k * of_q * (x - 1 / b)],
                    [0, 0, 1, 0],
                    [0, 0, 0, 1],
                ]
            )

        def chosen(given: np.ndarray) -> np.ndarray:
            E, p, q, a, b = given
            return np.array([E, np.sqrt(a * p * np.exp(-a * u) * b * q * np.exp(-b * x)), a, b])

        kept = [0, 1, 3, 4]
        return _Chart(self.low[kept], self.high[kept], theta, slopes, chosen)


def _log_loss(theta: np.ndarray, u: np.ndarray, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """ln of the law (n,) at centred ln N and ln D (n,), and its derivatives by (E, p, q, a, b), (n, 5)."""
    E, p, q, a, b = theta
    phi, psi = np.exp(-a * u), np.exp(-b * x)
    loss = E + p * phi + q * psi
    slopes = np.stack([np.ones_like(phi), phi, psi, -p * u * phi, -q * x * psi], axis=1)
    return np.log(loss), slopes / loss[:, None]


def _student(squares: np.ndarray) -> np.ndarray:
    """The loss of squared residuals (n,) and its first two derivatives (3, n), as scipy wants them."""
    inside = 1 + squares / TAIL
    first = (TAIL + 1) / TAIL / inside
    return np.stack([(TAIL + 1) * np.log(inside), first, -first / TAIL / inside])


def _data(cells: JointCells) -> _Data:
    u, x = np.log(cells.params), np.log(cells.tokens)
    u, x = u - u.mean(), x - x.mean()
    low, high = (np.array([bend / np.ptp(one) for one in (u, x)]) for bend in BENDS)
    zeros, open_ends = np.zeros(3), np.full(3, np.inf)
    return _Data(u, x, np.log(cells.loss), np.append(zeros, low), np.append(open_ends, high))


def _grid(data: _Data) -> np.ndarray:
    """The best (E, p, q, a, b) on a grid of exponents, where the others are non-negative least squares.

    Variable projection (Golub & Pereyra 1973) of residuals over the loss: to first order those of ln L.
    """
    weight = np.exp(-data.y)
    target = np.ones_like(weight)
    best, found = math.inf, np.zeros(PARAMETERS)
    for a in np.geomspace(data.low[3], data.high[3], GRID):
        for b in np.geomspace(data.low[4], data.high[4], GRID):
            columns = np.stack([weight, weight * np.exp(-a * data.u), weight * np.exp(-b * data.x)], axis=1)
            coefficients, norm = nnls(columns, target)
            if norm < best:
                best, found = norm, np.array([*coefficients, a, b])
    return found


def _scale_of(residuals: np.ndarray, start: float) -> float:
    """The scale of t errors that leave these residuals (n,) about a law of five parameters.

    Its likelihood equation is sum(w * r^2) = n * s^2 with w = (nu + 1) / (nu + r^2 / s^2); n is less by the
    parameters, as a variance's divisor is.
    """
    scale, freedom = start, len(residuals) - PARAMETERS
    for _ in range(100):
        weights = (TAIL + 1) / (TAIL + (residuals / scale) ** 2)
        new = max(float(np.sqrt(np.sum(weights * residuals**2) / freedom)), LEAST_SCALE)
        if abs(math.log(new / scale)) < 1e-9:
            break
        scale = new
    return scale


def _fitted(data: _Data) -> tuple[np.ndarray, float, float]:
    """(E, p, q, a, b), the scale of the errors, and the deviance."""
    theta = _grid(data)
    residuals = data.model(theta)[0] - data.y
    scale = _scale_of(residuals, max(float(np.sqrt(np.mean(residuals**2))), LEAST_SCALE))
    deviance = math.inf
    for _ in range(50):
        deviance, theta = data.least(data.free(), scale, theta)
        new = _scale_of(data.model(theta)[0] - data.y, scale)
        if abs(math.log(new / scale)) < 1e-7:
            break
        scale = new
    return theta, scale, deviance


# --- What a fit is worth: status, profile intervals, the division of a budget.


NEAR = 1e-6
"""Share of the loss below which a part of the law is 0; of an exponent within which it is at its bound."""


@dataclass(frozen=True, eq=False)
class JointFit:
    """The law fitted to cells, with its status and its intervals.

    `status`:
        converged: the parameters are determined; only then do intervals and optima say anything.
        at_bound: the best floor is E = 0, or the loss does not fall with N or with D, or falls to its floor
            at once (an exponent at a bound of its search, `forms.BENDS`).
        not_identifiable: fewer than three model sizes or data sizes, no more cells than parameters, N and D
            that move together, or a 95% profile interval of E that reaches 0, of an exponent that reaches a
            bound.

    The 95% profile interval of a number holds the values at which the deviance (-2 ln likelihood, everything
    else refitted) is above its lowest by at most F, the 95% quantile of F(1, n - 5), at a scale of the errors
    that stays. Errors that cells share, as those of one seed, are not in it.
    """

    cells: JointCells
    law: JointLaw | None
    """None where there are too few cells or sizes for one."""
    scale: float
    """Of the errors of ln L, which are Student's t; 0 without a law."""
    status: FormStatus
    reason: Reason | None
    """Why it is not converged."""

    @property
    def parameters(self) -> dict[str, float | None]:
        """E, A, B, a, b by name; and `share`, b / (a + b), the exponent of the best N in the budget, which is
        None where the law is not converged.
        """
        if self.law is None:
            return {}
        found = {name: getattr(self.law, name) for name in ("E", "A", "B", "a", "b")}
        return found | {"share": self.law.share if self.status == "converged" else None}

    @cached_property
    def intervals(self) -> dict[str, tuple[float, float] | None]:
        """95% profile intervals of E, a, b and `share`; None where the law is not converged."""
        names = ("E", "a", "b", "share")
        if self.status != "converged" or self.law is None:
            return dict.fromkeys(names)
        data, law = self._data, self.law
        charts: dict[str, tuple[Callable[[float], _Chart], float, float]] = {
            "E": (lambda value: data.holding(0, value), 0.0, float(self.cells.loss.max())),
            "a": (lambda value: data.holding(3, value), float(data.low[3]), float(data.high[3])),
            "b": (lambda value: data.holding(4, value), float(data.low[4]), float(data.high[4])),
            "share": (data.holding_share, *_shares(data)),
        }
        return {
            name: self._profile(chart, getattr(law, name), low, high)
            for name, (chart, low, high) in charts.items()
        }

    def optimum(self, flops: Number) -> Optimum | None:
        """Where the loss is lowest under 6 * N * D = flops; None where the law is not converged.

        Raises:
            InputError: a budget that is not positive and finite, or so far from the data that the PPL is not.
        """
        total = float(log_of_positive(flops, "budget")) - math.log(FLOPS)
        if self.status != "converged" or self.law is None:
            return None
        law, (u, x) = self.law, self.law.centre
        best = law.best_params(float(flops))
        params, tokens = math.exp(best), math.exp(total - best)
        loss = float(law.loss(params, tokens))
        if loss > math.log(np.finfo(np.float64).max):
            raise InputError(f"budget: {flops:g} FLOPs is so far from the data that the PPL is not finite")

        def chart(log_params: float) -> _Chart:
            return self._data.holding_optimum(log_params - u, total - log_params - x)

        with np.errstate(over="ignore", invalid="ignore"):  # far off some exponents are beyond a float
            found = self._profile(chart, best, -math.inf, math.inf)
        cells = self.cells
        inside = (
            cells.params.min() <= params <= cells.params.max()
            and cells.tokens.min() <= tokens <= cells.tokens.max()
        )
        return Optimum(
            flops=float(flops),
            params=params,
            tokens=tokens,
            loss=loss,
            params_ci95=found and (math.exp(found[0]), math.exp(found[1])),
            tokens_ci95=found and (math.exp(total - found[1]), math.exp(total - found[0])),
            beyond=not inside,
        )

    def run_interval(self, params: np.ndarray, tokens: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Where the loss of one new cell falls with 95%, nats, (k,) each, by the delta method.

        The variance of ln L of a law with t errors is s^2 * (nu + 3) / (nu + 1) * g . (J^T J)^-1 g (Lange et
        al. 1989), g its derivatives; the new cell's own t error comes on top.
        """
        assert self.law is not None
        J, (u, x) = self._data.model(self._theta)[1], self.law.centre
        middle, g = _log_loss(self._theta, np.log(params) - u, np.log(tokens) - x)
        variance = (TAIL + 3) / (TAIL + 1) * np.einsum("ni,ij,nj->n", g, np.linalg.pinv(J.T @ J), g)
        freedom = min(TAIL, len(self.cells.loss) - PARAMETERS)
        reach = student_quantile(0.95, freedom) * self.scale * np.sqrt(1 + variance)
        return np.exp(middle - reach), np.exp(middle + reach)

    @cached_property
    def _data(self) -> _Data:
        return _data(self.cells)

    def _profile(
        self, chart: Callable[[float], _Chart], best: float, low: float, high: float
    ) -> tuple[float, float] | None:
        """The values of one number that the cells allow; None where they reach a bound."""
        lower, upper = self._end(chart, best, -1.0, low), self._end(chart, best, 1.0, high)
        return None if lower is None or upper is None else (lower, upper)

    def _end(self, chart: Callable[[float], _Chart], best: float, sign: float, bound: float) -> float | None:
        """How far the values go from the best one to the side of this sign."""
        data, limit, near = self._data, _limit(len(self.cells.loss)), self._theta
        lowest = data.least(data.free(), self.scale, near)[0]
        known: dict[float, float] = {}

        def excess(value: float) -> float:
            """Each value once: where a minimisation ends depends on where it begins."""
            nonlocal near
            if value not in known:
                deviance, near = data.least(chart(value), self.scale, near)
                known[value] = deviance - lowest - limit
            return known[value]

        step = _first_step(excess, best, sign, bound, limit)
        inner, outer = best, best + sign * step
        while sign * outer < sign * bound and excess(outer) < 0:
            inner, outer = outer, outer + sign * step
            step *= 2
        if sign * outer >= sign * bound or not excess(inner) < 0 <= excess(outer):
            return None
        return brentq(excess, inner, outer, xtol=1e-4 * abs(outer - best))  # pyright: ignore[reportReturnType]

    @cached_property
    def _theta(self) -> np.ndarray:
        law = self.law
        assert law is not None
        return np.array([law.E, law.p, law.q, law.a, law.b])


def _limit(n: int) -> float:
    return float(fdtri(1, n - PARAMETERS, 0.95))


def _shares(data: _Data) -> tuple[float, float]:
    """The bounds of b / (a + b)."""
    (a_low, b_low), (a_high, b_high) = data.low[3:].tolist(), data.high[3:].tolist()
    return b_low / (a_high + b_low), b_high / (a_low + b_high)


def _first_step(
    excess: Callable[[float], float], best: float, sign: float, bound: float, limit: float
) -> float:
    """About how far the interval reaches, as a parabola through a point close by says."""
    room = abs(bound - best)
    tiny = min(1e-3 * max(abs(best), 1e-3), room / 2)
    rise = max(excess(best + sign * tiny) + limit, 1e-12)
    return min(1.2 * tiny * math.sqrt(limit / rise), room / 2)


def fit_joint_law(cells: JointCells) -> JointFit:
    """The law of these cells. Where they cannot tell it, the status says so."""
    reason = _too_few(cells)
    if reason is not None:
        return JointFit(cells, None, 0.0, "not_identifiable", reason)
    data = _data(cells)
    theta, scale, deviance = _fitted(data)
    centre = float(np.log(cells.params).mean()), float(np.log(cells.tokens).mean())
    E, p, q, a, b = theta.tolist()
    law = JointLaw(E, p, q, a, b, centre)
    reason = _bound(data, theta)
    if reason is not None:
        return JointFit(cells, law, scale, "at_bound", reason)
    reason = _not_told(data, theta, scale, deviance)
    return JointFit(cells, law, scale, "converged" if reason is None else "not_identifiable", reason)


def _too_few(cells: JointCells) -> Reason | None:
    if len(np.unique(cells.params)) < FEWEST:
        return "params"
    if len(np.unique(cells.sizes)) < FEWEST:
        return "tokens"
    if len(cells.loss) <= PARAMETERS:
        return "cells"
    u, x = np.log(cells.params), np.log(cells.tokens)
    left = x - np.polyval(np.polyfit(u, x, 1), u)
    return "together" if np.ptp(left) < 1e-3 * np.ptp(x) else None


def _bound(data: _Data, theta: np.ndarray) -> Reason | None:
    """Which parameter is at a bound of its search."""
    loss = math.exp(data.y.min())
    edge = (theta <= data.low * (1 + 1e-3)) | (theta >= data.high * (1 - 1e-3))
    zero = theta < NEAR * loss
    if edge[3] or zero[1]:
        return "flat in N"
    if edge[4] or zero[2]:
        return "flat in D"
    return "E zero" if zero[0] else None


def _not_told(data: _Data, theta: np.ndarray, scale: float, deviance: float) -> Reason | None:
    """Which parameter may as well be at a bound."""
    limit = _limit(len(data.y))
    asked: list[tuple[Reason, int, list[float]]] = [
        ("a", 3, [data.low[3], data.high[3]]),
        ("b", 4, [data.low[4], data.high[4]]),
        ("E", 0, [0.0]),
    ]
    for reason, index, values in asked:
        for value in values:
            if data.least(data.holding(index, value), scale, theta)[0] - deviance <= limit:
                return reason
    return None


# --- Would it have known: the largest data sizes hidden, and the largest model.


@dataclass(frozen=True, eq=False)
class JointHoldout:
    """The law of some cells, held to those that it has not seen. All but `fit` and `hidden` are None where it
    is not converged.
    """

    fit: JointFit
    hidden: JointCells
    rms: float | None
    """Root mean square of predicted - measured loss, nats."""
    bias: float | None
    """Mean of predicted - measured loss, nats."""
    held: int | None
    """Hidden cells that lie in their 95% interval (`JointFit.run_interval`)."""


def hold_out_tokens(cells: JointCells, hide: int) -> JointHoldout | None:
    """A hold-out of the `hide` largest data sizes; None where no cell is left.

    Raises:
        InputError: `hide` below 1.
    """
    if hide < 1:
        raise InputError(f"holdout: must be at least 1 size, got {hide}")
    by_size = sorted(set(cells.sizes.tolist()))[:-hide]
    return _hold_out(cells, np.isin(cells.sizes, by_size))


def hold_out_params(cells: JointCells) -> JointHoldout | None:
    """A hold-out of the largest model size; None where no cell is left."""
    return _hold_out(cells, cells.params < cells.params.max())


def _hold_out(cells: JointCells, known: np.ndarray) -> JointHoldout | None:
    if not known.any():
        return None
    fit, hidden = fit_joint_law(cells.kept(known)), cells.kept(~known)
    if fit.law is None or fit.status != "converged":
        return JointHoldout(fit, hidden, None, None, None)
    errors = fit.law.loss(hidden.params, hidden.tokens) - hidden.loss
    low, high = fit.run_interval(hidden.params, hidden.tokens)
    held = int(np.sum((low <= hidden.loss) & (hidden.loss <= high)))
    return JointHoldout(fit, hidden, float(np.sqrt(np.mean(errors**2))), float(np.mean(errors)), held)


# --- Two conventions of counting parameters: where the answer depends on which.


def differing(first: JointFit, second: JointFit, flops: Number | None = None) -> list[str]:
    """Names of what two fits to the same runs say differently: "status", of parameters E, a, b and share, of
    the best number of tokens of a budget ("tokens").

    Numbers differ where each lies outside of the other's 95% interval: the fits share their errors, so that
    no test of a difference is meant.
    """
    if first.status != second.status:
        return ["status"]
    if first.status != "converged":
        return []
    names = [
        name
        for name in first.intervals
        if _apart(
            first.parameters[name], first.intervals[name], second.parameters[name], second.intervals[name]
        )
    ]
    one, other = (None if flops is None else fit.optimum(flops) for fit in (first, second))
    if one is None or other is None:
        return names
    apart = _apart(one.tokens, one.tokens_ci95, other.tokens, other.tokens_ci95)
    return [*names, "tokens"] if apart else names


def _apart(
    one: float | None,
    one_ci: tuple[float, float] | None,
    other: float | None,
    other_ci: tuple[float, float] | None,
) -> bool:
    if one is None or other is None or one_ci is None or other_ci is None:
        return False
    return not (one_ci[0] <= other <= one_ci[1]) and not (other_ci[0] <= one <= other_ci[1])
