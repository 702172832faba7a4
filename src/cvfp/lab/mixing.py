"""A point of the arm `mixture`: made of what the runs of other arms of its sweep have stored."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from cvfp.arms.base import CLOSED_FORM, Facts
from cvfp.arms.mixture import mixed_nll, mixture_weights
from cvfp.data.dataset import Dataset
from cvfp.lab.point import PointResult, mixed_point
from cvfp.lab.run_directory import RunDirectory
from cvfp.lab.sweep_directory import SweepDirectory
from cvfp.metrics.perplexity import perplexity
from cvfp.records.errors import CvfpError
from cvfp.records.plan import PlannedPoint
from cvfp.records.results import RunRecord


def components(directory: SweepDirectory, point: PlannedPoint) -> list[PlannedPoint]:
    """The points that a mixture is made of: those of its lines with its size, seed and draw."""
    config = point.config
    at = (config.data.num_samples, config.seed, config.draw)
    found = {
        other.config.config_hash: other
        for other in directory.plan.points
        if (other.config.data.num_samples, other.config.seed, other.config.draw) == at
    }
    return [found[line] for line in config.mixture.lines]


def mix(directory: SweepDirectory, point: PlannedPoint, dataset: Dataset) -> PointResult:
    """Choose the weights on dev, score the test split. Raises `CvfpError` where a component has failed."""
    started = time.perf_counter()
    parts, records = components(directory, point), directory.records()
    made = [records[part.config.run_hash] for part in parts]
    for part, record in zip(parts, made, strict=True):
        if record.point.status == "failed":
            raise CvfpError(f"{part.config.arm} has failed, and the mixture is made of it")
    runs = [directory.run_directory(part.config.run_hash) for part in parts]
    dev, test = _losses(runs, "dev_nll"), _losses(runs, "nll")
    weights = mixture_weights(dev)
    nll, dev_nll = mixed_nll(test, weights), mixed_nll(dev, weights)
    facts = _facts(made, weights.tolist(), perplexity(dev_nll))
    return mixed_point(point, dataset, facts, nll, dev_nll, time.perf_counter() - started)


def _losses(runs: Sequence[RunDirectory], which: str) -> list[np.ndarray]:
    return [run.read_losses()[which] for run in runs]


def _facts(made: Sequence[RunRecord], weights: list[float], dev_ppl: float) -> Facts:
    """Parameters are those of all arms that are mixed; FLOPs of scoring or mixing are not counted."""
    points = [record.point for record in made]
    shares = {point.arm: round(weight, 4) for point, weight in zip(points, weights, strict=True)}
    return Facts(
        stop_reason=CLOSED_FORM,
        total_params=sum(point.total_params or 0 for point in points),
        trained_params=sum(point.trained_params or 0 for point in points),
        dev_ppl=dev_ppl,
        flops=sum(point.flops or 0.0 for point in points),
        prior=tuple(dict.fromkeys(source for record in made for source in record.facts.prior)),
        notes={"weights": shares},
    )
