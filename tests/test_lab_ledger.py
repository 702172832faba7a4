"""Several processes on one sweep: each point is run once, by one of them, and a dead one's is taken up."""

from __future__ import annotations

import json
import multiprocessing
import signal
import subprocess
import sys
import time
from collections import Counter

import pytest
import torch
from lab_helpers import rows_of, tiny_plan, tiny_spec, toml_of
from process_helpers import Command

from cvfp.lab.messages import Note, PointFinished, SweepFinished, SweepStarted
from cvfp.lab.on_devices import run_on_devices
from cvfp.lab.plan import make_plan
from cvfp.lab.runner import run_sweep
from cvfp.lab.sweep_directory import Ledger, SweepDirectory, merged, sweep_status
from cvfp.records.errors import CvfpError
from cvfp.records.sweep import load_sweep

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")


def starts(path):
    """How often each run was begun, by the log."""
    lines = (path / "output.txt").read_text().splitlines()
    return Counter(line.split()[2] for line in lines if "  start  " in line)


class Heard:
    """Whoever is told: what of the sweep as a whole, the notes, the runs that were finished, and by whom."""

    def __init__(self):
        self.sweep, self.notes, self.finished, self.workers = [], [], [], set()

    def __call__(self, message):
        match message:
            case SweepStarted() | SweepFinished():
                self.sweep.append(message)
            case Note(text):
                self.notes.append(text)
            case PointFinished(_, record):
                self.finished.append(record.run_hash)
                self.workers.add(message.worker)


def test_two_processes_share_the_points_and_find_what_one_finds(tmp_path, corpus, whole):
    plan, heard = tiny_plan(corpus), Heard()
    out = tmp_path / "sweep"
    outcome = run_on_devices(plan, out, (CPU, CPU), heard)
    assert outcome.done == len(plan.points) and outcome.failed == ()
    assert rows_of(tmp_path / "sweep") == rows_of(whole)
    started, finished = heard.sweep
    assert started == SweepStarted(len(plan.points), plan.points)
    summary = json.loads((out / "summary.json").read_text())
    assert [line.model_dump(mode="json") for line in finished.lines] == summary
    log = (out / "output.txt").read_text()
    assert log.count("15 runs, 0 done before, 15 to run") == log.count("  line   kneser-ney") == 1
    assert heard.workers <= {"cpu (1)", "cpu (2)"}
    assert sorted(heard.finished) == sorted(point.config.run_hash for point in plan.points)
    assert set(starts(tmp_path / "sweep").values()) == {1}
    assert len(heard.notes) == len(set(heard.notes)), "what both processes noted is told once"
    metadata = load_sweep(tmp_path / "sweep").metadata
    assert metadata.wall_seconds == pytest.approx(sum(end - start for start, end in metadata.busy), abs=0.01)
    assert 0 < metadata.wall_seconds < 600


def test_a_claimed_point_is_left_to_its_process_and_told_as_running(tmp_path, corpus):
    plan = tiny_plan(corpus, arms=("unigram",), samples=(4, 8))
    directory = SweepDirectory(tmp_path, plan)
    directory.create()
    first, second = (point.config.run_hash for point in plan.points)
    with Ledger(tmp_path).claim(first) as ours, Ledger(tmp_path).claim(first) as theirs:
        assert ours and not theirs
        assert sweep_status(tmp_path).counts() == {
            "done": 0,
            "running": 1,
            "failed": 0,
            "diverged": 0,
            "waiting": 1,
        }
        with Ledger(tmp_path).claim(second) as other:
            assert other
    with Ledger(tmp_path).claim(first) as ours:
        assert ours
    assert sweep_status(tmp_path).counts()["running"] == 0


def test_the_shared_files_are_written_by_one_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr("cvfp.lab.sweep_directory.SHARED_SECONDS", 0.1)
    with (
        Ledger(tmp_path).writing(),
        pytest.raises(CvfpError, match="another process"),
        Ledger(tmp_path).writing(),
    ):
        pass
    with Ledger(tmp_path).writing():
        pass


@pytest.mark.long
def test_the_point_of_a_killed_process_is_taken_up_by_one_that_waits(tmp_path, corpus, whole):
    plan, out = tiny_plan(corpus), tmp_path / "sweep"
    held = plan.points[0].config.run_hash
    SweepDirectory(out, plan).create()
    code = "import sys, time; from cvfp.lab.sweep_directory import Ledger\n"
    code += f"with Ledger({str(out)!r}).claim({held!r}): print('claimed', flush=True); time.sleep(600)"
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert holder.stdout.readline() == "claimed\n"

    left = len(plan.points)

    def kill(message):
        nonlocal left
        left -= isinstance(message, PointFinished)
        if left == 1 and holder.poll() is None:
            assert not (out / "runs" / held / "record.json").exists()
            holder.kill()

    run_sweep(plan, out, CPU, kill)
    holder.communicate()
    assert rows_of(out) == rows_of(whole)
    assert starts(out)[held] == 1


@pytest.mark.long
def test_a_worker_that_is_killed_leaves_its_points_to_the_other(tmp_path, corpus, whole):
    plan, out = tiny_plan(corpus), tmp_path / "sweep"

    class Kills(Heard):
        def __call__(self, message):
            if isinstance(message, PointFinished) and not self.finished:
                multiprocessing.active_children()[0].kill()
            super().__call__(message)

    outcome = run_on_devices(plan, out, (CPU, CPU), Kills())
    assert outcome.done == len(plan.points)
    assert rows_of(out) == rows_of(whole)
    assert max(starts(out).values()) <= 2


@pytest.fixture(scope="module")
def slow(tmp_path_factory, corpus):
    """A sweep that cannot be done before a signal comes, and what it finds undisturbed."""
    path = tmp_path_factory.mktemp("slow")
    spec = tiny_spec(corpus, arms=("unigram", "cvfp")).with_settings(
        {"phase2.epochs": 80, "phase2.patience": 80}
    )
    run_sweep(make_plan(spec), path, CPU)
    return spec, path


@pytest.mark.long
@pytest.mark.parametrize(
    ("number", "code", "devices"), [(signal.SIGINT, 130, "cpu,cpu"), (signal.SIGTERM, 143, "cpu")]
)
def test_a_sweep_ends_when_asked_to_and_goes_on_from_there(tmp_path, slow, number, code, devices):
    spec, whole = slow
    plan_file, out = tmp_path / "sweep.toml", tmp_path / "sweep"
    plan_file.write_text(toml_of(spec))
    command = Command(["run", plan_file, "--out", out, "--device", devices], tmp_path / "told")
    deadline = time.monotonic() + 120
    while not list(out.glob("runs/*/record.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    command.send(number)
    found, told = command.ended()
    assert found == code, told
    assert "What is done is saved" in told and "Traceback" not in told
    state = sweep_status(out)
    assert state.counts()["running"] == 0 and state.counts()["done"] < len(state.points)
    run_sweep(make_plan(spec), out, CPU)
    assert rows_of(out) == rows_of(whole)


@pytest.mark.long
def test_processes_whose_parent_is_killed_end_and_leave_their_points(tmp_path, slow):
    spec, whole = slow
    plan_file, out = tmp_path / "sweep.toml", tmp_path / "sweep"
    plan_file.write_text(toml_of(spec))
    command = Command(["run", plan_file, "--out", out, "--device", "cpu,cpu"], tmp_path / "told")
    deadline = time.monotonic() + 120
    while not list(out.glob("runs/*/record.json")) and time.monotonic() < deadline:
        time.sleep(0.02)
    command.send(signal.SIGKILL)
    assert command.ended()[0] == -signal.SIGKILL
    while sweep_status(out).counts()["running"] and time.monotonic() < deadline:
        time.sleep(0.1)
    counts = sweep_status(out).counts()
    assert counts["running"] == 0 and counts["waiting"] > 0
    run_sweep(make_plan(spec), out, CPU)
    assert rows_of(out) == rows_of(whole)


def test_time_is_counted_once_however_many_processes_work():
    assert merged([[0.0, 10.0], [5.0, 12.0], [100.0, 110.0]], gap=1.0) == [[0, 12], [100, 110]]
    assert merged([[30.0, 40.0], [0.0, 10.0], [10.5, 20.0]], gap=1.0) == [[0, 20], [30, 40]]
    assert merged([], gap=1.0) == []
