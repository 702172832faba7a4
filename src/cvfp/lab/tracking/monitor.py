"""Telling trackers what happens in a sweep, from the process that is told of all others."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from cvfp.lab.monitor import Monitor, Monitors
from cvfp.lab.tracking.base import FOLDER, TrackedPoint, TrackedRun, Tracker
from cvfp.lab.tracking.tensorboard import TensorBoard
from cvfp.lab.tracking.trackio import Trackio
from cvfp.lab.tracking.wandb import Wandb
from cvfp.records.errors import InputError
from cvfp.records.files import read_json
from cvfp.records.metadata import Metadata
from cvfp.records.metrics import Measurement, read_metrics
from cvfp.records.plan import PlannedPoint
from cvfp.records.results import RunRecord
from cvfp.records.sweep import SweepFiles
from cvfp.training.events import Event

KINDS: dict[str, type[Tracker]] = {kind.name: kind for kind in (TensorBoard, Wandb, Trackio)}


@contextmanager
def tracked(names: Sequence[str], out: Path | str, monitor: Monitor | None = None) -> Iterator[Monitor]:
    """`monitor`, and trackers that hear the same: give it to what runs in `out`. Runs end with the block.

    A tracker that fails is told no more, with one note: what it was told stands in `out` anyway.

    Args:
        names: of `tensorboard`, `wandb` and `trackio`.
        out: the sweep directory, or the directory of a model.
        monitor: None: nobody else is told.

    Raises:
        InputError: an unknown name, a tracker that is not installed, or is not set up.
    """
    out, monitor = Path(out), monitor or Monitor()
    for name in names:
        if name not in KINDS:
            raise InputError(f"tracker {name!r}: unknown; there are {', '.join(KINDS)}")
    tracking = Tracking([KINDS[name](out / FOLDER) for name in dict.fromkeys(names)], out, monitor.note)
    try:
        yield Monitors([monitor, tracking])
    finally:
        tracking.close()


class Tracking(Monitor):
    """Passes on to trackers the values of events, and records; each process has its own point."""

    def __init__(self, trackers: Sequence[Tracker], out: Path, warn: Callable[[str], None]) -> None:
        self.trackers, self.out, self.warn = list(trackers), out, warn
        self.made = time.strftime("%Y-%m-%d %H:%M:%S")
        self.own = _Process(self)
        self.processes = [self.own]

    def of_worker(self, name: str) -> Monitor:
        self.processes.append(_Process(self))
        return self.processes[-1]

    def point_started(self, point: PlannedPoint) -> None:
        self.own.point_started(point)

    def event(self, event: Event) -> None:
        self.own.event(event)

    def point_finished(self, point: PlannedPoint, record: RunRecord) -> None:
        self.own.point_finished(point, record)

    def begun(self) -> str:
        """When the sweep was begun; a single model is not gone on with, so it is now."""
        path = SweepFiles(self.out).metadata
        found = Metadata.parse_json(read_json(path), str(path)).started if path.exists() else None
        return self.made if found is None else found

    def close(self) -> None:
        """End the runs of points that were interrupted."""
        for process in self.processes:
            process.leave()

    def attempt(self, tracker: Tracker, act: Callable[[], None]) -> None:
        """`act`, unless the tracker has failed before. One that fails now is told no more."""
        if tracker not in self.trackers:
            return
        try:
            act()
        except Exception as error:  # the library's, of any type: no sweep ends by it
            self.trackers.remove(tracker)
            what = f"{type(error).__name__}: {error}"
            self.warn(f"{tracker.name} failed and is told no more ({what}); results are kept in {self.out}")


class _Process(Monitor):
    """What one process is at work on. Runs begin with the first value: the lines before it are known then."""

    def __init__(self, tracking: Tracking) -> None:
        self.tracking = tracking
        self.point: PlannedPoint | None = None
        self.runs: list[_Told] = []

    def point_started(self, point: PlannedPoint) -> None:
        self.leave()
        self.point = point

    def event(self, event: Event) -> None:
        if not event.values or self.point is None:
            return
        line = Measurement(phase=event.phase, step=event.step, **event.values)
        self._begin(self.point, line)
        for told in self.runs:
            told.log(line)

    def point_finished(self, point: PlannedPoint, record: RunRecord) -> None:
        self._begin(point, None)
        for told in self.runs:
            told.finish(record)
        self.point, self.runs = None, []

    def leave(self) -> None:
        """The point, if there is one, has been interrupted."""
        for told in self.runs:
            told.leave()
        self.point, self.runs = None, []

    def _begin(self, point: PlannedPoint, line: Measurement | None) -> None:
        """Begin the runs of a point where there are none yet; `line` is its first that is told here."""
        if self.runs:
            return
        for tracker in list(self.tracking.trackers):
            told = _Told(self.tracking, tracker)
            told.begin(point, line)
            self.runs.append(told)


class _Told:
    """The run of a point in one tracker, while that does not fail."""

    def __init__(self, tracking: Tracking, tracker: Tracker) -> None:
        self.tracking, self.tracker, self.number = tracking, tracker, 0
        self.run: TrackedRun | None = None

    def begin(self, point: PlannedPoint, line: Measurement | None) -> None:
        out = self.tracking.out

        def begin() -> None:
            earlier = lines_before(SweepFiles(out).run_metrics(point.config.run_hash), line)
            self.number = len(earlier)
            tracked = TrackedPoint(point, out.absolute().name, self.tracking.begun())
            self.run = self.tracker.begin(tracked, earlier)

        self.tracking.attempt(self.tracker, begin)

    def log(self, line: Measurement) -> None:
        self._tell(lambda run: run.log(self.number, line))
        self.number += 1

    def finish(self, record: RunRecord) -> None:
        self._tell(lambda run: run.finish(record))

    def leave(self) -> None:
        self._tell(lambda run: run.leave())

    def _tell(self, act: Callable[[TrackedRun], None]) -> None:
        run = self.run
        if run is not None:
            self.tracking.attempt(self.tracker, lambda: act(run))


def lines_before(metrics: Path, line: Measurement | None) -> tuple[Measurement, ...]:
    """The lines of a metrics file before the one of that phase and step; all where it is not there (yet)."""
    lines = read_metrics(metrics)
    if line is not None:
        for number, each in enumerate(lines):
            if (each.phase, each.step) == (line.phase, line.step):
                return lines[:number]
    return lines
