"""Scoring a token stream: nats and top-1 hits of every predicted token, from exact contexts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cvfp.models.cvfp import CVFPModel
from cvfp.models.parts import Parts, widest
from cvfp.models.sequence import SequenceModel
from cvfp.records.schema import Precision
from cvfp.training.devices import computing_in, operand_dtype
from cvfp.training.head import Head

LOGIT_ROWS = {"cpu": 1024, "mps": 1024, "cuda": 8192}
"""Positions whose logits are held at once; results do not depend on it beyond rounding."""

T = TypeVar("T")
Model = CVFPModel | SequenceModel

Segments = Iterable[tuple[Tensor, Tensor]]
"""(positions, contexts) of consecutive parts of a stream, as `CVFPModel.context_segments` yields them."""


@dataclass(frozen=True)
class Scores:
    """Scores of tokens[1:]: negative log-likelihood in nats, and whether the likeliest token was the
    right one."""

    nll: Float[np.ndarray, " T"]
    correct: Bool[np.ndarray, " T"]


def watch(segments: Segments, rows: Tensor, seen: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Pass segments on; collect the last layer's contexts at `rows` (ascending positions) into `seen`."""
    for positions, contexts in segments:
        inside = rows[(rows >= positions[0]) & (rows <= positions[-1])]
        seen.append(contexts[inside - positions[0], -1])
        yield positions, contexts


def score(model: CVFPModel, tokens: Int[Tensor, " N"], segments: Segments | None = None) -> Scores:
    """Score a stream, each token from all before it. `segments` reuses contexts that are already solved."""
    return collect_scores(model, lambda score_rows: _scored(model, tokens, segments, score_rows))


def mean_nats(
    model: CVFPModel, tokens: Int[Tensor, " N"], segments: Segments, precision: Precision = "float32"
) -> float:
    """Mean nats per predicted token of a stream of at least two: that of `score`, without its hits."""
    return collect_nats(model, lambda score_rows: _scored(model, tokens, segments, score_rows), precision)


def score_sequence(model: SequenceModel, tokens: Int[Tensor, " N"]) -> Scores:
    """This is `score` of a model that is trained through time."""
    return collect_scores(model, lambda score_rows: _scored_sequence(model, tokens, True, score_rows))


def mean_nats_of_sequence(
    model: SequenceModel, tokens: Int[Tensor, " N"], precision: Precision, exact: bool
) -> float:
    """This is `mean_nats` of a model that is trained through time; `exact` as in `SequenceModel.stream`."""
    return collect_nats(
        model, lambda score_rows: _scored_sequence(model, tokens, exact, score_rows), precision
    )


RowScorer = Callable[[Tensor, Tensor], T]
"""Takes (B, d_e) hidden states and the (B,) tokens that follow."""


@torch.no_grad()
def collect_scores(model: Model, scored: Callable[[RowScorer], Iterable[tuple[Tensor, Tensor]]]) -> Scores:
    """Scores of all rows that `scored` puts through the scorer it is given, in their order."""

    def one(hidden: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        logits = model.logits(hidden)
        return F.cross_entropy(logits, targets, reduction="none"), hits(logits, targets)

    with computing_in("float32", model.device):
        parts = list(scored(one))
    nll, correct = [losses for losses, _ in parts], [hits for _, hits in parts]
    if not nll:
        return Scores(np.zeros(0, np.float32), np.zeros(0, bool))
    return Scores(torch.cat(nll).cpu().numpy(), torch.cat(correct).cpu().numpy())


@torch.no_grad()
def collect_nats(
    model: Model, scored: Callable[[RowScorer], Iterable[tuple[Tensor, int]]], precision: Precision
) -> float:
    """Mean nats of all rows that `scored` puts through the scorer it is given."""
    with computing_in(precision, model.device):
        head = Head(model.embedding, model.output_bias, operand_dtype(precision, model.embedding))
        wide = widest(model.device)
        parts = list(scored(lambda hidden, targets: (head.nll(hidden, targets).to(wide).sum(), len(targets))))
    return float(torch.stack([nats for nats, _ in parts]).sum()) / sum(count for _, count in parts)


def hits(logits: Float[Tensor, "B V"], targets: Int[Tensor, " B"]) -> Bool[Tensor, " B"]:
    """Whether argmax is the target.

    It is asked of rows alone whose maximum is the target's: on a CPU it takes as long as the losses do.
    """
    found = logits.amax(dim=1) == logits.gather(1, targets[:, None])[:, 0]
    rows = found.nonzero()[:, 0]
    found[rows] = logits[rows].argmax(dim=1) == targets[rows]
    return found


def _scored(
    model: CVFPModel, tokens: Tensor, segments: Segments | None, score_rows: RowScorer[T]
) -> Iterator[T]:
    """Put the predicted tokens through the scorer, a few rows at a time."""
    parts, left = Parts(LOGIT_ROWS[tokens.device.type]), len(tokens) - 1
    for positions, contexts in model.context_segments(tokens) if segments is None else segments:
        inside = min(len(positions), left)
        left -= inside

        def rows(first: int, last: int, positions=positions, contexts=contexts) -> T:
            chosen = positions[first:last]
            return score_rows(model.hidden(contexts[first:last], tokens, chosen), tokens[chosen + 1])

        yield from parts.over(0, inside, rows)


def _scored_sequence(
    model: SequenceModel, tokens: Tensor, exact: bool, score_rows: RowScorer[T]
) -> Iterator[T]:
    parts, done = Parts(LOGIT_ROWS[tokens.device.type]), 0
    for hidden in model.stream(tokens[:-1], exact):
        targets = tokens[done + 1 : done + 1 + len(hidden)]
        done += len(hidden)

        def rows(first: int, last: int, hidden=hidden, targets=targets) -> T:
            return score_rows(hidden[first:last], targets[first:last])

        yield from parts.over(0, len(hidden), rows)
