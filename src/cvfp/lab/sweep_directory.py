"""A sweep on disk: the plan it holds, its runs, and the files made from their records."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from cvfp.lab.run_directory import RunDirectory
from cvfp.records.errors import InputError
from cvfp.records.files import check_out, read_json, write_json
from cvfp.records.metadata import Metadata
from cvfp.records.plan import Plan, PlannedPoint
from cvfp.records.results import RunRecord
from cvfp.records.sweep import SweepFiles, read_plan, read_records
from cvfp.scaling.summary import progressions, summarise

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
        """Nothing is written. Raises `InputError` when the path holds another plan, or files of no sweep."""
        path = self.path
        check_out(path)
        if self.files.plan.exists():
            held = read_plan(path)
            if held.plan_hash != self.plan.plan_hash:
                raise InputError(
                    f"--out {path}: holds another plan ({held.name}, {len(held.points)} points); "
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
        """Take away files that a killed process left half-written beside the tables."""
        for path in self.path.glob(".*.tmp"):
            with contextlib.suppress(FileNotFoundError):
                if time.time() - path.stat().st_mtime > STALE_SECONDS:
                    path.unlink()

    def has_result(self, point: PlannedPoint) -> bool:
        """Whether a point is done, or failed."""
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
        lines = summarise(points, analysis)
        write_json(self.files.summary, [line.model_dump(mode="json") for line in lines])
        if analysis.window_size is not None:
            windows = progressions(points, analysis)
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


def merged(spans: Iterable[Sequence[float]], gap: float = BREAK_SECONDS) -> list[list[float]]:
    """The union of spans of time; those less than `gap` seconds apart become one."""
    union: list[list[float]] = []
    for start, end in sorted(spans):
        if union and start <= union[-1][1] + gap:
            union[-1][1] = max(union[-1][1], end)
        else:
            union.append([start, end])
    return union
