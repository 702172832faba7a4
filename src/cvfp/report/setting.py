"""Under what conditions a sweep was made: rows of names and values, as far as the records know them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from cvfp.records.config import EmbeddingConfig, RunConfig
from cvfp.records.metadata import DataStats, Environment, Metadata
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
    rows = [*_data_rows(sweep.plan), *_training_rows(sweep.plan), *_run_rows(sweep.metadata)]
    rows.append(("time of all points", _points_time(sweep)))
    return table(("what", "value"), [row for row in rows if row[1]], left=2)


def stopped_on_test(plan: Plan) -> Literal["all", "some", "none"]:
    """Which points were stopped on the text that is reported: those with the published split."""
    published = [point.config.data.split == "published" for point in plan.points]
    if not any(published):
        return "none"
    return "all" if all(published) else "some"


def seeds_vary(plan: Plan) -> str:
    """What differs from seed to seed, in words."""
    orders = {point.config.data.order for point in plan.points}
    if orders == {"shuffled"}:
        return "the draw of training documents and the initialisation"
    if orders == {"file"}:
        return "the initialisation only (the training documents are the first in file order for every seed)"
    return "the initialisation, and the draw of training documents where their order is shuffled"


def split_table(metadata: Metadata) -> str:
    """Documents, tokens and bytes of every split; empty where the metadata does not know them."""
    header = ("corpus", "tokenizer", "part", "documents", "tokens", "bytes")
    rows = [row for stats in metadata.data for row in _split_rows(stats)]
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


def _run_rows(metadata: Metadata) -> list[Row]:
    machines, wall = metadata.environments, metadata.wall_seconds
    return [
        ("hardware", _distinct(_joined({"": m.device, "cores": m.cores}) for m in machines)),
        ("platform", _distinct(plain(m.platform) for m in machines)),
        ("software", _distinct(_joined(_versions(m)) for m in machines)),
        ("started", _joined({"": metadata.started})),
        ("run time", "" if wall is None else numbers.duration(wall)),
    ]


def _versions(machine: Environment) -> dict[str, str | None]:
    named = {"cvfp": machine.cvfp, "commit": machine.commit, "python": machine.python}
    return named | {"torch": machine.packages.get("torch")}


def _distinct(values: Iterable[str]) -> str:
    return "; ".join(dict.fromkeys(values))


def _points_time(sweep: Sweep) -> str:
    known = [point.wall_seconds for point in sweep.points if point.wall_seconds is not None]
    return f"{numbers.duration(sum(known))} for {len(known)} points" if known else ""


def _each(
    plan: Plan, show: Callable[[RunConfig], object], where: Callable[[RunConfig], bool] = lambda _: True
) -> str:
    """The distinct values over the planned points, in order of appearance."""
    return _distinct(plain(show(p.config)) for p in plan.points if where(p.config))


def _has(section: str) -> Callable[[RunConfig], bool]:
    """Whether an arm reads a section of its config at all."""
    return lambda config: section in config.relevant()


def _sizes(plan: Plan) -> str:
    return ", ".join(f"{size:,}" for size in sorted({p.config.data.num_samples for p in plan.points}))


def _split_rows(stats: DataStats) -> list[list[str]]:
    names = [plain(stats.corpus), plain(stats.tokenizer)]
    return [
        [*names, plain(part), *map(numbers.count, (size.documents, size.tokens, size.bytes))]
        for part, size in stats.splits.items()
    ]


def _joined(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {plain(value)}".strip() for name, value in values.items() if value is not None)
