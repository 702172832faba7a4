"""What every way of sharing a sweep among processes has in common: before, after, and the news between."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from cvfp.lab.monitor import Monitor
from cvfp.lab.runner import SweepOutcome, run_sweep
from cvfp.lab.sweep_directory import SweepDirectory
from cvfp.records.errors import CvfpError
from cvfp.records.plan import Plan, PlannedPoint
from cvfp.records.results import RunRecord
from cvfp.training.events import Event

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
