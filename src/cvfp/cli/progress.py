"""What a person sees while a sweep runs: bars on a terminal, plain lines elsewhere."""

from __future__ import annotations

import time
from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType

import rich.progress
from rich.console import Console
from rich.progress import BarColumn, TextColumn
from rich.table import Column

from cvfp.cli.pulse import pulse
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
from cvfp.metrics.cost import relative_cost
from cvfp.records.plan import PlannedPoint
from cvfp.records.texts import duration
from cvfp.training.events import Event

LEAST_SHARE = 0.1
"""Of the mean cost, that every run takes at least: it has to start, to score and to write."""


class Bars:
    """One bar for the sweep, one for the phase that runs in each worker; a context manager that is told.

    A line fits a terminal of 80 columns: what is too long ends in an ellipsis. What is left of the time is
    told from the cost of the runs that are done and of those to come. Elsewhere there is a line for every run
    that is done, and one for what is being done at least every ten seconds (`cvfp.cli.pulse`).
    """

    def __init__(self) -> None:
        self.console = Console(stderr=True)
        self.bars = rich.progress.Progress(
            TextColumn("{task.description}", markup=False, table_column=_cut(ratio=5)),
            BarColumn(bar_width=12),
            TextColumn("{task.fields[numbers]}", markup=False, table_column=_cut(ratio=6)),
            console=self.console,
            expand=True,
        )
        self.sweep = self.bars.add_task("runs", total=None, numbers="")
        self.phases: dict[str, rich.progress.TaskID] = {}
        """The bar of each worker."""
        self.names: dict[str, str] = {}
        """The run of each worker."""
        self.clock = Clock()
        self.open = ExitStack()

    def __enter__(self) -> Bars:
        self.pulse = self.open.enter_context(pulse("cvfp"))
        if self.console.is_terminal and not self.pulse.silent:
            self.open.enter_context(self.bars)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.pulse.doing = None
        self.open.close()

    def __call__(self, message: Message) -> None:
        match message:
            case SweepStarted(total, pending):
                self.clock, self.pulse.doing = Clock(total, pending), self._now
                self._show_sweep()
                if total != len(pending):
                    self._print_progress(f"{total - len(pending)} of {total} runs are done already")
            case Note(text):
                self._print(text)
            case PointStarted(point):
                self._begin(message.worker, point_label(point))
                self.names[message.worker] = point_label(point)
            case Progress(event):
                self._show(message.worker, event)
            case PointFinished(point, record):
                self.names.pop(message.worker, None)
                self.clock.finish(point)
                self._show_sweep()
                self._print_progress(f"{point_label(point)}: {outcome(point, record)}{self._left()}")
            case Failed(error):
                self._print(f"{message.worker} cannot go on: {error}")

    def _print(self, text: str) -> None:
        if self.console.is_terminal:
            self.bars.console.print(text, highlight=False, markup=False)
        else:
            self.pulse.say(text)

    def _print_progress(self, text: str) -> None:
        if not self.pulse.silent:
            self._print(text)

    def _left(self) -> str:
        """Off a terminal, where no bar says it: how many runs are done, and how long the others take."""
        return "" if self.console.is_terminal else f" [{self.clock.text()}]"

    def _now(self) -> str:
        """What the bars show, in a line: what each worker is at, and how far the sweep is."""
        parts = []
        for task in [self._task(worker) for worker in tuple(self.names)]:
            step = "" if task.total is None else f" {task.completed:.0f}/{task.total:.0f}"
            numbers = task.fields["numbers"]
            parts.append(f"{task.description}{step}{', ' if numbers else ''}{numbers}")
        return f"{'; '.join(parts) or 'at work'} [{self.clock.text()}]"

    def _task(self, worker: str) -> rich.progress.Task:
        return self.bars.tasks[self.bars.task_ids.index(self.phases[worker])]

    def _begin(self, worker: str, name: str) -> None:
        """The worker's bar, new or empty again, under this name."""
        if worker in self.phases:
            self.bars.reset(self.phases[worker], description=name, numbers="")
            self._task(worker).total = None  # `reset` would keep it
        else:
            self.phases[worker] = self.bars.add_task(name, total=None, numbers="")

    def _show_sweep(self) -> None:
        share = self.clock.share
        self.bars.update(self.sweep, total=1.0, completed=share, numbers=self.clock.text())

    def _show(self, worker: str, event: Event) -> None:
        """Move the worker's bar, which begins anew with each phase, and show its latest numbers."""
        name = f"{self.names.get(worker, worker)}: {event.phase}"
        if worker not in self.phases or self._task(worker).description != name:
            self._begin(worker, name)
        bar = self.phases[worker]
        self.bars.update(bar, total=event.total, completed=event.step)
        if event.values:
            shown = (f"{name.replace('_', ' ')} {value:.4g}" for name, value in event.values.items())
            self.bars.update(bar, numbers=", ".join(shown))
        self._show_sweep()


def _cut(ratio: int) -> Column:
    return Column(ratio=ratio, no_wrap=True, overflow="ellipsis")


class Clock:
    """How far a sweep is, by the cost of its runs, and how long the rest takes."""

    def __init__(self, total: int = 0, pending: Iterable[PlannedPoint] = ()) -> None:
        self.total = total
        self.costs = {point.config.run_hash: relative_cost(point.config) for point in pending}
        mean = sum(self.costs.values()) / max(len(self.costs), 1) or 1.0
        self.costs = {name: max(cost, LEAST_SHARE * mean) for name, cost in self.costs.items()}
        self.all, self.done = sum(self.costs.values()), 0.0
        self.started = time.monotonic()

    def finish(self, point: PlannedPoint) -> None:
        """That run is done."""
        self.done += self.costs.pop(point.config.run_hash, 0.0)

    @property
    def share(self) -> float:
        """The share of the cost of what was to be run that is done."""
        return self.done / self.all if self.all else 0.0

    def text(self) -> str:
        """`5/24, 1 min 20 s, 3 min 10 s left`."""
        elapsed = time.monotonic() - self.started
        parts = [f"{self.total - len(self.costs)}/{self.total}", duration(elapsed)]
        if self.done and self.costs:
            parts.append(f"{duration(elapsed * (1 / self.share - 1))} left")
        return ", ".join(parts)
