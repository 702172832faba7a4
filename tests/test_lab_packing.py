"""Claim: a card that idles is given more processes, one that is busy none, and the records are the same."""

from __future__ import annotations

import itertools
import os
import struct
import sys
from dataclasses import replace
from multiprocessing import Pipe
from types import SimpleNamespace

import pytest
import torch
from lab_helpers import rows_of, tiny_plan, tiny_spec
from test_lab_ledger import CPU, Heard, starts

from cvfp.lab import meters, on_devices, runner
from cvfp.lab.meters import NvmlMeter, Reading
from cvfp.lab.on_devices import FEW, open_meter, run_on_devices
from cvfp.lab.options import DEFAULTS
from cvfp.lab.packing import (
    IDLE,
    LONGEST,
    MARGIN,
    MOST,
    SHORTEST,
    Card,
    Host,
    Queue,
    Sample,
    comes_in_time,
    has_room,
    idle_share,
)
from cvfp.lab.plan import make_plan
from cvfp.lab.runner import Job, Worker
from cvfp.lab.sweep_directory import Ledger, SweepDirectory
from cvfp.records.errors import CrowdedError, CvfpError

pytestmark = pytest.mark.usefixtures("undrawn")

CARD = Card(processes=1, idle=IDLE + 0.1, free=160, largest=100)
HOST = Host(processes=1, cores=8, free=160, largest=100)


# --- The rule.


def test_a_card_has_room_when_nothing_speaks_against_it():
    for processes, idle, free, on_host, cores, host_free in itertools.product(
        range(1, MOST + 2), (None, 0.0, IDLE, IDLE + 0.01, 1.0), (149, 150), (1, 3, 4), (1, 4), (149, 150)
    ):
        card = Card(processes, idle, free, 100)
        host = Host(on_host, cores, host_free, 100)
        reasons = [
            processes >= MOST,
            idle is None or idle <= IDLE,
            free < MARGIN * 100,
            on_host >= cores,
            host_free < MARGIN * 100,
        ]
        assert has_room(card, host) == (not any(reasons))


@pytest.mark.parametrize(
    "change", [{"processes": MOST}, {"idle": None}, {"idle": IDLE}, {"free": 149}, {"largest": 107}]
)
def test_each_reason_of_a_card_is_enough(change: dict):
    assert has_room(CARD, HOST) and not has_room(replace(CARD, **change), HOST)


@pytest.mark.parametrize("change", [{"processes": 8}, {"cores": 1}, {"free": 149}, {"largest": 107}])
def test_each_reason_of_a_host_is_enough(change: dict):
    assert not has_room(CARD, replace(HOST, **change))


@pytest.mark.parametrize(
    ("points", "seconds", "start", "comes"),
    [(0, 100.0, 10.0, False), (1, 10.0, 10.0, False), (1, 10.1, 10.0, True), (50, 9.0, 10.0, False)],
)
def test_a_process_comes_in_time_for_points_that_are_left_then(points, seconds, start, comes):
    assert comes_in_time(Queue(points, seconds, start)) == comes


def test_the_idle_share_is_that_of_the_time_since_a_process_settled_but_no_further_back():
    samples = [Sample(float(time), 1.0 if time < 100 else 0.25) for time in range(200)]
    assert idle_share(samples, 150.0, 150.0 + SHORTEST - 0.1) is None
    assert idle_share(samples, 150.0, 150.0 + SHORTEST) == 0.75
    assert idle_share(samples, 0.0, 100.0 + LONGEST) == 0.75, "what was long ago does not count"
    assert 0 < idle_share(samples, 90.0, 110.0) < 0.75
    assert idle_share([], 0.0, 100.0) is None


# --- The meter.


class NvmlError(Exception):
    """As that of pynvml."""


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Two cards that NVML knows."""
    read = SimpleNamespace(utilization=lambda device: 40 + device.index, device_memory_used=lambda device: 7)
    known = SimpleNamespace(total_memory=80)
    monkeypatch.setattr(meters, "require", lambda module: SimpleNamespace(NVMLError=NvmlError))
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: known)
    monkeypatch.setattr(torch.cuda, "utilization", lambda device: read.utilization(device))
    monkeypatch.setattr(torch.cuda, "device_memory_used", lambda device: read.device_memory_used(device))
    return read


CARDS = (torch.device("cuda:0"), torch.device("cuda:1"))


def fails(device: torch.device) -> int:
    raise NvmlError("Not Supported")


def test_a_meter_reads_each_card_and_survives_a_reading_that_fails(nvml):
    meter = NvmlMeter(CARDS)
    assert [meter.read(card) for card in CARDS] == [Reading(0.4, 7, 80), Reading(0.41, 7, 80)]
    nvml.utilization = fails
    assert meter.read(CARDS[0]) is None
    with pytest.raises(CvfpError, match="cuda:0 cannot be read by NVML"):
        NvmlMeter(CARDS)


def test_there_is_a_meter_for_cards_that_are_each_listed_once(nvml):
    heard = Heard()
    assert isinstance(open_meter(CARDS, heard), NvmlMeter)
    assert open_meter((*CARDS, CARDS[0]), heard) is open_meter((CPU,), heard) is None
    assert heard.notes == []
    nvml.device_memory_used = fails
    assert open_meter(CARDS, heard) is None
    assert len(heard.notes) == 1 and "a process on each GPU" in heard.notes[0]


def test_without_the_library_its_name_is_told(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    heard = Heard()
    assert open_meter(CARDS, heard) is None
    assert "pynvml is needed here and not installed" in heard.notes[0]


def test_the_host_is_read(tmp_path, monkeypatch):
    there = meters.cores()
    assert there >= 1 and meters.memory_of(os.getpid()) > 1 << 20
    monkeypatch.setattr(meters, "CGROUP", tmp_path)
    (tmp_path / "cpu.max").write_text("100000 100000", encoding="utf-8")
    assert meters.cores() == 1
    (tmp_path / "cpu.max").write_text("max 100000", encoding="utf-8")
    assert meters.cores() >= there
    assert meters.memory_of(2**30) == 0


# --- Processes, on a "card" that says what the test wants.


class FakeMeter:
    def __init__(self, busy: float) -> None:
        self.busy = busy

    def read(self, device: torch.device) -> Reading:
        return Reading(self.busy, used=0, total=1)


@pytest.mark.parametrize(("busy", "added"), [(0.5, True), (0.9, False)])
def test_a_card_that_idles_is_given_more_and_the_records_are_the_same(
    tmp_path, corpus, whole, monkeypatch, busy, added
):
    monkeypatch.setattr("cvfp.lab.packing.SHORTEST", 0.0)
    monkeypatch.setattr("cvfp.lab.meters.cores", lambda: 2)
    monkeypatch.setattr("cvfp.lab.on_devices.LOOK_SECONDS", 0.05)
    monkeypatch.setattr("cvfp.lab.on_devices.open_meter", lambda devices, tell: FakeMeter(busy))
    monkeypatch.setattr("cvfp.lab.on_devices.comes_in_time", lambda queue: queue.points > 0)
    plan, heard = tiny_plan(corpus), Heard()
    assert len(plan.points) >= FEW
    outcome = run_on_devices(plan, tmp_path, (CPU,), heard)
    assert outcome.done == len(plan.points) and rows_of(tmp_path) == rows_of(whole)
    assert set(starts(tmp_path).values()) == {1}
    told = [note for note in heard.notes if "idles" in note]
    assert told == (["cpu idles 50% of the time: process 2 starts there"] if added else [])
    assert all(note in (tmp_path / "output.txt").read_text() for note in told)
    assert heard.workers <= ({"cpu (1)", "cpu (2)"} if added else {"cpu (1)"})


# --- Memory that runs out.


def test_a_point_for_which_memory_ran_out_beside_others_runs_again(tmp_path, corpus, monkeypatch):
    plan = tiny_plan(corpus, arms=("unigram",), samples=(4, 8))
    directory, company = SweepDirectory(tmp_path, plan), [2, 2]
    directory.create()
    real, changes = runner.run_point, [None, [1, 3], [2, 4]]

    def runs_out(point, dataset, budget):
        change = changes.pop(0)
        company[:] = company if change is None else change
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(runner, "run_point", runs_out)

    def take() -> None:
        Worker(Job(directory, CPU, DEFAULTS), lambda message: None, company).help()

    for _ in range(2):  # beside another one, which then ends in the midst of the point
        with pytest.raises(CrowdedError, match="memory ran out beside others"):
            take()
    assert company == [1, 3]
    with pytest.raises(CrowdedError):  # alone, but for one that came in the midst of it
        take()
    assert len(directory.pending()) == 2
    assert not any(Ledger(tmp_path).is_claimed(point.config.run_hash) for point in plan.points)
    company[:] = [1, 5]

    def runs_out_once(point, dataset, budget):
        monkeypatch.setattr(runner, "run_point", real)
        raise torch.OutOfMemoryError("out of memory")

    monkeypatch.setattr(runner, "run_point", runs_out_once)
    take()
    assert sorted(record.point.status for record in directory.records().values()) == ["done", "failed"]


def test_what_needs_more_memory_than_there_is_fails_once_it_was_alone(tmp_path, corpus):
    huge = {"model.context_dim": 1_000_000}
    plan = make_plan(tiny_spec(corpus, arms=("cvfp", "unigram"), samples=(4, 8)).with_settings(huge))
    heard = Heard()
    outcome = run_on_devices(plan, tmp_path, (CPU, CPU), heard)
    assert outcome.done == 2 and len(outcome.failed) == 2
    assert all("allocate memory" in record.error for record in outcome.failed)
    assert any("memory ran out beside others" in note for note in heard.notes)
    assert "memory ran out beside others" in (tmp_path / "output.txt").read_text()


# --- Processes that end.


class Broken:
    """A process of the pool that was killed while it sent a message: its length arrives, and a part of it."""

    def __init__(self, name: str, job: Job, company: object, threads: int) -> None:
        self.name, self.device = name, job.device
        self.began = self.started = self.settled = self.point = None
        self.process = SimpleNamespace(exitcode=-9, pid=None, join=lambda seconds=0: None, is_alive=bool)
        self.pipe, writer = Pipe(duplex=False)
        os.write(writer.fileno(), struct.pack("!i", 100) + b"half")
        writer.close()


def test_a_process_killed_in_the_middle_of_a_message_has_ended(tmp_path, corpus, monkeypatch):
    monkeypatch.setattr(on_devices, "_Process", Broken)
    plan = tiny_plan(corpus, arms=("unigram",), samples=(4, 8))
    with pytest.raises(CvfpError, match=r"cpu \(1\) ended with -9; cpu \(2\) ended with -9; what is done"):
        run_on_devices(plan, tmp_path, (CPU, CPU))
