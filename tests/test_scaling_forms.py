"""Forms of the law: planted truth comes back, and what the points do not determine is said to be so."""

import numpy as np
import pytest
from scaling_helpers import SIX, SIXTEENFOLD, line, nested_noise

from cvfp.records.errors import InputError
from cvfp.scaling.forms import (
    CELLS,
    GRID,
    NUM_PARAMETERS,
    compare_forms,
    fit_form,
    fit_forms,
    fit_profile,
    form_verdicts,
    preferred,
    statuses,
)
from cvfp.scaling.points import points_of

SOURCE = (5.4e13 / SIX) ** 0.095
"""The loss without noise on which R^2 alone would take the power law of PPL for true."""
FLOORED = 3 + 400 * SIX**-0.4


def by_name(points) -> dict:
    return {fit.form: fit for fit in fit_forms(points)}


def choice(points) -> dict:
    return {one.fit.form: one.verdict for one in compare_forms(points)}


@pytest.mark.parametrize(
    ("form", "losses", "planted"),
    [
        ("ppl_power", 12 - 0.4 * np.log(SIX), {"A": np.exp(12), "alpha": -0.4}),
        ("loss_power", SOURCE, {"B": 5.4e13**0.095, "beta": 0.095}),
        ("loss_floor", FLOORED, {"E": 3.0, "B": 400.0, "beta": 0.4}),
    ],
)
def test_each_form_is_recovered_without_noise_and_preferred(form, losses, planted):
    points = line(SIX, losses)
    fit = by_name(points)[form]
    assert fit.status == "converged" and fit.parameters == pytest.approx(planted, rel=1e-6)
    assert choice(points)[form] == "preferred"
    several = fit_form(line(SIX, np.stack([losses, losses])), form)
    assert several.status == "converged" and several.parameters == pytest.approx(planted, rel=1e-6)


def test_a_power_law_of_the_loss_is_not_taken_for_one_of_ppl_although_r_squared_is_0_996():
    points = line(SIX, SOURCE)
    law = by_name(points)["ppl_power"].law
    truth = np.exp((5.4e13 / (SIX[-1] * np.array([4, 10]))) ** 0.095)
    assert law.r_squared == pytest.approx(0.996, abs=5e-4)
    assert 1 - law.predict([4e7, 1e8]) / truth == pytest.approx([0.22, 0.33], abs=5e-3)
    assert choice(points) == {"ppl_power": "worse", "loss_power": "preferred", "loss_floor": "not compared"}


def test_the_search_over_beta_finds_the_minimum_of_a_fine_grid():
    rng = np.random.default_rng(0)
    losses = FLOORED + 0.05 * rng.normal(size=(20, 6))
    fit = fit_profile(np.log(SIX), losses, floor=True)
    for row, y in enumerate(losses):
        rss = []
        for beta in np.linspace(0.01, 4, 4000):
            design = np.stack([np.ones(6), SIX**-beta / SIX[0] ** -beta], axis=1)
            rss.append(np.sum((y - design @ np.linalg.lstsq(design, y, rcond=None)[0]) ** 2))
        assert fit.rss[row] <= min(rss) + 1e-12


def test_rows_of_long_curves_are_those_of_one_at_a_time():
    rng, x = np.random.default_rng(0), np.linspace(10, 18, 400)
    losses = 2 + 3 * np.exp(-0.2 * (x - 10)) + 0.01 * rng.normal(size=(15, 400))
    assert CELLS // (GRID * 400) < 15  # in several parts
    together = fit_profile(x, losses, True)
    for row in range(15):
        alone = fit_profile(x, losses[row : row + 1], True)
        assert [together.E[row], together.beta[row], together.rss[row]] == [alone.E, alone.beta, alone.rss]
    assert abs(together.E - 2).max() < 0.05


def test_forms_without_a_floor_do_not_beat_one_with_it_in_sample():
    losses = SOURCE + 0.05 * np.random.default_rng(1).normal(size=(50, 6))
    fits = [fit_profile(np.log(SIX), losses, floor) for floor in (False, True)]
    assert (fits[1].rss <= fits[0].rss + 1e-12).all() and (fits[1].E >= 0).all() and (fits[1].b >= 0).all()


def test_the_floor_is_not_identifiable_where_its_profile_is_flat():
    """The same law and noise, 0.03 nats: sizes over a factor of 4 do not tell its floor, over 100 they do."""
    rng, near = np.random.default_rng(2), np.geomspace(1e6, 4e6, 6)
    truth = 3 + 400 * near**-0.4
    found = statuses(line(near, truth), "loss_floor", truth + 0.03 * rng.normal(size=(200, 6)))
    assert found.count("not_identifiable") > 130 and found.count("converged") < 40
    wide = statuses(line(SIX, FLOORED), "loss_floor", FLOORED + 0.03 * rng.normal(size=(200, 6)))
    assert wide == ["converged"] * 200


def test_a_floor_is_seen_where_there_is_none_in_at_most_5_percent_of_lines():
    rows = SOURCE + 0.02 * np.random.default_rng(3).normal(size=(1000, 6))
    assert statuses(line(SIX, SOURCE), "loss_floor", rows).count("converged") <= 50


def test_a_loss_that_does_not_fall_is_at_a_bound():
    found = by_name(line(SIX, 3 + 0.01 * np.log(SIX)))
    assert {name: fit.status for name, fit in found.items()} == {
        "ppl_power": "converged",
        "loss_power": "at_bound",
        "loss_floor": "at_bound",
    }
    assert found["loss_power"].intervals == {"beta": None}
    assert set(choice(line(SIX, 3 + 0.01 * np.log(SIX))).values()) == {"not compared"}


def test_without_a_floor_the_best_one_is_at_its_bound():
    fit = by_name(line(SIX, 12 - 0.4 * np.log(SIX)))["loss_floor"]
    assert fit.status == "at_bound" and fit.parameters["E"] == 0


@pytest.mark.parametrize("form", NUM_PARAMETERS)
def test_no_more_points_than_parameters_are_not_identifiable(form):
    p = NUM_PARAMETERS[form]
    short = fit_form(line(SIX[:p], FLOORED[:p]), form)
    assert short.status == "not_identifiable" and not short.extrapolates
    assert all(interval is None for interval in short.intervals.values())
    enough = fit_form(line(SIX[: p + 1], FLOORED[: p + 1]), form)
    assert enough.status == "converged" and all(enough.intervals.values())
    assert fit_form(line(SIX[:2], FLOORED[:2]), "loss_floor").law is None


@pytest.mark.parametrize(
    ("losses", "without_verdict"), [(FLOORED, {5: 0, 4: 3, 3: 3}), (SOURCE, {5: 1, 4: 1, 3: 3})]
)
def test_a_choice_needs_a_score_of_every_converged_form(losses, without_verdict):
    """Five sizes score three parameters, four two; a floor that is told but not scored leaves no choice."""
    noise = 0.0005 * np.random.default_rng(4).normal(size=6)
    for n, count in without_verdict.items():
        verdicts = list(choice(line(SIX[:n], (losses + noise)[:n])).values())
        assert verdicts.count("not compared") == count


def test_noise_makes_forms_not_distinguishable():
    rng = np.random.default_rng(5)
    truth = 5.7 * (SIXTEENFOLD / 6e4) ** -0.065
    rows = truth + 0.03 * rng.normal(size=(300, 5))
    chosen = [preferred(verdicts) for verdicts in form_verdicts(line(SIXTEENFOLD, truth), rows)]
    assert chosen.count("not distinguishable") > 250
    assert sum(name in ("ppl_power", "loss_floor") for name in chosen) < 20


@pytest.mark.long
def test_across_draws_a_wrong_form_is_preferred_in_at_most_5_percent_of_nested_lines():
    rng = np.random.default_rng(6)
    truth = 5.7 * (SIXTEENFOLD / 6e4) ** -0.065
    rows = (truth + nested_noise(rng, (400, 5, 5))).reshape(400, -1)
    verdicts = form_verdicts(line(SIXTEENFOLD, np.tile(truth, (5, 1))), rows)
    assert sum(preferred(each) in ("ppl_power", "loss_floor") for each in verdicts) <= 20


@pytest.mark.long
def test_intervals_of_a_floored_law_hold_along_one_line():
    """Truth L = 3 + 400 D^-0.4, eight sizes from 1e5 to 1e7, independent normal noise of 0.01 nats."""
    rng, tokens = np.random.default_rng(7), np.geomspace(1e5, 1e7, 8)
    truth, new = 3 + 400 * tokens**-0.4, 3 + 400 * 4e7**-0.4
    held = []
    for _ in range(400):
        fit = fit_form(line(tokens, truth + 0.01 * rng.normal(size=8)), "loss_floor")
        low, high = fit.law.prediction_interval(4e7)
        beta, E = fit.intervals["beta"], fit.intervals["E"]
        measured = np.exp(new + 0.01 * rng.normal())
        held.append([low <= measured <= high, beta[0] <= 0.4 <= beta[1], E[0] <= 3 <= E[1]])
    assert (np.mean(held, axis=0) >= 0.92).all() and (np.mean(held, axis=0) <= 0.98).all()


def test_several_draws_are_fitted_one_by_one():
    losses = np.stack([SOURCE * scale for scale in (0.98, 1.0, 1.03)])
    fit = fit_form(line(SIX, losses), "loss_power")
    assert fit.law.interval_kind == "draws" and len(fit.law.laws) == 3
    assert fit.intervals["beta"] == pytest.approx((0.095, 0.095), abs=1e-9)
    assert fit.law.predict(1e8) == pytest.approx(np.exp(np.mean([0.98, 1.0, 1.03]) * (5.4e13 / 1e8) ** 0.095))


def test_bad_points_are_refused():
    with pytest.raises(InputError, match="needs perplexities above 1, got 1"):
        fit_form(points_of([1, 2, 3], [3, 2, 1]), "loss_power")
    with pytest.raises(InputError, match="at least two distinct sizes, got 1"):
        fit_forms(points_of([1, 1], [3, 2]))
    with pytest.raises(InputError, match=r"one value each per point is needed, got 2, 1, 2, 2"):
        points_of([1, 2], [3])
    with pytest.raises(InputError, match="ppl: must be positive and finite, got nan"):
        points_of([1, 2], [3, float("nan")])
