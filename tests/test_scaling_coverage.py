"""Coverage of intervals, each with its data-generating process; none where degrees of freedom are short."""

import numpy as np
import pytest
from scaling_helpers import line, nested_noise

from cvfp.scaling.draws import fit_draws
from cvfp.scaling.forms import fit_form, fit_forms
from cvfp.scaling.local_exponent import bend, curvature, local_exponents
from cvfp.scaling.power_law import fit_power_law

ALPHA = -0.4
TRIALS = 4000


def doubling(sizes: int) -> np.ndarray:
    return 6e4 * 2.0 ** np.arange(sizes)


def log_ppl(tokens: np.ndarray) -> np.ndarray:
    return np.log(5e4) + ALPHA * np.log(tokens)


def share_that_holds(intervals: list[tuple[float, float]], truth: float) -> float:
    low, high = np.array(intervals).T
    return float(np.mean((low <= truth) & (truth <= high)))


@pytest.mark.parametrize("sizes", [4, 5, 8])
def test_the_interval_of_one_draw_holds_under_independent_equal_noise(sizes):
    """ln PPL = ln A - 0.4 ln D + e, e normal, independent, standard deviation 0.03; sizes that double."""
    tokens, rng = doubling(sizes), np.random.default_rng(sizes)
    ppl = np.exp(log_ppl(tokens) + 0.03 * rng.normal(size=(TRIALS, sizes)))
    assert 0.93 <= share_that_holds([fit_power_law(tokens, row).alpha_ci95 for row in ppl], ALPHA) <= 0.97


@pytest.mark.parametrize(
    ("draws", "sizes"),
    [(3, 5), *(pytest.param(*one, marks=pytest.mark.long) for one in ((3, 8), (5, 5), (5, 8)))],
)
def test_across_draws_the_interval_holds_where_that_of_pooled_points_does_not(draws, sizes):
    """ln PPL = ln A - 0.4 ln D + `nested_noise`: neighbouring sizes of a draw share 0.6 of their error, whose
    spread falls from 0.053 at the smallest size to 0.012 at the largest; draws are independent.
    """
    tokens, rng = doubling(sizes), np.random.default_rng(100 * draws + sizes)
    ppl = np.exp(log_ppl(tokens) + nested_noise(rng, (TRIALS // 2, draws, sizes)))
    x, draw_of = np.tile(tokens, draws), np.repeat(np.arange(draws), sizes).tolist()
    across = [fit_draws(x, one.ravel(), draw_of).alpha_ci95 for one in ppl]
    pooled = [fit_power_law(x, one.ravel()).alpha_ci95 for one in ppl]
    assert 0.92 <= share_that_holds(across, ALPHA) <= 0.97
    assert share_that_holds(pooled, ALPHA) < 0.88


def test_along_one_draw_nested_noise_is_not_covered():
    """The same noise, one draw: its interval is the deviation from a line, it says nothing of others."""
    tokens = doubling(5)
    ppl = np.exp(log_ppl(tokens) + nested_noise(np.random.default_rng(7), (TRIALS, 5)))
    assert share_that_holds([fit_power_law(tokens, row).alpha_ci95 for row in ppl], ALPHA) < 0.93


def test_on_a_curved_truth_no_interval_of_the_exponent_holds_out_of_its_sizes():
    """L = (5.4e13 / D)^0.095, independent noise of 0.01: the exponent at 10 times the data is far off."""
    tokens = np.geomspace(1e5, 1e7, 6)
    losses = (5.4e13 / tokens) ** 0.095 + 0.01 * np.random.default_rng(8).normal(size=(500, 6))
    there = -0.095 * (5.4e13 / 1e8) ** 0.095
    assert share_that_holds([fit_power_law(tokens, np.exp(row)).alpha_ci95 for row in losses], there) < 0.05


def test_where_degrees_of_freedom_are_short_no_interval_is_given():
    two, three = (line(doubling(n), log_ppl(doubling(n)) + 0.01 * np.arange(n) ** 2) for n in (2, 3))
    assert fit_draws(two.tokens, two.ppl, two.draws).alpha_ci95 is None
    assert fit_draws(two.tokens, two.ppl, two.draws).prediction_interval(1e7) is None
    assert curvature(three).interval is None and bend(curvature(three)) == "not testable"
    assert all(one.exponent.interval is None for one in local_exponents(three))
    assert fit_form(three, "loss_floor").intervals == {"beta": None, "E": None}
    assert fit_form(three, "loss_floor").law.prediction_interval(1e7) is None
    assert all(not fit.extrapolates for fit in fit_forms(two))
