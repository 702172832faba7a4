"""trackio: a local database (`TRACKIO_DIR`, else in the cache of Hugging Face), a project for each sweep."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import redirect_stdout
from contextvars import Context
from pathlib import Path
from typing import Any

from cvfp.data.extras import require
from cvfp.lab.tracking.base import TrackedPoint, TrackedRun, Tracker, numbers_of, phase_of, plain, values_of
from cvfp.records.metrics import Measurement
from cvfp.records.results import RunRecord


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
        return _Run(run, 0 if last is None else last + 1, len(earlier))


class _Run(TrackedRun):
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
