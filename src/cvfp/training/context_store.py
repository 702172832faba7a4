"""Rows of contexts: in a device's memory while they fit, the rest in the host's, what is left in a file.

A GPU does not wait for rows that lie elsewhere. While it computes, the rows of the next range come in and
those of the last one go out, each by a stream of its own; a file is read ahead and written behind by the
system. Where rows lie decides how long that takes, and no bit of them.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import sys
import tempfile
import warnings
import weakref
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cvfp.models.parts import ran_out_of_memory
from cvfp.records.errors import CvfpError
from cvfp.training import group
from cvfp.training.host_memory import available_memory

CPU_BYTES = 2 << 30
"""Held in a CPU's memory at most: beyond, memory is flat."""
WORKING_BYTES, WORKING_SHARE, MOST_WORKING = 8 << 30, 0.2, 0.5
"""Of a card left to what is computed: so much, or that share where it is more, but at most half of it."""
HOST_SHARE = {"cuda": 0.75}
"""Of the host's available memory that contexts of a device may take, which all processes of a host share."""


def device_bytes(device: torch.device) -> int:
    """Bytes of contexts that the memory of a device has room for now."""
    if device.type != "cuda":
        return CPU_BYTES
    free, total = torch.cuda.mem_get_info(device)
    free += torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    working = min(max(WORKING_BYTES, WORKING_SHARE * total), MOST_WORKING * total)
    return max(free - int(working), 0)


def host_bytes(device: torch.device) -> int:
    """Bytes of a device's contexts that the host's memory has room for now."""
    share = HOST_SHARE.get(device.type, 0.0)
    return int(share * available_memory() / group.local_size()) if share else 0


class ContextStore:
    """Rows of contexts, written and read in ranges.

    A file is one of the temporary directory (`TMPDIR`), gone with the store, or with the process on POSIX.

    Args:
        shape: (N, ...), the rows and what is in one.
        dtype, device: of what is read.
        leave: bytes of the device's room that are needed for something else.

    Raises:
        CvfpError: there is no room in a file, or memory cannot be pinned.
    """

    def __init__(
        self, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device, leave: int = 0
    ) -> None:
        self.shape, self.dtype, self.device = shape, dtype, device
        row = int(np.prod(shape[1:])) * dtype.itemsize
        most = shape[0] if row == 0 else max(device_bytes(device) - leave, 0) // row
        self.near = self._on_device(min(shape[0], most))
        """The first rows, in the memory of the device."""
        self.far: list[HostRows | FileRows] = []
        """Where the others lie."""
        first = len(self.near)
        if first < shape[0]:
            last = min(first + host_bytes(device) // row, shape[0])
            if first < last:
                self.far.append(HostRows(first, (last - first, *shape[1:]), dtype, device))
            if last < shape[0]:
                self.far.append(FileRows(last, (shape[0] - last, *shape[1:]), dtype))
            self.coming, self.going = Copies(device), Copies(device)
            self.leaving = self._room(0)
            """Rows that are on their way to where they belong."""

    def _on_device(self, rows: int) -> Tensor:
        try:
            return self._room(rows)
        except (MemoryError, RuntimeError) as error:
            if not ran_out_of_memory(error):
                raise
            text = f"{self.device} has no memory for contexts: they lie elsewhere, slower"
            warnings.warn(text, stacklevel=3)
            return self._room(0)

    def _room(self, rows: int) -> Tensor:
        return torch.empty((rows, *self.shape[1:]), dtype=self.dtype, device=self.device)

    def read(self, first: int = 0, last: int | None = None) -> Float[Tensor, "S ..."]:
        """Rows [first, last), by default all. Those in the device's memory are not copied."""
        (rows,) = self.sweep([(first, self.shape[0] if last is None else last)])
        return rows

    def sweep(self, ranges: Sequence[tuple[int, int]]) -> Iterator[Float[Tensor, "S ..."]]:
        """Rows of each range [first, last) in turn; those of the next one come while one is used.

        Rows of a range are gone when the next one is asked for. Meanwhile rows of ranges that have had their
        turn may be written, others may not.
        """
        self._settle()
        longest = max((last - first for first, last in ranges if last > len(self.near)), default=0)
        rooms = [self._room(longest) for _ in ranges[:2]] if longest else [self.near[:0]]
        started = map(self._start, ranges, itertools.cycle(rooms))
        following = next(started, None)
        try:
            while following is not None:
                rows = self._arrived(*following)
                following = next(started, None)
                yield rows
        finally:
            if self.far:  # what still comes finds its room
                self.coming.lead()

    def write(self, first: int, rows: Float[Tensor, "S ..."]) -> None:
        """Replace the rows from `first` on."""
        near = self.near[first : first + len(rows)]
        near.copy_(rows[: len(near)])
        first, rows = first + len(near), rows[len(near) :]
        if not len(rows):
            return
        self._send_files()
        self.going.lead()  # what was leaving has left
        if len(self.leaving) < len(rows):
            self.leaving = self._room(len(rows))
        leaving = self.leaving[: len(rows)].copy_(rows)
        self.going.follow()
        with self.going.inside():
            for tier, start, end in self._beyond(first, first + len(rows)):
                tier.write(start, leaving[start - first : end - first])

    def take(self, places: Int[Tensor, " B"], out: Float[Tensor, "B ..."]) -> None:
        """Copy the rows at any places into `out`."""
        if not self.far:
            torch.index_select(self.near, 0, places, out=out)
            return
        self._stand_still()
        inside = _within(places, 0, len(self.near))
        out.index_copy_(0, inside, self.near.index_select(0, places[inside]))
        for tier in self.far:
            inside = _within(places, tier.first, tier.last)
            out.index_copy_(0, inside, tier.take(places[inside].cpu()).to(self.device))

    def put(self, places: Int[Tensor, " B"], rows: Float[Tensor, "B ..."]) -> None:
        """Replace the rows at any places, none of them twice."""
        if not self.far:
            self.near.index_copy_(0, places, rows)
            return
        self._stand_still()
        inside = _within(places, 0, len(self.near))
        self.near.index_copy_(0, places[inside], rows[inside])
        for tier in self.far:
            inside = _within(places, tier.first, tier.last)
            tier.put(places[inside].cpu(), rows[inside].cpu())

    # --- How rows come and go.

    def _start(self, wanted: tuple[int, int], room: Tensor) -> tuple[int, int, Tensor]:
        """Have the rows of a range on their way into a room; (first, last, where they will be)."""
        first, last = wanted
        if last <= len(self.near):
            return first, last, self.near[first:last]
        rows = room[: last - first]
        near = self.near[first:last]
        self.coming.follow()  # the room is free once what was in it has been used
        with self.coming.inside():
            rows[: len(near)].copy_(near)
            for tier, start, end in self._beyond(first, last):
                tier.announce(start, end, rows[start - first : end - first])
        return first, last, rows

    def _arrived(self, first: int, last: int, rows: Tensor) -> Tensor:
        """The rows of a range that was started, for what the device computes from now on."""
        if last > len(self.near):
            with self.coming.inside():
                for tier, start, end in self._beyond(first, last):
                    tier.bring(start, end, rows[start - first : end - first])
            self.coming.lead()
        return rows

    def _beyond(self, first: int, last: int) -> Iterator[tuple[HostRows | FileRows, int, int]]:
        """(tier, start, end) of what lies beyond the device of the rows [first, last)."""
        for tier in self.far:
            start, end = max(first, tier.first), min(last, tier.last)
            if start < end:
                yield tier, start, end

    def _send_files(self) -> None:
        """What waits to be written into a file is in it."""
        with self.going.inside():
            for tier in self.far:
                tier.settle()

    def _settle(self) -> None:
        """What was written is there for what comes from now on."""
        if self.far:
            self._send_files()
            self.coming.follow(self.going)

    def _stand_still(self) -> None:
        """Nothing is on its way: the host may touch its rows."""
        self._send_files()
        self.coming.finish()
        self.going.finish()


class Copies:
    """A stream of copies beside what a device computes; a CPU has none, and copies when it is asked to."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device) if device.type == "cuda" else None

    def inside(self) -> AbstractContextManager[object]:
        """What is asked for inside the block goes into this stream."""
        return contextlib.nullcontext() if self.stream is None else torch.cuda.stream(self.stream)

    def follow(self, other: Copies | None = None) -> None:
        """Copies from now on wait for all that the device, or another stream, was asked for until now."""
        if self.stream is not None:
            stream = torch.cuda.current_stream(self.device) if other is None else other.stream
            assert stream is not None  # both are of one device
            self.stream.wait_stream(stream)

    def lead(self) -> None:
        """What the device is asked for from now on waits for the copies until now."""
        if self.stream is not None:
            torch.cuda.current_stream(self.device).wait_stream(self.stream)

    def finish(self) -> None:
        """Wait for the copies."""
        if self.stream is not None:
            self.stream.synchronize()


class HostRows:
    """Rows [first, last) in the memory of the host, pinned so that a GPU copies them by itself."""

    def __init__(self, first: int, shape: tuple[int, ...], dtype: torch.dtype, device: torch.device) -> None:
        self.first, self.last = first, first + shape[0]
        self.rows = torch.empty(shape, dtype=dtype)
        if device.type == "cuda":
            self.rows.zero_()  # by all threads: to pin memory that was not touched takes one thread's time
            _pin(self.rows)
            weakref.finalize(self, _unpin, self.rows, device).atexit = False

    def announce(self, first: int, last: int, out: Tensor) -> None:
        out.copy_(self.rows[first - self.first : last - self.first], non_blocking=True)

    def bring(self, first: int, last: int, out: Tensor) -> None:
        """They have been on their way since they were announced."""

    def write(self, first: int, rows: Tensor) -> None:
        self.rows[first - self.first : first - self.first + len(rows)].copy_(rows, non_blocking=True)

    def settle(self) -> None:
        """They were on their way at once."""

    def take(self, places: Tensor) -> Tensor:
        return self.rows.index_select(0, places - self.first)

    def put(self, places: Tensor, rows: Tensor) -> None:
        self.rows.index_copy_(0, places - self.first, rows)


PORTABLE = 1
"""`cudaHostRegisterPortable`: pinned for all cards."""


def _pin(rows: Tensor) -> None:
    cudart, size = torch.cuda.cudart(), rows.numel() * rows.element_size()
    assert cudart is not None  # there is a card
    failed = int(cudart.cudaHostRegister(rows.data_ptr(), size, PORTABLE))
    if failed:
        raise CvfpError(f"{size / 2**30:.1f} GiB of host memory cannot be pinned (CUDA error {failed})")


def _unpin(rows: Tensor, device: torch.device) -> None:
    cudart = torch.cuda.cudart()
    assert cudart is not None  # there is a card
    torch.cuda.synchronize(device)  # nothing is on its way
    cudart.cudaHostUnregister(rows.data_ptr())


class FileRows:
    """Rows [first, last) in a file: the system reads those that are announced, and writes when it likes."""

    def __init__(self, first: int, shape: tuple[int, ...], dtype: torch.dtype) -> None:
        self.first, self.last, self.shape = first, first + shape[0], shape[1:]
        self.type = torch.empty(0, dtype=dtype).numpy().dtype
        self.row = int(np.prod(self.shape)) * self.type.itemsize
        self.waiting: tuple[int, Tensor] | None = None
        """Rows that go into the file while the device computes what comes after them."""
        handle, path = tempfile.mkstemp(prefix="cvfp-contexts-")
        self.file = os.fdopen(handle, "r+b")
        try:
            _reserve(handle, shape[0] * self.row)
        except OSError as error:
            _discard(self.file, path)
            text = f"{path}: no room for contexts in a file ({error.strerror}); set TMPDIR"
            raise CvfpError(text) from error
        weakref.finalize(self, _discard, self.file, path)
        with contextlib.suppress(OSError):  # an open file cannot be unlinked everywhere
            Path(path).unlink()

    def announce(self, first: int, last: int, out: Tensor) -> None:
        if sys.platform != "win32" and sys.platform != "darwin":  # which have no such call
            start, size = (first - self.first) * self.row, (last - first) * self.row
            os.posix_fadvise(self.file.fileno(), start, size, os.POSIX_FADV_WILLNEED)

    def bring(self, first: int, last: int, out: Tensor) -> None:
        out.copy_(torch.from_numpy(self._mapped(first, last)))

    def write(self, first: int, rows: Tensor) -> None:
        self.waiting = first, rows

    def settle(self) -> None:
        if self.waiting is not None:
            first, rows = self.waiting
            torch.from_numpy(self._mapped(first, first + len(rows))).copy_(rows)
            self.waiting = None

    def take(self, places: Tensor) -> Tensor:
        return torch.from_numpy(self._mapped(self.first, self.last)[(places - self.first).numpy()])

    def put(self, places: Tensor, rows: Tensor) -> None:
        self._mapped(self.first, self.last)[(places - self.first).numpy()] = rows.numpy()

    def _mapped(self, first: int, last: int) -> np.ndarray:
        """A map of these rows alone: what was touched leaves memory with it.

        Raises:
            CvfpError: the system has no map.
        """
        start = (first - self.first) * self.row
        try:
            return np.memmap(self.file, self.type, "r+", start, (last - first, *self.shape))
        except OSError as error:
            raise CvfpError(f"contexts in a file of {tempfile.gettempdir()}: {error.strerror}") from error


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


def _within(places: Int[Tensor, " B"], first: int, last: int) -> Int[Tensor, " C"]:
    """Which of the places lie in [first, last)."""
    return ((places >= first) & (places < last)).nonzero()[:, 0]
