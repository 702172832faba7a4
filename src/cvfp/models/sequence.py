"""The models that are trained through time: the LSTM and the Transformer, and what they share."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from cvfp.models.fixed_point import MEMORY, Tolerance
from cvfp.models.layers import Modules
from cvfp.models.threads import threads_for


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


# --- LSTM (Hochreiter & Schmidhuber 1997) language model with dropout between layers (Zaremba et al. 2014).


State = list[tuple[Tensor, ...]]
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
        self.layers = Modules(nn.LSTM(width, width, batch_first=True) for _ in range(num_layers))

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
        u = normalised(vectors)
        after: State = []
        for index, layer in enumerate(self.layers):
            with threads_for(u[:, 0]):
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
        state: State = [tuple(F.pad(one, (0, 0, 0, len(chunks) - 1)) for one in pair) for pair in start]
        left = len(chunks) if most is None else most
        while True:
            before = state
            hidden, after = self.hidden(vectors, before)
            pairs = list(zip(start, after, strict=True))
            state = [
                tuple(torch.cat([f, a[:, :-1]], dim=1) for f, a in zip(*pair, strict=True)) for pair in pairs
            ]
            left -= 1
            if not left or max(map(tolerance.excess, _flat(state), _flat(before))) <= 1:
                break
        return hidden.flatten(0, 1)[: len(tokens)], [tuple(one[:, -1:] for one in pair) for pair in after]


def _flat(state: State) -> list[Tensor]:
    return [tensor for pair in state for tensor in pair]


# --- Transformer language model: a causal decoder, normalised before its layers, with learned positions.
#
# As in Radford et al. 2019 (GPT-2); Vaswani et al. 2017.


POSITION_STD = 0.02
ROWS = {"cpu": 16, "mps": 16, "cuda": 64}
"""Windows of a stream read at once."""


class DecoderLayer(nn.Module):
    """u + attention(LN(u)), then u + W_2 GELU(W_1 LN(u)) with an inner width of 4 times u's."""

    def __init__(self, width: int, head_dim: int) -> None:
        super().__init__()
        self.head_dim = head_dim
        self.before_attention, self.before_mlp = nn.LayerNorm(width), nn.LayerNorm(width)
        self.queries_keys_values, self.joined = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.wide, self.narrow = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, u: Float[Tensor, "S T d"], dropout: float, locked: bool) -> Float[Tensor, "S T d"]:
        u = u + dropped(self._attention(self.before_attention(u), dropout), dropout, locked)
        return u + dropped(self.narrow(F.gelu(self.wide(self.before_mlp(u)))), dropout, locked)

    def _attention(self, u: Tensor, dropout: float) -> Tensor:
        heads = self.queries_keys_values(u).unflatten(2, (3, -1, self.head_dim)).transpose(1, 3)
        queries, keys, values = heads.unbind(dim=2)
        seen = F.scaled_dot_product_attention(queries, keys, values, dropout_p=dropout, is_causal=True)
        return self.joined(seen.transpose(1, 2).flatten(2))


class TransformerLanguageModel(SequenceModel):
    """Decoder layers of the table's width over windows of at most `window` tokens."""

    has_state = False
    replayable = True

    def __init__(
        self,
        num_layers: int,
        window: int,
        head_dim: int,
        table: Float[Tensor, "V d_e"],
        output_bias: Float[Tensor, " V"] | None = None,
    ) -> None:
        super().__init__(table, output_bias)
        width, self.window = table.shape[1], window
        self.positions = nn.Parameter(POSITION_STD * torch.randn(window, width))
        self.layers = Modules(DecoderLayer(width, head_dim) for _ in range(num_layers))
        self.norm = nn.LayerNorm(width)

    @property
    def core_madds(self) -> int:
        """12 d_e^2 of weights a layer, and the products with keys and values of half a window."""
        width = self.embedding.shape[1]
        return len(self.layers) * (12 * width**2 + self.window * width)

    def hidden(
        self, vectors: Float[Tensor, "S T d_e"], state: None, dropout: float = 0.0, locked: bool = False
    ) -> tuple[Float[Tensor, "S T d_e"], None]:
        u = dropped(normalised(vectors) + self.positions[: vectors.shape[1]], dropout, locked)
        for layer in self.layers:
            u = layer(u, dropout, locked)
        return dropped(self.norm(u), dropout, locked), None

    @torch.no_grad()
    def stream(self, tokens: Int[Tensor, " N"], exact: bool = True) -> Iterator[Float[Tensor, "B d_e"]]:
        """Windows that overlap by half: all tokens but the first ones see at least half a window."""
        step, left = self.window // 2, len(tokens) - self.window
        yield self.hidden(self.read(tokens[None, : self.window]), None)[0][0]
        if left <= 0:
            return
        padded = F.pad(tokens[step:], (0, -left % step))
        for rows in padded.unfold(0, self.window, step).split(ROWS[tokens.device.type]):
            hidden = self.hidden(self.read(rows), None)[0][:, self.window - step :].flatten(0, 1)
            yield hidden[:left]
            left -= len(hidden)
