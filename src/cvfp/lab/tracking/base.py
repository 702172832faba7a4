"""What all trackers have in common. A tracker keeps a run for each point, grouped by sweep."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from cvfp.records.config import dotted
from cvfp.records.metrics import Measurement
from cvfp.records.plan import PlannedPoint
from cvfp.records.results import RunRecord
from cvfp.records.schema import digest

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
        """Of the sweep."""
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
