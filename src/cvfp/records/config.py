"""What a run is made of. Every default here is the standard protocol; every field is printed and recorded."""

from __future__ import annotations

import math
import re
from typing import Annotated, Any, Literal, assert_never

from pydantic import Field, field_validator, model_validator

from cvfp.records.arms import ARM_KINDS, arm_kind
from cvfp.records.errors import InputError, near
from cvfp.records.schema import (
    Count,
    Layers,
    Positive,
    Rate,
    Schema,
    Width,
    digest,
)
from cvfp.records.training_config import (
    Cell,
    JointConfig,
    LstmConfig,
    MixtureConfig,
    NgramConfig,
    Phase1Config,
    Phase2Config,
    SequenceTraining,
    TokenTraining,
    TransformerConfig,
)

SHAPE = (
    "cell",
    "num_layers",
    "num_input_tokens",
    "context_dim",
    "rounds",
    "rank",
    "token_layers",
    "head_dim",
)
"""Fields of training sections that say what is trained, not how."""
_TRAINING = "phase2, lstm, transformer, joint"
_LATER = {
    "beta2": 0.999,
    "word_dropout": 0.0,
    "averaging": 0.0,
    "consistency": 0.0,
    "evaluations_per_epoch": 1,
}
LATER: dict[str, dict[str, Any]] = {
    "model": {"cell": "residual", "rounds": 4, "rank": 64, "token_layers": True},
    "phase2": _LATER,
    "lstm": _LATER | {"locked_dropout": False},
    "transformer": _LATER | {"locked_dropout": False},
    "joint": {"consistency": 0.0, "teachers": 0, "distillation": 0.5},
}
"""Fields that joined when results had been recorded: as everything was before, they are in no hash."""
LARGEST_VOCABULARY = 1_000_000
"""Ids of a tokenizer; four times those of the largest in use."""
EMBEDDING_SETTINGS = {
    "random": {"trained": True, "output_bias": True, "lr": 3e-4},
    "gpt2": {"trained": False, "output_bias": False, "lr": 1e-3},
    "file": {"trained": False, "output_bias": True, "lr": 1e-3},
}


def embedding_settings(source: Any) -> dict[str, Any]:
    """The row of `EMBEDDING_SETTINGS` for a source (`gpt2:PATH` is gpt2); other names are paths to tables."""
    kind = source.split(":")[0] if isinstance(source, str) else "file"
    return EMBEDDING_SETTINGS[kind if kind in EMBEDDING_SETTINGS else "file"]


NO_TEST = 2
"""Test tokens of a trial of a tuning, the fewest that there can be: nothing is chosen on test texts."""


class DataConfig(Schema):
    """The text, its tokens and its splits (see `cvfp.data`)."""

    corpus: str | tuple[str, ...] = "chitchat"
    """`chitchat`, `ultrachat`, `hub:OWNER/NAME[:SPLIT]`, a local copy of hub data (`ultrachat:FOLDER`,
    `hub:FOLDER:SPLIT`), or a path: text file, folder, .jsonl, .parquet. A list of them is read as one."""
    text_field: str | None = None
    """Field that holds the text in .jsonl, .parquet and hub data; None takes `text`, else chat `messages`."""
    document_separator: str | None = None
    """Cuts every text file into documents at this string; None: a file is a document."""
    document_tokens: Positive | None = None
    """Cuts documents longer than this many GPT-2 tokens (whatever the tokenizer); None: they stay whole."""
    tokenizer: Annotated[str, Field(min_length=1)] = "gpt2"
    """`gpt2`, `bpe:SIZE` (byte-level BPE trained on the training pool), or a path to a `tokenizer.json`."""
    split: Literal["documents", "speakers", "tail", "published"] = "documents"
    """How dev and test documents are chosen: drawn at random, whole speakers held out, the last ones of the
    corpus, or conversations 1000..1019 for both (the published protocol)."""
    split_seed: Count = 0
    """Seed of the choice of dev and test documents, the same for every seed of training."""
    dev_documents: Positive | None = None
    """Whole documents, before any cutting; None: 4% of them, at most 100."""
    test_documents: Positive | None = None
    """Whole documents, before any cutting; None: 12% of them, at most 300."""
    test_tokens: Annotated[int, Field(ge=2)] | None = None
    """Score only this many first tokens of the test documents; None: all."""
    order: Literal["shuffled", "file"] = "shuffled"
    """The first `num_samples` of the pool train, in the order shuffled by the run's seed or in file order."""
    num_samples: Positive = 50
    """Number of training documents."""
    draw_seed: Count | None = None
    """Drives which documents are drawn; None: the run's seed, so that every seed is a draw of its own."""

    @field_validator("corpus", mode="before")
    @classmethod
    def _one_or_several(cls, value: Any) -> str | tuple[str, ...]:
        names = tuple(value) if isinstance(value, list | tuple) else (value,)
        if not names or not all(isinstance(name, str) and name for name in names):
            raise ValueError(f"a name, a path, or a list of them is needed, got {value!r}")
        if len(set(names)) < len(names):
            raise ValueError(f"the same corpus is given twice, got {value!r}")
        return names[0] if len(names) == 1 else names

    @property
    def corpora(self) -> tuple[str, ...]:
        """The names and paths of all corpora."""
        return (self.corpus,) if isinstance(self.corpus, str) else self.corpus

    @field_validator("tokenizer")
    @classmethod
    def _bpe_size(cls, value: str) -> str:
        if value.startswith("bpe:") and not (
            re.fullmatch("[0-9]{3,8}", value[4:]) and 256 < int(value[4:]) <= LARGEST_VOCABULARY
        ):
            raise ValueError(
                f"a BPE is written bpe:SIZE, SIZE at least 257, at most {LARGEST_VOCABULARY}, got {value!r}"
            )
        return value


class ModelConfig(Schema):
    """Shape of the network (`cvfp.models`)."""

    num_layers: Layers = 1
    """Context layers, and as many token layers."""
    num_input_tokens: Layers = 1
    """Latest tokens that every layer sees (n)."""
    context_dim: Width = 768
    """Width d_c of the context vector."""
    embed_dim: Width = 768
    """Width d_e of the token embedding."""
    cell: Cell = "residual"
    """What computes contexts; the published one is residual."""
    rounds: Annotated[int, Field(ge=0, le=16)] = 4
    """Of the mogrified cell: how often input and context gate each other."""
    rank: Positive = 64
    """Of the mogrified cell: rank of the matrices of a round."""
    token_layers: bool = True
    """Whether token layers stand between contexts and head; False: the head reads the last context."""

    @property
    def feature_dim(self) -> int:
        """Width n * d_e of the token features."""
        return self.num_input_tokens * self.embed_dim

    @property
    def token_widths(self) -> list[int]:
        """dim_l = n*d_e - floor((n-1)*d_e*l/L) for l = 0..L: from n*d_e down to d_e."""
        full = self.num_input_tokens * self.embed_dim
        excess = full - self.embed_dim
        return [full - excess * layer // self.num_layers for layer in range(self.num_layers + 1)]

    @property
    def context_block_params(self) -> int:
        """Parameters of the cell; of the residual one L * ((d_c + n*d_e)*d_c + d_c + 2*d_c)."""
        vectors = {"residual": 3, "gated": 3, "highway": 2, "lstm": 4, "mogrified": 4}[self.cell]
        return self.context_block_madds + vectors * self.num_layers * self.context_dim

    @property
    def context_block_madds(self) -> int:
        """Multiply-adds per position: one per element of the cell's matrices."""
        d_c, d_f, further = self.context_dim, self.feature_dim, self.num_layers - 1
        match self.cell:
            case "residual":
                return self.num_layers * (d_c + d_f) * d_c
            case "gated":
                return self.num_layers * 3 * (d_c + d_f) * d_c
            case "highway":
                return 2 * (d_c + d_f) * d_c + further * 2 * d_c * d_c
            case "lstm" | "mogrified":
                rounds = self.rounds * self.rank if self.cell == "mogrified" else 0
                return (4 * d_c + rounds) * (d_c + d_f) + further * (4 * d_c + rounds) * 2 * d_c
            case other:
                assert_never(other)


class EmbeddingConfig(Schema):
    """The token table, tied with the output head. Unset settings follow the source (`EMBEDDING_SETTINGS`)."""

    source: Annotated[str, Field(min_length=1)] = "random"
    """`random`, `gpt2` (hub), `gpt2:PATH` (a local copy), or a path to a .safetensors or .npy table."""
    trained: bool = True
    """Whether phase 2 trains the table; the context block always reads the initial one."""
    output_bias: bool = True
    """Whether logits get a trained bias that starts at the log unigram frequencies."""
    std: Rate = 0.02
    """Standard deviation of a random table."""

    @model_validator(mode="before")
    @classmethod
    def _settings_of_source(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        row = embedding_settings(value.get("source", "random"))
        return {"trained": row["trained"], "output_bias": row["output_bias"]} | value


class OwnArm(Schema):
    """An arm in a file of the user's (`cvfp.arms.own`)."""

    file: str
    """Where it is; it may be moved."""
    code: str
    """Hash of what is in it: other code gives other results."""
    settings: dict[str, int | float | bool | str] = {}
    """For the file to read."""


class RunConfig(Schema):
    """One point: an arm, fitted on so many documents with one seed."""

    arm: str = "cvfp"
    """The model: a name of `cvfp.arms`, or that of a file of yours."""
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    embedding: EmbeddingConfig = EmbeddingConfig()
    phase1: Phase1Config = Phase1Config()
    phase2: Phase2Config = Phase2Config()
    lstm: LstmConfig = LstmConfig()
    transformer: TransformerConfig = TransformerConfig()
    joint: JointConfig = JointConfig()
    ngram: NgramConfig = NgramConfig()
    mixture: MixtureConfig = MixtureConfig()
    own: OwnArm | None = None
    """The settings and the code of a model of yours."""
    by_size: dict[str, dict[str, dict[str, bool | int | float | str]]] = {}
    """Settings of training that follow the number of training documents: section, field, number, value, e.g.
    `by_size.joint.lr.50 = 0.003`. They win over the section's own value; see `resolved`."""
    seed: Count = 42
    """Drives the order of documents, the initialisation and the order of batches."""

    @model_validator(mode="before")
    @classmethod
    def _lr_of_embedding(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        embedding, phase2 = value.get("embedding", {}), value.get("phase2", {})
        source = (
            embedding.get("source") if isinstance(embedding, dict) else getattr(embedding, "source", None)
        )
        lr = embedding_settings(source or "random")["lr"]
        if isinstance(phase2, dict):
            return value | {"phase2": {"lr": lr} | phase2}
        if isinstance(phase2, Phase2Config) and "lr" not in phase2.model_fields_set:
            return value | {"phase2": phase2.model_copy(update={"lr": lr})}
        return value

    @model_validator(mode="after")
    def _known_arm(self) -> RunConfig:
        if self.own is None and self.arm not in ARM_KINDS:
            raise ValueError(
                f"arm: unknown arm {self.arm!r}{near(self.arm, ARM_KINDS)}; there are {', '.join(ARM_KINDS)}"
            )
        if self.own is not None and self.arm in ARM_KINDS:
            raise ValueError(f"arm: {self.own.file} cannot be named {self.arm!r}: there is such an arm")
        return self

    @model_validator(mode="after")
    def _whole_heads(self) -> RunConfig:
        width, head = self.model.embed_dim, self.transformer.head_dim
        if self.arm == "transformer" and width % head:
            raise ValueError(
                f"transformer.head_dim: it must divide model.embed_dim, got {head} for a width of {width}"
            )
        return self

    @model_validator(mode="after")
    def _cells_that_make_sense(self) -> RunConfig:
        kind = arm_kind(self.arm)
        if kind.two_phase and self.model.cell in ("lstm", "mogrified"):
            raise ValueError(
                f"model.cell: phase 1 cannot iterate {self.model.cell!r}: nothing bounds its memory, and the "
                "dispersion loss would drive it off; use residual, gated or highway, or joint.cell"
            )
        if self.arm == "no-context" and not self.model.token_layers:
            raise ValueError("model.token_layers: arm no-context has nothing but token layers; keep them")
        return self

    @model_validator(mode="after")
    def _sizes_of_training_fields(self) -> RunConfig:
        section = arm_kind(self.arm).training_section
        for name, fields in self.by_size.items():
            known = getattr(self, name, None) if name in type(self).model_fields else None
            if not isinstance(known, TokenTraining):
                raise ValueError(f"by_size.{name}: no section of training; there are {_TRAINING}")
            for field, values in fields.items():
                may = [each for each in type(known).model_fields if each not in SHAPE]
                if field not in may:
                    raise ValueError(
                        f"by_size.{name}.{field}: no setting that may follow the size{near(field, may)}; "
                        f"there are {', '.join(may)}"
                    )
                bad = [size for size in values if not (size.isdecimal() and int(size) > 0)]
                if bad or not values:
                    raise ValueError(f"by_size.{name}.{field}: a number of documents is needed, got {bad}")
        if section in self.by_size:
            self.resolved()  # raises where a value is outside its range
        return self

    def resolved(self) -> RunConfig:
        """This run with the settings of `by_size` at its number of documents, and `by_size` empty.

        Between two numbers a real value is interpolated linearly in ln(documents): `lr` and `weight_decay` in
        their logarithm, decays (`averaging`, `beta2`) in that of their distance from 1, others as they are;
        whole numbers and words are those of the nearer one. Outside, the nearest one holds. A number of steps
        holds at its own number of documents alone: elsewhere it would train too little or too much.
        """
        if not self.by_size:
            return self
        sections = {
            name: type(getattr(self, name)).parse(
                getattr(self, name).model_dump()
                | {
                    field: _at_size(field, values, self.data.num_samples)
                    for field, values in fields.items()
                    if field != "steps" or str(self.data.num_samples) in values
                },
                f"by_size.{name}",
            )
            for name, fields in self.by_size.items()
        }
        return self.model_copy(update=sections | {"by_size": {}})

    @classmethod
    def from_settings(cls, settings: dict[str, Any], where: str = "config") -> RunConfig:
        """Build from dotted keys, e.g. `{"model.context_dim": 256}`; what is not named takes its default.

        Raises:
            InputError: an unknown key, or a value outside its range.
        """
        return cls.parse(nest(settings, where), where)

    @property
    def draw(self) -> int:
        """The seed that the documents are drawn with."""
        return self.seed if self.data.draw_seed is None else self.data.draw_seed

    @property
    def token_training(self) -> TokenTraining | None:
        """How this arm learns to predict tokens; None for one that counts."""
        section = arm_kind(self.arm).training_section
        return None if section is None else getattr(self, section)

    @property
    def sequence_training(self) -> SequenceTraining:
        """`token_training` of an arm that is trained through time."""
        training = self.token_training
        assert isinstance(training, SequenceTraining)
        return training

    @property
    def shape(self) -> ModelConfig:
        """The network of a model with contexts: `model`, or what `joint` says on a table of that width."""
        if self.arm != "cvfp-joint":
            return self.model
        width = self.model.embed_dim
        fields = {name: getattr(self.joint, name) for name in ModelConfig.model_fields if name != "embed_dim"}
        if fields["context_dim"] is None:
            fields["context_dim"] = max(4 * width // 3, 1)
        return ModelConfig(embed_dim=width, **fields)

    def read(self) -> dict[str, Any]:
        """The fields that this arm reads, as nested plain data."""
        fields, kind = self.model_dump(), arm_kind(self.arm)
        chosen = {"arm": self.arm, "data": fields["data"], "seed": self.seed}
        if self.draw == self.seed:
            del chosen["data"]["draw_seed"]
        chosen |= {section: fields[section] for section in kind.sections}
        if "joint" in chosen:
            chosen["joint"]["context_dim"] = self.shape.context_dim
        followed = {name: fields for name, fields in self.by_size.items() if name == kind.training_section}
        chosen |= {"by_size": followed} if followed else {}
        for name, fields in followed.items():
            for field in fields.keys() - {"steps"}:  # which hold at their own sizes alone
                del chosen[name][field]
        if kind.neural and not kind.two_phase:
            chosen["model"] = {"embed_dim": self.model.embed_dim}
        elif kind.neural and not kind.has_context:
            chosen["model"]["context_dim"] = 0
            for field in ("cell", "rounds", "rank"):
                chosen["model"].pop(field, None)
        if "phase2" in kind.sections and "phase1" not in kind.sections:
            del chosen["phase2"]["context_source"]
        if "own" in kind.sections:
            del chosen["own"]["file"]
        if kind.neural and self.embedding.source != "random":
            del chosen["embedding"]["std"]
        return chosen

    def relevant(self) -> dict[str, Any]:
        """The fields that this arm reads and that make its result another: none that is neutral.

        Neutral is a field that joined later and leaves everything as it was before (`LATER`), a limit that is
        not set, and how teachers are learned from where there are none.
        """
        chosen, kind = self.read(), arm_kind(self.arm)
        for section in kind.sections:
            for field, before in LATER.get(section, {}).items():
                if chosen[section].get(field, ...) == before:
                    del chosen[section][field]
        if "joint" in kind.sections and not self.joint.teachers:
            for field in ("distillation", "student_dropout"):
                chosen["joint"].pop(field, None)
        if "phase1" in kind.sections and self.phase1.slices_per_step is None:
            del chosen["phase1"]["slices_per_step"]
        section, training = kind.training_section, self.token_training
        if section is not None and training is not None and training.steps is None:
            del chosen[section]["steps"]
        return chosen

    @property
    def run_hash(self) -> str:
        """Names the run directory: the hash of everything that can change the result."""
        return digest(self.relevant())

    @property
    def config_hash(self) -> str:
        """Names the line of a fit: as `run_hash`, without the data size and the seeds."""
        line = {key: value for key, value in self.relevant().items() if key != "seed"}
        line["data"] = {k: v for k, v in line["data"].items() if k not in ("num_samples", "draw_seed")}
        return digest(line)


def _at_size(field: str, values: dict[str, Any], size: int) -> Any:
    """The value of a field at a number of documents, from those at others (`RunConfig.resolved`)."""
    known = sorted((int(number), value) for number, value in values.items())
    below = [pair for pair in known if pair[0] <= size] or known[:1]
    above = [pair for pair in known if pair[0] >= size] or known[-1:]
    (low, first), (high, last) = below[-1], above[0]
    if low == high:
        return first
    share = math.log(size / low) / math.log(high / low)
    if not (isinstance(first, float) and isinstance(last, float)):
        return first if share <= 0.5 else last
    if field in ("lr", "weight_decay") and min(first, last) > 0:
        value = first ** (1 - share) * last**share
    elif field in ("averaging", "beta2"):
        value = 1 - (1 - first) ** (1 - share) * (1 - last) ** share
    else:
        value = first + share * (last - first)
    return float(f"{value:.4g}")


def nest(settings: dict[str, Any], where: str) -> dict[str, Any]:
    """`{"a.b": 1}` as `{"a": {"b": 1}}`. Raises `InputError` when a key is both a section and a value."""
    nested: dict[str, Any] = {}
    for key, value in settings.items():
        *path, last = key.split(".")
        section = nested
        for part in path:
            section = section.setdefault(part, {}) if isinstance(section, dict) else None
        if not isinstance(section, dict) or isinstance(section.get(last), dict):
            raise InputError(f"{where}: {key!r} is both a section and a value")
        section[last] = value
    return nested


def dotted(nested: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The inverse of `nest`: nested tables as dotted keys."""
    flat: dict[str, Any] = {}
    for key, value in nested.items():
        flat |= dotted(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat


# --- Seeds for the generators of a run: one per purpose, so that no two draw the same numbers.


PURPOSES = ("contexts", "noise", "batches", "dropout", "weights", "table", "documents", "rank", "teacher")


def derived_seed(seed: int, purpose: str, *parts: int) -> int:
    """A 63-bit seed from the run's seed, one of `PURPOSES`, and further numbers (a step, a slice)."""
    import numpy as np  # `cvfp --help` does without

    sequence = np.random.SeedSequence((seed, PURPOSES.index(purpose), *parts))
    return int(sequence.generate_state(1, np.uint64)[0] >> 1)
