"""What a person sees while a sweep runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from cvfp.lab.monitor import Monitor, outcome, point_label
from cvfp.records.plan import PlannedPoint
from cvfp.records.results import RunRecord
from cvfp.training.events import Event


class Bars(Monitor):
    """One bar for the sweep, one for the phase that runs in each process; a context manager."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            console=self.console,
        )
        self.sweep = self.progress.add_task("points", total=None, numbers="")
        self.phase = PhaseBar(self, "")

    def __enter__(self) -> Bars:
        if self.console.is_terminal:
            self.progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.progress.stop()

    def of_worker(self, name: str) -> Monitor:
        return PhaseBar(self, f"{name}: ")

    def note(self, text: str) -> None:
        if self.console.is_terminal:
            self.progress.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def sweep_started(self, total: int, pending: int) -> None:
        self.progress.update(self.sweep, total=total, completed=total - pending)
        if total != pending:
            self.note(f"{total - pending} of {total} points are done already")

    def point_started(self, point: PlannedPoint) -> None:
        self.phase.point_started(point)

    def event(self, event: Event) -> None:
        self.phase.event(event)

    def point_finished(self, point: PlannedPoint, record: RunRecord) -> None:
        self.phase.point_finished(point, record)


class PhaseBar(Monitor):
    """The bar of the phase that runs in one process, with its latest numbers."""

    def __init__(self, bars: Bars, prefix: str) -> None:
        self.bars, self.progress, self.prefix = bars, bars.progress, prefix
        self.task = self.progress.add_task("", total=None, numbers="", visible=False)
        self.name = ""

    def note(self, text: str) -> None:
        self.bars.note(text)

    def point_started(self, point: PlannedPoint) -> None:
        self.progress.update(self.bars.sweep, numbers=point_label(point))

    def event(self, event: Event) -> None:
        if event.phase != self.name:
            self.name = event.phase
            self.progress.reset(
                self.task, visible=True, description=f"{self.prefix}{event.phase}", numbers=""
            )
        self.progress.update(self.task, total=event.total, completed=event.step)
        if event.values:
            numbers = ", ".join(
                f"{name.replace('_', ' ')} {value:.4g}" for name, value in event.values.items()
            )
            self.progress.update(self.task, numbers=numbers)

    def point_finished(self, point: PlannedPoint, record: RunRecord) -> None:
        self.name = ""
        self.progress.advance(self.bars.sweep)
        self.note(f"{point_label(point)}: {outcome(record)}")
