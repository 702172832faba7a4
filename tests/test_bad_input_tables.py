"""Bad input, `cvfp fit`: any table and any options, whoever wrote them."""

from __future__ import annotations

import csv
import io
import json
import warnings
from pathlib import Path
from typing import Any

import pytest
from fuzz_helpers import VALUES, damaged, judged, refused, tried, written
from hypothesis import given
from hypothesis import strategies as st

from cvfp.scaling.rows import read_table
from cvfp.scaling.table import TableOptions, fit_table

ROWS = [
    {"tokens": 1000 * 2**k, "val_ppl": 500.0 * 2 ** (-0.3 * k), "arm": "cvfp", "num_samples": 2**k, "seed": 1}
    for k in range(5)
]
CELLS = [
    "1e308",
    "5e-324",
    "1e400",
    "-1",
    "0",
    "nan",
    "",
    "1_0",
    "٣",
    "9" * 400,
    "0." + "0" * 400 + "1",
    "1.7",
]
CELLS += [
    "1e-9999999999999999999",
    "0e-99999999999999999999",
    "99999999999999999999",
    "true",
    "=1+1",
    "\u2028",
]
OPTIONS = {
    "x": ["tokens", "", "arm", "no\nsuch"],
    "y": ["val_ppl", "tokens", "seed"],
    "by": ["arm", "", "arm,arm", ",", "seed"],
    "window": [2, 3, 0, -1, 10**9],
    "extrapolate": [(1e6,), (float("nan"),), (float("inf"),), (-1.0,), (1e308,), (0.0,), (5e-324,)],
    "holdout": [1, 2, 0, -1, 10**9],
    "difference": [("cvfp", "cvfp"), ("", ""), ("a\nb", "c")],
    "unit": ["nats", "bits", "ppl", "tokens"],
    "tokens_per_step": [512, 0, -1, float("nan"), 1e308],
    "include_capped": [True],
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tables")


def text_of(rows: list[dict[str, Any]], kind: str) -> str:
    if kind == "json":
        return json.dumps({"rows": rows})
    if kind == "jsonl":
        return "\n".join(map(json.dumps, rows)) + "\n"
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]))
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def fitted(path: Path, **options: Any) -> dict[str, Any]:
    """The fit, as JSON."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        result = fit_table(path, TableOptions(**options))
    json.dumps(result, allow_nan=False)
    return result


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
@given(st.data())
@tried(80)
def test_a_damaged_table_is_read_or_refused(folder, kind, data):
    content = data.draw(damaged(text_of(ROWS[:3], kind).encode()))
    judged(lambda: read_table(written(folder, f"t.{kind}", content)), f"t.{kind}")


@pytest.mark.parametrize("kind", ["csv", "json", "jsonl"])
@given(st.data())
@tried(60)
def test_odd_cells_are_fitted_or_refused(folder, kind, data):
    rows = [dict(row) for row in ROWS]
    for _ in range(data.draw(st.integers(1, 2))):
        row, column = data.draw(st.sampled_from(rows)), data.draw(st.sampled_from(list(ROWS[0])))
        row[column] = data.draw(st.sampled_from(CELLS + [v for v in VALUES if kind != "csv"]))
    # Of a group, the message names the group.
    path = written(folder, f"odd.{kind}", text_of(rows, kind))
    judged(lambda: fitted(path), f"odd.{kind}", "group", "cvfp", "power law")


@given(
    st.fixed_dictionaries({}, optional={name: st.sampled_from(values) for name, values in OPTIONS.items()})
)
@tried(60)
def test_odd_options_are_fitted_or_refused(folder, options):
    path = written(folder, "good.csv", text_of(ROWS, "csv"))
    judged(lambda: fitted(path, **options))


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("a.jsonl", '{"tokens": ' + "9" * 5000 + "}", "line 1"),
        ("a.jsonl", '{"tokens": 1}\n' + "[" * 5000, "line 2"),
        ("a.csv", "tokens,val_ppl\n1,2\0", "NUL byte"),
        ("a.csv", "tokens,val_ppl\n" + "1" * 200_000, "line 2"),
        ("a.csv", '"to\nkens","to\nkens"\n1,2', "name of its own"),
        ("a.json", "{" + ", ".join(f'"a{k}\\n": []' for k in range(3)) + "}", "found lists"),
    ],
    ids=range(6),
)
def test_what_python_trips_over_is_refused(tmp_path, name, content, said):
    assert said in refused(lambda: read_table(written(tmp_path, name, content)), name)


def test_a_seed_beyond_what_numpy_holds_is_refused(tmp_path):
    rows = [row | {"draw_seed": 10**20} for row in ROWS]
    path = written(tmp_path, "t.csv", text_of(rows, "csv"))
    assert "must be at most" in refused(lambda: fitted(path), "t.csv, line 2")


@pytest.mark.parametrize("name", ["a\0.csv", "x" * 5000 + ".csv", "\ud800.csv", "", "..", "/"])
def test_a_table_that_can_be_none_is_refused(name):
    refused(lambda: read_table(Path(name)))
