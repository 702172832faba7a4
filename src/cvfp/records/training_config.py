"""How arms are trained: the phases of CVFP, training through time, counting."""

from __future__ import annotations

from abc import abstractmethod
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator

from cvfp.records.schema import (
    Layers,
    NonNegative,
    Positive,
    Precision,
    Rate,
    Schema,
    Share,
    Width,
)

Probability = Annotated[float, Field(ge=0, lt=1)]
Averaging = Probability | Literal["two-tailed"]
Cell = Literal["residual", "gated", "highway", "lstm", "mogrified"]
"""What computes a state from the one before it and the token (`cvfp.models.cells`)."""


class Phase1Config(Schema):
    """Learning the context block by fixed-point iteration (`cvfp.training.phase1`)."""

    dist_reg_weight: Share = 0.9
    """Weight w of the dispersion loss; the convergence loss has 1 - w."""
    max_iterations: Annotated[int, Field(ge=2)] = 60
    """Cap on iterations; iteration 1 is the random start, so there are at most one less optimiser steps."""
    min_iterations: Annotated[int, Field(ge=2)] = 5
    """Phase 1 does not stop before so many iterations."""
    context_noise: NonNegative = 0.0
    """Standard deviation of the noise added to every input context."""
    slice_length: Annotated[int, Field(ge=2)] = 8000
    """B, tokens per slice of the loss: the dispersion term scales with sqrt(d_c / B)."""
    slices_per_step: Positive | None = None
    """Slices of an optimiser step; None: all of them, one step per sweep."""
    lr: Rate = 0.002
    """Learning rate of Adam."""
    grad_clip: Rate = 1.0
    """Largest norm of the gradient of a step."""
    convergence_threshold: Rate = 0.03
    """A position has converged when its mean squared change is below this."""
    convergence_rate: Share = 0.99
    """Stop when this share of positions has converged."""
    precision: Precision = "bf16"
    """Of the arithmetic where the device is faster so; scores are computed in float32."""


class TokenTraining(Schema):
    """Learning to predict tokens, whoever does it (`cvfp.training.next_token`)."""

    @property
    @abstractmethod
    def step_tokens(self) -> int:
        """Next tokens that a full step learns from."""

    @property
    def readings(self) -> int:
        """How often a step reads its batch."""
        return 2 if self.consistency else 1

    def steps_between_evaluations(self, epoch_steps: int) -> int:
        """Steps from one evaluation on dev to the next, where an epoch has so many steps."""
        return -(-epoch_steps // self.evaluations_per_epoch) if self.eval_every is None else self.eval_every

    def most_tokens(self, tokens: int) -> int:
        """Next tokens that are seen if training on so many tokens runs to its end."""
        return tokens * self.epochs if self.steps is None else self.step_tokens * self.steps

    epochs: Positive = 20
    """Cap on passes over the training tokens. A run that ends here is flagged."""
    steps: Positive | None = None
    """Exactly so many steps at a constant learning rate, the last weights kept: the alternative to the
    minimum of the dev loss. `epochs`, `patience` and `lr_decay` have no say then."""
    lr: Rate = 3e-4
    """Learning rate of Adam."""
    grad_clip: Rate = 1.0
    """Largest norm of the gradient of a step."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.999
    """Decay of Adam's second moment."""
    dropout: Probability = 0.0
    """Probability of zeroing an element, of what the network reads and of what the head reads at least."""
    word_dropout: Probability = 0.0
    """Probability of zeroing all of what the network reads of an input token."""
    weight_decay: NonNegative = 0.0
    """Decoupled, of matrices; vectors (biases, normalisations) do not decay."""
    averaging: Averaging = 0.0
    """What is evaluated and kept: `two-tailed`, a mean over the tail of training that is as long as pays; a
    number, the exponential moving average of that decay; 0, the weights as they are
    (`cvfp.training.averaging`)."""
    consistency: NonNegative = 0.0
    """Weight of the disagreement of two readings of every batch, each under dropout of its own (R-Drop, Liang
    et al. 2021): half the sum of both Kullback-Leibler divergences between their predictions, beside the mean
    of their losses. 0: every batch is read once. A step takes twice as long otherwise."""
    eval_every: Positive | None = 50
    """Steps between evaluations on dev; None: `evaluations_per_epoch`. Phase 2 has at least one per epoch."""
    evaluations_per_epoch: Positive = 1
    """How often an epoch is evaluated on dev, where `eval_every` does not say."""
    patience: Positive = 5
    """Stop after this many evaluations in a row without a better dev loss."""
    lr_decay: Annotated[float, Field(gt=0, le=1)] = 0.5
    """Factor on the learning rate after an evaluation without a better dev loss; 1: constant."""
    precision: Precision = "bf16"
    """Of the steps and of the dev losses that decide when to stop; scores are computed in float32."""


class Phase2Config(TokenTraining):
    """Learning to predict tokens from frozen contexts (`cvfp.training.phase2`)."""

    batch_size: Positive = 2048
    """Positions per step."""
    shuffle: bool = True
    """Draw positions in a new random order each epoch; False takes consecutive positions in order."""
    context_source: Literal["fixed_point", "one_step"] = "fixed_point"
    """Training contexts: the exact ones, or one more sweep from phase 1's last (the published protocol)."""

    @property
    def step_tokens(self) -> int:
        return self.batch_size

    def steps_between_evaluations(self, epoch_steps: int) -> int:
        return min(super().steps_between_evaluations(epoch_steps), epoch_steps)


class SequenceTraining(TokenTraining):
    """Training through time (`cvfp.training.through_time`): `sequences` windows per step."""

    epochs: Positive = 60
    num_layers: Layers = 2
    """Layers, each as wide as the table."""
    window: Annotated[int, Field(ge=2)] = 64
    """Consecutive tokens that a gradient flows through."""
    sequences: Positive = 32
    """Windows per step."""
    locked_dropout: bool = False
    """Whether `dropout` zeroes the same elements at all positions of a window (Gal & Ghahramani 2016)."""
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.99
    word_dropout: Probability = 0.05
    averaging: Averaging = "two-tailed"
    eval_every: Positive | None = None
    evaluations_per_epoch: Positive = 2
    patience: Positive = 6

    @property
    def step_tokens(self) -> int:
        return self.sequences * self.window


class LstmConfig(SequenceTraining):
    """The LSTM arm (`cvfp.models.sequence`); its state goes on between windows. Tuned: `cvfp.lab.presets`."""

    lr: Rate = 8.7e-4
    dropout: Probability = 0.4
    locked_dropout: bool = True
    weight_decay: NonNegative = 0.5
    consistency: NonNegative = 0.5


class TransformerConfig(SequenceTraining):
    """The Transformer arm (`cvfp.models.sequence`); a window is all it sees. Tuned: `cvfp.lab.presets`."""

    lr: Rate = 2e-4
    dropout: Probability = 0.11
    word_dropout: Probability = 0.077
    weight_decay: NonNegative = 0.058
    consistency: NonNegative = 1.0
    window: Annotated[int, Field(ge=2)] = 256
    sequences: Positive = 8
    head_dim: Positive = 64
    """Width of an attention head; it divides `model.embed_dim`."""


class JointConfig(TokenTraining):
    """The arm `cvfp-joint`: its shape, and learning contexts with the token loss (`cvfp.training.joint`)."""

    cell: Cell = "mogrified"
    """What makes a state of the one before and the token (`cvfp.models.recurrence`)."""
    num_layers: Layers = 1
    """Cells above each other, or of one vector after each other (`cvfp.models.cells`)."""
    num_input_tokens: Layers = 1
    """Latest tokens that the cell sees (n)."""
    context_dim: Width | None = None
    """Width d_c of the context vector; None: 4/3 of the table's, 1,024 for one of 768."""
    rounds: Annotated[int, Field(ge=0, le=16)] = 4
    """Of the mogrified cell: how often input and context gate each other."""
    rank: Positive = 64
    """Of the mogrified cell: rank of the matrices of a round."""
    token_layers: bool = False
    """Whether the token layers of the published model stand between contexts and head."""
    window: Positive = 16
    """T, positions of a chunk: rolled out from a stored state, and what gradients flow through."""
    chunks: Positive = 128
    """S, chunks of a step."""
    refresh: bool = True
    """Whether every epoch but the first starts from the exact contexts of the text at its weights."""
    teachers: Annotated[int, Field(ge=0, le=16)] = 0
    """Models with the settings of one that learns alone, which are trained first and then distilled into this
    one (`cvfp.training.distillation`)."""
    distillation: Share = 0.8
    """Weight of the teachers' probabilities in the loss; the next tokens have the rest."""
    student_dropout: Probability = 0.1
    """`dropout` of the model that has teachers; it reads every batch once, whatever `consistency` says."""
    epochs: Positive = 40
    lr: Rate = 2e-3
    beta2: Annotated[float, Field(gt=0, lt=1)] = 0.99
    dropout: Probability = 0.4
    """Probability of zeroing an element of what the cell reads and of what the head reads, the same elements
    at all positions of a chunk (Gal & Ghahramani 2016)."""
    word_dropout: Probability = 0.05
    weight_decay: NonNegative = 0.5
    averaging: Averaging = "two-tailed"
    consistency: NonNegative = 1.0
    eval_every: Positive | None = None
    evaluations_per_epoch: Positive = 2
    patience: Positive = 6

    @property
    def step_tokens(self) -> int:
        return self.window * self.chunks


class MixtureConfig(Schema):
    """The arm `mixture` (`cvfp.arms.mixture`): other arms of its sweep, mixed with weights chosen on dev."""

    arms: Annotated[tuple[str, ...], Field(min_length=2)] = ("cvfp-joint", "kneser-ney")
    """Models whose stored losses are mixed."""
    lines: tuple[str, ...] = ()
    """Hashes of their lines: filled in by the plan, the first line of each."""

    @field_validator("arms", "lines", mode="before")
    @classmethod
    def _lists_too(cls, value: Any) -> Any:
        return tuple(value) if isinstance(value, list) else value


class NgramConfig(Schema):
    """The n-gram arm (`cvfp.arms.kneser_ney`)."""

    order: Annotated[int, Field(ge=1, le=5)] = 5
    """n: a token is predicted from the n - 1 before it."""
