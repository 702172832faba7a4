"""Figures of merit from per-token losses."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from cvfp.records.errors import CvfpError

MAX_NATS = 700.0
"""exp of more than this overflows a float64."""


def perplexity(nll: NDArray[np.floating]) -> float:
    """PPL = exp(mean nats per predicted token). `nll` (T,) in nats, T >= 1.

    Raises:
        CvfpError: the mean is not finite, or above 700 nats: that is no language model.
    """
    mean = float(np.mean(nll, dtype=np.float64))
    if not mean < MAX_NATS:
        raise CvfpError(f"the mean loss is {mean:.4g} nats per token: it has no perplexity")
    return math.exp(mean)


def bits_per_byte(nll: NDArray[np.floating], target_bytes: int) -> float:
    """Nats of the predicted tokens / (ln 2 * their UTF-8 bytes): comparable across tokenizers."""
    return float(np.sum(nll, dtype=np.float64)) / (math.log(2) * target_bytes)
