"""TensorBoard: event files in a folder for each point, below the sweep directory."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cvfp.data.extras import require
from cvfp.lab.tracking.base import TrackedPoint, TrackedRun, Tracker, numbers_of, values_of
from cvfp.records.metrics import Measurement
from cvfp.records.results import RunRecord

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

FLUSH_SECONDS = 10
SCORES = ("val_ppl", "dev_ppl", "train_ppl", "val_acc", "bits_per_byte", "val_er", "train_er", "wall_seconds")
"""Columns of its table of hyperparameters."""


class TensorBoard(Tracker):
    """Steps are those of the phase; the numbers of the record stand at its training tokens, so that their
    chart over all runs shows how they scale."""

    name = "tensorboard"

    def __init__(self, folder: Path) -> None:
        require("tensorboard", "tensorboard")
        self.folder = folder / "tensorboard"

    def begin(self, point: TrackedPoint, earlier: tuple[Measurement, ...]) -> TrackedRun:
        """Write the folder of the point anew: what an interrupted run logged beyond `earlier` is undone."""
        from torch.utils.tensorboard import SummaryWriter

        path = self.folder / point.name
        for old in path.glob("events.out.tfevents.*"):
            old.unlink()
        run = _Run(SummaryWriter(str(path), flush_secs=FLUSH_SECONDS), point.config)
        for number, line in enumerate(earlier):
            run.log(number, line)
        return run


class _Run(TrackedRun):
    def __init__(self, writer: SummaryWriter, config: dict[str, Any]) -> None:
        from torch.utils.tensorboard.summary import hparams

        self.writer = writer
        plain = {
            key: value if isinstance(value, int | float | str) else str(value)
            for key, value in config.items()
        }
        experiment, start, self.end = hparams(plain, dict.fromkeys(SCORES, 0.0))
        writer.file_writer.add_summary(experiment)
        writer.file_writer.add_summary(start)

    def log(self, number: int, line: Measurement) -> None:
        for name, value in values_of(line).items():
            self.writer.add_scalar(name, value, line.step)

    def finish(self, record: RunRecord) -> None:
        tokens = record.point.train_tokens
        for name, value in numbers_of(record).items():
            self.writer.add_scalar(name, value, 0 if tokens is None else tokens)
        self.writer.file_writer.add_summary(self.end)
        self.writer.close()

    def leave(self) -> None:
        self.writer.close()
