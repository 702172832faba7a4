"""How far ln PPL varies at each size, separately with the draw and with the test documents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvfp.scaling.crossed import resampled
from cvfp.scaling.documents import exponent
from cvfp.scaling.losses import Losses


@dataclass(frozen=True)
class Spread:
    """Standard deviations of ln PPL of a single run, nats per token, at one size.

    The seed drives the draw of training documents and the initialisation: `draws` has both, and one cannot
    be told from the other. What a draw does to some documents only is in `draws` and in `documents`.
    """

    size: int
    """Training documents."""
    count: int
    """Draws with distinct results."""
    draws: float | None
    """Across draws, on these test documents; None with one. Draws of as many documents differ in tokens."""
    equal_tokens: float | None
    """The same with every ln PPL moved along the exponent of the line to the mean ln tokens of its size. None
    with one draw, or without an exponent."""
    documents: float
    """Over sets of as many test documents, of one run: root of the mean variance over draws."""


def spreads(losses: Losses) -> list[Spread]:
    """One per size of a line, or of a difference of two, smallest first."""
    sizes = losses.points.distinct_sizes
    alpha = exponent(losses).value if len(sizes) > 1 else None
    return [_spread(losses.at(size), alpha) for size in sizes]


def _spread(runs: Losses, alpha: float | None) -> Spread:
    points, count = runs.points, len(runs.nats)
    several = count > 1
    at_mean = None if alpha is None else points.log_ppl - alpha * points.log_tokens
    return Spread(
        size=int(points.sizes[0]),
        count=count,
        draws=float(points.log_ppl.std(ddof=1)) if several else None,
        equal_tokens=float(at_mean.std(ddof=1)) if several and at_mean is not None else None,
        documents=float(np.sqrt(resampled(runs.nats, runs.tokens).var(axis=0, ddof=1).mean())),
    )
