"""Slices of a token stream, and how the processes of a group share them and their contexts in phase 1."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from cvfp.training import group
from cvfp.training.context_store import ContextStore

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
    """

    def __init__(
        self,
        num_tokens: int,
        slice_length: int,
        slices_per_step: int | None,
        width: int,
        dtype: torch.dtype,
        device: torch.device,
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
        self.store = ContextStore((rows, width), dtype, device)

    def own(self, piece: Piece, first: int, last: int) -> Float[Tensor, "S d_c"]:
        """Rows [first, last) of the stream, which lie in this piece."""
        start = piece.place - piece.bounds[0][0]
        return self.store.read(start + first, start + last)

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
        in_order = group.parts_of_all(torch.stack(lasts)).unbind()
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
        if group.size() == 1:
            return self.store.read(first, last)
        rows = torch.zeros((last - first, self.shape[1]), dtype=self.dtype, device=self.device)
        for piece, start, end in self._inside(first, last):
            rows[start - first : end - first] = self.own(piece, start, end)
        group.add_up(rows)
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
