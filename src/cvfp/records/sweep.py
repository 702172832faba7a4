"""A sweep directory: the names of its files, and its records read back and checked."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cvfp.records.errors import InputError
from cvfp.records.files import read_json
from cvfp.records.metadata import Metadata
from cvfp.records.metrics import Measurement, read_metrics
from cvfp.records.plan import Plan, PlannedPoint
from cvfp.records.results import PointRecord, RunRecord

PointKey = tuple[str, str, int, int]
"""(arm, config_name, num_samples, seed): what makes a point of a sweep that point and no other."""


@dataclass(frozen=True)
class SweepFiles:
    """Where a sweep keeps what, below its directory."""

    directory: Path

    @property
    def plan(self) -> Path:
        """The points and the analysis asked for (`Plan`)."""
        return self.directory / "plan.json"

    @property
    def metadata(self) -> Path:
        """Where, when and on what data the sweep ran (`Metadata`)."""
        return self.directory / "metadata.json"

    @property
    def points(self) -> Path:
        """A list of `PointRecord`."""
        return self.directory / "detailed_results.json"

    @property
    def summary(self) -> Path:
        """A list of `SummaryRecord`."""
        return self.directory / "summary.json"

    @property
    def progressions(self) -> Path:
        """A list of `ProgressionRecord`; only where windows are asked for."""
        return self.directory / "alpha_progression.json"

    @property
    def output(self) -> Path:
        """The readable log of the run."""
        return self.directory / "output.txt"

    @property
    def report(self) -> Path:
        """The report in Markdown."""
        return self.directory / "report.md"

    @property
    def page(self) -> Path:
        """The report as one self-contained HTML page."""
        return self.directory / "report.html"

    @property
    def figures(self) -> Path:
        """Directory of the report's figures."""
        return self.directory / "figures"

    @property
    def runs(self) -> Path:
        """Directory of the run directories, each named by its run hash."""
        return self.directory / "runs"

    def run_record(self, run_hash: str) -> Path:
        """The `RunRecord` of one run: written last, so a run without it has not finished."""
        return self.runs / run_hash / "record.json"

    def run_metrics(self, run_hash: str) -> Path:
        """What one run told while it trained, a line per `Measurement`."""
        return self.runs / run_hash / "metrics.jsonl"


@dataclass(frozen=True)
class Sweep:
    """What a sweep was to do, and what it has done so far. What follows from the points is not read."""

    plan: Plan
    metadata: Metadata
    points: tuple[PointRecord, ...]
    runs: dict[PointKey, RunRecord]
    files: SweepFiles | None = None
    """Where it was read from; None for published tables."""

    def missing(self) -> tuple[PlannedPoint, ...]:
        """The planned points that have no record, in the order of the plan."""
        recorded = {key_of(point) for point in self.points}
        return tuple(point for point in self.plan.points if planned_key(point) not in recorded)

    def run_of(self, point: PointRecord) -> RunRecord | None:
        """The record of the run behind a row; None when its directory was not kept."""
        return self.runs.get(key_of(point))

    def metrics_of(self, point: PointRecord) -> tuple[Measurement, ...]:
        """What the run behind a row told while it trained; empty when that was not kept."""
        run = self.run_of(point)
        if run is None or self.files is None:
            return ()
        return read_metrics(self.files.run_metrics(run.run_hash))


def key_of(point: PointRecord) -> PointKey:
    """The key of a row."""
    return point.arm, point.config_name, point.num_samples, point.seed


def planned_key(point: PlannedPoint) -> PointKey:
    """The key that the row of a planned point will have."""
    return point.config.arm, point.config_name, point.config.data.num_samples, point.config.seed


def load_sweep(directory: Path) -> Sweep:
    """Read the records of a sweep directory. A sweep that has not finished, or in part failed, loads too.

    Raises:
        InputError: there is no such directory; the plan, the metadata or the points are missing; a file is
            damaged, or not what its name says; there are rows that the plan does not know.
    """
    directory = Path(directory)
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory; a sweep directory is needed")
    files = SweepFiles(directory)
    sweep = Sweep(
        plan=Plan.parse_json(read_json(files.plan), str(files.plan)),
        metadata=Metadata.parse_json(read_json(files.metadata), str(files.metadata)),
        points=_read_points(files.points),
        runs=_read_runs(files),
        files=files,
    )
    _check_rows_are_planned(sweep, files)
    return sweep


def _read_points(path: Path) -> tuple[PointRecord, ...]:
    value = read_json(path)
    if not isinstance(value, list):
        raise InputError(f"{path}: a JSON list is needed, found {type(value).__name__}")
    return tuple(PointRecord.parse_json(row, f"{path}, row {number}") for number, row in enumerate(value, 1))


def _read_runs(files: SweepFiles) -> dict[PointKey, RunRecord]:
    records = [
        RunRecord.parse_json(read_json(path), str(path)) for path in sorted(files.runs.glob("*/record.json"))
    ]
    return {key_of(record.point): record for record in records}


def _check_rows_are_planned(sweep: Sweep, files: SweepFiles) -> None:
    planned = {planned_key(point) for point in sweep.plan.points}
    for point in sweep.points:
        if key_of(point) not in planned:
            raise InputError(
                f"{files.points}: {point.arm} {point.config_name} at {point.num_samples} samples, "
                f"seed {point.seed}, is not in {files.plan.name}: these files belong to different sweeps"
            )
