"""Summaries of a sweep's points: what is fitted, what is left out and why, and which point is best."""

import pytest

from cvfp.records.plan import Analysis
from cvfp.records.results import PointRecord
from cvfp.scaling.summary import fit_lines, progressions, summarise

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


def forecasts(points, analysis):
    (fit,) = fit_lines(points, analysis)
    return [] if fit.analysis is None else fit.analysis.forecasts(analysis.extrapolate)


def reasons(summary) -> list[tuple[int, int, str]]:
    return [(one.num_samples, one.seed, one.reason) for one in summary.excluded]


def power(samples: int) -> float:
    return 1e5 * TOKENS[samples] ** -0.45


def test_summary_holds_the_law_of_the_line():
    (summary,) = summarise(fit_lines([point(samples, power(samples)) for samples in TOKENS], Analysis()))
    assert summary.alpha == pytest.approx(-0.45)
    assert pytest.approx(1e5) == summary.A
    assert summary.r_squared == pytest.approx(1)
    assert summary.alpha_ci95 == pytest.approx((-0.45, -0.45))
    assert (summary.num_layers, summary.context_dim, summary.num_input_tokens) == (1, 768, 2)
    assert (summary.context_block_params, summary.fitted_points) == (1_771_776, 5)
    assert summary.excluded == ()
    assert summary.interval_kind == "line"


def test_capped_and_failed_points_are_left_out_with_a_reason_each():
    points = [
        point(50, 1.0, stop_reason="cap"),
        point(100, power(100), stop_reason="dev_minimum"),
        point(200, power(200)),
        point(400, None, status="failed", train_tokens=None),
    ]
    (summary,) = summarise(fit_lines(points, Analysis()))
    assert summary.alpha == pytest.approx(-0.45)
    assert summary.alpha_ci95 is None
    assert summary.fitted_points == 2
    assert reasons(summary) == [(50, 42, "cap"), (400, 42, "failed")]


def test_capped_points_are_fitted_when_asked_for():
    points = [point(50, power(50), stop_reason="cap"), point(100, power(100)), point(200, power(200))]
    (summary,) = summarise(fit_lines(points, Analysis(include_capped=True)))
    assert summary.fitted_points == 3
    assert summary.excluded == ()


def test_one_remaining_size_gives_no_law_and_says_so():
    points = [point(50, 300.0), point(50, 310.0, seed=43, train_tokens=61_000)]
    points.append(point(100, 200.0, stop_reason="cap"))
    (summary,) = summarise(fit_lines(points, Analysis()))
    assert (summary.alpha, summary.A, summary.r_squared, summary.alpha_ci95) == (None, None, None, None)
    assert summary.fitted_points == 0
    assert reasons(summary) == [(50, 42, "lone_size"), (50, 43, "lone_size"), (100, 42, "cap")]
    assert forecasts(points, Analysis()) == []


def test_best_values_come_from_the_lowest_val_ppl_even_if_capped():
    best = {"val_acc": 0.3, "train_ppl": 80.0, "val_er": 0.8, "phase1_iter": 23, "stop_reason": "cap"}
    points = [point(50, 400.0), point(100, 150.0, **best), point(200, 200.0, val_acc=0.4)]
    (summary,) = summarise(fit_lines(points, Analysis()))
    assert (summary.best_ppl, summary.best_acc, summary.best_train_ppl) == (150.0, 0.3, 80.0)
    assert (summary.best_val_er, summary.best_iter) == (0.8, 23)


def test_a_line_of_failures_has_a_summary_of_nones():
    (summary,) = summarise(
        fit_lines([point(50, None, status="failed", context_block_params=None)], Analysis())
    )
    assert summary.alpha is None
    assert summary.best_ppl is None
    assert summary.context_block_params is None
    assert reasons(summary) == [(50, 42, "failed")]


def test_lines_are_told_apart_by_arm_and_hash_in_order_of_appearance():
    points = [
        point(50, 300.0, config_hash="b"),
        point(50, 300.0, arm="kneser-ney", num_layers=None, context_dim=None),
        point(50, 300.0, config_hash="a"),
        point(100, 200.0, config_hash="b"),
    ]
    summaries = summarise(fit_lines(points, Analysis()))
    assert [(s.arm, s.config_hash) for s in summaries] == [
        ("cvfp", "b"),
        ("kneser-ney", "abc"),
        ("cvfp", "a"),
    ]
    assert [s.fitted_points for s in summaries] == [2, 0, 0]


def test_progression_of_a_line_by_hand():
    ppl = {50: 1000.0, 100: 500.0, 200: 250.0, 400: 250 / 2**0.5, 800: 125.0}  # slopes -1, -1, -1/2, -1/2
    points = [point(samples, value) for samples, value in ppl.items()]
    (record,) = progressions(fit_lines(points, Analysis()), 3)
    assert [window.sample_range for window in record.windows] == [(50, 200), (100, 400), (200, 800)]
    assert record.windows[0].token_range == (60_000, 240_000)
    assert [window.alpha for window in record.windows] == pytest.approx([-1, -0.75, -0.5])
    assert record.alpha_change == pytest.approx(0.5)
    assert record.alpha_change_percent == pytest.approx(50)
    assert record.trend == "degrading"


def test_no_windows_asked_for_or_fewer_than_two_give_no_progression():
    points = [point(samples, power(samples)) for samples in TOKENS]
    assert progressions(fit_lines(points, Analysis()), None) == []
    assert progressions(fit_lines(points, Analysis()), 5) == []


def test_forecasts_stand_at_the_requested_sizes():
    points = [point(samples, power(samples) * (1.02 if samples == 200 else 1)) for samples in TOKENS]
    (one,) = forecasts(points, Analysis(extrapolate=(1e7,)))
    assert one.tokens == 1e7 and one.low < 1e5 * 1e7**-0.45 < one.high
    assert [one.tokens for one in forecasts(points, Analysis())] == [4 * 960_000, 10 * 960_000]


def test_two_sizes_have_no_forecast():
    assert forecasts([point(50, 300.0), point(100, 200.0)], Analysis(extrapolate=(1e6,))) == []


def drawn(seed: int, alpha: float, A: float = 1e5, sizes=(50, 100, 200, 400)) -> list[PointRecord]:
    """A draw whose points lie exactly on a law of its own."""
    return [point(size, A * TOKENS[size] ** alpha, seed=seed) for size in sizes]


def test_several_seeds_have_a_law_each_and_an_interval_across_them():
    points = drawn(1, -0.40) + drawn(2, -0.46, A=2e5) + drawn(3, -0.43)
    (summary,) = summarise(fit_lines(points, Analysis()))
    reach = 4.302652730 * 0.03 / 3**0.5  # t(0.975, 2 dof); the standard deviation of the alphas is 0.03
    assert summary.alpha == pytest.approx(-0.43)
    assert pytest.approx(1e5 * 2 ** (1 / 3)) == summary.A
    assert summary.alpha_ci95 == pytest.approx((-0.43 - reach, -0.43 + reach))
    assert (summary.interval_kind, summary.fitted_points, summary.excluded) == ("draws", 12, ())
    assert 0 < summary.r_squared < 1


def test_results_that_the_seed_cannot_affect_are_one_draw():
    noisy = {50: 500.0, 100: 380.0, 200: 270.0, 400: 205.0}
    points = [point(size, ppl, seed=seed) for seed in (42, 43, 44) for size, ppl in noisy.items()]
    (summary,) = summarise(fit_lines(points, Analysis()))
    (alone,) = summarise(fit_lines(points[:4], Analysis()))
    assert (summary.alpha, summary.alpha_ci95) == (alone.alpha, alone.alpha_ci95)
    assert (summary.interval_kind, summary.fitted_points) == ("line", 4)
    assert reasons(summary)[0] == (50, 43, "repeated")
    assert {one.repeated_seed for one in summary.excluded} == {42}
    assert len(summary.excluded) == 8


def test_a_seed_with_one_size_is_left_out_beside_two_with_laws():
    points = drawn(1, -0.40) + drawn(2, -0.44) + drawn(3, -0.42, sizes=(50,))
    (summary,) = summarise(fit_lines(points, Analysis()))
    assert summary.alpha == pytest.approx(-0.42)
    assert reasons(summary) == [(50, 3, "lone_seed")]


def test_sizes_of_different_seeds_share_one_law_when_no_two_seeds_have_one():
    points = drawn(1, -0.45, sizes=(50, 100, 200)) + drawn(2, -0.45, sizes=(400,))
    (summary,) = summarise(fit_lines(points, Analysis()))
    assert (summary.fitted_points, summary.interval_kind) == (4, "line")
    assert summary.alpha == pytest.approx(-0.45)


def test_a_window_that_bridges_a_size_names_it():
    points = [point(samples, power(samples)) for samples in TOKENS]
    points[2] = point(200, power(200), stop_reason="cap")
    (record,) = progressions(fit_lines(points, Analysis()), 3)
    assert [window.sample_range for window in record.windows] == [(50, 400), (100, 800)]
    assert [window.missing_sizes for window in record.windows] == [(200,), (200,)]
    other = [point(samples, power(samples), arm="kneser-ney") for samples in TOKENS if samples != 400]
    found = progressions(fit_lines(points[:2] + points[3:] + other, Analysis()), 4)
    assert found == []
    (_, bridging) = progressions(fit_lines(points + other, Analysis()), 3)
    assert [window.missing_sizes for window in bridging.windows] == [(), (400,)]


def test_the_change_of_the_exponent_has_an_interval_across_draws():
    points = drawn(1, -0.40, sizes=TOKENS) + drawn(2, -0.44, sizes=TOKENS)
    bent = [p.model_copy(update={"val_ppl": p.val_ppl * 1.1}) if p.num_samples == 800 else p for p in points]
    (record,) = progressions(fit_lines(bent, Analysis()), 3)
    assert record.alpha_change > 0.01 and record.windows[0].interval_kind == "draws"
    low, high = record.alpha_change_ci95  # both draws bend alike, so their changes do not differ
    assert (low, high) == pytest.approx((record.alpha_change, record.alpha_change))
