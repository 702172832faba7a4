"""Several processes at work on one sweep: one for each device, or all of torch's launcher on one point."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType
from typing import Any

import torch

from cvfp.arms.base import Budget
from cvfp.data.dataset import Dataset
from cvfp.lab.monitor import Monitor
from cvfp.lab.point import Datasets, PointResult, run_point
from cvfp.lab.runner import SweepOutcome, run_sweep
from cvfp.lab.sweep_directory import SweepDirectory
from cvfp.records.errors import CvfpError, DivergedError, InputError, LostError, WriteError
from cvfp.records.plan import Plan, PlannedPoint
from cvfp.records.results import RunRecord
from cvfp.training import group
from cvfp.training.events import Event
from cvfp.training.savepoint import EVERY_SECONDS

# --- What every way of sharing a sweep among processes has in common: before, after, and the news between.


News = tuple[str, tuple[Any, ...]]
"""A method of `Monitor` with its arguments; or `error` with the text of what ended a process."""
ERROR = "error"


class Telling(Monitor):
    """Sends on what happens in one process; the sweep as a whole is the parent's to tell of."""

    def __init__(self, send: Callable[[News], object]) -> None:
        self.send = send

    def note(self, text: str) -> None:
        self.send(("note", (text,)))

    def point_started(self, point: PlannedPoint) -> None:
        self.send(("point_started", (point,)))

    def event(self, event: Event) -> None:
        self.send(("event", (event,)))

    def point_finished(self, point: PlannedPoint, record: RunRecord) -> None:
        self.send(("point_finished", (point, record)))


class Hearing:
    """Passes on to one monitor what several processes tell; what all of them note is told once."""

    def __init__(self, monitor: Monitor, names: Iterable[str]) -> None:
        self.views = {name: monitor.of_worker(name) for name in names}
        self.told: set[str] = set()
        self.errors: list[str] = []

    def hear(self, name: str, news: News) -> None:
        """`news` from the process called `name`."""
        method, arguments = news
        if method == ERROR:
            self.errors.append(f"{name}: {arguments[0]}")
        elif method != "note" or arguments[0] not in self.told:
            self.told.update(arguments if method == "note" else ())
            getattr(self.views[name], method)(*arguments)


def run_shared(
    plan: Plan, out: Path, monitor: Monitor, retry: bool, work: Callable[[SweepDirectory], str]
) -> SweepOutcome:
    """As `run_sweep`, with `work` to have all points run by processes; it says why it left any.

    Raises:
        InputError: as `run_sweep`.
        CvfpError: as `run_sweep`; `work` left points.
    """
    directory = SweepDirectory(out, plan)
    directory.check()
    directory.create()
    if retry:
        directory.forget_failures()
    pending = directory.pending()
    monitor.sweep_started(len(plan.points), len(pending))
    if pending:
        verdict = work(directory)
        if directory.pending():
            raise CvfpError(f"--out {out}: {verdict}; what is done is saved")
    return run_sweep(plan, out, torch.device("cpu"), Monitor())


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
    monitor: Monitor,
    checkpoints: bool = True,
    retry: bool = False,
    save_every: float = EVERY_SECONDS,
) -> SweepOutcome:
    """As `run_sweep`, with a process for each of `devices` (one that is listed twice is shared by two).

    A script that calls this with several devices needs the usual `if __name__ == "__main__":`.

    Raises:
        InputError: as `run_sweep`.
        CvfpError: as `run_sweep`; all processes died before the work was done.
    """
    if len(devices) == 1:
        return run_sweep(plan, out, devices[0], monitor, checkpoints, retry, save_every)

    def work(directory: SweepDirectory) -> str:
        with _Pool(plan, directory.path, devices, monitor, checkpoints, save_every) as pool:
            pool.listen()
        return pool.verdict()

    return run_shared(plan, out, monitor, retry, work)


class _Pool:
    """The processes, and a pipe from each."""

    def __init__(
        self,
        plan: Plan,
        out: Path,
        devices: Sequence[torch.device],
        monitor: Monitor,
        checkpoints: bool,
        save_every: float,
    ) -> None:
        context = get_context("spawn")
        threads = max(1, torch.get_num_threads() // len(devices))
        self.names = [f"{device} ({number})" for number, device in enumerate(devices, 1)]
        self.processes: list[BaseProcess] = []
        self.pipes: dict[Connection, str] = {}
        self.hearing = Hearing(monitor, self.names)
        for name, device in zip(self.names, devices, strict=True):
            reader, writer = context.Pipe(duplex=False)
            arguments = (plan, out, device, threads, writer, checkpoints, save_every)
            process = context.Process(target=_work, args=arguments, name=name)
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
            for pipe in wait(list(self.pipes)):
                try:
                    self.hearing.hear(self.pipes[pipe], pipe.recv())
                except EOFError:
                    del self.pipes[pipe]

    def verdict(self) -> str:
        """Why there is work left: what the processes said, or how they ended."""
        ends = [f"{process.name} ended with {process.exitcode}" for process in self.processes]
        return "; ".join(dict.fromkeys(self.hearing.errors or ends))


def _work(
    plan: Plan,
    out: Path,
    device: torch.device,
    threads: int,
    pipe: Connection,
    checkpoints: bool,
    save_every: float,
) -> None:
    """The life of one process."""
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        run_sweep(plan, out, device, Telling(pipe.send), checkpoints, save_every=save_every)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except CvfpError as error:
        pipe.send((ERROR, (str(error),)))
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
    monitor: Monitor,
    checkpoints: bool = True,
    retry: bool = False,
    save_every: float = EVERY_SECONDS,
) -> SweepOutcome | None:
    """As `run_sweep`, called by every launched process with its own device; None in all but the first.

    Raises:
        InputError, WriteError: as `run_sweep`.
        LostError: a process ended, or failed in another way than by diverging. What is done is saved.
    """
    with group.joined(device):
        if not group.is_main():
            _follow(plan, device)
            return None
        outcome = run_sweep(plan, out, device, monitor, checkpoints, retry, save_every, _begin)
        group.broadcast(None)
    return outcome


def _begin(point: PlannedPoint, dataset: Dataset, budget: Budget) -> PointResult:
    """Compute a point with the others, who may read the data now: it has been prepared."""
    group.broadcast(point.config.run_hash)
    with group.held_together():
        return _compute(point, dataset, budget)


def _follow(plan: Plan, device: torch.device) -> None:
    """Take part in what the first process begins, until it has nothing more."""
    datasets, points = Datasets(lambda note: None), {point.config.run_hash: point for point in plan.points}
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
