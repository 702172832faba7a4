"""`cvfp tune`: the same number of trials for every arm, over the same ranges, judged on dev alone.

A tuning is a sweep whose variants are the trials, so it resumes like one. Trials after the first one are
points of a scrambled Halton sequence (Owen 2017): they fill the ranges more evenly than random ones
(Bergstra & Bengio 2012).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from scipy.stats import qmc

from cvfp.lab.executors import Execute
from cvfp.lab.monitor import Monitor
from cvfp.lab.plan import make_plan
from cvfp.lab.spec import OWN_SUFFIX, Settings, SweepSpec
from cvfp.lab.sweep_directory import SweepDirectory
from cvfp.records.arms import arm_kind
from cvfp.records.config import RunConfig
from cvfp.records.errors import InputError
from cvfp.records.files import write_json
from cvfp.records.plan import Plan
from cvfp.records.results import PointRecord, RunRecord
from cvfp.records.tuning import KNOBS, ORDER, TUNING, TunedArm, Tuning, tuned_at

LR = (2e-4, 5e-3)
DROPOUT = (0.0, 0.6)
WEIGHT_DECAY = (1e-3, 1.0)
"""Ranges of every arm; learning rate and weight decay uniform in their logarithm."""
ORDERS = (5, 4, 3, 2)
"""Of n-grams, by turns: counting has no learning rate."""
UNSEEN_TEST = {"data.test_tokens": 2}
"""Nothing is chosen on test texts, so trials score a single token of them."""


def trials(number: int, arms: Sequence[str], seed: int = 0) -> list[Settings]:
    """The settings of each trial, for all arms at once; those of the first one are the arms' own.

    Returns:
        one table of dotted keys per trial; an arm reads the keys of its own section.
    """
    sections = dict.fromkeys(arm_kind(arm).training_section for arm in arms if arm_kind(arm).neural)
    points = qmc.Halton(3, rng=seed).random(max(number - 1, 0))
    found: list[Settings] = [{}]
    for index, (lr, dropout, decay) in enumerate(points.tolist(), 1):
        values = {
            "lr": _rounded(_log_uniform(LR, lr)),
            "dropout": _rounded(DROPOUT[0] + dropout * (DROPOUT[1] - DROPOUT[0])),
            "weight_decay": _rounded(_log_uniform(WEIGHT_DECAY, decay)),
        }
        trial = {f"{section}.{key}": value for section in sections for key, value in values.items()}
        found.append(trial | {ORDER: ORDERS[index % len(ORDERS)]})
    return found


def _log_uniform(ends: tuple[float, float], share: float) -> float:
    low, high = (math.log(end) for end in ends)
    return math.exp(low + share * (high - low))


def _rounded(value: float) -> float:
    """Two digits: what was tried is what a reader sees."""
    return float(f"{value:.2g}")


def tuning_spec(spec: SweepSpec, number: int, samples: tuple[int, ...]) -> SweepSpec:
    """The sweep of the trials: a preset's first line, at a small and a large size.

    Raises:
        InputError: a user's own arm among the arms.
    """
    own = [arm for arm in spec.arms if arm.endswith(OWN_SUFFIX)]
    if own:
        raise InputError(f"tune: {own[0]} is a file of yours; what it can be given is for it to say")
    first = spec.variants[0]
    variants = tuple(first | trial | UNSEEN_TEST for trial in trials(number, spec.arms))
    changes = {"name": f"tune-{spec.name}", "samples": samples, "variants": variants, "largest_only": ()}
    return spec.override(**changes)


def tuning_plan(spec: SweepSpec, number: int, samples: tuple[int, ...]) -> Plan:
    """The points of all trials. Raises `InputError` as `tuning_spec` and `make_plan`."""
    return make_plan(tuning_spec(spec, number, samples)).model_copy(update={"protocol": "tuning"})


def tune_sweep(plan: Plan, out: Path, execute: Execute, monitor: Monitor, spec: SweepSpec) -> Tuning:
    """Run the trials that are missing, write what they choose (`tuning.json`). Raises as `execute`."""
    monitor.note("trials are judged by their dev PPL; of the test text they see a single token")
    execute(plan, out, monitor=monitor, checkpoints=False)
    records = SweepDirectory(out, plan).records()
    found = choose(plan, records, spec.name, spec.seeds)
    write_json(Path(out) / TUNING, found.model_dump(mode="json"))
    return found


def choose(plan: Plan, records: dict[str, RunRecord], preset: str, seeds: int) -> Tuning:
    """The best trial of every arm that has one which ran at every size."""
    samples = tuple(sorted({point.config.data.num_samples for point in plan.points}))
    arms = dict.fromkeys(point.config.arm for point in plan.points)
    chosen = {arm: _choose_for(arm, plan, records, samples) for arm in arms}
    return Tuning(
        preset=preset,
        samples=samples,
        seeds=seeds,
        arms={arm: found for arm, found in chosen.items() if found is not None},
    )


def _choose_for(
    arm: str, plan: Plan, records: dict[str, RunRecord], samples: tuple[int, ...]
) -> TunedArm | None:
    lines = {p.config.config_hash: p.config for p in plan.points if p.config.arm == arm}
    done: dict[str, list[PointRecord]] = {line: [] for line in lines}
    for record in records.values():
        if record.point.arm == arm and record.point.dev_ppl is not None:
            done[record.point.config_hash].append(record.point)
    wanted = sum(p.config.config_hash == next(iter(lines)) for p in plan.points)
    finished = {line: points for line, points in done.items() if len(points) == wanted}
    if not finished:
        return None
    best = min(finished, key=lambda line: fmean(math.log(point.dev_ppl) for point in finished[line]))
    first = next(iter(lines))
    return TunedArm(
        trials=len(lines),
        failed=len(lines) - len(finished),
        settings=_knobs(lines[best]),
        at=tuned_at(lines[best]),
        dev_ppl=_by_size(finished[best], samples),
        untuned_dev_ppl=_by_size(finished[first], samples) if first in finished else None,
    )


def _by_size(points: list[PointRecord], samples: tuple[int, ...]) -> tuple[float, ...]:
    """Geometric mean over seeds of the dev PPL at each size."""
    return tuple(
        math.exp(fmean(math.log(point.dev_ppl) for point in points if point.num_samples == size))
        for size in samples
    )


def _knobs(config: RunConfig) -> Settings:
    """What was tuned, by dotted key."""
    kind = arm_kind(config.arm)
    if not kind.neural:
        return {ORDER: config.ngram.order} if "ngram" in kind.sections else {}
    training, section = config.token_training, kind.training_section
    return {f"{section}.{key}": getattr(training, key) for key in KNOBS}
