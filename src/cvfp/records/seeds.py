"""Seeds for the generators of a run: one per purpose, so that no two of them draw the same numbers."""

from __future__ import annotations

import numpy as np

PURPOSES = ("contexts", "noise", "batches", "dropout", "weights", "table", "documents", "rank", "teacher")


def derived_seed(seed: int, purpose: str, *parts: int) -> int:
    """A 63-bit seed from the run's seed, one of `PURPOSES`, and further numbers (a step, a slice)."""
    sequence = np.random.SeedSequence((seed, PURPOSES.index(purpose), *parts))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)
