"""Effective rank of a set of context vectors (Roy & Vetterli 2007)."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

MAX_ROWS = 10_000


def sample_rows(num_rows: int, seed: int, most: int = MAX_ROWS) -> NDArray[np.int64]:
    """At most `most` of `num_rows` row numbers, drawn without replacement with `seed`, in order."""
    if num_rows <= most:
        return np.arange(num_rows)
    return np.sort(np.random.default_rng(seed).choice(num_rows, most, replace=False))


def effective_rank(rows: Float[Tensor, "T d"]) -> float:
    """ER = exp(-sum p ln p), p = s / sum(s), of the singular values s of the uncentred matrix (T, d).

    Singular values are roots of the eigenvalues of C^T C in float64: the same numbers as an SVD of C, far
    faster. 0 ln 0 = 0. Between 1 and d; an all-zero matrix raises ValueError.
    """
    c = (rows.cpu() if rows.device.type == "mps" else rows).double()
    # Eigenvalues on the CPU: a GPU's library takes longer to load than they take.
    singular = torch.linalg.eigvalsh((c.T @ c).cpu()).clamp(min=0).sqrt()
    total = singular.sum()
    if not total > 0:
        raise ValueError("the effective rank of an all-zero matrix is not defined")
    p = singular[singular > 0] / total
    return float((-(p * p.log()).sum()).exp())
