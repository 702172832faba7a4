"""The one forecast of a line: it holds the truth where it is given, and is refused where no form fits."""

import numpy as np
import pytest
from marks import one_quick
from scaling_helpers import SIX, line, nested_noise
from test_scaling_table import write_csv

from cvfp.records.errors import InputError
from cvfp.scaling.forms import compare_forms
from cvfp.scaling.line import LineAnalysis
from cvfp.scaling.outlook import outlook
from cvfp.scaling.points import Points, points_of
from cvfp.scaling.rows import table_of
from cvfp.scaling.table import TableOptions, analyse_table, fit_table

SIZES = np.geomspace(5e4, 16e5, 5)
X = np.log(SIZES[-1] / SIZES[0])


def knee(before: float, after: float):
    """A power law of PPL whose exponent changes at 0.55 of the range of ln D."""
    return lambda x: 6 - before * np.minimum(x, 0.55 * X) - after * np.maximum(x - 0.55 * X, 0)


TRUTHS = {
    "power": lambda x: 6 - 0.38 * x,
    "kaplan": lambda x: 6 * np.exp(-0.08 * x),
    "floor": lambda x: 1.8 + 4.2 * np.exp(-0.25 * x),
}
WAVE = np.array([1.0, -1.0, 0.5, 1.0, -1.0, 0.3])
KNEES = {"down": knee(0.40, 0.20), "up": knee(0.25, 0.45)}


def sweep(truth, rng: np.random.Generator, seeds: int = 3) -> Points:
    return line(SIZES, truth(np.log(SIZES / SIZES[0])) + nested_noise(rng, (seeds, len(SIZES))))


def told(truth, trials: int, seeds: int = 3) -> tuple[float, np.ndarray]:
    """The share of sweeps with a forecast, and that of those forecasts which hold the truth at 4x and 10x."""
    rng, held = np.random.default_rng(5), []
    for _ in range(trials):
        found = outlook(sweep(truth, rng, seeds))
        if found.refused is None:
            far = [(found.at(times * SIZES[-1]), truth(X + np.log(times))) for times in (4, 10)]
            held.append([one.low <= np.exp(true) <= one.high for one, true in far])
    return len(held) / trials, np.mean(held, axis=0)


@pytest.mark.parametrize("name", one_quick("floor", "power", "kaplan"))
def test_a_forecast_of_a_true_form_holds_and_is_seldom_refused(name):
    given, held = told(TRUTHS[name], 30)
    assert given >= 0.75
    assert held[0] >= 0.9 and held[1] >= 0.85


@pytest.mark.parametrize("name", one_quick("down", "up"))
def test_a_line_with_a_knee_has_no_forecast(name):
    rng = np.random.default_rng(6)
    refused = [outlook(sweep(KNEES[name], rng)).refused for _ in range(30)]
    assert set(refused) <= {None, "fit"} and refused.count("fit") >= 22


@pytest.mark.parametrize("name", one_quick("up", "down"))
def test_no_form_is_preferred_of_a_line_with_a_knee(name):
    """By left-out sizes alone one is, of nearly every such line that steepens."""
    rng, verdicts = np.random.default_rng(6), []
    for _ in range(10):
        found = LineAnalysis(sweep(KNEES[name], rng, seeds=5))
        verdicts += [one.verdict for one in found.forms]
        if found.outlook.refused is not None:
            assert not any(flip.verdict == "form" for flip in found.flips)
    assert "preferred" not in verdicts
    assert name == "down" or verdicts.count("does not fit") >= 8


def test_what_could_not_be_tested_is_not_preferred():
    four = LineAnalysis(line(SIX[:4], 9 - 0.4 * np.log(SIX[:4]) + np.array([0, 1e-4, -1e-4, 0])))
    assert [one.verdict for one in compare_forms(four.points)][:2] == ["preferred", "worse"]
    assert {one.verdict for one in four.forms} == {"not compared"}


def test_a_form_that_fits_is_preferred():
    verdicts = [one.verdict for one in LineAnalysis(line(SIX, 9 - 0.4 * np.log(SIX) + 1e-4 * WAVE)).forms]
    assert verdicts == ["preferred", "worse", "not compared"]


def test_an_interval_knows_of_lack_of_fit():
    bent = line(SIX, 8 - 0.02 * (np.log(SIX) - 11) ** 2.5 + nested_noise(np.random.default_rng(0), (4, 6)))
    found = outlook(bent)
    assert found.refused == "fit" and found.at(1e8) is None
    assert max(found.tried.values()) < 0.01


def test_a_seed_at_each_size_is_no_more_than_one_seed():
    """Alternating seeds tell nothing of the error that four points of one seed would not."""
    four = points_of(SIX[:4], np.exp(7 - 0.3 * np.log(SIX[:4] / SIX[0])), [0, 1, 0, 1])
    assert outlook(four).refused == "seed"


def test_few_sizes_have_no_forecast():
    exact = 1.8 + 3.6 * (SIX / 1e6) ** -0.25
    assert outlook(line(SIX[:2], exact[:2])).refused == "sizes"
    assert outlook(line(SIX[:3], np.tile(exact[:3], (3, 1)))).refused == "sizes"
    assert outlook(line(SIX[:4], exact[:4])).refused == "seed"


def test_exact_points_are_forecast_exactly():
    one = outlook(line(SIX, 1.8 + 3.6 * (SIX / 1e6) ** -0.25)).at(1e8)
    true = np.exp(1.8 + 3.6 * 100**-0.25)
    assert one.ppl == pytest.approx(true, rel=1e-3) and one.low <= true * 1.001 and one.high >= true * 0.999
    assert one.high / one.low < 1.01


def test_the_interval_of_a_new_run_holds_that_of_the_law():
    one = outlook(sweep(TRUTHS["power"], np.random.default_rng(1))).at(1e7)
    assert one.run_low < one.low < one.ppl < one.high < one.run_high


def test_no_perplexity_below_1_is_forecast():
    steep = outlook(line(SIX, 12 - 0.6 * np.log(SIX) + 0.01 * np.sin(np.arange(6))))
    far = steep.at(1e15)
    assert steep.refused is None and min(far.ppl, far.low, far.run_low) >= 1


@pytest.mark.parametrize("tokens", [1e-300, 1e-200, 1e-30])
def test_a_forecast_without_a_finite_perplexity_is_refused(tokens):
    floor = outlook(line(SIX, 1.8 + 3.6 * (SIX / 1e6) ** -0.25))
    with pytest.raises(InputError, match=f"tokens: {tokens:g} is so far from the data"):
        floor.at(tokens)


def test_far_beyond_the_data_is_the_floor_or_1():
    for truth, level in ((1.8 + 3.6 * (SIX / 1e6) ** -0.25, 1.8), (1e-6 * (SIX / SIX[0]) ** -1.0, 0.0)):
        far = outlook(line(SIX, truth)).at(1e300)
        assert [far.ppl, far.low, far.high] == pytest.approx([np.exp(level)] * 3, rel=0.02)


def test_sizes_over_thirty_decades_have_a_forecast():
    sizes = np.array([1e-3, 1, 1e10, 1e20, 1e30])
    points = line(sizes, np.log([900, 300, 100, 40, 30]))
    one = outlook(points).at(1e35)
    assert 1 <= one.run_low <= one.low <= one.ppl <= one.high <= one.run_high


def test_a_curve_of_hundreds_of_sizes_is_forecast():
    sizes, rng = np.geomspace(5e4, 1e8, 400), np.random.default_rng(0)
    losses = 1.8 + 4.2 * np.exp(-0.25 * np.log(sizes / 5e4))
    one = outlook(line(sizes, losses + 0.01 * rng.normal(size=400))).at(1e9)
    true = np.exp(1.8 + 4.2 * 2e4**-0.25)
    assert one.low < true < one.high < 1.05 * one.low and one.run_high > 1.03 * one.run_low


def test_order_names_and_units_change_nothing():
    points = sweep(TRUTHS["floor"], np.random.default_rng(2))
    given = outlook(points).at(1e7)
    order = np.random.default_rng(3).permutation(len(points.tokens))
    other = points.kept(order)
    renamed = points_of(other.tokens, other.ppl, [{0: "c", 1: "a", 2: "b"}[draw] for draw in other.draws])
    scaled = points_of(points.tokens * 1e9, points.ppl, points.draws)
    for one in (outlook(renamed).at(1e7), outlook(scaled).at(1e16)):
        ends = [(each.ppl, each.low, each.high, each.run_low, each.run_high) for each in (one, given)]
        assert ends[0] == pytest.approx(ends[1], rel=1e-6)


def test_a_seed_with_two_sizes_does_not_widen_the_forecast():
    rng = np.random.default_rng(8)
    losses = TRUTHS["power"](np.log(SIZES / SIZES[0])) + nested_noise(rng, (4, 5))
    full = line(SIZES, losses[:3])
    more = points_of(
        [*full.tokens, *SIZES[:2]], [*full.ppl, *np.exp(losses[3, :2])], [*full.draws, "late", "late"]
    )
    widths = [np.log(one.high / one.low) for one in (outlook(each).at(1e7) for each in (full, more))]
    assert widths[1] < 1.25 * widths[0]


def test_a_seed_with_few_sizes_changes_nothing_else():
    """It tells its own sizes, and next to nothing of a law or a bend: both are as without it."""
    rng = np.random.default_rng(8)
    x = np.log(SIX)
    for losses, few in ((9 - 0.4 * x, 2), (6 * (SIX / SIX[0]) ** -0.08, 1), (9 - 0.4 * x, 2)):
        rows = losses + nested_noise(rng, (4, 6))
        full = line(SIX, rows[:3])
        more = points_of(
            [*full.tokens, *SIX[:few]], [*full.ppl, *np.exp(rows[3, :few] + 0.1)], [*full.draws, *["z"] * few]
        )
        known, found = (LineAnalysis(each) for each in (full, more))
        for one, other in (
            (known.law.alpha_ci95, found.law.alpha_ci95),
            (known.curvature.interval, found.curvature.interval),
            (known.change(known.windows(3)), found.change(found.windows(3))),
        ):
            assert one == pytest.approx(other)
        assert [one.loo_rms for one in known.forms] == pytest.approx([one.loo_rms for one in found.forms])
        assert found.law.n == 18 and found.points.short_draws == ["z"]


def test_a_seed_with_half_of_the_sizes_counts():
    rng = np.random.default_rng(9)
    rows = 9 - 0.4 * np.log(SIX) + nested_noise(rng, (3, 6))
    more = points_of(
        [*np.tile(SIX, 2), *SIX[:3]], np.exp([*rows[:2].ravel(), *rows[2, :3]]), [0] * 6 + [1] * 6 + [2] * 3
    )
    assert len(LineAnalysis(more).law.laws) == 3 and more.short_draws == []


# --- Through `cvfp fit`: rows that are no independent results, and rows of several lines.


def rows_of(copies: int, rng: np.random.Generator) -> list[tuple[int, str]]:
    losses = 9 - 0.4 * np.log(SIX) + 0.01 * rng.normal(size=6)
    return [(round(d), f"{np.exp(y):.4f}") for d, y in zip(SIX, losses, strict=True) for _ in range(copies)]


def test_copies_without_a_seed_narrow_nothing(tmp_path):
    found, notes = [], []
    for copies in (1, 20):
        rows = rows_of(copies, np.random.default_rng(4))
        path = write_csv(tmp_path / f"{copies}.csv", ["tokens", "ppl"], rows)
        found.append(fit_table(path, note=notes.append)["groups"][0])
    for one, other in zip(found[0]["extrapolation"], found[1]["extrapolation"], strict=True):
        assert one == pytest.approx(other)
    assert found[0]["alpha_ci95"] == pytest.approx(found[1]["alpha_ci95"])
    assert found[0]["n"] == found[1]["n"] == 6
    assert notes == ["all: 114 of 120 rows repeat another in every column and count once"]


def test_a_difference_is_free_of_the_order_of_rows(tmp_path):
    rng = np.random.default_rng(7)
    rows = [
        (name, round(d), f"{np.exp(9 + level - 0.4 * np.log(d) + 0.02 * rng.normal()):.3f}")
        for name, level in (("a", 0), ("b", 0.02))
        for d in SIX
        for _ in range(3)
    ]
    found = []
    for order in (range(len(rows)), rng.permutation(len(rows))):
        shuffled = sorted([rows[index] for index in order], key=lambda row: row[0])
        path = write_csv(tmp_path / "t.csv", ["line", "tokens", "ppl"], shuffled)
        found.append(fit_table(path, TableOptions(difference=("a", "b")))["difference"])
    for key in ("n", "alpha_difference", "alpha_difference_ci95", "first_ahead"):
        assert found[0][key] == pytest.approx(found[1][key])


def test_no_number_beyond_a_float_gets_into_the_answer(tmp_path):
    noisy = 6 - 0.4 * np.log(SIX / SIX[0]) + 0.3 * np.sin(7 * np.arange(6))
    rows = [(round(d), f"{np.exp(y):.4f}") for d, y in zip(SIX, np.maximum(noisy, 0.1), strict=True)]
    path = write_csv(tmp_path / "t.csv", ["tokens", "ppl"], rows)
    (group,) = fit_table(path, TableOptions(extrapolate=[1e-12]))["groups"]
    (one,) = group["extrapolation"]
    assert np.isfinite(one["ppl"]) and one["high"] is None and one["run_high"] is None


@pytest.mark.parametrize("failed", [[], [{"tokens": "1e3", "ppl": None, "status": "failed"}]])
def test_one_size_is_one_however_it_is_written(failed):
    rows = [{"tokens": size, "ppl": 90 - index} for index, size in enumerate([1000, "1000.0", "1e3"])]
    with pytest.raises(InputError, match="a power law needs at least two sizes"):
        analyse_table(table_of([*rows, *failed]))


def test_a_list_where_a_failed_row_has_no_size_is_no_error():
    rows = [{"tokens": [1], "ppl": 3, "status": "failed"}, *({"tokens": d, "ppl": 90 - d} for d in (1, 2, 3))]
    (group,) = analyse_table(table_of(rows)).groups
    assert group.points.points.tokens.tolist() == [1, 2, 3]


def test_a_group_of_one_row_does_not_end_the_others(tmp_path):
    rows = [("lone", 100, 50), *[("full", *row) for row in rows_of(1, np.random.default_rng(4))]]
    notes = []
    lone, full = fit_table(write_csv(tmp_path / "t.csv", ["line", "tokens", "ppl"], rows), note=notes.append)[
        "groups"
    ]
    assert (lone["alpha"], lone["no_forecast"]) == (None, "no law")
    assert full["alpha"] == pytest.approx(-0.4, abs=0.05)
    assert notes == ["lone: no fit, since fewer than two sizes are left"]


def test_models_of_several_sizes_in_one_line_are_noted(tmp_path):
    rows = [
        (params, round(d * params / 1e6), f"{np.exp(3 + 400 * d**-0.4 + 100 * params**-0.4):.4f}")
        for params in (1_000_000, 2_000_000, 4_000_000)
        for d in SIX
    ]
    notes = []
    fit_table(write_csv(tmp_path / "t.csv", ["params", "tokens", "ppl"], rows), note=notes.append)
    assert notes == [
        "all: fitted as one line; where params tells lines apart, use --by, "
        "or --params for one law of parameters and data"
    ]
