"""One point at a time, trained by all processes that torch's launcher has started (`torchrun -m cvfp run`).

The first process runs the sweep and writes; the others take part in each training it begins.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import torch

from cvfp.arms.base import Budget
from cvfp.data.dataset import Dataset
from cvfp.lab.datasets import Datasets
from cvfp.lab.monitor import Monitor
from cvfp.lab.point import PointResult, run_point
from cvfp.lab.runner import SweepOutcome, run_sweep
from cvfp.records.errors import CvfpError, DivergedError, InputError, LostError, WriteError
from cvfp.records.plan import Plan, PlannedPoint
from cvfp.training import group
from cvfp.training.savepoint import EVERY_SECONDS


def run_together(
    plan: Plan,
    out: Path,
    device: torch.device,
    monitor: Monitor,
    checkpoints: bool = True,
    retry: bool = False,
    save_every: float = EVERY_SECONDS,
) -> SweepOutcome | None:
    """As `run_sweep`, called by every launched process with its own device; None in all but the first.

    Raises:
        InputError, WriteError: as `run_sweep`.
        LostError: a process ended, or failed in another way than by diverging. What is done is saved.
    """
    with group.joined(device):
        if not group.leads():
            _follow(plan, device)
            return None
        outcome = run_sweep(plan, out, device, monitor, checkpoints, retry, save_every, _begin)
        group.told(None)
    return outcome


def _begin(point: PlannedPoint, dataset: Dataset, budget: Budget) -> PointResult:
    """Compute a point with the others, who may read the data now: it has been prepared."""
    group.told(point.config.run_hash)
    with group.held_together():
        return _compute(point, dataset, budget)


def _follow(plan: Plan, device: torch.device) -> None:
    """Take part in what the first process begins, until it has nothing more."""
    datasets, points = Datasets(lambda note: None), {point.config.run_hash: point for point in plan.points}
    while (run_hash := group.told(None)) is not None:
        point = points[run_hash]
        with suppress(DivergedError):  # the first process keeps a record of it
            _compute(point, datasets.of(point.config), Budget(device))


def _compute(point: PlannedPoint, dataset: Dataset, budget: Budget) -> PointResult:
    """`run_point`. What fails in one process alone must end it: the others wait for its share."""
    try:
        return run_point(point, dataset, budget)
    except (DivergedError, InputError, WriteError):
        raise
    except CvfpError as error:
        raise LostError(f"{group.who()} cannot go on: {error}") from error
