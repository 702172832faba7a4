"""Cells: what computes the state of a position from the state before it and the token.

A cell is one page: its matrices, what a step reads of the token (computed outside the recurrence), the step
itself. `cvfp.models.recurrence` has each one's sequential definition, which the tests hold it to.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import assert_never

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from cvfp.models.fixed_point import MEMORY, SINGLE
from cvfp.models.layers import Modules, initialise
from cvfp.models.lstm_rollout import roll_positions
from cvfp.models.threads import threads_for
from cvfp.records.config import ModelConfig

CARRY_BIAS = 1.0
"""Initial bias of the gates that keep what is there (forget, carry): a cell begins by remembering."""
GATE_STD = 0.1
"""Standard deviation of the second matrix of a mogrifier at the start (Melis et al. 2020: small)."""


class Cell(nn.Module):
    """A map from the state before a position, (d_s,), and the token's features to outputs (L, d_s).

    The last output is the next state; `contexts` says which part of the outputs others read. Widths:
    `context_dim` d_c, `state_dim` d_s.
    """

    context_dim: int
    state_dim: int
    tolerance: float = SINGLE
    """To which solved states of float32 agree, in absolute and relative terms."""

    @abstractmethod
    def token_parts(self, f: Float[Tensor, "B d_f"]) -> Float[Tensor, "B K d_z"]:
        """What steps read of tokens: all that can be computed outside the recurrence."""

    @abstractmethod
    def step(self, s: Float[Tensor, "B d_s"], z: Float[Tensor, "B K d_z"]) -> Float[Tensor, "B L d_s"]:
        """One step of the recurrence from precomputed token parts, for any number of rows at once."""

    def contexts(self, outputs: Float[Tensor, "... L d_s"]) -> Float[Tensor, "... L d_c"]:
        """The context of every layer; here the outputs themselves."""
        return outputs

    def forward(self, s: Float[Tensor, "B d_s"], f: Float[Tensor, "B d_f"]) -> Float[Tensor, "B L d_s"]:
        """One step from the tokens' features."""
        return self.step(s, self.token_parts(f))

    def roll(
        self, features: Float[Tensor, "T S d_f"], state: Float[Tensor, "S d_s"], dropout: float = 0.0
    ) -> tuple[Float[Tensor, "T S L d_c"], Float[Tensor, "S d_s"]]:
        """Contexts of T positions of S rows, and the states after them, which no gradient flows through.

        Gradients flow through all T positions. `dropout` acts between stacked layers, where there are any,
        on the same elements at all positions.
        """
        parts = self.token_parts(features.flatten(0, 1)).unflatten(0, features.shape[:2])
        found = []
        for z in parts:
            outputs = self.step(state, z)
            state = outputs[:, -1]
            found.append(self.contexts(outputs))
        return torch.stack(found), state.detach()


class ContextLayer(nn.Module):
    """c^l = LN_l(c^{l-1} + ReLU(W_l [c^{l-1}; f_t] + b_l)), for any number of rows at once."""

    def __init__(self, context_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.linear = initialise(nn.Linear(context_dim + feature_dim, context_dim))
        self.norm = nn.LayerNorm(context_dim)

    def forward(self, c: Float[Tensor, "B d_c"], f: Float[Tensor, "B d_f"]) -> Float[Tensor, "B d_c"]:
        return self.from_token_part(c, self.token_part(f))

    def token_part(self, f: Float[Tensor, "B d_f"]) -> Float[Tensor, "B d_c"]:
        """W_f f_t + b: the part that does not depend on the recurrence."""
        return F.linear(f, self.linear.weight[:, self.norm.normalized_shape[0] :], self.linear.bias)

    def from_token_part(self, c: Float[Tensor, "B d_c"], z: Float[Tensor, "B d_c"]) -> Float[Tensor, "B d_c"]:
        """The layer's output from its context input and its token part z."""
        recurrent = self.linear.weight[:, : self.norm.normalized_shape[0]]
        return self.norm(c + torch.relu(torch.addmm(z, c, recurrent.T)))


class ContextBlock(Cell):
    """The published cell, `residual`: a stack of context layers that the state passes through.

    Parameters: L * ((d_c + n*d_e)*d_c + d_c + 2*d_c).
    """

    def __init__(self, num_layers: int, context_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.layers = Modules(ContextLayer(context_dim, feature_dim) for _ in range(num_layers))
        self.context_dim = self.state_dim = context_dim

    def token_parts(self, f: Float[Tensor, "B d_f"]) -> Float[Tensor, "B L d_c"]:
        return torch.stack([layer.token_part(f) for layer in self.layers], dim=1)

    def step(self, s: Float[Tensor, "B d_c"], z: Float[Tensor, "B L d_c"]) -> Float[Tensor, "B L d_c"]:
        outputs = []
        for index, layer in enumerate(self.layers):
            s = layer.from_token_part(s, z[:, index])
            outputs.append(s)
        return torch.stack(outputs, dim=1)


class GatedCell(Cell):
    """`gated`: a GRU (Cho et al. 2014) whose L layers the state passes through one after the other.

        u, r = sigmoid(W_g [c; f] + b_g),   c' = u * c + (1 - u) * tanh(W_h [r * c; f] + b_h)

    b_g starts at 1 for u and at 0 for r. Every layer sees the same f.
    """

    def __init__(self, num_layers: int, context_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.context_dim = self.state_dim = context_dim
        inputs = context_dim + feature_dim
        self.gates = Modules(_linear(inputs, 2 * context_dim) for _ in range(num_layers))
        self.candidates = Modules(_linear(inputs, context_dim) for _ in range(num_layers))
        for gates in self.gates:
            nn.init.constant_(gates.bias[:context_dim], CARRY_BIAS)

    def token_parts(self, f: Float[Tensor, "B d_f"]) -> Float[Tensor, "B L d_z"]:
        width = self.context_dim
        return torch.stack(
            [
                torch.cat([F.linear(f, m.weight[:, width:], m.bias) for m in pair], dim=1)
                for pair in zip(self.gates, self.candidates, strict=True)
            ],
            dim=1,
        )

    def forward(self, s: Float[Tensor, "B d_c"], f: Float[Tensor, "B d_f"]) -> Float[Tensor, "B L d_c"]:
        outputs = []
        for gates, candidate in zip(self.gates, self.candidates, strict=True):
            keep, reset = gates(torch.cat([s, f], dim=1)).sigmoid().chunk(2, dim=1)
            new = candidate(torch.cat([reset * s, f], dim=1)).tanh()
            s = keep * s + (1 - keep) * new
            outputs.append(s)
        return torch.stack(outputs, dim=1)

    def step(self, s: Float[Tensor, "B d_c"], z: Float[Tensor, "B L d_z"]) -> Float[Tensor, "B L d_c"]:
        width, outputs = self.context_dim, []
        for index, (gates, candidate) in enumerate(zip(self.gates, self.candidates, strict=True)):
            of_gates, of_candidate = z[:, index].split([2 * width, width], dim=1)
            keep, reset = torch.addmm(of_gates, s, gates.weight[:, :width].T).sigmoid().chunk(2, dim=1)
            new = torch.addmm(of_candidate, reset * s, candidate.weight[:, :width].T).tanh()
            s = keep * s + (1 - keep) * new
            outputs.append(s)
        return torch.stack(outputs, dim=1)


class HighwayCell(Cell):
    """`highway`: a recurrent highway network (Zilly et al. 2017), L deep; the first layer sees the token.

        u = sigmoid(W_u c + b_u [+ V_u f]),   c' = u * c + (1 - u) * tanh(W_h c + b_h [+ V_h f])

    b_u starts at 1.
    """

    def __init__(self, num_layers: int, context_dim: int, feature_dim: int) -> None:
        super().__init__()
        self.context_dim = self.state_dim = context_dim
        widths = [context_dim + feature_dim, *[context_dim] * (num_layers - 1)]
        self.layers = Modules(_linear(width, 2 * context_dim) for width in widths)
        for layer in self.layers:
            nn.init.constant_(layer.bias[:context_dim], CARRY_BIAS)

    def token_parts(self, f: Float[Tensor, "B d_f"]) -> Float[Tensor, "B 1 d_z"]:
        first = self.layers[0]
        return F.linear(f, first.weight[:, self.context_dim :], first.bias)[:, None]

    def forward(self, s: Float[Tensor, "B d_c"], f: Float[Tensor, "B d_f"]) -> Float[Tensor, "B L d_c"]:
        return self._deepened(s, self.layers[0](torch.cat([s, f], dim=1)))

    def step(self, s: Float[Tensor, "B d_c"], z: Float[Tensor, "B 1 d_z"]) -> Float[Tensor, "B L d_c"]:
        return self._deepened(s, torch.addmm(z[:, 0], s, self.layers[0].weight[:, : self.context_dim].T))

    def _deepened(self, s: Tensor, first: Tensor) -> Tensor:
        """All layers' outputs, from the first one's sums."""
        outputs = []
        for index, layer in enumerate(self.layers):
            carry, new = (layer(s) if index else first).chunk(2, dim=1)
            carry = carry.sigmoid()
            s = carry * s + (1 - carry) * new.tanh()
            outputs.append(s)
        return torch.stack(outputs, dim=1)


class LstmCell(Cell):
    """`lstm` (Hochreiter & Schmidhuber 1997) and, with rounds, `mogrified` (Melis et al. 2020).

    Of each of L layers above each other, whose x is the token's features or h' of the layer below:

        for i in 0..r-1:  x <- 2 sigmoid(B_i A_i h) * x  (i even),   h <- 2 sigmoid(B_i A_i x) * h  (i odd)
        f, i, g, o = W [x; h] + b,   m' = sigmoid(f) m + sigmoid(i) tanh(g),   h' = sigmoid(o) tanh(m')

    The state is [h; m] of every layer, the context of a layer its h. b starts at 1 for f, else at 0; A_i at
    N(0, 1/inputs), B_i at N(0, 0.1^2).
    """

    tolerance = MEMORY

    def __init__(
        self, num_layers: int, context_dim: int, feature_dim: int, rounds: int = 0, rank: int = 64
    ) -> None:
        super().__init__()
        self.context_dim, self.state_dim = context_dim, 2 * num_layers * context_dim
        self.layers = Modules(
            _LstmLayer(context_dim if index else feature_dim, context_dim, rounds, rank)
            for index in range(num_layers)
        )

    def token_parts(self, f: Float[Tensor, "B d_f"]) -> Float[Tensor, "B 1 d_z"]:
        """W_x x + b of the first layer; its x itself where h gates it."""
        first = self.layers[0]
        return (f if len(first.inner) else first.token_part(f))[:, None]

    def forward(self, s: Float[Tensor, "B d_s"], f: Float[Tensor, "B d_f"]) -> Float[Tensor, "B 1 d_s"]:
        (h, m), *_ = self._vectors(s)
        return self._stacked(s, *self.layers[0](f, h, m))

    def step(self, s: Float[Tensor, "B d_s"], z: Float[Tensor, "B 1 d_z"]) -> Float[Tensor, "B 1 d_s"]:
        first, ((h, m), *_) = self.layers[0], self._vectors(s)
        with threads_for(s):
            return self._stacked(s, *(first if len(first.inner) else first.from_token_part)(z[:, 0], h, m))

    def _stacked(self, s: Tensor, h: Tensor, m: Tensor) -> Tensor:
        """The next state, from that of the first layer."""
        after = [h, m]
        for layer, (before_h, before_m) in zip(self.layers[1:], self._vectors(s)[1:], strict=True):
            h, m = layer(h, before_h, before_m)
            after += [h, m]
        return torch.cat(after, dim=1)[:, None]

    def contexts(self, outputs: Float[Tensor, "... 1 d_s"]) -> Float[Tensor, "... L d_c"]:
        return outputs[..., 0, :].unflatten(-1, (len(self.layers), 2, self.context_dim))[..., 0, :]

    def roll(
        self, features: Float[Tensor, "T S d_f"], state: Float[Tensor, "S d_s"], dropout: float = 0.0
    ) -> tuple[Float[Tensor, "T S L d_c"], Float[Tensor, "S d_s"]]:
        device = features.device.type
        operands = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else features.dtype
        x, found, after = features, [], []
        for index, (layer, (h, m)) in enumerate(zip(self.layers, self._vectors(state), strict=True)):
            if index and dropout:
                x = x * F.dropout(torch.ones_like(x[:1]), dropout)
            pairs = tuple((inner.weight, outer.weight) for inner, outer in layer.pairs())
            x, last = roll_positions(x, h, m, layer.linear.weight, layer.linear.bias, pairs, operands)
            found.append(x)
            after += [x[-1].detach(), last]
        return torch.stack(found, dim=2), torch.cat(after, dim=1)

    def _vectors(self, s: Tensor) -> list[tuple[Tensor, ...]]:
        """(h, m) of every layer."""
        return [pair.unbind(1) for pair in s.unflatten(1, (len(self.layers), 2, self.context_dim)).unbind(1)]


class _LstmLayer(nn.Module):
    """One layer of `LstmCell`: `linear` holds W and b; `inner` the A_i, `outer` the B_i."""

    def __init__(self, width: int, context_dim: int, rounds: int, rank: int) -> None:
        super().__init__()
        self.linear = _linear(width + context_dim, 4 * context_dim, fan_in=context_dim)
        nn.init.zeros_(self.linear.bias)
        nn.init.constant_(self.linear.bias[:context_dim], CARRY_BIAS)
        ends = [(context_dim, width) if index % 2 == 0 else (width, context_dim) for index in range(rounds)]
        self.inner = Modules(nn.Linear(read, rank, bias=False) for read, _ in ends)
        self.outer = Modules(nn.Linear(rank, gated, bias=False) for _, gated in ends)
        for inner, outer in self.pairs():
            nn.init.normal_(inner.weight, std=1 / math.sqrt(inner.in_features))
            nn.init.normal_(outer.weight, std=GATE_STD)

    def pairs(self) -> list[tuple[nn.Linear, nn.Linear]]:
        """(A_i, B_i) of every round."""
        return list(zip(self.inner, self.outer, strict=True))

    def forward(self, x: Tensor, h: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        for index, (inner, outer) in enumerate(self.pairs()):
            if index % 2 == 0:
                x = 2 * outer(inner(h)).sigmoid() * x
            else:
                h = 2 * outer(inner(x)).sigmoid() * h
        return _gated(self.linear(torch.cat([x, h], dim=1)), m)

    def token_part(self, x: Tensor) -> Tensor:
        return F.linear(x, self.linear.weight[:, : x.shape[1]], self.linear.bias)

    def from_token_part(self, z: Tensor, h: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
        return _gated(torch.addmm(z, h, self.linear.weight[:, -h.shape[1] :].T), m)


def _gated(gates: Tensor, m: Tensor) -> tuple[Tensor, Tensor]:
    f, i, g, o = gates.chunk(4, dim=1)
    m = f.sigmoid() * m + i.sigmoid() * g.tanh()
    return o.sigmoid() * m.tanh(), m


def _linear(inputs: int, outputs: int, fan_in: int | None = None) -> nn.Linear:
    """Weights uniform within 1/sqrt(fan_in), by default of the inputs; bias 0."""
    linear = nn.Linear(inputs, outputs)
    bound = 1 / math.sqrt(inputs if fan_in is None else fan_in)
    nn.init.uniform_(linear.weight, -bound, bound)
    nn.init.zeros_(linear.bias)
    return linear


def make_cell(config: ModelConfig) -> Cell:
    """The cell of that shape, freshly drawn."""
    size = (config.num_layers, config.context_dim, config.feature_dim)
    match config.cell:
        case "residual":
            return ContextBlock(*size)
        case "gated":
            return GatedCell(*size)
        case "highway":
            return HighwayCell(*size)
        case "lstm":
            return LstmCell(*size, 0, config.rank)
        case "mogrified":
            return LstmCell(*size, config.rounds, config.rank)
        case other:
            assert_never(other)
