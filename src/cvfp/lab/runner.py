"""Running a plan: every point that has no result yet, one after the other, each recorded when it is done."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from filelock import FileLock, Timeout

from cvfp.arms.base import Budget
from cvfp.arms.registry import make_arm
from cvfp.data.dataset import Dataset
from cvfp.lab.datasets import Datasets
from cvfp.lab.foresight import register_forecasts
from cvfp.lab.machine import environment
from cvfp.lab.monitor import LogFile, Monitor, Monitors
from cvfp.lab.point import PointResult, failed, run_point
from cvfp.lab.sweep_directory import LOCK, SweepDirectory
from cvfp.models.parts import ran_out_of_memory
from cvfp.records.errors import CvfpError, InputError
from cvfp.records.plan import Plan, PlannedPoint
from cvfp.records.results import RunRecord
from cvfp.scaling.summary import summarise

LOCK_SECONDS = 2
"""Longest wait for the sweep's lock: `cvfp status` holds it for a moment."""


@dataclass(frozen=True)
class SweepOutcome:
    """How many points are done, and which failed (label and error)."""

    done: int
    failed: tuple[RunRecord, ...]


def run_sweep(
    plan: Plan, out: Path, device: torch.device, monitor: Monitor, checkpoints: bool = True
) -> SweepOutcome:
    """Run what is missing of `plan` in the directory `out`; finished points are kept, failed ones retried.

    Raises:
        InputError: `out` holds something else, or the data cannot serve the plan.
        CvfpError: another process is running this sweep, or `out` cannot be written.
    """
    directory = SweepDirectory(out, plan)
    directory.check()
    datasets = _open_data(directory, monitor)
    directory.create()
    try:
        with FileLock(directory.path / LOCK, timeout=LOCK_SECONDS):
            return _Sweep(directory, datasets, device, monitor, checkpoints).run()
    except Timeout as error:
        raise CvfpError(f"--out {out}: another process is running this sweep") from error


def _is_failure(error: Exception) -> bool:
    """Whether the point could not be computed: it diverged, or memory ran out. All else is a bug."""
    return isinstance(error, CvfpError) or ran_out_of_memory(error)


def _size_of(point: PlannedPoint) -> int:
    return point.config.data.num_samples


def _pending(directory: SweepDirectory) -> list[PlannedPoint]:
    records = directory.records()
    done = {run_hash for run_hash, record in records.items() if record.point.status == "done"}
    return [point for point in directory.plan.points if point.config.run_hash not in done]


def _open_data(directory: SweepDirectory, monitor: Monitor) -> Datasets:
    """Open all data, draw every largest size, look at all tables and arms: what is bad is found at once."""
    datasets = Datasets(monitor.note)
    for config in {point.config.config_hash: point.config for point in _pending(directory)}.values():
        datasets.of(config).train(config.data.num_samples, config.draw)
        datasets.check_table(config)
        make_arm(config, datasets.of(config).vocab_size)
    return datasets


class _Sweep:
    """One run of a plan in its directory."""

    def __init__(
        self,
        directory: SweepDirectory,
        datasets: Datasets,
        device: torch.device,
        monitor: Monitor,
        checkpoints: bool,
    ) -> None:
        self.directory, self.datasets, self.device = directory, datasets, device
        self.checkpoints = checkpoints
        self.log = LogFile(directory.files.output)
        self.monitor = Monitors([self.log, monitor])
        self.environment = environment(device)

    def _heading(self) -> tuple[str, str]:
        """What the log begins with: the experiment, and where it runs."""
        plan, made = self.directory.plan, self.environment
        software = f"cvfp {made['cvfp']}, torch {made['packages']['torch']}, python {made['python']}"
        return f"{plan.name}: {plan.description} ({plan.protocol} protocol)", f"{made['device']}, {software}"

    def run(self) -> SweepOutcome:
        started = time.time()
        pending = _pending(self.directory)
        if pending:
            for text in (*self._heading(), *self.datasets.notes):
                self.log.note(text)
        self.monitor.sweep_started(len(self.directory.plan.points), len(pending))
        if pending:
            earlier = self._note_machine(started)
            by_size = itertools.groupby(sorted(pending, key=_size_of), key=_size_of)
            for num_samples, points in by_size:
                register_forecasts(self.directory, self.datasets, num_samples, self.log.note)
                for point in points:
                    self._run(point)
                    self.directory.update_metadata({"wall_seconds": earlier + time.time() - started})
        self.directory.write_results()
        records = self.directory.records()
        if pending:
            points = [record.point for record in records.values()]
            self.monitor.sweep_finished(summarise(points, self.directory.plan.analysis))
        failures = tuple(record for record in records.values() if record.point.status == "failed")
        return SweepOutcome(len(records) - len(failures), failures)

    def _note_machine(self, started: float) -> float:
        """Write versions, machine and data; return the wall seconds of earlier starts.

        Raises `InputError` when the data is not what the points that are already there were computed from.
        """
        held, now = self.directory.metadata(), self.datasets.fingerprints()
        before = held.get("datasets", {})
        changed = [name for name, value in now.items() if before.get(name, value) != value]
        if changed:
            raise InputError(
                f"--out {self.directory.path}: the data has changed since its first points were run "
                f"({changed[0]}); restore it, or give another directory"
            )
        machines = held.get("environments", [])
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(started))
        self.directory.update_metadata(
            {
                "started": held.get("started", stamp),
                "environments": machines if self.environment in machines else [*machines, self.environment],
                "datasets": before | now,
                "notes": list(dict.fromkeys([*held.get("notes", []), *self.datasets.notes])),
                "data": [*held.get("data", []), *self.datasets.stats(except_for=before)],
            }
        )
        return held.get("wall_seconds", 0.0)

    def _run(self, point: PlannedPoint) -> None:
        config = point.config
        run = self.directory.run_directory(config.run_hash)
        run.begin(config.relevant(), self.environment)
        self.monitor.point_started(point)

        def listen(event) -> None:
            run.log(event)
            self.monitor.event(event)

        budget = Budget(self.device, listen)
        dataset = self.datasets.of(config)
        try:
            result = run_point(point, dataset, budget)
        except InputError:
            raise
        except (CvfpError, MemoryError, RuntimeError) as error:
            if not _is_failure(error):
                raise
            record = failed(point, f"{type(error).__name__}: {error}")
        else:
            self._keep(result, dataset)
            record = result.record
        run.finish(record)
        self.monitor.point_finished(point, record)
        self.directory.write_results()

    def _keep(self, result: PointResult, dataset: Dataset) -> None:
        run = self.directory.run_directory(result.record.run_hash)
        run.write_losses(result.scores.nll, dataset.test.offsets)
        if self.checkpoints:
            result.fitted.save(run.path / "checkpoint")
            dataset.tokenizer.save(run.path / "checkpoint")
