"""Several processes at work on one sweep: what all ways to do so share, and the way of torch's launcher."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import torch

from cvfp.arms.base import Budget
from cvfp.data.dataset import Dataset
from cvfp.lab.messages import Failed, LogFile, Message, Note, SweepStarted, Tell, tell_all, tell_nobody
from cvfp.lab.options import DEFAULTS, RunOptions
from cvfp.lab.point import Datasets, PointResult, run_point
from cvfp.lab.runner import Job, SweepOutcome, Worker, begin, settle
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
