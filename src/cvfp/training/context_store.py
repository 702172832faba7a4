"""Contexts of many positions: in memory while they fit, in a file beyond; what is read is the same."""

from __future__ import annotations

import contextlib
import os
import tempfile
import warnings
import weakref
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from cvfp.models.parts import ran_out_of_memory
from cvfp.records.errors import CvfpError

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
    if size and hasattr(os, "posix_fallocate"):
        os.posix_fallocate(handle, 0, size)
    else:
        os.ftruncate(handle, size)


def _discard(file, path: str) -> None:
    file.close()
    with contextlib.suppress(OSError):
        Path(path).unlink()
