"""Trackers: TensorBoard, trackio and Weights & Biases, and telling them what happens in a sweep.

A tracker keeps a run for each point, grouped by sweep. It is told by the process that is told of all others.
"""

from __future__ import annotations

import io
import os
import re
import time
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from contextvars import Context
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from pydantic import ValidationError

from cvfp.data.extras import require
from cvfp.lab.messages import (
    Message,
    Note,
    PointFinished,
    PointStarted,
    Progress,
    Tell,
    tell_all,
    tell_nobody,
)
from cvfp.records.config import dotted
from cvfp.records.errors import InputError, near
from cvfp.records.files import read_json
from cvfp.records.plan import PlannedPoint
from cvfp.records.results import Measurement, Metadata, RunRecord, read_metrics
from cvfp.records.schema import digest, explain
from cvfp.records.sweep import SweepFiles

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


# --- What all trackers have in common. A tracker keeps a run for each point, grouped by sweep.


FOLDER = "tracking"
"""Below the sweep directory: what trackers keep there."""
LONGEST = 120
"""Characters of a name: it names a folder too."""
SETTINGS = {"num_layers", "context_dim", "num_input_tokens", "num_samples", "seed", "draw_seed"}
"""Numbers of a row that were known before."""


@dataclass(frozen=True)
class TrackedPoint:
    """A point as trackers know it."""

    point: PlannedPoint
    group: str
    """The name of the sweep directory."""
    begun: str
    """When the sweep was: one that is run anew in another directory of the same name has other runs."""

    @property
    def name(self) -> str:
        """Unique in the sweep, and a legal file name: `cvfp-1L_768d_2tok-50-seed42-0a1b2c3d`."""
        config = self.point.config
        label = f"{config.arm}-{self.point.config_name}"
        return f"{plain(label)}-{config.data.num_samples}-seed{config.seed}-{config.run_hash[:8]}"

    @property
    def tag(self) -> str:
        """The tag of the sweep."""
        return digest([self.group, self.begun], 6)

    @property
    def id(self) -> str:
        """Unique among all sweeps; the same when the point goes on."""
        return f"{self.point.config.run_hash}-{self.tag}"

    @property
    def config(self) -> dict[str, Any]:
        """The settings that the result depends on, by dotted key, and what the point is called."""
        config = self.point.config
        names = {"config_name": self.point.config_name, "config_hash": config.config_hash}
        return names | {"run_hash": config.run_hash} | dotted(config.relevant())


class TrackedRun(ABC):
    """One point in one tracker. Any error may come out of it: they are the library's."""

    @abstractmethod
    def log(self, number: int, line: Measurement) -> None:
        """Keep the values of a line of `metrics.jsonl`, the `number`-th (from 0)."""

    @abstractmethod
    def finish(self, record: RunRecord) -> None:
        """Keep the record, which is the last that is told."""

    @abstractmethod
    def leave(self) -> None:
        """The point was interrupted; it may be begun again later."""


class Tracker(ABC):
    """One library, made before anything runs."""

    name: ClassVar[str]

    @abstractmethod
    def __init__(self, folder: Path) -> None:
        """`folder` is where it may write. Raises `InputError` when it is not installed, or not set up."""

    @abstractmethod
    def begin(self, point: TrackedPoint, earlier: tuple[Measurement, ...]) -> TrackedRun:
        """Begin the run of a point, or go on with it. `earlier` are the lines that were logged before."""


def plain(text: str) -> str:
    """The text as part of a file name: other signs than letters, digits and `._=+-` become `_`."""
    return re.sub(r"[^A-Za-z0-9._=+-]+", "_", text)[:LONGEST]


def values_of(line: Measurement) -> dict[str, Any]:
    """The values of a line, by `phase/name`; blanks in a phase become `_`."""
    return {f"{phase_of(line)}/{name}": value for name, value in line.values.items()}


def phase_of(line: Measurement) -> str:
    """`phase_1`."""
    return line.phase.replace(" ", "_")


def numbers_of(record: RunRecord) -> dict[str, float]:
    """The numbers that a point was found to have, by the names of `detailed_results.json`."""
    row = record.point.model_dump(exclude=SETTINGS)
    return {name: float(value) for name, value in row.items() if isinstance(value, int | float)}


# --- TensorBoard: event files in a folder for each point, below the sweep directory.


FLUSH_SECONDS = 10
SCORES = ("val_ppl", "dev_ppl", "train_ppl", "val_acc", "bits_per_byte", "val_er", "train_er", "wall_seconds")
"""Columns of its table of hyperparameters."""


class TensorBoard(Tracker):
    """Steps are those of the phase; the numbers of the record stand at its training tokens, so that their
    chart over all runs shows how they scale."""

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        require("tensorboard", "tensorboard")
        self.folder = folder / "tensorboard"

    def begin(self, point: TrackedPoint, earlier: tuple[Measurement, ...]) -> TrackedRun:
        """Write the folder of the point anew: what an interrupted run logged beyond `earlier` is undone."""
        from torch.utils.tensorboard import SummaryWriter

        path = self.folder / point.name
        for old in path.glob("events.out.tfevents.*"):
            old.unlink()
        run = _TensorBoardRun(SummaryWriter(str(path), flush_secs=FLUSH_SECONDS), point.config)
        for number, line in enumerate(earlier):
            run.log(number, line)
        return run


class _TensorBoardRun(TrackedRun):
    def __init__(self, writer: SummaryWriter, config: dict[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams

        self.writer, files = writer, writer.file_writer
        assert files is not None  # until it is closed
        self.files = files
        plain = {
            key: value if isinstance(value, int | float | str) else str(value)
            for key, value in config.items()
        }
        experiment, start, self.end = hparams(plain, dict.fromkeys(SCORES, 0.0))
        files.add_summary(experiment)
        files.add_summary(start)

    def log(self, number: int, line: Measurement) -> None:
        for name, value in values_of(line).items():
            self.writer.add_scalar(name, value, line.step)

    def finish(self, record: RunRecord) -> None:
        tokens = record.point.train_tokens
        for name, value in numbers_of(record).items():
            self.writer.add_scalar(name, value, 0 if tokens is None else tokens)
        self.files.add_summary(self.end)
        self.writer.close()

    def leave(self) -> None:
        self.writer.close()


# --- trackio: a local database (`TRACKIO_DIR`, else in the cache of Hugging Face), a project for each sweep.


class Trackio(Tracker):
    """A step is a line of `metrics.jsonl`; the numbers of the record are one more."""

    name = "trackio"

    def __init__(self, folder: Path) -> None:
        self.trackio = require("trackio", "trackio")
        self.storage = require("trackio.sqlite_storage", "trackio").SQLiteStorage

    def begin(self, point: TrackedPoint, earlier: tuple[Measurement, ...]) -> TrackedRun:
        """Go on with the run of that name where the project has it, behind its last step."""
        project, name = plain(point.group), f"{point.name}-{point.tag}"
        run = _quietly(
            lambda: self.trackio.init(
                project=project,
                name=name,
                group=point.group,
                config=point.config,
                resume="allow",
                embed=False,
                auto_log_cpu=False,
                auto_log_gpu=False,
            )
        )
        last = self.storage.get_max_step_for_run(project, name, run.id)
        return _TrackioRun(run, 0 if last is None else last + 1, len(earlier))


class _TrackioRun(TrackedRun):
    def __init__(self, run: Any, known: int, number: int) -> None:
        self.run, self.known, self.next = run, known, number

    def log(self, number: int, line: Measurement) -> None:
        self.next = number + 1
        if number >= self.known:  # else logged before an interruption
            self.run.log(values_of(line) | {f"{phase_of(line)}/step": line.step}, step=number)

    def finish(self, record: RunRecord) -> None:
        numbers = numbers_of(record)
        if numbers and self.next >= self.known:
            self.run.log(numbers, step=self.next)
        self.leave()

    def leave(self) -> None:
        _quietly(self.run.finish)


def _quietly(act: Callable[[], Any]) -> Any:
    """What `act` returns. It prints to the standard output, which is for the answer; and in a context of its
    own, for `init` ends the run that was begun before it."""
    with redirect_stdout(io.StringIO()):
        return Context().run(act)


# --- Weights & Biases. `WANDB_MODE=offline` needs no network; `WANDB_PROJECT` names another project.


PROJECT = "cvfp"


class Wandb(Tracker):
    """A step is a line of `metrics.jsonl`; charts have the step of the phase as their x axis."""

    name = "wandb"

    def __init__(self, folder: Path) -> None:
        self.folder, self.wandb = folder, require("wandb", "wandb")
        try:
            mode = self.wandb.setup().settings.mode
        except ValidationError as error:
            raise InputError(f"--track wandb: its settings are wrong: {explain(error)}") from error
        if mode == "online" and not self.wandb.login(prompt=False):
            raise InputError("--track wandb: it has no key; run `wandb login`, or set WANDB_MODE=offline")

    def begin(self, point: TrackedPoint, earlier: tuple[Measurement, ...]) -> TrackedRun:
        """Go on with the run of that id where wandb has it, behind its last step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        run = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=point.id,
            name=point.name,
            group=point.group,
            config=point.config,
            dir=self.folder,
            resume="allow",
            reinit="create_new",
            settings=self.wandb.Settings(console="off", silent=True, disable_code=True),
        )
        return _WandbRun(run)


class _WandbRun(TrackedRun):
    def __init__(self, run: Any) -> None:
        self.run, self.known = run, run.step
        self.phases: set[str] = set()

    def log(self, number: int, line: Measurement) -> None:
        if number < self.known:  # logged before an interruption
            return
        phase = phase_of(line)
        if phase not in self.phases:
            self.phases.add(phase)
            self.run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")
        self.run.log(values_of(line) | {f"{phase}/step": line.step}, step=number)

    def finish(self, record: RunRecord) -> None:
        row = record.point.model_dump(mode="json", exclude_none=True)
        self.run.summary.update(row if record.error is None else row | {"error": record.error})
        self.run.finish(exit_code=0 if record.error is None else 1)

    def leave(self) -> None:
        self.run.finish(exit_code=1)


# --- Telling trackers what happens in a sweep, from the process that is told of all others.


KINDS: dict[str, type[Tracker]] = {kind.name: kind for kind in (TensorBoard, Wandb, Trackio)}


@contextmanager
def tracked(names: Sequence[str], out: Path | str, tell: Tell = tell_nobody) -> Iterator[Tell]:
    """`tell`, and trackers that are told the same: give it to what runs in `out`. Runs end with the block.

    A tracker that fails is told no more, with one note: what it was told stands in `out` anyway.

    Args:
        names: of `tensorboard`, `wandb` and `trackio`.
        out: the sweep directory, or the directory of a model.
        tell: who else is told.

    Raises:
        InputError: an unknown name, a tracker that is not installed, or is not set up.
    """
    out = Path(out)
    for name in names:
        if name not in KINDS:
            raise InputError(f"tracker {name!r}: unknown{near(name, KINDS)}; there are {', '.join(KINDS)}")
    tracking = Tracking([KINDS[name](out / FOLDER) for name in dict.fromkeys(names)], out, tell)
    try:
        yield tell_all(tell, tracking)
    finally:
        tracking.close()


class Tracking:
    """Passes on to trackers the values of events, and records; each worker has its own point."""

    def __init__(self, trackers: Sequence[Tracker], out: Path, tell: Tell) -> None:
        self.trackers, self.out, self.tell = list(trackers), out, tell
        self.made = time.strftime("%Y-%m-%d %H:%M:%S")
        self.workers: defaultdict[str, _AtWork] = defaultdict(lambda: _AtWork(self))

    def __call__(self, message: Message) -> None:
        at_work = self.workers[message.worker]
        match message:
            case PointStarted(point):
                at_work.start(point)
            case Progress(event) if event.values:
                at_work.log(Measurement(phase=event.phase, step=event.step, **event.values))
            case PointFinished(point, record):
                at_work.finish(point, record)

    def begun(self) -> str:
        """When the sweep was begun; a single model is not gone on with, so it is now."""
        path = SweepFiles(self.out).metadata
        found = Metadata.parse_json(read_json(path), str(path)).started if path.exists() else None
        return self.made if found is None else found

    def close(self) -> None:
        """End the runs of points that were interrupted."""
        for at_work in self.workers.values():
            at_work.leave()

    def attempt(self, tracker: Tracker, act: Callable[[], None]) -> None:
        """`act`, unless the tracker has failed before. One that fails now is told no more."""
        if tracker not in self.trackers:
            return
        try:
            act()
        except Exception as error:  # the library's, of any type: no sweep ends by it
            self.trackers.remove(tracker)
            what = f"{type(error).__name__}: {error}"
            told = f"{tracker.name} failed and is told no more ({what}); results are kept in {self.out}"
            self.tell(Note(told))


class _AtWork:
    """What one worker is at work on. Runs begin with the first value: the lines before it are known then."""

    def __init__(self, tracking: Tracking) -> None:
        self.tracking = tracking
        self.point: PlannedPoint | None = None
        self.runs: list[_Told] = []

    def start(self, point: PlannedPoint) -> None:
        self.leave()
        self.point = point

    def log(self, line: Measurement) -> None:
        if self.point is not None:
            self._begin(self.point, line)
        for told in self.runs:
            told.log(line)

    def finish(self, point: PlannedPoint, record: RunRecord) -> None:
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
