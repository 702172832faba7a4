"""Under what conditions a sweep was made: rows of names and values, as far as the records know them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cvfp.records.config import EmbeddingConfig, RunConfig
from cvfp.records.plan import Plan
from cvfp.records.sweep import Sweep
from cvfp.report import numbers
from cvfp.report.markdown import plain, table

Row = tuple[str, str]

SPLITS = {
    "documents": "dev and test documents drawn at random",
    "speakers": "whole speakers held out for dev and test",
    "tail": "the last documents of the corpus for dev and test",
    "published": "conversations 1000 to 1019 as dev and as test",
}
ORDERS = {"shuffled": "shuffled by the seed", "file": "in file order"}


def setting_table(sweep: Sweep) -> str:
    """What was varied, on which data, with what software and hardware, and how long it took."""
    rows = [*_data_rows(sweep.plan), *_training_rows(sweep.plan), *_machine_rows(sweep.metadata)]
    rows.append(("time of all points", _points_time(sweep)))
    return table(("what", "value"), [row for row in rows if row[1]], left=2)


def split_table(metadata: dict[str, Any]) -> str:
    """Documents, tokens and bytes of every split; empty where the metadata does not know them."""
    header = ("corpus", "tokenizer", "part", "documents", "tokens", "bytes")
    rows = [row for stats in _list_of_objects(metadata.get("data")) for row in _split_rows(stats)]
    return table(header, rows, left=3) if rows else ""


def embedding_text(config: EmbeddingConfig) -> str:
    """The token table in words."""
    trained = "trained" if config.trained else "frozen"
    return f"{config.source}, {trained}, {'with' if config.output_bias else 'without'} output bias"


def _data_rows(plan: Plan) -> list[Row]:
    return [
        ("corpus", _each(plan, lambda c: c.data.corpus)),
        ("tokenizer", _each(plan, lambda c: c.data.tokenizer)),
        ("split", _each(plan, lambda c: f"{SPLITS[c.data.split]} (split seed {c.data.split_seed})")),
        ("training documents", _sizes(plan)),
        ("order of documents", _each(plan, lambda c: ORDERS[c.data.order])),
    ]


def _training_rows(plan: Plan) -> list[Row]:
    return [
        ("protocol", plan.protocol),
        ("arms", _each(plan, lambda c: c.arm)),
        ("seeds", ", ".join(str(seed) for seed in sorted({p.config.seed for p in plan.points}))),
        ("embedding", _each(plan, lambda c: embedding_text(c.embedding), _has("embedding"))),
        ("width of the embedding", _each(plan, lambda c: c.model.embed_dim, _has("model"))),
        ("phase 1", _each(plan, _phase1_text, _has("phase1"))),
        ("phase 2", _each(plan, _phase2_text, _has("phase2"))),
    ]


def _phase1_text(config: RunConfig) -> str:
    phase = config.phase1
    return (
        f"dispersion weight {phase.dist_reg_weight:g}, at most {phase.max_iterations} iterations, "
        f"noise {phase.context_noise:g}, slices of {phase.slice_length:,}, learning rate {phase.lr:g}"
    )


def _phase2_text(config: RunConfig) -> str:
    phase = config.phase2
    every = "once per epoch" if phase.eval_every is None else f"every {phase.eval_every} steps"
    return (
        f"at most {phase.epochs} epochs, batches of {phase.batch_size:,}, learning rate {phase.lr:g}, "
        f"dropout {phase.dropout:g}, weight decay {phase.weight_decay:g}; dev loss {every}, "
        f"patience {phase.patience}"
    )


def _machine_rows(metadata: dict[str, Any]) -> list[Row]:
    known = metadata | _object(metadata.get("environment"))
    packages = _object(known.get("packages"))
    versions = {name: known.get(name, packages.get(name)) for name in ("cvfp", "commit", "python", "torch")}
    wall = known.get("wall_seconds")
    return [
        ("hardware", _joined({"": known.get("device"), "cores": known.get("cores")})),
        ("platform", _joined({"": known.get("platform")})),
        ("software", _joined(versions)),
        ("started", _joined({"": known.get("started")})),
        ("run time", numbers.duration(wall) if isinstance(wall, int | float) else ""),
    ]


def _points_time(sweep: Sweep) -> str:
    known = [point.wall_seconds for point in sweep.points if point.wall_seconds is not None]
    return f"{numbers.duration(sum(known))} for {len(known)} points" if known else ""


def _each(
    plan: Plan, show: Callable[[RunConfig], object], where: Callable[[RunConfig], bool] = lambda _: True
) -> str:
    """The distinct values over the planned points, in order of appearance."""
    values = dict.fromkeys(plain(show(p.config)) for p in plan.points if where(p.config))
    return "; ".join(values)


def _has(section: str) -> Callable[[RunConfig], bool]:
    """Whether an arm reads a section of its config at all."""
    return lambda config: section in config.relevant()


def _sizes(plan: Plan) -> str:
    return ", ".join(f"{size:,}" for size in sorted({p.config.data.num_samples for p in plan.points}))


def _split_rows(stats: dict[str, Any]) -> list[list[str]]:
    names = [plain(stats.get(name, numbers.ABSENT)) for name in ("corpus", "tokenizer")]
    return [
        [*names, plain(part), *(_count(_object(counts).get(key)) for key in ("documents", "tokens", "bytes"))]
        for part, counts in _object(stats.get("splits")).items()
    ]


def _joined(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {plain(value)}".strip() for name, value in values.items() if value is not None)


def _count(value: Any) -> str:
    return numbers.count(value) if isinstance(value, int | float) else numbers.ABSENT


def _object(value: Any) -> dict[str, Any]:
    """`value` where it is an object: the metadata of other versions may hold anything."""
    return value if isinstance(value, dict) else {}


def _list_of_objects(value: Any) -> Sequence[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []
