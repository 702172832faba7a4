"""Processes that torch's launcher starts train each point together, and find what one process finds."""

from __future__ import annotations

import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from lab_helpers import rows_of, tiny_spec, toml_of
from process_helpers import Command
from test_resume import Cut, Steps

from cvfp.cli.main import main
from cvfp.lab.options import RunOptions
from cvfp.lab.plan import make_plan
from cvfp.lab.runner import run_sweep
from cvfp.records.errors import InputError
from cvfp.training import group
from cvfp.training.contexts import SlicedContexts

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")
AT_EVERY_CHANCE = RunOptions(save_every=0.0)
ARMS = ("cvfp", "cvfp-joint", "random-context", "lstm", "transformer", "unigram")
SETTINGS = {
    "phase1.slice_length": 100,
    "phase1.context_noise": 0.1,
    "joint.context_dim": 12,
    "joint.rank": 4,
    "joint.epochs": 2,
    "joint.window": 4,
    "joint.chunks": 7,
    "joint.dropout": 0.0,
    "joint.word_dropout": 0.0,
    "lstm.epochs": 2,
    "lstm.window": 8,
    "lstm.sequences": 5,
    "lstm.dropout": 0.0,
    "lstm.word_dropout": 0.0,
    "transformer.epochs": 2,
    "transformer.window": 8,
    "transformer.sequences": 5,
    "transformer.head_dim": 4,
    "transformer.dropout": 0.0,
    "transformer.word_dropout": 0.0,
}
EXACT = ("steps", "tokens_seen", "stop_reason", "best_epoch", "phase1_iter", "train_tokens", "total_params")
CLOSE = ("train_ppl", "dev_ppl", "val_ppl", "val_er", "train_er", "val_acc")


def launch(processes: int, spec_file: Path, out: Path, *options: object) -> subprocess.Popen:
    """`cvfp run` in so many processes of torch's launcher."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", processes]
    command = [*launcher, "-m", "cvfp", "run", spec_file, "--out", out, "--device", "cpu", *options]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [str(part) for part in command], stderr=subprocess.PIPE, text=True, env=environment
    )


class Group:
    """`cvfp run` in so many processes as a launcher starts them, which none but themselves ends."""

    def __init__(self, processes: int, spec_file: Path, out: Path, *options: object, before=None) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = free.getsockname()[1]
        told = {"WORLD_SIZE": processes, "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        ranks = [told | {"RANK": rank, "LOCAL_RANK": rank} for rank in range(processes)]
        arguments = ["run", spec_file, "--out", out, "--device", "cpu", *options]
        self.processes = [
            Command(arguments, out.with_suffix(f".{rank['RANK']}"), rank, before) for rank in ranks
        ]

    def send(self, number: int) -> None:
        for process in self.processes:
            process.send(number)

    def ended(self) -> tuple[list[int], str]:
        """Exit codes, and all that was told."""
        codes, told = zip(*[process.ended() for process in self.processes], strict=True)
        return list(codes), "".join(told)


def spec_file(tmp_path: Path, corpus: Path, arms=ARMS, precision: str = "float32", **settings):
    """A sweep of one size, and the file that says it."""
    precisions = {
        f"{part}.precision": precision for part in ("phase1", "phase2", "joint", "lstm", "transformer")
    }
    spec = tiny_spec(corpus, arms=arms, samples=(8,)).with_settings(SETTINGS | precisions | settings)
    path = tmp_path / "sweep.toml"
    path.write_text(toml_of(spec))
    return spec, path


def assert_same_results(found: Path, expected: Path, tolerance: float) -> None:
    for one, other in zip(rows_of(found), rows_of(expected), strict=True):
        assert {key: one[key] for key in EXACT} == {key: other[key] for key in EXACT}, one["arm"]
        for key in CLOSE:
            near = other[key] if other[key] is None else pytest.approx(other[key], rel=tolerance)
            assert one[key] == near, (one["arm"], key)


@pytest.mark.long
def test_processes_of_torchs_launcher_find_what_one_finds(tmp_path, corpus):
    spec, file = spec_file(tmp_path, corpus, ("cvfp", "unigram"))
    run_sweep(make_plan(spec), tmp_path / "one", CPU)
    process = launch(2, file, tmp_path / "group")
    _, told = process.communicate(timeout=600)
    assert process.returncode == 0, told
    assert_same_results(tmp_path / "group", tmp_path / "one", 1e-4)


@pytest.mark.parametrize(
    ("processes", "settings"),
    [
        (2, {}),
        pytest.param(
            3,
            {"phase1.slices_per_step": 2, "phase2.context_source": "one_step", "phase2.batch_size": 50},
            marks=pytest.mark.long,
        ),
    ],
)
def test_processes_find_what_one_finds(tmp_path, corpus, processes, settings):
    spec, file = spec_file(tmp_path, corpus, **settings)
    run_sweep(make_plan(spec), tmp_path / "one", CPU)
    codes, told = Group(processes, file, tmp_path / "group").ended()
    assert codes == [0] * processes, told
    assert_same_results(tmp_path / "group", tmp_path / "one", 1e-4)
    environments = json.loads((tmp_path / "group" / "metadata.json").read_text())["environments"]
    assert environments[0]["device"].startswith(f"{processes} x cpu")


def started(path: Path, part: str, seconds: float = 120) -> Path:
    """Wait for a savepoint of that part of a run; the run's directory."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        for found in path.glob(f"runs/*/savepoints/{part}.safetensors"):
            return found.parent.parent
        time.sleep(0.005)
    raise AssertionError(f"no savepoint of {part}")


def logged(run: Path) -> list[str]:
    return (run / "metrics.jsonl").read_text().splitlines()


@pytest.mark.long
@pytest.mark.parametrize("part", ["phase1", "phase2"])
def test_what_a_group_has_begun_one_process_ends(tmp_path, corpus, part):
    long = {"phase1.max_iterations": 60, "phase2.epochs": 40, "phase2.patience": 40}
    spec, file = spec_file(tmp_path, corpus, ("cvfp",), **long)
    run_sweep(make_plan(spec), tmp_path / "one", CPU)
    group = Group(2, file, tmp_path / "group", "--save-every", 0)
    run = started(tmp_path / "group", part)
    group.send(signal.SIGTERM)
    codes, told = group.ended()
    assert 0 not in codes and "What is done is saved" in told
    before = logged(run)
    assert not (run / "record.json").exists()
    run_sweep(make_plan(spec), tmp_path / "group", CPU, options=AT_EVERY_CHANCE)
    same = [one == other for one, other in zip(before, logged(run), strict=False)]
    assert any(same) and all(same[:-1]), "seconds too: it went on from the savepoint"
    assert_same_results(tmp_path / "group", tmp_path / "one", 1e-3)


@pytest.mark.parametrize("arm", [pytest.param("cvfp", marks=pytest.mark.long), "lstm"])
def test_what_one_process_has_begun_a_group_ends(tmp_path, corpus, monkeypatch, arm):
    monkeypatch.setattr("cvfp.training.savepoint.MOST_OVERHEAD", 1e9)
    spec, file = spec_file(tmp_path, corpus, (arm,), **{"lstm.eval_every": 3})
    out, steps = tmp_path / "group", Steps(monkeypatch)
    run_sweep(make_plan(spec), tmp_path / "one", CPU)
    steps.stop_at = steps.taken // 2
    steps.taken = 0
    with pytest.raises(Cut):
        run_sweep(make_plan(spec), out, CPU, options=AT_EVERY_CHANCE)
    run = next((out / "runs").iterdir())
    before = logged(run)
    codes, told = Group(3, file, out).ended()
    assert codes == [0] * 3 and "savepoint" not in told, told
    assert before and logged(run)[: len(before)] == before
    assert_same_results(out, tmp_path / "one", 1e-3)


def test_a_process_that_dies_ends_the_group_and_is_no_failure_of_the_point(tmp_path, corpus):
    _, file = spec_file(tmp_path, corpus, ("cvfp",), **{"phase2.epochs": 400, "phase2.patience": 400})
    group = Group(2, file, tmp_path / "group", "--save-every", 0)
    run = started(tmp_path / "group", "phase2")
    group.processes[1].send(signal.SIGKILL)
    codes, told = group.ended()
    assert codes[0] > 0 and codes[1] == -signal.SIGKILL
    assert "has lost the others" in told, told
    assert not (run / "record.json").exists() and list(run.glob("savepoints/phase2*"))


def fails_alone() -> None:
    """The process whose rank is in the environment has no room at the fifth step."""
    from cvfp.records.errors import CvfpError
    from cvfp.training import phase2

    real, loaded = phase2.Positions.load, []

    def load(batch, positions):
        loaded.append(positions)
        if len(loaded) == 5 and os.environ["RANK"] == os.environ["FAILS"]:
            raise CvfpError("no room for contexts")
        real(batch, positions)

    phase2.Positions.load = load


@pytest.mark.parametrize("rank", [0, 1])
def test_what_fails_in_one_process_alone_ends_the_group(tmp_path, corpus, monkeypatch, rank):
    _, file = spec_file(tmp_path, corpus, ("cvfp", "unigram"))
    monkeypatch.setenv("FAILS", str(rank))
    codes, told = Group(2, file, tmp_path / "group", before=fails_alone).ended()
    assert codes == [1, 1]
    assert f"process {rank + 1} of 2 cannot go on: no room for contexts" in told
    assert [path.parent.name for path in (tmp_path / "group").glob("runs/*/record.json")] == []


def test_training_that_diverges_is_the_failure_of_the_point_in_a_group_too(tmp_path, corpus):
    _, file = spec_file(tmp_path, corpus, ("cvfp", "unigram"), **{"phase2.lr": 1e30})
    codes, told = Group(2, file, tmp_path / "group").ended()
    assert codes[0] == 1 and "diverged" in told
    assert [row["status"] for row in rows_of(tmp_path / "group")] == ["failed", "done"]


def launched_as(monkeypatch, rank: int, processes: int | str) -> None:
    told = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": processes, "MASTER_ADDR": "::1", "MASTER_PORT": 1}
    for name, value in told.items():
        monkeypatch.setenv(name, str(value))


def test_a_launcher_says_numbers(monkeypatch):
    launched_as(monkeypatch, 0, "two")
    with pytest.raises(InputError, match="WORLD_SIZE=two in the environment"):
        group.launched()
    monkeypatch.delenv("MASTER_ADDR")
    assert not group.launched(), "what a launcher did not set is left alone"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["train", "--out", "x"], "cvfp train: a launcher started several processes"),
        (["tune", "v3", "--out", "x"], "cvfp tune: a launcher started several processes"),
        (["run", "v3", "--out", "x", "--executor", "ray"], "--executor ray: a launcher started"),
        (["run", "v3", "--out", "x", "--device", "cuda:0"], "use auto, cuda or cpu"),
        (["run", "v3", "--out", "x", "--device", "cuda"], "process 2 of this machine has no GPU"),
        (["run", "v3", "--out", "x", "--save-every", "-1"], "--save-every -1: it must be at least 0"),
    ],
)
def test_what_a_group_cannot_do_is_said(tmp_path, monkeypatch, capsys, arguments, words):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    launched_as(monkeypatch, 1, 2)
    assert main(arguments) == 2
    assert words in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [0, 1, 2, 7, 8])
@pytest.mark.parametrize("processes", [1, 2, 3, 5])
def test_shares_are_all_there_is_and_nearly_equal(monkeypatch, count, processes):
    monkeypatch.setattr(group, "world_size", lambda: processes)
    shares = [list(range(count))[group.share(count, process)] for process in range(processes)]
    assert list(itertools.chain(*shares)) == list(range(count))
    lengths = [len(share) for share in shares]
    assert max(lengths) - min(lengths) <= 1 and max(lengths) == group.most(count)


def test_a_process_keeps_the_contexts_of_its_slices_alone(monkeypatch):
    monkeypatch.setattr(group, "world_size", lambda: 2)
    monkeypatch.setattr(group, "rank", lambda: 1)
    contexts = SlicedContexts(25, 4, 4, 3, torch.float32, CPU)
    assert [piece.bounds for piece in contexts.pieces] == [[(8, 12), (12, 16)], [(20, 25)]]
    assert contexts.store.shape == (13, 3)
    rows = torch.arange(75.0).view(25, 3)
    contexts.write(0, rows)
    assert torch.equal(contexts.store.read(), rows[[*range(8, 16), *range(20, 25)]])
