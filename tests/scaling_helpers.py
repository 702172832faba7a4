"""Planted laws, noise as sweeps have it, and lines of points."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cvfp.records.results import DocumentScores, PointRecord, RunRecord
from cvfp.scaling.points import Points, points_of

SPREAD = (0.053, 0.012)
"""Standard deviation of ln PPL across draws at the smallest and the largest size of a sweep."""
SHARED = 0.6
"""Correlation of the errors of neighbouring sizes of one draw: measured 0.5 to 0.66."""
SIX = np.geomspace(1e5, 1e7, 6)
SIXTEENFOLD = 6e4 * 2.0 ** np.arange(5)


def line(tokens: np.ndarray, losses: np.ndarray) -> Points:
    """One draw; or, with losses (draws, n), several on the same tokens."""
    rows = np.atleast_2d(losses)
    draws = np.repeat(np.arange(len(rows)), len(tokens)).tolist()
    return points_of(np.tile(tokens, len(rows)), np.exp(rows.ravel()), draws)


def nested_noise(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Noise of ln PPL (..., sizes): nested within draws and heteroscedastic.

    Normal; neighbouring sizes of a draw have correlation 0.6, draws none; the standard deviation falls
    geometrically from 0.053 at the smallest size to 0.012 at the largest.
    """
    noise = rng.normal(size=shape)
    for size in range(1, shape[-1]):
        noise[..., size] = SHARED * noise[..., size - 1] + np.sqrt(1 - SHARED**2) * noise[..., size]
    return noise * np.geomspace(*SPREAD, shape[-1])


def run_of(
    size: int,
    seed: int,
    trained: int,
    lengths: Sequence[int],
    nats: Sequence[float],
    draw: int | None = None,
) -> RunRecord:
    """A finished run with the predicted tokens and the nats of its test documents."""
    scores = DocumentScores(tokens=tuple(map(int, lengths)), nats=tuple(map(float, nats)))
    point = PointRecord(
        arm="cvfp",
        config_name="a",
        config_hash="h",
        status="done",
        num_samples=size,
        seed=seed,
        draw_seed=draw,
        train_tokens=trained,
        val_ppl=float(np.exp(sum(scores.nats) / sum(scores.tokens))),
    )
    return RunRecord(run_hash=f"{size}-{seed}", point=point, test_documents=scores)
