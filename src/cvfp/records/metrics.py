"""What a run tells while it trains: `metrics.jsonl`, one JSON object per line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import ConfigDict

from cvfp.records.errors import InputError
from cvfp.records.files import is_file, parse_json_line, read_text
from cvfp.records.schema import Schema
from cvfp.records.values import Count


class Measurement(Schema):
    """One line: numbers of a phase at a step, by name beside these three (nats, PPL, shares, learning rate).

    In phase 1 a step is an iteration, the random start being the first; in phase 2 an optimiser step.
    """

    model_config = ConfigDict(extra="allow")

    phase: str
    step: Count
    seconds: float | None = None
    """Since the run began."""

    @property
    def values(self) -> dict[str, Any]:
        """The numbers by name."""
        return self.model_extra or {}


def read_metrics(path: Path) -> tuple[Measurement, ...]:
    """The lines of a metrics file in order; none where there is no file. A last line that is not whole (the
    run is writing it, or was killed there) is left out.

    Raises:
        InputError: another line is not a measurement.
    """
    if not is_file(path):
        return ()
    lines = read_text(path).split("\n")
    found = []
    for number, line in enumerate(lines[:-1], 1):
        where = f"{path}, line {number}"
        value = parse_json_line(line, where)
        if not isinstance(value, dict):
            raise InputError(f"{where}: a JSON object is needed, found {type(value).__name__}")
        found.append(Measurement.parse_json(value, where))
    return tuple(found)
