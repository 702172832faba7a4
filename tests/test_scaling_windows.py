"""Sliding windows: which points each one holds, and what the change of the exponent is called."""

import numpy as np
import pytest

from cvfp.records.errors import InputError
from cvfp.scaling.local_exponent import change_interval, progression, sliding_windows
from cvfp.scaling.power_law import fit_power_law


def test_windows_are_fits_of_consecutive_sizes_in_order():
    tokens = np.array([800, 100, 400, 200, 1600])
    ppl = np.array([30, 90, 41, 60, 26])
    windows = sliding_windows(tokens, ppl, 4)
    assert [window.token_range for window in windows] == [(100, 800), (200, 1600)]
    first = tokens <= 800
    assert windows[0].law == fit_power_law(tokens[first], ppl[first])
    assert [window.law.n for window in windows] == [4, 4]


def test_window_exponents_are_exact_on_a_broken_line():
    tokens = np.array([1.0, 10.0, 100.0, 1000.0])
    windows = sliding_windows(tokens, [1000, 100, 10, 10**0.5], 2)
    assert [window.law.alpha for window in windows] == pytest.approx([-1, -1, -0.5])


def test_a_window_covers_all_seeds_of_its_sizes():
    samples = np.repeat([50, 100, 200], 2)
    tokens = np.array([1000, 1100, 2050, 1990, 4100, 3900])
    ppl = np.array([90, 88, 70, 71, 50, 52])
    windows = sliding_windows(tokens, ppl, 2, samples)
    assert [window.size_range for window in windows] == [(50, 100), (100, 200)]
    assert [window.token_range for window in windows] == [(1000, 2050), (1990, 4100)]
    assert windows[1].law == fit_power_law(tokens[2:], ppl[2:])


def test_fewer_sizes_than_a_window_give_none():
    assert sliding_windows([1, 2, 3], [3, 2, 1], 4) == []


@pytest.mark.parametrize(
    "alphas, change, percent, trend",
    [
        ([-0.5, -0.9, -0.4], 0.1, 20, "degrading"),
        ([-0.4, -0.5], -0.1, -25, "improving"),
        ([-0.5, -0.495], 0.005, 1, "stable"),
        ([0.0, 0.0], 0, 0, "stable"),
        ([0.2, 0.1], -0.1, -50, "improving"),
    ],
)
def test_change_is_last_minus_first_in_percent_of_its_size(alphas, change, percent, trend):
    result = progression(alphas)
    assert result.alpha_change == pytest.approx(change)
    assert result.alpha_change_percent == pytest.approx(percent)
    assert result.trend == trend


def test_a_change_of_exactly_the_threshold_is_stable():
    assert progression([0.0, 0.01]).trend == "stable"
    assert progression([0.0, -0.01]).trend == "stable"
    assert progression([0.0, 0.010001]).trend == "degrading"


def test_bad_windows_are_refused():
    with pytest.raises(InputError, match="window: must be at least 2 sizes, got 1"):
        sliding_windows([1, 2], [2, 1], 1)
    with pytest.raises(InputError, match="one size per point"):
        sliding_windows([1, 2], [2, 1], 2, [1])
    with pytest.raises(InputError, match="at least two windows"):
        progression([-0.5])


SIZES = np.array([1e5, 2e5, 4e5, 8e5, 1.6e6])


def test_interval_of_the_change_is_that_of_one_more_regressor():
    # Windows of 2 of x = 0, 1, 2, 3: change = (y3 - y2) - (y1 - y0), so w = (1, -1, -1, 1).
    tokens, y = np.exp([0.0, 1.0, 2.0, 3.0]), np.array([0.3, 0.1, 0.0, -0.4])
    design = np.stack([np.ones(4), np.arange(4.0), [1, -1, -1, 1]], axis=1)
    coefficients, (rss,), *_ = np.linalg.lstsq(design, y, rcond=None)
    reach = 12.706204736 * (rss * 4) ** 0.5  # t(0.975, 1 dof)
    low, high = change_interval(tokens, np.exp(y), tokens, sliding_windows(tokens, np.exp(y), 2))
    assert (low, high) == pytest.approx((4 * coefficients[2] - reach, 4 * coefficients[2] + reach))
    assert (low + high) / 2 == pytest.approx(-0.4 + 0.2)


def test_a_bent_line_has_a_change_that_excludes_zero():
    x = np.log(SIZES / SIZES[0])
    ppl = 500 * np.exp(-0.5 * x + 0.05 * x**2 + np.array([1, -1, 1, -1, 1]) * 1e-3)
    low, high = change_interval(SIZES, ppl, SIZES, sliding_windows(SIZES, ppl, 4))
    assert 0 < low < 2 * 0.05 * np.log(2) < high


def changes(noise):
    """(change, interval) of windows of 4 of 5 sizes, per row of noise (trials, 5) of ln PPL."""
    for row in noise:
        ppl = 5e4 * SIZES**-0.4 * np.exp(row)
        windows = sliding_windows(SIZES, ppl, 4)
        change = progression([window.law.alpha for window in windows]).alpha_change
        yield change, change_interval(SIZES, ppl, SIZES, windows)


def test_interval_of_the_change_covers_a_change_of_zero_under_iid_noise():
    found = list(changes(np.random.default_rng(3).normal(scale=0.05, size=(3000, 5))))
    assert all(low <= change <= high for change, (low, high) in found)
    assert 0.93 <= np.mean([low <= 0 <= high for _, (low, high) in found]) <= 0.97


def test_no_interval_of_the_change_without_degrees_of_freedom_or_with_other_draws():
    windows = sliding_windows([1, 2, 4], [9, 7, 6], 2)
    assert change_interval([1, 2, 4], [9, 7, 6], [1, 2, 4], windows) is None
    tokens, ppl, draws = (
        [1, 2, 1, 2, 2, 4, 2.5, 4],
        [9, 7, 8, 7, 7, 6, 7, 5],
        ["a", "a", "b", "b", "b", "b", "c", "c"],
    )
    sizes = [1, 2, 1, 2, 2, 4, 2, 4]
    other = sliding_windows(tokens, ppl, 2, sizes, draws)
    assert change_interval(tokens, ppl, sizes, other) is None
