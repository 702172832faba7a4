"""Laws of several draws: intervals that cover the truth when sizes are nested within draws."""

import itertools
from collections.abc import Sequence

import numpy as np
import pytest
from scipy import stats

from cvfp.scaling.draws import (
    Estimate,
    MeanLaw,
    across_draws,
    earlier_copies,
    fit_draws,
    holm,
    lone_draws,
)
from cvfp.scaling.power_law import fit_power_law

TOKENS = 6e4 * 2.0 ** np.arange(5)
DRAWS = 4
TRIALS = 1000


def nested_lines(seed: int, draws: int = DRAWS) -> np.ndarray:
    """PPL (trials, draws, 5) whose noise of ln PPL is shared by neighbouring sizes of a draw (0.6 of it)."""
    rng = np.random.default_rng(seed)
    noise = rng.normal(scale=0.05, size=(TRIALS, draws, len(TOKENS)))
    for size in range(1, len(TOKENS)):
        noise[..., size] = 0.6 * noise[..., size - 1] + 0.8 * noise[..., size]
    return 5e4 * TOKENS**-0.4 * np.exp(noise)


def fit(ppl: np.ndarray):
    """The law of perplexities (draws, 5)."""
    return fit_draws(np.tile(TOKENS, len(ppl)), ppl.ravel(), np.repeat(np.arange(len(ppl)), 5).tolist())


def test_interval_across_draws_covers_the_truth_when_sizes_are_nested():
    laws = [fit(ppl) for ppl in nested_lines(seed=1)]
    assert all(law.interval_kind == "draws" for law in laws)
    coverage = np.mean([law.alpha_ci95[0] <= -0.4 <= law.alpha_ci95[1] for law in laws])
    assert 0.93 <= coverage <= 0.97


def test_one_fit_of_all_points_would_not_cover_it():
    intervals = [
        fit_power_law(np.tile(TOKENS, DRAWS), ppl.ravel()).alpha_ci95 for ppl in nested_lines(seed=1)
    ]
    assert np.mean([low <= -0.4 <= high for low, high in intervals]) < 0.92


def test_prediction_interval_covers_the_law_of_a_new_draw():
    covered = []
    for ppl in nested_lines(seed=2, draws=DRAWS + 1):
        low, high = fit(ppl[:DRAWS]).prediction_interval(4 * TOKENS[-1])
        covered.append(low <= fit_power_law(TOKENS, ppl[DRAWS]).predict(4 * TOKENS[-1]) <= high)
    assert 0.93 <= np.mean(covered) <= 0.97


def test_the_mean_law_has_the_mean_exponent_and_the_geometric_mean_prediction():
    ppl = nested_lines(seed=3)[0]
    law, each = fit(ppl), [fit_power_law(TOKENS, row) for row in ppl]
    assert isinstance(law, MeanLaw) and law.n == 20
    assert law.alpha == pytest.approx(np.mean([one.alpha for one in each]))
    assert law.predict(1e7) == pytest.approx(law.A * 1e7**law.alpha)
    assert law.predict(1e7) == pytest.approx(np.exp(np.mean([np.log(one.predict(1e7)) for one in each])))
    assert law.predict([1e6, 1e7]).shape == law.prediction_interval([1e6, 1e7])[0].shape == (2,)
    same = fit_power_law(
        np.tile(TOKENS, DRAWS), ppl.ravel()
    )  # equal sizes: least squares agrees on the centre
    assert (law.alpha, law.A, law.r_squared) == pytest.approx((same.alpha, same.A, same.r_squared))


def test_one_draw_is_a_plain_fit():
    ppl = nested_lines(seed=4)[0, :1]
    assert fit(ppl) == fit_power_law(TOKENS, ppl[0])


def test_lone_draws_take_no_part_beside_two_with_laws():
    assert lone_draws([1, 2, 1, 2, 1, 1], [7, 7, 8, 8, 9, 9]) == {9}
    assert lone_draws([1, 2, 1], [7, 7, 8]) == set()
    tokens, ppl = [100, 200, 100, 200, 300], [50, 40, 52, 39, 1]
    law = fit_draws(tokens, ppl, ["a", "a", "b", "b", "c"])
    assert law == fit_draws(tokens[:4], ppl[:4], ["a", "a", "b", "b"])


def test_copies_point_at_the_first_of_them():
    assert earlier_copies(["x", "y", "x", "x", "y"]) == [None, None, 0, 0, 1]


def slow_holm(p_values: Sequence[float], level: float) -> list[bool]:
    """The closed test that Holm's is: a difference is told from 0 where every family with it has one that is.

    A family of m has one where its smallest p-value is at most level / m (Bonferroni).
    """
    everyone = range(len(p_values))
    families = [set(some) for size in everyone for some in itertools.combinations(everyone, size + 1)]
    rejected = [family for family in families if min(p_values[i] for i in family) <= level / len(family)]
    return [
        sum(i in family for family in rejected) == sum(i in family for family in families) for i in everyone
    ]


@pytest.mark.parametrize("count", [0, 1, 2, 5, 8])
def test_holm_is_the_closed_test(count):
    rng = np.random.default_rng(count)
    for _trial in range(40):
        p_values = (rng.uniform(0, 1, count) ** 4).round(3).tolist()  # many are small, some equal
        for level in (0.05, 0.2):
            assert holm(p_values, level) == slow_holm(p_values, level)


def test_holm_finds_a_false_difference_in_one_of_twenty_families():
    rng = np.random.default_rng(0)
    nulls = rng.uniform(0, 1, (4000, 10))
    false = sum(any(holm(row)) for row in nulls.tolist())
    uncorrected = sum(min(row) <= 0.05 for row in nulls.tolist())
    assert 0.03 < false / 4000 < 0.06 and uncorrected / 4000 > 0.3
    with_true = sum(any(holm([1e-9, 1e-9, *row])[2:]) for row in nulls.tolist())
    assert with_true / 4000 < 0.06  # true ones beside them make no false one likelier


def test_the_p_value_is_that_of_a_t_test():
    changes = [0.02, 0.035, 0.011, 0.027]
    assert across_draws(changes).p_value == pytest.approx(stats.ttest_1samp(changes, 0).pvalue)
    assert across_draws([-one for one in changes]).p_value == pytest.approx(across_draws(changes).p_value)
    assert Estimate(1.0, None, 1, "draws").p_value is None
