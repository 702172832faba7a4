"""How far a sweep is, read from its directory while it runs or after."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cvfp.lab.ledger import Ledger
from cvfp.lab.monitor import outcome
from cvfp.lab.sweep_directory import SweepDirectory
from cvfp.records.plan import PlannedPoint
from cvfp.records.sweep import read_plan, read_record

STATES = ("done", "running", "failed", "waiting")


@dataclass(frozen=True)
class PointState:
    """One planned point: `state` is one of `STATES`, `detail` its figures or its error."""

    point: PlannedPoint
    state: str
    detail: str


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
        return PointState(point, record.point.status, outcome(record))
    if ledger.is_claimed(point.config.run_hash):
        return PointState(point, "running", "")
    begun = directory.run_directory(point.config.run_hash).has_begun
    return PointState(point, "waiting", "interrupted; goes on from its last savepoint" if begun else "")
