"""Contexts of many positions: kept in memory or in a file, in slices for phase 1, in spans for phase 2."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import warnings
import weakref
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cvfp.models.cvfp import CVFPModel
from cvfp.models.parts import ran_out_of_memory
from cvfp.records.errors import CvfpError
from cvfp.training import group
from cvfp.training.evaluation import Segments

# --- Contexts of many positions: in memory while they fit, in a file beyond; what is read is the same.


CPU_BYTES = 2 << 30
"""Held in a CPU's memory at most; on a GPU it is half of the card."""


def held_bytes(device: torch.device) -> int:
    """Bytes of contexts that are held in the memory of a device."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory // 2
    return CPU_BYTES


class ContextStore:
    """Rows of contexts, written and read in slices.

    A file is one of the temporary directory (`TMPDIR`), gone with the store, or with the process on POSIX.

    Args:
        shape: (N, ...), the rows and what is in one.
        dtype, device: of what is read.
    """

    def __init__(self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        self.rows: Tensor | None = None
        if int(np.prod(shape)) * dtype.itemsize <= held_bytes(device):
            try:
                self.rows = torch.empty(shape, dtype=dtype, device=device)
            except (MemoryError, RuntimeError) as error:
                if not ran_out_of_memory(error):
                    raise
                warnings.warn(f"{device} has no memory for contexts: they go to a file, slower", stacklevel=2)
        if self.rows is None:
            self._open_file()

    def _open_file(self) -> None:
        handle, self.path = tempfile.mkstemp(prefix="cvfp-contexts-")
        self.type = torch.empty(0, dtype=self.dtype).numpy().dtype
        self.file = os.fdopen(handle, "r+b")
        try:
            _reserve(handle, int(np.prod(self.shape)) * self.type.itemsize)
        except OSError as error:
            _discard(self.file, self.path)
            text = f"{self.path}: no room for contexts in a file ({error.strerror}); set TMPDIR"
            raise CvfpError(text) from error
        weakref.finalize(self, _discard, self.file, self.path)
        with contextlib.suppress(OSError):  # an open file cannot be unlinked everywhere
            Path(self.path).unlink()

    def read(self, first: int = 0, last: int | None = None) -> Float[Tensor, "S ..."]:
        """Rows [first, last), by default all. Those in memory are not copied."""
        last = self.shape[0] if last is None else last
        if self.rows is not None:
            return self.rows[first:last]
        return torch.from_numpy(np.array(self._mapped(first, last))).to(self.device)

    def write(self, first: int, rows: Float[Tensor, "S ..."]) -> None:
        """Replace the rows from `first` on."""
        if self.rows is not None:
            self.rows[first : first + len(rows)] = rows
        else:
            self._mapped(first, first + len(rows))[:] = rows.cpu().numpy()

    def take(self, places: Int[Tensor, " B"], out: Float[Tensor, "B ..."]) -> None:
        """Copy the rows at any places into `out`."""
        if self.rows is not None:
            torch.index_select(self.rows, 0, places, out=out)
        else:
            out.copy_(torch.from_numpy(self._mapped(0, self.shape[0])[places.cpu().numpy()]))

    def put(self, places: Int[Tensor, " B"], rows: Float[Tensor, "B ..."]) -> None:
        """Replace the rows at any places, none of them twice."""
        if self.rows is not None:
            self.rows.index_copy_(0, places, rows)
        else:
            self._mapped(0, self.shape[0])[places.cpu().numpy()] = rows.cpu().numpy()

    def _mapped(self, first: int, last: int) -> np.ndarray:
        """A map of these rows alone: what was touched leaves memory with it."""
        row = int(np.prod(self.shape[1:])) * self.type.itemsize
        if last == first or row == 0:
            return np.empty((last - first, *self.shape[1:]), self.type)
        return np.memmap(self.file, self.type, "r+", first * row, (last - first, *self.shape[1:]))


def _reserve(handle: int, size: int) -> None:
    """Take the space now: a map that finds the disk full kills the process."""
    if size and sys.platform != "win32" and sys.platform != "darwin":  # which have no such call
        os.posix_fallocate(handle, 0, size)
    else:
        os.ftruncate(handle, size)


def _discard(file, path: str) -> None:
    file.close()
    with contextlib.suppress(OSError):
        Path(path).unlink()


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
            return self.store.read(first, last)
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
