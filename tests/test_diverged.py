"""Claim: a model that diverged is scored in nats, and no fit, forecast or comparison uses it unsaid."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from lab_helpers import tiny_spec
from report_helpers import LineSpec, write_sweep

import cvfp
from cvfp.arms.base import Facts
from cvfp.cli.main import main
from cvfp.data.dataset import open_dataset
from cvfp.lab import runner
from cvfp.lab.plan import make_plan
from cvfp.lab.point import mixed_point
from cvfp.lab.runner import run_sweep
from cvfp.lab.sweep_directory import sweep_status
from cvfp.records.errors import InputError
from cvfp.records.plan import Analysis
from cvfp.records.results import PointRecord, RunRecord
from cvfp.report.write import write_report
from cvfp.scaling.summary import fit_lines

CPU = torch.device("cpu")
ALPHA, SIZES = -0.36, (50, 100, 200, 400, 800)
LSTM, KNESER_NEY = LineSpec("lstm", "2L_768d", law=(ALPHA, 14_000.0)), LineSpec("kneser-ney", "5gram")
NATS = 812.25


def lost(run: RunRecord) -> RunRecord:
    """The run, had it diverged."""
    score = {"status": "diverged", "val_ppl": None, "bits_per_byte": None, "val_nats": NATS}
    row = PointRecord.model_validate(run.point.model_dump() | score)
    return run.model_copy(update={"point": row, "test_documents": None})


def lost_at(arm: str, samples: int, seed: int):
    return lambda run: (
        lost(run) if (run.point.arm, run.point.num_samples, run.point.seed) == (arm, samples, seed) else run
    )


# --- What its record says.


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("nats", "facts", "said"),
    [
        (math.log(300) - 0.01, {}, ("done", 300 * math.exp(-0.01), None)),
        (math.log(300) + 0.01, {}, ("diverged", None, math.log(300) + 0.01)),
        (812.0, {}, ("diverged", None, 812.0)),
        (1e30, {"dev_ppl": None}, ("diverged", None, 1e30)),
        (2.0, {"stop_reason": "diverged"}, ("diverged", None, 2.0)),
    ],
)
def test_a_score_worse_than_a_uniform_guess_over_the_vocabulary_is_kept_as_a_loss(corpus, nats, facts, said):
    (point, *_) = make_plan(tiny_spec(corpus, arms=("unigram",))).points
    dataset = open_dataset(point.config.data, print)
    assert dataset.vocab_size == 300
    count = len(dataset.test.tokens) - 1
    told = Facts(**({"stop_reason": "closed_form", "total_params": 1, "trained_params": 1} | facts))
    nll = torch.full((count,), nats, dtype=torch.float64).numpy()
    row = mixed_point(point, dataset, told, nll, nll, 1.0).record.point
    assert (row.status, row.val_ppl, row.val_nats) == tuple(
        pytest.approx(value) if isinstance(value, float) else value for value in said
    )
    assert (row.bits_per_byte is None) == (row.status == "diverged")
    json.dumps(row.model_dump(mode="json"), allow_nan=False)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("lr", [30.0, 1e6])
def test_a_sweep_scores_a_model_of_huge_losses_and_goes_on(tmp_path, corpus, lr):
    """Its learning rate is one that no perplexity survives; the losses are finite."""
    spec = tiny_spec(corpus, arms=("cvfp", "unigram"), samples=(4, 8)).with_settings({"phase2.lr": lr})
    outcome = run_sweep(make_plan(spec), tmp_path, CPU)
    assert (outcome.done, len(outcome.diverged), outcome.failed) == (2, 2, ())
    rows = json.loads((tmp_path / "detailed_results.json").read_text())
    for row in rows[:2]:
        assert (row["status"], row["val_ppl"]) == ("diverged", None) and row["val_nats"] > math.log(300)
    assert [row["val_nats"] for row in rows[2:]] == [None, None]
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert [one["reason"] for one in summary[0]["excluded"]] == ["diverged"] * 2
    assert summary[0]["alpha"] is None and summary[0]["best_ppl"] is None
    status = sweep_status(tmp_path)
    assert status.counts()["diverged"] == 2 and "DIVERGED: " in status.troubles()[0]
    assert run_sweep(make_plan(spec), tmp_path, CPU) == outcome, "what has a score is not run again"


@pytest.mark.usefixtures("undrawn")
def test_weights_that_cannot_be_scored_are_a_failure_in_one_line(tmp_path, corpus):
    spec = tiny_spec(corpus, arms=("cvfp",), samples=(4,)).with_settings({"phase2.lr": 1e38})
    (record,) = run_sweep(make_plan(spec), tmp_path, CPU).failed
    assert record.error is not None and "\n" not in record.error
    assert "diverged" in record.error or "cannot be scored" in record.error


@pytest.mark.usefixtures("undrawn")
def test_a_mixture_names_the_component_that_diverged(tmp_path, corpus, monkeypatch):
    arms, mixed = ("mixture", "no-context", "kneser-ney"), {"mixture.arms": ("no-context", "kneser-ney")}
    real = runner.run_point

    def one_diverges(point, dataset, budget):
        result = real(point, dataset, budget)
        if point.config.arm != "no-context":
            return result
        return type(result)(lost(result.record), result.nll, result.dev_nll)

    monkeypatch.setattr(runner, "run_point", one_diverges)
    spec = tiny_spec(corpus, arms=arms, samples=(4,)).with_settings(mixed)
    (failed,) = run_sweep(make_plan(spec), tmp_path, CPU).failed
    assert failed.point.arm == "mixture"
    assert failed.error == "CvfpError: no-context has diverged, and the mixture is made of it"


def test_a_record_cannot_have_diverged_with_a_perplexity(tmp_path):
    fields = {"arm": "lstm", "config_name": "2L", "config_hash": "a", "num_samples": 5, "seed": 1}
    for more, words in (
        ({"val_nats": 9.0, "val_ppl": 8103.1, "train_tokens": 9}, "val_ppl: a run that diverged has none"),
        ({"train_tokens": 9}, "val_nats: a run that is diverged needs a number"),
    ):
        with pytest.raises(InputError, match=words):
            PointRecord.parse(fields | {"status": "diverged"} | more, "row")


# --- What uses it: nothing, and that is said.


def test_the_law_is_that_of_the_other_points(tmp_path):
    exact = [
        RunRecord(
            run_hash="a",
            point=PointRecord(
                arm="lstm",
                config_name="2L",
                config_hash="a",
                status="done",
                num_samples=size,
                train_tokens=1000 * size,
                seed=42,
                val_ppl=14_000.0 * (1000 * size) ** ALPHA,
            ),
        )
        for size in SIZES
    ]
    points = [lost(run).point if run.point.num_samples == 200 else run.point for run in exact]
    (fit,) = fit_lines(points, Analysis())
    assert fit.law is not None and fit.law.alpha == pytest.approx(ALPHA, abs=1e-12) and fit.law.n == 4
    assert [(why.num_samples, why.seed, why.reason) for why in fit.excluded] == [(200, 42, "diverged")]


def test_a_report_names_what_diverged_and_counts_it(tmp_path):
    change = lost_at("lstm", 800, 43)
    write_sweep(tmp_path, (LSTM, KNESER_NEY), SIZES, (42, 43), change=change, documents=5)
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    named = "lstm 2L_768d, 800 documents, seed 43 (812.2 nats per token)"
    assert f"Diverged, and in no fit, forecast or comparison, 1 of 20 runs: {named}." in text
    assert f"- diverged: {named}" in text and "Of 20 runs 1 diverged" in text
    assert "| ∞ |" in text and "∞: the model diverged." in text
    write_report(tmp_path, "ja")
    assert "20 回の実行のうち 1 回は発散し" in (tmp_path / "report.ja.md").read_text(encoding="utf-8")
    shown = cvfp.Results(tmp_path)
    for each in (shown._shown.markdown, shown.compare("lstm", "kneser-ney").markdown):
        assert named in each
    assert {row.num_samples: len(row.draws) for row in [shown.view.top]} == {800: 1}


def test_a_size_that_a_model_diverged_at_is_no_size_of_the_ranking(tmp_path):
    write_sweep(tmp_path, (LSTM, KNESER_NEY), SIZES, change=lost_at("lstm", 800, 42))
    top = cvfp.Results(tmp_path).view.top
    assert top is not None and top.num_samples == 400


def test_a_comparison_of_versions_names_what_diverged(tmp_path, capsys):
    change = lost_at("lstm", 800, 42)
    for name, settings, each in (("old", {}, change), ("new", {"lstm.lr": 0.0017}, lambda run: run)):
        write_sweep(tmp_path / name, (LineSpec("lstm", "2L_768d", settings),), SIZES, change=each)
    versions = [str(tmp_path / name) for name in ("old", "new")]
    assert main(["compare", *versions, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["diverged"] == {
        "old": [
            {
                "arm": "lstm",
                "config_name": "2L_768d",
                "num_samples": 800,
                "seed": 42,
                "val_nats": NATS,
            }
        ],
        "new": [],
    }
    assert found["changes"][0]["num_samples"] == 400
    assert main(["compare", *versions]) == 0
    assert "old: Diverged, and in no fit, forecast or comparison, 1 of 5 runs" in capsys.readouterr().out


def test_what_to_run_next_says_what_it_leaves_out(tmp_path, capsys):
    write_sweep(tmp_path, (LSTM, KNESER_NEY), SIZES, (42, 43), change=lost_at("lstm", 800, 43))
    assert main(["next", str(tmp_path), "--json"]) == 0
    told = capsys.readouterr()
    assert "lstm 2L_768d, 800 samples, seed 43 diverged (812.2 nats per token)" in told.err
    json.loads(told.out)


# --- Tables of other tools.


TOKENS = [60_000, 120_000, 240_000, 480_000, 960_000]
PPL = [14_000.0 * size**ALPHA for size in TOKENS]


def fitted(path: Path, rows: str, capsys, *options: str) -> tuple[dict, str, str]:
    path.write_text(rows, encoding="utf-8")
    assert main(["fit", str(path), *options, "--json"]) == 0
    told = capsys.readouterr()
    assert main(["fit", str(path), *options]) == 0
    return json.loads(told.out), told.err, " ".join(capsys.readouterr().out.split())


def lines(head: str, *rows: tuple[object, ...]) -> str:
    return "\n".join([head, *(",".join(map(str, row)) for row in rows)]) + "\n"


@pytest.mark.parametrize(
    ("y", "law", "bad"),
    [
        ("val_ppl", PPL, "inf"),
        ("val_loss", [math.log(one) for one in PPL], "inf"),
        ("val_loss", [math.log(one) for one in PPL], 812.5),
        ("val_nats", [math.log(one) for one in PPL], 1e30),
        ("bits", [math.log2(one) for one in PPL], 1100),
    ],
)
def test_a_row_with_an_infinite_perplexity_is_left_out_by_name(tmp_path, capsys, y, law, bad):
    rows = [("a", 42, size, one) for size, one in zip(TOKENS, law, strict=True)]
    content = lines(f"line,seed,tokens,{y}", *rows, ("a", 42, 1_920_000, bad))
    found, err, out = fitted(tmp_path / "t.csv", content, capsys)
    named = f"{tmp_path / 't.csv'}, line 7: line a, seed 42"
    assert found["diverged"] == {"count": 1, "rows": [named]}
    assert found["groups"][0]["alpha"] == pytest.approx(ALPHA, abs=1e-9) and found["groups"][0]["n"] == 5
    assert f"1 of 6 rows are left out: they have an infinite {y}: they diverged ({named})" in err
    assert "Diverged, and in no law: 1 (" in out


def test_a_row_that_says_that_it_diverged_is_left_out_by_name(tmp_path, capsys):
    rows = [(size, one, "finished") for size, one in zip(TOKENS, PPL, strict=True)]
    rows += [(1_920_000, 5.0, "diverged"), (3_840_000, 5.0, "crashed")]
    found, err, _ = fitted(tmp_path / "t.csv", lines("tokens,val_ppl,state", *rows), capsys)
    assert found["diverged"]["count"] == 1 and found["groups"][0]["alpha"] == pytest.approx(ALPHA)
    assert "1 of 7 rows are left out: they diverged (" in err
    assert "1 of 7 rows are left out, of unfinished runs: 1 crashed" in err


def test_a_huge_finite_perplexity_is_fitted_and_named(tmp_path, capsys):
    rows = list(zip(TOKENS, PPL, strict=True))
    found, err, _ = fitted(tmp_path / "t.csv", lines("tokens,val_ppl", *rows, (30_000, 2e6)), capsys)
    assert found["diverged"] == {"count": 0, "rows": []} and found["groups"][0]["n"] == 6
    assert "1 of 6 rows have a perplexity above 1e+06, worse than a guess" in err and "line 7" in err
    _, err, _ = fitted(tmp_path / "t.csv", lines("tokens,val_ppl", *rows, (30_000, 9e5)), capsys)
    assert "worse than a guess" not in err


def test_perplexities_in_a_column_of_losses_are_not_taken_for_diverged_ones(tmp_path, capsys):
    path = tmp_path / "t.csv"
    path.write_text(lines("tokens,val_loss", *zip(TOKENS, [900, 800, 750, 400, 300], strict=True)))
    assert main(["fit", str(path)]) == 2
    assert "is it a perplexity?" in capsys.readouterr().err


def test_the_rows_of_a_sweep_are_fitted_without_what_diverged(tmp_path, capsys):
    write_sweep(tmp_path, (LSTM, KNESER_NEY), SIZES, (42, 43), change=lost_at("lstm", 100, 42))
    assert main(["fit", str(tmp_path / "detailed_results.json"), "--json"]) == 0
    told = capsys.readouterr()
    found = json.loads(told.out)
    assert found["diverged"]["count"] == 1
    assert found["diverged"]["rows"][0].endswith("arm lstm, config_name 2L_768d, num_samples 100, seed 42")
    assert [group["n"] for group in found["groups"]] == [9, 10]
