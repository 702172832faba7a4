"""Ray's workers find what one process finds, also when one is killed; what cannot work is said and ends."""

from __future__ import annotations

import inspect
import os
import signal
import socket
import subprocess
import sys
import time

import pytest
import torch
from lab_helpers import rows_of, tiny_plan, tiny_spec, toml_of, write_corpus

from cvfp.cli.main import main
from cvfp.lab.executors import make_executor
from cvfp.lab.messages import Failed, Note, PointFinished, PointStarted
from cvfp.lab.on_ray import MAX_DEATHS, Share, check_sight, run_on_ray, work_on_sweep
from cvfp.lab.runner import run_sweep
from cvfp.lab.sweep_directory import Ledger, sweep_status
from cvfp.records.errors import CvfpError, InputError

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def cluster():
    """A local cluster with room for two workers."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init(
        "local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False, logging_level="ERROR"
    )
    with pytest.MonkeyPatch.context() as patch:
        # Under the type checks of the tests it is no generator function, which Ray insists on.
        patch.setattr("cvfp.lab.on_ray.work_on_sweep", inspect.unwrap(work_on_sweep))
        yield ray
    ray.shutdown()


def own_arm(folder, name, before):
    """The file of an arm that is the unigram but for what it does before a fit."""
    path = folder / f"{name}.py"
    path.write_text(f"""
import os, signal, time
from pathlib import Path
from cvfp.arms.kneser_ney import UnigramArm

class Own(UnigramArm):
    def fit(self, train, dev, budget, seed):
        {before}
        return super().fit(train, dev, budget, seed)

def make_arm(config, vocab_size):
    return Own(vocab_size)
""")
    return str(path)


class Heard:
    """Whoever is told: notes and failures as text, the runs that were finished, and by whom."""

    def __init__(self):
        self.workers, self.notes, self.finished = set(), [], []

    def __call__(self, message):
        match message:
            case Note(text) | Failed(text):
                self.notes.append(text)
            case PointFinished(_, record):
                self.finished.append(record.run_hash)
                self.workers.add(message.worker)


@pytest.mark.long
def test_two_workers_find_what_one_process_finds(tmp_path, cluster, corpus, whole):
    plan, heard = tiny_plan(corpus), Heard()
    outcome = run_on_ray(plan, tmp_path / "sweep", tell=heard)
    assert outcome.done == len(plan.points) and outcome.failed == ()
    assert rows_of(tmp_path / "sweep") == rows_of(whole)
    assert heard.workers <= {"worker 1", "worker 2"}
    assert sorted(heard.finished) == sorted(point.config.run_hash for point in plan.points)
    assert [path.name for path in (tmp_path / "sweep" / ".locks").glob("ray-*")] == []
    assert cluster.is_initialized(), "a connection that was there stays"


@pytest.mark.long
def test_a_worker_killed_in_a_point_is_replaced_and_changes_nothing(tmp_path, cluster, corpus, capsys):
    mark = tmp_path / "mark"
    wait = f"mark = Path({str(mark)!r})\n        "
    wait += "mark.exists() or (mark.write_text(f'{os.getpid()};'), time.sleep(600))"
    plan = tiny_plan(corpus, arms=("unigram", own_arm(tmp_path, "patient", wait)), samples=(4,))

    class Kills(Heard):
        killed = False

        def __call__(self, message):
            super().__call__(message)
            match message:
                case PointStarted(point) if point.config.arm != "unigram" and not self.killed:
                    while not (mark.exists() and mark.read_text().endswith(";")):
                        time.sleep(0.05)
                    os.kill(int(mark.read_text()[:-1]), signal.SIGKILL)
                    self.killed = True

    heard = Kills()
    assert run_on_ray(plan, tmp_path / "sweep", tell=heard).done == len(plan.points)
    assert capsys.readouterr().out == "", "what Ray says of it is no part of an answer"
    assert [note for note in heard.notes if "died at" in note and "patient" in note]
    run_sweep(plan, tmp_path / "alone", CPU)
    assert rows_of(tmp_path / "sweep") == rows_of(tmp_path / "alone")


@pytest.mark.long
def test_a_point_that_kills_every_worker_ends_the_sweep_with_its_name(tmp_path, cluster, corpus):
    arm = own_arm(tmp_path, "deadly", "time.sleep(1); os.kill(os.getpid(), signal.SIGKILL)")
    with pytest.raises(CvfpError, match=f"{MAX_DEATHS} workers died at .*deadly.*, 4 samples"):
        run_on_ray(tiny_plan(corpus, arms=(arm,), samples=(4,)), tmp_path / "sweep")
    assert (tmp_path / "sweep" / "output.txt").read_text().count("  start  ") == MAX_DEATHS
    assert sweep_status(tmp_path / "sweep").counts()["waiting"] == 1


@pytest.mark.long
def test_what_workers_cannot_do_is_told_once_and_is_the_error(tmp_path, cluster):
    plan, heard = tiny_plan(write_corpus(tmp_path), arms=("unigram",)), Heard()
    (tmp_path / "corpus.jsonl").unlink()
    with pytest.raises(CvfpError, match=r"--out .*worker 1: .*corpus.jsonl.*; what is done is saved"):
        run_on_ray(plan, tmp_path / "sweep", tell=heard)
    assert len([note for note in heard.notes if "corpus.jsonl" in note]) == 1


def test_a_node_has_to_see_the_directory_and_its_locks(tmp_path, monkeypatch):
    monkeypatch.setattr("cvfp.lab.on_ray.SIGHT_SECONDS", 0.0)
    with Ledger(tmp_path).claim("token"):
        check_sight(tmp_path, "token")
        with pytest.raises(CvfpError, match=r"does not see .*elsewhere: .* all nodes mount"):
            check_sight(tmp_path / "elsewhere", "token")
    (tmp_path / ".locks" / "token").touch()
    with pytest.raises(CvfpError, match=r"sees none of the locks in .*flock"):
        check_sight(tmp_path, "token")


@pytest.mark.parametrize(
    "resources, device, share, given, room",
    [
        ({"CPU": 4.0, "GPU": 2.0}, "auto", 1.0, 1.0, 2),
        ({"CPU": 4.0, "GPU": 2.0}, "cuda", 0.5, 0.5, 4),
        ({"CPU": 9.0, "GPU": 2.0}, "auto", 0.4, 0.4, 4),
        ({"CPU": 4.0, "GPU": 2.0}, "cpu", 1.0, 0.0, 4),
        ({"CPU": 4.0}, "auto", 1.0, 0.0, 4),
        ({}, "auto", 1.0, 0.0, 1),
    ],
)
def test_as_many_workers_as_fit(resources, device, share, given, room):
    assert Share(device, share).gpus(resources) == given
    assert Share(device, share).room(resources) == room


def test_a_cluster_without_a_gpu_is_named(tmp_path, cluster, corpus):
    plan = tiny_plan(corpus, arms=("unigram",))
    with pytest.raises(InputError, match="the Ray cluster has no GPU"):
        run_on_ray(plan, tmp_path / "sweep", Share("cuda"))


def test_wrong_use_is_named(tmp_path, corpus, monkeypatch):
    plan = tiny_plan(corpus, arms=("unigram",))
    with pytest.raises(InputError, match="--device mps: on Ray it is auto, cpu, cuda"):
        Share("mps")
    with pytest.raises(InputError, match="--gpus-per-point 2: it must be above 0 and at most 1"):
        make_executor("ray", "auto", 2.0)
    with pytest.raises(InputError, match="--gpus-per-point: it goes with --executor ray"):
        make_executor("local", "cpu", 0.5)
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(InputError, match=r"ray is needed here and not installed: pip install 'cvfp\[ray\]'"):
        run_on_ray(plan, tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_cluster_that_does_not_answer_is_an_error(tmp_path, corpus, monkeypatch):
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    monkeypatch.setattr(ray, "shutdown", lambda: None)
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = f"127.0.0.1:{free.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(CvfpError, match=f"RAY_ADDRESS {address}: no Ray cluster answers"):
        run_on_ray(tiny_plan(corpus, arms=("unigram",)), tmp_path / "sweep")


def test_the_commands_run_on_ray(tmp_path, cluster, corpus):
    plan_file = tmp_path / "sweep.toml"
    plan_file.write_text(toml_of(tiny_spec(corpus)))
    run, tune = tmp_path / "run", tmp_path / "tune"
    on_ray = ["--executor", "ray", "--device", "cpu", "--arms", "unigram"]
    assert main(["run", str(plan_file), "--out", str(run), *on_ray]) == 0
    assert sweep_status(run).counts()["done"] == 3 and (run / "report.html").exists()
    sizes = ["--samples", "4", "8", "--trials", "1"]
    assert main(["tune", str(plan_file), "--out", str(tune), *sizes, *on_ray]) == 0
    assert sweep_status(tune).counts()["done"] == 2 and not list(tune.glob("runs/*/checkpoint"))


@pytest.mark.long
def test_the_command_runs_on_a_cluster_of_its_own_and_ends_when_asked_to(tmp_path, corpus, whole):
    pytest.importorskip("ray")
    plan_file, out = tmp_path / "sweep.toml", tmp_path / "sweep"
    plan_file.write_text(toml_of(tiny_spec(corpus)))
    command = [sys.executable, "-m", "cvfp.cli.main", "run", str(plan_file), "--out", str(out)]
    process = subprocess.Popen(
        [*command, "--executor", "ray", "--device", "cpu"],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"RAY_ADDRESS": "local"},
    )
    deadline = time.monotonic() + 120
    while not list(out.glob("runs/*/record.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=300)
    assert process.returncode == 143, told
    assert "What is done is saved" in told and "Traceback" not in told
    assert sweep_status(out).counts()["running"] == 0
    run_sweep(tiny_plan(corpus), out, CPU)
    assert rows_of(out) == rows_of(whole)
