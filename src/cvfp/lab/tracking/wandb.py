"""Weights & Biases. `WANDB_MODE=offline` needs no network; `WANDB_PROJECT` names another project."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from cvfp.data.extras import require
from cvfp.lab.tracking.base import TrackedPoint, TrackedRun, Tracker, phase_of, values_of
from cvfp.records.errors import InputError
from cvfp.records.metrics import Measurement
from cvfp.records.results import RunRecord
from cvfp.records.schema import explain

PROJECT = "cvfp"


class Wandb(Tracker):
    """A step is a line of `metrics.jsonl`; charts have the step of the phase as their x axis."""

    name = "wandb"

    def __init__(self, folder: Path) -> None:
        self.folder, self.wandb = folder, require("wandb", "wandb")
        try:
            mode = self.wandb.setup().settings.mode
        except ValidationError as error:
            raise InputError(f"--track wandb: its settings are wrong: {explain(error)}") from error
        if mode == "online" and not self.wandb.login(prompt=False):
            raise InputError("--track wandb: it has no key; run `wandb login`, or set WANDB_MODE=offline")

    def begin(self, point: TrackedPoint, earlier: tuple[Measurement, ...]) -> TrackedRun:
        """Go on with the run of that id where wandb has it, behind its last step."""
        self.folder.mkdir(parents=True, exist_ok=True)
        run = self.wandb.init(
            project=os.environ.get("WANDB_PROJECT", PROJECT),
            id=point.id,
            name=point.name,
            group=point.group,
            config=point.config,
            dir=self.folder,
            resume="allow",
            reinit="create_new",
            settings=self.wandb.Settings(console="off", silent=True, disable_code=True),
        )
        return _Run(run)


class _Run(TrackedRun):
    def __init__(self, run: Any) -> None:
        self.run, self.known = run, run.step
        self.phases: set[str] = set()

    def log(self, number: int, line: Measurement) -> None:
        if number < self.known:  # logged before an interruption
            return
        phase = phase_of(line)
        if phase not in self.phases:
            self.phases.add(phase)
            self.run.define_metric(f"{phase}/*", step_metric=f"{phase}/step")
        self.run.log(values_of(line) | {f"{phase}/step": line.step}, step=number)

    def finish(self, record: RunRecord) -> None:
        row = record.point.model_dump(mode="json", exclude_none=True)
        self.run.summary.update(row if record.error is None else row | {"error": record.error})
        self.run.finish(exit_code=0 if record.error is None else 1)

    def leave(self) -> None:
        self.run.finish(exit_code=1)
