"""Backtests: hidden sizes stay hidden, scores are as defined, and the baseline has an interval."""

import numpy as np
import pytest
from scaling_helpers import SIX, SIXTEENFOLD, line, nested_noise

from cvfp.records.errors import InputError
from cvfp.scaling.forecast import holdout, interval_score, last_slope
from cvfp.scaling.forms import fit_form
from cvfp.scaling.points import points_of

X = np.log(SIX)
SOURCE = (5.4e13 / SIX) ** 0.095


def by_name(points, hide: int) -> dict:
    return {one.form: one for one in holdout(points, hide).forms}


def test_the_score_is_the_width_and_40_times_the_distance_missed():
    assert interval_score(1.0, 3.0, 2.0) == pytest.approx(2)
    assert interval_score(1.0, 3.0, 3.5) == pytest.approx(2 + 20)
    assert interval_score(1.0, 3.0, 0.9) == pytest.approx(2 + 4)


def test_the_largest_sizes_are_hidden_from_every_form():
    noise = 0.01 * np.random.default_rng(0).normal(size=6)
    found = by_name(line(SIX, SOURCE + noise), 2)
    altered = by_name(line(SIX, SOURCE + noise + [0, 0, 0, 0, 1, 2]), 2)
    assert list(found) == ["outlook", "ppl_power", "loss_power", "loss_floor", "last_slope"]
    for name, one in found.items():
        assert [(p.tokens, p.predicted, p.low) for p in one.predictions] == [
            (p.tokens, p.predicted, p.low) for p in altered[name].predictions
        ]
    assert [p.tokens for p in found["last_slope"].predictions] == pytest.approx(SIX[4:])
    assert altered["last_slope"].predictions[1].measured == pytest.approx(np.exp(SOURCE[5] + noise[5] + 2))


def test_the_true_form_beats_the_last_slope_and_the_wrong_one_misses():
    noise = 0.002 * np.random.default_rng(1).normal(size=6)
    found = by_name(line(SIX, SOURCE + noise), 2)
    true, wrong = found["loss_power"], found["ppl_power"]
    assert true.ratio < 0.5 and true.coverage == 1
    assert true.ratio == pytest.approx(true.interval_score / found["last_slope"].interval_score)
    assert found["last_slope"].ratio == 1
    assert wrong.predictions[-1].predicted < wrong.predictions[-1].measured and true.ratio < wrong.ratio


def test_scores_are_means_of_those_of_ln_ppl():
    one = by_name(line(SIX, SOURCE + 0.01 * np.random.default_rng(2).normal(size=6)), 2)["ppl_power"]
    scores = [interval_score(np.log(p.low), np.log(p.high), np.log(p.measured)) for p in one.predictions]
    assert one.interval_score == pytest.approx(np.mean(scores))
    assert one.coverage == np.mean([p.held for p in one.predictions])


def test_what_is_not_identifiable_predicts_nothing():
    found = by_name(line(SIX, 12 - 0.4 * X), 1)
    assert found["loss_floor"].status == "at_bound"
    assert (found["loss_floor"].predictions, found["loss_floor"].ratio) == ((), None)
    short = by_name(line(SIX[:4], SOURCE[:4]), 2)
    assert {name: one.predictions for name, one in short.items()} == dict.fromkeys(short, ())
    assert short["ppl_power"].status == "not_identifiable"
    assert holdout(line(SIX[:3], SOURCE[:3]), 2) is None


def test_the_last_slope_goes_through_the_two_largest_sizes():
    law = last_slope(line(SIX, SOURCE))
    assert law.predict(SIX[-2:]) == pytest.approx(np.exp(SOURCE[-2:]))
    slope = (SOURCE[-1] - SOURCE[-2]) / (X[-1] - X[-2])
    assert law.log_ppl(1e8) == pytest.approx(SOURCE[-1] + slope * np.log(10))
    assert last_slope(line(SIX[:2], SOURCE[:2])).prediction_interval(1e8) is None
    with pytest.raises(InputError, match="tokens that increase"):
        last_slope(points_of([5, 5], [3, 2], sizes=[1, 2]))


@pytest.mark.parametrize("sizes", [4, 5, 8])
def test_the_interval_of_the_last_slope_holds_on_a_straight_line(sizes):
    """Independent, equal, normal noise of ln PPL; sizes that double; the next size is predicted.

    The errors at known sizes share points with one another and with the one to come, so t is an
    approximation.
    """
    rng, tokens, held = np.random.default_rng(3), 6e4 * 2.0 ** np.arange(sizes + 1), []
    for _ in range(2000):
        y = 9 - 0.4 * np.log(tokens) + 0.03 * rng.normal(size=sizes + 1)
        low, high = last_slope(line(tokens[:-1], y[:-1])).prediction_interval(tokens[-1])
        held.append(low <= np.exp(y[-1]) <= high)
    assert 0.92 <= np.mean(held) <= 0.98


def test_across_draws_the_intervals_are_for_the_law_of_a_new_draw():
    rng = np.random.default_rng(4)
    losses = 9 - 0.4 * np.log(SIXTEENFOLD) + nested_noise(rng, (4, 5))
    points = line(SIXTEENFOLD, losses)
    found = by_name(points, 1)["ppl_power"].predictions[0]
    law = fit_form(points.of_sizes(points.distinct_sizes[:-1]), "ppl_power").law
    assert (found.low, found.high) == pytest.approx(law.prediction_interval(SIXTEENFOLD[-1]))
    assert found.measured == pytest.approx(np.exp(losses[:, -1].mean()))
    assert last_slope(points).interval_kind == "draws"


def test_without_a_loss_above_0_only_the_power_law_of_ppl_is_asked():
    found = holdout(points_of([1, 2, 4, 8, 16], [0.9, 0.7, 0.6, 0.5, 0.4]), 1)
    assert [one.form for one in found.forms] == ["outlook", "ppl_power", "last_slope"]


def test_at_least_one_size_is_hidden():
    with pytest.raises(InputError, match="holdout: must be at least 1 size, got 0"):
        holdout(line(SIX, SOURCE), 0)
