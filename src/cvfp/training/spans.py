"""The contexts that phase 2 trains on, a span of the stream at a time: memory does not grow with the stream.

The context block is frozen in phase 2, so a span's contexts can be solved again whenever its turn comes.
"""

from __future__ import annotations

from jaxtyping import Float, Int
from torch import Tensor

from cvfp.models.cvfp import CVFPModel
from cvfp.training.context_store import ContextStore, held_bytes
from cvfp.training.evaluation import Segments

HELD_VALUES = 1 << 29
"""Numbers of contexts in a span, about (2 GiB of float32). It decides which positions can share a batch, so
it follows from the model's shape and never from the memory of a machine."""
SPAN_UNIT = 1 << 18
"""Longer spans are multiples of this many positions."""


def span_bounds(num_tokens: int, values_per_token: int, held: int = HELD_VALUES) -> list[tuple[int, int]]:
    """[first, last) of consecutive spans; one span where all contexts are few."""
    length = max(held // max(values_per_token, 1), 1)
    length -= length % SPAN_UNIT if length > SPAN_UNIT else 0
    return [(first, min(first + length, num_tokens)) for first in range(0, num_tokens, length)]


class SpanContexts:
    """Contexts of a stream, of which one span is at hand; all are kept where a device has room for them.

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
        shape, dtype = (model.config.num_layers, model.context_dim), model.read_table.dtype
        values = shape[0] * shape[1]
        self.bounds = [(0, len(tokens))] if held is None else span_bounds(len(tokens), values, held)
        fits = len(tokens) * values * dtype.itemsize <= held_bytes(tokens.device)
        self.keeps_all = fits or len(self.bounds) == 1
        longest = max((last - first for first, last in self.bounds), default=0)
        rows = len(tokens) if self.keeps_all else longest
        self.store = ContextStore((rows, *shape), dtype, tokens.device)
        self.states = [model.read_table.new_zeros(model.context_dim)]
        self.first = 0
        self._pass_over(model.context_segments(tokens) if segments is None else segments)

    def _pass_over(self, segments: Segments) -> None:
        """Keep all contexts, or the states at the borders of spans."""
        first = 0
        for _positions, contexts in segments:
            end = first + len(contexts)
            if self.keeps_all:
                self.store.write(first, contexts)
            else:
                borders = [last for _, last in self.bounds if first < last <= end]
                self.states += [contexts[last - 1 - first, -1].clone() for last in borders]
            first = end

    def open(self, index: int) -> None:
        """Have the contexts of this span at hand."""
        if self.keeps_all:
            return
        first, last = self.bounds[index]
        segments = self.model.context_segments(self.tokens, first=first, last=last, start=self.states[index])
        place = 0
        for _positions, contexts in segments:
            self.store.write(place, contexts)
            place += len(contexts)
        self.first = first

    def take(self, positions: Int[Tensor, " B"], out: Float[Tensor, "B L d_c"]) -> None:
        """Copy the contexts at positions of the open span into `out`."""
        self.store.take(positions - self.first if self.first else positions, out)
