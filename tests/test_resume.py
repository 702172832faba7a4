"""An interrupted run goes on from its savepoint and ends, on the CPU, with the same bits."""

from __future__ import annotations

import json
import warnings

import numpy as np
import pytest
import torch
from lab_helpers import tiny_spec
from marks import one_quick
from safetensors.torch import load_file
from torture import timeless

from cvfp.lab.options import RunOptions
from cvfp.lab.plan import make_plan
from cvfp.lab.runner import run_sweep
from cvfp.records.errors import WriteError
from cvfp.training.context_store import ContextStore
from cvfp.training.savepoint import Savepoints, State
from cvfp.training.stepper import Stepper

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")
AT_EVERY_CHANCE = RunOptions(save_every=0.0)
ARMS = ("cvfp", "cvfp-joint", "lstm", "transformer")
SETTINGS = {
    "phase1.context_noise": 0.1,
    "phase2.dropout": 0.2,
    "joint.dropout": 0.2,
    "joint.word_dropout": 0.1,
    "joint.context_dim": 12,
    "joint.rank": 4,
    "joint.epochs": 3,
    "joint.window": 4,
    "joint.chunks": 6,
    "joint.averaging": "two-tailed",
    "joint.consistency": 0.5,
    "lstm.locked_dropout": True,
    "lstm.word_dropout": 0.1,
    "lstm.averaging": 0.9,
    "lstm.consistency": 0.5,
    "lstm.dropout": 0.2,
    "lstm.epochs": 3,
    "lstm.window": 8,
    "lstm.sequences": 4,
    "lstm.eval_every": 5,
    "transformer.dropout": 0.2,
    "transformer.epochs": 3,
    "transformer.window": 8,
    "transformer.sequences": 4,
    "transformer.head_dim": 4,
    "transformer.eval_every": 5,
}


@pytest.fixture(autouse=True)
def saves_at_every_chance(monkeypatch):
    monkeypatch.setattr("cvfp.training.savepoint.MOST_OVERHEAD", 1e9)


def plan_of(corpus, arm, **settings):
    spec = tiny_spec(corpus, arms=(arm,), samples=(8,))
    return make_plan(spec.with_settings(SETTINGS | settings))


class Cut(Exception):
    """A machine that stops."""


class Steps:
    """Counts every step that is taken; stops the machine before a given one."""

    def __init__(self, monkeypatch):
        self.taken, self.stop_at = 0, None
        take = Stepper._apply

        def counted(stepper):
            if self.taken == self.stop_at:
                raise Cut
            self.taken += 1
            return take(stepper)

        monkeypatch.setattr(Stepper, "_apply", counted)


def everything(path):
    """All that a run leaves, without the time it took."""
    run = next((path / "runs").iterdir())
    record = json.loads((run / "record.json").read_text())
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    with np.load(run / "test_losses.npz") as losses:
        held = {name: losses[name].tobytes() for name in losses.files}
    weights = {}
    if (run / "checkpoint" / "model.safetensors").exists():
        tensors = load_file(run / "checkpoint" / "model.safetensors")
        weights = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
    return timeless(record), timeless(lines), held, weights


@pytest.mark.parametrize("stops", [1, pytest.param(5, marks=pytest.mark.long)])
@pytest.mark.parametrize(
    ("arm", "source"),
    [*((arm, "fixed_point") for arm in ARMS), ("cvfp", "one_step")],  # contexts of phase 1 are CVFP's
)
def test_a_run_that_is_stopped_anywhere_ends_with_the_same_bits(
    tmp_path, corpus, monkeypatch, arm, source, stops
):
    plan = plan_of(corpus, arm, **{"phase2.context_source": source})
    steps = Steps(monkeypatch)
    run_sweep(plan, tmp_path / "whole", CPU)
    whole, total = everything(tmp_path / "whole"), steps.taken
    assert not list((tmp_path / "whole").rglob("savepoints"))
    for number, stop in enumerate(np.random.default_rng(stops).integers(1, total, size=stops).tolist()):
        steps.taken = 0
        out, steps.stop_at = tmp_path / str(number), stop
        with pytest.raises(Cut):
            run_sweep(plan, out, CPU, options=AT_EVERY_CHANCE)
        steps.stop_at = None
        run_sweep(plan, out, CPU, options=AT_EVERY_CHANCE)
        assert everything(out) == whole, f"stopped before step {stop} of {total}"
        assert steps.taken == total, "no step is taken twice"
        assert not list(out.rglob("savepoints"))


@pytest.mark.long
def test_teachers_that_have_learned_do_not_learn_again(tmp_path, corpus, monkeypatch):
    plan = plan_of(corpus, "cvfp-joint", **{"joint.teachers": 2})
    steps = Steps(monkeypatch)
    run_sweep(plan, tmp_path / "whole", CPU)
    whole, total = everything(tmp_path / "whole"), steps.taken
    for stop in (total // 6, total - 2):  # while a teacher learns, or the student
        steps.taken = 0
        out, steps.stop_at = tmp_path / str(stop), stop
        with pytest.raises(Cut):
            run_sweep(plan, out, CPU, options=AT_EVERY_CHANCE)
        steps.stop_at = None
        run_sweep(plan, out, CPU, options=AT_EVERY_CHANCE)
        assert everything(out) == whole, f"stopped before step {stop} of {total}"
        assert steps.taken == total, "no step is taken twice"


def test_a_run_may_be_stopped_again_and_again(tmp_path, corpus, monkeypatch):
    plan = plan_of(corpus, "cvfp", **{"phase1.slices_per_step": 2})
    steps = Steps(monkeypatch)
    run_sweep(plan, tmp_path / "whole", CPU)
    whole, cuts = everything(tmp_path / "whole"), 0
    while True:
        steps.taken = 0
        steps.stop_at = 5
        try:
            run_sweep(plan, tmp_path / "cut", CPU, options=AT_EVERY_CHANCE)
        except Cut:
            cuts += 1
        else:
            break
    assert cuts > 3 and everything(tmp_path / "cut") == whole


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory, corpus):
    """What a run of CVFP leaves that nothing stops."""
    path = tmp_path_factory.mktemp("undisturbed")
    run_sweep(plan_of(corpus, "cvfp"), path, CPU)
    return everything(path)


@pytest.mark.parametrize("damage", one_quick("cut", "flipped", "version", "text", "rows", "a row"))
def test_a_damaged_savepoint_is_said_and_left_aside(tmp_path, corpus, undisturbed, monkeypatch, damage):
    plan = plan_of(corpus, "cvfp")
    steps = Steps(monkeypatch)
    steps.stop_at = 4
    with pytest.raises(Cut):
        run_sweep(plan, tmp_path / "cut", CPU, options=AT_EVERY_CHANCE)
    steps.stop_at = None
    path = next((tmp_path / "cut").rglob("phase1.safetensors"))
    data = bytearray(path.read_bytes())
    if damage == "version":
        data = data.replace(b'\\"cvfp\\": \\"0.1', b'\\"cvfp\\": \\"9.1')
    elif damage == "text":
        data = bytearray(b"not a savepoint")
    elif damage == "rows":
        rows = next(path.parent.glob("phase1-at-*.rows"))
        rows.write_bytes(rows.read_bytes()[:-7])
    elif damage == "a row":
        rows = next(path.parent.glob("phase1-at-*.rows"))
        rows.write_bytes(bytes([rows.read_bytes()[0] ^ 1]) + rows.read_bytes()[1:])
    else:
        data = data[: len(data) // 2] if damage == "cut" else data[:-9] + bytes([data[-9] ^ 1]) + data[-8:]
    path.write_bytes(data)
    with pytest.warns(UserWarning, match=r"savepoint is not used, its part starts again: .*phase1"):
        run_sweep(plan, tmp_path / "cut", CPU, options=AT_EVERY_CHANCE)
    assert everything(tmp_path / "cut")[1:] == undisturbed[1:]


def test_a_savepoint_that_cannot_be_written_is_said_and_the_run_goes_on(
    tmp_path, corpus, undisturbed, monkeypatch
):
    def full(path, tensors, metadata=None):
        raise WriteError(f"cannot write {path}: No space left on device")

    plan = plan_of(corpus, "cvfp")
    with monkeypatch.context() as patch, pytest.warns(UserWarning, match="no savepoint: .*No space left"):
        patch.setattr("cvfp.training.savepoint.write_tensors", full)
        assert run_sweep(plan, tmp_path / "full", CPU, options=AT_EVERY_CHANCE).done == 1
    assert everything(tmp_path / "full") == undisturbed


def test_saving_takes_a_small_share_of_the_time(tmp_path, monkeypatch):
    monkeypatch.setattr("cvfp.training.savepoint.MOST_OVERHEAD", 1e-6)
    save = Savepoints(tmp_path, every=0.0).of("a")
    assert save.due()
    save.save(State({"x": torch.zeros(200_000)}, {}))
    assert not save.due() and save.next > save.started
    assert not Savepoints(tmp_path, every=60.0).of("b").due()
    assert not Savepoints(None, every=0.0).of("c").due()


def test_rows_in_a_file_are_saved_and_read_part_by_part(tmp_path, monkeypatch):
    monkeypatch.setattr("cvfp.training.context_store.CPU_BYTES", 0)
    monkeypatch.setattr("cvfp.training.savepoint.ROWS_AT_ONCE", 7)
    store, other = (ContextStore((23, 3), torch.float32, CPU) for _ in range(2))
    assert store.far
    store.write(0, torch.arange(69.0).view(23, 3))
    save = Savepoints(tmp_path, every=0.0).of("a")
    for number in (1, 2):
        save.save(State({"x": torch.ones(number)}, {"number": number}, store))
    assert len(list(tmp_path.iterdir())) == 2, "the rows of the save before are gone"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = Savepoints(tmp_path).of("a").load(CPU, other)
    assert found.numbers == {"number": 2} and found.tensors["x"].tolist() == [1, 1]
    assert torch.equal(other.read(), store.read())
