"""Under what conditions a sweep was made: rows of names and values, as far as the records know them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Literal

from cvfp.records.config import EmbeddingConfig, RunConfig
from cvfp.records.metadata import DataStats, Environment, Metadata
from cvfp.records.plan import Plan
from cvfp.records.sweep import Sweep
from cvfp.records.texts import N_
from cvfp.report import numbers, recipes
from cvfp.report.language import _
from cvfp.report.markdown import plain, table

Row = tuple[str, str]

SPLITS = {
    "documents": N_("dev and test documents drawn at random"),
    "speakers": N_("whole speakers held out for dev and test"),
    "tail": N_("the last documents of the corpus for dev and test"),
    "published": N_("conversations 1000 to 1019 as dev and as test"),
}
ORDERS = {"shuffled": N_("shuffled by the seed"), "file": N_("in file order")}
PROTOCOLS = (N_("standard"), N_("published"))
PARTS = (N_("pool"), N_("dev"), N_("test"))
"""Words of the records, for the catalogues."""


def setting_table(sweep: Sweep) -> str:
    """What was varied, on which data, and how the arms were trained."""
    return _table([*_data_rows(sweep.plan), *_training_rows(sweep.plan)])


def machine_table(sweep: Sweep) -> str:
    """With what software and hardware, and how long it took."""
    return _table([*_run_rows(sweep.metadata), (_("time of all points"), _points_time(sweep))])


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
        return _("the draw of training documents and the initialisation")
    if orders == {"file"}:
        return _(
            "the initialisation only (the training documents are the first in file order for every seed)"
        )
    return _("the initialisation, and the draw of training documents where their order is shuffled")


def split_table(metadata: Metadata) -> str:
    """Documents, tokens and bytes of every split; empty where the metadata does not know them."""
    header = (_("corpus"), _("tokenizer"), _("part"), _("documents"), _("tokens"), _("bytes"))
    rows = [row for stats in metadata.data for row in _split_rows(stats)]
    return table(header, rows, left=3) if rows else ""


def embedding_text(config: EmbeddingConfig) -> str:
    """The token table in words."""
    trained = _("trained") if config.trained else _("frozen")
    bias = _("with output bias") if config.output_bias else _("without output bias")
    return f"{config.source}, {trained}, {bias}"


def _table(rows: Sequence[Row]) -> str:
    """The rows whose value is known."""
    return table((_("what"), _("value")), [row for row in rows if row[1]], left=2)


def _data_rows(plan: Plan) -> list[Row]:
    return [
        (_("corpus"), _each(plan, lambda c: " + ".join(c.data.corpora))),
        (_("tokenizer"), _each(plan, lambda c: c.data.tokenizer)),
        (_("split"), _each(plan, lambda c: _split_text(c))),
        (_("training documents"), _sizes(plan)),
        (_("order of documents"), _each(plan, lambda c: _(ORDERS[c.data.order]))),
    ]


def _training_rows(plan: Plan) -> list[Row]:
    return [
        (_("protocol"), _(plan.protocol)),
        (_("arms"), _each(plan, lambda c: c.arm)),
        (_("seeds"), ", ".join(str(seed) for seed in sorted({p.config.seed for p in plan.points}))),
        (_("embedding"), _each(plan, lambda c: embedding_text(c.embedding), _has("embedding"))),
        (_("width of the embedding"), _each(plan, lambda c: c.model.embed_dim, _has("model"))),
        (_("context cell"), _each(plan, recipes.shape_text, recipes.unpublished_shape)),
        (_("phase 1"), _each(plan, recipes.phase1_text, _has("phase1"))),
        (_("phase 2"), _each(plan, recipes.phase2_text, _has("phase2"))),
        (_("joint model"), _each(plan, recipes.shape_text, _has("joint"))),
        (_("joint training"), _each(plan, recipes.joint_text, _has("joint"))),
        (_("LSTM"), _each(plan, recipes.sequence_text, _has("lstm"))),
        (_("Transformer"), _each(plan, recipes.sequence_text, _has("transformer"))),
        (_("mixture"), _each(plan, recipes.mixture_text, _has("mixture"))),
    ]


def _split_text(config: RunConfig) -> str:
    return _("{split} (split seed {seed})").format(
        split=_(SPLITS[config.data.split]), seed=config.data.split_seed
    )


def _run_rows(metadata: Metadata) -> list[Row]:
    machines, wall = metadata.environments, metadata.wall_seconds
    return [
        (_("hardware"), _distinct(_machine_text(m) for m in machines)),
        (_("platform"), _distinct(plain(m.platform) for m in machines)),
        (_("software"), _distinct(_joined(_versions(m)) for m in machines)),
        (_("started"), _joined({"": metadata.started})),
        (_("run time"), "" if wall is None else numbers.duration(wall)),
    ]


def _machine_text(machine: Environment) -> str:
    cores = "" if machine.cores is None else _(", {cores} cores").format(cores=machine.cores)
    return f"{plain(machine.device)}{cores}"


def _versions(machine: Environment) -> dict[str, str | None]:
    named = {"cvfp": machine.cvfp, "commit": machine.commit, "python": machine.python}
    return named | {"torch": machine.packages.get("torch")}


def _distinct(values: Iterable[str]) -> str:
    return _("; ").join(dict.fromkeys(values))


def _points_time(sweep: Sweep) -> str:
    known = [point.wall_seconds for point in sweep.points if point.wall_seconds is not None]
    if not known:
        return ""
    text = _("{time} for {points} points")
    return text.format(time=numbers.duration(sum(known)), points=len(known))


def _each(
    plan: Plan, show: Callable[[RunConfig], object], where: Callable[[RunConfig], bool] = lambda config: True
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
        [*names, plain(_(part)), *map(numbers.count, (size.documents, size.tokens, size.bytes))]
        for part, size in stats.splits.items()
    ]


def _joined(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {plain(value)}".strip() for name, value in values.items() if value is not None)
