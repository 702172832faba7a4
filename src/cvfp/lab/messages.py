"""What a sweep tells while it runs: messages, which are values, to whoever watches, which is one callable.

The command line draws bars of them, trackers chart them, the log keeps them as lines.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from cvfp.records.config import NO_TEST
from cvfp.records.files import append_text
from cvfp.records.plan import PlannedPoint
from cvfp.records.results import RunRecord, SummaryRecord
from cvfp.training.events import Event


@dataclass(frozen=True, kw_only=True)
class Message:
    """Something that happened, in the process called `worker`; "" is the one that runs the sweep."""

    worker: str = ""


@dataclass(frozen=True)
class SweepStarted(Message):
    """`pending` of `total` points are still to be run."""

    total: int
    pending: tuple[PlannedPoint, ...]


@dataclass(frozen=True)
class Note(Message):
    """One line worth keeping."""

    text: str


@dataclass(frozen=True)
class PointStarted(Message):
    """The worker has begun a point, or goes on with it."""

    point: PlannedPoint


@dataclass(frozen=True)
class Progress(Message):
    """What the training of the worker's point reports."""

    event: Event


@dataclass(frozen=True)
class PointFinished(Message):
    """The point has its record: it is done, has failed, or diverged."""

    point: PlannedPoint
    record: RunRecord


@dataclass(frozen=True)
class Failed(Message):
    """The worker cannot go on; others may."""

    error: str


@dataclass(frozen=True)
class SweepFinished(Message):
    """All points have a record; `lines` are the summaries of all lines."""

    lines: tuple[SummaryRecord, ...]


Tell = Callable[[Message], None]
"""Whoever watches a sweep. What it raises ends the sweep."""


def tell_nobody(message: Message) -> None:
    """The one who is told when nobody watches."""


def tell_all(*tells: Tell) -> Tell:
    """Several who watch as one, told in this order."""

    def tell(message: Message) -> None:
        for each in tells:
            each(message)

    return tell


# --- The log, and the words for points, records and lines.


class LogFile:
    """`output.txt`: one time-stamped line per thing that happened, appended.

    What is told of a point begins with its run hash: several processes may write at once. The lines of a
    sweep that was done already are in the log, and are not written again.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_hash = ""
        self.pending, self.tested = 0, True

    def __call__(self, message: Message) -> None:
        match message:
            case SweepStarted(total, pending):
                self.pending = len(pending)
                self.tested = all(point.config.data.test_tokens != NO_TEST for point in pending)
                done = total - len(pending)
                self._write(f"{total} runs, {done} done before, {len(pending)} to run")
            case Note(text):
                self._write(text)
            case Failed(error):
                self._write(f"failed: {error}")
            case PointStarted(point):
                self.run_hash = point.config.run_hash
                self._write(f"{self.run_hash}  start  {point_label(point)}")
            case Progress(event) if event.values:
                numbers = "  ".join(f"{name} {value:.5g}" for name, value in event.values.items())
                self._write(f"{self.run_hash}  {event.phase}  {event.step}/{event.total}  {numbers}")
            case PointFinished(point, record):
                self._write(f"{self.run_hash}  end    {point_label(point)}: {outcome(point, record)}")
            case SweepFinished(lines) if self.pending and self.tested:
                for line in lines:
                    self._write(f"line   {line.arm} {line.config_name}: {law_text(line)}")

    def _write(self, text: str) -> None:
        append_text(self.path, f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")


def point_label(point: PlannedPoint) -> str:
    """`cvfp 1L_768d_2tok, 50 samples, seed 42`."""
    config = point.config
    return f"{config.arm} {point.config_name}, {config.data.num_samples} samples, seed {config.seed}"


def outcome(point: PlannedPoint, record: RunRecord) -> str:
    """The figures of a finished point in one line, or the error of a failed one.

    A trial of a tuning sees a token of the test text, and has no figures of it.
    """
    row, tested, parts = record.point, point.config.data.test_tokens != NO_TEST, []
    if row.status == "failed":
        return f"FAILED: {record.error}"
    if row.status == "diverged":
        parts.append(f"DIVERGED: {row.nats:.4g} nats per token" if tested else "DIVERGED")
    elif tested:
        parts.append(f"test PPL {row.val_ppl:.1f}")
    if row.dev_ppl is not None:
        parts.append(f"dev PPL {row.dev_ppl:.1f}")
    if tested and row.val_acc is not None:
        parts.append(f"accuracy {row.val_acc:.1%}")
    if tested and row.bits_per_byte is not None:
        parts.append(f"{row.bits_per_byte:.3f} bits/byte")
    if row.val_er is not None:
        parts.append(f"ER {row.val_er:.1%}")
    if row.phase1_iter is not None:
        parts.append(f"phase 1 {'' if record.phase1_converged else '>= '}{row.phase1_iter} iterations")
    if row.stop_reason is not None:
        parts.append(row.stop_reason)
    if row.wall_seconds is not None:
        parts.append(f"{row.wall_seconds:.1f} s")
    return ", ".join(parts)


def law_text(line: SummaryRecord) -> str:
    """The law of a line and its best score in one line."""
    best = "no score" if line.best_ppl is None else f"best test PPL {line.best_ppl:.1f}"
    if line.alpha is None:
        return f"no fit, {best}"
    law = f"PPL = {line.A:.4g} * tokens^{line.alpha:.4f}, R2 {line.r_squared:.4f}"
    if line.alpha_ci95 is not None:
        low, high = line.alpha_ci95
        law += f", 95% interval of the exponent {low:.4f} to {high:.4f} (over {line.interval_kind})"
    return f"{law}, {line.fitted_points} points in the fit, {best}"
