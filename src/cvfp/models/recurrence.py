"""The definition of the contexts of a text: the sequential roll-out. Everything fast is tested against it."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from cvfp.models.layers import ContextBlock


def roll_out(
    block: ContextBlock, features: Float[Tensor, "N d_f"], start: Float[Tensor, " d_c"] | None = None
) -> Float[Tensor, "N L d_c"]:
    """Outputs of every context layer at every position, one position after the other.

        c_t^l = LN_l(c_t^{l-1} + ReLU(W_l [c_t^{l-1}; f_t] + b_l)),   c_t^0 = c_{t-1}^L,   c_{-1}^L = start

    `start` is the zero vector when not given. This is the reference: no training or evaluation calls it.
    """
    state = features.new_zeros(block.context_dim) if start is None else start
    contexts = []
    for f in features:
        outputs = []
        for layer in block.layers:
            hidden = torch.relu(layer.linear(torch.cat([state, f])))
            state = layer.norm(state + hidden)
            outputs.append(state)
        contexts.append(torch.stack(outputs))
    if not contexts:
        return features.new_zeros(0, len(block.layers), block.context_dim)
    return torch.stack(contexts)
