"""Contexts of many positions: in slices for phase 1, in spans for phase 2."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cvfp.models.cvfp import CVFPModel
from cvfp.training import context_store, group
from cvfp.training.context_store import ContextStore
from cvfp.training.evaluation import Segments

# --- Slices of a token stream, and how the processes of a group share them and their contexts in phase 1.


Bounds = list[tuple[int, int]]
"""[first, last) of consecutive slices."""


def slice_bounds(num_tokens: int, slice_length: int) -> Bounds:
    """[first, last) of consecutive slices; a last slice shorter than 2 rows joins the one before."""
    starts = list(range(0, num_tokens, slice_length))
    if len(starts) > 1 and num_tokens - starts[-1] < 2:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_tokens], strict=True))


def slice_groups(bounds: Bounds, rows: int) -> list[Bounds]:
    """Consecutive slices of one length, as many to a group as have at most `rows` rows, at least one."""
    groups: list[Bounds] = []
    for first, last in bounds:
        length, together = last - first, groups[-1] if groups else []
        if together and together[0][1] - together[0][0] == length and (len(together) + 1) * length <= rows:
            together.append((first, last))
        else:
            groups.append([(first, last)])
    return groups


@dataclass(frozen=True)
class Piece:
    """The slices of a batch that this process has: consecutive ones, or none.

    `index` is that of the first among all slices, `place` that of its first row among the rows that the
    process keeps, `batch_slices` how many slices the batch has in all processes.
    """

    bounds: Bounds
    index: int
    place: int
    batch_slices: int


class SlicedContexts:
    """Contexts of a stream; each process keeps those of its slices.

    It is read and written as a `ContextStore` of the whole stream is, by all processes at once.

    Args:
        num_tokens, slice_length: of the stream.
        slices_per_step: slices of a batch; None: all.
        width: d_c.
        dtype, device: of what is read.
        kept: the type in which contexts are kept, if it is another one.
    """

    def __init__(
        self,
        num_tokens: int,
        slice_length: int,
        slices_per_step: int | None,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
        kept: torch.dtype | None = None,
    ) -> None:
        self.shape, self.dtype, self.device = (num_tokens, width), dtype, device
        self.bounds = slice_bounds(num_tokens, slice_length)
        self.pieces: list[Piece] = []
        rows = 0
        for start in range(0, len(self.bounds), slices_per_step or len(self.bounds)):
            batch = self.bounds[start : start + (slices_per_step or len(self.bounds))]
            mine = group.share(len(batch))
            self.pieces.append(Piece(batch[mine], start + mine.start, rows, len(batch)))
            rows += sum(last - first for first, last in batch[mine])
        self.store = ContextStore((rows, width), kept or dtype, device)

    def own(self, piece: Piece, first: int, last: int) -> Float[Tensor, "S d_c"]:
        """Rows [first, last) of the stream, which lie in this piece."""
        start = piece.place - piece.bounds[0][0]
        return self.store.read(start + first, start + last).to(self.dtype)

    def sweep(self, piece: Piece, groups: Sequence[Bounds]) -> Iterator[Float[Tensor, "S d_c"]]:
        """Rows of each group of slices of this piece in turn: see `ContextStore.sweep`."""
        start = piece.place - piece.bounds[0][0] if piece.bounds else 0
        ranges = [(start + slices[0][0], start + slices[-1][1]) for slices in groups]
        for rows in self.store.sweep(ranges):
            yield rows.to(self.dtype)

    def write_own(self, piece: Piece, first: int, rows: Float[Tensor, "S d_c"]) -> None:
        """Replace rows that lie in this piece, from `first` of the stream on."""
        self.store.write(piece.place + first - piece.bounds[0][0], rows)

    def rows_before(self) -> list[Float[Tensor, " d_c"]]:
        """Ahead of each piece: the context of the position before it, zeros before the stream.

        Of each process one vector per piece is passed on.
        """
        nothing = torch.zeros(self.shape[1], dtype=self.dtype, device=self.device)
        lasts = [
            self.own(piece, piece.bounds[-1][1] - 1, piece.bounds[-1][1])[0] if piece.bounds else nothing
            for piece in self.pieces
        ]
        in_order = group.all_gather(torch.stack(lasts)).unbind()
        found, before = [], nothing
        for number, piece in enumerate(self.pieces):
            for process, ends in enumerate(in_order):
                if process == group.rank():
                    found.append(before)
                share = group.share(piece.batch_slices, process)
                before = ends[number] if share.stop > share.start else before
        return found

    def read(self, first: int = 0, last: int | None = None) -> Float[Tensor, "S d_c"]:
        """Rows [first, last), by default all, in every process."""
        last = self.shape[0] if last is None else last
        if group.world_size() == 1:
            return self.store.read(first, last).to(self.dtype)
        rows = torch.zeros((last - first, self.shape[1]), dtype=self.dtype, device=self.device)
        for piece, start, end in self._inside(first, last):
            rows[start - first : end - first] = self.own(piece, start, end)
        group.all_reduce(rows)
        return rows

    def write(self, first: int, rows: Float[Tensor, "S d_c"]) -> None:
        """Replace the rows from `first` on: each process those that it keeps."""
        for piece, start, end in self._inside(first, first + len(rows)):
            self.write_own(piece, start, rows[start - first : end - first])

    def _inside(self, first: int, last: int) -> list[tuple[Piece, int, int]]:
        """(piece, first, last) of what this process keeps of the rows [first, last)."""
        spans = [(piece, piece.bounds[0][0], piece.bounds[-1][1]) for piece in self.pieces if piece.bounds]
        cut = [(piece, max(start, first), min(end, last)) for piece, start, end in spans]
        return [(piece, start, end) for piece, start, end in cut if start < end]


# --- The contexts that phase 2 trains on, a span of the stream at a time: memory does not grow with the
# stream.
#
# The context block is frozen in phase 2, so a span's contexts can be solved again whenever its turn comes.


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
    """Contexts of a stream, of which one span is at hand; all are kept where there is memory for them.

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
        longest = max((last - first for first, last in self.bounds), default=0)
        size, rooms = (rows * values * dtype.itemsize for rows in (len(tokens), 2 * longest))
        near, far = (room(tokens.device) for room in (context_store.device_bytes, context_store.host_bytes))
        fits = size <= near
        self.keeps_all = fits or len(self.bounds) == 1 or size <= max(near - rooms, 0) + far
        rows = len(tokens) if self.keeps_all else longest
        leave = rooms if self.keeps_all and not fits else 0
        self.store = ContextStore((rows, *shape), dtype, tokens.device, leave)
        self.states = [model.read_table.new_zeros(model.context_dim)]
        self.first = 0
        self.at_hand: Tensor | None = None
        """Contexts from `first` on; None: they are in the store."""
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

    def opened(self, order: Sequence[int]) -> Iterator[int]:
        """Each span of an order in turn; its contexts are at hand until the next one is asked for."""
        if len(self.bounds) == 1:
            yield from order
        elif self.keeps_all:
            spans = [self.bounds[index] for index in order]
            for index, rows in zip(order, self.store.sweep(spans), strict=True):
                self.first, self.at_hand = self.bounds[index][0], rows
                yield index
            self.first, self.at_hand = 0, None
        else:
            for index in order:
                self._solve(index)
                yield index

    def _solve(self, index: int) -> None:
        """Have the contexts of this span in the store."""
        first, last = self.bounds[index]
        segments = self.model.context_segments(self.tokens, first=first, last=last, start=self.states[index])
        place = 0
        for _positions, contexts in segments:
            self.store.write(place, contexts)
            place += len(contexts)
        self.first = first

    def take(self, positions: Int[Tensor, " B"], out: Float[Tensor, "B L d_c"]) -> None:
        """Copy the contexts at positions of the open span into `out`."""
        places = positions - self.first if self.first else positions
        if self.at_hand is None:
            self.store.take(places, out)
        else:
            torch.index_select(self.at_hand, 0, places, out=out)
