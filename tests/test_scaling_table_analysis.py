"""`cvfp fit`: forms, curvature, robustness, holdout and differences of a table, as JSON and as printed."""

import json

import numpy as np
import pytest
from scaling_helpers import SIX, nested_noise
from test_scaling_table import ROWS, write_csv

from cvfp.cli.main import main
from cvfp.records.errors import InputError
from cvfp.report.fit_cells import fit_tables, fit_texts
from cvfp.scaling.table import TableOptions, fit_table

FLOORED = 3 + 400 * SIX**-0.4
NOISE = 0.002 * np.random.default_rng(0).normal(size=6)


def rows_of(losses, group="a"):
    return [(group, round(d), f"{np.exp(y):.3f}") for d, y in zip(SIX, losses, strict=True)]


@pytest.fixture
def two(tmp_path):
    header = ["line", "tokens", "ppl"]
    return write_csv(
        tmp_path / "two.csv", header, rows_of(FLOORED + NOISE) + rows_of(FLOORED + 0.2 - 2 * NOISE, "b")
    )


def test_every_group_has_the_keys_of_the_contract(two):
    result = fit_table(two, TableOptions(holdout=2, difference=("a", "b")))
    assert json.loads(json.dumps(result, allow_nan=False)) == result
    group = result["groups"][0]
    assert [form["form"] for form in group["forms"]] == ["ppl_power", "loss_power", "loss_floor"]
    assert set(group["forms"][0]) == {
        *("form", "formula", "status", "verdict", "parameters", "ci95", "rss", "loo_rms"),
    }
    assert set(group["curvature"]) == {"coefficient", "ci95", "interval_kind", "verdict"}
    assert set(group["local_exponents"][0]) == {
        *("sample_range", "token_range", "alpha", "alpha_ci95", "interval_kind"),
    }
    assert group["holdout"]["hidden"] == [round(d) for d in SIX[4:]]
    assert set(group["holdout"]["forms"][0]) == {
        *("form", "status", "predictions", "interval_score", "ratio", "coverage"),
    }
    assert set(group["holdout"]["forms"][-1]["predictions"][0]) == {
        *("tokens", "predicted", "low", "high", "measured", "held"),
    }
    assert set(result["difference"]) == {
        *("first", "second", "paired", "n", "alpha_difference", "alpha_difference_ci95", "interval_kind"),
        *("verdict", "ahead_tokens", "first_ahead", "crossover", "robustness", "data_ratios"),
    }


def test_the_numbers_are_those_of_the_analyses(two):
    group, other = fit_table(two, TableOptions(holdout=1, difference=("a", "b")))["groups"]
    verdicts = {form["form"]: form["verdict"] for form in group["forms"]}
    assert verdicts == {"ppl_power": "worse", "loss_power": "worse", "loss_floor": "preferred"}
    assert group["forms"][2]["parameters"]["E"] == pytest.approx(3, abs=0.05)
    one = group["extrapolation"][0]  # only the form with a floor is adequate: it alone is forecast with
    assert one["tokens"] == 4e7 and one["low"] < np.exp(3 + 400 * 4e7**-0.4) < one["high"]
    assert group["curvature"]["verdict"] == "curved" and len(group["local_exponents"]) == 5
    assert [form["form"] for form in other["holdout"]["forms"]][::4] == ["outlook", "last_slope"]
    assert other["holdout"]["forms"][3]["ratio"] < 1


def test_without_a_holdout_or_a_difference_there_is_none(two):
    result = fit_table(two)
    assert "difference" not in result and result["groups"][0]["holdout"] is None


def test_losses_in_nats_give_what_their_perplexities_give(tmp_path, two):
    header = ["line", "tokens", "loss"]
    losses = [(line, tokens, f"{np.log(float(ppl)):.12f}") for line, tokens, ppl in rows_of(FLOORED + NOISE)]
    nats = fit_table(write_csv(tmp_path / "nats.csv", header, losses), TableOptions(y="loss", unit="nats"))[
        "groups"
    ][0]
    group = fit_table(two)["groups"][0]
    assert nats["alpha"] == pytest.approx(group["alpha"])
    assert nats["forms"][2]["parameters"] == pytest.approx(group["forms"][2]["parameters"])
    with pytest.raises(
        InputError,
        match=r"column 'ppl': 1338\.76 nats is no loss per token or byte; is it a perplexity",
    ):
        fit_table(two, TableOptions(unit="nats"))


def test_verdicts_that_do_not_survive_rounding_are_printed(tmp_path):
    losses = 12 - 0.4 * np.log(SIX) + 4e-5 * (np.log(SIX) - 13.8) ** 2
    fine = [("a", round(d), f"{np.exp(y):.6f}") for d, y in zip(SIX, losses, strict=True)]
    coarse = [("a", round(d), f"{np.exp(y):.1f}") for d, y in zip(SIX, losses, strict=True)]
    by_rounding = []
    for name, rows in (("fine", fine), ("coarse", coarse)):
        result = fit_table(write_csv(tmp_path / f"{name}.csv", ["line", "tokens", "ppl"], rows))
        assert result["groups"][0]["curvature"]["verdict"] == "curved"
        by_rounding.append([flip["by"] for flip in result["groups"][0]["robustness"]].count("rounding"))
        texts = fit_texts(result)
    assert by_rounding[0] == 0 < by_rounding[1]
    assert "a: curvature is 'curved', but 'straight within error' with inputs that print the same." in texts


def test_tables_name_a_group_once_and_leave_out_what_was_not_asked(two):
    titles = [title for title, _, _ in fit_tables(fit_table(two))]
    assert [title.split()[0] for title in titles] == ["PPL", "Forms", "Does"]
    tables = fit_tables(fit_table(two, TableOptions(holdout=1, window=3)))
    assert len(tables) == 5
    for _, header, rows in tables:
        assert {len(row) for row in rows} == {len(header)}
        assert [row[0] for row in rows if row[0]] == ["a", "b"]


def test_a_difference_is_told_in_sentences(two, tmp_path):
    texts = fit_texts(fit_table(two, TableOptions(difference=("a", "b"))))
    assert any(text.startswith("b against a (6 pairs): alpha ") for text in texts)
    assert (
        "Nothing is said beyond the data: that takes a power law that could be tested and fits both." in texts
    )
    straight = [rows_of(9 - slope * np.log(SIX) + NOISE, name) for name, slope in (("a", 0.4), ("b", 0.3))]
    path = write_csv(tmp_path / "t.csv", ["line", "tokens", "ppl"], straight[0] + straight[1])
    texts = fit_texts(fit_table(path, TableOptions(difference=("a", "b"))))
    assert any("a is lower at 100,000,000 tokens with probability" in text for text in texts)
    assert any("The lines cross at" in text for text in texts)


def test_several_seeds_are_paired_by_seed_copies_included(tmp_path):
    rng = np.random.default_rng(1)
    noisy = np.exp(FLOORED + nested_noise(rng, (3, 6)))
    rows = [
        ("a", seed, round(d), ppl) for seed in (1, 2, 3) for d, ppl in zip(SIX, noisy[seed - 1], strict=True)
    ]
    rows += [
        ("b", seed, round(d), np.exp(y)) for seed in (1, 2, 3) for d, y in zip(SIX, FLOORED, strict=True)
    ]
    path = write_csv(tmp_path / "t.csv", ["line", "seed", "tokens", "ppl"], rows)
    found = fit_table(path, TableOptions(difference=("b", "a")))["difference"]
    assert (found["paired"], found["n"], found["interval_kind"]) == (True, 18, "draws")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"holdout": 0}, "holdout: must be at least 1 size, got 0"),
        (
            {"holdout": 9},
            r"no group has sizes for a holdout of 9 beside two known sizes: 11 are needed, got 6",
        ),
        ({"difference": ("a", "c")}, "no fitted group 'c' to compare; there are: a, b"),
        ({"difference": ("A", "b")}, r"no fitted group 'A' \(did you mean 'a'\?\) to compare"),
        ({"difference": ("a", "a")}, "group 'a' is compared with itself; give two"),
    ],
)
def test_bad_requests_are_refused(two, options, message):
    with pytest.raises(InputError, match=message):
        fit_table(two, TableOptions(**options))


def test_a_group_with_too_few_sizes_for_the_holdout_is_noted(tmp_path):
    path, notes = write_csv(tmp_path / "t.csv", ["line", "tokens", "ppl"], ROWS), []
    a, b = fit_table(path, TableOptions(holdout=1), note=notes.append)["groups"]
    assert a["holdout"] is not None and b["holdout"] is None
    assert notes == ["b: no holdout of 1 beside two known sizes, since it has 2"]


def test_perplexities_below_1_have_a_law_and_one_form(tmp_path):
    rows = [(100, 0.9), (200, 0.7), (400, 0.6), (800, 0.5)]
    (group,) = fit_table(
        write_csv(tmp_path / "t.csv", ["tokens", "ratio"], rows), TableOptions(y="ratio", unit="ppl")
    )["groups"]
    assert [form["form"] for form in group["forms"]] == ["ppl_power"]


def test_the_command_prints_tables_or_json(two, capsys):
    asked = ["fit", str(two), "--holdout", "1", "--difference", "a", "b"]
    assert main(asked) == 0
    out = capsys.readouterr().out
    assert "L = E + B * D^-beta" in out and "last local slope" in out and "b against a (6 pairs)" in out
    assert main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == fit_table(
        two, TableOptions(holdout=1, difference=("a", "b"))
    )
    assert main(["fit", str(two), "--holdout", "0"]) == 2
    assert "holdout: must be at least 1 size, got 0" in capsys.readouterr().err
