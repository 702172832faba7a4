"""A made-up sweep on disk: points on known power laws, with a little seeded noise."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from cvfp.records.arms import ARMS
from cvfp.records.config import RunConfig
from cvfp.records.files import write_json, write_sealed
from cvfp.records.plan import Analysis, Plan, PlannedPoint
from cvfp.records.results import (
    DocumentScores,
    Health,
    Phase1Facts,
    PointRecord,
    RunFacts,
    RunRecord,
    TrainingFacts,
)
from cvfp.records.sweep import SweepFiles
from cvfp.scaling.summary import fit_lines, progressions, summarise

TOKENS_PER_DOCUMENT = 1200
LAWS = {
    "cvfp": (-0.31, 10_000.0),
    "cvfp-joint": (-0.37, 13_000.0),
    "random-context": (-0.30, 9_200.0),
    "no-context": (-0.28, 8_000.0),
    "lstm": (-0.36, 14_000.0),
    "transformer": (-0.33, 14_000.0),
    "kneser-ney": (-0.27, 5_400.0),
    "unigram": (-0.04, 1_200.0),
    "mixture": (-0.37, 12_200.0),
    "blend": (-0.35, 16_000.0),
}
NGRAMS = ("unigram", "kneser-ney")
UNTRAINED = (*NGRAMS, "mixture")
WITH_CONTEXTS = ("cvfp", "cvfp-joint", "random-context")
OWN_ARM = {"own.file": "blend.py", "own.code": "0123456789ab"}
"""Settings of a line of a user's own arm."""


@dataclass(frozen=True)
class LineSpec:
    """One line to invent: an arm, a name, settings, and the law its perplexities follow."""

    arm: str
    config_name: str
    settings: dict[str, Any] = field(default_factory=dict)
    law: tuple[float, float] | None = None

    def config(self, num_samples: int, seed: int, corpus: str, draw: int | None = None) -> RunConfig:
        settings = {
            "arm": self.arm,
            "data.num_samples": num_samples,
            "data.corpus": corpus,
            "seed": seed,
            "data.draw_seed": draw,
        }
        return RunConfig.from_settings(settings | self.settings)

    def ppl(self, tokens: int) -> float:
        alpha, A = self.law or LAWS[self.arm]
        return A * tokens**alpha


DEFAULT_LINES = (
    LineSpec("cvfp", "1L_768d_1tok"),
    LineSpec("kneser-ney", "5gram"),
    LineSpec("no-context", "1L_0d_1tok"),
    LineSpec("random-context", "1L_768d_1tok"),
)


JOINT = LineSpec("cvfp-joint", "1L_1024d_1tok")
MIXTURE = LineSpec("mixture", "cvfp-joint+kneser-ney")


def our_arms() -> tuple[LineSpec, ...]:
    """A line of each of our arms."""
    names = {"kneser-ney": "5gram", "unigram": "1gram", "no-context": "1L_0d_1tok"}
    names |= {"lstm": "2L_768d", "transformer": "2L_768d"}
    names |= {spec.arm: spec.config_name for spec in (JOINT, MIXTURE)}
    return tuple(LineSpec(arm, names.get(arm, "1L_768d_1tok")) for arm in ARMS)


def every_arm() -> tuple[LineSpec, ...]:
    """A line of each of our arms, and one of a user's own."""
    return (*our_arms(), LineSpec("blend", "768d", OWN_ARM))


def nine_lines() -> tuple[LineSpec, ...]:
    """Three widths of two arms, and n-grams of three orders."""
    widths = [({"model.context_dim": width}, f"1L_{width}d_1tok") for width in (768, 1200, 1537)]
    orders = [({"ngram.order": order}, f"{order}gram") for order in (3, 4, 5)]
    return tuple(
        LineSpec(arm, name, settings, (LAWS[arm][0] - 0.006 * index, LAWS[arm][1] * (1 + 0.04 * index)))
        for arm, variants in (("cvfp", widths), ("random-context", widths), ("kneser-ney", orders))
        for index, (settings, name) in enumerate(variants)
    )


def one_point(spec: LineSpec, config: RunConfig, noise: float) -> PointRecord:
    """A finished point on the line's law, times exp(noise)."""
    tokens = config.data.num_samples * TOKENS_PER_DOCUMENT
    ppl = spec.ppl(tokens) * math.exp(noise)
    neural, contexts = spec.arm not in UNTRAINED, spec.arm in WITH_CONTEXTS
    two_phase = contexts or spec.arm == "no-context"
    width = config.shape.context_dim if contexts else 0
    return PointRecord(
        arm=spec.arm,
        config_name=spec.config_name,
        config_hash=config.config_hash,
        status="done",
        num_layers=1 if neural and config.own is None else None,
        context_dim=width if two_phase else None,
        num_input_tokens=1 if two_phase else None,
        num_samples=config.data.num_samples,
        train_tokens=tokens,
        train_bytes=4 * tokens,
        seed=config.seed,
        draw_seed=config.data.draw_seed,
        steps=10 * config.data.num_samples if neural else None,
        tokens_seen=20 * tokens if neural else None,
        stop_reason="dev_minimum" if neural else "closed_form",
        best_epoch=4.5 if neural else None,
        phase1_iter=23 if spec.arm == "cvfp" else None,
        train_er=0.797 if contexts else None,
        val_er=0.793 if contexts else None,
        train_ppl=None if spec.arm == "mixture" else 0.5 * ppl,
        dev_ppl=0.98 * ppl,
        val_ppl=ppl,
        val_acc=None if spec.arm == "mixture" else 0.2 + 10 / ppl,
        bits_per_byte=math.log2(ppl) / 4,
        total_params=40_961_152,
        trained_params=40_000_000 if neural else 40_961_152,
        context_block_params=config.shape.context_block_params if contexts else None,
        flops=1e12,
        wall_seconds=12.5,
    )


Change = Callable[[RunRecord], RunRecord | None]
"""What becomes of an invented run: itself, another record, or None (no record yet)."""


def write_sweep(
    directory: Path,
    lines: Sequence[LineSpec] = DEFAULT_LINES,
    sizes: Sequence[int] = (50, 100, 200, 400),
    seeds: Sequence[int] = (42,),
    corpus: str = "chitchat",
    analysis: Analysis = Analysis(),  # noqa: B008 (frozen)
    metadata: dict[str, Any] | None = None,
    change: Change = lambda run: run,
    tuned: Mapping[str, int] = MappingProxyType({}),
    inits: int = 1,
    documents: int = 0,
) -> Path:
    """Write the records of a sweep as the lab does; returns the directory.

    `seeds` are draws, of `inits` initialisations each; the losses of that many test `documents` are kept.
    """
    noise = np.random.default_rng(0)
    drawn = [(seed + 1000 * init, seed if init else None) for seed in seeds for init in range(inits)]
    planned, runs = [], []
    for spec in lines:
        for size in sizes:
            for seed, draw in drawn:
                config = spec.config(size, seed, corpus, draw)
                trials = tuned.get(spec.arm)
                planned.append(PlannedPoint(config_name=spec.config_name, config=config, tuned_trials=trials))
                run = change(_run(spec, config, float(noise.normal(0, 0.01))))
                runs.append(run and with_documents(run, documents))
    plan = Plan(name="demo", description="An invented sweep.", points=tuple(planned), analysis=analysis)
    kept = [run for run in runs if run is not None]
    _write_files(SweepFiles(directory), plan, kept, METADATA if metadata is None else metadata)
    return directory


ENVIRONMENT: dict[str, Any] = {
    "cvfp": "0.1.0",
    "commit": "abcdef123456",
    "python": "3.11.7",
    "packages": {"torch": "2.9.0"},
    "device": "cpu",
    "cores": 2,
    "platform": "Linux",
}
METADATA: dict[str, Any] = {
    "environments": [ENVIRONMENT],
    "started": "2026-11-24 10:00:00",
    "wall_seconds": 218.4,
    "data": [
        {
            "corpus": "chitchat",
            "tokenizer": "gpt2",
            "splits": {
                "pool": {"documents": 2207, "tokens": 2_560_000, "bytes": 10_800_000},
                "dev": {"documents": 100, "tokens": 115_000, "bytes": 480_000},
                "test": {"documents": 300, "tokens": 345_000, "bytes": 1_450_000},
            },
        }
    ],
}


HEALTH = Health(
    identity_cosine=0.412,
    mean_norm=27.7,
    mean_deviation=20.1,
    trial_trend="converged",
    trial_mse=(0.1, 0.0, 0.0, 0.0),
    lipschitz=0.83,
    memory_length=37,
    solve_passes=2,
    solve_chunks=32,
    solve_status="converged",
    solve_contraction=0.839,
    failures=(),
)


def _run(spec: LineSpec, config: RunConfig, noise: float) -> RunRecord:
    point = one_point(spec, config, noise)
    told = {"weights": {arm: 1 / len(config.mixture.arms) for arm in config.mixture.arms}}
    facts = RunFacts(
        health=HEALTH if spec.arm in WITH_CONTEXTS else None,
        phase1=Phase1Facts(convergence_rate=0.994, seconds=3.2, precision="bf16")
        if spec.arm == "cvfp"
        else None,
        training=TrainingFacts(seconds=9.5, precision="bf16") if spec.arm == "cvfp-joint" else None,
        **(told if spec.arm == "mixture" else {}),
    )
    return RunRecord(
        run_hash=config.run_hash,
        point=point,
        phase1_converged=True if spec.arm == "cvfp" else None,
        facts=facts,
    )


def with_documents(run: RunRecord, count: int) -> RunRecord:
    """With losses of `count` test documents that give its perplexity; unchanged for none."""
    if count == 0 or run.point.val_ppl is None:
        return run
    rng = np.random.default_rng(7)
    tokens, difficulty = rng.integers(100, 200, count), rng.normal(0, 0.3, count)
    own = np.random.default_rng([run.point.seed, run.point.num_samples]).normal(0, 0.05, count)
    extra = difficulty + own
    nats = tokens * (math.log(run.point.val_ppl) + extra - extra @ tokens / tokens.sum())
    scores = DocumentScores(tokens=tuple(tokens.tolist()), nats=tuple(nats.tolist()))
    return run.model_copy(update={"test_documents": scores})


def _write_files(files: SweepFiles, plan: Plan, runs: Sequence[RunRecord], metadata: dict[str, Any]) -> None:
    points = [run.point for run in runs]
    write_json(files.plan, plan.model_dump(mode="json"))
    write_json(files.metadata, metadata)
    write_json(files.points, [point.model_dump(mode="json") for point in points])
    fits = fit_lines(points, plan.analysis)
    write_json(files.summary, [row.model_dump(mode="json") for row in summarise(fits)])
    if plan.analysis.window_size is not None:
        rows = progressions(fits, plan.analysis.window_size)
        write_json(files.progressions, [row.model_dump(mode="json") for row in rows])
    for run in runs:
        write_sealed(files.run_record(run.run_hash), run.model_dump(mode="json"))
