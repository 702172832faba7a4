"""LSTM (Hochreiter & Schmidhuber 1997) language model with dropout between layers (Zaremba et al. 2014)."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from cvfp.models.fixed_point import MEMORY, Tolerance
from cvfp.models.sequence import SequenceModel, dropped, normalised

State = list[tuple[Tensor, Tensor]]
"""(h, c), each (1, S, d_e), of every layer."""
CHUNK = 1024
"""Tokens of a stream that are read one after the other; chunks of it are read side by side."""
SEGMENT = {"cpu": 32 * CHUNK, "mps": 32 * CHUNK, "cuda": 256 * CHUNK}
"""Tokens of a stream read at once."""


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
    def stream(self, tokens: Int[Tensor, " N"], exact: bool = True) -> Iterator[Float[Tensor, "B d_e"]]:
        """Chunks side by side, to the tolerance of `cvfp.models.fixed_point`; or in two passes."""
        width = self.embedding.shape[1]
        state = [(self.embedding.new_zeros(1, 1, width),) * 2] * len(self.layers)
        for part in tokens.split(SEGMENT[tokens.device.type]):
            hidden, state = self._solved(part, state, most=None if exact else 2)
            yield hidden

    def _solved(self, tokens: Tensor, start: State, most: int | None) -> tuple[Tensor, State]:
        """(N, d_e) u_t of a part of a stream from the state before it, and the state after its last chunk.

        A pass starts every chunk from where the one before it ended in the pass before; after as many passes
        as there are chunks all are exact. `most` bounds them.
        """
        length = min(CHUNK, len(tokens))
        chunks = F.pad(tokens, (0, -len(tokens) % length)).view(-1, length)
        vectors, tolerance = self.read(chunks), Tolerance.of(self.embedding.dtype, MEMORY)
        state = [tuple(F.pad(one, (0, 0, 0, len(chunks) - 1)) for one in pair) for pair in start]
        for _ in range(len(chunks) if most is None else most):
            before = state
            hidden, after = self.hidden(vectors, before)
            pairs = list(zip(start, after, strict=True))
            state = [
                tuple(torch.cat([f, a[:, :-1]], dim=1) for f, a in zip(*pair, strict=True)) for pair in pairs
            ]
            if max(map(tolerance.excess, _flat(state), _flat(before))) <= 1:
                break
        return hidden.flatten(0, 1)[: len(tokens)], [tuple(one[:, -1:] for one in pair) for pair in after]


def _flat(state: State) -> list[Tensor]:
    return [tensor for pair in state for tensor in pair]
