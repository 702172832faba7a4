"""What a person sees while a sweep runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
from types import TracebackType

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from cvfp.lab.messages import (
    Failed,
    Message,
    Note,
    PointFinished,
    PointStarted,
    Progress,
    SweepStarted,
    outcome,
    point_label,
)
from cvfp.training.events import Event


class Bars:
    """One bar for the sweep, one for the phase that runs in each worker; a context manager that is told."""

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bars = rich.progress.Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(bar_width=24),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}", markup=False),
            console=self.console,
        )
        self.sweep = self.bars.add_task("points", total=None, numbers="")
        self.phases: dict[str, rich.progress.TaskID] = {}
        """The bar of each worker."""
        self.names: dict[str, str] = {}
        """The phase that runs in each worker."""

    def __enter__(self) -> Bars:
        if self.console.is_terminal:
            self.bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bars.stop()

    def __call__(self, message: Message) -> None:
        match message:
            case SweepStarted(total, pending):
                self.bars.update(self.sweep, total=total, completed=total - pending)
                if total != pending:
                    self._print(f"{total - pending} of {total} points are done already")
            case Note(text):
                self._print(text)
            case PointStarted(point):
                self.bars.update(self.sweep, numbers=point_label(point))
            case Progress(event):
                self._show(message.worker, event)
            case PointFinished(point, record):
                self.names.pop(message.worker, None)
                self.bars.advance(self.sweep)
                self._print(f"{point_label(point)}: {outcome(record)}")
            case Failed(error):
                self._print(f"{message.worker} cannot go on: {error}")

    def _print(self, text: str) -> None:
        if self.console.is_terminal:
            self.bars.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)

    def _show(self, worker: str, event: Event) -> None:
        """Move the worker's bar, which begins anew with each phase, and show its latest numbers."""
        if worker not in self.phases:
            self.phases[worker] = self.bars.add_task("", total=None, numbers="", visible=False)
        bar = self.phases[worker]
        if self.names.get(worker) != event.phase:
            self.names[worker] = event.phase
            name = f"{worker}: {event.phase}" if worker else event.phase
            self.bars.reset(bar, visible=True, description=name, numbers="")
        self.bars.update(bar, total=event.total, completed=event.step)
        if event.values:
            shown = (f"{name.replace('_', ' ')} {value:.4g}" for name, value in event.values.items())
            self.bars.update(bar, numbers=", ".join(shown))
