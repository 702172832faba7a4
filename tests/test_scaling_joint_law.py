"""The law of parameters and data together: planted laws come back; what points cannot tell is not told."""

import json
import warnings

import numpy as np
import pytest
from test_scaling_table import write_csv

from cvfp.cli.main import main
from cvfp.records.errors import InputError
from cvfp.scaling.joint_law import (
    differing,
    fit_joint_law,
    hold_out_params,
    hold_out_tokens,
    joint_cells,
)
from cvfp.scaling.table import TableOptions, fit_joint_table, fit_table

E, A, B, a, b = CHINCHILLA = (1.817, 482.0, 2085.0, 0.348, 0.366)
"""As Besiroglu et al. (2024) print them."""
PRINTED_ERRORS = {"E": 0.03, "a": 0.02, "b": 0.02}
MODELS, SIZES = np.geomspace(1e6, 1e9, 5), np.geomspace(1e8, 1e11, 6)


def grid(models=MODELS, sizes=SIZES):
    """Every model at every size: N and D, (n,) each."""
    params, tokens = np.meshgrid(models, sizes)
    return params.ravel(), tokens.ravel()


def planted(params, tokens, noise=0.0, rng=None, law=CHINCHILLA):
    """Losses of the law, with normal noise of ln L."""
    E, A, B, a, b = law
    loss = E + A / params**a + B / tokens**b
    return loss if rng is None else loss * np.exp(noise * rng.normal(size=loss.shape))


def fit_of(params, tokens, loss):
    return fit_joint_law(joint_cells(params, tokens, np.exp(loss)))


def iso_flop(rng, outliers=0):
    """240 runs at nine budgets, as the Chinchilla paper has them: N over two decades at each."""
    budgets = np.repeat(np.geomspace(6e18, 3e21, 9), 27)[:240]
    params = np.sqrt(budgets / 120) * np.exp(rng.uniform(-2, 2, 240))
    tokens = budgets / 6 / params
    loss = planted(params, tokens, 0.004, rng)
    loss[rng.choice(240, outliers, replace=False)] *= 1.1
    return params, tokens, loss


# --- The fit.


def test_a_law_without_noise_comes_back_to_many_digits():
    params, tokens = grid()
    fit = fit_of(params, tokens, planted(params, tokens))
    assert fit.status == "converged" and fit.reason is None
    expected = {"E": E, "A": A, "B": B, "a": a, "b": b, "share": b / (a + b)}
    assert fit.parameters == pytest.approx(expected, rel=1e-8)
    assert fit.law.loss(params, tokens) == pytest.approx(planted(params, tokens), rel=1e-9)


@pytest.mark.parametrize("outliers", [0, 8])
def test_a_table_of_the_shape_of_chinchilla_gives_its_law_with_outliers_too(outliers):
    fit = fit_of(*iso_flop(np.random.default_rng(0), outliers))
    assert fit.status == "converged"
    for name, error in PRINTED_ERRORS.items():
        assert fit.parameters[name] == pytest.approx({"E": E, "a": a, "b": b}[name], abs=error)
        low, high = fit.intervals[name]
        assert low < fit.parameters[name] < high and high - low < 4 * error


def coverage(runs, noise):
    rng, params_tokens = np.random.default_rng(5), grid()
    truth = {"E": E, "a": a, "b": b, "share": b / (a + b)}
    hits = dict.fromkeys([*truth, "optimum"], 0)
    best = (a * A / (b * B)) ** (1 / (a + b)) * (1e21 / 6) ** (b / (a + b))
    for _ in range(runs):
        fit = fit_of(*params_tokens, planted(*params_tokens, noise, rng))
        for name, value in truth.items():
            hits[name] += fit.intervals[name][0] <= value <= fit.intervals[name][1]
        low, high = fit.optimum(1e21).params_ci95
        hits["optimum"] += low <= best <= high
    return {name: count / runs for name, count in hits.items()}


def test_intervals_hold_the_planted_values():
    assert min(coverage(4, 0.002).values()) >= 3 / 4


@pytest.mark.long
def test_intervals_hold_the_planted_values_in_95_percent():
    assert all(0.89 <= share <= 0.995 for share in coverage(100, 0.002).values())


def test_the_order_of_runs_changes_nothing_and_runs_of_one_cell_are_one():
    rng, (params, tokens) = np.random.default_rng(1), grid()
    loss = planted(params, tokens, 0.002, rng)
    fit, order = fit_of(params, tokens, loss), rng.permutation(len(loss))
    again = fit_of(params[order], tokens[order], loss[order])
    assert again.parameters == fit.parameters and again.scale == fit.scale
    off = 0.1 * rng.normal(size=len(loss))
    twice = fit_of(np.tile(params, 2), np.tile(tokens, 2), np.concatenate([loss + off, loss - off]))
    assert len(twice.cells.loss) == len(loss)
    assert twice.parameters == pytest.approx(fit.parameters, rel=1e-6)


@pytest.mark.parametrize(("of_params", "of_tokens"), [(1e9, 1), (1, 1e9), (1e-3, 1e-3)])
def test_units_of_parameters_and_data_change_only_their_coefficients(of_params, of_tokens):
    params, tokens = grid()
    loss = planted(params, tokens, 0.002, np.random.default_rng(2))
    one, other = fit_of(params, tokens, loss), fit_of(params * of_params, tokens * of_tokens, loss)
    same = ("E", "a", "b", "share")
    assert [other.parameters[name] for name in same] == pytest.approx(
        [one.parameters[name] for name in same], rel=1e-6
    )
    rescaled = [one.law.A * of_params**one.law.a, one.law.B * of_tokens**one.law.b]
    found = [other.law.A, other.law.B]
    assert found == pytest.approx(rescaled, rel=1e-4)


# --- What points cannot tell.


@pytest.mark.parametrize(
    ("models", "sizes", "reason"),
    [(MODELS[:1], SIZES, "params"), (MODELS[:2], SIZES, "params"), (MODELS, SIZES[:2], "tokens")],
)
def test_few_model_or_data_sizes_do_not_identify_it(models, sizes, reason):
    params, tokens = grid(models, sizes)
    fit = fit_of(params, tokens, planted(params, tokens))
    assert (fit.status, fit.reason, fit.law) == ("not_identifiable", reason, None)
    assert fit.optimum(1e20) is None and set(fit.intervals.values()) == {None}


def test_five_cells_do_not_identify_it():
    params, tokens = MODELS, SIZES[[0, 2, 1, 4, 3]]
    assert fit_of(params, tokens, planted(params, tokens)).reason == "cells"


def test_parameters_and_data_that_move_together_do_not_identify_it():
    params = np.geomspace(1e6, 1e9, 12)
    fit = fit_of(params, 20 * params, planted(params, 20 * params))
    assert (fit.status, fit.reason) == ("not_identifiable", "together")


def test_noise_that_hides_the_floor_does_not_identify_it():
    params, tokens = grid(MODELS[:3], SIZES[:3])
    fit = fit_of(params, tokens, planted(params, tokens, 0.05, np.random.default_rng(3)))
    assert fit.status != "converged" and fit.parameters["share"] is None


@pytest.mark.parametrize(("index", "reason"), [(1, "flat in N"), (2, "flat in D"), (0, "E zero")])
def test_a_part_that_is_not_there_is_at_its_bound(index, reason):
    law = np.array(CHINCHILLA)
    law[index] = 0
    params, tokens = grid()
    loss = planted(params, tokens, law=law) - (0.05 if index == 0 else 0)
    loss = (
        loss + (0.001 * np.log(params) if index == 1 else 0) + (0.001 * np.log(tokens) if index == 2 else 0)
    )
    fit = fit_of(params, tokens, loss)
    assert (fit.status, fit.reason) == ("at_bound", reason)


# --- A budget, hold-outs, conventions.


def test_the_optimum_is_the_lowest_loss_of_the_budget():
    params, tokens = grid()
    fit = fit_of(params, tokens, planted(params, tokens, 0.002, np.random.default_rng(4)))
    best = fit.optimum(1e20)
    assert 6 * best.params * best.tokens == pytest.approx(1e20)
    tried = best.params * np.geomspace(0.5, 2, 101)
    losses = fit.law.loss(tried, 1e20 / 6 / tried)
    assert losses.argmin() == 50 and losses[50] == pytest.approx(best.loss)
    assert best.params_ci95[0] < best.params < best.params_ci95[1]
    assert best.tokens_ci95[0] < best.tokens < best.tokens_ci95[1]
    assert not best.beyond and fit.optimum(1e24).beyond
    growth = np.log(fit.optimum(1e24).params / best.params) / np.log(1e4)
    assert growth == pytest.approx(fit.law.share)


def test_hidden_sizes_are_predicted_from_the_rest():
    params, tokens = grid()
    cells = joint_cells(params, tokens, np.exp(planted(params, tokens, 0.002, np.random.default_rng(6))))
    by_size, by_model = hold_out_tokens(cells, 2), hold_out_params(cells)
    assert by_size.hidden.tokens.min() == pytest.approx(SIZES[-2]) and len(by_size.fit.cells.loss) == 20
    assert by_model.hidden.params.min() == pytest.approx(MODELS[-1]) and len(by_model.fit.cells.loss) == 24
    for found in (by_size, by_model):
        assert found.rms < 0.03 and abs(found.bias) <= found.rms and found.held >= len(found.hidden.loss) - 1


def test_a_holdout_that_leaves_too_little_says_so():
    params, tokens = grid()
    cells = joint_cells(params, tokens, np.exp(planted(params, tokens)))
    found = hold_out_tokens(cells, 4)
    assert (found.fit.reason, found.rms, found.held) == ("tokens", None, None)
    assert hold_out_tokens(cells, 6) is None
    with pytest.raises(InputError, match="holdout: must be at least 1 size, got 0"):
        hold_out_tokens(cells, 0)


def test_where_counts_of_parameters_change_the_answer_is_named():
    params, tokens = grid()
    loss = planted(params, tokens, 0.001, np.random.default_rng(7))
    all_of_them = fit_of(params, tokens, loss)
    few_more, embeddings = fit_of(params * 1.001, tokens, loss), fit_of(params + 1e8, tokens, loss)
    assert differing(all_of_them, few_more, 1e20) == []
    found = differing(all_of_them, embeddings, 1e20)
    assert found == ["status"] or {"a", "share"} <= set(found)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        (([1.0, 2.0], [1.0], [2.0, 2.0]), "one value each per run is needed, got 2, 1, 2, 1"),
        (([], [], []), "one value each per run is needed, got 0, 0, 0, 0"),
        (([0.0], [1.0], [2.0]), "params: must be positive and finite, got 0"),
        (([1.0], [np.inf], [2.0]), "tokens: must be positive and finite, got inf"),
        (([1.0], [1.0], [1.0]), "needs perplexities above 1, got 1"),
    ],
)
def test_bad_runs_are_refused(runs, message):
    with pytest.raises(InputError, match=message):
        joint_cells(*runs)


# --- `cvfp fit --params`.

HEADER = ["size", "n_params", "n_body", "tokens", "loss"]


@pytest.fixture
def table(tmp_path):
    rng, (params, tokens) = np.random.default_rng(8), grid()
    loss = planted(params, tokens, 0.002, rng)
    rows = [
        (f"{n:.0e}", round(n * 1.1), round(n), round(d), f"{y:.5f}")
        for n, d, y in zip(params, tokens, loss, strict=True)
    ]
    return write_csv(tmp_path / "joint.csv", HEADER, rows)


def run(capsys, *arguments):
    code = main(["fit", *map(str, arguments)])
    output = capsys.readouterr()
    return code, output.out, output.err


def test_the_command_gives_both_counts_the_optimum_and_the_holdouts(table, capsys):
    options = [
        "--y",
        "loss",
        "--unit",
        "nats",
        "--params",
        "n_params",
        "n_body",
        "--budget",
        "1e20",
        "--holdout",
        "1",
    ]
    code, out, err = run(capsys, table, *options, "--json")
    (group,) = json.loads(out)["groups"]
    assert (code, err) == (0, "")
    assert [law["params"] for law in group["laws"]] == ["n_params", "n_body"]
    assert group["differing"] == {"n_body": ["tokens"]}  # a tenth more of N leaves less for D
    law = group["laws"][0]
    assert set(law) == {
        *("params", "n", "num_model_sizes", "num_data_sizes", "status", "reason", "parameters", "ci95"),
        *("scale", "optimum", "holdouts"),
    }
    assert (law["n"], law["num_model_sizes"], law["num_data_sizes"]) == (30, 5, 6)
    assert law["parameters"]["a"] == pytest.approx(a, abs=0.02)
    assert [one["hidden"] for one in law["holdouts"]] == ["tokens", "params"]
    code, out, _ = run(capsys, table, *options)
    assert code == 0
    for text in ("L = E + A / N^a + B / D^b", "1e+20 FLOPs", "the largest model, 1.1G", "converged"):
        assert text in out
    assert "counting n_body instead of n_params changes the answer: best tokens." in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--params", "n_param"], r"no column 'n_param' (did you mean 'n_params'?); it has: size, n_params"),
        (["--params", "n_params", "n_params"], "column 'n_params' is given twice among x, y and params"),
        (["--params", "tokens"], "column 'tokens' is given twice among x, y and params"),
        (["--params", "size", "--window", "3"], "window: is for laws of data alone"),
        (["--params", "n_params", "--budget", "0"], "budget: must be positive and finite, got 0"),
        (["--params", "n_params", "--budget", "1e-300"], "1e-300 FLOPs is so far from the data that the PPL"),
        (["--params", "n_params", "--holdout", "0"], "holdout: must be at least 1 size, got 0"),
        (["--budget", "1e20"], "--budget: needs --params"),
    ],
)
def test_bad_options_are_refused_in_one_line(table, capsys, options, message):
    code, out, err = run(capsys, table, "--y", "loss", "--unit", "nats", *options)
    assert (code, out) == (2, "") and message in err and err.count("\n") == 1


def test_a_perplexity_of_1_is_refused_with_its_row(tmp_path):
    path = write_csv(tmp_path / "t.csv", ["params", "tokens", "ppl"], [(1, 1, 90), (1, 2, 1), (2, 1, 3)])
    with pytest.raises(
        InputError, match="line 3: column 'ppl': a law of the loss needs a perplexity above 1"
    ):
        fit_joint_table(path, ["params"])


def test_a_column_that_names_model_sizes_makes_no_groups_and_that_is_said(tmp_path):
    params, tokens = grid()
    rows = [
        (f"d{n:.0e}", n, d, np.exp(y))
        for n, d, y in zip(params, tokens, planted(params, tokens), strict=True)
    ]
    path, notes = write_csv(tmp_path / "t.csv", ["config", "params", "tokens", "ppl"], rows), []
    (group,) = fit_joint_table(path, ["params"], note=notes.append)["groups"]
    assert group["laws"][0]["status"] == "converged"
    names = ", ".join(dict.fromkeys(row[0] for row in rows))
    assert notes == [f"all: one law over {names}; where they differ in more than size, use --by"]
    assert len(fit_joint_table(path, ["params"], TableOptions(by="config"))["groups"]) == 5


def test_groups_without_counts_are_left_out_and_that_is_said(tmp_path):
    rows = [("a", f"d{n:.0e}", n, d, y) for n, d, y in zip(*grid(), planted(*grid()), strict=True)]
    rows += [("b", "counts", "", 10**k, 5) for k in (6, 7)] + [("c", "5gram", 9 * d, d, 5) for d in SIZES]
    path, notes = write_csv(tmp_path / "t.csv", ["arm", "config", "params", "tokens", "loss"], rows), []
    found = fit_joint_table(path, ["params"], TableOptions(y="loss", unit="nats"), note=notes.append)
    assert [group["group"] for group in found["groups"]] == ["a", "c / 5gram"]
    assert [group["laws"][0]["reason"] for group in found["groups"]] == [None, "N and D move together"]
    assert "b / counts: no law of parameters, since it has no params" in notes


@pytest.mark.parametrize("shared", [True, False])
def test_parameters_pooled_into_one_line_are_noted(tmp_path, shared):
    params, tokens = grid()
    if not shared:
        tokens = tokens * np.linspace(0.8, 1.2, len(tokens))
    rows = list(zip(params, tokens, planted(params, tokens), strict=True))
    path, notes = write_csv(tmp_path / "t.csv", ["params", "tokens", "loss"], rows), []
    fit_table(path, TableOptions(y="loss", unit="nats"), note=notes.append)
    assert notes == [
        "all: fitted as one line; where params tells lines apart, use --by, or --params for one law of "
        "parameters and data"
    ]
    notes.clear()
    fit_joint_table(path, ["params"], TableOptions(y="loss", unit="nats"), note=notes.append)
    assert notes == []


def test_parameters_that_grow_with_the_data_are_named(tmp_path):
    rows = [(7 * d, d, 3 + 30 / d**0.3) for d in (1000, 2000, 4000, 8000, 16000)]
    path, notes = write_csv(tmp_path / "t.csv", ["params", "tokens", "loss"], rows), []
    fit_table(path, TableOptions(y="loss", unit="nats"), note=notes.append)
    assert notes == ["all: with tokens changes params, too: the law is of both together, not of data alone"]


def test_a_budget_far_beyond_the_data_has_no_interval_or_is_refused():
    """Neither a warning nor a traceback, however far."""
    params, tokens = (
        values.ravel() for values in np.meshgrid(np.geomspace(1e6, 1e9, 4), np.geomspace(1e8, 1e11, 4))
    )
    noise = np.random.default_rng(0).normal(0, 0.002, len(params))
    losses = (1.8 + 400 / params**0.35 + 400 / tokens**0.37) * np.exp(noise)
    fit = fit_joint_law(joint_cells(params, tokens, np.exp(losses)))
    assert fit.status == "converged"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for budget in (1e30, 1e60, 1e100, 1e200, 1e300):
            best = fit.optimum(budget)
            assert best is not None and best.beyond
            assert best.params_ci95 is None or best.params_ci95[0] <= best.params <= best.params_ci95[1]
