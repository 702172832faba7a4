"""Transformer language model: a causal decoder, normalised before its layers, with learned positions.

As in Radford et al. 2019 (GPT-2); Vaswani et al. 2017.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from cvfp.models.sequence import SequenceModel, dropped, normalised

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
        self.layers = nn.ModuleList(DecoderLayer(width, head_dim) for _ in range(num_layers))
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
