"""A sweep directory: the names of its files, and its records read back and checked."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cvfp.records.errors import InputError
from cvfp.records.files import is_dir, is_file, read_json, read_sealed, write_json
from cvfp.records.plan import Plan, PlannedPoint
from cvfp.records.results import Measurement, Metadata, PointRecord, RunRecord, read_metrics
from cvfp.records.schema import Count, Positive, Rate, Schema, digest

# --- The files of a sweep, and reading them.


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
        """A list of `PointRecord`: the rows of the run records, written for other programs to read."""
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
    def forecasts(self) -> Path:
        """A list of `RegisteredForecast`, each made before its size ran."""
        return self.directory / "forecasts.json"

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
    runs: dict[PointKey, RunRecord]
    """In the order of the plan."""
    files: SweepFiles | None = None
    """Where it was read from; None for published tables."""

    @property
    def points(self) -> tuple[PointRecord, ...]:
        """The rows of the runs."""
        return tuple(run.point for run in self.runs.values())

    def missing(self) -> tuple[PlannedPoint, ...]:
        """The planned points that have no record, in the order of the plan."""
        return tuple(point for point in self.plan.points if planned_key(point) not in self.runs)

    def run_of(self, point: PointRecord) -> RunRecord:
        """The record of the run behind a row."""
        return self.runs[key_of(point)]

    def metrics_of(self, point: PointRecord) -> tuple[Measurement, ...]:
        """What the run behind a row told while it trained; empty when that was not kept."""
        if self.files is None:
            return ()
        return read_metrics(self.files.run_metrics(self.run_of(point).run_hash))


def key_of(point: PointRecord) -> PointKey:
    """The key of a row."""
    return point.arm, point.config_name, point.num_samples, point.seed


def planned_key(point: PlannedPoint) -> PointKey:
    """The key that the row of a planned point will have."""
    return point.config.arm, point.config_name, point.config.data.num_samples, point.config.seed


def load_sweep(directory: Path) -> Sweep:
    """Read the records of a sweep directory. A sweep that has not finished, or in part failed, loads too.

    Raises:
        InputError: as `read_plan` and `read_record`; the metadata are missing or damaged; it is a tuning.
    """
    files, plan = SweepFiles(Path(directory)), read_plan(directory)
    if plan.protocol == "tuning":
        raise InputError(f"{directory}: holds a tuning, whose trials have no test scores; use run --tuned")
    metadata = Metadata.parse_json(read_json(files.metadata), str(files.metadata))
    runs = {key_of(record.point): record for record in read_records(files, plan).values()}
    return Sweep(plan, metadata, runs, files)


def read_plan(directory: Path) -> Plan:
    """The plan of a sweep directory.

    Raises:
        InputError: there is no such directory, no plan in it, or a damaged one.
    """
    directory = Path(directory)
    if not is_dir(directory):
        found = "is a file" if is_file(directory) else "no such directory"
        raise InputError(f"{directory}: {found}; a sweep directory is needed")
    path = SweepFiles(directory).plan
    if not path.exists():
        raise InputError(f"{directory}: no sweep here (there is no {path.name})")
    return Plan.parse_json(read_json(path), str(path))


def read_records(files: SweepFiles, plan: Plan) -> dict[str, RunRecord]:
    """Records by run hash, in plan order, of the planned points that have one. Raises as `read_record`."""
    return read_points(files, plan.points)


def read_points(files: SweepFiles, points: Iterable[PlannedPoint]) -> dict[str, RunRecord]:
    """Records by run hash, in that order, of those of the points that have one. Raises as `read_record`."""
    found = (read_record(files, point) for point in points)
    return {record.run_hash: record for record in found if record is not None}


def read_record(files: SweepFiles, point: PlannedPoint) -> RunRecord | None:
    """The record of a planned point that finished or failed; None when there is none yet.

    Raises:
        InputError: the file is damaged, was changed, or is the record of another point.
    """
    path = files.run_record(point.config.run_hash)
    if not path.exists():
        return None
    record = RunRecord.parse_json(read_sealed(path), str(path))
    row, config = record.point, point.config
    for name, found, planned in (
        ("run_hash", record.run_hash, config.run_hash),
        ("point.arm", row.arm, config.arm),
        ("point.config_name", row.config_name, point.config_name),
        ("point.config_hash", row.config_hash, config.config_hash),
        ("point.num_samples", row.num_samples, config.data.num_samples),
        ("point.seed", row.seed, config.seed),
    ):
        if found != planned:
            raise InputError(
                f"{path}: is the record of another run: {name} is {found!r}, the plan has {planned!r}"
            )
    return record


# --- Forecasts written down before the size that they are of is run: `forecasts.json` of a sweep.


Rule = Literal["outlook", "ppl_power", "last_slope"]
"""What predicts: the PPL power law of all smaller sizes, or the line through the last two of them."""


class RegisteredForecast(Schema):
    """What one line's smaller sizes say of its next one, with a 95% prediction interval."""

    arm: str
    config_name: str
    config_hash: str
    rule: Rule
    num_samples: Positive
    """The size that is predicted."""
    tokens: Rate
    """Its training tokens, the mean over the draws that are to run."""
    known_samples: tuple[Positive, ...]
    """The sizes that the forecast was made from."""
    seeds: tuple[Count, ...]
    """The draws that it was made from."""
    ppl: Rate
    low: Rate
    high: Rate | None
    """None: beyond the range of a float."""
    made: str
    """Date and time."""

    @property
    def digest(self) -> str:
        """Hash of all fields: what is changed afterwards does not fit it any more."""
        return digest(self.model_dump(mode="json"))


class SealedForecast(Schema):
    """An entry of `forecasts.json`: a forecast, and the hash of all its fields."""

    forecast: RegisteredForecast
    digest: str


def read_forecasts(path: Path) -> list[RegisteredForecast]:
    """The forecasts of a sweep, none where there is no file.

    Raises:
        InputError: the file is damaged, or a forecast does not fit its hash.
    """
    if not is_file(path):
        return []
    found = read_json(path)
    if not isinstance(found, list):
        raise InputError(f"{path}: a list of forecasts is needed")
    entries = [
        SealedForecast.parse_json(entry, f"{path}, entry {place}") for place, entry in enumerate(found, 1)
    ]
    for entry in entries:
        if entry.forecast.digest != entry.digest:
            one = entry.forecast
            raise InputError(
                f"{path}: the forecast of {one.arm} {one.config_name} at {one.num_samples} was changed"
            )
    return [entry.forecast for entry in entries]


def write_forecasts(path: Path, forecasts: list[RegisteredForecast]) -> None:
    """Replace the file by these forecasts, each with its hash."""
    entries = [{"forecast": one.model_dump(mode="json"), "digest": one.digest} for one in forecasts]
    write_json(path, entries)
