"""The arm `mixture`: next-token probabilities of other arms of a sweep, averaged with weights chosen on dev.

    p(x) = sum_k w_k p_k(x),   w maximises sum over dev of ln p,   w_k >= 0,   sum_k w_k = 1

Nothing is trained: the per-token losses that the arms' runs have stored are all it reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float
from scipy.special import logsumexp

from cvfp.arms.base import Arm, Budget, Fitted, Tokens
from cvfp.records.errors import CvfpError

MOST_ROUNDS = 1000
SETTLED = 1e-9
"""Gain in nats per token below which the weights are taken as found."""

Losses = Float[np.ndarray, "K T"]


class MixtureArm(Arm):
    """Stands for what a sweep mixes; by itself it has nothing to fit."""

    def fit(self, train: Tokens, dev: Tokens, budget: Budget, seed: int) -> Fitted:
        """Raises `CvfpError`: the losses that are mixed are those of a sweep."""
        raise CvfpError("arm mixture: it mixes what other arms of a sweep have stored; run it with them")


def mixture_weights(dev: Sequence[Float[np.ndarray, " T"]]) -> Float[np.ndarray, " K"]:
    """The weights with the lowest mean loss of the mixture, from each arm's nats per dev token.

    Expectation maximisation from equal weights (Dempster et al. 1977): the loss is convex in the weights, so
    what it settles at is the minimum.
    """
    losses = np.stack([np.asarray(each, np.float64) for each in dev])
    weights, before = np.full(len(losses), 1 / len(losses)), np.inf
    for _ in range(MOST_ROUNDS):
        parts = np.log(np.maximum(weights, np.finfo(float).tiny))[:, None] - losses
        mixed = np.asarray(logsumexp(parts, axis=0))
        weights = np.exp(parts - mixed).mean(axis=1)
        now = -mixed.mean()
        if before - now < SETTLED:
            break
        before = now
    return weights / weights.sum()


def mixed_nll(
    losses: Sequence[Float[np.ndarray, " T"]], weights: Float[np.ndarray, " K"]
) -> Float[np.ndarray, " T"]:
    """-ln sum_k w_k exp(-nats_k) of every token."""
    stacked = np.stack([np.asarray(each, np.float64) for each in losses])
    return -np.asarray(logsumexp(-stacked, b=np.asarray(weights)[:, None], axis=0))
