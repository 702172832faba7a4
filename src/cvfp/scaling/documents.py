"""Perplexities, exponents and laws of a line, or of a difference of two, over draws and test documents.

Initialisations are averaged within their draw. All are linear in ln PPL and so in the losses of the test
documents: refitting the laws to resampled documents is resampling one weighted sum of losses per draw.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from cvfp.records.errors import InputError
from cvfp.scaling.coefficients import top_weights
from cvfp.scaling.crossed import Crossed, crossed
from cvfp.scaling.losses import Losses
from cvfp.scaling.power_law import Number, log_of_positive


def log_ppl_at(losses: Losses, size: Number) -> Crossed:
    """Mean ln PPL, nats per token, of the runs with `size` training documents.

    Of a difference, the mean of ln(PPL_2 / PPL_1): its `percent_change` is that of PPL.

    Raises:
        InputError: there is no such run.
    """
    runs = losses.at(size).by_draw().distinct()
    return crossed(runs.nats, runs.tokens)


def exponent(losses: Losses) -> Crossed:
    """Mean alpha of the power laws of the draws; of a difference, alpha_2 - alpha_1.

    Draws of a single size have no law: they are left out beside two that have one; where fewer have one, it
    is one law of all runs, and its interval over test documents only.

    Raises:
        InputError: fewer than two distinct sizes.
    """
    return _of_laws(losses, lambda log_tokens: top_weights(log_tokens, 1))


def law_at(losses: Losses, tokens: Number) -> Crossed:
    """Mean ln PPL of the power laws of the draws at `tokens` training tokens. Draws and errors as `exponent`.

    It is where the law lies; how far a run is from its law is not in it.
    """
    target = float(log_of_positive(tokens, "tokens"))

    return _of_laws(losses, lambda log_tokens: height_weights(log_tokens, target))


def height_weights(log_tokens: np.ndarray, target: float) -> np.ndarray:
    """w with sum(w * ln PPL) = ln PPL of the least-squares line of ln tokens (n,) at `target`, ln tokens."""
    return 1 / len(log_tokens) + (target - log_tokens.mean()) * top_weights(log_tokens, 1)


def weighted_sums(losses: Losses, weights: Callable[[np.ndarray], np.ndarray]) -> tuple[Losses, np.ndarray]:
    """The distinct results of the draws, and `weights` (of ln tokens) times their losses: (draws, documents).

    Draws and errors as `exponent`.
    """
    runs = losses.by_draw().distinct()
    units = runs.points.units(2)
    x = runs.points.log_tokens
    fewest = min(len(np.unique(x[unit])) for unit in units)
    if fewest < 2:
        raise InputError(f"a power law needs at least two distinct sizes, got {fewest}")
    return runs, np.array([weights(x[unit]) @ runs.nats[unit] for unit in units])


def _of_laws(losses: Losses, weights: Callable[[np.ndarray], np.ndarray]) -> Crossed:
    runs, values = weighted_sums(losses, weights)
    return crossed(values, runs.tokens)
