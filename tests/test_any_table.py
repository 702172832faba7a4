"""`cvfp fit` of any table: each kind gives the exponent of its curve, or a line on why not."""

from __future__ import annotations

import io
import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fuzz_helpers import tried
from hypothesis import given
from hypothesis import strategies as st

import cvfp
from cvfp.cli.main import main
from cvfp.records.errors import InputError
from cvfp.scaling.rows import Reading
from cvfp.scaling.table import TableOptions, fit_table

TOKENS = (60_000, 120_000, 240_000, 480_000, 960_000)
PPL = (335.3, 256.5, 205.2, 166.1, 136.8)
NATS = tuple(map(math.log, PPL))
ALPHA = float(np.polyfit(np.log(TOKENS), NATS, 1)[0])


def fitted(data: Any, path: Path | None = None, **options: Any) -> tuple[dict[str, Any], str]:
    """The answer and all notes. `data` is the content of the file at `path`, or paths."""
    if path is not None:
        content = data if isinstance(data, str | bytes) else json.dumps(data)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        data = path
    notes: list[str] = []
    return fit_table(data, TableOptions(**options), notes.append), "\n".join(notes)


def alphas(found: dict[str, Any]) -> dict[str, float]:
    return {group["group"]: group["alpha"] for group in found["groups"]}


def lines(header: str, *columns: Any) -> str:
    """A CSV of columns."""
    rows = "".join(f"{','.join(map(str, row))}\n" for row in zip(*columns, strict=True))
    return f"{header}\n{rows}"


# --- One known curve in every dialect, unit and encoding: its exponent, or a refusal.


def european(value: float, digits: int) -> str:
    return f"{value:,.{digits}f}".translate(str.maketrans(",.", ".,"))


WRITTEN = {
    "plain": lambda value, digits: f"{value:.{digits}f}",
    "thousands": lambda value, digits: f"{value:,.{digits}f}",
    "european": european,
    "french": lambda value, digits: european(value, digits).replace(".", "\u202f"),
    "swiss": lambda value, digits: f"{value:,.{digits}f}".replace(",", "’"),
    "underscores": lambda value, digits: f"{value:_.{digits}f}",
    "exponent": lambda value, digits: f"{value:.12e}",
    "suffix": lambda value, digits: f"{value / 1e3:g}k" if digits == 0 else f"{value:.{digits}f}",
    "millions": lambda value, digits: f"{value / 1e6:g} M" if digits == 0 else f"{value:.{digits}f}",
    "full width": lambda value, digits: "".join(
        chr(ord(sign) + 0xFEE0) if sign.isdigit() else sign for sign in f"{value:.{digits}f}"
    ),
}
UNITS = {
    "val_ppl": lambda ppl: ppl,
    "perplexity": lambda ppl: ppl,
    "eval/loss": math.log,
    "nll_nats": math.log,
    "bits_per_byte": math.log2,
    "Value": lambda ppl: ppl,
    "value": math.log,
    "metric": math.log2,
}
SAID = {"eval/loss": "nats", "value": "nats", "nll_nats": "nats", "bits_per_byte": "bits", "metric": "bits"}
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "cp1252", "cp932")
LABELS = {"cp1252": "Größe", "cp932": "大きさのモデル"}


@given(st.data())
@tried(100)
def test_one_curve_has_one_exponent_in_every_dialect_unit_and_encoding(tmp_path, data):
    """With the right options, or with none; a refusal says what may be meant, or which option to use."""
    draw = data.draw
    x_style, y_style = draw(st.sampled_from(list(WRITTEN))), draw(st.sampled_from(list(WRITTEN)))
    column, separator = draw(st.sampled_from(list(UNITS))), draw(st.sampled_from([",", ";", "\t", "|"]))
    encoding, digits = draw(st.sampled_from(ENCODINGS)), draw(st.integers(1, 4))
    ppl = [value * draw(st.sampled_from([1, 1, 10])) for value in PPL]
    if ppl != sorted(ppl, reverse=True):
        ppl = list(PPL)
    y = [UNITS[column](value) for value in ppl]
    written_y = [WRITTEN[y_style](value, digits) for value in y]
    if not all(_fits(text, encoding) for text in written_y):
        written_y = [f"{value:.{digits}f}" for value in y]
    label = LABELS.get(encoding, "größe ø")
    rows = [["tokens", column, "config_name"]]
    for tokens, text in zip(TOKENS, written_y, strict=True):
        size = WRITTEN[x_style](tokens, 0)
        rows.append([size if _fits(size, encoding) else str(tokens), text, label])
    content = "\r\n".join(separator.join(_quoted(cell, separator) for cell in row) for row in rows)
    path = tmp_path / f"t{draw(st.sampled_from(['.csv', '.tsv', '.txt']))}"
    path.write_bytes(content.encode(encoding))
    expected = np.polyfit(np.log(TOKENS), np.log(ppl), 1)[0]
    options: dict[str, Any] = {"y": column}
    if draw(st.booleans()):
        options["unit"] = SAID.get(column, "ppl")
    if draw(st.booleans()):
        options["reading"] = Reading(encoding=encoding, separator=separator)
    try:
        found, notes = fitted(path, **options)
    except InputError as error:
        assert re.search("--unit|--decimal|write them alike", str(error)), (error, content)
        return
    (group,) = found["groups"]
    assert group["group"] == label, content
    unit = SAID.get(column, "ppl")
    half = 0.5 * 10.0**-digits * {"ppl": 1 / min(y), "nats": 1, "bits": math.log(2)}[unit]
    assert group["alpha"] == pytest.approx(expected, abs=half + 1e-9), (content, notes)
    assert found["unit"] == unit


def _fits(text: str, encoding: str) -> bool:
    try:
        text.encode(encoding)
    except UnicodeEncodeError:
        return False
    return True


def _quoted(cell: str, separator: str) -> str:
    return f'"{cell}"' if separator in cell else cell


# --- Units.


@pytest.mark.parametrize(
    ("column", "values", "unit", "told"),
    [
        ("val_loss", NATS, "nats", "'val_loss' holds losses in nats (--unit)"),
        ("valLoss", NATS, "nats", "losses in nats"),
        ("eval/nll", NATS, "nats", "losses in nats"),
        ("cross_entropy", NATS, "nats", "losses in nats"),
        ("test CE", NATS, "nats", "losses in nats"),
        ("val_bpb", [value / math.log(2) for value in NATS], "bits", "losses in bits"),
        ("bits_per_byte,none", [value / math.log(2) for value in NATS], "bits", "losses in bits"),
        ("Perplexity", PPL, "ppl", "results are column 'Perplexity' (--y)"),
        ("Value", PPL, "ppl", "'Value' (136.8 to 335.3) holds perplexities (--unit)"),
    ],
)
def test_a_unit_that_a_name_tells_is_inferred_and_said(tmp_path, column, values, unit, told):
    found, notes = fitted(lines(f'tokens,"{column}"', TOKENS, values), tmp_path / "t.csv")
    assert alphas(found) == {"all": pytest.approx(ALPHA)} and found["unit"] == unit
    assert told in notes


@pytest.mark.parametrize(
    ("column", "values", "options", "words"),
    [
        ("Value", NATS, {}, "is 'Value' (4.9185 to 5.815) a perplexity, or a loss in nats or bits? Say"),
        ("val_ppl", NATS, {}, "called a perplexity, but its values (4.9185 to 5.815) look like losses"),
        ("val_loss", PPL, {}, "335.3 nats is no loss per token or byte; is it a perplexity? Say --unit ppl"),
        ("val_bpb", PPL, {}, "335.3 bits is no loss per token or byte"),
        ("val_ppl", PPL, {"unit": "nats"}, "335.3 nats is no loss per token or byte"),
        ("val_ppl", PPL, {"unit": "bits"}, "335.3 bits is no loss per token or byte"),
        ("log_ppl", NATS, {"y": "log_ppl"}, "is 'log_ppl' (4.9185 to 5.815) a perplexity"),
        ("score", NATS, {"y": "score"}, "is 'score' (4.9185 to 5.815) a perplexity"),
        ("val_ppl", PPL, {"unit": "nat"}, "unit: one of nats, bits, ppl is needed, got 'nat'"),
    ],
)
def test_results_are_never_fitted_in_a_unit_that_they_may_not_have(tmp_path, column, values, options, words):
    values = [f"{value:.4f}" for value in values]
    with pytest.raises(InputError) as caught:
        fitted(lines(f"tokens,{column}", TOKENS, values), tmp_path / "t.csv", **options)
    assert words in str(caught.value)


def test_a_perplexity_like_a_loss_is_one_where_a_loss_beside_it_says_so(tmp_path):
    losses = [value - 4 for value in NATS]
    content = lines("tokens,val_loss,val_ppl", TOKENS, losses, [f"{math.exp(loss):.3f}" for loss in losses])
    found, _notes = fitted(content, tmp_path / "t.csv")
    assert (found["y"], found["unit"]) == ("val_ppl", "ppl")
    assert alphas(found)["all"] == pytest.approx(ALPHA, abs=1e-3)
    found, notes = fitted(lines("tokens,loss,ppl", TOKENS, np.log2(PPL), PPL), tmp_path / "t.csv", y="loss")
    assert found["unit"] == "bits" and "losses in bits" in notes
    assert alphas(found) == {"all": pytest.approx(ALPHA)}


def test_half_a_digit_of_a_loss_in_bits_is_in_nats(tmp_path):
    """Rounding is told of a loss as of the perplexity that it is."""
    half = []
    for unit, of_one in (("nats", 1), ("bits", math.log(2))):
        content = lines("tokens,y", TOKENS, [f"{loss / of_one:.3f}" for loss in NATS])
        path = tmp_path / f"{unit}.csv"
        path.write_text(content)
        fit = cvfp.fit(path, y="y", unit=unit)
        half.append(fit.table.groups[0].points.half_units)
    assert half[0] == pytest.approx(0.0005) and half[1] == pytest.approx(0.0005 * math.log(2))


# --- What trackers, trainers and evaluations write.


STEPS = [tokens // 1000 for tokens in TOKENS]
WANDB = lines(
    '"tokens","a - val/loss","a - val/loss__MIN","a - val/loss__MAX","b - val/loss","b - val/loss__MIN"',
    *(TOKENS, NATS, NATS, NATS, [value * 0.9 for value in NATS], NATS),
)
LIGHTNING = "epoch,step,tokens,train_loss,val_loss\n" + "".join(
    f"0,{step},{tokens},{loss - 0.5},\n0,{step},{tokens},,{loss}\n"
    for step, tokens, loss in zip(STEPS, TOKENS, NATS, strict=True)
)
LITGPT = "loss,step,total_tokens,val_loss,val_ppl\n" + "".join(
    f"{loss - 0.5},{step},{tokens},,\n,{step},,{loss},{ppl}\n"
    for step, tokens, loss, ppl in zip(STEPS, TOKENS, NATS, PPL, strict=True)
)
TRAINER = {
    "best_metric": None,
    "num_input_tokens_seen": 1,
    "log_history": [
        row
        for step, tokens, loss in zip(STEPS, TOKENS, NATS, strict=True)
        for row in (
            {"step": step, "loss": loss - 0.4, "grad_norm": math.nan, "num_input_tokens_seen": tokens},
            {"step": step, "eval_loss": loss, "num_input_tokens_seen": tokens},
        )
    ],
}
TENSORBOARD = lines("Wall time,Step,Value", range(5), STEPS, NATS)
MLFLOW_RUNS = lines(
    "run_id,status,start_time,metrics.val_ppl,params.tokens",
    *(["a", "b", "c", "d", "e", "f"], ["FINISHED"] * 5 + ["FAILED"], range(6), [*PPL, 1], [*TOKENS, 2e6]),
)
MLFLOW_HISTORY = "run_id,key,value,step,timestamp\n" + "".join(
    f"r,val_loss,{loss},{step},{step}\nr,train_loss,{loss / 2},{step},{step}\n"
    for step, loss in zip(STEPS, NATS, strict=True)
)
MLFLOW_SEARCH = {
    "runs": [
        {
            "info": {"status": "FINISHED"},
            "data": {
                "metrics": [{"key": "val_ppl", "value": ppl}],
                "params": [{"key": "tokens", "value": str(tokens)}],
            },
        }
        for tokens, ppl in zip(TOKENS, PPL, strict=True)
    ]
}
TRACKIO = {
    "project": "p",
    "run": "r",
    "metric": "val_loss",
    "values": [{"timestamp": "t", "step": s, "value": loss} for s, loss in zip(STEPS, NATS, strict=True)],
}
ROWS = [{"tokens": tokens, "val_ppl": ppl} for tokens, ppl in zip(TOKENS, PPL, strict=True)]
COLUMNS = {"tokens": list(TOKENS), "val_ppl": list(PPL)}

EXPORTS = {
    "wandb.csv": (WANDB, {}, "a column per run, each of which is a line, without __MIN and __MAX"),
    "lightning.csv": (LIGHTNING, {}, "5 of 10 rows are left out: they have no val_loss"),
    "litgpt.csv": (LITGPT, {}, "tokens are column 'total_tokens'"),
    "trainer_state.json": (TRAINER, {}, "results are column 'eval_loss'"),
    "steps.csv": (TENSORBOARD, {"unit": "nats", "tokens_per_step": 1000}, "steps are column 'Step'"),
    "mlflow.csv": (MLFLOW_RUNS, {}, "1 of 6 rows are left out, of unfinished runs: 1 FAILED"),
    "history.csv": (MLFLOW_HISTORY, {"tokens_per_step": 1000}, "a row per metric, by 'key'"),
    "search.json": (MLFLOW_SEARCH, {}, "tokens are column 'data.params.tokens'"),
    "trackio.json": (TRACKIO, {"tokens_per_step": 1000}, "sizes are steps of one training"),
    "columns.json": (COLUMNS, {}, ""),
    "pandas.json": ({n: {str(k): v for k, v in enumerate(c)} for n, c in COLUMNS.items()}, {}, ""),
    "split.json": ({"columns": ["tokens", "val_ppl"], "data": [list(r.values()) for r in ROWS]}, {}, ""),
    "named.json": ({f"run {k}": row for k, row in enumerate(ROWS)}, {}, ""),
    "lists.json": ([["tokens", "val_ppl"], *(list(row.values()) for row in ROWS)], {}, ""),
    "nested.json": ([{"config": r, "metrics": {"val_ppl": r["val_ppl"]}} for r in ROWS], {}, "config.tok"),
    "lines.json": ("\n".join(map(json.dumps, ROWS)), {}, ""),
    "markdown.txt": (
        "| tokens | val_ppl |\n|---|--:|\n" + "".join(f"| {r['tokens']} | {r['val_ppl']} |\n" for r in ROWS),
        {},
        "separated by bars",
    ),
    "numpy.txt": (
        "# tokens val_ppl\n" + "".join(f"{r['tokens']:.18e} {r['val_ppl']:.18e}\n" for r in ROWS),
        {},
        "separated by spaces",
    ),
    "excel.csv": ("sep=;\n" + lines("tokens,val_ppl", TOKENS, PPL).replace(",", ";"), {}, "semicolons"),
    "index.csv": (lines(",tokens,val_ppl", range(5), TOKENS, PPL), {}, ""),
    "comments.csv": ("# mine\n" + lines("tokens,val_ppl", TOKENS, PPL) + "# end\n", {}, "2 comment lines"),
    "again.csv": (lines("tokens,val_ppl", TOKENS, PPL) + "tokens,val_ppl\n", {}, "comes 1 times again"),
    "hidden.csv": (lines("tokens,val_ppl\u200b", TOKENS, PPL), {}, r"that is written 'val_ppl\u200b'"),
    "mac.csv": (lines("tokens,val_ppl", TOKENS, PPL).replace("\n", "\r"), {}, ""),
}


@pytest.mark.parametrize("name", EXPORTS)
def test_an_export_gives_the_exponent_of_its_curve_and_says_how_it_was_read(tmp_path, name):
    content, options, told = EXPORTS[name]
    found, notes = fitted(content, tmp_path / name, **options)
    expected = {"a": ALPHA, "b": 0.9 * ALPHA} if name == "wandb.csv" else {"all": ALPHA}
    assert alphas(found) == {group: pytest.approx(alpha) for group, alpha in expected.items()}
    assert [group["n"] for group in found["groups"]] == [5] * len(expected)
    assert told in notes


def test_several_files_make_a_curve_or_a_line_each(tmp_path):
    paths = []
    for step, loss in zip(STEPS, NATS, strict=True):
        paths.append(tmp_path / f"results_{step}.json")
        results = {"wikitext": {"alias": "w", "word_perplexity,none": math.exp(loss)}, "arc": {"acc,none": 1}}
        config = {"model_args": f"pretrained=mine,revision=step{step}"}
        paths[-1].write_text(json.dumps({"results": results, "config": config}))
    found, notes = fitted(paths, tokens_per_step=1000)
    assert alphas(found)["wikitext"] == pytest.approx(ALPHA)
    assert "and 4 more: lm-eval results, a row per task" in notes
    with pytest.raises(InputError, match="column 'step' is 60 in every row; a power law needs at least two"):
        fitted(paths[0], tokens_per_step=1000)
    scalars = [tmp_path / f"{run}.csv" for run in "ab"]
    for path in scalars:
        path.write_text(TENSORBOARD)
    found, notes = fitted(scalars, unit="nats", tokens_per_step=1000)
    assert alphas(found) == {"a": pytest.approx(ALPHA), "b": pytest.approx(ALPHA)}
    assert "a line for each file (--by COLUMN, or --by none for one line)" in notes
    assert list(alphas(fitted(scalars, unit="nats", tokens_per_step=1000, by="none")[0])) == ["all"]
    with pytest.raises(InputError, match="is given twice"):
        fitted([scalars[0], scalars[0]])


def test_results_of_one_model_are_no_curve(tmp_path):
    results = {"results": {"wikitext": {"alias": "w", "word_perplexity,none": 10.05}}, "config": {}}
    with pytest.raises(InputError, match="results of one model are one size: several files make a curve"):
        fitted(results, tmp_path / "r.json")


class Frame:
    """As pandas has it."""

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.rows, self.columns = rows, list(rows[0])
        self.index = type("Index", (), {"names": ["tokens"]})()

    def reset_index(self) -> Frame:
        sizes = zip(TOKENS, self.rows, strict=True)
        return Frame([{"tokens": size} | row for size, row in sizes])

    def to_dict(self, kind: str) -> list[dict[str, Any]]:
        assert kind == "records"
        return self.rows


@pytest.mark.parametrize(
    "data",
    [
        ROWS,
        iter(ROWS),
        COLUMNS,
        {name: np.array(values) for name, values in COLUMNS.items()},
        [{name: np.float64(value) for name, value in row.items()} for row in ROWS],
        [{"tokens": f"{row['tokens']:,}", "val_ppl": str(row["val_ppl"])} for row in ROWS],
        Frame([{"val_ppl": row["val_ppl"]} for row in ROWS]),
        type("Polars", (), {"to_dicts": lambda self: ROWS, "__iter__": lambda self: iter([])})(),
    ],
    ids=["rows", "iterator", "columns", "arrays", "numpy", "texts", "index", "polars"],
)
def test_frames_and_dictionaries_are_tables(data):
    if isinstance(data, Frame):
        data.__class__.__iter__ = lambda self: iter(self.columns)
    assert alphas(cvfp.fit(data).values) == {"all": pytest.approx(ALPHA)}


# --- Numbers that may be two things.


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (["400", "600", "900", "1.200", "1.800"], PPL, "'1.200' may be 1.2 or 1200; say which sign"),
        ([f"{size // 1000}.000" for size in TOKENS], [335, 256, 205, 166, 137], "'60.000' may be 60 or"),
        (TOKENS, ['"335,3"', 256.5, 205.2, 166.1, 136.8], "has a decimal comma and '256.5'"),
        (TOKENS, ['"1,335"', '"1,256"', '"1,205"', '"1,166"', '"1,137"'], "'1,335' may be 1335 or 1.335"),
        (TOKENS, ["335,3", "256,5", "205,2", "166,1", "136,8"], "3 values for 2 columns; a comma in a"),
        (["6e4 tokens?", *TOKENS[1:]], PPL, "'6e4 tokens?' is not a finite number"),
    ],
)
def test_a_number_that_may_be_two_is_refused_with_the_option(tmp_path, x, y, words):
    with pytest.raises(InputError) as caught:
        fitted(lines("tokens,val_ppl", x, y), tmp_path / "t.csv")
    assert words in str(caught.value)


def test_an_option_settles_a_number_that_may_be_two(tmp_path):
    content = lines("tokens,val_ppl", [f"{size // 1000}.000" for size in TOKENS], PPL)
    found, _ = fitted(content, tmp_path / "t.csv", reading=Reading(decimal="."))
    assert alphas(found)["all"] == pytest.approx(ALPHA)
    thousands = [f"{size // 1000}.000" for size in TOKENS]
    found, notes = fitted(
        lines("tokens,val_ppl", thousands, [335, 256, 205, 166, 137]),
        tmp_path / "t.csv",
        reading=Reading(decimal=","),
    )
    assert found["groups"][0]["local_exponents"][0]["token_range"] == [60_000, 120_000]
    found, notes = fitted(
        lines("tokens,val_loss", TOKENS, [f'"{v:.3f}"'.replace(".", ",") for v in NATS]), tmp_path / "t.csv"
    )
    assert alphas(found)["all"] == pytest.approx(ALPHA, abs=1e-3) and "with decimal commas" in notes


def test_fractions_of_a_token_and_two_columns_that_may_be_tokens_are_named(tmp_path):
    sizes = [400, 600, 900, 1.2, 1.8]
    rows = [{"tokens": size, "val_ppl": ppl} for size, ppl in zip(sizes, PPL, strict=True)]
    assert "has fractions of a token (1.2, " in fitted(rows, tmp_path / "t.json")[1]
    content = lines("Tokens,tokens,val_ppl", TOKENS, [3 * size for size in TOKENS], PPL)
    assert "tokens are column 'Tokens', not 'tokens' (--x)" in fitted(content, tmp_path / "t.csv")[1]


# --- What a row is.


@pytest.mark.parametrize("column", ["status", "State", "run_state", "attributes.status"])
def test_runs_that_did_not_finish_are_left_out_in_any_spelling(tmp_path, column):
    states = ["finished", "Finished ", "DONE", "completed", "success", "Crashed", "RUNNING (3h)", "failed: 9"]
    content = lines(f"{column},tokens,val_ppl", states, [*TOKENS, 1e6, 2e6, 4e6], [*PPL, 900, 900, 1])
    found, notes = fitted(content, tmp_path / "t.csv")
    assert alphas(found)["all"] == pytest.approx(ALPHA)
    assert "3 of 8 rows are left out, of unfinished runs: 1 Crashed, 1 RUNNING (3h), 1 failed: 9" in notes


def test_a_line_whose_runs_all_failed_does_not_end_the_others(tmp_path):
    rows = [("a", 0, size, ppl, "done") for size, ppl in zip(TOKENS, PPL, strict=True)]
    rows += [("b", 0, size, "", "failed") for size in TOKENS]
    content = lines("line,seed,tokens,val_ppl,status", *zip(*rows, strict=True))
    found, notes = fitted(content, tmp_path / "t.csv")
    assert alphas(found) == {"a": pytest.approx(ALPHA), "b": None}
    assert "b: no fit, since fewer than two sizes are left" in notes


def test_a_column_of_other_states_leaves_no_row_out(tmp_path):
    found, notes = fitted(lines("state,tokens,val_ppl", ["Texas"] * 5, TOKENS, PPL), tmp_path / "t.csv")
    assert found["groups"][0]["n"] == 5 and "left out" not in notes
    flags = ["True", "true", "1", "yes", "False"]
    found, notes = fitted(lines("finished,tokens,val_ppl", flags, TOKENS, PPL), tmp_path / "t.csv")
    assert found["groups"][0]["n"] == 4
    assert "1 of 5 rows are left out, of unfinished runs: 1 finished False" in notes


def test_rows_without_a_result_are_counted_by_reason(tmp_path):
    content = lines("tokens,val_ppl", [*TOKENS, 2e6, 3e6, 4e6, 0, ""], [*PPL, "nan", "N/A", "inf", 5e4, 7])
    found, notes = fitted(content, tmp_path / "t.csv")
    assert alphas(found)["all"] == pytest.approx(ALPHA)
    for said in (
        "2 of 10 rows are left out: they have no val_ppl",
        "1 of 10 rows are left out: they have an infinite val_ppl: they diverged",
        "1 of 10 rows are left out: they have no tokens",
        "1 of 10 rows are left out: they are of no data yet (tokens 0)",
    ):
        assert said in notes


def test_rows_twice_and_a_last_row_ten_times_change_nothing(tmp_path):
    once, _ = fitted(lines("tokens,val_ppl", TOKENS, PPL), tmp_path / "t.csv")
    for tokens, ppl in ((TOKENS * 2, PPL * 2), ([*TOKENS, *TOKENS[-1:] * 9], [*PPL, *PPL[-1:] * 9])):
        found, notes = fitted(lines("tokens,val_ppl", tokens, ppl), tmp_path / "t.csv")
        assert found["groups"] == once["groups"]
        assert f"{len(tokens) - 5} of {len(tokens)} rows repeat another in every column and count" in notes


def test_steps_that_were_done_again_after_a_restart_count_as_they_were_last(tmp_path):
    again = [*range(4), 2, 3, 4]
    ppl = [*PPL[:2], 999, 999, *PPL[2:]]
    content = lines("step,tokens,val_ppl", again, [TOKENS[step] for step in again], ppl)
    found, notes = fitted(content, tmp_path / "t.csv")
    assert alphas(found)["all"] == pytest.approx(ALPHA)
    assert "2 rows are of steps that were done again after a restart; the later ones count" in notes
    shuffled = [0, 4, 2, 1, 3]
    tokens, ppl = ([values[step] for step in shuffled] for values in (TOKENS, PPL))
    content = lines("step,tokens,val_ppl", shuffled, tokens, ppl)
    found, notes = fitted(content, tmp_path / "t.csv")
    assert found["groups"][0]["n"] == 5 and "restart" not in notes


def test_equal_numbers_are_one_seed_and_one_line_however_they_are_written(tmp_path):
    seeds = ["0", "0.0", "0", "0e0", "0"]
    found, _ = fitted(
        lines("seed,config,tokens,val_ppl", seeds, ["128", "128.0", "128", "1.28e2", "128"], TOKENS, PPL),
        tmp_path / "t.csv",
    )
    assert alphas(found) == {"128": pytest.approx(ALPHA)}
    assert found["groups"][0]["interval_kind"] == "line"
    names = ["1e3", "1000", "abc"]
    rows = [(name, tokens, ppl) for name in names for tokens, ppl in zip(TOKENS, PPL, strict=True)]
    found, _ = fitted(lines("config,tokens,val_ppl", *zip(*rows, strict=True)), tmp_path / "t.csv")
    assert list(alphas(found)) == names


@pytest.mark.parametrize(("noise", "told"), [(1e-5, "print the same"), (2e-3, ""), (0.02, "")])
def test_seeds_that_print_alike_are_no_copies(tmp_path, noise, told):
    rng = np.random.default_rng(0)
    rows = [
        (seed, size, f"{ppl * math.exp(noise * rng.normal()):.1f}")
        for seed in range(4)
        for size, ppl in zip(TOKENS, PPL, strict=True)
    ]
    found, notes = fitted(lines("seed,tokens,val_ppl", *zip(*rows, strict=True)), tmp_path / "t.csv")
    assert found["groups"][0]["n"] == 20 and "repeat the result" not in notes and told in notes
    assert alphas(found)["all"] == pytest.approx(ALPHA, abs=0.02)


def test_unequal_ranges_and_confounded_columns_are_named(tmp_path):
    rows = [
        (seed, size, ppl * (1 + seed / 100))
        for seed in range(3)
        for size, ppl in list(zip(TOKENS, PPL, strict=True))[seed:]
    ]
    _, notes = fitted(lines("seed,tokens,val_ppl", *zip(*rows, strict=True)), tmp_path / "t.csv")
    assert "do not have all sizes from 60000 to 960000: 1 (120000 to 960000), 2 (240000 to 960000)" in notes
    content = lines("n_params,seconds,tokens,val_ppl", [20 * size for size in TOKENS], TOKENS, TOKENS, PPL)
    _, notes = fitted(content, tmp_path / "t.csv")
    assert "with tokens changes n_params, too: the law is of both together" in notes


def test_a_long_log_is_fitted_in_groups_of_neighbours(tmp_path):
    """20,000 rows of L = 2 + 30 D^-0.3: the floor and the exponent come back."""
    rng, steps = np.random.default_rng(0), np.arange(1, 20_001)
    losses = 2 + 30 * (4096.0 * steps) ** -0.3 + 0.01 * rng.normal(size=len(steps))
    content = lines("step,val_loss", steps.tolist(), [f"{loss:.4f}" for loss in losses])
    path = tmp_path / "t.csv"
    path.write_text(content)
    fit = cvfp.fit(path, tokens_per_step=4096)
    (groups,) = re.findall("20000 sizes are taken in ([0-9]+) groups of neighbours", "\n".join(fit.notes))
    assert 200 < int(groups) <= 300
    (group,) = fit.table.groups
    form = {one.fit.form: one.fit for one in group.line.forms}["loss_floor"]
    assert form.parameters["E"] == pytest.approx(2, abs=0.02)
    assert form.parameters["beta"] == pytest.approx(0.3, abs=0.01)


# --- What a terminal shows.


def test_json_is_ascii_and_a_terminal_that_lacks_a_character_is_told(tmp_path, capfd, monkeypatch):
    path = tmp_path / "t.csv"
    path.write_text(lines("line,tokens,val_ppl", ["大"] * 5, TOKENS, PPL), encoding="utf-8")
    written = {}
    for options in ([], ["--json"]):
        raw = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(raw, encoding="cp1252"))
        assert main(["fit", str(path), *options]) == 0
        sys.stdout.flush()
        written[bool(options)] = raw.getvalue()
        err = capfd.readouterr().err
        assert ("cvfp: cp1252 has no U+5927" in err) == (not options)
    assert written[True].isascii() and json.loads(written[True])["groups"][0]["group"] == "大"
    assert b"?" in written[False]


def test_a_long_table_is_cut_with_a_count(tmp_path, capsys):
    pairs = list(zip(TOKENS, PPL, strict=True))[:2]
    rows = [(f"line {k}", *pair) for k in range(70) for pair in pairs]
    path = tmp_path / "t.csv"
    path.write_text(lines("line,tokens,val_ppl", *zip(*rows, strict=True)))
    assert main(["fit", str(path)]) == 0
    out = capsys.readouterr().out
    assert "... and 10 more rows; --json has all" in out and "line 59" in out and "line 60" not in out
