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

LOGIT_ROWS = 1024
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
    if len(tokens) < 2:
        return Scores(np.zeros(0, np.float32), np.zeros(0, bool))
    segments = model.context_segments(tokens) if segments is None else segments
    nll, correct = [], []
    for positions, contexts in segments:
        for rows in range(0, len(positions), LOGIT_ROWS):
            chosen = positions[rows : rows + LOGIT_ROWS]
            chosen = chosen[chosen < len(tokens) - 1]
            logits = model.logits(model.hidden(contexts[rows : rows + len(chosen)], tokens, chosen))
            targets = tokens[chosen + 1]
            nll.append(F.cross_entropy(logits, targets, reduction="none"))
            correct.append(logits.argmax(dim=1) == targets)
    return Scores(torch.cat(nll).cpu().numpy(), torch.cat(correct).cpu().numpy())
