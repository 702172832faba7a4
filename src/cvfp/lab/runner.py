"""Running a plan: one point after the other that has no result yet and that no other process has."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from cvfp.arms.base import Budget, make_arm
from cvfp.data.dataset import Dataset
from cvfp.lab.checkpoint import save_point
from cvfp.lab.foresight import register_forecasts
from cvfp.lab.machine import environment
from cvfp.lab.monitor import LogFile, Monitor, Monitors
from cvfp.lab.plan import MIXTURE
from cvfp.lab.point import Datasets, PointResult, components, failed, mix, run_point
from cvfp.lab.sweep_directory import Ledger, SweepDirectory
from cvfp.models.parts import ran_out_of_memory
from cvfp.records.config import RunConfig
from cvfp.records.errors import CvfpError, InputError, LostError, WriteError
from cvfp.records.plan import Plan, PlannedPoint
from cvfp.records.results import RunRecord
from cvfp.scaling.summary import fit_lines, summarise
from cvfp.training.savepoint import EVERY_SECONDS

Compute = Callable[[PlannedPoint, Dataset, Budget], PointResult]
POLL_SECONDS = 0.5
"""Between two looks for a point to take, when other processes have all that are left."""


@dataclass(frozen=True)
class SweepOutcome:
    """How many points are done, and which failed (label and error)."""

    done: int
    failed: tuple[RunRecord, ...]


def run_sweep(
    plan: Plan,
    out: Path,
    device: torch.device,
    monitor: Monitor,
    checkpoints: bool = True,
    retry: bool = False,
    save_every: float = EVERY_SECONDS,
    compute: Compute | None = None,
) -> SweepOutcome:
    """Run what is missing of `plan` in the directory `out`; what has a result is kept.

    Any number of processes may do so at once: each takes points that no other has, and stays until all have a
    result. A point that failed keeps its error, unless `retry` asks for another try. A point that was
    interrupted goes on from where it was saved, which is every `save_every` seconds. `compute` stands in for
    `run_point`.

    Raises:
        InputError: `out` holds something else, or the data cannot serve the plan.
        WriteError: `out` cannot be written.
    """
    directory = SweepDirectory(out, plan)
    directory.check()
    pending = directory.pending(retry)
    datasets = _open_data(pending, monitor)
    directory.create()
    if retry:
        directory.forget_failures()
    return _Worker(directory, datasets, device, monitor, checkpoints, save_every, compute or run_point).run()


def _is_failure(error: Exception) -> bool:
    """Whether the point could not be computed: it diverged, or memory ran out. All else is a bug."""
    return isinstance(error, CvfpError) or ran_out_of_memory(error)


def _open_data(pending: list[PlannedPoint], monitor: Monitor) -> Datasets:
    """Open all data, draw every largest size, look at all tables and arms: what is bad is found at once."""
    datasets = Datasets(monitor.note)
    for config in {point.config.config_hash: point.config for point in pending}.values():
        datasets.of(config).train(config.data.num_samples, config.draw)
        datasets.check_table(config)
        make_arm(config, datasets.of(config).vocab_size)
    return datasets


class _Worker:
    """One process at work on a plan in its directory."""

    def __init__(
        self,
        directory: SweepDirectory,
        datasets: Datasets,
        device: torch.device,
        monitor: Monitor,
        checkpoints: bool,
        save_every: float,
        compute: Compute,
    ) -> None:
        self.directory, self.datasets, self.device = directory, datasets, device
        self.checkpoints, self.save_every, self.compute = checkpoints, save_every, compute
        self.ledger = Ledger(directory.path)
        self.log = LogFile(directory.files.output)
        self.monitor = Monitors([self.log, monitor])
        self.environment = environment(device)
        self.started = time.time()

    def _heading(self) -> tuple[str, str]:
        """What the log begins with: the experiment, and where it runs."""
        plan, made = self.directory.plan, self.environment
        software = f"cvfp {made['cvfp']}, torch {made['packages']['torch']}, python {made['python']}"
        return f"{plan.name}: {plan.description} ({plan.protocol} protocol)", f"{made['device']}, {software}"

    def run(self) -> SweepOutcome:
        pending = self.directory.pending()
        if pending:
            for text in (*self._heading(), *self.datasets.notes):
                self.log.note(text)
            with self.ledger.writing():
                self._note_machine()
        self._clean()
        self.monitor.sweep_started(len(self.directory.plan.points), len(pending))
        worked = bool(pending)
        while pending:
            if not any(self._take(point) for point in _in_order(pending)):
                time.sleep(POLL_SECONDS)
            pending = self.directory.pending()
        with self.ledger.writing():
            self.directory.write_results()
        records = self.directory.records()
        if worked:
            points = [record.point for record in records.values()]
            self.monitor.sweep_finished(summarise(fit_lines(points, self.directory.plan.analysis)))
        failures = tuple(record for record in records.values() if record.point.status == "failed")
        return SweepOutcome(len(records) - len(failures), failures)

    def _note_machine(self) -> None:
        """Write versions, machine and data.

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
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.started))
        self.directory.update_metadata(
            {
                "started": held.get("started", stamp),
                "environments": machines if self.environment in machines else [*machines, self.environment],
                "datasets": before | now,
                "notes": list(dict.fromkeys([*held.get("notes", []), *self.datasets.notes])),
                "data": [*held.get("data", []), *self.datasets.stats(except_for=before)],
            }
        )

    def _clean(self) -> None:
        """Take away what killed processes have left; what others are at work on stays."""
        self.directory.clean()
        for point in self.directory.plan.points:
            run_hash = point.config.run_hash
            if self.directory.has_result(point):
                with self.ledger.claim(run_hash) as ours:
                    if ours:
                        self.directory.run_directory(run_hash).clean()

    def _take(self, point: PlannedPoint) -> bool:
        """Run the point, if it is still there to be taken."""
        with self.ledger.claim(point.config.run_hash) as ours:
            if not ours or self.directory.has_result(point) or not self._ready(point):
                return False
            with self.ledger.writing():
                register_forecasts(self.directory, self.datasets, point, self.log.note)
            self._run(point)
            return True

    def _ready(self, point: PlannedPoint) -> bool:
        """Whether all is there that the point is made of."""
        parts = components(self.directory, point) if point.config.arm == MIXTURE else []
        return all(self.directory.has_result(part) for part in parts)

    def _run(self, point: PlannedPoint) -> None:
        config, started = point.config, time.time()
        run = self.directory.run_directory(config.run_hash)
        run.clean()
        saves = run.begin(config.relevant(), self.environment, self.save_every)
        self.monitor.point_started(point)

        def listen(event) -> None:
            run.log(event)
            self.monitor.event(event)

        budget = Budget(self.device, listen, saves)
        dataset = self.datasets.of(config)
        try:
            if config.arm == MIXTURE:
                result = mix(self.directory, point, dataset)
            else:
                result = self.compute(point, dataset, budget)
        except (InputError, LostError, WriteError):
            raise
        except (CvfpError, MemoryError, RuntimeError) as error:
            if not _is_failure(error):
                raise
            record = failed(point, f"{type(error).__name__}: {error}")
        else:
            self._keep(result, config, dataset)
            record = result.record
        run.finish(record)
        self.monitor.point_finished(point, record)
        with self.ledger.writing():
            self.directory.write_results()
            self.directory.add_busy(started, time.time())

    def _keep(self, result: PointResult, config: RunConfig, dataset: Dataset) -> None:
        run = self.directory.run_directory(result.record.run_hash)
        run.write_losses(result.nll, dataset.test.offsets, result.dev_nll)
        if self.checkpoints:
            save_point(result, config, dataset.tokenizer, self.environment, run.path / "checkpoint")


def _in_order(pending: list[PlannedPoint]) -> list[PlannedPoint]:
    """By size; first those whose line has all its smaller sizes, so that they can be forecast from them."""
    smallest: dict[str, int] = {}
    for point in pending:
        line, size = point.config.config_hash, point.config.data.num_samples
        smallest[line] = min(size, smallest.get(line, size))

    def rank(point: PlannedPoint) -> tuple[bool, int]:
        size = point.config.data.num_samples
        return size > smallest[point.config.config_hash], size

    return sorted(pending, key=rank)
