"""Figures of merit from per-token losses."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cvfp.records.errors import CvfpError
from cvfp.records.schema import MAX_NATS


def mean_nats(nll: NDArray[np.floating]) -> float:
    """Mean nats per predicted token. `nll` (T,) in nats, T >= 1.

    Raises:
        CvfpError: the mean is not finite: nothing was scored.
    """
    mean = float(np.mean(nll, dtype=np.float64))
    if not math.isfinite(mean):
        raise CvfpError(f"the mean loss is {mean:.4g} nats per token: it cannot be scored")
    return mean


def perplexity_of(nats: float) -> float | None:
    """PPL = exp(nats per token); None where it is infinite: beyond a float."""
    return math.exp(nats) if nats < MAX_NATS else None


def perplexity(nll: NDArray[np.floating]) -> float:
    """PPL = exp(mean nats per predicted token). `nll` (T,) in nats, T >= 1.

    Raises:
        CvfpError: as `mean_nats`; the mean is above 700 nats: that is no language model.
    """
    nats = mean_nats(nll)
    ppl = perplexity_of(nats)
    if ppl is None:
        raise CvfpError(f"the mean loss is {nats:.4g} nats per token: it has no perplexity")
    return ppl


def bits_per_byte(nll: NDArray[np.floating], target_bytes: int) -> float:
    """Nats of the predicted tokens / (ln 2 * their UTF-8 bytes): comparable across tokenizers."""
    return float(np.sum(nll, dtype=np.float64)) / (math.log(2) * target_bytes)
