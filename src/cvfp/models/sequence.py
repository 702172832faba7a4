"""What the models that are trained through time share: a tied table, and hidden states of a whole stream."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn


class SequenceModel(nn.Module):
    """A network over windows of tokens, with an embedding tied to the head, as wide as the table.

    It reads LN(E[x]) as the CVFP model does (a plain normalisation), and u_t E^T + b are its logits.

    Args:
        table: (V, d_e) initial embedding.
        output_bias: (V,) initial output bias, or None for a model without one.
    """

    has_state: bool
    """Whether a window goes on from the one before it."""
    replayable = False
    """Whether `hidden` is the same operations for all windows of one shape, so that a step can be recorded.
    The state is then None, or pairs of tensors layer by layer, and zeros are a start as None is."""

    def __init__(self, table: Float[Tensor, "V d_e"], output_bias: Float[Tensor, " V"] | None) -> None:
        super().__init__()
        self.embedding = nn.Parameter(table.clone())
        self.output_bias = None if output_bias is None else nn.Parameter(output_bias.clone())

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    @property
    def vocab_size(self) -> int:
        return len(self.embedding)

    def core_parameters(self) -> list[nn.Parameter]:
        """All but the table and the output bias."""
        tied = {"embedding", "output_bias"}
        return [parameter for name, parameter in self.named_parameters() if name not in tied]

    @property
    @abstractmethod
    def core_madds(self) -> int:
        """Multiply-adds per token of a forward pass without the head."""

    @abstractmethod
    def hidden(
        self, vectors: Float[Tensor, "S T d_e"], state: Any, dropout: float = 0.0, locked: bool = False
    ) -> tuple[Float[Tensor, "S T d_e"], Any]:
        """u_t of windows of embedding vectors, and the state after them, which no gradient flows through.

        `locked` dropout zeroes the same elements at all positions of a window (see `dropped`). The state of
        the start is None; so is that of a model without one.
        """

    @abstractmethod
    def stream(self, tokens: Int[Tensor, " N"], exact: bool = True) -> Iterator[Float[Tensor, "B d_e"]]:
        """u_t of a whole stream in consecutive parts, each from the tokens before it.

        Where not `exact`, tokens far back may be left out if that is faster.
        """

    def read(self, ids: Int[Tensor, "S T"]) -> Float[Tensor, "S T d_e"]:
        return F.embedding(ids, self.embedding)

    def logits(self, hidden: Float[Tensor, "B d_e"]) -> Float[Tensor, "B V"]:
        return F.linear(hidden, self.embedding, self.output_bias)


def normalised(vectors: Float[Tensor, "S T d_e"]) -> Float[Tensor, "S T d_e"]:
    return F.layer_norm(vectors, vectors.shape[-1:])


def dropped(u: Float[Tensor, "S T d"], probability: float, locked: bool) -> Float[Tensor, "S T d"]:
    """Dropout, on request of the same elements at all positions of a row (Gal & Ghahramani 2016)."""
    if not locked or not probability:
        return F.dropout(u, probability)
    return u * F.dropout(torch.ones_like(u[:, :1]), probability)
