"""Claim: refits are the fits of `fit_power_law`, row by row."""

from __future__ import annotations

import numpy as np
import pytest

from cvfp.records.errors import InputError
from cvfp.scaling.power_law import fit_power_law, refit_power_laws

ROWS, POINTS = 50, 5
TOKENS = np.array([62_891.0, 122_795.0, 240_132.0, 473_429.0, 948_524.0])


def noisy_ppl(seed: int = 0) -> np.ndarray:
    """(ROWS, POINTS) perplexities about PPL = 13,000 * tokens^-0.34."""
    noise = np.random.default_rng(seed).normal(scale=0.05, size=(ROWS, POINTS))
    return 13_000 * TOKENS**-0.34 * np.exp(noise)


def shared_tokens() -> np.ndarray:
    return TOKENS


def tokens_of_each_row() -> np.ndarray:
    return TOKENS * np.exp(np.random.default_rng(1).normal(scale=0.1, size=(ROWS, POINTS)))


@pytest.mark.parametrize("make_tokens", [shared_tokens, tokens_of_each_row])
def test_refits_equal_single_fits(make_tokens):
    tokens, ppl = make_tokens(), noisy_ppl()
    alphas, log_As = refit_power_laws(tokens, ppl)
    laws = [fit_power_law(*pair) for pair in zip(np.broadcast_to(tokens, ppl.shape), ppl, strict=True)]
    np.testing.assert_allclose(alphas, [law.alpha for law in laws], atol=1e-12, rtol=0)
    np.testing.assert_allclose(log_As, [law.log_A for law in laws], atol=1e-12, rtol=0)


def test_repeated_sizes_as_in_a_resample_are_fitted():
    chosen = [0, 0, 3, 3, 3]
    alphas, _ = refit_power_laws(TOKENS[chosen], noisy_ppl()[:, chosen])
    law = fit_power_law(TOKENS[chosen], noisy_ppl()[7, chosen])
    assert alphas[7] == pytest.approx(law.alpha, abs=1e-12)


def test_no_rows_give_no_laws():
    alphas, log_As = refit_power_laws(TOKENS, np.empty((0, POINTS)))
    assert alphas.shape == log_As.shape == (0,)


@pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
@pytest.mark.parametrize("name", ["tokens", "ppl"])
def test_a_value_that_is_not_positive_and_finite_is_named(name: str, value: float):
    points = {"tokens": TOKENS.copy(), "ppl": noisy_ppl()}
    points[name][..., 2] = value
    with pytest.raises(InputError, match=rf"^{name}: must be positive and finite, got {value:g}$"):
        refit_power_laws(**points)


@pytest.mark.parametrize(
    ("tokens", "ppl"),
    [
        (TOKENS, noisy_ppl()[0]),
        (TOKENS[:3], noisy_ppl()),
        (tokens_of_each_row()[:7], noisy_ppl()),
    ],
    ids=["one row without its axis", "too few tokens", "too few rows of tokens"],
)
def test_shapes_that_do_not_fit_are_refused(tokens, ppl):
    with pytest.raises(InputError, match=r"^ppl must be \(m, n\) and tokens"):
        refit_power_laws(tokens, ppl)


def test_a_row_of_a_single_size_is_refused():
    tokens = tokens_of_each_row()
    tokens[4] = 1000.0
    with pytest.raises(InputError, match="two distinct sizes"):
        refit_power_laws(tokens, noisy_ppl())
    with pytest.raises(InputError, match="two distinct sizes"):
        refit_power_laws(np.empty(0), np.empty((3, 0)))
