"""One run on disk. `record.json` is written last and atomically: where it is, the run is complete."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import numpy as np

from cvfp.records.files import atomic_path, write_json
from cvfp.records.results import RunRecord
from cvfp.training.events import Event

RECORD, CONFIG, ENVIRONMENT, LOSSES, METRICS = (
    "record.json",
    "config.json",
    "environment.json",
    "test_losses.npz",
    "metrics.jsonl",
)


class RunDirectory:
    """`runs/<run_hash>/` of a sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.perf_counter()

    @property
    def has_begun(self) -> bool:
        """Whether a process has begun the run, be it done or not."""
        return (self.path / CONFIG).exists()

    def begin(self, config: dict[str, Any], environment: dict[str, Any]) -> None:
        """Write what is known before the run, and start its metrics anew."""
        write_json(self.path / CONFIG, config)
        write_json(self.path / ENVIRONMENT, environment)
        (self.path / METRICS).unlink(missing_ok=True)
        self.started = time.perf_counter()

    def log(self, event: Event) -> None:
        """Append one line to `metrics.jsonl`: the values of an event, and the seconds since `begin`."""
        if not event.values:
            return
        seconds = round(time.perf_counter() - self.started, 3)
        line = {"phase": event.phase, "step": event.step, "seconds": seconds, **event.values}
        with (self.path / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def write_losses(self, nll: np.ndarray, offsets: np.ndarray) -> None:
        """Per-token test losses (nats, float16) and where each test document starts in the stream.

        `nll[i]` is the loss of token i + 1: the first token of the stream is not predicted.
        """
        with atomic_path(self.path / LOSSES) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, nll=nll.astype(np.float16), document_starts=offsets)

    def finish(self, record: RunRecord) -> None:
        write_json(self.path / RECORD, record.model_dump(mode="json"))
