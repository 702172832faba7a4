"""Figures of merit from per-token losses."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def perplexity(nll: NDArray[np.floating]) -> float:
    """PPL = exp(mean nats per predicted token). `nll` (T,) in nats, T >= 1."""
    return math.exp(float(np.mean(nll, dtype=np.float64)))


def bits_per_byte(nll: NDArray[np.floating], target_bytes: int) -> float:
    """Nats of the predicted tokens / (ln 2 * their UTF-8 bytes): comparable across tokenizers."""
    return float(np.sum(nll, dtype=np.float64)) / (math.log(2) * target_bytes)
