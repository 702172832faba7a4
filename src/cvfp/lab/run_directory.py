"""One run on disk. `record.json` is written last and atomically: where it is, the run is complete."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from cvfp.records.errors import InputError
from cvfp.records.files import append_text, atomic_path, remove_temporary, write_json, write_sealed
from cvfp.records.results import RunRecord
from cvfp.training.events import Event
from cvfp.training.savepoint import Savepoints

RECORD, CONFIG, ENVIRONMENT, LOSSES, METRICS = (
    "record.json",
    "config.json",
    "environment.json",
    "test_losses.npz",
    "metrics.jsonl",
)
SAVEPOINTS = "savepoints"


class RunDirectory:
    """`runs/<run_hash>/` of a sweep."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.started = time.perf_counter()
        self.kept: int | None = None

    @property
    def has_begun(self) -> bool:
        """Whether a process has begun the run, be it done or not."""
        return (self.path / CONFIG).exists()

    def begin(self, config: dict[str, Any], environment: dict[str, Any], save_every: float) -> Savepoints:
        """Write what is known before the run. Its metrics start anew, or go on from its savepoints."""
        write_json(self.path / CONFIG, config)
        write_json(self.path / ENVIRONMENT, environment)
        self._rewind((0, 0.0))
        return Savepoints(self.path / SAVEPOINTS, save_every, self._mark, self._rewind)

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
        """Of work since the run began; what an interruption made undone is not counted."""
        return time.perf_counter() - self.started

    def log(self, event: Event) -> None:
        """Append one line to `metrics.jsonl`: the values of an event, and the seconds since `begin`."""
        if not event.values:
            return
        if self.kept is not None and (self.path / METRICS).exists():
            os.truncate(self.path / METRICS, self.kept)
        self.kept = None
        seconds = round(self.seconds, 3)
        line = {"phase": event.phase, "step": event.step, "seconds": seconds, **event.values}
        append_text(self.path / METRICS, json.dumps(line) + "\n")

    def write_losses(self, nll: np.ndarray, offsets: np.ndarray, dev_nll: np.ndarray) -> None:
        """Per-token test and dev losses (nats, float16), and where each test document starts in the stream.

        `nll[i]` is the loss of token i + 1: the first token of the stream is not predicted.
        """
        with atomic_path(self.path / LOSSES) as temporary, temporary.open("wb") as file:
            np.savez_compressed(
                file,
                nll=nll.astype(np.float16),
                document_starts=offsets,
                dev_nll=dev_nll.astype(np.float16),
            )

    def read_losses(self) -> dict[str, np.ndarray]:
        """What `write_losses` wrote. Raises `InputError` where it is not there, or has no dev losses."""
        path = self.path / LOSSES
        try:
            with np.load(path, allow_pickle=False) as found:
                losses = {name: found[name].astype(np.float64) for name in ("nll", "dev_nll")}
        except (OSError, ValueError, KeyError) as error:
            raise InputError(f"{path}: the losses of a finished run are needed here: {error}") from error
        return losses

    def finish(self, record: RunRecord) -> None:
        """Write the record; what the run had saved for its resuming goes."""
        write_sealed(self.path / RECORD, record.model_dump(mode="json"))
        self.clean()

    def clean(self) -> None:
        """Take away savepoints that nobody needs, and files that were left half-written."""
        if (self.path / RECORD).exists():
            shutil.rmtree(self.path / SAVEPOINTS, ignore_errors=True)
        remove_temporary(self.path)
