"""A sweep on disk: the plan it holds, its runs, who has which of them, and how far they are."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import geometric_mean
from typing import Any

import numpy as np

from cvfp.lab.messages import outcome, point_label
from cvfp.records.errors import CvfpError, InputError
from cvfp.records.files import (
    append_text,
    atomic_path,
    check_out,
    read_json,
    remove_temporary,
    write_json,
    write_sealed,
)
from cvfp.records.locks import NoLocksError, held, require_locks
from cvfp.records.plan import Plan, PlannedPoint
from cvfp.records.results import Metadata, RunRecord
from cvfp.records.sweep import SweepFiles, read_plan, read_record, read_records
from cvfp.scaling.summary import fit_lines, progressions, summarise
from cvfp.training.events import Event
from cvfp.training.savepoint import Savepoints

# --- One run on disk. `record.json` is written last and atomically: where it is, the run is complete.


RECORD, CONFIG, ENVIRONMENT, LOSSES, METRICS = (
    "record.json",
    "config.json",
    "environment.json",
    "test_losses.npz",
    "metrics.jsonl",
)
SAVEPOINTS = "savepoints"
ATTEMPTS = "attempts.json"
"""Seconds that all attempts at a run have taken so far; there until it is done."""
BEAT_SECONDS = 5.0
"""Between two writings of them: so many are lost at most where a process is killed."""


class RunDirectory:
    """`runs/<run_hash>/` of a sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = self.begun = self.beaten = time.perf_counter()
        self.earlier = 0.0
        """Seconds of earlier attempts, with what they did in vain."""
        self.kept: int | None = None

    @property
    def has_begun(self) -> bool:
        """Whether a process has begun the run, be it done or not."""
        return (self.path / CONFIG).exists()

    def begin(self, config: dict[str, Any], environment: dict[str, Any], save_every: float) -> Savepoints:
        """Write what is known before the run. Its metrics start anew, or go on from its savepoints."""
        write_json(self.path / CONFIG, config)
        write_json(self.path / ENVIRONMENT, environment)
        self.earlier, self.begun = self._spent(), time.perf_counter()
        self.keep_time()
        self._rewind((0, 0.0))
        return Savepoints(self.path / SAVEPOINTS, save_every, self._mark, self._rewind)

    def _spent(self) -> float:
        """Seconds of all attempts so far, of a run that is not done."""
        path = self.path / ATTEMPTS
        return float(read_json(path)["seconds"]) if path.exists() else 0.0

    def keep_time(self) -> None:
        """Write how long all attempts have taken."""
        self.beaten = time.perf_counter()
        write_json(self.path / ATTEMPTS, {"seconds": self.earlier + self.beaten - self.begun})

    def _mark(self) -> tuple[int, float]:
        """How far the run is: bytes of its metrics, and its seconds."""
        path = self.path / METRICS
        return path.stat().st_size if path.exists() else 0, self.seconds

    def _rewind(self, mark: Sequence[int | float]) -> None:
        """Be as far as that: what was logged later is cut off when something is logged again."""
        self.kept, seconds = int(mark[0]), mark[1]
        self.started = time.perf_counter() - seconds

    @property
    def seconds(self) -> float:
        """Seconds of work since the run began; what an interruption made undone is not counted."""
        return time.perf_counter() - self.started

    def log(self, event: Event) -> None:
        """Append one line to `metrics.jsonl`: the values of an event, and the seconds since `begin`."""
        if time.perf_counter() - self.beaten >= BEAT_SECONDS:
            self.keep_time()
        if not event.values:
            return
        if self.kept is not None and (self.path / METRICS).exists():
            os.truncate(self.path / METRICS, min(self.kept, (self.path / METRICS).stat().st_size))
        self.kept = None
        seconds = round(self.seconds, 3)
        line = {"phase": event.phase, "step": event.step, "seconds": seconds, **event.values}
        append_text(self.path / METRICS, json.dumps(line) + "\n")

    def write_losses(self, nll: np.ndarray, offsets: np.ndarray, dev_nll: np.ndarray) -> None:
        """Per-token test and dev losses (nats, float16), and where each test document starts in the stream.

        `nll[i]` is the loss of token i + 1: the first token of the stream is not predicted. Losses beyond
        float16, of a model that diverged, are infinite there.
        """
        with np.errstate(over="ignore"):
            small, small_dev = nll.astype(np.float16), dev_nll.astype(np.float16)
        with atomic_path(self.path / LOSSES) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, nll=small, document_starts=offsets, dev_nll=small_dev)

    def read_losses(self) -> dict[str, np.ndarray]:
        """What `write_losses` wrote. Raises `InputError` where it is not there, or has no dev losses."""
        path = self.path / LOSSES
        try:
            with np.load(path, allow_pickle=False) as found:
                losses = {name: found[name].astype(np.float64) for name in ("nll", "dev_nll")}
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: the losses of a finished run are needed here: {error}") from error
        return losses

    def finish(self, record: RunRecord) -> RunRecord:
        """Write the record, with the seconds of all attempts; what was saved for resuming goes."""
        seconds = record.point.wall_seconds
        if self.earlier and seconds is not None:
            point = record.point.model_copy(update={"wall_seconds": self.earlier + seconds})
            record = record.model_copy(update={"point": point})
        write_sealed(self.path / RECORD, record.model_dump(mode="json"))
        self.clean()
        if record.point.status != "failed":
            (self.path / ATTEMPTS).unlink(missing_ok=True)
        return record

    def clean(self) -> None:
        """Take away savepoints that nobody needs, and files that were left half-written."""
        if (self.path / RECORD).exists():
            shutil.rmtree(self.path / SAVEPOINTS, ignore_errors=True)
        remove_temporary(self.path)


# --- Who runs what: the points of a sweep shared among processes, on one machine or on several.
#
# A claim is a lock (`cvfp.records.locks`) on a file in `.locks/`: when its process ends, another can take the
# point.


LOCKS = ".locks"
SHARED = "sweep"
SHARED_SECONDS = 60.0
"""Longest wait for the files that all processes write: others hold them for moments."""


class Ledger:
    """The claims on the points of one sweep directory; `note` is told of waiting."""

    def __init__(self, directory: Path, note: Callable[[str], None] = lambda line: None) -> None:
        self.locks, self.note = Path(directory) / LOCKS, note

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Alone in writing what all processes write: tables, forecasts, metadata.

        Raises:
            CvfpError: another process has held them for a minute, the lock cannot be written, or the file
                system has none.
        """
        with self._held(SHARED, SHARED_SECONDS) as ours:
            if not ours:
                raise CvfpError(f"{self.locks / SHARED}: another process has held it for a minute")
            yield

    @contextmanager
    def claim(self, run_hash: str) -> Iterator[bool]:
        """Whether the point is ours inside the block; False where another process has it.

        Raises:
            CvfpError: the lock cannot be written, or the file system has none.
        """
        with self._held(run_hash, 0.0) as ours:
            yield ours

    def is_claimed(self, run_hash: str) -> bool | None:
        """Whether a process has the point now; None where the lock may not be tried, so that nobody knows."""
        path = self.locks / run_hash
        if not path.exists():
            return False
        try:
            with held(path, 0.0, self.note, run_hash) as ours:
                return not ours
        except (OSError, NoLocksError):
            return None

    @contextmanager
    def _held(self, name: str, seconds: float) -> Iterator[bool]:
        with ExitStack() as stack:
            try:
                self.locks.mkdir(parents=True, exist_ok=True)
                ours = stack.enter_context(held(self.locks / name, seconds, self.note, f"{LOCKS}/{name}"))
            except OSError as error:
                raise CvfpError(f"cannot write {self.locks / name}: {error.strerror or error}") from error
            yield ours


# --- The whole sweep: its plan, its runs, and the files made from their records.


BREAK_SECONDS = 60.0
"""A pause between two points that is no part of the time that a sweep took."""

STALE_SECONDS = 600.0
"""Age of a half-written file that nobody is still writing."""


class SweepDirectory:
    """The directory of one plan."""

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path, self.plan = Path(path), plan
        self.files = SweepFiles(self.path)

    def check(self) -> None:
        """Nothing stays written.

        Raises:
            InputError: the path holds points that the plan has not, or no sweep.
            WriteError: it cannot be written.
            CvfpError: its file system has no locks.
        """
        path = self.path
        check_out(path)
        require_locks(path)
        if self.files.plan.exists():
            held = read_plan(path)
            if not self.plan.extends(held):
                raise InputError(
                    f"--out {path}: holds another plan ({held.name}, {len(held.points)} runs); "
                    "give another directory, or the options that plan was made with"
                )
        elif path.exists() and any(path.iterdir()):
            raise InputError(f"--out {path}: is not empty and holds no sweep; give a new directory")

    def create(self) -> None:
        """Make the directory and write the plan; one that is there with another analysis gets the new one."""
        if not self.files.plan.exists() or read_plan(self.path) != self.plan:
            write_json(self.files.plan, self.plan.model_dump(mode="json"))

    def run_directory(self, run_hash: str) -> RunDirectory:
        return RunDirectory(self.files.runs / run_hash)

    def records(self) -> dict[str, RunRecord]:
        """Records by run hash, in plan order, of the points that have one."""
        return read_records(self.files, self.plan)

    def clean(self) -> None:
        """Take away what killed processes left: half-written files, savepoints of points that have a result.

        What other processes are at work on stays.
        """
        for path in self.path.glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()
        ledger = Ledger(self.path)
        for point in self.plan.points:
            if self.has_result(point):
                run_hash = point.config.run_hash
                with ledger.claim(run_hash) as ours:
                    if ours:
                        self.run_directory(run_hash).clean()

    def has_result(self, point: PlannedPoint) -> bool:
        """Whether a point is done, failed or diverged."""
        return self.files.run_record(point.config.run_hash).exists()

    def pending(self, retry: bool = False) -> list[PlannedPoint]:
        """The points without a result, in plan order; with `retry` also those that failed."""
        failures = self._failures() if retry else ()
        return [p for p in self.plan.points if not self.has_result(p) or p.config.run_hash in failures]

    def forget_failures(self) -> None:
        """Take away the records of the points that failed, so that they run again."""
        for run_hash in self._failures():
            self.files.run_record(run_hash).unlink(missing_ok=True)

    def _failures(self) -> set[str]:
        return {key for key, record in self.records().items() if record.point.status == "failed"}

    def write_results(self) -> None:
        """(Re)write the tables that are made from the records: rows, lines, windows."""
        points = [record.point for record in self.records().values()]
        analysis = self.plan.analysis
        write_json(self.files.points, [point.model_dump(mode="json") for point in points])
        fits = fit_lines(points, analysis)
        lines = summarise(fits)
        write_json(self.files.summary, [line.model_dump(mode="json") for line in lines])
        if analysis.window_size is not None:
            windows = progressions(fits, analysis.window_size)
            write_json(self.files.progressions, [line.model_dump(mode="json") for line in windows])

    def metadata(self) -> dict[str, Any]:
        """What `metadata.json` holds so far. Raises `InputError` when it is damaged."""
        path = self.files.metadata
        if not path.exists():
            return {}
        return Metadata.parse_json(read_json(path), str(path)).model_dump(mode="json", exclude_unset=True)

    def update_metadata(self, changes: dict[str, Any]) -> None:
        """Merge into `metadata.json`."""
        write_json(self.files.metadata, self.metadata() | changes)

    def add_busy(self, start: float, end: float) -> None:
        """Note that a process worked from `start` to `end` (seconds since the epoch)."""
        metadata = self.metadata()
        busy = merged([*metadata.get("busy", []), [round(start, 3), round(end, 3)]])
        wall = round(sum(end - start for start, end in busy), 3)
        self.update_metadata({"busy": busy, "wall_seconds": wall})


def merged(spans: Iterable[list[float]], gap: float = BREAK_SECONDS) -> list[list[float]]:
    """The union of spans of time; those less than `gap` seconds apart become one."""
    union: list[list[float]] = []
    for start, end in sorted(spans):
        if union and start <= union[-1][1] + gap:
            union[-1][1] = max(union[-1][1], end)
        else:
            union.append([start, end])
    return union


# --- How far a sweep is, read from its directory while it runs or after.


STATES = ("done", "running", "failed", "diverged", "waiting")


@dataclass(frozen=True)
class PointState:
    """One planned point: `state` is one of `STATES`, `detail` its figures or its error."""

    point: PlannedPoint
    state: str
    detail: str
    ppl: float | None = None
    """Test PPL of one that is done; None in a tuning, which does not score it."""


@dataclass(frozen=True)
class SweepStatus:
    """All points of a sweep with their states."""

    name: str
    points: tuple[PointState, ...]

    def counts(self) -> dict[str, int]:
        counted = Counter(point.state for point in self.points)
        return {state: counted[state] for state in STATES}

    def line(self) -> str:
        """`3 done, 1 running, 0 failed, 12 waiting`."""
        return ", ".join(f"{count} {state}" for state, count in self.counts().items())

    def rows(self) -> list[tuple[object, ...]]:
        return [
            (
                each.point.config.arm,
                each.point.config_name,
                each.point.config.data.num_samples,
                each.point.config.seed,
                each.state,
                each.detail,
            )
            for each in self.points
        ]

    @property
    def sizes(self) -> list[int]:
        """The sizes in documents, smallest first."""
        return sorted({each.point.config.data.num_samples for each in self.points})

    def grid(self) -> list[tuple[str, ...]]:
        """A row per curve, a cell per size: its test PPL, mean over seeds, or how many runs are in which
        state."""
        lines: dict[tuple[str, str], dict[int, list[PointState]]] = {}
        for each in self.points:
            config = each.point.config
            line = lines.setdefault((config.arm, each.point.config_name), {})
            line.setdefault(config.data.num_samples, []).append(each)
        return [
            (arm, name, *(_cell(sizes.get(size, [])) for size in self.sizes))
            for (arm, name), sizes in lines.items()
        ]

    def troubles(self) -> list[str]:
        """What failed, with its error, what diverged, and what was interrupted."""
        return [
            f"{point_label(each.point)}: {each.detail}"
            for each in self.points
            if each.state in ("failed", "diverged") or (each.state == "waiting" and each.detail)
        ]

    def as_dict(self) -> dict[str, Any]:
        keys = ("arm", "config_name", "num_samples", "seed", "state", "detail")
        rows = [dict(zip(keys, row, strict=True)) for row in self.rows()]
        return {"name": self.name, **self.counts(), "points": rows}


def sweep_status(path: Path) -> SweepStatus:
    """The state of every planned point. Raises `InputError` where there is no sweep."""
    plan = read_plan(path)
    directory = SweepDirectory(Path(path), plan)
    ledger = Ledger(directory.path)
    return SweepStatus(plan.name, tuple(_state(directory, point, ledger) for point in plan.points))


def _state(directory: SweepDirectory, point: PlannedPoint, ledger: Ledger) -> PointState:
    record = read_record(directory.files, point)
    if record is not None:
        return PointState(point, record.point.status, outcome(point, record), record.point.val_ppl)
    claimed = ledger.is_claimed(point.config.run_hash)
    if claimed is None:
        return PointState(point, "waiting", "here nobody can see whether it is running: no locks (flock)")
    if claimed:
        return PointState(point, "running", "")
    begun = directory.run_directory(point.config.run_hash).has_begun
    return PointState(point, "waiting", "interrupted; goes on from its last savepoint" if begun else "")


def _cell(states: Sequence[PointState]) -> str:
    """`123.4` where all runs of a size are done; else `1 done, 2 waiting`."""
    if not states:
        return ""
    ppls = [each.ppl for each in states]
    if all(each.state == "done" for each in states):
        known = [ppl for ppl in ppls if ppl is not None]
        return f"{geometric_mean(known):.1f}" if len(known) == len(ppls) else "done"
    counted = Counter(each.state for each in states)
    return ", ".join(f"{counted[state]} {state}" for state in STATES if counted[state])
