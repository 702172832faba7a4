"""The contexts that phase 2 trains on, a span of the stream at a time: memory does not grow with the stream.

The context block is frozen in phase 2, so a span's contexts can be solved again whenever its turn comes.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from cvfp.models.cvfp import CVFPModel
from cvfp.training.context_store import ContextStore
from cvfp.training.evaluation import Segments

HELD_VALUES = 1 << 30
"""Numbers of contexts in a span, about (4 GiB of float32). It decides which positions can share a batch, so
it follows from the model's shape and never from the memory of a machine."""
SPAN_UNIT = 1 << 18
"""Longer spans are multiples of this many positions."""


def span_bounds(num_tokens: int, values_per_token: int, held: int = HELD_VALUES) -> list[tuple[int, int]]:
    """[first, last) of consecutive spans; one span where all contexts are few."""
    length = max(held // max(values_per_token, 1), 1)
    length -= length % SPAN_UNIT if length > SPAN_UNIT else 0
    return [(first, min(first + length, num_tokens)) for first in range(0, num_tokens, length)]


class SpanContexts:
    """Contexts of a stream, of which one span is at hand.

    Args:
        model: its context block must not change from here on.
        tokens: (N,) the stream.
        segments: its contexts from the beginning, where they are being computed anyway.
        held: numbers of contexts in a span; None: all that there are.
    """

    def __init__(
        self,
        model: CVFPModel,
        tokens: Int[Tensor, " N"],
        segments: Segments | None = None,
        held: int | None = HELD_VALUES,
    ) -> None:
        self.model, self.tokens = model, tokens
        shape = (model.config.num_layers, model.context_dim)
        values = shape[0] * shape[1]
        self.bounds = span_bounds(len(tokens), values, len(tokens) * values if held is None else held)
        rows = max((last - first for first, last in self.bounds), default=0)
        self.store = ContextStore((rows, *shape), model.context_table.dtype, tokens.device)
        self.states = [model.context_table.new_zeros(model.context_dim)]
        self.opened: int | None = None
        self._pass_over(model.context_segments(tokens) if segments is None else segments)

    def _pass_over(self, segments: Segments) -> None:
        """Keep the state at every border; and the contexts, if there is one span."""
        first = 0
        for _positions, contexts in segments:
            if len(self.bounds) == 1:
                self.store.write(first, contexts)
            end = first + len(contexts)
            borders = [last for _, last in self.bounds if first < last <= end]
            self.states += [contexts[last - 1 - first, -1].clone() for last in borders]
            first = end
        self.opened = 0 if len(self.bounds) == 1 else None

    def open(self, index: int) -> None:
        """Have the contexts of this span at hand."""
        if index == self.opened:
            return
        first, last = self.bounds[index]
        for positions, contexts in self.model.context_segments(
            self.tokens, first=first, last=last, start=self.states[index]
        ):
            self.store.write(first - self.bounds[index][0], contexts)
            first += len(positions)
        self.opened = index

    def take(self, positions: Int[Tensor, " B"]) -> Float[Tensor, "B L d_c"]:
        """Contexts at positions of the open span."""
        return self.store.take(positions - self.bounds[self.opened][0])
