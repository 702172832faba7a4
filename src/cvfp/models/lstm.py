"""LSTM (Hochreiter & Schmidhuber 1997) language model with dropout between layers (Zaremba et al. 2014)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from cvfp.models.sequence import SequenceModel, dropped, normalised

State = list[tuple[Tensor, Tensor]]
"""(h, c), each (1, S, d_e), of every layer."""
SEGMENT = 4096
"""Tokens of a stream read at once."""
CHUNKS, WARM_UP = 64, 256
"""`parallel`: a stream is read in so many chunks, each from so many tokens before it."""


class LstmLanguageModel(SequenceModel):
    """Layers of `nn.LSTM` of the table's width."""

    has_state = True
    replayable = True

    def __init__(
        self,
        num_layers: int,
        table: Float[Tensor, "V d_e"],
        output_bias: Float[Tensor, " V"] | None = None,
    ) -> None:
        super().__init__(table, output_bias)
        width = table.shape[1]
        self.layers = nn.ModuleList(nn.LSTM(width, width, batch_first=True) for _ in range(num_layers))

    @property
    def core_madds(self) -> int:
        """4 gates, each of input and state."""
        return 8 * len(self.layers) * self.embedding.shape[1] ** 2

    def hidden(
        self,
        vectors: Float[Tensor, "S T d_e"],
        state: State | None,
        dropout: float = 0.0,
        locked: bool = False,
    ) -> tuple[Float[Tensor, "S T d_e"], State]:
        u, after = normalised(vectors), []
        for index, layer in enumerate(self.layers):
            u, last = layer(dropped(u, dropout, locked), None if state is None else state[index])
            after.append((last[0].detach(), last[1].detach()))
        return dropped(u, dropout, locked), after

    @torch.no_grad()
    def stream(self, tokens: Int[Tensor, " N"], parallel: bool = False) -> Iterator[Float[Tensor, "B d_e"]]:
        if parallel and len(tokens) >= 2 * CHUNKS * WARM_UP:
            yield from self._chunks(tokens)
            return
        state = None
        for part in tokens.split(SEGMENT):
            hidden, state = self.hidden(self.read(part[None]), state)
            yield hidden[0]

    def _chunks(self, tokens: Tensor) -> Iterator[Tensor]:
        """Chunks side by side; the first one starts at the stream's beginning, from no state."""
        length = -(-len(tokens) // CHUNKS)
        ids = F.pad(tokens, (WARM_UP, CHUNKS * length - len(tokens))).unfold(0, WARM_UP + length, length)
        _, state = self.hidden(self.read(ids[:, :WARM_UP]), None)
        for pair in state:
            for tensor in pair:
                tensor[:, 0] = 0.0
        hidden, _ = self.hidden(self.read(ids[:, WARM_UP:]), state)
        yield hidden.flatten(0, 1)[: len(tokens)]
