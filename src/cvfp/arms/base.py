"""The protocol of a contender: fit on tokens, then give nats for any tokens. The lab knows nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cvfp.data.embeddings import load_table
from cvfp.records.config import RunConfig
from cvfp.training.evaluation import Scores
from cvfp.training.events import Listener, silent
from cvfp.training.savepoint import NOWHERE, Savepoints

Tokens = Int[np.ndarray, " _"]

CLOSED_FORM = "closed_form"
"""`stop_reason` of an arm that counts instead of training."""


@dataclass(frozen=True)
class Budget:
    """Where a fit computes, who is told meanwhile, where it may save how far it is.

    What it may spend is in its config.
    """

    device: torch.device
    listen: Listener = silent
    saves: Savepoints = NOWHERE


@dataclass(frozen=True)
class Facts:
    """What a fit says of itself, named as in the records. None: does not apply."""

    stop_reason: str
    total_params: int
    trained_params: int
    context_block_params: int | None = None
    steps: int | None = None
    tokens_seen: int | None = None
    best_epoch: float | None = None
    phase1_iter: int | None = None
    phase1_converged: bool | None = None
    train_er: float | None = None
    train_ppl: float | None = None
    dev_ppl: float | None = None
    flops: float | None = None
    prior: tuple[str, ...] = ()
    """Data other than the training documents that the arm has profited from, in words."""
    notes: dict[str, Any] = field(default_factory=dict)
    """Further named numbers and words (JSON values) for the record of the run."""


def on_device(tokens: Tokens, device: torch.device) -> Int[torch.Tensor, " _"]:
    """The tokens as an int64 tensor there."""
    return torch.from_numpy(np.asarray(tokens, np.int64)).to(device)


class Fitted(ABC):
    """A fitted arm."""

    facts: Facts

    @abstractmethod
    def score(self, tokens: Tokens) -> Scores:
        """Nats and top-1 hits of tokens[1:], each predicted from all tokens before it."""

    def nll(self, tokens: Tokens) -> Float[np.ndarray, " _"]:
        """Nats per predicted token."""
        return self.score(tokens).nll

    def score_with_rank(self, tokens: Tokens, seed: int) -> tuple[Scores, float | None]:
        """`score`, and the effective rank of the contexts as a share of their width (None without contexts).

        Contexts of at most 10,000 positions are taken, drawn with `seed`.
        """
        return self.score(tokens), None

    def save(self, directory: Path) -> None:  # noqa: B027 (an arm without a checkpoint keeps its record alone)
        """Write a checkpoint, if the arm has one."""


class Arm(ABC):
    """A contender with its settings."""

    @abstractmethod
    def fit(self, train: Tokens, dev: Tokens, budget: Budget, seed: int) -> Fitted:
        """Learn from `train`; `dev` is for stopping and choosing alone."""


# --- What every arm with a token table starts from.


def initial_table(config: RunConfig, vocab_size: int, seed: int) -> Tensor:
    """(V, d_e) the table that `embedding.source` names. Raises `InputError` for a bad one."""
    return torch.from_numpy(load_table(config.embedding, vocab_size, config.model.embed_dim, seed))


def initial_bias(config: RunConfig, train: Tokens, vocab_size: int) -> Tensor | None:
    """(V,) log unigram frequencies of the training tokens; None for an arm without an output bias."""
    return log_unigram(train, vocab_size) if config.embedding.output_bias else None


def log_unigram(tokens: Tokens, vocab_size: int) -> Tensor:
    """(V,) log frequencies of the tokens, every count raised by one."""
    counts = np.bincount(tokens, minlength=vocab_size) + 1.0
    return torch.from_numpy(np.log(counts / counts.sum())).float()


# --- Arms by name.


def make_arm(config: RunConfig, vocab_size: int) -> Arm:
    """The arm that `config.arm` names, with its settings at the run's number of documents."""
    config = config.resolved()
    if config.own is not None:
        from cvfp.arms.own import load_own_arm

        return load_own_arm(config, vocab_size)
    if config.arm == "kneser-ney":
        from cvfp.arms.kneser_ney import KneserNeyArm

        return KneserNeyArm(config.ngram.order, vocab_size)
    if config.arm == "mixture":
        from cvfp.arms.mixture import MixtureArm

        return MixtureArm()
    if config.arm == "unigram":
        from cvfp.arms.kneser_ney import UnigramArm

        return UnigramArm(vocab_size)
    if config.arm == "lstm":
        from cvfp.arms.sequence import lstm_arm

        return lstm_arm(config, vocab_size)
    if config.arm == "transformer":
        from cvfp.arms.sequence import transformer_arm

        return transformer_arm(config, vocab_size)
    if config.arm == "cvfp-joint":
        from cvfp.arms.joint import JointArm

        return JointArm(config, vocab_size)
    from cvfp.arms.cvfp import CvfpArm

    return CvfpArm(config, vocab_size)
