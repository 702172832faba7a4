"""Summaries of a sweep's points: what is fitted, what is left out and why, and which point is best."""

import pytest

from cvfp.records.plan import Analysis
from cvfp.records.results import PointRecord
from cvfp.scaling.power_law import fit_power_law
from cvfp.scaling.summary import forecasts, progressions, summarise

TOKENS = {50: 60_000, 100: 120_000, 200: 240_000, 400: 480_000, 800: 960_000}


def point(samples: int, ppl: float | None, **changes) -> PointRecord:
    fields = {
        "arm": "cvfp",
        "config_name": "1L_768d_2tok",
        "config_hash": "abc",
        "status": "done",
        "num_layers": 1,
        "context_dim": 768,
        "num_input_tokens": 2,
        "context_block_params": 1_771_776,
        "num_samples": samples,
        "train_tokens": TOKENS[samples],
        "seed": 42,
        "val_ppl": ppl,
    }
    return PointRecord(**(fields | changes))


def power(samples: int) -> float:
    return 1e5 * TOKENS[samples] ** -0.45


def test_summary_holds_the_law_of_the_line():
    (summary,) = summarise([point(samples, power(samples)) for samples in TOKENS], Analysis())
    assert summary.alpha == pytest.approx(-0.45)
    assert pytest.approx(1e5) == summary.A
    assert summary.r_squared == pytest.approx(1)
    assert summary.alpha_ci95 == pytest.approx((-0.45, -0.45))
    assert (summary.num_layers, summary.context_dim, summary.num_input_tokens) == (1, 768, 2)
    assert (summary.context_block_params, summary.fitted_points) == (1_771_776, 5)
    assert summary.excluded == ()


def test_capped_and_failed_points_are_left_out_with_a_sentence_each():
    points = [
        point(50, 1.0, stop_reason="cap"),
        point(100, power(100), stop_reason="patience"),
        point(200, power(200)),
        point(400, None, status="failed", train_tokens=None),
        point(800, None),
    ]
    (summary,) = summarise(points, Analysis())
    assert summary.alpha == pytest.approx(-0.45)
    assert summary.alpha_ci95 is None
    assert summary.fitted_points == 2
    assert summary.excluded == (
        "50 samples, seed 42: stopped at its cap",
        "400 samples, seed 42: failed",
        "800 samples, seed 42: has no val_ppl or no train_tokens",
    )


def test_capped_points_are_fitted_when_asked_for():
    points = [point(50, power(50), stop_reason="cap"), point(100, power(100)), point(200, power(200))]
    (summary,) = summarise(points, Analysis(include_capped=True))
    assert summary.fitted_points == 3
    assert summary.excluded == ()


def test_one_remaining_size_gives_no_law_and_says_so():
    points = [point(50, 300.0), point(50, 310.0, seed=43, train_tokens=61_000)]
    points.append(point(100, 200.0, stop_reason="cap"))
    (summary,) = summarise(points, Analysis())
    assert (summary.alpha, summary.A, summary.r_squared, summary.alpha_ci95) == (None, None, None, None)
    assert summary.fitted_points == 0
    assert summary.excluded == (
        "50 samples, seed 42: the only size left, and a fit needs two",
        "50 samples, seed 43: the only size left, and a fit needs two",
        "100 samples, seed 42: stopped at its cap",
    )
    assert forecasts(points, Analysis()) == []


def test_best_values_come_from_the_lowest_val_ppl_even_if_capped():
    best = {"val_acc": 0.3, "train_ppl": 80.0, "val_er": 0.8, "phase1_iter": 23, "stop_reason": "cap"}
    points = [point(50, 400.0), point(100, 150.0, **best), point(200, 200.0, val_acc=0.4)]
    (summary,) = summarise(points, Analysis())
    assert (summary.best_ppl, summary.best_acc, summary.best_train_ppl) == (150.0, 0.3, 80.0)
    assert (summary.best_val_er, summary.best_iter) == (0.8, 23)


def test_a_line_of_failures_has_a_summary_of_nones():
    (summary,) = summarise([point(50, None, status="failed", context_block_params=None)], Analysis())
    assert summary.alpha is None
    assert summary.best_ppl is None
    assert summary.context_block_params is None
    assert summary.excluded == ("50 samples, seed 42: failed",)


def test_lines_are_told_apart_by_arm_and_hash_in_order_of_appearance():
    points = [
        point(50, 300.0, config_hash="b"),
        point(50, 300.0, arm="kneser-ney", num_layers=None, context_dim=None),
        point(50, 300.0, config_hash="a"),
        point(100, 200.0, config_hash="b"),
    ]
    summaries = summarise(points, Analysis())
    assert [(s.arm, s.config_hash) for s in summaries] == [
        ("cvfp", "b"),
        ("kneser-ney", "abc"),
        ("cvfp", "a"),
    ]
    assert [s.fitted_points for s in summaries] == [2, 0, 0]


def test_progression_of_a_line_by_hand():
    ppl = {50: 1000.0, 100: 500.0, 200: 250.0, 400: 250 / 2**0.5, 800: 125.0}  # slopes -1, -1, -1/2, -1/2
    points = [point(samples, value) for samples, value in ppl.items()]
    (record,) = progressions(points, Analysis(window_size=3))
    assert [window.sample_range for window in record.windows] == [(50, 200), (100, 400), (200, 800)]
    assert record.windows[0].token_range == (60_000, 240_000)
    assert [window.alpha for window in record.windows] == pytest.approx([-1, -0.75, -0.5])
    assert record.alpha_change == pytest.approx(0.5)
    assert record.alpha_change_percent == pytest.approx(50)
    assert record.trend == "degrading"


def test_no_windows_asked_for_or_fewer_than_two_give_no_progression():
    points = [point(samples, power(samples)) for samples in TOKENS]
    assert progressions(points, Analysis()) == []
    assert progressions(points, Analysis(window_size=5)) == []


def test_forecasts_stand_at_the_requested_sizes():
    points = [point(samples, power(samples) * (1.02 if samples == 200 else 1)) for samples in TOKENS]
    law = fit_power_law([p.train_tokens for p in points], [p.val_ppl for p in points])
    (one,) = forecasts(points, Analysis(extrapolate=(1e7,)))
    assert (one.tokens, one.ppl) == (1e7, pytest.approx(float(law.predict(1e7))))
    assert (one.low, one.high) == pytest.approx(tuple(map(float, law.prediction_interval(1e7))))
    assert [one.tokens for one in forecasts(points, Analysis())] == [4 * 960_000, 10 * 960_000]


def test_forecasts_of_two_points_have_no_interval():
    (one,) = forecasts([point(50, 300.0), point(100, 200.0)], Analysis(extrapolate=(1e6,)))
    assert (one.low, one.high) == (None, None)
