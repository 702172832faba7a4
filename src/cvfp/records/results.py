"""What a sweep keeps of its runs: results, summaries, what training told, and where all of it ran.

One record per point, one summary per line, the exponents of its windows; `metrics.jsonl`; `metadata.json`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from cvfp.records.errors import InputError
from cvfp.records.files import is_file, parse_json_line, read_text
from cvfp.records.schema import (
    BitsPerByte,
    Count,
    NonNegative,
    Perplexity,
    Positive,
    Precision,
    Schema,
    Share,
)

StopReason = Literal["dev_minimum", "cap", "fixed_steps", "closed_form", "diverged"]
"""The dev loss had its minimum; training ended at its cap, or after the steps it was given; the arm counts
instead of training; the loss left the finite numbers, and the best weights from before are kept."""

CAP = "cap"
"""`stop_reason` of a run that ended at its cap on epochs: not at the minimum of its dev loss."""
DIVERGED = "diverged"
"""`stop_reason` of a run whose loss left the finite numbers, and `status` of one whose score is no result."""

IntervalKind = Literal["line", "draws", "documents", "draws x documents"]
"""What an interval of a line measures: `line`, the deviation of its points from a straight line over sizes;
`draws`, the variation across draws of documents and initialisations; `documents`, that of the test documents,
for the draws there are; `draws x documents`, both."""
OF_ONE_DRAW: tuple[IntervalKind, ...] = ("line", "documents")
"""Kinds that say nothing of another draw."""


class PointRecord(Schema):
    """One finished (or failed) point: a row of `detailed_results.json`.

    None means "does not apply to this arm" (an n-gram has no effective rank) or "not measured because the
    point failed". PPL is exp(mean nats per predicted token), None where it is infinite; `val_*` is the
    held-out test split; `phase1_iter` counts the random start as iteration 1; ranks are shares of
    `context_dim`.

    `diverged` is a model that was scored, but has learned nothing: its training left the finite numbers, or
    it is worse than a uniform guess over the vocabulary. It has `val_nats` in place of a PPL.
    """

    arm: str
    config_name: str
    config_hash: str
    status: Literal["done", "failed", "diverged"]
    num_layers: Positive | None = None
    context_dim: Count | None = None
    num_input_tokens: Positive | None = None
    num_samples: Positive
    train_tokens: Positive | None = None
    train_bytes: Count | None = None
    seed: Count
    draw_seed: Count | None = None
    """Of the draw of documents; None: `seed`."""
    steps: Count | None = None
    tokens_seen: Count | None = None
    stop_reason: StopReason | None = None
    best_epoch: NonNegative | None = None
    phase1_iter: Positive | None = None
    train_er: Share | None = None
    val_er: Share | None = None
    train_ppl: Perplexity | None = None
    dev_ppl: Perplexity | None = None
    val_ppl: Perplexity | None = None
    val_nats: NonNegative | None = None
    """Mean loss per predicted token of a run that diverged, whose PPL counts as infinite."""
    val_acc: Share | None = None
    bits_per_byte: BitsPerByte | None = None
    total_params: Count | None = None
    trained_params: Count | None = None
    context_block_params: Count | None = None
    flops: NonNegative | None = None
    wall_seconds: NonNegative | None = None

    @property
    def draw(self) -> int:
        """The seed that its documents were drawn with: runs that share it differ by initialisation alone."""
        return self.seed if self.draw_seed is None else self.draw_seed

    @property
    def tokens(self) -> int:
        """`train_tokens` of a point that has them, as one that is done does."""
        assert self.train_tokens is not None
        return self.train_tokens

    @property
    def ppl(self) -> float:
        """`val_ppl` of a point that has one, as one that is done does."""
        assert self.val_ppl is not None
        return self.val_ppl

    @property
    def nats(self) -> float:
        """`val_nats` of a point that has them, as one that diverged does."""
        assert self.val_nats is not None
        return self.val_nats

    @property
    def rank(self) -> float:
        """`val_er` of a point that has one, as one of a model with contexts may."""
        assert self.val_er is not None
        return self.val_er

    @property
    def compute(self) -> float:
        """`flops` of a point that has them."""
        assert self.flops is not None
        return self.flops

    @property
    def passes(self) -> float | None:
        """How often it read a training token, `tokens_seen` over `train_tokens`; None where not known."""
        return self.tokens_seen / self.train_tokens if self.tokens_seen and self.train_tokens else None

    @model_validator(mode="after")
    def _has_its_result(self) -> PointRecord:
        needed = {"done": ("val_ppl", "train_tokens"), "diverged": ("val_nats", "train_tokens"), "failed": ()}
        for name in needed[self.status]:
            if getattr(self, name) is None:
                raise ValueError(f"{name}: a run that is {self.status} needs a number, got None")
        if self.status == DIVERGED and self.val_ppl is not None:
            raise ValueError(f"val_ppl: a run that diverged has none, got {self.val_ppl:g}")
        return self


class Health(Schema):
    """Health of a context block; `failures` names what is wrong in words, empty when healthy.

    `solve_*` are of the block solve that gave the contexts; its contraction, the factor per position at
    which a wrong start is forgotten, is None where that could not be seen.
    """

    identity_cosine: float
    mean_norm: float
    mean_deviation: float
    trial_trend: str
    trial_mse: tuple[float, ...]
    lipschitz: float
    memory_length: int | None
    """None: longer than was looked for."""
    solve_passes: int
    solve_chunks: int
    solve_status: str
    solve_contraction: float | None
    failures: tuple[str, ...]


class Phase1Facts(Schema):
    """How phase 1 ended: the share of positions that had converged; its wall time, and how it computed."""

    convergence_rate: Share
    seconds: NonNegative
    precision: Precision


class TrainingFacts(Schema):
    """What learning to predict tokens took, and how it computed."""

    seconds: NonNegative
    precision: Precision


class DocumentScores(Schema):
    """Predicted tokens of each test document, and their summed negative log-likelihood in nats."""

    tokens: tuple[Count, ...]
    nats: tuple[NonNegative, ...]

    @model_validator(mode="after")
    def _one_each(self) -> DocumentScores:
        if len(self.tokens) != len(self.nats):
            raise ValueError(f"nats: {len(self.nats)} values for {len(self.tokens)} test documents")
        return self


class CorpusScores(Schema):
    """The test documents of one of several corpora."""

    tokens: Count
    ppl: NonNegative | None
    """None: infinite."""
    bits_per_byte: NonNegative


class RunFacts(Schema):
    """What a run says beyond its row. An arm may add named numbers and words (JSON values) of its own."""

    model_config = ConfigDict(extra="allow")

    health: Health | None = None
    phase1: Phase1Facts | None = None
    phase2: TrainingFacts | None = None
    training: TrainingFacts | None = None
    """Of an arm that is trained through time."""
    prior: list[str] = []
    """Data other than the training documents that the run profited from, in words."""
    test_corpora: dict[str, CorpusScores] = {}
    """By name, where the data are of several corpora and some of their documents are test documents."""


class RunRecord(Schema):
    """`record.json` of a run directory: the row, and what does not fit a row."""

    run_hash: str
    point: PointRecord
    phase1_converged: bool | None = None
    """False when phase 1 stopped at its cap: `phase1_iter` is then a lower bound."""
    facts: RunFacts = RunFacts()
    test_documents: DocumentScores | None = None
    """What paired comparisons over test documents need."""
    error: str | None = None
    """Why a failed point failed."""


ExclusionReason = Literal["failed", "diverged", "no_result", "cap", "repeated", "lone_seed", "lone_size"]
"""Why a point is in no fit: it failed; it diverged; has no perplexity or size; training ended at its cap; it
has the result of another seed; it is the only size of its draw, or of its line, and a fit needs two."""


class Exclusion(Schema):
    """A point that is not in the fit of its line; `repeated_seed` is the seed whose result it repeats."""

    num_samples: int
    seed: int
    reason: ExclusionReason
    repeated_seed: int | None = None


class SummaryRecord(Schema):
    """One line (arm, config): a row of `summary.json`. `best_*` are the values at the lowest `val_ppl`."""

    arm: str
    config_name: str
    config_hash: str
    num_layers: int | None
    context_dim: int | None
    num_input_tokens: int | None
    context_block_params: int | None
    alpha: float | None
    A: float | None
    r_squared: float | None
    alpha_ci95: tuple[float, float] | None
    interval_kind: IntervalKind | None
    best_ppl: float | None
    best_acc: float | None
    best_train_ppl: float | None
    best_val_er: float | None
    best_iter: int | None
    fitted_points: int
    excluded: tuple[Exclusion, ...] = ()
    """The points that are not in the fit, with the reason."""

    @property
    def width(self) -> int:
        """`context_dim` of a line that has one."""
        assert self.context_dim is not None
        return self.context_dim

    @property
    def block_params(self) -> int:
        """`context_block_params` of a line with a context block."""
        assert self.context_block_params is not None
        return self.context_block_params


class WindowRecord(Schema):
    """The power law of one window of consecutive sizes.

    `missing_sizes` are sizes of the sweep between its ends that the line has no fitted point of.
    """

    sample_range: tuple[int, int]
    token_range: tuple[int, int]
    alpha: float
    A: float
    r_squared: float
    alpha_ci95: tuple[float, float] | None
    interval_kind: IntervalKind | None
    missing_sizes: tuple[int, ...]


class ProgressionRecord(Schema):
    """How the exponent of one line changes with data: a row of `alpha_progression.json`.

    `alpha_change` is last minus first window, `alpha_change_ci95` its interval (None where degrees of freedom
    are short); `alpha_change_percent` is relative to |first|; `trend` is
    degrading above +0.01, improving below -0.01, else stable (the source report's rule).
    """

    arm: str
    config_name: str
    window_size: int
    windows: tuple[WindowRecord, ...]
    alpha_change: float
    alpha_change_ci95: tuple[float, float] | None
    alpha_change_percent: float
    trend: Literal["degrading", "improving", "stable"]


# --- What a run tells while it trains: `metrics.jsonl`, one JSON object per line.


class Measurement(Schema):
    """One line: numbers of a phase at a step, by name beside these three (nats, PPL, shares, learning rate).

    In phase 1 a step is an iteration, the random start being the first; in phase 2 an optimiser step.
    """

    model_config = ConfigDict(extra="allow")

    phase: str
    step: Count
    seconds: float | None = None
    """Since the run began."""

    @property
    def values(self) -> dict[str, Any]:
        """The numbers by name."""
        return self.model_extra or {}


def read_metrics(path: Path) -> tuple[Measurement, ...]:
    """The lines of a metrics file in order; none where there is no file. A last line that is not whole (the
    run is writing it, or was killed there) is left out.

    Raises:
        InputError: another line is not a measurement.
    """
    if not is_file(path):
        return ()
    lines = read_text(path).split("\n")
    found = []
    for number, line in enumerate(lines[:-1], 1):
        where = f"{path}, line {number}"
        value = parse_json_line(line, where)
        if not isinstance(value, dict):
            raise InputError(f"{where}: a JSON object is needed, found {type(value).__name__}")
        found.append(Measurement.parse_json(value, where))
    return tuple(found)


# --- Where, when and on what data a sweep ran: `metadata.json`.


class Environment(Schema):
    """Software and machine. None: not known there (a commit, of an installed package)."""

    cvfp: str
    commit: str | None
    python: str
    packages: dict[str, str | None]
    """Versions by name; None: not installed."""
    device: str
    cores: int | None
    platform: str


class TextSize(Schema):
    """How much text; figures beyond these three are kept, and not read."""

    model_config = ConfigDict(extra="allow")

    documents: Annotated[int, Field(ge=0)]
    tokens: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]


class DataStats(Schema):
    """What a data set holds; figures beyond these are kept, and not read."""

    model_config = ConfigDict(extra="allow")

    corpus: str
    tokenizer: str
    splits: dict[str, TextSize]


class Metadata(Schema):
    """`metadata.json`; a sweep that has not begun knows nothing yet."""

    environments: tuple[Environment, ...] = ()
    """One for each distinct machine and software that took part."""
    started: str | None = None
    wall_seconds: Annotated[float, Field(ge=0)] | None = None
    """While a process was at work on it: the length of `busy`."""
    busy: tuple[tuple[float, float], ...] = ()
    """From when to when that was, in seconds since the epoch; short breaks are left out."""
    datasets: dict[str, str] = {}
    """Fingerprints by name: a resumed sweep must find the same."""
    data: tuple[DataStats, ...] = ()
    notes: tuple[str, ...] = ()
    """What the data layer noted: documents left out, a tokenizer that loses text."""
