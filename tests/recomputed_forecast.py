"""The one forecast of a curve a second time: multivariate normals over a fixed grid of exponents.

`cvfp.scaling.outlook` whitens, narrows its grid of exponents and leaves out what weighs nothing; here the
covariance of the errors is inverted as it stands, every exponent of one fine grid is kept, and an end of an
interval is where the distribution function of scipy's mixture crosses the level.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
from scipy import linalg, optimize, stats

GROWTHS, CORRELATIONS = (-0.9, -0.6, -0.3, 0.0), (0.0, 0.3, 0.6, 0.8)
BENDS = (1e-3, 20.0)
EXPONENTS = 1500
ADEQUATE = 0.15
FORMS = {"power": 2, "falling": 2, "floor": 3}


def forecasts(points: list[dict], tokens: list[float]) -> list[tuple[float, ...]] | None:
    """(PPL, ends of the interval of the law, ends of that of one new run) at each size; None if refused.

    For several seeds with two points each at least.
    """
    sizes = sorted({p["num_samples"] for p in points})
    if len(sizes) < 4:
        return None
    x = np.log([p["train_tokens"] for p in points])
    y = np.log([p["val_ppl"] for p in points])
    rank = np.array([sizes.index(p["num_samples"]) for p in points])
    seed = np.array([p["seed"] for p in points])
    errors = [_error(x, y, rank, seed, g, rho) for g, rho in itertools.product(GROWTHS, CORRELATIONS)]
    chances = np.exp(np.array([e["log_likelihood"] for e in errors]))
    fitted = [_fitted(form, x - x.mean(), y, errors, chances / chances.sum(), len(sizes)) for form in FORMS]
    adequate = [form for form in fitted if form["p"] >= ADEQUATE]
    if not adequate:
        return None
    return [_envelope(adequate, math.log(one) - x.mean()) for one in tokens]


def _error(x, y, rank, seed, growth: float, rho: float) -> dict[str, Any]:
    """What errors are like by one (g, rho): restricted likelihood about the means of the sizes."""
    count = rank.max() + 1
    centre = np.array([x[rank == r].mean() for r in range(count)])
    height = np.array([y[rank == r].mean() for r in range(count)])
    level = y - stats.linregress(centre, height).slope * (x - centre[rank])
    scale = np.exp(growth * (centre - centre.mean()))
    covariance = np.array(
        [
            [
                (seed[i] == seed[j])
                * rho ** (abs(centre[rank[i]] - centre[rank[j]]) / math.log(2))
                * scale[rank[i]]
                * scale[rank[j]]
                for j in range(len(x))
            ]
            for i in range(len(x))
        ]
    )
    precision = linalg.inv(covariance)
    means = np.eye(count)[rank]
    information = means.T @ precision @ means
    residual = level - means @ linalg.solve(information, means.T @ precision @ level)
    rest, dof = residual @ precision @ residual, len(x) - count
    log_det = np.linalg.slogdet(covariance)[1] + np.linalg.slogdet(information)[1]
    return {
        "precision": precision,
        "rest": rest,
        "dof": dof,
        "variance": rest / dof,
        "top": scale[-1] ** 2,
        "log_likelihood": -0.5 * (dof * math.log(rest) + log_det),
    }


def _basis(form: str, beta: np.ndarray, x: np.ndarray) -> np.ndarray:
    """(exponents, points, parameters)."""
    falling = np.exp(-np.multiply.outer(beta, x))
    columns = {
        "power": [np.ones_like(falling), np.broadcast_to(x, falling.shape)],
        "falling": [falling],
        "floor": [np.ones_like(falling), falling],
    }
    return np.stack(columns[form], axis=2)


def _fitted(form: str, x, y, errors: list[dict], chances, sizes: int) -> dict[str, Any]:
    """Lack of fit, and every (exponent, error) as a Student's t with its weight."""
    parameters = FORMS[form]
    low, high = np.log(BENDS) - math.log(np.ptp(x))
    beta = np.zeros(1) if form == "power" else np.exp(np.linspace(low, high, EXPONENTS))
    basis = _basis(form, beta, x)
    candidates, lack = [], 0.0
    for chance, error in zip(chances, errors, strict=True):
        weighed = np.swapaxes(basis, 1, 2) @ error["precision"]
        inverse = np.linalg.pinv(weighed @ basis, hermitian=True)
        coefficients = np.squeeze(inverse @ (weighed @ y)[:, :, None], 2)
        residual = y - np.squeeze(basis @ coefficients[:, :, None], 2)
        rss = np.sum((residual @ error["precision"]) * residual, axis=1)
        least = rss.min()
        misses = (least - error["rest"]) / (sizes - parameters) / error["variance"]
        lack += chance * stats.f.sf(max(misses, 0.0), sizes - parameters, error["dof"])
        weights = (1 + (rss - least) / error["rest"]) ** (-0.5 * (error["dof"] + sizes - parameters + 1))
        if form == "floor":
            floor = coefficients[:, 0] / np.sqrt(error["variance"] * inverse[:, 0, 0])
            weights = weights * stats.t.cdf(floor, error["dof"]) * (coefficients[:, 1] > 0)
        if weights.sum() > 0:
            candidates.append((chance * weights / weights.sum(), coefficients, inverse, error))
    return {"form": form, "beta": beta, "p": lack if candidates else 0.0, "candidates": candidates}


def _envelope(forms: list[dict], x: float) -> tuple[float, ...]:
    ends = np.array([_ends(form, x) for form in forms])
    adequacy = np.array([form["p"] for form in forms])
    median = adequacy @ ends[:, 0] / adequacy.sum()
    (low, run_low), (high, run_high) = ends[:, 1::2].min(axis=0), ends[:, 2::2].max(axis=0)
    return tuple(math.exp(max(value, 0.0)) for value in (median, low, high, run_low, run_high))


def _ends(form: dict, x: float) -> list[float]:
    """Median, ends of the interval of the law, of that of one new run; nats."""
    row = _basis(form["form"], form["beta"], np.array([x]))[:, 0]
    columns: list[tuple[np.ndarray, ...]] = []
    for weights, coefficients, inverse, error in form["candidates"]:
        of_law = error["variance"] * np.einsum("mp,mpq,mq->m", row, inverse, row)
        of_run = of_law + error["variance"] * error["top"]
        columns.append((weights, np.sum(row * coefficients, axis=1), of_law, of_run))
    weights, centres, of_law, of_run = (np.concatenate(column) for column in zip(*columns, strict=True))
    dof = form["candidates"][0][3]["dof"]

    def quantile(q: float, variance: np.ndarray) -> float:
        def excess(z: float) -> float:
            return weights @ stats.t.cdf((z - centres) / np.sqrt(variance), dof) / weights.sum() - q

        return optimize.brentq(excess, -50.0, 50.0, xtol=1e-9)

    law = [quantile(q, of_law) for q in (0.5, 0.025, 0.975)]
    return [*law, *(quantile(q, of_run) for q in (0.025, 0.975))]
