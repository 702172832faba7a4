"""Settings and data: under what conditions a sweep was made, as far as the records know them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from cvfp.records.arms import arm_kind
from cvfp.records.config import LATER, EmbeddingConfig, ModelConfig, RunConfig
from cvfp.records.plan import Plan
from cvfp.records.results import DataStats, Environment, Metadata, TextSize
from cvfp.records.sweep import Sweep
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.blocks import Fold, Section, present
from cvfp.report.language import _, listed
from cvfp.report.lines import Line
from cvfp.report.markdown import Column, bullets, plain, table
from cvfp.report.view import View


def section(view: View) -> Section:
    """Data, models and their training; what each has seen beyond its training documents; the machine."""
    sweep = view.sweep
    priors = prior_texts(view.lines)
    noted = [plain(note) for note in sweep.metadata.notes]
    return Section(
        _("Settings and data"),
        present(
            [
                setting_table(sweep),
                Fold(_("Settings by number of documents"), _by_size(sweep.plan)),
                split_table(sweep.metadata),
                _test_text(sweep.plan),
                _("What models have seen beyond their training documents:") if priors else "",
                bullets(priors)
                or _("No run reports having used any data other than its training documents."),
                machine_table(sweep),
                Fold(_("Noted while it ran"), (bullets(noted),)),
            ]
        ),
    )


def _by_size(plan: Plan) -> tuple[str, ...]:
    found = size_table(plan)
    note = _(
        "Between two of these numbers a value is interpolated in ln(documents), whole numbers are those of "
        "the nearer one, and outside them the nearest holds."
    )
    return (found, note) if found else ()


def _test_text(plan: Plan) -> str:
    texts = {
        "all": _(
            "The split is the published one: the test text is the published validation text, on which "
            "training was also stopped, so its perplexities are flattered."
        ),
        "some": _(
            "Scores are of the held-out test split, and training stops on another, the dev split; but not at "
            "the runs of the published split: there it is the text on which training was also stopped, so "
            "its perplexities are flattered."
        ),
        "none": _(
            "Scores are of the held-out test split; training stops on the dev split, which is another."
        ),
    }
    return texts[stopped_on_test(plan)]


def prior_texts(lines: Sequence[Line]) -> list[str]:
    """A sentence per kind of data, other than the training documents, that models profited from."""
    users: dict[str, list[str]] = {}
    for line in lines:
        for prior in line.prior:
            users.setdefault(prior, []).append(plain(line.label))
    everyone = _("all models")
    return [
        _(": ").join([everyone if len(labels) == len(lines) else listed(labels), plain(_(prior))])
        for prior, labels in users.items()
    ]


# --- How arms are made and trained, in words: the values of the table of settings.


CELLS = {
    "residual": N_("residual cell"),
    "gated": N_("gated cell"),
    "highway": N_("highway cell"),
    "lstm": N_("LSTM cell"),
    "mogrified": N_("mogrified LSTM cell"),
}
KNOBS = {
    "lr": N_("learning rate"),
    "dropout": N_("dropout"),
    "word_dropout": N_("word dropout"),
    "weight_decay": N_("weight decay"),
    "averaging": N_("averaging of the weights"),
    "consistency": N_("consistency of two readings"),
    "batch_size": N_("batch"),
    "sequences": N_("windows of a batch"),
    "chunks": N_("chunks of a step"),
}
"""What a field is called that a tuning chooses for a number of documents; others go by their names."""

BY_SIZE = N_("(by size)")
"""Stands for a value that follows the number of documents: `size_table` has it."""


def phase1_text(config: RunConfig) -> str:
    """How contexts are learned in a phase of their own."""
    phase = config.phase1
    return _(
        "dispersion weight {weight:g}, at most {iterations} iterations, noise {noise:g}, "
        "slices of {length:,}, learning rate {lr:g}, precision {precision}"
    ).format(
        weight=phase.dist_reg_weight,
        iterations=phase.max_iterations,
        noise=phase.context_noise,
        length=phase.slice_length,
        lr=phase.lr,
        precision=phase.precision,
    )


def phase2_text(config: RunConfig) -> str:
    """How tokens are learned from contexts."""
    shown = _values(config)
    batches = _("batches of {batch}").format(batch=shown("batch_size", "{:,}"))
    return _learning_text(config, batches)


def sequence_text(config: RunConfig) -> str:
    """The shape and the training of an arm that is trained through time."""
    training, shown = config.sequence_training, _values(config)
    batches = _("batches of {sequences} windows of {window} tokens").format(
        sequences=shown("sequences", "{}"), window=shown("window", "{}")
    )
    layers = _("layers: {layers}").format(layers=training.num_layers)
    return listed([layers, _learning_text(config, batches)])


def joint_text(config: RunConfig) -> str:
    """How contexts and tokens are learned together."""
    shown = _values(config)
    chunks = _("steps of {chunks} chunks of {window} tokens").format(
        chunks=shown("chunks", "{}"), window=shown("window", "{}")
    )
    fresh = _("contexts refreshed every epoch") if config.joint.refresh else _("contexts never refreshed")
    parts = [chunks, fresh]
    if config.joint.teachers:
        taught = _("distilled from {teachers} models of the same settings, weight {share}")
        parts.append(taught.format(teachers=config.joint.teachers, share=f"{config.joint.distillation:g}"))
    return _learning_text(config, listed(parts))


def shape_text(config: RunConfig) -> str:
    """The network of a model with contexts."""
    shape = config.shape
    parts = [
        cell_text(shape),
        _("layers: {layers}").format(layers=shape.num_layers),
        _("width {width}").format(width=shape.context_dim),
        _("input tokens: {tokens}").format(tokens=shape.num_input_tokens),
        _("with token layers") if shape.token_layers else _("without token layers"),
    ]
    return listed(parts)


def cell_text(shape: ModelConfig) -> str:
    """What computes a context, with what belongs to one kind alone."""
    name = _(CELLS[shape.cell])
    if shape.cell != "mogrified":
        return name
    return _("{cell} ({rounds} rounds of rank {rank})").format(
        cell=name, rounds=shape.rounds, rank=shape.rank
    )


def unpublished_shape(config: RunConfig) -> bool:
    """Whether a two-phase model has another cell than the published one, or no token layers."""
    published = ModelConfig()
    fields = [field for field in LATER["model"] if field not in ("rounds", "rank")]
    kind = arm_kind(config.arm)
    return kind.two_phase and any(
        getattr(config.model, field) != getattr(published, field) for field in fields
    )


def mixture_text(config: RunConfig) -> str:
    """What a mixture is made of."""
    return _("{arms}, weights chosen on dev").format(arms=" + ".join(config.mixture.arms))


@dataclass(frozen=True)
class _Followed:
    """A setting that follows the number of documents: of which model, and its value by number."""

    name: str
    field: str
    values: dict[str, Any]


def size_table(plan: Plan) -> str:
    """The settings that follow the number of documents, a column for each number; empty without any."""
    rows = [
        _Followed(name, field, values) for name, fields in _followed(plan) for field, values in fields.items()
    ]
    sizes = sorted({int(size) for row in rows for size in row.values})
    columns = [
        Column[_Followed](_("model"), lambda row: plain(row.name), words=True),
        Column[_Followed](
            _("setting"),
            lambda row: _(KNOBS[row.field]) if row.field in KNOBS else plain(row.field),
            words=True,
        ),
        *(
            Column[_Followed](
                _("{documents} documents").format(documents=numbers.count(size)),
                lambda row, size=size: _written(row.values.get(str(size))),
            )
            for size in sizes
        ),
    ]
    return table(columns, rows)


def followed_fields(config: RunConfig) -> dict[str, dict[str, Any]]:
    """The settings of an arm's training that follow the number of documents: field, number, value."""
    return config.relevant().get("by_size", {}).get(arm_kind(config.arm).training_section, {})


def _followed(plan: Plan) -> list[tuple[str, dict[str, dict[str, Any]]]]:
    """Who has settings that follow the number of documents, and which: an arm, or a line of it."""
    found: list[tuple[str, str, dict[str, dict[str, Any]]]] = []
    for point in plan.points:
        fields = followed_fields(point.config)
        known = [each for arm, _name, each in found if arm == point.config.arm]
        if fields and fields not in known:
            found.append((point.config.arm, point.config_name, fields))
    arms = [arm for arm, _name, _fields in found]
    return [(arm if arms.count(arm) == 1 else f"{arm} {name}", fields) for arm, name, fields in found]


def _values(config: RunConfig) -> Callable[[str, str], str]:
    """Writes a field of an arm's training: its value, or that it follows the number of documents."""
    training, followed = config.token_training, followed_fields(config)

    def shown(field: str, pattern: str) -> str:
        if field in followed:
            return _(BY_SIZE)
        return pattern.format(getattr(training, field))

    return shown


def _learning_text(config: RunConfig, batches: str) -> str:
    shown, training = _values(config), config.token_training
    assert training is not None
    fixed = training.steps is not None or "steps" in followed_fields(config)
    text = (
        _(
            "a fixed number of steps {steps}, {batches}, learning rate {lr}, dropout {dropout}, "
            "weight decay {decay}, precision {precision}; dev loss {every}, which stops nothing early"
        )
        if fixed
        else _(
            "at most {epochs} epochs, {batches}, learning rate {lr}, dropout {dropout}, "
            "weight decay {decay}, precision {precision}; dev loss {every}, patience {patience}"
        )
    )
    text = text.format(
        steps=shown("steps", "({})"),
        epochs=shown("epochs", "{}"),
        batches=batches,
        lr=shown("lr", "{:g}"),
        dropout=shown("dropout", "{:g}"),
        decay=shown("weight_decay", "{:g}"),
        precision=shown("precision", "{}"),
        every=_every(config),
        patience=shown("patience", "{}"),
    )
    added = further(config)
    return _("; ").join([text, listed(added)]) if added else text


def _every(config: RunConfig) -> str:
    """How often the dev loss is taken."""
    training, followed = config.token_training, followed_fields(config)
    assert training is not None  # counting has no dev loss
    if "eval_every" in followed or "evaluations_per_epoch" in followed:
        return _(BY_SIZE)
    if training.eval_every is not None:
        return _("every {steps} steps").format(steps=training.eval_every)
    if training.evaluations_per_epoch > 1:
        return _("{count} times per epoch").format(count=training.evaluations_per_epoch)
    return _("once per epoch")


def further(config: RunConfig) -> list[str]:
    """What was added to a plain training; joint training has all of it, so there it is told always."""
    section, training, shown = arm_kind(config.arm).training_section, config.token_training, _values(config)
    if section is None or training is None:
        return []
    joint, followed = config.arm == "cvfp-joint", followed_fields(config)
    plain_training = LATER.get(section, {})
    average = _("exponential moving average of the weights {value}")
    if "averaging" in followed:
        average = _("average of the weights {value}")
    elif training.averaging == "two-tailed":
        average = _("average of the weights over the tail of training")
    texts = {
        "word_dropout": _("word dropout {value}"),
        "averaging": average,
        "consistency": _("two readings of every batch, consistency {value}"),
        "beta2": _("beta2 {value}"),
    }
    found = [
        text.format(value=shown(field, "{}" if isinstance(getattr(training, field), str) else "{:g}"))
        for field, text in texts.items()
        if (joint and field != "consistency")
        or field in followed
        or getattr(training, field) != plain_training[field]
    ]
    if joint:
        found.append(_("dropout locked over a chunk"))
    elif "locked_dropout" in followed:
        found.append(_("dropout locked over a window {value}").format(value=_(BY_SIZE)))
    elif getattr(training, "locked_dropout", False):
        found.append(_("dropout locked over a window"))
    return found


def _written(value: Any) -> str:
    if value is None:
        return numbers.ABSENT
    if isinstance(value, float):
        return f"{value:g}"
    return plain(value)


# --- The rows of the table of settings, the machine, the splits.


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
    """The software, the hardware, and how long it took."""
    return _table([*_run_rows(sweep.metadata), (_("time of all runs"), _runs_time(sweep))])


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


@dataclass(frozen=True)
class _Split:
    """A part of a corpus."""

    stats: DataStats
    part: str
    size: TextSize


def split_table(metadata: Metadata) -> str:
    """Documents, tokens and bytes of every split; empty where the metadata does not know them."""
    columns = [
        Column[_Split](_("corpus"), lambda row: plain(row.stats.corpus), words=True),
        Column[_Split](_("tokenizer"), lambda row: plain(row.stats.tokenizer), words=True),
        Column[_Split](_("part"), lambda row: plain(_(row.part)), words=True),
        Column[_Split](_("documents"), lambda row: numbers.count(row.size.documents)),
        Column[_Split](_("tokens"), lambda row: numbers.count(row.size.tokens)),
        Column[_Split](_("bytes"), lambda row: numbers.count(row.size.bytes)),
    ]
    rows = [_Split(stats, part, size) for stats in metadata.data for part, size in stats.splits.items()]
    return table(columns, rows)


def embedding_text(config: EmbeddingConfig) -> str:
    """The token table in words."""
    trained = _("trained") if config.trained else _("frozen")
    bias = _("with output bias") if config.output_bias else _("without output bias")
    return listed([config.source, trained, bias])


def _table(rows: Sequence[Row]) -> str:
    """The rows whose value is known."""
    columns = [
        Column[Row](_("what"), lambda row: row[0], words=True),
        Column[Row](_("value"), lambda row: row[1], words=True),
    ]
    return table(columns, [row for row in rows if row[1]])


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
        (_("models"), _each(plan, lambda c: c.arm)),
        (_("seeds"), ", ".join(str(seed) for seed in sorted({p.config.seed for p in plan.points}))),
        (_("embedding"), _each(plan, lambda c: embedding_text(c.embedding), _has("embedding"))),
        (_("width of the embedding"), _each(plan, lambda c: c.model.embed_dim, _has("model"))),
        (_("context cell"), _each(plan, shape_text, unpublished_shape)),
        (_("phase 1"), _each(plan, phase1_text, _has("phase1"))),
        (_("phase 2"), _each(plan, phase2_text, _has("phase2"))),
        (_("joint model"), _each(plan, shape_text, _has("joint"))),
        (_("joint training"), _each(plan, joint_text, _has("joint"))),
        (_("LSTM"), _each(plan, sequence_text, _has("lstm"))),
        (_("Transformer"), _each(plan, sequence_text, _has("transformer"))),
        (_("mixture"), _each(plan, mixture_text, _has("mixture"))),
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


def _runs_time(sweep: Sweep) -> str:
    known = [point.wall_seconds for point in sweep.points if point.wall_seconds is not None]
    if not known:
        return ""
    text = _("{time} for {runs} runs")
    return text.format(time=numbers.duration(sum(known)), runs=len(known))


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


def _joined(values: dict[str, Any]) -> str:
    return ", ".join(f"{name} {plain(value)}".strip() for name, value in values.items() if value is not None)
