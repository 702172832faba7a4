"""Paired differences: equal tokens and seeds only, draws as the unit, and no verdict without an interval."""

import math

import numpy as np
import pytest
from scipy import stats

from cvfp.records.results import PointRecord
from cvfp.scaling.points import Change, at_largest_size, field_change, law_of_ratio, paired, ppl_change

SIZES = (50, 100, 200, 400)


def point(size: int, ppl: float | None, seed: int = 1, tokens: int | None = None, **changes) -> PointRecord:
    known = {"arm": "cvfp", "config_name": "a", "config_hash": "h", "status": "done"}
    tokens = 1000 * size + seed if tokens is None else tokens
    return PointRecord(
        **(known | {"num_samples": size, "seed": seed, "train_tokens": tokens, "val_ppl": ppl} | changes)
    )


def power(alpha: float, A: float, seeds=(1,), sizes=SIZES, noise=lambda size, seed: 0.0) -> list[PointRecord]:
    return [
        point(size, A * (1000 * size + seed) ** alpha * math.exp(noise(size, seed)), seed)
        for size in sizes
        for seed in seeds
    ]


def test_pairs_have_the_same_size_seed_and_tokens_and_both_a_score():
    reference = [
        point(50, 300.0),
        point(100, 200.0),
        point(200, 150.0),
        point(400, None, status="failed"),
        point(50, 1.0, seed=2),
    ]
    other = [point(100, 210.0), point(50, 310.0), point(200, 140.0, tokens=7), point(400, 100.0)]
    assert [(a.val_ppl, b.val_ppl) for a, b in paired(reference, other)] == [(300.0, 310.0), (200.0, 210.0)]


def test_the_largest_size_is_that_of_the_pairs():
    pairs = paired(power(-0.3, 1e4), power(-0.3, 1e4, sizes=(50, 100)))
    assert [a.num_samples for a, _ in at_largest_size(pairs)] == [100]
    assert at_largest_size([]) == []


def test_a_change_of_ppl_is_the_mean_of_log_ratios_with_students_interval():
    ratios = (0.90, 0.93, 0.88)
    reference = [point(50, 100.0 * seed, seed) for seed in (1, 2, 3)]
    other = [point(50, 100.0 * seed * ratio, seed) for seed, ratio in zip((1, 2, 3), ratios, strict=True)]
    change = ppl_change(paired(reference, other))
    logs = np.log(ratios)
    low, high = stats.t.interval(0.95, 2, loc=logs.mean(), scale=stats.sem(logs))
    assert change.value == pytest.approx(100 * math.expm1(logs.mean()))
    assert change.interval == pytest.approx((100 * math.expm1(low), 100 * math.expm1(high)))
    assert (change.pairs, change.distinguishable) == (3, True)


def test_one_pair_or_one_result_seen_twice_has_no_interval():
    single = ppl_change(paired([point(50, 100.0)], [point(50, 110.0)]))
    repeated = ppl_change(
        paired(
            [point(50, 100.0, s, tokens=9) for s in (1, 2)], [point(50, 110.0, s, tokens=9) for s in (1, 2)]
        )
    )
    for change in (single, repeated):
        assert (round(change.value, 9), change.interval, change.distinguishable) == (10.0, None, None)
    assert repeated.pairs == 1


def test_a_change_that_covers_zero_is_not_distinguishable():
    reference = [point(50, 100.0 + seed, seed) for seed in (1, 2, 3)]
    other = [point(50, ppl, seed) for seed, ppl in ((1, 99.0), (2, 104.0), (3, 102.9))]
    assert ppl_change(paired(reference, other)).distinguishable is False


def test_equal_values_of_a_field_are_separate_observations_when_the_scores_differ():
    reference = [point(50, 100.0 + seed, seed, phase1_iter=19) for seed in (1, 2, 3)]
    other = [point(50, 90.0 + seed, seed, phase1_iter=11) for seed in (1, 2, 3)]
    change = field_change(paired(reference, other), "phase1_iter")
    assert (change.value, change.interval, change.pairs) == (-8.0, (-8.0, -8.0), 3)
    assert field_change(paired(reference, other), "val_er") is None


def test_the_law_of_the_ratio_is_the_difference_of_the_exponents():
    pairs = paired(power(-0.30, 1e4), power(-0.42, 2e4))
    law = law_of_ratio(pairs)
    assert law.alpha == pytest.approx(-0.12, abs=1e-12)
    assert pytest.approx(2.0) == law.A
    assert law.interval_kind == "line"


def test_noise_that_both_lines_share_drops_out_of_the_difference():
    draws = np.random.default_rng(0).normal(0, 0.1, size=(4, 3))
    shared = lambda size, seed: draws[SIZES.index(size), seed - 1]  # noqa: E731
    reference = power(-0.30, 1e4, (1, 2, 3), noise=shared)
    law = law_of_ratio(paired(reference, power(-0.35, 1e4, (1, 2, 3), noise=shared)))
    assert law.interval_kind == "draws"
    assert law.alpha_ci95 == pytest.approx((-0.05, -0.05), abs=1e-9)


def test_across_draws_the_interval_is_students_over_the_slopes():
    slopes = {1: -0.02, 2: -0.05, 3: -0.08}
    reference = power(-0.30, 1e4, (1, 2, 3))
    other = [p for seed, slope in slopes.items() for p in power(-0.30 + slope, 1e4, (seed,))]
    law = law_of_ratio(paired(reference, other))
    values = list(slopes.values())
    expected = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert law.alpha_ci95 == pytest.approx(expected)


def test_one_common_size_gives_no_law():
    assert law_of_ratio(paired(power(-0.3, 1e4), power(-0.3, 1e4, sizes=(50,)))) is None
    assert law_of_ratio([]) is None


def test_one_draw_gives_no_verdict_on_a_difference_of_exponents():
    """Its interval is over sizes: it may say that nothing is seen, but not what another draw would give."""
    bumps = {50: 0.001, 100: -0.001, 200: 0.0, 400: 0.0005}
    far = law_of_ratio(paired(power(-0.3, 1e4, noise=lambda size, seed: bumps[size]), power(-0.4, 1e4)))
    near = law_of_ratio(paired(power(-0.3, 1e4, noise=lambda size, seed: 20 * bumps[size]), power(-0.3, 1e4)))
    verdicts = [
        Change(law.alpha, law.alpha_ci95, law.n, law.interval_kind).distinguishable for law in (far, near)
    ]
    assert far.alpha_ci95[1] < 0 < near.alpha_ci95[1]
    assert verdicts == [None, False]
