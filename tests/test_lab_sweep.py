"""Sweeps on a tiny corpus: repeatable, resumable, and never a wrong or half result."""

from __future__ import annotations

import json
import math
import time

import numpy as np
import pytest
import torch
from lab_helpers import rows_of, tiny_plan, tiny_spec, write_corpus

from cvfp.lab import runner, sweep_directory
from cvfp.lab.messages import PointStarted, Progress
from cvfp.lab.options import RunOptions
from cvfp.lab.plan import make_plan
from cvfp.lab.runner import run_sweep
from cvfp.lab.single import open_model
from cvfp.lab.sweep_directory import SweepDirectory, sweep_status
from cvfp.records.errors import CvfpError, InputError
from cvfp.records.files import read_json, read_sealed
from cvfp.records.results import RunRecord
from cvfp.records.sweep import load_sweep
from cvfp.training.events import Event

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")


@pytest.mark.long
def test_the_same_sweep_twice_gives_the_same_results(tmp_path, corpus, whole):
    assert run_sweep(tiny_plan(corpus), tmp_path, CPU).failed == ()
    first, second = rows_of(whole), rows_of(tmp_path)
    assert json.dumps(first) == json.dumps(second)
    assert len(first) == 15


def test_an_interrupted_sweep_goes_on_and_redoes_nothing(tmp_path, corpus, whole, monkeypatch):
    plan = tiny_plan(corpus)
    real, calls = runner.run_point, []

    def counted(point, dataset, budget):
        calls.append(point.config.run_hash)
        if len(calls) == 6:
            raise KeyboardInterrupt
        return real(point, dataset, budget)

    monkeypatch.setattr(runner, "run_point", counted)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan, tmp_path, CPU)
    assert sweep_status(tmp_path).counts() == {
        "done": 5,
        "running": 0,
        "failed": 0,
        "diverged": 0,
        "waiting": 10,
    }
    run_sweep(plan, tmp_path, CPU)
    finished_before = calls[:5]
    assert len(calls) == 5 + 1 + 10 and not set(finished_before) & set(calls[6:])
    assert json.dumps(rows_of(tmp_path)) == json.dumps(rows_of(whole))


def test_a_finished_sweep_runs_nothing_again(tmp_path, corpus, monkeypatch):
    plan = tiny_plan(corpus, samples=(4, 8), arms=("unigram", "kneser-ney"))
    run_sweep(plan, tmp_path / "sweep", CPU)

    def never(*args):
        raise AssertionError("a finished point was run again")

    monkeypatch.setattr(runner, "run_point", never)
    assert run_sweep(plan, tmp_path / "sweep", CPU).done == 4


def test_a_sweep_directory_holds_the_files_of_the_contract(tmp_path, corpus):
    plan = tiny_plan(corpus, arms=("cvfp", "unigram"), analysis={"window_size": 2})
    run_sweep(plan, tmp_path / "sweep", CPU)
    names = {path.name for path in (tmp_path / "sweep").iterdir()}
    wanted = {"plan.json", "metadata.json", "summary.json", "detailed_results.json"}
    assert wanted | {"alpha_progression.json", "output.txt", "runs"} <= names
    point = next(p for p in plan.points if p.config.arm == "cvfp")
    run = tmp_path / "sweep" / "runs" / point.config.run_hash
    files = {path.name for path in run.iterdir()}
    assert files == {
        "config.json",
        "environment.json",
        "metrics.jsonl",
        "test_losses.npz",
        "checkpoint",
        "record.json",
    }
    assert not list((tmp_path / "sweep").rglob("*.tmp"))


def test_stored_losses_give_the_recorded_perplexity(tmp_path, corpus):
    plan = tiny_plan(corpus, samples=(16,), arms=("cvfp", "kneser-ney"))
    run_sweep(plan, tmp_path / "sweep", CPU)
    for point in plan.points:
        run = tmp_path / "sweep" / "runs" / point.config.run_hash
        record = RunRecord.parse_json(read_sealed(run / "record.json"), "the record")
        losses = np.load(run / "test_losses.npz", allow_pickle=False)
        stored = float(np.exp(losses["nll"].astype(np.float64).mean()))
        assert stored == pytest.approx(record.point.val_ppl, rel=1e-3)
        assert losses["document_starts"][0] == 0 and len(losses["document_starts"]) == 4


def test_losses_by_test_document_sum_to_the_recorded_perplexity(tmp_path, corpus):
    plan = tiny_plan(corpus, samples=(16,), arms=("cvfp", "kneser-ney"))
    run_sweep(plan, tmp_path / "sweep", CPU)
    for record in SweepDirectory(tmp_path / "sweep", plan).records().values():
        documents = record.test_documents
        mean = sum(documents.nats) / sum(documents.tokens)
        assert math.exp(mean) == pytest.approx(record.point.val_ppl, rel=1e-5)
        losses = np.load(tmp_path / "sweep" / "runs" / record.run_hash / "test_losses.npz")
        starts = losses["document_starts"]
        first = losses["nll"][starts[2] - 1 : starts[3] - 1].astype(np.float64)
        assert documents.tokens[2] == len(first)
        assert documents.nats[2] == pytest.approx(first.sum(), rel=1e-3)


def test_the_log_reads_from_the_heading_to_the_laws(tmp_path, corpus):
    plan = tiny_plan(corpus, arms=("unigram", "kneser-ney"))
    run_sweep(plan, tmp_path / "sweep", CPU)
    lines = [line[21:] for line in (tmp_path / "sweep" / "output.txt").read_text().splitlines()]
    assert lines[0] == "tiny:  (standard protocol)"
    assert lines[1].startswith("cpu") and "torch" in lines[1]
    assert "6 runs, 0 done before, 6 to run" in lines
    summary = json.loads((tmp_path / "sweep" / "summary.json").read_text())[0]
    law = f"line   unigram 1gram: PPL = {summary['A']:.4g} * tokens^{summary['alpha']:.4f}, "
    assert [line for line in lines if line.startswith(law)]
    assert sum(line.startswith("line ") for line in lines) == 2
    before = len(lines)
    run_sweep(plan, tmp_path / "sweep", CPU)
    after = (tmp_path / "sweep" / "output.txt").read_text().splitlines()
    assert [line[21:] for line in after[before:]] == ["6 runs, 6 done before, 0 to run"]


def test_metrics_say_when(tmp_path, corpus):
    plan = tiny_plan(corpus, samples=(16,), arms=("cvfp",))
    run_sweep(plan, tmp_path / "sweep", CPU)
    (record,) = SweepDirectory(tmp_path / "sweep", plan).records().values()
    lines = (tmp_path / "sweep" / "runs" / record.run_hash / "metrics.jsonl").read_text().splitlines()
    seconds = [json.loads(line)["seconds"] for line in lines]
    assert seconds == sorted(seconds) and 0 < seconds[-1] < record.point.wall_seconds + 1
    taken = record.facts.phase1.seconds + record.facts.phase2.seconds
    assert 0 < taken < record.point.wall_seconds


def test_the_default_arms_learn_something(tmp_path):
    corpus = write_corpus(tmp_path, words_each=60)
    arms = ("cvfp", "random-context", "no-context", "kneser-ney", "unigram")
    plan = tiny_plan(corpus, samples=(16,), arms=arms)
    run_sweep(plan, tmp_path / "sweep", CPU)
    ppl = {row["arm"]: row["val_ppl"] for row in rows_of(tmp_path / "sweep")}
    for arm in ("cvfp", "random-context", "no-context", "kneser-ney"):
        assert ppl[arm] < 0.8 * ppl["unigram"], (arm, ppl)


def test_another_plan_is_refused_and_nothing_is_touched(tmp_path, corpus):
    run_sweep(tiny_plan(corpus, samples=(4, 8), arms=("unigram",)), tmp_path / "sweep", CPU)
    before = rows_of(tmp_path / "sweep")
    with pytest.raises(InputError, match=r"holds another plan \(tiny, 2 runs\)"):
        run_sweep(tiny_plan(corpus, samples=(4, 16), arms=("unigram",)), tmp_path / "sweep", CPU)
    assert rows_of(tmp_path / "sweep") == before


def test_a_directory_with_other_files_is_refused(tmp_path, corpus):
    (tmp_path / "thesis.tex").write_text("precious")
    with pytest.raises(InputError, match="not empty and holds no sweep"):
        run_sweep(tiny_plan(corpus), tmp_path, CPU)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.tex"]


def test_too_many_samples_stop_the_sweep_before_it_starts(tmp_path, corpus):
    plan = tiny_plan(corpus, samples=(4, 34), arms=("unigram",))
    with pytest.raises(InputError, match="33"):
        run_sweep(plan, tmp_path / "sweep", CPU)
    assert not (tmp_path / "sweep" / "runs").exists()


def test_changed_data_is_not_mixed_with_old_points(tmp_path):
    corpus = write_corpus(tmp_path, seed=1)
    plan = tiny_plan(corpus, samples=(4, 8), arms=("unigram",))
    run_sweep(plan, tmp_path / "sweep", CPU)
    write_corpus(tmp_path, seed=2)
    hashes = [point.config.run_hash for point in plan.points]
    (tmp_path / "sweep" / "runs" / hashes[0] / "record.json").unlink()
    with pytest.raises(InputError, match="the data has changed"):
        run_sweep(plan, tmp_path / "sweep", CPU)


def test_a_diverging_point_is_recorded_as_failed_and_retried_on_request(tmp_path, corpus, monkeypatch):
    plan = tiny_plan(corpus, samples=(4, 8), arms=("cvfp",))
    real = runner.run_point

    def diverges_at_four(point, dataset, budget):
        if point.config.data.num_samples == 4:
            raise CvfpError("the dev loss is nan at step 5")
        return real(point, dataset, budget)

    monkeypatch.setattr(runner, "run_point", diverges_at_four)
    outcome = run_sweep(plan, tmp_path / "sweep", CPU)
    assert outcome.done == 1 and "nan at step 5" in outcome.failed[0].error
    summary = json.loads((tmp_path / "sweep" / "summary.json").read_text())
    assert summary[0]["excluded"][0]["reason"] == "failed" and summary[0]["alpha"] is None
    monkeypatch.setattr(runner, "run_point", real)
    again = run_sweep(plan, tmp_path / "sweep", CPU)
    assert again == outcome, "a failed point keeps its error until it is asked for"
    assert run_sweep(plan, tmp_path / "sweep", CPU, options=RunOptions(retry=True)).failed == ()


def test_a_damaged_or_foreign_record_is_named(tmp_path, corpus):
    plan = tiny_plan(corpus, samples=(4, 8), arms=("unigram",))
    run_sweep(plan, tmp_path / "sweep", CPU)
    first, second = (tmp_path / "sweep" / "runs" / p.config.run_hash / "record.json" for p in plan.points)
    whole = first.read_text()
    first.write_text(whole[:40])
    with pytest.raises(InputError, match=r"record\.json: not JSON"):
        run_sweep(plan, tmp_path / "sweep", CPU)
    first.write_text(second.read_text())
    with pytest.raises(InputError, match="is the record of another run: run_hash"):
        run_sweep(plan, tmp_path / "sweep", CPU)


def test_another_analysis_of_finished_points_runs_nothing_again(tmp_path, corpus, monkeypatch):
    spec = tiny_spec(corpus, arms=("cvfp",)).with_settings({"phase2.epochs": 1, "phase2.eval_every": None})
    run_sweep(make_plan(spec), tmp_path / "sweep", CPU)
    assert json.loads((tmp_path / "sweep" / "summary.json").read_text())[0]["alpha"] is None
    monkeypatch.setattr(runner, "run_point", lambda *arguments: pytest.fail("a point was run again"))
    run_sweep(make_plan(spec.including_capped()), tmp_path / "sweep", CPU)
    assert json.loads((tmp_path / "sweep" / "summary.json").read_text())[0]["alpha"] is not None


def test_metadata_names_every_machine_and_data_set_once(tmp_path, corpus):
    plan = tiny_plan(corpus, arms=("unigram",))
    run_sweep(plan, tmp_path / "sweep", CPU)
    (tmp_path / "sweep" / "runs" / plan.points[0].config.run_hash / "record.json").unlink()
    run_sweep(plan, tmp_path / "sweep", CPU)
    held = json.loads((tmp_path / "sweep" / "metadata.json").read_text())
    assert len(held["environments"]) == len(held["datasets"]) == len(held["data"]) == 1


def test_changed_data_leaves_the_metadata_alone(tmp_path):
    plan = tiny_plan(write_corpus(tmp_path, seed=1), samples=(4, 8), arms=("unigram",))
    run_sweep(plan, tmp_path / "sweep", CPU)
    before = (tmp_path / "sweep" / "metadata.json").read_text()
    write_corpus(tmp_path, seed=2)
    (tmp_path / "sweep" / "runs" / plan.points[0].config.run_hash / "record.json").unlink()
    with pytest.raises(InputError, match="the data has changed"):
        run_sweep(plan, tmp_path / "sweep", CPU)
    assert (tmp_path / "sweep" / "metadata.json").read_text() == before


def test_a_changed_table_is_not_mixed_with_old_points(tmp_path, corpus):
    table = tmp_path / "table.npy"
    settings = {"embedding.source": str(table)}
    plan = make_plan(tiny_spec(corpus, arms=("no-context",), samples=(4, 8)).with_settings(settings))
    for seed in (1, 2):
        np.save(table, np.random.default_rng(seed).standard_normal((300, 8)).astype(np.float32))
        if seed == 1:
            run_sweep(plan, tmp_path / "sweep", CPU)
            (tmp_path / "sweep" / "runs" / plan.points[0].config.run_hash / "record.json").unlink()
    with pytest.raises(InputError, match=r"the data has changed .*table\.npy"):
        run_sweep(plan, tmp_path / "sweep", CPU)


def test_running_out_of_memory_is_a_failed_point(tmp_path, corpus):
    huge = {"model.context_dim": 1_000_000}
    plan = make_plan(tiny_spec(corpus, arms=("cvfp", "unigram"), samples=(4, 8)).with_settings(huge))
    outcome = run_sweep(plan, tmp_path / "sweep", CPU)
    assert outcome.done == 2 and len(outcome.failed) == 2
    assert "allocate memory" in outcome.failed[0].error


def test_an_error_of_the_program_is_not_a_failed_point(tmp_path, corpus, monkeypatch):
    def broken(point, dataset, budget):
        raise RuntimeError("size of tensor a must match")

    monkeypatch.setattr(runner, "run_point", broken)
    with pytest.raises(RuntimeError, match="tensor a"):
        run_sweep(tiny_plan(corpus, samples=(4, 8)), tmp_path / "sweep", CPU)


def test_what_the_data_layer_notes_is_kept(tmp_path):
    corpus = write_corpus(tmp_path)
    corpus.write_text(corpus.read_text() + '{"text": ""}\n')
    run_sweep(tiny_plan(corpus, samples=(4, 8), arms=("unigram",)), tmp_path / "sweep", CPU)
    held = json.loads((tmp_path / "sweep" / "metadata.json").read_text())
    assert any("empty" in note for note in held["notes"])
    assert "empty" in (tmp_path / "sweep" / "output.txt").read_text()


def test_a_run_is_no_checkpoint_but_may_have_one(whole):
    runs = {read_json(run / "record.json")["point"]["arm"]: run for run in (whole / "runs").iterdir()}
    for arm, words in (("kneser-ney", "it has kept no model"), ("cvfp", f"its model is in {runs['cvfp']}")):
        with pytest.raises(InputError, match=f"this is a run of a sweep; {words}"):
            open_model(runs[arm], CPU)


def test_a_trial_of_a_tuning_tells_nothing_of_the_test_text(tmp_path, corpus):
    spec = tiny_spec(corpus, arms=("unigram",), samples=(4,))
    for settings, told in (({}, True), ({"data.test_tokens": 2}, False)):
        out = tmp_path / str(told)
        run_sweep(make_plan(spec.with_settings(settings)), out, CPU)
        assert ("test PPL" in (out / "output.txt").read_text()) == told


def test_of_one_size_the_costliest_run_begins_first(tmp_path, corpus):
    began = []

    def tell(message):
        if isinstance(message, PointStarted):
            began.append((message.point.config.data.num_samples, message.point.config.arm))

    plan = tiny_plan(corpus, samples=(4, 8), arms=("unigram", "no-context", "cvfp"))
    run_sweep(plan, tmp_path / "sweep", CPU, tell)
    assert began == [(size, arm) for size in (4, 8) for arm in ("cvfp", "no-context", "unigram")]


# --- The time of a run is that of all attempts at it.


def test_the_seconds_of_a_run_are_those_of_all_attempts(tmp_path, corpus, undrawn):
    """Each attempt is held up for 0.3 s, the first two are interrupted."""
    plan, attempts = tiny_plan(corpus, arms=("lstm",), samples=(4,), seeds=1), []

    def tell(message):
        if isinstance(message, PointStarted):
            attempts.append(time.perf_counter())
        if isinstance(message, Progress) and len(attempts) < 3:
            time.sleep(0.3)
            raise KeyboardInterrupt

    began = time.perf_counter()
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            run_sweep(plan, tmp_path, torch.device("cpu"), tell)
    run_sweep(plan, tmp_path, torch.device("cpu"), tell)
    (point,) = load_sweep(tmp_path).points
    assert 0.6 < point.wall_seconds < time.perf_counter() - began
    assert not list(tmp_path.glob("runs/*/attempts.json"))


def test_a_killed_attempt_counts_up_to_its_last_sign_of_life(tmp_path, monkeypatch):
    monkeypatch.setattr(sweep_directory, "BEAT_SECONDS", 0.0)
    began = time.perf_counter()
    for number in range(3):
        run = sweep_directory.RunDirectory(tmp_path)
        run.begin({}, {}, 60.0)
        assert 0.09 * number <= run.earlier < time.perf_counter() - began
        time.sleep(0.1)
        run.log(Event("training", 1, 1, {}))
