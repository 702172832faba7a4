"""A law of data that are read several times says so, and what it calls a floor is that of repeated data."""

from __future__ import annotations

import json

import pytest
from report_helpers import DEFAULT_LINES, write_sweep

from cvfp.cli.main import main
from cvfp.records.sweep import load_sweep
from cvfp.report.lines import report_lines
from cvfp.report.sections.forms import form_table
from cvfp.report.sections.scaling import law_table
from cvfp.scaling.table import TableOptions, fit_joint_table, fit_table

SIZES = [1e5 * 2**k for k in range(6)]


def table(tmp_path, **columns):
    """Losses with a floor of 2 nats, and further columns by name: a value per row."""
    names = ["tokens", "val_ppl", *columns]
    rows = [
        ",".join(
            str(one)
            for one in (size, 2.718281828 ** (2 + 80 * size**-0.3), *(c[i] for c in columns.values()))
        )
        for i, size in enumerate(SIZES)
    ]
    path = tmp_path / "rows.csv"
    path.write_text("\n".join([",".join(names), *rows]))
    return path


@pytest.mark.parametrize(
    ("columns", "expected"),
    [
        ({"epochs": [1, 1, 1, 1, 1, 4]}, [1, 4]),
        ({"tokens_seen": [12 * size for size in SIZES]}, [12, 12]),
        ({"tokens_seen": [1.02 * size for size in SIZES]}, None),
        ({"epochs": [1] * 6, "tokens_seen": [9 * size for size in SIZES]}, None),
        ({"train_tokens": [size / 2 for size in SIZES], "tokens_seen": SIZES}, [2, 2]),
        ({"epochs": [2, 2, 2, 2, 2, ""]}, [2, 2]),
        ({"epochs": [0, 2, 2, 2, 2, "no"]}, [2, 2]),
        ({}, None),
    ],
)
def test_how_often_data_are_read_is_in_the_result(tmp_path, columns, expected):
    (group,) = fit_table(table(tmp_path, **columns), TableOptions(x="tokens"))["groups"]
    assert group["passes"] == (None if expected is None else pytest.approx(expected))


def test_a_floor_is_called_that_of_repeated_data(tmp_path, capsys):
    once, often = tmp_path / "once", tmp_path / "often"
    for directory, epochs in ((once, 1), (often, 8)):
        directory.mkdir()
        assert main(["fit", str(table(directory, epochs=[epochs] * 6))]) == 0
        shown = capsys.readouterr().out
        assert ("of repeated data" in shown) == (directory is often)
        assert ("each token read so many times: all 8.0." in shown) == (directory is often)


def test_rows_that_are_taken_together_all_tell_how_often_they_read(tmp_path):
    """Whichever of them comes first."""
    for epochs in ([1, 8], [8, 1]):
        rows = [f"{size},{400 * size**-0.2},{each}" for size in SIZES for each in epochs]
        path = tmp_path / "rows.csv"
        path.write_text("\n".join(["tokens,val_ppl,epochs", *rows]))
        (group,) = fit_table(path)["groups"]
        assert group["passes"] == [1, 8]


def test_the_joint_law_says_it_too(tmp_path, capsys):
    path = table(tmp_path, epochs=[3] * 6, n=[1e6, 2e6] * 3)
    (group,) = fit_joint_table(path, ["n"])["groups"]
    assert group["passes"] == [3, 3]
    assert main(["fit", str(path), "--params", "n"]) == 0
    assert "each token read so many times: all 3.0." in capsys.readouterr().out


def test_a_report_says_it_of_the_models_that_read_again(tmp_path):
    """An n-gram counts its text once."""
    lines = report_lines(load_sweep(write_sweep(tmp_path, lines=DEFAULT_LINES, sizes=(50, 100, 200, 400))))
    passes = {line.arm: line.passes for line in lines}
    assert passes["cvfp"] == pytest.approx((20, 20)) and passes["kneser-ney"] is None
    rows = {row.split(" | ")[0].strip("| "): row for row in law_table(lines).splitlines()}
    assert " | 20.0 | " in rows["cvfp"] and " | – | " in rows["kneser-ney"]
    floors = [row for row in form_table(lines).splitlines() if "of repeated data" in row]
    assert all(row.startswith(("| cvfp", "| no-context", "| random-context")) for row in floors)


def test_records_know_how_often_they_read(tmp_path):
    (point, *_) = load_sweep(write_sweep(tmp_path)).points
    assert point.passes == pytest.approx(point.tokens_seen / point.train_tokens)
    assert json.loads(point.model_dump_json())["tokens_seen"] == point.tokens_seen
