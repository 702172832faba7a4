"""The layers of the CVFP model and the token features they read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Generic, TypeVar, overload

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

WEIGHT_STD = 0.1
BIAS_STD = 0.01

M = TypeVar("M", bound=nn.Module)


class Modules(nn.ModuleList, Generic[M]):
    """A `ModuleList` whose modules are of one type, which type checkers know of each that is taken out."""

    if TYPE_CHECKING:

        def __init__(self, modules: Iterable[M]) -> None: ...
        def __iter__(self) -> Iterator[M]: ...
        @overload
        def __getitem__(self, idx: slice) -> Modules[M]: ...
        @overload
        def __getitem__(self, idx: int) -> M: ...
        def __getitem__(self, idx: Any) -> Any: ...


def token_features(
    table: Float[Tensor, "V d_e"],
    tokens: Int[Tensor, " N"],
    positions: Int[Tensor, " B"],
    num_input_tokens: int,
) -> Float[Tensor, "B d_f"]:
    """f_t = [LN(E[x_{t-n+1}]); ...; LN(E[x_t])] at each position t, zero vectors before the start.

    LN is a plain normalisation (eps 1e-5, nothing trained). `tokens` is the whole stream; gradients reach
    `table` when it requires them.
    """
    ids, before = token_window(tokens, positions, num_input_tokens)
    return features_of(F.embedding(ids, table), before)


def token_window(
    tokens: Int[Tensor, " N"], positions: Int[Tensor, " B"], num_input_tokens: int
) -> tuple[Int[Tensor, "B n"], Bool[Tensor, "B n"]]:
    """The latest tokens of each position, and which of them are before the start: their ids say nothing."""
    window = positions[:, None] + torch.arange(1 - num_input_tokens, 1, device=positions.device)
    return tokens[window.clamp(min=0)], window < 0


def normalised_rows(table: Float[Tensor, "V d_e"]) -> Float[Tensor, "V+1 d_e"]:
    """LN of every row of a table, and zeros for a token before the start."""
    return F.pad(F.layer_norm(table, table.shape[1:]), (0, 0, 0, 1))


def gathered_features(
    rows: Float[Tensor, "R d_e"],
    tokens: Int[Tensor, " N"],
    positions: Int[Tensor, " B"],
    num_input_tokens: int,
) -> Float[Tensor, "B d_f"]:
    """This is `token_features` from the `normalised_rows` of a table that many sweeps read."""
    ids, before = token_window(tokens, positions, num_input_tokens)
    return F.embedding(ids.masked_fill(before, len(rows) - 1), rows).flatten(1)


def features_of(vectors: Float[Tensor, "B n d_e"], before: Bool[Tensor, "B n"]) -> Float[Tensor, "B d_f"]:
    """Token features from the vectors of a window."""
    normalised = F.layer_norm(vectors, vectors.shape[2:])
    return normalised.masked_fill(before[..., None], 0.0).flatten(1)


def initialise(linear: nn.Linear) -> nn.Linear:
    """The published initialisation: weights N(0, 0.1^2), bias N(0, 0.01^2)."""
    nn.init.normal_(linear.weight, std=WEIGHT_STD)
    nn.init.normal_(linear.bias, std=BIAS_STD)
    return linear


class TokenLayer(nn.Module):
    """u^l = LN_l(R_l u^{l-1} + ReLU(W_l [c_t^l; u^{l-1}] + b_l)); R_l is the identity at equal widths."""

    def __init__(self, context_dim: int, input_dim: int, output_dim: int) -> None:
        super().__init__()
        self.linear = initialise(nn.Linear(context_dim + input_dim, output_dim))
        same = input_dim == output_dim
        self.residual = nn.Identity() if same else initialise(nn.Linear(input_dim, output_dim))
        self.norm = nn.LayerNorm(output_dim)

    def forward(self, c: Float[Tensor, "B d_c"], u: Float[Tensor, "B d_in"]) -> Float[Tensor, "B d_out"]:
        return self.norm(self.residual(u) + torch.relu(self.linear(torch.cat([c, u], dim=1))))


class TokenBlock(nn.Module):
    """The stack of token layers, `widths` dim_0..dim_L; layer l reads the output of context layer l."""

    def __init__(self, widths: list[int], context_dim: int) -> None:
        super().__init__()
        self.layers = Modules(TokenLayer(context_dim, *pair) for pair in pairwise(widths))

    def forward(
        self, contexts: Float[Tensor, "B L d_c"], f: Float[Tensor, "B d_f"]
    ) -> Float[Tensor, "B d_e"]:
        u = f
        for index, layer in enumerate(self.layers):
            u = layer(contexts[:, index], u)
        return u
