"""The protocol of a contender: fit on tokens, then give nats for any tokens. The lab knows nothing else."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int

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
