"""Curvature and local exponents: planted ones come back, and only intervals give verdicts."""

import numpy as np
import pytest
from scaling_helpers import SIX, SIXTEENFOLD, line, nested_noise
from scipy import stats

from cvfp.scaling.draws import fit_draws
from cvfp.scaling.local_exponent import bend, bends, curvature, local_exponents, top_coefficients
from cvfp.scaling.points import points_of

X = np.log(SIX)
NOISE = 0.01 * np.random.default_rng(5).normal(size=6)


def test_a_planted_curvature_comes_back():
    found = curvature(line(SIX, 12 - 0.9 * X + 0.02 * X**2))
    assert found.value == pytest.approx(0.02) and found.interval == pytest.approx((0.02, 0.02))
    assert (found.kind, found.dof, bend(found)) == ("line", 3, "curved")


def test_its_interval_is_that_of_least_squares():
    y = 12 - 0.4 * X + 0.1 * np.random.default_rng(0).normal(size=6)
    design = np.vander(X - X.mean(), 3)
    coefficients, rss = np.linalg.lstsq(design, y, rcond=None)[:2]
    error = np.sqrt(rss[0] / 3 * np.linalg.inv(design.T @ design)[0, 0])
    assert curvature(line(SIX, y)).interval == pytest.approx(
        stats.t.interval(0.95, 3, coefficients[0], error)
    )


def test_across_draws_it_is_students_t_over_one_curvature_each():
    planted = [0.01, 0.02, 0.05]
    found = curvature(line(SIX, np.stack([12 - 0.9 * X + q * X**2 for q in planted])))
    assert found.interval == pytest.approx(stats.t.interval(0.95, 2, np.mean(planted), stats.sem(planted)))
    assert (found.kind, bend(found)) == ("draws", "straight within error")


def test_slopes_are_those_of_the_law_of_the_line():
    rows = 12 - 0.4 * X + nested_noise(np.random.default_rng(1), (3, 6))
    for losses in (rows, rows[:1]):
        points = line(SIX, losses)
        (slope,) = top_coefficients(points, points.log_ppl[None], 1)
        law = fit_draws(points.tokens, points.ppl, points.draws)
        assert (slope.value, slope.interval) == (pytest.approx(law.alpha), pytest.approx(law.alpha_ci95))


def test_a_straight_line_is_called_curved_in_5_percent_of_lines():
    """Independent, equal, normal noise along one line; nested and heteroscedastic across five draws."""
    rng = np.random.default_rng(2)
    x = np.log(SIXTEENFOLD)
    one = bends(line(SIXTEENFOLD, 9 - 0.4 * x), 9 - 0.4 * x + 0.03 * rng.normal(size=(3000, 5)))
    several = (9 - 0.4 * x + nested_noise(rng, (3000, 5, 5))).reshape(3000, -1)
    nested = bends(line(SIXTEENFOLD, np.tile(9 - 0.4 * x, (5, 1))), several)
    for verdicts in (one, nested):
        assert 0.03 <= verdicts.count("curved") / 3000 <= 0.07


def test_with_three_sizes_of_one_draw_it_is_not_testable_and_with_two_there_is_none():
    assert bend(curvature(line(SIX[:3], X[:3] ** 2 / 20))) == "not testable"
    assert curvature(line(SIX[:2], X[:2] / 5)) is None and bend(None) == "not testable"
    draws = np.stack([12 - 0.4 * X[:3] + q * X[:3] ** 2 for q in (0.019, 0.02, 0.021)])
    assert bend(curvature(line(SIX[:3], draws))) == "curved"


def test_a_single_degree_of_freedom_does_not_call_a_line_straight():
    four = np.geomspace(6e4, 192e4, 4)
    floor = 2.5155 + 1.3757 * (four / four[0]) ** -0.367
    two = np.stack([12 - 0.9 * X + q * X**2 for q in (0.01, 0.06)])
    for points in (line(four, floor), line(SIX, two)):
        found = curvature(points)
        assert found.dof == 1 and found.sign == 0 and bend(found) == "not testable"
    alike = np.stack([12 - 0.9 * X + q * X**2 for q in (0.0199, 0.02)])
    assert bend(curvature(line(SIX, alike))) == "curved"
    assert bend(curvature(line(SIX, floor[0] + 0 * X + NOISE))) == "straight within error"


def test_local_exponents_of_a_bent_line_are_its_slopes():
    slopes = [-0.5, -0.4, -0.3]
    y = 12 + np.concatenate([[0], np.cumsum(slopes * np.diff(X[:4]))])
    found = local_exponents(line(SIX[:4], y))
    assert [one.exponent.value for one in found] == pytest.approx(slopes)
    assert all(one.exponent.interval is None for one in found)
    assert found[0].token_range == (SIX[0], SIX[1]) == found[0].size_range


def test_their_intervals_are_across_draws():
    slopes = [-0.3, -0.5]
    (found,) = local_exponents(line(SIX[:2], np.stack([12 + slope * X[:2] for slope in slopes])))
    assert found.exponent.interval == pytest.approx(stats.t.interval(0.95, 1, -0.4, stats.sem(slopes)))


def test_sizes_that_are_close_together_have_a_local_exponent_too():
    (found,) = local_exponents(points_of([100_000, 100_001], [200, 150]))
    assert found.exponent.value < -1000
    (same,) = local_exponents(points_of([7, 7], [200, 150], sizes=[1, 2]))
    assert same.exponent is None


def test_two_sizes_have_no_curvature_however_many_tokens_their_draws_have():
    tokens, draws = np.array([1000.0, 2100.0, 1300.0, 2600.0]), (0, 0, 1, 1)
    for sizes, verdict in (([10, 20, 10, 20], "not testable"), ([10, 20, 30, 40], "curved")):
        points = points_of(tokens, np.exp(9 + 0.3 * np.log(tokens) ** 2), draws, sizes)
        assert bend(curvature(points)) == verdict
