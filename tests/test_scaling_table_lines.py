"""`cvfp fit`: which rows are one line, and lines without a law or without windows."""

import pytest
from test_scaling_table import ROWS, write_csv

from cvfp.scaling.table import TableOptions, fit_table


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
