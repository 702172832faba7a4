"""Power laws of the loss by variable projection: many rows at once, no starting values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

BENDS = (1e-3, 20.0)
"""Bounds of beta times the range of ln D: from a loss that hardly falls (by 0.1% over all sizes) to one that
has fallen to its floor at the second size. Assumed."""
GRID, ZOOM, ROUNDS = 101, 21, 11
"""Points of the first grid over beta, of each finer one between the neighbours of its best, and how many of
these: beta to a relative 1e-11."""


@dataclass(frozen=True)
class Profile:
    """L = E + b * exp(-beta * (x - centre)) with x = ln D, fitted to m rows: everything is (m,)."""

    E: np.ndarray
    """Nats; 0 in fits without a floor."""
    b: np.ndarray
    """B * exp(-beta * centre), nats: B itself may be beyond a float."""
    beta: np.ndarray
    rss: np.ndarray
    """Sum of squared residuals, nats^2."""
    at_edge: np.ndarray
    """Whether beta is at a bound of its search."""
    centre: np.ndarray
    """Mean of x."""

    def loss(self, x: np.ndarray) -> np.ndarray:
        """L (m, k) at ln D (k,)."""
        bend = np.exp(-self.beta[:, None] * (x - self.centre[:, None]))
        return self.E[:, None] + self.b[:, None] * bend

    def part(self, rows: slice) -> Profile:
        """The fits of some of the rows."""
        return Profile(*(getattr(self, field.name)[rows] for field in fields(self)))


def fit_profiles(xs: Sequence[np.ndarray], losses: Sequence[np.ndarray], floor: bool) -> list[Profile]:
    """`fit_profile` of each pair of ln D (n,) and losses (m, n), of the same m: those of one n in one go."""
    found: dict[int, Profile] = {}
    for n in {len(x) for x in xs}:
        places = [place for place, x in enumerate(xs) if len(x) == n]
        m = len(losses[places[0]])
        x = np.repeat(np.stack([xs[place] for place in places]), m, axis=0)
        fit = fit_profile(x, np.concatenate([losses[place] for place in places]), floor)
        found |= {place: fit.part(slice(k * m, (k + 1) * m)) for k, place in enumerate(places)}
    return [found[place] for place in range(len(xs))]


def fit_profile(x: np.ndarray, losses: np.ndarray, floor: bool) -> Profile:
    """Least squares of L = B * D^-beta, with `floor` of L = E + B * D^-beta, under E >= 0, B >= 0.

    Given beta, E and B are linear: the best are known in closed form, and their RSS is a function of beta
    alone (variable projection, Golub & Pereyra 1973). It is searched on a logarithmic grid between the
    `BENDS` and on finer grids about its best point. The sum of squares is not divided by n (Besiroglu et al.
    2024: a mean meets the tolerance of an optimiser too early; here none is used).

    Args:
        x: ln D of the points, (n,) for all rows or (m, n), at least two distinct.
        losses: nats, positive, (m, n): one fit per row.
        floor: whether there is an E.
    """
    x = np.broadcast_to(x, losses.shape)
    centre, reach = x.mean(axis=1), np.ptp(x, axis=1)
    x = x - centre[:, None]
    grid = np.geomspace(BENDS[0] / reach, BENDS[1] / reach, GRID, axis=1)
    best = _solve(x, losses, grid, floor)[2].argmin(axis=1)
    at_edge = (best == 0) | (best == GRID - 1)
    for _ in range(ROUNDS):
        grid = np.geomspace(*_neighbours(grid, best), ZOOM, axis=1)
        best = _solve(x, losses, grid, floor)[2].argmin(axis=1)
    beta = np.take_along_axis(grid, best[:, None], axis=1)
    E, b, rss = (values[:, 0] for values in _solve(x, losses, beta, floor))
    return Profile(E, b, beta[:, 0], rss, at_edge, centre)


def _neighbours(grid: np.ndarray, best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the `best` (m,) points of a grid (m, g), those before and after, (m,) each."""
    rows, last = np.arange(len(best)), grid.shape[1] - 1
    return grid[rows, np.maximum(best - 1, 0)], grid[rows, np.minimum(best + 1, last)]


def _solve(
    x: np.ndarray, losses: np.ndarray, betas: np.ndarray, floor: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E, b and RSS (m, g) of x (m, n) and losses (m, n) at betas (m, g)."""
    phi, y = np.exp(-betas[..., None] * x[:, None, :]), losses[:, None, :]
    b = (phi * y).sum(axis=-1) / (phi * phi).sum(axis=-1)
    E = np.zeros_like(b)
    if floor:
        mean, mean_y = phi.mean(axis=-1), y.mean(axis=-1)
        centred = phi - mean[..., None]
        free_b = (centred * y).sum(axis=-1) / (centred * centred).sum(axis=-1)
        free_E = mean_y - free_b * mean
        E = np.where(free_b > 0, np.maximum(free_E, 0), mean_y)
        b = np.where(free_b > 0, np.where(free_E > 0, free_b, b), 0)
    return E, b, ((y - E[..., None] - b[..., None] * phi) ** 2).sum(axis=-1)
