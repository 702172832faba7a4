"""Several processes at work on one sweep, on the devices of this machine: `cvfp run` where there are GPUs.

They share nothing but the sweep directory (`cvfp.lab.sweep_directory`); one that dies leaves its point to
the others. Each card begins with one, and is given more while it idles (`cvfp.lab.packing` has the rule).
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.sharedctypes import RawArray
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from cvfp.lab import meters
from cvfp.lab.messages import (
    Failed,
    LogFile,
    Message,
    Note,
    PointFinished,
    PointStarted,
    Progress,
    Tell,
    tell_all,
    tell_nobody,
)
from cvfp.lab.meters import Meter, NvmlMeter
from cvfp.lab.options import DEFAULTS, RunOptions
from cvfp.lab.packing import LONGEST, Card, Host, Queue, Sample, comes_in_time, has_room, idle_share
from cvfp.lab.point import Datasets
from cvfp.lab.processes import Hearing, run_shared
from cvfp.lab.runner import Job, SweepOutcome, Worker, open_data, run_sweep
from cvfp.lab.sweep_directory import Ledger, SweepDirectory
from cvfp.records.errors import CrowdedError, CvfpError
from cvfp.records.plan import Plan
from cvfp.training.host_memory import available_memory

FEW = 8
"""Points that one device is done with before another process would be of use."""


def run_on_devices(
    plan: Plan,
    out: Path,
    devices: Sequence[torch.device],
    tell: Tell = tell_nobody,
    options: RunOptions = DEFAULTS,
) -> SweepOutcome:
    """This is `run_sweep` with a process for each of `devices`, and more on a GPU that idles.

    One that is listed twice is shared by two, and then no device is given more. A script that calls this with
    GPUs or several devices needs the usual `if __name__ == "__main__":`.

    Raises:
        InputError: as `run_sweep`.
        CvfpError: as `run_sweep`; all processes died before the work was done.
    """
    directory = SweepDirectory(out, plan)
    directory.check()
    pending = directory.pending(options.retry)
    meter = open_meter(devices, tell) if len(pending) >= FEW else None
    if len(devices) == 1 and meter is None:
        return run_sweep(plan, out, devices[0], tell, options)
    hearing = Hearing(tell)
    open_data(Datasets(lambda message: hearing.hear("", message)), pending)

    def work() -> str:
        with _Pool(directory, options, devices, hearing, meter) as pool:
            pool.listen()
        return pool.verdict()

    return run_shared(directory, tell, options.retry, work)


def open_meter(devices: Sequence[torch.device], tell: Tell) -> Meter | None:
    """What reads the devices; None where one is no GPU or listed twice, or cannot be read, which is told."""
    if any(device.type != "cuda" for device in devices) or len(set(devices)) < len(devices):
        return None
    try:
        return NvmlMeter(devices)
    except CvfpError as error:
        tell(Note(f"a process on each GPU, however much it idles: {error}"))
        return None


# --- The processes, what they tell, and what is known of their devices.

CONTEXT = get_context("spawn")
GRACE_SECONDS = 30.0
"""What a process is given to end by itself."""
LOOK_SECONDS = 0.5
"""Between two readings of the devices."""
CROWDED = 75
"""The exit code of a process that memory ran out on beside others."""


class _Process:
    """A process, the pipe it tells through, and how far it is."""

    def __init__(self, name: str, job: Job, company: Any, threads: int) -> None:
        self.name, self.device = name, job.device
        # The times of its start, of its first point, of that being under way, and of the point that it is at.
        self.began = time.monotonic()
        self.started: float | None = None
        self.settled: float | None = None
        self.point: float | None = None
        self.pipe, writer = CONTEXT.Pipe(duplex=False)
        self.process = CONTEXT.Process(target=_work, args=(job, company, threads, writer), name=name)
        self.process.start()
        writer.close()


class _Device:
    """A device, how many processes are on it, and what a meter has read of it."""

    def __init__(self) -> None:
        self.company = RawArray("i", [0, 0])
        """The processes on it, and how often that has changed; it is written here, and read by them."""
        self.is_open = True
        """Whether it may be given one more: all that have ended did so for want of points."""
        self.samples: list[Sample] = []
        self.before: int | None = None
        """Bytes of its memory that others had when it was first read."""
        self.free = self.largest = 0

    def read(self, meter: Meter, device: torch.device, now: float) -> None:
        """Keep what the meter reads."""
        reading = meter.read(device)
        if reading is None:
            return
        self.samples = [sample for sample in self.samples if sample.time >= now - LONGEST]
        self.samples.append(Sample(now, reading.busy))
        self.before = reading.used if self.before is None else self.before
        self.free = reading.total - reading.used
        self.largest = max(self.largest, (reading.used - self.before) // max(self.company[0], 1))


class _Pool:
    """The processes at work on a sweep; the meter, where there is one, decides about more."""

    def __init__(
        self,
        directory: SweepDirectory,
        options: RunOptions,
        devices: Sequence[torch.device],
        hearing: Hearing,
        meter: Meter | None,
    ) -> None:
        self.directory, self.options, self.hearing, self.meter = directory, options, hearing, meter
        self.ledger, self.log = Ledger(directory.path), LogFile(directory.files.output)
        self.threads = max(1, torch.get_num_threads() // len(devices))
        self.given, self.devices = devices, {device: _Device() for device in devices}
        self.processes: list[_Process] = []
        """All that were ever started."""
        self.pipes: dict[Any, _Process] = {}  # connections, which Windows has a class of its own for
        self.finished, self.seconds = 0, 0.0
        """Points that were finished here, and how long they took."""

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *error: object) -> None:
        processes = [each.process for each in self.processes]
        for process in processes:
            if process.is_alive() and error[0] is not None:
                process.terminate()
        for process in processes:
            process.join(GRACE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()

    def listen(self) -> None:
        """Start a process for each device, and pass on what they tell until all have ended; meanwhile start
        more where that is of use."""
        self._read()
        for device in self.given:
            self._start(device)
        looked = time.monotonic()
        while self.pipes:
            ready = wait(list(self.pipes), None if self.meter is None else LOOK_SECONDS)
            for pipe in [pipe for pipe in self.pipes if pipe in ready]:
                try:
                    message = pipe.recv()
                except (EOFError, OSError):  # the latter: killed in the middle of a message
                    self._end(self.pipes.pop(pipe))
                else:
                    self._hear(self.pipes[pipe], message)
            if time.monotonic() - looked >= LOOK_SECONDS:
                looked = time.monotonic()
                self._look()

    def verdict(self) -> str:
        """Why there is work left: what the processes said, and how others ended."""
        said = {error.partition(": ")[0] for error in self.hearing.errors}
        silent = [each for each in self.processes if each.process.exitcode and each.name not in said]
        ends = [f"{each.name} ended with {each.process.exitcode}" for each in silent]
        return (
            "; ".join(dict.fromkeys([*self.hearing.errors, *ends])) or "the processes ended before the work"
        )

    def _start(self, device: torch.device) -> None:
        company = self.devices[device].company
        company[:] = [company[0] + 1, company[1] + 1]
        name = f"{device} ({len(self.processes) + 1})"
        one = _Process(name, Job(self.directory, device, self.options), company, self.threads)
        self.processes.append(one)
        self.pipes[one.pipe] = one

    def _end(self, one: _Process) -> None:
        """A process has ended. Where memory ran out for the last one on a device, it is begun anew, alone."""
        one.process.join(GRACE_SECONDS)
        code, device = one.process.exitcode, self.devices[one.device]
        device.company[:] = [device.company[0] - 1, device.company[1] + 1]
        device.is_open &= code == 0
        if code == CROWDED and device.company[0] == 0:
            self._start(one.device)

    def _hear(self, one: _Process, message: Message) -> None:
        now = time.monotonic()
        match message:
            case PointStarted():
                one.started, one.point = one.started or now, now
            case Progress():
                one.settled = one.settled or now
            case PointFinished():
                one.settled = one.settled or now
                self.finished += 1
                self.seconds += now - (one.point or now)
                one.point = None
        self.hearing.hear(one.name, message)

    # --- Whether one more is of use.

    def _look(self) -> None:
        """Read the devices; start one more process wherever that is of use."""
        self._read()
        for device, known in self.devices.items():
            card = self._card(device)
            number = card.processes + 1
            if known.is_open and has_room(card, self._host()) and comes_in_time(self._queue()):
                note = Note(f"{device} idles {card.idle:.0%} of the time: process {number} starts there")
                tell_all(self.log, self.hearing.tell)(note)
                self._start(device)

    def _read(self) -> None:
        if self.meter is not None:
            for device, known in self.devices.items():
                known.read(self.meter, device, time.monotonic())

    def _card(self, device: torch.device) -> Card:
        known, now = self.devices[device], time.monotonic()
        settled = [one.settled for one in self.pipes.values() if one.device == device]
        since = [at for at in settled if at is not None]
        starting = len(since) < len(settled) or not since
        idle = None if starting else idle_share(known.samples, max(since), now)
        return Card(len(settled), idle, known.free, known.largest)

    def _host(self) -> Host:
        sizes = [meters.memory_of(one.process.pid) for one in self.pipes.values() if one.process.pid]
        return Host(len(self.pipes), meters.cores(), available_memory(), max(sizes, default=0))

    def _queue(self) -> Queue:
        now, pending = time.monotonic(), self.directory.pending()
        points = sum(not self.ledger.is_claimed(point.config.run_hash) for point in pending)
        at_work = sum(now - one.point for one in self.pipes.values() if one.point is not None)
        typical = (self.seconds + at_work) / max(self.finished, 1)
        starts = [one.started - one.began for one in self.processes if one.started is not None]
        return Queue(points, points * typical / max(len(self.pipes), 1), max(starts, default=0.0))


# --- The life of one process.


def _work(job: Job, company: Any, threads: int, pipe: Connection) -> None:
    signal.signal(signal.SIGTERM, _raise)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    if job.device.index is not None:
        torch.cuda.set_device(job.device)
    say = tell_all(LogFile(job.directory.files.output), pipe.send)
    try:
        Worker(job, pipe.send, company).help()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except CrowdedError as error:
        say(Note(str(error)))
        sys.exit(CROWDED)
    except CvfpError as error:
        say(Failed(str(error)))
        sys.exit(error.exit_code)


def _raise(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A process whose parent was killed has nobody to tell, and ends as if it had been asked to."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
