"""`cvfp fit`: the published numbers come back from CSV files, and every bad file gets one clear line."""

import csv
import json

import pytest

from cvfp.records.errors import InputError
from cvfp.records.published import load_published
from cvfp.report.fit_cells import HEADER, WINDOW_HEADER, text_rows, window_rows
from cvfp.scaling.table import TableOptions, fit_table

EXPERIMENTS = load_published()["experiments"]
ROWS = [("a", 100, 50), ("a", 400, 25), ("b", 100, 80), ("a", 1600, 12.5), ("b", 400, 20)]


def write_csv(path, header, rows):
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerows([header, *rows])
    return path


def published_csv(tmp_path, version):
    rows = EXPERIMENTS[version]["results"]
    return write_csv(tmp_path / f"{version}.csv", list(rows[0]), [[row[k] for k in rows[0]] for row in rows])


def assert_law(computed, printed):
    assert computed["alpha"] == pytest.approx(printed["alpha"], abs=2e-4)
    assert computed["A"] == pytest.approx(printed.get("A_full", printed["A"]), rel=5e-3)
    assert computed["r_squared"] == pytest.approx(printed["r_squared"], abs=1e-3)


@pytest.mark.parametrize("version", ["v1", "v2", "v3"])
def test_published_laws_are_reproduced(tmp_path, version):
    groups = fit_table(published_csv(tmp_path, version))["groups"]
    printed = EXPERIMENTS[version]["summary"]
    assert [group["group"] for group in groups] == [line["config_name"] for line in printed]
    for group, line in zip(groups, printed, strict=True):
        assert_law(group, line)


def test_published_windows_are_reproduced(tmp_path):
    (group,) = fit_table(published_csv(tmp_path, "v3"), TableOptions(window=4))["groups"]
    printed = EXPERIMENTS["v3"]["windows"]
    assert len(group["windows"]) == len(printed)
    for window, line in zip(group["windows"], printed, strict=True):
        assert_law(window, line)
        assert window["sample_range"] == line["sample_range"]
        assert window["token_range"] == line["token_range"]


def test_published_interval_of_alpha_is_wider_than_the_differences_between_widths(tmp_path):
    alphas = [group["alpha"] for group in fit_table(published_csv(tmp_path, "v1"))["groups"]]
    for group in fit_table(published_csv(tmp_path, "v1"))["groups"]:
        low, high = group["alpha_ci95"]
        assert all(low < alpha < high for alpha in alphas)


def test_result_has_exactly_the_keys_of_the_contract(tmp_path):
    path = write_csv(tmp_path / "t.csv", ["config_name", "tokens", "ppl"], ROWS)
    result = fit_table(path, TableOptions(window=2, extrapolate=[6400]))
    assert set(result) == {"x", "y", "unit", "diverged", "groups"}
    assert (result["x"], result["y"], result["unit"]) == ("tokens", "ppl", "ppl")
    a, b = result["groups"]
    law = {"alpha", "A", "r_squared", "alpha_ci95", "interval_kind"}
    more = {"passes", "forms", "curvature", "local_exponents", "robustness", "holdout"}
    keys = {"group", "n", "windows", "extrapolation", "no_forecast"} | law | more
    assert set(a) == set(b) == keys
    assert (a["group"], a["n"], b["group"], b["n"]) == ("a", 3, "b", 2)
    assert (a["alpha"], b["alpha"]) == (pytest.approx(-0.5), pytest.approx(-1))
    assert b["alpha_ci95"] is None
    assert (b["extrapolation"], b["no_forecast"]) == ([], "fewer than four sizes")
    assert set(a["windows"][0]) == {"sample_range", "token_range", "missing_sizes"} | law
    assert a["windows"][1]["token_range"] == [400, 1600]
    assert a["windows"][1]["sample_range"] is None
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_csv_json_and_jsonl_give_the_same_numbers(tmp_path):
    header = ["config_name", "tokens", "ppl"]
    objects = [dict(zip(header, row, strict=True)) for row in ROWS]
    expected = fit_table(write_csv(tmp_path / "t.csv", header, ROWS))
    files = {
        "list.json": json.dumps(objects),
        "object.json": json.dumps({"source": "here", "results": objects}),
        "t.jsonl": "\n".join(json.dumps(one) for one in objects) + "\n\n",
    }
    for name, text in files.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
        assert fit_table(tmp_path / name) == expected


def test_a_csv_saved_by_a_spreadsheet_is_read(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("\ufefftokens, val_ppl\r\n100, 50\r\n400, 25\r\n\r\n".encode())
    assert fit_table(path)["groups"][0]["alpha"] == pytest.approx(-0.5)


def test_columns_and_groups_can_be_named(tmp_path):
    header = ["kind", "width", "n", "loss", "tokens", "ppl"]
    rows = [
        ("x", 1, 100, 50, 7, 7),
        ("x", 2, 100, 50, 7, 7),
        ("x", 1, 400, 25, 7, 7),
        ("x", 2, 400, 12.5, 7, 7),
    ]
    path = write_csv(tmp_path / "t.csv", header, rows)
    groups = fit_table(path, TableOptions(x="n", y="loss", by="kind, width", unit="ppl"))["groups"]
    assert [group["group"] for group in groups] == ["x / 1", "x / 2"]
    assert [group["alpha"] for group in groups] == pytest.approx([-0.5, -1])


def test_several_arms_are_grouped_by_arm_and_config(tmp_path):
    header = ["arm", "config_name", "train_tokens", "val_ppl", "ppl"]
    rows = [(arm, "c", n, 1e3 / n, 0) for arm in ("cvfp", "unigram") for n in (1, 2)]
    groups = fit_table(write_csv(tmp_path / "two.csv", header, rows))["groups"]
    assert [group["group"] for group in groups] == ["cvfp / c", "unigram / c"]
    groups = fit_table(write_csv(tmp_path / "one.csv", header, rows[:2]))["groups"]
    assert [group["group"] for group in groups] == ["c"]


def test_without_names_all_rows_are_one_group(tmp_path):
    path = write_csv(tmp_path / "t.csv", ["tokens", "ppl"], [(100, 50), (400, 25)])
    assert [group["group"] for group in fit_table(path)["groups"]] == ["all"]


def test_forecasts_default_to_four_and_ten_times_the_largest_size(tmp_path):
    rows = [(100, 50), (400, 25), (200, 36), (50, 72), (800, 17.5)]
    (group,) = fit_table(write_csv(tmp_path / "t.csv", ["tokens", "ppl"], rows))["groups"]
    assert [one["tokens"] for one in group["extrapolation"]] == [3200, 8000]
    for one in group["extrapolation"]:
        assert one["run_low"] < one["low"] < one["ppl"] < one["high"] < one["run_high"]


def test_failed_and_capped_points_are_left_out_and_noted(tmp_path):
    header = ["tokens", "val_ppl", "status", "stop_reason"]
    rows = [
        (100, 50, "done", "patience"),
        (200, "", "failed", ""),
        (300, 9, "done", "cap"),
        (400, 25, "done", "patience"),
    ]
    path, notes = write_csv(tmp_path / "t.csv", header, rows), []
    (group,) = fit_table(path, note=notes.append)["groups"]
    assert (group["n"], group["alpha"]) == (2, pytest.approx(-0.5))
    assert notes == [
        "1 of 4 rows are left out, of unfinished runs: 1 failed",
        "1 of 4 rows stopped at their cap and are left out; include_capped (--include-capped) fits them too",
    ]
    notes.clear()
    (group,) = fit_table(path, TableOptions(include_capped=True), note=notes.append)["groups"]
    assert (group["n"], len(notes)) == (3, 1)


def test_a_group_left_with_one_size_has_no_fit_and_a_note(tmp_path):
    header = ["config_name", "tokens", "val_ppl", "stop_reason"]
    rows = [("a", 100, 50, "cap"), ("a", 400, 25, "patience"), ("b", 100, 50, ""), ("b", 400, 25, "")]
    notes = []
    a, b = fit_table(write_csv(tmp_path / "t.csv", header, rows), TableOptions(window=2), note=notes.append)[
        "groups"
    ]
    assert (a["n"], a["alpha"], a["windows"], a["extrapolation"]) == (1, None, [], [])
    assert notes[1:] == ["a: no fit, since fewer than two sizes are left"]
    assert set(a) == set(b) and b["alpha"] == pytest.approx(-0.5)
    assert text_rows({"unit": "ppl", "groups": [a]}) == [
        ("a", "1", "–", "–", "–", "–", "no forecast: no law")
    ]


def test_seeds_of_a_table_are_draws_unless_grouped_by(tmp_path):
    header = ["seed", "tokens", "ppl"]
    rows = [(seed, n, 1e3 * n**alpha) for seed, alpha in ((1, -0.4), (2, -0.5)) for n in (100, 200, 400)]
    path, notes = write_csv(tmp_path / "t.csv", header, [*rows, (3, 100, 7), (4, 400, rows[2][2])]), []
    (group,) = fit_table(path, note=notes.append)["groups"]
    assert (group["interval_kind"], group["alpha"]) == ("draws", pytest.approx(-0.45))
    assert notes == [
        "all: 1 rows repeat the result of another seed and are left out",
        "all: seeds with a single size are left out: 3",
    ]
    alone = fit_table(write_csv(tmp_path / "u.csv", header, rows), TableOptions(by="seed"))["groups"]
    assert [one["interval_kind"] for one in alone] == ["line", "line"]


def test_a_window_that_bridges_a_size_of_the_file_names_it(tmp_path):
    header = ["arm", "num_samples", "tokens", "ppl"]
    rows = [("a", n, 10 * n, 1e3 / n) for n in (1, 2, 4)] + [("b", n, 10 * n, 1e3 / n) for n in (1, 4, 8)]
    a, b = fit_table(write_csv(tmp_path / "t.csv", header, rows), TableOptions(window=2))["groups"]
    assert [window["missing_sizes"] for window in a["windows"]] == [[], []]
    assert [window["missing_sizes"] for window in b["windows"]] == [[2], []]
    assert window_rows({"groups": [b]})[0][1] == "1 to 4 samples, without 2"


def test_printed_rows_show_the_numbers(tmp_path):
    result = fit_table(published_csv(tmp_path, "v3"), TableOptions(window=4, extrapolate=[1e6]))
    (row,) = text_rows(result)
    assert len(row) == len(HEADER)
    assert row[:6] == ("1L_768d_2tok", "5", "-0.4658", "-0.5435 to -0.3881", "97,080", "0.9918")
    (one,) = result["groups"][0]["extrapolation"]
    ends = [f"{one[name]:.1f}" for name in ("ppl", "low", "high", "run_low", "run_high")]
    assert row[6] == "{} at 1,000,000 tokens ({} to {}; {} to {})".format(*ends)
    assert len(window_rows(result)[0]) == len(WINDOW_HEADER)
    assert window_rows(result)[0][:3] == ("1L_768d_2tok", "50 to 400 samples", "-0.5043")
    path = write_csv(tmp_path / "two.csv", ["tokens", "ppl"], [(100, 50), (400, 25)])
    (row,) = text_rows(fit_table(path, TableOptions(window=2, extrapolate=[1600])))
    assert row[3:] == (
        *("–", "500", "1.0000", "no forecast: fewer than four sizes; last local slope -0.5000"),
    )
    assert window_rows(fit_table(path, TableOptions(window=2)))[0][1] == "100 to 400 tokens"


BAD_FILES = {
    "empty.csv": (b"", "empty.csv: is empty"),
    "blank.jsonl": (b" \n\n", "blank.jsonl: is empty"),
    "binary.csv": (b"a,b\n\0\1\2", "binary.csv: is a binary file"),
    "latin.csv": (
        "tokens,ppl\n1,é".encode("latin-1"),
        "latin.csv, line 2: column 'ppl': 'é' is not a finite",
    ),
    "table.xlsx": (b"x", r"cannot read '.xlsx'; allowed: .csv, .tsv, .* .jsonl, .ndjson; save it as CSV"),
    "header.csv": (b"tokens,ppl\n", "header.csv: has no rows"),
    "twice.csv": (b"ppl,ppl\n1,2\n", "twice.csv, line 1: every column needs a name of its own"),
    "short.csv": (b"tokens,ppl\n1,2\n3\n", "short.csv, line 3: 1 values for 2 columns"),
    "quote.csv": (b'tokens,ppl\n1,"2\n', "quote.csv, line 2: not CSV"),
    "columns.csv": (b"size,loss\n1,2\n", "no column tokens or train_tokens; name one of: size, loss"),
    "word.csv": (b"tokens,ppl\n1,2\n3,many\n", "word.csv, line 3: column 'ppl': 'many' is not a finite"),
    "gap.csv": (b"tokens,ppl\n1,\n3,\n", "no row has numbers in both 'tokens' and 'ppl'; no row has a ppl"),
    "nan.csv": (b"tokens,ppl\n1,nan\n3,inf\n", "nan.csv: no row has numbers in both"),
    "zero.csv": (b"tokens,ppl\n-1,2\n3,1\n", "zero.csv, line 2: column 'tokens': must be positive, got -1"),
    "single.csv": (
        b"tokens,ppl\n1,20\n1,30\n",
        "group 'all': column 'tokens' is 1 in every row; a power law needs at least two sizes$",
    ),
    "failed.csv": (
        b"tokens,ppl,status\n1,2,failed\n",
        "every row is of a run that is unfinished, diverged or stopped at its cap",
    ),
    "below.csv": (b"tokens,ppl\n1,2\n3,0.5\n", "below.csv, line 3: column 'ppl': a perplexity is at least 1"),
    "below.json": (
        b'[{"train_tokens": 1, "val_ppl": -5}]',
        "below.json, item 1: column 'val_ppl': a perplexity is at least 1, got -5",
    ),
    "again.csv": (
        b"config_hash,num_samples,seed,tokens,ppl\nab,50,1,9,5\nab,50,2,9,5\nab,50,1,9,6\n",
        "again.csv, line 4: has the config_hash ab, num_samples 50, seed 1 of .*again.csv, line 2 again",
    ),
    "broken.jsonl": (b'{"tokens": 1, "ppl": 2}\n{"tokens": \n', "broken.jsonl, line 2: not JSON"),
    "number.jsonl": (b'{"tokens": 1, "ppl": 2}\n7\n', "number.jsonl, line 2: an object of columns .* got 7"),
    "gap.jsonl": (b'{"tokens": 1, "ppl": 20}\n{"tokens": 2}\n', "no group has a law; one needs two sizes"),
    "truth.json": (b'[{"tokens": true, "ppl": 2}]', "truth.json, item 1: column 'tokens': True is not a"),
    "huge.json": (
        b'[{"tokens": 1' + b"0" * 400 + b', "ppl": 2}]',
        "item 1: column 'tokens': .* not a finite",
    ),
    "broken.json": (b'[{"tokens": 1,]', "broken.json: not JSON at line 1"),
    "value.json": (b"3", "value.json: a list of objects, or an object with one, is needed; found no list"),
    "lists.json": (b'{"a": [], "b": []}', "lists.json: a list of objects.*found lists: a, b"),
    "none.json": (b"[]", "none.json: has no rows"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gets_one_clear_line(tmp_path, name):
    content, message = BAD_FILES[name]
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as caught:
        fit_table(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(InputError, match=r"none\.csv: no such file"):
        fit_table(tmp_path / "none.csv")
    (tmp_path / "folder.csv").mkdir()
    with pytest.raises(InputError, match="is a directory"):
        fit_table(tmp_path / "folder.csv")


@pytest.mark.parametrize(
    "options, message",
    [
        ({"x": "size"}, "no column 'size'; it has: config_name, tokens, ppl"),
        ({"y": "loss"}, "no column 'loss'"),
        ({"by": "arm"}, "no column 'arm'"),
        ({"by": "config_name,"}, "no column ''"),
        ({"x": "tokens", "y": "tokens"}, "column 'tokens' is given as x and as y"),
        ({"window": 9}, r"t\.csv: no group has sizes for a window of 9 sizes: 9 are needed, got 3"),
        ({"window": 1}, "window: must be at least 2 sizes, got 1"),
        ({"window": 0}, "window: must be at least 2 sizes, got 0"),
        ({"extrapolate": [0.0]}, "tokens: must be positive and finite, got 0"),
    ],
)
def test_bad_options_are_refused(tmp_path, options, message):
    path = write_csv(tmp_path / "t.csv", ["config_name", "tokens", "ppl"], ROWS)
    with pytest.raises(InputError, match=message):
        fit_table(path, TableOptions(**options))


def test_samples_must_be_whole_when_windows_need_them(tmp_path):
    path = write_csv(tmp_path / "t.csv", ["num_samples", "tokens", "ppl"], [(1, 100, 50), (2.5, 400, 25)])
    with pytest.raises(InputError, match=r"line 3: column 'num_samples': must be a whole number, got 2.5"):
        fit_table(path, TableOptions(window=2))
    assert fit_table(path)["groups"][0]["n"] == 2


def test_one_equal_perplexity_of_few_digits_is_no_copy_of_another_seed(tmp_path):
    """Two seeds that happen to print the same number at one size are two; at all sizes, or in full, one."""
    header, sizes = ["seed", "tokens", "ppl"], (1000, 2000, 4000)
    first, second = (200.4, 150.2, 111.7), (202.1, 150.2, 113.0)

    def fitted(*seeds):
        rows = [
            (seed, size, ppl)
            for seed, values in enumerate(seeds)
            for size, ppl in zip(sizes, values, strict=True)
        ]
        notes: list[str] = []
        path = write_csv(tmp_path / f"{len(list(tmp_path.iterdir()))}.csv", header, rows)
        (group,) = fit_table(path, note=notes.append)["groups"]
        return group["n"], notes

    assert fitted(first, second) == (6, [])
    n, notes = fitted(first, second, first)
    assert n == 6 and notes == ["all: 3 rows repeat the result of another seed and are left out"]
    exact = (202.1, 150.2000013724, 113.0)
    n, notes = fitted((200.4, exact[1], 111.7), exact)
    assert n == 5 and notes == ["all: 1 rows repeat the result of another seed and are left out"]


def test_columns_that_seem_the_wrong_way_round_are_noted(tmp_path):
    """A perplexity that rises with the data; one that falls is fitted without a word."""
    notes: list[str] = []
    sizes = [100 * 2**k for k in range(4)]
    fit_table(
        write_csv(tmp_path / "t.csv", ["tokens", "ppl"], [(n, 400 * n**-0.2) for n in sizes]),
        note=notes.append,
    )
    assert notes == []
    fit_table(
        write_csv(tmp_path / "u.csv", ["tokens", "ppl"], [(n, 2 * n**0.5) for n in sizes]), note=notes.append
    )
    assert notes == ["all: ppl rises with tokens; are the columns the right way round?"]
    with pytest.raises(InputError, match="x is 'ppl' and y 'tokens'; x counts tokens, y is a perplexity"):
        fit_table(tmp_path / "t.csv", TableOptions(x="ppl", y="tokens"))


def test_a_table_without_any_law_is_an_error(tmp_path):
    path, notes = write_csv(tmp_path / "t.csv", ["tokens", "ppl"], [(n, 84) for n in (100, 200, 400)]), []
    with pytest.raises(InputError, match="no group has a law; one needs two sizes and two perplexities"):
        fit_table(path, note=notes.append)
    assert notes == ["all: no fit, since column 'ppl' is 84 in every row"]


def test_rows_of_one_size_with_other_tokens_are_one_point_whatever_their_order(tmp_path):
    """Sizes are numbers of samples: a point has the means of ln PPL and of ln D, and a note says so."""
    header = ["num_samples", "tokens", "ppl"]
    rows = [
        (size, 100 * size * more, 300 * (size * more) ** -0.3)
        for size in (10, 20, 40, 80)
        for more in (1, 1.5)
    ]
    found = []
    for name, each in (("a", rows), ("b", rows[::-1])):
        notes: list[str] = []
        found.append(fit_table(write_csv(tmp_path / f"{name}.csv", header, each), note=notes.append))
        assert notes == [
            "all: rows of one num_samples count once, with their mean (4 fewer): no column 'seed'"
        ]
    (first,), (second,) = (one["groups"] for one in found)
    assert first["A"] == pytest.approx(second["A"]) and first["alpha"] == pytest.approx(second["alpha"])
    assert [one["tokens"] for one in first["extrapolation"]] == pytest.approx(
        [one["tokens"] for one in second["extrapolation"]]
    )


def test_seeds_written_as_decimals_are_the_same_seeds(tmp_path):
    rows = [
        (line, f"{seed}.0" if line == "b" else seed, n, c * n**-0.3 * (1 + 0.01 * seed))
        for line, c in (("a", 900), ("b", 800))
        for seed in (0, 1, 2)
        for n in (100, 200, 400)
    ]
    path = write_csv(tmp_path / "t.csv", ["line", "seed", "tokens", "ppl"], rows)
    assert fit_table(path, TableOptions(difference=("a", "b")))["difference"]["paired"]
