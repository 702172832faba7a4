"""`cvfp fit`: which rows are one line, and lines without a law or without windows."""

import re
from decimal import Decimal

import numpy as np
import pytest
from test_scaling_table import ROWS, write_csv

import cvfp
from cvfp.records.errors import InputError
from cvfp.report.fit_cells import fit_tables, fit_texts, text_rows
from cvfp.scaling.rows import read_table
from cvfp.scaling.table import TableOptions, analyse_table, fit_joint_table, fit_table


@pytest.mark.parametrize("column", ["config_name", "config", "line"])
def test_a_column_that_names_lines_is_grouped_by(tmp_path, column):
    path, notes = write_csv(tmp_path / "t.csv", [column, "tokens", "ppl"], ROWS), []
    assert [group["group"] for group in fit_table(path, note=notes.append)["groups"]] == ["a", "b"]
    assert notes == []


def test_another_column_that_tells_lines_apart_is_noted(tmp_path):
    path, notes = write_csv(tmp_path / "t.csv", ["kind", "tokens", "ppl"], ROWS), []
    assert [group["group"] for group in fit_table(path, note=notes.append)["groups"]] == ["all"]
    assert notes == ["all: fitted as one line; where kind tells lines apart, use --by"]
    notes.clear()
    assert len(fit_table(path, TableOptions(by="kind"), note=notes.append)["groups"]) == 2
    assert notes == []


def test_columns_that_tell_no_lines_apart_are_not_noted(tmp_path):
    rows = [("cpu", 1.5, 100, 50), ("cpu", 1.6, 200, 36), ("cuda", 1.7, 400, 25), ("cuda", 1.8, 800, 18)]
    path, notes = write_csv(tmp_path / "t.csv", ["device", "seconds", "tokens", "ppl"], rows), []
    assert len(fit_table(path, note=notes.append)["groups"]) == 1
    assert notes == []


def test_equal_perplexities_have_no_law(tmp_path):
    rows = [("a", n, 50) for n in (100, 200, 400)] + [("b", 100, 80), ("b", 400, 20)]
    path, notes = write_csv(tmp_path / "t.csv", ["line", "tokens", "ppl"], rows), []
    a, b = fit_table(path, note=notes.append)["groups"]
    assert (a["n"], a["alpha"], a["r_squared"], a["alpha_ci95"]) == (3, None, None, None)
    assert b["alpha"] == pytest.approx(-1)
    assert notes == ["a: no fit, since column 'ppl' is 50 in every row"]


def test_a_group_with_too_few_sizes_for_a_window_is_noted(tmp_path):
    path, notes = write_csv(tmp_path / "t.csv", ["line", "tokens", "ppl"], ROWS), []
    a, b = fit_table(path, TableOptions(window=3), note=notes.append)["groups"]
    assert (len(a["windows"]), b["windows"]) == (1, [])
    assert notes == ["b: no window of 3 sizes, since it has 2"]


# --- What looks doubtful is fitted with a word on why.

POWER = [(60_000, 331.74), (120_000, 269.46), (240_000, 218.87), (480_000, 177.78), (960_000, 144.4)]
PER_BYTE = [(tokens, 0.9 - index / 50) for index, (tokens, _) in enumerate(POWER)]
LOSSES = [(tokens, 5.9 - index / 5) for index, (tokens, _) in enumerate(POWER)]
SAME_SAMPLES = [(tokens, 500 + tokens // 500_000, ppl) for tokens, ppl in POWER]
MANY = [(10_000 + x, 1000 * x**-0.3 + 50) for x in range(1, 3002)]


@pytest.mark.parametrize(
    ("columns", "rows", "options", "words"),
    [
        ("tokens loss", PER_BYTE, {"unit": "ppl"}, "below 1 somewhere"),
        (
            "tokens loss",
            LOSSES,
            {"unit": "ppl"},
            "perplexities (--unit), though its name says losses in nats",
        ),
        (
            "tokens val_ppl",
            LOSSES,
            {"unit": "nats"},
            "losses in nats (--unit), though its name says perplexities",
        ),
        ("tokens val_ppl", [(tokens / 1e6, ppl) for tokens, ppl in POWER], {}, "not of millions"),
        ("tokens num_samples val_ppl", SAME_SAMPLES, {}, "rows of one num_samples count once"),
        ("tokens val_ppl", MANY, {}, "3001 sizes are taken in 300 groups of neighbours"),
    ],
)
def test_what_looks_doubtful_is_said(tmp_path, columns, rows, options, words):
    table, notes = read_table(write_csv(tmp_path / "t.csv", columns.split(), rows)), []
    analyse_table(table, TableOptions(**options), notes.append)
    assert [note for note in notes if words in note], notes


def test_rows_of_one_size_and_seed_are_told_with_where_they_stand(tmp_path):
    rows = [
        ("x", width, seed, tokens, ppl * width / 100 + seed)
        for width in (128, 256)
        for seed in (0, 1)
        for tokens, ppl in POWER
    ]
    header, notes = ["model", "width", "seed", "tokens", "val_ppl"], []
    path = write_csv(tmp_path / "t.csv", header, rows)
    groups = fit_table(path, TableOptions(by="model,width"), notes.append)["groups"]
    assert len(groups) == 2 and not [note for note in notes if "count once" in note]
    fit_table(path, TableOptions(by="model"), notes.append)
    (note,) = [note for note in notes if "count once" in note]
    assert "rows of one tokens and seed count once, with their mean (10 fewer; " in note
    assert f"{path}, line 12 has those of {path}, line 2" in note and "name in --by" in note


def test_initialisations_of_one_draw_are_no_repetition(tmp_path):
    rows = [(seed, 7, tokens, ppl + seed / 100) for seed in (0, 1) for tokens, ppl in POWER]
    path, notes = write_csv(tmp_path / "t.csv", ["seed", "draw_seed", "tokens", "val_ppl"], rows), []
    assert fit_table(path, note=notes.append)["groups"][0]["n"] == 5 and not notes


def test_names_with_the_sign_between_their_parts_stay_apart(tmp_path):
    named = enumerate((("a / b", "c"), ("a", "b / c")), 1)
    rows = [(*name, tokens, ppl * scale) for scale, name in named for tokens, ppl in POWER]
    path = write_csv(tmp_path / "t.csv", ["arm", "config_name", "tokens", "val_ppl"], rows)
    names = [group["group"] for group in fit_table(path)["groups"]]
    assert names == ["'a / b' / c", "a / 'b / c'"]


def test_windows_of_a_group_without_samples_are_of_tokens(tmp_path):
    rows = [("a", tokens // 1000, tokens, ppl) for tokens, ppl in POWER]
    rows += [("b", "", tokens, ppl) for tokens, ppl in POWER]
    path = write_csv(tmp_path / "t.csv", ["config_name", "num_samples", "tokens", "val_ppl"], rows)
    a, b = fit_table(path, TableOptions(window=3))["groups"]
    assert a["windows"][0]["sample_range"] == [60, 240] and b["windows"][0]["sample_range"] is None
    assert [w["token_range"] for w in a["windows"]] == [w["token_range"] for w in b["windows"]]


@pytest.mark.parametrize(
    ("data", "options", "words"),
    [
        ([{"tokens": 1}], {"by": ["m"]}, "by is a text"),
        ([{"tokens": 1}], {"extrapolate": 1e6}, "extrapolate is a list"),
        (None, {}, "a file, a data frame or rows"),
        (np.ones((2, 2)), {}, "got ndarray"),
    ],
)
def test_wrong_arguments_of_fit_are_one_line(data, options, words):
    with pytest.raises(InputError, match=words):
        cvfp.fit(data, **options)


def test_many_seeds_whose_errors_leave_no_floor_have_a_forecast():
    rng, rows = np.random.default_rng(0), []
    for tokens in (50_000 * 2**i for i in range(10)):
        for seed, error in enumerate(np.exp(0.01 * rng.normal(size=60)).tolist()):
            rows.append({"seed": seed, "tokens": tokens, "val_ppl": Decimal(9000 * tokens**-0.3 * error)})
    (group,) = cvfp.fit(rows).values["groups"]
    assert group["no_forecast"] is None
    assert group["extrapolation"][0]["ppl"] == pytest.approx(9000 * 102_400_000**-0.3, rel=0.01)


def test_seeds_that_are_all_out_of_reach_are_all_counted(tmp_path):
    rng, rows = np.random.default_rng(1), []
    for name, factor in (("near", 9000.0), ("far", 90_000.0)):
        for seed in range(4):
            errors = np.exp(0.01 * rng.normal(size=5))
            rows += [(name, seed, x, factor * x**-0.3 * e) for (x, _), e in zip(POWER, errors, strict=True)]
    path = write_csv(tmp_path / "t.csv", ["line", "seed", "tokens", "val_ppl"], rows)
    found = fit_table(path, TableOptions(difference=("near", "far")))["difference"]["data_ratios"]
    assert {ratio["draws"] for ratio in found} == {4}


def test_losses_are_told_as_losses_with_three_decimals(tmp_path):
    for unit, of_one in (("nats", 1), ("bits", np.log(2))):
        path = write_csv(tmp_path / f"{unit}.csv", ["tokens", f"{unit}_per_byte"], PER_BYTE)
        found = fit_table(path)
        (row,) = text_rows(found)
        shown = re.match(r"([\d.]+) at .*? tokens \(([\d.]+) to ([\d.]+);", row[-1])
        one = found["groups"][0]["extrapolation"][0]
        expected = tuple(f"{np.log(one[name]) / of_one:.3f}" for name in ("ppl", "low", "high"))
        assert shown is not None and shown.groups() == expected and found["unit"] == unit
        assert fit_tables(found)[0][1][-1].startswith(f"forecast loss in {unit}")


def test_a_holdout_of_too_many_data_sizes_is_told(tmp_path):
    rows = [(n, x, 20 + 3e4 * n**-0.5 + 5e3 * x**-0.4) for n in (1e5, 4e5, 16e5) for x, _ in POWER]
    path, notes = write_csv(tmp_path / "t.csv", ["params", "tokens", "val_ppl"], rows), []
    fit_joint_table(path, ["params"], TableOptions(holdout=5), note=notes.append)
    assert "all: no holdout of 5 data sizes, too few are left for a law" in notes


def test_losses_taken_for_perplexities_are_told_of_a_joint_law_too(tmp_path):
    rows = [(n, x, 1.8 + 30 * n**-0.3 + 50 * x**-0.3) for n in (1e5, 4e5, 16e5) for x, _ in POWER]
    path, notes = write_csv(tmp_path / "t.csv", ["params", "tokens", "loss"], rows), []
    fit_joint_table(path, ["params"], TableOptions(unit="ppl"), note=notes.append)
    assert [note for note in notes if "though its name says losses in nats" in note]
    found = fit_joint_table(path, ["params"], note=(again := []).append)
    assert found["unit"] == "nats" and [note for note in again if "holds losses in nats (--unit)" in note]


@pytest.mark.parametrize("seeds", [1, 3])
def test_what_one_seed_says_beyond_the_data_is_marked(tmp_path, seeds):
    rng, rows = np.random.default_rng(0), []
    for name, factor, alpha in (("a", 3e3, -0.3), ("b", 1e3, -0.2)):
        for seed in range(seeds):
            errors = np.exp(0.01 * rng.normal(size=len(POWER)))
            rows += [(name, seed, x, factor * x**alpha * e) for (x, _), e in zip(POWER, errors, strict=True)]
    path = write_csv(tmp_path / "t.csv", ["line", "seed", "tokens", "val_ppl"], rows)
    texts = fit_texts(fit_table(path, TableOptions(difference=("a", "b"))))
    said = [text for text in texts if "lines cross at" in text or "with probability" in text]
    assert len(said) == 2
    assert [text.endswith(", as far as one seed tells.") for text in said] == [seeds == 1] * 2
