"""Who is told what happens while a sweep runs. The command line draws bars; the log keeps lines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

from cvfp.records.files import append_text
from cvfp.records.plan import PlannedPoint
from cvfp.records.results import RunRecord, SummaryRecord
from cvfp.training.events import Event


def point_label(point: PlannedPoint) -> str:
    """`cvfp 1L_768d_2tok, 50 samples, seed 42`."""
    config = point.config
    return f"{config.arm} {point.config_name}, {config.data.num_samples} samples, seed {config.seed}"


class Monitor:
    """Hears everything and does nothing: override what you want to know."""

    def of_worker(self, name: str) -> Monitor:
        """Who is told what one of several processes does."""
        return self

    def sweep_started(self, total: int, pending: int) -> None:
        """`pending` of `total` points are still to be run."""

    def note(self, text: str) -> None:
        """One line worth keeping."""

    def point_started(self, point: PlannedPoint) -> None: ...

    def event(self, event: Event) -> None: ...

    def point_finished(self, point: PlannedPoint, record: RunRecord) -> None: ...

    def sweep_finished(self, lines: Sequence[SummaryRecord]) -> None:
        """Every pending point has been run; `lines` are the summaries of all lines."""


class LogFile(Monitor):
    """`output.txt`: one time-stamped line per thing that happened, appended.

    What is told of a point begins with its run hash: several processes may write at once.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.run_hash = ""

    def _write(self, text: str) -> None:
        append_text(self.path, f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {text}\n")

    def sweep_started(self, total: int, pending: int) -> None:
        self._write(f"{total} points, {total - pending} done before, {pending} to run")

    def note(self, text: str) -> None:
        self._write(text)

    def point_started(self, point: PlannedPoint) -> None:
        self.run_hash = point.config.run_hash
        self._write(f"{self.run_hash}  start  {point_label(point)}")

    def event(self, event: Event) -> None:
        if event.values:
            numbers = "  ".join(f"{name} {value:.5g}" for name, value in event.values.items())
            self._write(f"{self.run_hash}  {event.phase}  {event.step}/{event.total}  {numbers}")

    def point_finished(self, point: PlannedPoint, record: RunRecord) -> None:
        self._write(f"{self.run_hash}  end    {point_label(point)}: {outcome(record)}")

    def sweep_finished(self, lines: Sequence[SummaryRecord]) -> None:
        for line in lines:
            self._write(f"line   {line.arm} {line.config_name}: {law_text(line)}")


class Monitors(Monitor):
    """Several monitors as one."""

    def __init__(self, monitors: Sequence[Monitor]) -> None:
        self.monitors = monitors

    def of_worker(self, name: str) -> Monitor:
        return Monitors([monitor.of_worker(name) for monitor in self.monitors])

    def sweep_started(self, total: int, pending: int) -> None:
        for monitor in self.monitors:
            monitor.sweep_started(total, pending)

    def note(self, text: str) -> None:
        for monitor in self.monitors:
            monitor.note(text)

    def point_started(self, point: PlannedPoint) -> None:
        for monitor in self.monitors:
            monitor.point_started(point)

    def event(self, event: Event) -> None:
        for monitor in self.monitors:
            monitor.event(event)

    def point_finished(self, point: PlannedPoint, record: RunRecord) -> None:
        for monitor in self.monitors:
            monitor.point_finished(point, record)

    def sweep_finished(self, lines: Sequence[SummaryRecord]) -> None:
        for monitor in self.monitors:
            monitor.sweep_finished(lines)


def outcome(record: RunRecord) -> str:
    """The figures of a finished point in one line, or the error of a failed one."""
    row = record.point
    if row.status == "failed":
        return f"FAILED: {record.error}"
    parts = [f"test PPL {row.val_ppl:.1f}"]
    if row.dev_ppl is not None:
        parts.append(f"dev PPL {row.dev_ppl:.1f}")
    if row.val_acc is not None:
        parts.append(f"accuracy {row.val_acc:.1%}")
    if row.bits_per_byte is not None:
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
