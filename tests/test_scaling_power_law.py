"""The power-law fit: planted truth, hand-computed numbers, and intervals that cover what they claim."""

import math

import numpy as np
import pytest
from scipy import stats

from cvfp.records.errors import InputError
from cvfp.scaling.power_law import fit_power_law, student_quantile

TOKENS = np.array([62_891, 122_795, 240_132, 473_429, 948_524, 1_900_000, 3_800_000, 7_600_000])
TRIALS = 4000


def noisy_lines(n: int, seed: int):
    """Independent normal noise of ln PPL, equal at all sizes: PPL = 5e4 * tokens^-0.4 * exp(0.05 z)."""
    noise = np.random.default_rng(seed).normal(scale=0.05, size=(TRIALS, n + 1))
    truth = math.log(5e4) - 0.4 * np.log(np.append(TOKENS[:n], 4 * TOKENS[n - 1]))
    return np.exp(truth + noise)


def test_planted_power_law_is_recovered():
    law = fit_power_law(TOKENS, 123.4e3 * TOKENS**-0.4567)
    assert law.alpha == pytest.approx(-0.4567, rel=1e-12)
    assert pytest.approx(123.4e3, rel=1e-12) == law.A
    assert law.r_squared == pytest.approx(1, abs=1e-12)
    assert law.predict(10_000_000) == pytest.approx(123.4e3 * 1e7**-0.4567, rel=1e-12)


def test_three_points_by_hand():
    # x = 0, 1, 2 and y = 3, 1, 0 (natural logs): slope -3/2, intercept 17/6, RSS 1/6, TSS 14/3.
    law = fit_power_law(np.exp([0.0, 1.0, 2.0]), np.exp([3.0, 1.0, 0.0]))
    assert law.alpha == pytest.approx(-1.5, abs=1e-12)
    assert pytest.approx(17 / 6, abs=1e-12) == math.log(law.A)
    assert law.r_squared == pytest.approx(1 - (1 / 6) / (14 / 3), abs=1e-12)
    reach = 12.706204736 * math.sqrt((1 / 6) / 2)  # t(0.975, 1 dof), SS = 2
    assert law.alpha_ci95 == pytest.approx((-1.5 - reach, -1.5 + reach), abs=1e-8)
    low, high = law.prediction_interval(math.exp(3))  # mean -5/3; leverage 1/3 + 4/2
    reach = 12.706204736 * math.sqrt((1 / 6) * (1 + 1 / 3 + 2))
    assert math.log(low) == pytest.approx(-5 / 3 - reach, abs=1e-8)
    assert math.log(high) == pytest.approx(-5 / 3 + reach, abs=1e-8)


def test_fit_agrees_with_scipy_linregress():
    ppl = noisy_lines(8, seed=1)[0, :8]
    law, other = fit_power_law(TOKENS, ppl), stats.linregress(np.log(TOKENS), np.log(ppl))
    assert law.alpha == pytest.approx(other.slope, rel=1e-10)
    assert pytest.approx(math.exp(other.intercept), rel=1e-10) == law.A
    assert law.r_squared == pytest.approx(other.rvalue**2, rel=1e-10)
    assert law.alpha_ci95[1] - law.alpha == pytest.approx(stats.t.ppf(0.975, 6) * other.stderr, rel=1e-10)


@pytest.mark.parametrize("level, dof", [(0.5, 1), (0.9, 3), (0.95, 2), (0.99, 30)])
def test_student_quantile_agrees_with_scipy_stats(level, dof):
    assert student_quantile(level, dof) == pytest.approx(stats.t.ppf((1 + level) / 2, dof), rel=1e-10)


@pytest.mark.parametrize("n", [4, 5, 8])
def test_alpha_interval_covers_the_truth_under_iid_noise(n):
    intervals = [fit_power_law(TOKENS[:n], row[:n]).alpha_ci95 for row in noisy_lines(n, seed=n)]
    coverage = np.mean([low <= -0.4 <= high for low, high in intervals])
    assert 0.93 <= coverage <= 0.97


@pytest.mark.parametrize("level", [0.8, 0.95])
@pytest.mark.parametrize("n", [4, 8])
def test_prediction_interval_covers_a_new_run_at_four_times_the_data(n, level):
    rows = noisy_lines(n, seed=10 + n)
    target = 4 * TOKENS[n - 1]
    intervals = [fit_power_law(TOKENS[:n], row[:n]).prediction_interval(target, level) for row in rows]
    coverage = np.mean([low <= row[n] <= high for (low, high), row in zip(intervals, rows, strict=True)])
    assert level - 0.02 <= coverage <= level + 0.02


def test_two_points_give_a_law_and_no_interval():
    law = fit_power_law([100, 400], [50, 25])
    assert law.alpha == pytest.approx(-0.5)
    assert law.alpha_ci95 is None
    assert law.prediction_interval(1000) is None


def test_two_sizes_with_repeats_have_an_interval():
    law = fit_power_law([100, 100, 400], [50, 52, 25])
    assert law.n == 3
    assert law.alpha_ci95[0] < law.alpha < law.alpha_ci95[1]


def test_constant_perplexity_is_an_exact_flat_line():
    law = fit_power_law(TOKENS, np.full(8, 7.3))
    assert law.alpha == pytest.approx(0, abs=1e-15)
    assert law.r_squared == 1


def test_prediction_keeps_the_shape_of_its_argument():
    law = fit_power_law([100, 200, 400], [50, 36, 25])
    assert law.predict([1000.0, 2000.0]).shape == (2,)
    assert [bound.shape for bound in law.prediction_interval([1000.0, 2000.0])] == [(2,), (2,)]


@pytest.mark.parametrize(
    "tokens, ppl, message",
    [
        ([100], [5], "at least two distinct sizes, got 1"),
        ([100, 100, 100], [5, 4, 6], "at least two distinct sizes, got 1"),
        ([], [], "at least two distinct sizes, got 0"),
        ([100, 0], [5, 4], "tokens: must be positive and finite, got 0"),
        ([100, 200], [5, -4], "ppl: must be positive and finite, got -4"),
        ([100, 200], [5, math.nan], "ppl: must be positive and finite, got nan"),
        ([100, math.inf], [5, 4], "tokens: must be positive and finite, got inf"),
        ([100, 200, 300], [5, 4], r"shapes \(3,\) and \(2,\)"),
        ([1e6, 1e6 + 1], [1e9, 1e-9], "too close together"),
    ],
)
def test_bad_points_are_refused(tokens, ppl, message):
    with pytest.raises(InputError, match=message):
        fit_power_law(tokens, ppl)


def test_bad_predictions_are_refused():
    law = fit_power_law([100, 200, 400], [50, 36, 25])
    with pytest.raises(InputError, match="tokens: must be positive"):
        law.predict(-1)
    with pytest.raises(InputError, match="level: must be between 0 and 1"):
        law.prediction_interval(100, level=1.0)
