"""The definition of the contexts of a text: the sequential roll-out. Everything fast is tested against it.

One function per cell computes one position from the state before it and the token's features, written as
`algorithm.md` and `joint.md` write it; no training or evaluation calls them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from cvfp.models.cells import Cell, ContextBlock, GatedCell, HighwayCell, LstmCell


def roll_out(
    cell: Cell, features: Float[Tensor, "N d_f"], start: Float[Tensor, " d_s"] | None = None
) -> Float[Tensor, "N L d_s"]:
    """A cell's outputs at every position, one position after the other; the last output is the next state.

    `start` is the zero vector when not given. `cell.contexts` takes the contexts out of the outputs.
    """
    position = POSITIONS[type(cell)]
    state = features.new_zeros(cell.state_dim) if start is None else start
    outputs = []
    for f in features:
        outputs.append(position(cell, state, f))
        state = outputs[-1][-1]
    if not outputs:
        return torch.stack([position(cell, state, features.new_zeros(features.shape[1]))])[:0]
    return torch.stack(outputs)


def residual(cell: ContextBlock, state: Float[Tensor, " d_c"], f: Float[Tensor, " d_f"]) -> Tensor:
    """c^l = LN_l(c^{l-1} + ReLU(W_l [c^{l-1}; f] + b_l)) for l = 1..L, c^0 the state: (L, d_c)."""
    outputs = []
    for layer in cell.layers:
        state = layer.norm(state + torch.relu(layer.linear(torch.cat([state, f]))))
        outputs.append(state)
    return torch.stack(outputs)


def gated(cell: GatedCell, state: Float[Tensor, " d_c"], f: Float[Tensor, " d_f"]) -> Tensor:
    """u, r = sigmoid(W_g [c; f] + b_g); c' = u c + (1 - u) tanh(W_h [r c; f] + b_h), L times: (L, d_c)."""
    outputs = []
    for gates, candidate in zip(cell.gates, cell.candidates, strict=True):
        u, r = torch.sigmoid(gates(torch.cat([state, f]))).chunk(2)
        state = u * state + (1 - u) * torch.tanh(candidate(torch.cat([r * state, f])))
        outputs.append(state)
    return torch.stack(outputs)


def highway(cell: HighwayCell, state: Float[Tensor, " d_c"], f: Float[Tensor, " d_f"]) -> Tensor:
    """(u, h) = W_1 [c; f] + b_1, then W_l c + b_l; c' = sigmoid(u) c + (1 - sigmoid(u)) tanh(h): (L, d_c)."""
    outputs = []
    for index, layer in enumerate(cell.layers):
        u, h = layer(torch.cat([state, f]) if index == 0 else state).chunk(2)
        state = torch.sigmoid(u) * state + (1 - torch.sigmoid(u)) * torch.tanh(h)
        outputs.append(state)
    return torch.stack(outputs)


def lstm(cell: LstmCell, state: Float[Tensor, " d_s"], f: Float[Tensor, " d_f"]) -> Tensor:
    """[h'; m'] of every layer, (1, d_s): by turns x <- 2 sigmoid(B A h) x and h <- 2 sigmoid(B A x) h, then
    f, i, g, o = W [x; h] + b, m' = sigmoid(f) m + sigmoid(i) tanh(g), h' = sigmoid(o) tanh(m'), which is the
    next layer's x."""
    x, after = f, []
    for layer, vectors in zip(cell.layers, state.chunk(len(cell.layers)), strict=True):
        h, m = vectors.chunk(2)
        for index, (a, b) in enumerate(zip(layer.inner, layer.outer, strict=True)):
            if index % 2 == 0:
                x = 2 * torch.sigmoid(b.weight @ (a.weight @ h)) * x
            else:
                h = 2 * torch.sigmoid(b.weight @ (a.weight @ x)) * h
        forget, inputs, new, out = (layer.linear.weight @ torch.cat([x, h]) + layer.linear.bias).chunk(4)
        m = torch.sigmoid(forget) * m + torch.sigmoid(inputs) * torch.tanh(new)
        x = torch.sigmoid(out) * torch.tanh(m)
        after += [x, m]
    return torch.cat(after)[None]


POSITIONS: dict[type[Cell], Callable[..., Tensor]] = {
    ContextBlock: residual,
    GatedCell: gated,
    HighwayCell: highway,
    LstmCell: lstm,
}
