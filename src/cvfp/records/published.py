"""The published tables that ship with the package, and the protocol that they were made with."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from cvfp.records.config import RunConfig
from cvfp.records.errors import InputError
from cvfp.records.plan import Analysis, Plan, PlannedPoint
from cvfp.records.results import Metadata, PointRecord, RunRecord
from cvfp.records.sweep import Sweep, key_of
from cvfp.records.texts import N_

PUBLISHED_PROTOCOL: dict[str, Any] = {
    "data.corpus": "ultrachat",
    "data.split": "published",
    "data.order": "file",
    "phase1.precision": "float32",
    "phase2.precision": "float32",
    "embedding.source": "gpt2",
    "phase2.batch_size": 8192,
    "phase2.shuffle": False,
    "phase2.eval_every": None,
    "phase2.patience": 1,
    "phase2.lr_decay": 1.0,
    "phase2.context_source": "one_step",
}
"""`--published`: UltraChat, first-N order, one-step contexts, stop at the first epoch without gain on the
published validation text, batches of 8,192 in order. The gpt2 row of embedding settings follows."""

SETTINGS = {
    "dist_reg_weight": "phase1.dist_reg_weight",
    "phase1_max_iterations": "phase1.max_iterations",
    "phase1_context_noise": "phase1.context_noise",
    "phase1_slice": "phase1.slice_length",
    "phase2_epochs": "phase2.epochs",
    "embed_dim": "model.embed_dim",
}
"""Names of hyperparameters in the tables, and of the config fields that they are."""
PRINTED = ("train_er", "val_er", "train_ppl", "val_ppl", "val_acc", "phase1_iter", "train_tokens")


def load_published() -> dict[str, Any]:
    """The experiments v1, v2 and v3 as printed: under `experiments`, each with `results` and `summary`."""
    file = resources.files("cvfp.records").joinpath("published_results.json")
    return json.loads(file.read_text(encoding="utf-8"))


def published_experiment(version: str) -> dict[str, Any]:
    """The tables of one experiment. Raises `InputError` for a name that is none; lists those there are."""
    experiments = load_published()["experiments"]
    if version not in experiments:
        raise InputError(f"no published version {version!r}; there are {', '.join(experiments)}")
    return experiments[version]


def published_sweep(version: str) -> Sweep:
    """The published points of a version as a sweep: what is computed of a sweep can be computed of them.

    The stop reasons were not printed. Phase 1 counts as converged where it ended below its cap. Raises as
    `published_experiment`.
    """
    experiment = published_experiment(version)
    chosen = experiment["hyperparameters"]
    cap, window = chosen["phase1_max_iterations"], chosen.get("window_size")
    planned, runs = [], {}
    for row in experiment["results"]:
        config = _config(chosen, row)
        point = _point(row, config)
        planned.append(PlannedPoint(config_name=row["config_name"], config=config))
        converged = row["phase1_iter"] < cap
        runs[key_of(point)] = RunRecord(run_hash=config.run_hash, point=point, phase1_converged=converged)
    plan = Plan(
        name=f"{version} (published)",
        description=N_("The tables of the source report"),
        protocol="published",
        points=tuple(planned),
        analysis=Analysis(window_size=window, include_capped=True),
    )
    return Sweep(plan, Metadata(), runs)


def _config(chosen: dict[str, Any], row: dict[str, Any]) -> RunConfig:
    shape = {f"model.{key}": row[key] for key in ("num_layers", "context_dim", "num_input_tokens")}
    settings = {field: chosen[name] for name, field in SETTINGS.items()}
    size = {"data.num_samples": row["num_samples"]}
    return RunConfig.from_settings(PUBLISHED_PROTOCOL | settings | shape | size, "published")


def _point(row: dict[str, Any], config: RunConfig) -> PointRecord:
    return PointRecord(
        arm=config.arm,
        config_name=row["config_name"],
        config_hash=config.config_hash,
        status="done",
        num_layers=config.model.num_layers,
        context_dim=config.model.context_dim,
        num_input_tokens=config.model.num_input_tokens,
        num_samples=config.data.num_samples,
        seed=config.seed,
        context_block_params=config.model.context_block_params,
        **{name: row[name] for name in PRINTED},
    )
