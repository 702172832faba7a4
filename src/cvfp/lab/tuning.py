"""`cvfp tune`: equally many trials for every arm, over the same ranges, judged at each size on dev alone.

A tuning is a sweep whose variants are the trials, so it resumes like one. Trials after the first one, which
is what an arm ships with, are points of a scrambled Halton sequence (Owen 2017): they fill the ranges more
evenly than random ones (Bergstra & Bengio 2012). Or they are all combinations of some values (a grid).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import product
from statistics import fmean
from typing import Any

from scipy.stats import qmc

from cvfp.lab.executors import Execute
from cvfp.lab.messages import Note, Tell
from cvfp.lab.options import RunOptions
from cvfp.lab.plan import MIXTURE, OWN_SUFFIX, Settings, SweepSpec, make_plan
from cvfp.lab.sweep_directory import SweepDirectory
from cvfp.records.arms import arm_kind
from cvfp.records.config import NO_TEST, RunConfig, dotted
from cvfp.records.errors import InputError
from cvfp.records.files import write_json
from cvfp.records.plan import BATCH, KNOBS, ORDER, TUNING, Plan, TunedArm, Tuning, tuned_at, with_choice
from cvfp.records.results import PointRecord, RunRecord
from cvfp.records.training_config import TokenTraining

LR = (1 / 3, 3.0)
"""Of every arm, as a factor on the rate that it ships with (at the middle one of the sizes); uniform in its
logarithm."""
DROPOUT = (0.1, 0.6)
WORD_DROPOUT = (0.0, 0.15)
WEIGHT_DECAY = (0.05, 1.0)
"""Uniform in its logarithm."""
CONSISTENCY = (0.0, 1.5)
ORDERS = (5, 4, 3, 2)
"""Of n-grams, by turns: counting has no learning rate."""
UNSEEN_TEST = {"data.test_tokens": NO_TEST}


def trials(number: int, sections: Mapping[str, TokenTraining], seed: int = 0) -> list[Settings]:
    """The settings of each trial, for all arms at once; those of the first one are the arms' own.

    Args:
        sections: what the arms ship with, by section of the config.

    Returns:
        one table of dotted keys per trial; an arm reads the keys of its own section.
    """
    points = qmc.Halton(6, rng=seed).random(max(number - 1, 0))
    found: list[Settings] = [{}]
    for index, (lr, dropout, words, decay, consistency, batch) in enumerate(points.tolist(), 1):
        trial: Settings = {ORDER: ORDERS[index % len(ORDERS)]}
        for section, shipped in sections.items():
            size = getattr(shipped, BATCH[section])
            values = {
                "lr": _rounded(shipped.lr * _log_uniform(LR, lr)),
                "dropout": _rounded(_uniform(DROPOUT, dropout)),
                "word_dropout": _rounded(_uniform(WORD_DROPOUT, words)),
                "weight_decay": _rounded(_log_uniform(WEIGHT_DECAY, decay)),
                "consistency": _rounded(_uniform(CONSISTENCY, consistency)),
                BATCH[section]: size if batch < 0.5 else max(size // 2, 1),
            }
            trial |= {f"{section}.{key}": value for key, value in values.items()}
        found.append(trial)
    return found


def grid_trials(grid: Mapping[str, Sequence[Any]], sections: Mapping[str, TokenTraining]) -> list[Settings]:
    """A trial that changes nothing, and every combination of the values of some knobs, for all arms at once.

    Raises:
        InputError: a name that is no knob of every arm's training.
    """
    for knob in grid:
        if knob not in KNOBS:
            raise InputError(f"tune: --grid {knob}: there is no such knob; there are {', '.join(KNOBS)}")
    return [{}] + [
        {f"{section}.{knob}": value for section in sections for knob, value in zip(grid, values, strict=True)}
        for values in product(*grid.values())
    ]


def _uniform(ends: tuple[float, float], share: float) -> float:
    return ends[0] + share * (ends[1] - ends[0])


def _log_uniform(ends: tuple[float, float], share: float) -> float:
    low, high = (math.log(end) for end in ends)
    return math.exp(low + share * (high - low))


def _rounded(value: float) -> float:
    """Two digits: what was tried is what a reader sees."""
    return float(f"{value:.2g}")


def tuning_spec(
    spec: SweepSpec,
    number: int,
    samples: tuple[int, ...],
    grid: Mapping[str, Sequence[Any]] | None = None,
) -> SweepSpec:
    """The sweep of the trials: a preset's first line, at each of some sizes.

    With a grid its combinations are the trials, however many they are.

    Raises:
        InputError: a user's own arm, or a mixture, among the arms; a knob that does not exist.
    """
    own = [arm for arm in spec.arms if arm.endswith(OWN_SUFFIX)]
    if own:
        raise InputError(f"tune: {own[0]} is a file of yours; what it can be given is for it to say")
    if MIXTURE in spec.arms:
        raise InputError(
            "tune: arm mixture has nothing to tune (its weights are chosen on dev in every run); "
            "leave it out of --arms"
        )
    first = spec.variants[0]
    shipped = _shipped(spec, sorted(samples)[len(samples) // 2])
    tried = grid_trials(grid, shipped) if grid else trials(number, shipped)
    variants = tuple(first | trial | UNSEEN_TEST for trial in tried)
    changes = {"name": f"tune-{spec.name}", "samples": samples, "variants": variants, "largest_only": ()}
    return spec.override(**changes)


def _shipped(spec: SweepSpec, size: int) -> dict[str, TokenTraining]:
    """The sections of training of a sweep's arms, as its first line has them at a size."""
    one = spec.override(variants=spec.variants[:1], samples=(size,), seeds=1, inits=1)
    configs = {point.config.arm: point.config.resolved() for point in make_plan(one).points}
    found = [(arm_kind(arm).training_section, config.token_training) for arm, config in configs.items()]
    return {section: shipped for section, shipped in found if section is not None and shipped is not None}


def tuning_plan(
    spec: SweepSpec,
    number: int,
    samples: tuple[int, ...],
    grid: Mapping[str, Sequence[Any]] | None = None,
) -> Plan:
    """The points of all trials. Raises `InputError` as `tuning_spec` and `make_plan`."""
    return make_plan(tuning_spec(spec, number, samples, grid)).model_copy(update={"protocol": "tuning"})


def tune_sweep(
    directory: SweepDirectory, spec: SweepSpec, execute: Execute, tell: Tell, retry: bool = False
) -> Tuning:
    """Run the trials that are missing, and if asked those that failed; write what they choose
    (`tuning.json`). Raises as `execute`."""
    tell(Note("trials are judged by their dev PPL; of the test text they see a single token"))
    execute(directory.plan, directory.path, tell=tell, options=RunOptions(checkpoints=False, retry=retry))
    found = choose(directory.plan, directory.records(), spec.name, spec.seeds)
    write_json(directory.path / TUNING, found.model_dump(mode="json"))
    return found


def choose(plan: Plan, records: dict[str, RunRecord], preset: str, seeds: int) -> Tuning:
    """The trial, for every arm and at each size, with the lowest dev loss there."""
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
        if record.point.arm == arm and record.point.status == "done" and record.point.dev_ppl is not None:
            done[record.point.config_hash].append(record.point)
    first, *_ = lines
    samples_done = {
        line: {size: _mean(points, size) for size in samples if _ran(plan, line, points, size)}
        for line, points in done.items()
    }
    if any(all(size not in ran for ran in samples_done.values()) for size in samples):
        return None
    best = {
        size: min(
            (line for line, ran in samples_done.items() if size in ran),
            key=lambda line: samples_done[line][size],
        )
        for size in samples
    }
    if arm_kind(arm).training_section is None:  # counting has one order for all sizes
        whole = [line for line, ran in samples_done.items() if len(ran) == len(samples)]
        if not whole:
            return None
        best = dict.fromkeys(samples, min(whole, key=lambda line: fmean(samples_done[line].values())))
    at_size = {(p.config.config_hash, p.config.data.num_samples): p.config for p in plan.points}
    settings = _chosen(arm, {size: at_size[line, size] for size, line in best.items()})
    base = with_choice(dotted(lines[first].model_dump()), settings)
    before = samples_done[first]
    return TunedArm(
        trials=len(lines),
        failed=sum(len(ran) < len(samples) for ran in samples_done.values()),
        settings=settings,
        at=tuned_at(RunConfig.from_settings(base, "tuning")),
        dev_ppl=tuple(math.exp(samples_done[line][size]) for size, line in best.items()),
        untuned_dev_ppl=tuple(map(math.exp, before.values())) if len(before) == len(samples) else None,
    )


def _ran(plan: Plan, line: str, points: list[PointRecord], size: int) -> bool:
    """Whether a line has all its points of a size."""
    planned = sum(
        point.config.config_hash == line and point.config.data.num_samples == size for point in plan.points
    )
    return sum(point.num_samples == size for point in points) == planned


def _mean(points: list[PointRecord], size: int) -> float:
    """Mean over seeds of ln dev PPL at a size."""
    return fmean(math.log(p.dev_ppl) for p in points if p.num_samples == size and p.dev_ppl is not None)


def _chosen(arm: str, best: dict[int, RunConfig]) -> Settings:
    """What was tuned, by dotted key: of trained arms a value for each size."""
    section = arm_kind(arm).training_section
    if section is None:
        return {ORDER: next(iter(best.values())).ngram.order} if "ngram" in arm_kind(arm).sections else {}
    return {
        f"by_size.{section}.{knob}.{size}": getattr(config.resolved().token_training, knob)
        for knob in (*KNOBS, BATCH[section])
        for size, config in best.items()
    }
