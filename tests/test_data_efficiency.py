"""With how many times the data one line reaches the loss of another."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from cvfp.api import Results
from cvfp.report.changes import LineChange
from cvfp.report.fit_cells import fit_texts
from cvfp.scaling import data_ratios, points_of
from cvfp.scaling.table import TableOptions, fit_table

RESULTS = Path(__file__).parents[1] / "docs" / "results"
SIZES = np.array([1e5, 2e5, 4e5, 8e5])


def line(factor: float, draws=(1, 2, 3), noise=None, sizes=SIZES):
    """PPL = 5000 * (factor * D)^-0.3, by a factor of exp(noise) more per draw."""
    errors = np.zeros(len(draws)) if noise is None else np.asarray(noise)
    tokens = np.tile(sizes, len(draws))
    seeds = [seed for seed in draws for _ in sizes]
    ppl = 5000 * (factor * np.exp(np.repeat(errors, len(sizes))) * tokens) ** -0.3
    return points_of(tokens, ppl, seeds)


def test_a_line_that_is_as_good_with_a_share_of_the_data_is_found_to_be():
    found = data_ratios(line(1.6), line(1.0))
    assert [one.tokens for one in found] == SIZES.tolist()
    assert [one.reached for one in found] == ["before", *["measured"] * 3]
    assert [one.ratio for one in found[1:]] == [pytest.approx(1 / 1.6)] * 3
    assert found[0].ratio is None and found[0].bound == pytest.approx(1)


def test_a_line_that_needs_more_is_not_extrapolated():
    found = data_ratios(line(0.5), line(1.0))
    assert [one.reached for one in found] == [*["measured"] * 3, "never"]
    assert [one.ratio for one in found[:3]] == [pytest.approx(2.0)] * 3
    assert found[3].ratio is None and found[3].bound == pytest.approx(1)
    assert [one.bound for one in data_ratios(line(0.1), line(1.0))] == pytest.approx([8, 4, 2, 1])


def test_the_interval_is_students_over_draws():
    noise = np.array([-0.1, 0.02, 0.05])
    found = data_ratios(line(1.5, noise=noise), line(1.0))[2]
    logs = -math.log(1.5) - noise
    expected = stats.t.interval(0.95, 2, loc=logs.mean(), scale=stats.sem(logs))
    assert found.ratio == pytest.approx(math.exp(logs.mean()))
    assert found.interval == pytest.approx(tuple(np.exp(expected)))
    assert found.draws == 3


def test_one_draw_has_no_interval_and_draws_that_differ_in_kind_no_ratio():
    assert data_ratios(line(1.5, draws=(1,)), line(1.0, draws=(1,)))[3].interval is None
    found = data_ratios(line(1.0, noise=[-1.0, 0.0, 1.0]), line(1.0))
    assert (found[3].reached, found[3].ratio, found[3].bound) == ("differs", None, None)


def test_only_draws_of_both_are_compared():
    found = data_ratios(line(1.5, (1, 2, 7), noise=[0.0, 0.1, 0.2]), line(1.0, draws=(1, 2, 9)))
    assert [one.draws for one in found] == [2] * 4
    assert data_ratios(line(1.5, draws=(1,)), line(1.0, draws=(2,))) == []


def test_draws_with_the_same_result_are_one():
    """An arm that its seed cannot affect has no interval, however many seeds it ran with."""
    (*_rest, last) = data_ratios(line(1.5), line(1.0))
    assert (last.ratio, last.interval, last.draws) == (pytest.approx(1 / 1.5), None, 1)
    two = data_ratios(line(1.5, (1, 2), noise=[0.0, 0.1]), line(1.0, draws=(1, 2)))[-1]
    copied = data_ratios(line(1.5, (1, 2, 3, 4), noise=[0.0, 0.1, 0.0, 0.1]), line(1.0, (1, 2, 3, 4)))[-1]
    assert (copied.interval, copied.draws) == (pytest.approx(two.interval), 2)


def test_a_draw_that_lacks_an_end_of_the_line_does_not_speak():
    """One of fewer sizes would end before the others, and silence them."""
    full, other = line(1.5, (1, 2), noise=[0.0, 0.1]), line(1.0, (1, 2, 3))
    short = line(1.5, (3,), sizes=SIZES[:2])
    both = points_of([*full.tokens, *short.tokens], [*full.ppl, *short.ppl], [*full.draws, *short.draws])
    assert data_ratios(both, other) == data_ratios(full, other)


@pytest.mark.parametrize("seeds", [3, 5])
def test_of_two_equal_lines_the_lucky_one_is_not_called_better(seeds):
    """At the largest size, where half of the curves end too early: the interval holds 1 in about 95%."""
    rng, held, said = np.random.default_rng(0), [], 0
    for _ in range(600):
        noise = rng.normal(0, 0.02, (2, seeds, 5))
        sizes = 1e5 * 2.0 ** np.arange(5)
        one, two = (
            points_of(
                np.tile(sizes, seeds),
                (5000 * sizes**-0.2 * np.exp(each)).ravel(),
                np.repeat(np.arange(seeds), 5).tolist(),
            )
            for each in noise
        )
        top = data_ratios(one, two)[-1]
        if top.interval is not None:
            said += 1
            held.append(top.interval[0] <= 1 <= top.interval[1])
    assert said > 200 and np.mean(held) > 0.88


def test_equal_lines_need_equal_data_at_every_size():
    same = line(1.0)
    assert [one.ratio for one in data_ratios(same, same)] == [pytest.approx(1.0)] * 4


@given(
    falls=st.lists(st.floats(0.01, 1.0), min_size=2, max_size=6),
    share=st.floats(0.001, 0.999),
    scale=st.sampled_from([1.0, 1e-3, 1e9]),
)
def test_the_ratio_is_where_the_curve_has_the_loss(falls, share, scale):
    """Any falling curve: numpy's interpolation of its inverse, whatever the unit of tokens."""
    tokens = 1e5 * 2.0 ** np.arange(len(falls))
    losses = 8 - np.cumsum(falls)
    target = losses[0] + share * (losses[-1] - losses[0])
    (found,) = data_ratios(
        points_of(scale * tokens, np.exp(losses), [1] * len(tokens)),
        points_of([scale * 3e5], [math.exp(target)], [1]),
    )
    expected = np.interp(target, losses[::-1], np.log(tokens)[::-1])
    assert math.log(found.ratio) == pytest.approx(expected - math.log(3e5), abs=1e-6)


def test_the_first_time_a_curve_has_the_loss_counts():
    """One that rises again has reached it where it first did."""
    curve = points_of(SIZES, [100, 50, 70, 40], [1] * 4)
    (found,) = data_ratios(curve, points_of([4e5], [50], [1]))
    assert found.ratio == pytest.approx(0.5)


def test_initialisations_of_a_draw_count_once():
    line_of_two = points_of(np.repeat(SIZES, 2), np.repeat([100, 80, 60, 50], 2) * np.tile([0.9, 1 / 0.9], 4))
    (found,) = data_ratios(line_of_two, points_of([1e5], [60]))
    assert found.ratio == pytest.approx(4.0) and found.draws == 1


def test_cvfp_fit_says_it_of_a_difference(tmp_path):
    rows = ["line,seed,tokens,ppl"]
    for name, factor in (("old", 1.0), ("new", 1.6)):
        for seed, error in ((1, 1.0), (2, 1.05)):
            rows += [f"{name},{seed},{size:.0f},{5000 * (factor * error * size) ** -0.3}" for size in SIZES]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join(rows))
    found = fit_table(path, TableOptions(difference=("old", "new")))["difference"]["data_ratios"]
    assert found[3]["tokens"] == 8e5 and found[3]["reached"] == "measured"
    assert found[3]["ratio"] == pytest.approx(1 / 1.6)


def test_a_comparison_in_python_has_it_beside_the_change():
    """Of the kept runs: cvfp reaches the 5-gram's PPL at 100 documents with 1.3 times its data."""
    shown = repr(Results(RESULTS / "v3").compare("cvfp", "kneser-ney"))
    (row,) = [line.split() for line in shown.splitlines() if line.split()[:1] == ["100"]]
    line_of = {line.label: line for line in Results(RESULTS / "v3").lines}
    expected = LineChange(line_of["cvfp"], line_of["kneser-ney"]).data_ratios[100]
    assert f"{expected.ratio:.2f}" in row and expected.ratio == pytest.approx(1.30, abs=0.005)
    assert "needs for the same PPL, over that of kneser-ney" in shown


def test_cvfp_fit_says_what_the_largest_size_says(tmp_path):
    """Not only where there is an answer: what is not reached, or reached at once, is told too."""

    def texts(alpha: float, factor: float) -> str:
        rows = ["line,seed,tokens,ppl"]
        for name, slope, scale in (("old", 0.3, 1.0), ("new", alpha, factor)):
            for seed, error in ((1, 1.0), (2, 1.02)):
                rows += [f"{name},{seed},{n:.0f},{3000 * scale * error * n**-slope}" for n in SIZES]
        path = tmp_path / "rows.csv"
        path.write_text("\n".join(rows))
        return "\n".join(fit_texts(fit_table(path, TableOptions(difference=("old", "new")))))

    flatter = texts(0.2, 0.27)  # ahead at first, behind at the end
    assert "new reaches the PPL that old has at 100,000 tokens with less than" not in flatter
    assert "new has not reached the PPL that old has at 800,000 tokens with 1.00 times the data" in flatter
    far = texts(0.3, 0.3)
    assert "new reaches the PPL that old has at 800,000 tokens with less than 0.12 times the data" in far
