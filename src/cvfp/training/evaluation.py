"""Scoring a token stream: nats and top-1 hits of every predicted token, from exact contexts."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cvfp.models.cvfp import CVFPModel
from cvfp.records.config import Precision
from cvfp.training.head import Head
from cvfp.training.precision import computing_in, operand_dtype

LOGIT_ROWS = {"cpu": 1024, "mps": 1024, "cuda": 8192}
"""Positions whose logits are held at once; results do not depend on it beyond rounding."""

Segments = Iterable[tuple[Tensor, Tensor]]
"""(positions, contexts) of consecutive parts of a stream, as `CVFPModel.context_segments` yields them."""


@dataclass(frozen=True)
class Scores:
    """Of tokens[1:]: negative log-likelihood in nats, and whether the likeliest token was the right one."""

    nll: Float[np.ndarray, " T"]
    correct: Bool[np.ndarray, " T"]


def watch(segments: Segments, rows: Tensor, seen: list[Tensor]) -> Iterator[tuple[Tensor, Tensor]]:
    """Pass segments on; collect the last layer's contexts at `rows` (ascending positions) into `seen`."""
    for positions, contexts in segments:
        inside = rows[(rows >= positions[0]) & (rows <= positions[-1])]
        seen.append(contexts[inside - positions[0], -1])
        yield positions, contexts


@torch.no_grad()
def score(model: CVFPModel, tokens: Int[Tensor, " N"], segments: Segments | None = None) -> Scores:
    """Score a stream, each token from all before it. `segments` reuses contexts that are already solved."""
    nll, correct = [], []
    for hidden, targets in _hidden_rows(model, tokens, segments):
        logits = model.logits(hidden)
        nll.append(F.cross_entropy(logits, targets, reduction="none"))
        correct.append(logits.argmax(dim=1) == targets)
    if not nll:
        return Scores(np.zeros(0, np.float32), np.zeros(0, bool))
    return Scores(torch.cat(nll).cpu().numpy(), torch.cat(correct).cpu().numpy())


@torch.no_grad()
def mean_nats(
    model: CVFPModel, tokens: Int[Tensor, " N"], segments: Segments, precision: Precision = "float32"
) -> float:
    """Mean nats per predicted token of a stream of at least two: that of `score`, without its hits."""
    with computing_in(precision, model.device):
        head = Head(model.embedding, model.output_bias, operand_dtype(precision, model.embedding))
        rows = _hidden_rows(model, tokens, segments)
        sums = [head.nll(hidden, targets).double().sum() for hidden, targets in rows]
    return float(torch.stack(sums).sum()) / (len(tokens) - 1)


def _hidden_rows(
    model: CVFPModel, tokens: Tensor, segments: Segments | None
) -> Iterator[tuple[Tensor, Tensor]]:
    """(u_t, next token) of the predicted tokens, a few rows at a time."""
    step, left = LOGIT_ROWS[tokens.device.type], len(tokens) - 1
    for positions, contexts in model.context_segments(tokens) if segments is None else segments:
        inside = min(len(positions), left)
        left -= inside
        for first in range(0, inside, step):
            chosen = positions[first : min(first + step, inside)]
            yield model.hidden(contexts[first : first + len(chosen)], tokens, chosen), tokens[chosen + 1]
