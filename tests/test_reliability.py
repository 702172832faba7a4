"""What happens when things break: the table of `docs/RELIABILITY.md`, fault by fault."""

from __future__ import annotations

import os
import resource
import time
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch
from lab_helpers import rows_of, tiny_plan, tiny_spec, toml_of, write_corpus
from marks import one_quick
from torture import results, torture, torture_plan, undisturbed

from cvfp.cli.main import main
from cvfp.lab.runner import run_sweep
from cvfp.lab.sweep_directory import sweep_status

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")


@dataclass(frozen=True)
class Told:
    """What a command answered."""

    returncode: int
    stderr: str


@pytest.fixture
def cvfp(capsys):
    """The command line, which may write files of at most so many bytes."""

    def command(*arguments, most_bytes=resource.RLIM_INFINITY):
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (most_bytes, before[1]))
        try:
            code = main([str(argument) for argument in arguments])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        return Told(code, capsys.readouterr().err)

    return command


def one_line(told):
    """The error that a command ended with: one line, no traceback."""
    lines = [line for line in told.stderr.splitlines() if line.startswith("cvfp: error: ")]
    assert len(lines) == 1 and "Traceback" not in told.stderr, told.stderr
    return lines[0]


def leftovers(path):
    return [each for each in path.rglob("*") if each.suffix == ".tmp" or each.name == "savepoints"]


def assert_killed_sweeps_end_as_if_nothing_had_happened(folder, plan, kills, processes, seed):
    whole = folder / "whole"
    undisturbed(plan, whole)
    found = torture(plan, folder, kills, processes, seed)
    assert found.kills >= kills and found.again == 0
    assert found.begun <= found.sweeps * len(plan.points) + found.kills
    for sweep in [folder / f"sweep-{number}" for number in range(found.sweeps)]:
        assert results(sweep) == results(whole)
        # What a kill left beside the tables is taken away once it is old: a young one may be being written.
        young = set(sweep.glob(".*.tmp"))
        assert set(leftovers(sweep)) <= young
        assert {path.name for path in set(sweep.iterdir()) - young} == {path.name for path in whole.iterdir()}


def test_a_killed_sweep_ends_as_if_nothing_had_happened(tmp_path, corpus):
    plan = torture_plan(corpus, arms=("kneser-ney", "cvfp"), samples=(4, 8))
    assert_killed_sweeps_end_as_if_nothing_had_happened(tmp_path, plan, kills=2, processes=2, seed=0)


@pytest.mark.long
def test_sweeps_killed_again_and_again_end_as_if_nothing_had_happened(tmp_path, corpus):
    plan = torture_plan(corpus)
    assert_killed_sweeps_end_as_if_nothing_had_happened(tmp_path, plan, kills=10, processes=2, seed=2)


@pytest.fixture(scope="module")
def undisturbed_losses(tmp_path_factory, corpus):
    path = tmp_path_factory.mktemp("undisturbed")
    run_sweep(tiny_plan(corpus, arms=("cvfp",)), path, CPU)
    return [row["val_ppl"] for row in rows_of(path)]


@pytest.mark.parametrize("most_bytes", one_quick(5_000, 1_500, 15_000))
def test_a_disk_that_fills_up_is_one_line_and_loses_nothing(
    tmp_path, corpus, cvfp, undisturbed_losses, most_bytes, monkeypatch
):
    monkeypatch.setattr("cvfp.records.files.TRIED_BYTES", 0)  # there was room when the work began
    file, out = tmp_path / "sweep.toml", tmp_path / "sweep"
    file.write_text(toml_of(tiny_spec(corpus, arms=("cvfp",))))
    assert cvfp("data", "stats", "--corpus", corpus, "--set", "data.tokenizer=bpe:300").returncode == 0
    told = cvfp("run", file, "--out", out, "--device", "cpu", most_bytes=most_bytes)
    assert told.returncode == 1 and "cannot write" in one_line(told) and "File too large" in one_line(told)
    assert not list(out.rglob("*.tmp"))
    if (out / "plan.json").exists():
        assert sweep_status(out).counts()["failed"] == 0, "the point is not to blame"
    assert cvfp("run", file, "--out", out, "--device", "cpu").returncode == 0
    assert [row["val_ppl"] for row in rows_of(out)] == undisturbed_losses


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="needs a file system that nobody can write")
def test_a_directory_that_cannot_be_written_is_one_line(tmp_path, corpus, cvfp):
    file = tmp_path / "sweep.toml"
    file.write_text(toml_of(tiny_spec(corpus, arms=("unigram",))))
    told = cvfp("run", file, "--out", "/sys/cvfp-sweep", "--device", "cpu")
    assert told.returncode == 1 and "--out /sys/cvfp-sweep: /sys cannot be written" in one_line(told)


def test_data_that_has_vanished_is_one_line_and_a_finished_sweep_needs_none(tmp_path, cvfp):
    corpus = write_corpus(tmp_path)
    plan = tiny_plan(corpus, arms=("unigram",), samples=(4, 8))
    run_sweep(plan, tmp_path / "done", CPU)
    file = tmp_path / "sweep.toml"
    file.write_text(toml_of(tiny_spec(corpus, arms=("unigram",), samples=(4, 8))))
    corpus.unlink()
    assert cvfp("run", file, "--out", tmp_path / "done", "--device", "cpu").returncode == 0
    told = cvfp("run", file, "--out", tmp_path / "new", "--device", "cpu")
    assert told.returncode == 2 and str(corpus) in one_line(told)
    assert not (tmp_path / "new").exists()


def test_what_a_killed_process_left_half_written_is_taken_away_on_the_next_start(tmp_path, corpus):
    plan = tiny_plan(corpus, arms=("unigram",), samples=(4, 8))
    run_sweep(plan, tmp_path, CPU)
    run = tmp_path / "runs" / plan.points[0].config.run_hash
    old, young = tmp_path / ".summary.json.x.tmp", tmp_path / ".summary.json.y.tmp"
    for path in (old, young, run / ".record.json.z.tmp"):
        path.write_text("{")
    os.utime(old, (time.time() - 3600,) * 2)
    (run / "savepoints").mkdir()
    run_sweep(plan, tmp_path, CPU)
    assert leftovers(tmp_path) == [young], "another process may be writing it"
