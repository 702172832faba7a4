"""Many power laws at once: what resampling asks for, by the closed form of `fit_power_law`."""

from __future__ import annotations

import numpy as np

from cvfp.records.errors import InputError
from cvfp.scaling.power_law import Numbers


def refit_power_laws(tokens: Numbers, ppl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """alpha (m,) and ln A (m,), for every row of `ppl` those of `fit_power_law(tokens, row)`.

    Args:
        tokens: training tokens of the points, (n,) for all rows or (m, n).
        ppl: perplexities, (m, n).

    Raises:
        InputError: shapes that do not fit, a value that is not positive and finite, a row with fewer than
            two distinct sizes.
    """
    tokens, ppl = np.asarray(tokens, dtype=np.float64), np.asarray(ppl, dtype=np.float64)
    if ppl.ndim != 2 or tokens.shape not in (ppl.shape, ppl.shape[1:]):
        raise InputError(f"ppl must be (m, n) and tokens (n,) or (m, n), got {ppl.shape} and {tokens.shape}")
    _check_positive(tokens, "tokens")
    _check_positive(ppl, "ppl")
    x, y = np.log(tokens), np.log(ppl)
    if x.shape[-1] == 0 or (x == x[..., :1]).all(axis=-1).any():
        raise InputError("a power law needs at least two distinct sizes: a row has fewer")
    mean_x, mean_y = x.mean(axis=-1), y.mean(axis=1)
    dx, dy = x - mean_x[..., None], y - mean_y[:, None]
    alphas = (dx * dy).sum(axis=1) / (dx * dx).sum(axis=-1)
    return alphas, mean_y - alphas * mean_x


def _check_positive(values: np.ndarray, name: str) -> None:
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        raise InputError(f"{name}: must be positive and finite, got {values[bad][0]:g}")
