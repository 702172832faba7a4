"""What is left of the tokens that a batch has read: a cache of constant size."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cvfp.models.cvfp import CVFPModel
from cvfp.models.rows import BEFORE


@dataclass(eq=False)
class CvfpState:
    """The cell's state and the latest n tokens of every row; a forward pass makes a new one.

    `length` counts the positions that were given, padding included, as transformers counts them.
    """

    state: Float[Tensor, "B d_s"]
    window: Int[Tensor, "B n"]
    """`BEFORE` stands for a token before the start."""
    length: int = 0

    is_compileable = False
    is_linear = (False,)
    """Transformers is to give it only what it has not read."""

    @classmethod
    def start(cls, model: CVFPModel, rows: int) -> CvfpState:
        """Of a batch that has read nothing."""
        state = model.read_table.new_zeros(rows, model.state_dim)
        shape = (rows, model.config.num_input_tokens)
        return cls(state, torch.full(shape, BEFORE, device=model.device))

    def get_seq_length(self, layer_idx: int = 0) -> int:
        """Positions given so far."""
        return self.length

    def select(self, rows: Int[Tensor, " B2"]) -> CvfpState:
        """The state of these rows, in this order."""
        rows = rows.to(self.window.device)
        return CvfpState(self.state[rows], self.window[rows], self.length)
