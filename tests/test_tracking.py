"""Claims: trackers are told what the records say, once each, however a sweep is run; none harms it."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
import torch
from lab_helpers import rows_of, tiny_plan
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from test_cli import assert_one_line, call

import cvfp
from cvfp.lab.messages import (
    Note,
    PointFinished,
    PointStarted,
    Progress,
    tell_all,
    tell_nobody,
)
from cvfp.lab.options import RunOptions
from cvfp.lab.processes import Hearing
from cvfp.lab.runner import run_sweep
from cvfp.lab.tracking import KINDS, SETTINGS, TrackedPoint, TrackedRun, Tracker, Trackio, plain
from cvfp.records.errors import InputError
from cvfp.records.results import RunRecord
from cvfp.records.sweep import SweepFiles, load_sweep
from cvfp.training.events import Event

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")


def run(plan, out, tell=tell_nobody, names=("tensorboard",), save_every=60.0):
    """A sweep with trackers; `tell` is told after them."""
    with cvfp.tracked(names, out) as tracked:
        return run_sweep(plan, out, CPU, tell_all(tracked, tell), RunOptions(save_every=save_every))


def logged(out: Path, run_hash: str) -> list[dict]:
    return [json.loads(line) for line in SweepFiles(out).run_metrics(run_hash).read_text().splitlines()]


def scalars_of(lines: list[dict]) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by tag, as metrics.jsonl has them."""
    found: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        phase, step = line.pop("phase").replace(" ", "_"), line.pop("step")
        del line["seconds"]
        for name, value in line.items():
            found.setdefault(f"{phase}/{name}", []).append((step, pytest.approx(value, rel=1e-6)))
    return found


def shown(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """(step, value) by tag, as TensorBoard reads them."""
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.step, e.value) for e in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def folder_of(out: Path, point) -> Path:
    return out / "tracking" / "tensorboard" / TrackedPoint(point, out.name, "").name


def assert_shows_the_records(out: Path, plan) -> None:
    sweep = load_sweep(out)
    for point, row in zip(plan.points, sweep.points, strict=True):
        seen, expected = shown(folder_of(out, point)), scalars_of(logged(out, point.config.run_hash))
        assert expected and {tag: seen.pop(tag) for tag in expected} == expected
        record = {k: v for k, v in row.model_dump().items() if isinstance(v, int | float)}
        result = {name: value for name, value in record.items() if name not in SETTINGS}
        assert set(result) == set(seen) and {"val_ppl", "dev_ppl", "train_er"} <= set(seen)
        for name, value in result.items():
            assert seen[name] == [(row.train_tokens, pytest.approx(value, rel=1e-6))]


def test_tensorboard_shows_the_metrics_and_the_record_of_every_point(tmp_path, corpus, whole):
    plan = tiny_plan(corpus, arms=("cvfp",), samples=(4, 8))
    run(plan, tmp_path / "sweep")
    assert_shows_the_records(tmp_path / "sweep", plan)
    untold = [row for row in rows_of(whole) if row["arm"] == "cvfp" and row["num_samples"] < 16]
    assert rows_of(tmp_path / "sweep") == untold
    events = EventAccumulator(str(folder_of(tmp_path / "sweep", plan.points[0]))).Reload()
    content = events.PluginTagToContent("hparams")["_hparams_/session_start_info"]
    assert b"model.context_dim" in content and b"run_hash" in content


class Stops:
    """Interrupts at the n-th event that has values."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __call__(self, message) -> None:
        match message:
            case Progress(event) if event.values:
                self.left -= 1
                if self.left == 0:
                    raise KeyboardInterrupt


@pytest.mark.parametrize("save_every", [0.0, 60.0], ids=["goes on", "starts again"])
@pytest.mark.parametrize("stop", [3, 7])
def test_tensorboard_shows_an_interrupted_point_once(tmp_path, corpus, monkeypatch, stop, save_every):
    monkeypatch.setattr("cvfp.training.savepoint.MOST_OVERHEAD", 1e9)
    plan, out = tiny_plan(corpus, arms=("cvfp",), samples=(8,)), tmp_path / "sweep"
    with pytest.raises(KeyboardInterrupt):
        run(plan, out, Stops(stop), save_every=save_every)
    seen = shown(folder_of(out, plan.points[0]))
    assert sum(tag == "phase_1/convergence_loss" for tag in seen) == 1 and "val_ppl" not in seen
    run(plan, out, save_every=save_every)
    assert_shows_the_records(out, plan)


def test_what_several_processes_tell_is_kept_apart(tmp_path, corpus, whole):
    plan = tiny_plan(corpus)
    records = {p.config.run_hash: RunRecord.model_validate_json(record_text(whole, p)) for p in plan.points}
    first, second = plan.points[0], plan.points[1]
    with cvfp.tracked(["tensorboard"], tmp_path) as tell:
        hearing = Hearing(tell)
        for name, point in (("a", first), ("b", second)):
            hearing.hear(name, PointStarted(point))
        for step in range(1, 4):
            for name, value in (("a", 1.0), ("b", 2.0)):
                hearing.hear(name, Progress(Event("phase 1", step, 9, {"x": value * step})))
        for name, point in (("a", first), ("b", second)):
            hearing.hear(name, PointFinished(point, records[point.config.run_hash]))
    for factor, point in ((1.0, first), (2.0, second)):
        seen = shown(folder_of(tmp_path, point))
        assert seen["phase_1/x"] == [(1, factor), (2, 2 * factor), (3, 3 * factor)]
        assert seen["val_ppl"][0][1] == pytest.approx(records[point.config.run_hash].point.val_ppl)


def record_text(sweep: Path, point) -> str:
    record = json.loads(SweepFiles(sweep).run_record(point.config.run_hash).read_text())
    return json.dumps({key: value for key, value in record.items() if key != "digest"})


ALL = """
import sys
from pathlib import Path
sys.path.insert(0, {tests!r})
from lab_helpers import tiny_plan
from test_tracking import Stops, run

plan = tiny_plan(Path({corpus!r}), arms=("cvfp",), samples=(8,))
names = ("wandb", "trackio")
try:
    run(plan, Path("sweep"), Stops(6), names)
except KeyboardInterrupt:
    run(plan, Path("sweep"), names=names)
"""


@pytest.fixture(scope="module")
def tracked_offline(tmp_path_factory, corpus) -> subprocess.CompletedProcess:
    """A point that was interrupted and run again, told to wandb and trackio in a process of its own."""
    folder = tmp_path_factory.mktemp("offline")
    script = ALL.format(tests=str(Path(__file__).parent), corpus=str(corpus))
    changes = {
        "WANDB_MODE": "offline",
        "TRACKIO_DIR": "trackio",
        "HOME": str(folder),
    }
    environment = {**os.environ, **changes, "https_proxy": "http://127.0.0.1:9"}
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=600)
    done.folder = folder
    return done


@pytest.mark.long
def test_wandb_keeps_a_run_below_the_sweep_directory_without_a_network(tracked_offline):
    assert (tracked_offline.returncode, tracked_offline.stdout, tracked_offline.stderr) == (0, "", "")
    out = tracked_offline.folder / "sweep"
    (row,) = load_sweep(out).points
    files = sorted((out / "tracking" / "wandb").glob("offline-run-*/*.wandb"))
    run_hash = next((out / "runs").iterdir()).name
    (name,) = {path.name for path in files}  # of both times that the point was begun
    assert name.startswith(f"run-{run_hash}-") and len(files) == 2
    kept = b"".join(path.read_bytes() for path in files)
    for text in ("phase_1/convergence_loss", "phase_2/dev_ppl", "val_ppl", repr(row.val_ppl), "done"):
        assert text.encode() in kept, text


@pytest.mark.long
def test_trackio_keeps_every_line_once_though_the_point_was_interrupted(tracked_offline):
    out = tracked_offline.folder / "sweep"
    (row,) = load_sweep(out).points
    with sqlite3.connect(tracked_offline.folder / "trackio" / "sweep.db") as database:
        steps = database.execute("select step, metrics from metrics order by step").fetchall()
        (config,) = database.execute("select config from configs").fetchone()
    lines = logged(out, next((out / "runs").iterdir()).name)
    assert [step for step, _ in steps] == list(range(len(lines) + 1))
    told = [json.loads(metrics) for _, metrics in steps]
    for line, metrics in zip(lines, told, strict=False):
        phase = line["phase"].replace(" ", "_")
        expected = {f"{phase}/{k}": v for k, v in line.items() if k not in ("phase", "seconds")}
        assert metrics == pytest.approx(expected)
    assert told[-1]["val_ppl"] == row.val_ppl and "seed" not in told[-1]
    assert json.loads(config)["model.context_dim"] == 8


class Broken(Tracker):
    """A library that fails when a point ends, or when one begins."""

    name = "broken"
    at = "finish"

    def __init__(self, folder: Path) -> None:
        pass

    def begin(self, point, earlier) -> TrackedRun:
        if self.at == "begin":
            raise ConnectionError("nobody there")
        return BrokenRun()


class BrokenRun(TrackedRun):
    def log(self, number, line) -> None: ...

    def finish(self, record) -> None:
        raise RuntimeError("the server is full")

    def leave(self) -> None: ...


@pytest.mark.parametrize(
    ("at", "what"),
    [("begin", "ConnectionError: nobody there"), ("finish", "RuntimeError: the server is full")],
)
def test_a_tracker_that_fails_costs_one_note_and_no_result(tmp_path, corpus, monkeypatch, at, what):
    monkeypatch.setitem(KINDS, "broken", Broken)
    monkeypatch.setattr(Broken, "at", at)
    plan, out, notes = tiny_plan(corpus, arms=("unigram",), samples=(4, 8)), tmp_path / "sweep", []
    with cvfp.tracked(["broken", "tensorboard"], out, notes.append) as tell:
        assert run_sweep(plan, out, CPU, tell).done == 2
    told = [note.text for note in notes if isinstance(note, Note) and "broken" in note.text]
    assert len(told) == 1 and what in told[0] and str(out) in told[0]
    assert all(shown(folder_of(out, point))["val_ppl"] for point in plan.points)


@pytest.mark.parametrize("name", ["tensorboard", "wandb", "trackio"])
def test_a_missing_package_is_named_before_anything_runs(capsys, tmp_path, corpus, monkeypatch, name):
    monkeypatch.setitem(sys.modules, name, None)
    out = tmp_path / "sweep"
    arguments = ["run", "v3", "--corpus", corpus, "--samples", 4, 8, "--arms", "unigram", "--out", out]
    code, _, err = call(capsys, *arguments, "--device", "cpu", "--track", name)
    assert code == 2 and not out.exists()
    assert_one_line(err, name, f"cvfp[{name}]")


def test_wandb_without_a_key_is_refused_before_anything_runs(tmp_path, monkeypatch):
    session = SimpleNamespace(settings=SimpleNamespace(mode="online"))
    stand_in = ModuleType("wandb")
    stand_in.setup, stand_in.login = lambda: session, lambda prompt: prompt
    monkeypatch.setitem(sys.modules, "wandb", stand_in)
    with pytest.raises(InputError, match="WANDB_MODE=offline"), cvfp.tracked(["wandb"], tmp_path):
        pass
    with (
        pytest.raises(InputError, match="'mlflow': unknown; there are tensorboard"),
        cvfp.tracked(["mlflow"], "x"),
    ):
        pass


def test_a_mode_that_wandb_does_not_know_is_one_line(tmp_path, monkeypatch):
    pytest.importorskip("wandb").teardown()
    monkeypatch.setenv("WANDB_MODE", "bogus")
    with pytest.raises(InputError, match=r"'offline'.*got 'bogus'$"), cvfp.tracked(["wandb"], tmp_path):
        pass


def test_names_are_file_names(corpus):
    plan = tiny_plan(corpus, arms=("cvfp", "unigram"), variants=({}, {"phase2.lr": 1e-4}))
    points = [TrackedPoint(point, "a sweep: one", "2026-11-25") for point in plan.points]
    names = [point.name for point in points]
    assert len(set(names)) == len(plan.points) and all(name == plain(name) for name in names)
    again = TrackedPoint(plan.points[0], "a sweep: one", "2026-11-26")
    assert again.name == names[0] and again.id != points[0].id
    assert issubclass(Trackio, Tracker) and set(KINDS) == {"tensorboard", "wandb", "trackio"}
