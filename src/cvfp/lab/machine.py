"""This machine: what a result was computed with, and what a plan will cost on it, before anything runs."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import cvfp
from cvfp.arms.base import make_arm
from cvfp.data.dataset import Dataset
from cvfp.lab.point import Datasets
from cvfp.metrics.cost import run_cost
from cvfp.records.config import RunConfig
from cvfp.records.plan import Plan
from cvfp.records.texts import duration
from cvfp.training import group
from cvfp.training.devices import describe_device

PACKAGES = ("torch", "numpy", "scipy", "tokenizers", "tiktoken", "chitchat-dataset")


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, commit of the source tree (None when installed from a package), device and processor.

    The device of processes that train together has their number before it.
    """
    together = f"{group.world_size()} x " if group.world_size() > 1 else ""
    return {
        "cvfp": cvfp.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": together + describe_device(device),
        "cores": os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout that this file lies in; None when it is in none, or git is not there."""
    here = Path(__file__).parent
    if not any((parent / "src" / "cvfp").is_dir() and (parent / ".git").exists() for parent in here.parents):
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()


# --- What a plan will cost on this machine, before anything runs.


LONG_HOURS = 1.0
"""From here on the verdict says what would make it shorter."""
EFFICIENCY = 0.5
"""Share of the measured matrix rate that training reaches (measured on 2 cores: softmax takes the rest)."""
SMALL = 1_000_000
"""Parameters below which it reaches less: models of 25 to 210 thousand, which were foretold 2 min 42 s, took
4 min 50 s."""


@dataclass(frozen=True)
class PointEstimate:
    """Training to the caps (most runs stop earlier) with all evaluations; seconds are a rough guess."""

    arm: str
    config_name: str
    num_samples: int
    seed: int
    train_tokens: int
    total_params: int | None
    flops: float | None
    """None: not known, of a user's own arm."""
    seconds: float | None


@dataclass(frozen=True)
class PlanEstimate:
    """Every point, and the matrix rate that seconds were computed from."""

    points: tuple[PointEstimate, ...]
    device: str
    flops_per_second: float

    @property
    def hours(self) -> float:
        """The hours that the points of known cost take."""
        return sum(point.seconds for point in self.points if point.seconds is not None) / 3600

    def verdict(self) -> str:
        """How long if no run stops early; on a CPU where that is long, flags that make it fit an hour."""
        speed = f"{self.device} ({self.flops_per_second / 1e9:,.0f} GFLOP/s)"
        unknown = sum(point.seconds is None for point in self.points)
        line = (
            f"{len(self.points)} runs, about {duration(3600 * self.hours)} on {speed} if all go to their caps"
        )
        if any(point.total_params is not None and point.total_params < SMALL for point in self.points):
            line += "; models this small can take twice as long as their FLOPs say"
        line += f", and {unknown} runs of models of your own, which take what they take" if unknown else ""
        if self.hours < LONG_HOURS or self.device != "cpu":
            return line
        fits = [f"{flags} (about {duration(seconds)})" for flags, seconds in self._shorter()]
        return f"{line}\nTo make it fit: {', or '.join([*fits, 'a GPU', 'cvfp quickstart'])}"

    def _shorter(self) -> list[tuple[str, float]]:
        """Flags that leave runs out, with the seconds that are left: fewer seeds, then fewer sizes too."""
        seeds = sorted({point.seed for point in self.points})
        first = [point for point in self.points if point.seed == seeds[0]]
        found = [("--seeds 1", self._seconds(first))] if len(seeds) > 1 else []
        sizes = sorted({point.num_samples for point in self.points})
        for count in range(len(sizes) - 1, 0, -1):
            left = self._seconds([point for point in first if point.num_samples in sizes[:count]])
            if left < 3600 * LONG_HOURS:
                seed = "--seeds 1 " if len(seeds) > 1 else ""
                found.append((f"{seed}--samples {' '.join(map(str, sizes[:count]))}", left))
                break
        return found

    @staticmethod
    def _seconds(points: Sequence[PointEstimate]) -> float:
        return sum(point.seconds for point in points if point.seconds is not None)

    def rows(self) -> list[tuple[str, ...]]:
        """One for each curve: its runs, sizes, parameters, FLOPs and time."""
        lines: dict[tuple[str, str], list[PointEstimate]] = {}
        for point in self.points:
            lines.setdefault((point.arm, point.config_name), []).append(point)
        return [
            (
                arm,
                name,
                str(len(points)),
                ", ".join(f"{size:,}" for size in sorted({point.num_samples for point in points})),
                "" if points[0].total_params is None else f"{points[0].total_params:,}",
                "unknown"
                if points[0].flops is None
                else f"{sum(point.flops or 0.0 for point in points):.2g}",
                "unknown" if points[0].seconds is None else duration(self._seconds(points)),
            )
            for (arm, name), points in lines.items()
        ]

    def as_dict(self) -> dict[str, Any]:
        return {**asdict(self), "hours": self.hours}


def estimate_plan(plan: Plan, device: torch.device) -> PlanEstimate:
    """Tokens, parameters, FLOPs and seconds of every point (opens, and if need be tokenizes, the data).

    Raises:
        InputError: the data, or a user's own arm, cannot serve the plan.
    """
    rate, datasets = matrix_rate(device), Datasets()
    points = []
    for planned in plan.points:
        config = planned.config
        make_arm(config, datasets.of(config).vocab_size)
        points.append(_estimate(config, planned.config_name, datasets.of(config), rate))
    return PlanEstimate(tuple(points), device.type, rate)


def _estimate(config: RunConfig, name: str, dataset: Dataset, rate: float) -> PointEstimate:
    tokens = len(dataset.train(config.data.num_samples, config.draw).tokens)
    cost, flops = run_cost(config, dataset.vocab_size, tokens), None if config.own is not None else 0.0
    if cost is not None:
        scored = _evaluations(config, tokens) * len(dataset.dev) + len(dataset.test)
        flops = cost.flops + 2.0 * scored * cost.scored_madds
    return PointEstimate(
        config.arm,
        name,
        config.data.num_samples,
        config.seed,
        tokens,
        None if cost is None else cost.total_params,
        flops,
        None if flops is None else flops / (rate * EFFICIENCY),
    )


def _evaluations(config: RunConfig, tokens: int) -> int:
    """Evaluations on dev if training runs to its cap."""
    settings = config.resolved().token_training
    assert settings is not None  # arms that count cost nothing
    epoch_steps = -(-tokens // settings.step_tokens)
    every = settings.steps_between_evaluations(epoch_steps)
    return settings.most_tokens(tokens) // (settings.step_tokens * every)


def matrix_rate(device: torch.device, size: int = 1024, seconds: float = 0.3) -> float:
    """FLOP/s of a float32 matrix product on this device, measured for a moment."""
    a = torch.randn(size, size, device=device)
    products, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        float((a @ a)[0, 0])
        products += 1
    return products * 2 * size**3 / (time.perf_counter() - started)
