"""Two lines: what they share drops out, and intervals hold for exponents, leads and crossovers."""

import numpy as np
import pytest
from scaling_helpers import SIXTEENFOLD, line, nested_noise
from scipy import stats

from cvfp.scaling.difference import Difference, crossover, difference
from cvfp.scaling.draws import fit_draws, straight_line
from cvfp.scaling.line import LineAnalysis
from cvfp.scaling.points import Points, points_of

X = np.log(SIXTEENFOLD)
FIRST = 9 - 0.40 * X
SECOND = FIRST + 0.3 - 0.05 * (X - X[0])
"""Above the first at the smallest size and steeper by 0.05: they cross at exp(6) times that size."""
CROSSING = SIXTEENFOLD[0] * np.exp(6)


def compared(first: Points, second: Points) -> Difference:
    return difference(LineAnalysis(first), LineAnalysis(second))


def test_planted_differences_come_back():
    found = compared(line(SIXTEENFOLD, FIRST), line(SIXTEENFOLD, SECOND))
    assert found.paired and found.n == 5
    assert found.exponent.value == pytest.approx(-0.05)
    assert found.crossover.tokens == pytest.approx(CROSSING)
    assert found.ahead_tokens == pytest.approx(10 * SIXTEENFOLD[-1])


def test_noise_that_both_lines_share_drops_out():
    shared = nested_noise(np.random.default_rng(0), (3, 5))
    found = compared(line(SIXTEENFOLD, FIRST + shared), line(SIXTEENFOLD, SECOND + shared))
    assert found.exponent.interval == pytest.approx((-0.05, -0.05))
    assert (found.exponent.kind, found.verdict) == ("draws", "second falls faster")
    assert found.crossover.interval == pytest.approx((CROSSING, CROSSING), rel=1e-3)
    assert found.first_ahead == pytest.approx(1 if found.ahead_tokens < CROSSING else 0, abs=1e-6)


def test_the_exponent_has_the_interval_of_the_law_of_the_ratio():
    noise = nested_noise(np.random.default_rng(1), (2, 4, 5))
    first, second = line(SIXTEENFOLD, FIRST + noise[0]), line(SIXTEENFOLD, SECOND + noise[1])
    law = fit_draws(first.tokens, second.ppl / first.ppl, first.draws)
    assert compared(first, second).exponent.interval == pytest.approx(law.alpha_ci95)
    one = line(SIXTEENFOLD, FIRST + noise[0, 0]), line(SIXTEENFOLD, SECOND + noise[1, 0])
    law = fit_draws(one[0].tokens, one[1].ppl / one[0].ppl, one[0].draws)
    assert compared(*one).exponent.interval == pytest.approx(law.alpha_ci95)


def test_one_draw_gives_no_verdict_on_exponents_that_differ():
    noise = 1e-4 * np.random.default_rng(2).normal(size=5)
    found = compared(line(SIXTEENFOLD, FIRST), line(SIXTEENFOLD, SECOND + noise))
    assert found.exponent.sign == -1 and found.verdict == "no verdict"


def test_the_lead_far_out_is_students_probability():
    rng = np.random.default_rng(3)
    first, second = line(SIXTEENFOLD, FIRST), line(SIXTEENFOLD, FIRST + 0.02 * rng.normal(size=(4, 5))[:1])
    found = compared(first, second)
    law = fit_draws(first.tokens, second.ppl / first.ppl, first.draws)
    low, high = law.prediction_interval(found.ahead_tokens, 0.5)
    centre, reach = np.log(law.predict(found.ahead_tokens)), np.log(high / low) / 2
    spread = reach / stats.t.ppf(0.75, 3)
    error = np.sqrt(spread**2 - law.residual_variance)  # of the law, without the noise of one more run
    assert found.first_ahead == pytest.approx(stats.t.cdf(centre / error, 3))


def test_leads_are_certain_or_even_without_noise():
    same = compared(line(SIXTEENFOLD, FIRST), line(SIXTEENFOLD, FIRST))
    assert (same.first_ahead, same.crossover.tokens, same.crossover.status) == (0.5, None, "unbounded")
    assert same.verdict == "not distinguishable"


def test_a_crossover_of_lines_that_may_be_parallel_is_unbounded():
    noise = 0.05 * np.random.default_rng(4).normal(size=(2, 3, 5))
    found = compared(line(SIXTEENFOLD, FIRST + noise[0]), line(SIXTEENFOLD, FIRST + noise[1]))
    assert found.exponent.sign == 0
    assert (found.crossover.status, found.crossover.interval) == ("unbounded", None)
    two = compared(line(SIXTEENFOLD[:2], FIRST[:2]), line(SIXTEENFOLD[:2], SECOND[:2]))
    assert two.crossover.status == "not said" and two.first_ahead is None


def test_intervals_of_exponent_and_crossover_hold_across_draws():
    """Five draws; independent nested, heteroscedastic noise of both lines; they cross inside the sizes."""
    rng, truth, held = np.random.default_rng(5), -0.2 * (X - X[2]), []
    for ppl in np.exp(truth + nested_noise(rng, (1000, 5, 5)) - nested_noise(rng, (1000, 5, 5))):
        law = fit_draws(np.tile(SIXTEENFOLD, 5), ppl.ravel(), np.repeat(range(5), 5).tolist())
        found = crossover([straight_line(law)])
        assert found.status == "bounded"
        low, high = found.interval
        held.append([law.alpha_ci95[0] <= -0.2 <= law.alpha_ci95[1], low <= SIXTEENFOLD[2] <= high])
    assert (np.mean(held, axis=0) >= 0.92).all() and (np.mean(held, axis=0) <= 0.97).all()


def test_lines_without_common_tokens_are_compared_unpaired():
    noise = nested_noise(np.random.default_rng(6), (2, 4, 5))
    first, second = line(SIXTEENFOLD, FIRST + noise[0]), line(SIXTEENFOLD + 1, SECOND + noise[1])
    found = compared(first, second)
    laws = [fit_draws(one.tokens, one.ppl, one.draws) for one in (first, second)]
    errors = [stats.sem(law.alphas) for law in laws]
    assert not found.paired and found.flips == ()
    assert found.exponent.interval == pytest.approx(
        stats.t.interval(0.95, 3, laws[1].alpha - laws[0].alpha, np.hypot(*errors))
    )


def test_pairs_that_repeat_a_result_are_one():
    tokens, ppl = np.tile(SIXTEENFOLD, 2), np.tile(np.exp(FIRST), 2)
    first = points_of(tokens, ppl, [1] * 5 + [2] * 5)
    second = points_of(tokens, ppl * np.exp(0.01 * np.arange(10) % 7), [1] * 5 + [2] * 5)
    assert compared(first, first).n == 5
    assert compared(first, second).n == 10


def test_a_sign_that_hangs_on_one_size_is_reported():
    shift = np.outer([1.0, 1.05, 0.95], [0.3, 0, 0, 0, 0]) + 0.005 * np.outer([1, 0, -1], [0, -2, -1, 1, 2])
    found = compared(line(SIXTEENFOLD, np.tile(FIRST, (3, 1))), line(SIXTEENFOLD, FIRST + shift))
    assert found.verdict == "second falls faster"
    assert [(flip.becomes, flip.dropped[0]) for flip in found.flips] == [
        ("not distinguishable", SIXTEENFOLD[0])
    ]
