"""Running a plan: one point after the other that has no result yet and that no other process has."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from cvfp.arms.base import Budget, make_arm
from cvfp.data.dataset import Dataset
from cvfp.lab.checkpoint import save_point
from cvfp.lab.foresight import register_forecasts
from cvfp.lab.machine import environment
from cvfp.lab.messages import (
    LogFile,
    Note,
    PointFinished,
    PointStarted,
    Progress,
    SweepFinished,
    SweepStarted,
    Tell,
    point_label,
    tell_all,
    tell_nobody,
)
from cvfp.lab.options import DEFAULTS, RunOptions
from cvfp.lab.plan import MIXTURE
from cvfp.lab.point import Datasets, PointResult, components, failed, mix, run_point
from cvfp.lab.sweep_directory import Ledger, SweepDirectory
from cvfp.metrics.cost import relative_cost
from cvfp.models.parts import ran_out_of_memory
from cvfp.records.config import RunConfig
from cvfp.records.errors import CrowdedError, CvfpError, InputError, LostError, WriteError
from cvfp.records.locks import QUIET_SECONDS, TOLD_EVERY, waiting_text
from cvfp.records.plan import Plan, PlannedPoint
from cvfp.records.results import RunRecord
from cvfp.scaling.summary import fit_lines, summarise
from cvfp.training.events import Event

POLL_SECONDS = 0.5
"""Between two looks for a point to take, when other processes have all that are left."""
NAMED = 3
"""Runs that are named of those that are waited for."""


def run_sweep(
    plan: Plan,
    out: Path,
    device: torch.device,
    tell: Tell = tell_nobody,
    options: RunOptions = DEFAULTS,
) -> SweepOutcome:
    """Run what is missing of `plan` in the directory `out`; what has a result is kept.

    Any number of processes may do so at once: each takes points that no other has, and stays until all have a
    result. A point that failed keeps its error, unless `options.retry` asks for another try. A point that was
    interrupted goes on from where it was saved.

    Raises:
        InputError: `out` holds something else, or the data cannot serve the plan.
        WriteError: `out` cannot be written.
    """
    return Worker(Job(SweepDirectory(out, plan), device, options), tell).run_sweep()


# --- A sweep begins and ends in the same way, whoever runs its points.


@dataclass(frozen=True)
class SweepOutcome:
    """How many points are done, which failed (with their errors), and which diverged."""

    done: int
    failed: tuple[RunRecord, ...]
    diverged: tuple[RunRecord, ...]


def begin(directory: SweepDirectory, retry: bool) -> list[PlannedPoint]:
    """Write the plan and the heading of the log; the points to run, with `retry` also those that failed."""
    directory.create()
    if retry:
        directory.forget_failures()
    pending = directory.pending()
    if pending:
        plan = directory.plan
        heading = f"{plan.name}: {plan.description} ({plan.protocol} protocol)"
        LogFile(directory.files.output)(Note(heading))
    return pending


def settle(directory: SweepDirectory, tell: Tell) -> SweepOutcome:
    """Leave the directory of a sweep whose points all have a result as it stays, and tell the lines.

    The tables are those of all records; what killed processes left is taken away.
    """
    directory.clean()
    with Ledger(directory.path, lambda text: tell(Note(text))).writing():
        directory.write_results()
    records = directory.records()
    points = [record.point for record in records.values()]
    tell(SweepFinished(tuple(summarise(fit_lines(points, directory.plan.analysis)))))
    done, failed, diverged = (
        tuple(record for record in records.values() if record.point.status == status)
        for status in ("done", "failed", "diverged")
    )
    return SweepOutcome(len(done), failed, diverged)


def open_data(datasets: Datasets, pending: list[PlannedPoint]) -> None:
    """Open all data, draw largest sizes, look at all tables and arms: what is bad is found at once.

    Raises:
        InputError: the data cannot serve the points.
    """
    for config in {point.config.config_hash: point.config for point in pending}.values():
        datasets.of(config).train(config.data.num_samples, config.draw)
        datasets.check_table(config)
        make_arm(config, datasets.of(config).vocab_size)


# --- One process at work on the points.


@dataclass(frozen=True)
class Job:
    """What a worker is sent: the sweep, where to compute, and how."""

    directory: SweepDirectory
    device: torch.device
    options: RunOptions


ALONE = (1, 1)


class Worker:
    """One process at work on a plan in its directory; it logs what it tells.

    `company` tells, at any moment, how many processes are on its device, and how often that has changed.
    """

    def __init__(self, job: Job, tell: Tell, company: Sequence[int] = ALONE) -> None:
        self.directory, self.device, self.options = job.directory, job.device, job.options
        self.company = company
        self.ledger = Ledger(self.directory.path, lambda text: self.tell(Note(text)))
        self.log = LogFile(self.directory.files.output)
        self.tell = tell_all(self.log, tell)
        self.datasets = Datasets(tell)  # what they note before there is a directory is logged when there is
        self.environment = environment(job.device)
        self.started = time.time()

    def run_sweep(self) -> SweepOutcome:
        """Run the sweep from its beginning to its end. Raises as the function of this name."""
        self.directory.check()
        open_data(self.datasets, self.directory.pending(self.options.retry))
        pending = begin(self.directory, self.options.retry)
        if pending:
            self._sign_in()
        self.tell(SweepStarted(len(self.directory.plan.points), tuple(pending)))
        self._work(pending)
        return settle(self.directory, self.tell)

    def help(self) -> None:
        """Take part in a sweep that another process has begun and will settle.

        Raises:
            InputError, WriteError: as `run_sweep`.
            CrowdedError: memory ran out beside other processes; the point is left to whoever takes it.
        """
        pending = self.directory.pending()
        open_data(self.datasets, pending)
        if pending:
            self._sign_in()
        self._work(pending)

    def compute(self, point: PlannedPoint, dataset: Dataset, budget: Budget) -> PointResult:
        """The result of a point that is trained. Raises as `run_point`."""
        return run_point(point, dataset, budget)

    def _sign_in(self) -> None:
        """Log the machine, and what the data layer noted; write versions, machine and data.

        Raises `InputError` when the data is not what the points that are already there were computed from.
        """
        made = self.environment
        software = f"cvfp {made['cvfp']}, torch {made['packages']['torch']}, python {made['python']}"
        for text in (f"{made['device']}, {software}", *self.datasets.notes):
            self.log(Note(text))
        with self.ledger.writing():
            self._note_machine()

    def _note_machine(self) -> None:
        held, now = self.directory.metadata(), self.datasets.fingerprints()
        before = held.get("datasets", {})
        changed = [name for name, value in now.items() if before.get(name, value) != value]
        if changed:
            raise InputError(
                f"--out {self.directory.path}: the data has changed since its first models were trained "
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

    def _work(self, pending: list[PlannedPoint]) -> None:
        """Run points until all have a result, whoever found it; waiting for others is told."""
        idle, told = time.monotonic(), -TOLD_EVERY
        while pending:
            if any(self._take(point) for point in _in_order(pending)):
                idle, told = time.monotonic(), -TOLD_EVERY
            else:
                time.sleep(POLL_SECONDS)
                waited = time.monotonic() - idle
                if waited >= max(QUIET_SECONDS, told + TOLD_EVERY):
                    told = waited
                    self.tell(Note(waiting_text(_names(pending), waited)))
            pending = self.directory.pending()

    def _take(self, point: PlannedPoint) -> bool:
        """Run the point, if it is still there to be taken."""
        with self.ledger.claim(point.config.run_hash) as ours:
            if not ours or self.directory.has_result(point) or not self._ready(point):
                return False
            with self.ledger.writing():
                register_forecasts(self.directory, self.datasets, point, self.log)
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
        saves = run.begin(config.relevant(), self.environment, self.options.save_every)
        self.tell(PointStarted(point))

        def listen(event: Event) -> None:
            run.log(event)
            self.tell(Progress(event))

        dataset, company = self.datasets.of(config), tuple(self.company)
        try:
            if config.arm == MIXTURE:
                result = mix(self.directory, point, dataset)
            else:
                result = self.compute(point, dataset, Budget(self.device, listen, saves))
        except (InputError, LostError, WriteError):
            raise
        except KeyboardInterrupt:
            run.keep_time()
            raise
        except (CvfpError, MemoryError, RuntimeError) as error:
            if not _is_failure(error):
                raise
            if ran_out_of_memory(error) and not self._was_alone(company):
                run.keep_time()
                raise CrowdedError(
                    f"{point_label(point)}: memory ran out beside others, it runs again"
                ) from None
            record = failed(point, f"{type(error).__name__}: {error}")
        else:
            self._keep(result, config, dataset)
            record = result.record
        record = run.finish(record)
        self.tell(PointFinished(point, record))
        with self.ledger.writing():
            self.directory.write_results()
            self.directory.add_busy(started, time.time())

    def _was_alone(self, company: tuple[int, ...]) -> bool:
        """Whether no other process was on the device since its company was that."""
        return company[0] == 1 and tuple(self.company) == company

    def _keep(self, result: PointResult, config: RunConfig, dataset: Dataset) -> None:
        run = self.directory.run_directory(result.record.run_hash)
        run.write_losses(result.nll, dataset.test.offsets, result.dev_nll)
        if self.options.checkpoints:
            save_point(result, config, dataset.tokenizer, self.environment, run.path / "checkpoint")


def _is_failure(error: Exception) -> bool:
    """Whether the point could not be computed: it diverged at once, or memory ran out. All else is a bug."""
    return isinstance(error, CvfpError) or ran_out_of_memory(error)


def _names(pending: list[PlannedPoint]) -> str:
    """`2 runs (cvfp 1L_768d_2tok, 50 samples, seed 42; ...)`."""
    labels = [point_label(point) for point in pending[:NAMED]]
    more = [f"{len(pending) - NAMED} more"] if len(pending) > NAMED else []
    return f"{len(pending)} run{'s' if len(pending) > 1 else ''} ({'; '.join([*labels, *more])})"


def _in_order(pending: list[PlannedPoint]) -> list[PlannedPoint]:
    """By size; first those whose line has all its smaller sizes, so that they can be forecast from them. Of
    one size the costliest first: what begins last should not be what all others then wait for."""
    smallest: dict[str, int] = {}
    for point in pending:
        line, size = point.config.config_hash, point.config.data.num_samples
        smallest[line] = min(size, smallest.get(line, size))

    def rank(point: PlannedPoint) -> tuple[bool, int, float]:
        size = point.config.data.num_samples
        return size > smallest[point.config.config_hash], size, -relative_cost(point.config)

    return sorted(pending, key=rank)
