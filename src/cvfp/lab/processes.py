"""Several processes at work on one sweep: one for each device, or all of torch's launcher on one point."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from cvfp.arms.base import Budget
from cvfp.data.dataset import Dataset
from cvfp.lab.messages import Failed, LogFile, Message, Note, SweepStarted, Tell, tell_all, tell_nobody
from cvfp.lab.options import DEFAULTS, RunOptions
from cvfp.lab.point import Datasets, PointResult, run_point
from cvfp.lab.runner import Job, SweepOutcome, Worker, begin, run_sweep, settle
from cvfp.lab.sweep_directory import SweepDirectory
from cvfp.records.errors import CvfpError, DivergedError, InputError, LostError, WriteError
from cvfp.records.plan import Plan, PlannedPoint
from cvfp.training import group

# --- What every way of sharing a sweep among workers has in common: the frame, and the news.


def run_shared(directory: SweepDirectory, tell: Tell, retry: bool, work: Callable[[], str]) -> SweepOutcome:
    """This is `run_sweep` with `work` to have all points run by workers; it says why it left any.

    Raises:
        InputError: as `run_sweep`.
        CvfpError: as `run_sweep`; `work` left points.
    """
    directory.check()
    pending = begin(directory, retry)
    tell = tell_all(LogFile(directory.files.output), tell)
    tell(SweepStarted(len(directory.plan.points), tuple(pending)))
    if pending:
        verdict = work()
        if directory.pending():
            raise CvfpError(f"--out {directory.path}: {verdict}; what is done is saved")
    return settle(directory, tell)


class Hearing:
    """Passes on what several workers tell, each under its name; what all of them note is told once."""

    def __init__(self, tell: Tell) -> None:
        self.tell = tell
        self.told: set[Message] = set()
        self.errors: list[str] = []

    def hear(self, worker: str, message: Message) -> None:
        """`message` from the worker of that name."""
        if isinstance(message, Failed):
            self.errors.append(f"{worker}: {message.error}")
        if isinstance(message, Note | Failed):
            if message in self.told:
                return
            self.told.add(message)
        self.tell(replace(message, worker=worker))


# --- Several processes at work on one sweep, one for each device: `cvfp run` where there are several GPUs.
#
# They share nothing but the sweep directory (`cvfp.lab.sweep_directory`); one that dies leaves its point to
# the others.


GRACE_SECONDS = 30.0
"""What a process is given to end by itself."""


def run_on_devices(
    plan: Plan,
    out: Path,
    devices: Sequence[torch.device],
    tell: Tell = tell_nobody,
    options: RunOptions = DEFAULTS,
) -> SweepOutcome:
    """This is `run_sweep` with a process for each of `devices` (one that is listed twice is shared by two).

    A script that calls this with several devices needs the usual `if __name__ == "__main__":`.

    Raises:
        InputError: as `run_sweep`.
        CvfpError: as `run_sweep`; all processes died before the work was done.
    """
    if len(devices) == 1:
        return run_sweep(plan, out, devices[0], tell, options)
    directory = SweepDirectory(out, plan)

    def work() -> str:
        with _Pool([Job(directory, device, options) for device in devices], tell) as pool:
            pool.listen()
        return pool.verdict()

    return run_shared(directory, tell, options.retry, work)


class _Pool:
    """A process for each job, and a pipe from each."""

    def __init__(self, jobs: Sequence[Job], tell: Tell) -> None:
        context = get_context("spawn")
        threads = max(1, torch.get_num_threads() // len(jobs))
        self.processes: list[BaseProcess] = []
        self.pipes: dict[Any, str] = {}  # connections, which Windows has a class of its own for
        self.hearing = Hearing(tell)
        for number, job in enumerate(jobs, 1):
            name = f"{job.device} ({number})"
            reader, writer = context.Pipe(duplex=False)
            process = context.Process(target=_work, args=(job, threads, writer), name=name)
            process.start()
            writer.close()
            self.processes.append(process)
            self.pipes[reader] = name

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            if process.is_alive() and error[0] is not None:
                process.terminate()
        for process in self.processes:
            process.join(GRACE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()

    def listen(self) -> None:
        """Pass on what the processes tell, until all have ended."""
        while self.pipes:
            ready = wait(list(self.pipes))
            for pipe in [pipe for pipe in self.pipes if pipe in ready]:
                try:
                    self.hearing.hear(self.pipes[pipe], pipe.recv())
                except EOFError:
                    del self.pipes[pipe]

    def verdict(self) -> str:
        """Why there is work left: what the processes said, or how they ended."""
        ends = [f"{process.name} ended with {process.exitcode}" for process in self.processes]
        return "; ".join(dict.fromkeys(self.hearing.errors or ends))


def _work(job: Job, threads: int, pipe: Connection) -> None:
    """The life of one process."""
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    if job.device.type == "cuda":
        torch.cuda.set_device(job.device)
    try:
        Worker(job, pipe.send).help()
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except CvfpError as error:
        pipe.send(Failed(str(error)))
        sys.exit(error.exit_code)


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A process whose parent was killed has nobody to tell, and ends as if it had been asked to."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)


# --- One point at a time, trained by all processes that torch's launcher has started (`torchrun -m cvfp
# run`).
#
# The first process runs the sweep and writes; the others take part in each training it begins.


def run_together(
    plan: Plan,
    out: Path,
    device: torch.device,
    tell: Tell = tell_nobody,
    options: RunOptions = DEFAULTS,
) -> SweepOutcome | None:
    """This is `run_sweep`, called by every launched process with its own device; None in all but the first.

    Raises:
        InputError, WriteError: as `run_sweep`.
        LostError: a process ended, or failed in another way than by diverging. What is done is saved.
    """
    with group.joined(device):
        if not group.is_main():
            _follow(plan, device)
            return None
        outcome = _Leader(Job(SweepDirectory(out, plan), device, options), tell).run_sweep()
        group.broadcast(None)
    return outcome


class _Leader(Worker):
    """The first process, which has the others compute each point with it."""

    def compute(self, point: PlannedPoint, dataset: Dataset, budget: Budget) -> PointResult:
        """The result of a point. The others may read the data now: it has been prepared."""
        group.broadcast(point.config.run_hash)
        with group.held_together():
            return _compute(point, dataset, budget)


def _follow(plan: Plan, device: torch.device) -> None:
    """Take part in what the first process begins, until it has nothing more."""
    datasets, points = Datasets(), {point.config.run_hash: point for point in plan.points}
    while (run_hash := group.broadcast(None)) is not None:
        point = points[run_hash]
        with suppress(DivergedError):  # the first process keeps a record of it
            _compute(point, datasets.of(point.config), Budget(device))


def _compute(point: PlannedPoint, dataset: Dataset, budget: Budget) -> PointResult:
    """`run_point`. What fails in one process alone must end it: the others wait for its share."""
    try:
        return run_point(point, dataset, budget)
    except (DivergedError, InputError, WriteError):
        raise
    except CvfpError as error:
        raise LostError(f"{group.who()} cannot go on: {error}") from error
