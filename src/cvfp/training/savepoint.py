"""Resuming inside a run: what a training needs to go on as if it had never stopped.

A savepoint is a safetensors file, and a file of rows beside it where there are contexts to keep. Each save
replaces the one before; on the CPU a resumed run ends with the very bits of one that was not interrupted.
"""

from __future__ import annotations

import json
import time
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cvfp
from cvfp.models.tensor_file import read_metadata, read_tensors, write_tensors
from cvfp.records.errors import InputError, WriteError
from cvfp.records.files import atomic_path
from cvfp.training.context_store import ContextStore

EVERY_SECONDS = 60.0
MOST_OVERHEAD = 0.05
"""Share of the time that saving may take."""
ROWS, ROWS_AT_ONCE = ".rows", 1 << 16


@dataclass(frozen=True)
class State:
    """What is saved: tensors, numbers (JSON values), and rows of contexts where there are any."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]
    rows: ContextStore | None = field(default=None, compare=False)


class Savepoints:
    """The savepoints of one run, in a directory of their own; by default nothing is saved.

    Args:
        directory: where they lie; None: nowhere.
        every: seconds between two saves of one part, at least.
        mark: how far the run is (JSON values), noted with each save.
        rewind: told that mark when a run goes on from there.
    """

    def __init__(
        self,
        directory: Path | None = None,
        every: float = EVERY_SECONDS,
        mark: Callable[[], Any] = dict,
        rewind: Callable[[Any], None] = lambda mark: None,
    ) -> None:
        self.directory, self.every, self.mark, self.rewind = directory, every, mark, rewind

    def of(self, part: str) -> Savepoint:
        """The savepoint of one part of the run."""
        return Savepoint(None if self.directory is None else self.directory / f"{part}.safetensors", self)

    def keep_only(self, part: str) -> None:
        """Take away all others: what was saved later stands on something that is not there any more."""
        for path in sorted(self.directory.glob("*")) if self.directory is not None else ():
            if path.suffix in (".safetensors", ROWS) and path.stem.partition("-at-")[0] != part:
                path.unlink(missing_ok=True)


class Savepoint:
    """One part of a run, saved again and again. `path` None: nothing is saved."""

    def __init__(self, path: Path | None, run: Savepoints) -> None:
        self.path, self.run = path, run
        self.started = time.monotonic()
        self.next = self.started + run.every
        self.seconds_before = 0.0
        """Work that was done before, and is gone on with."""

    def due(self) -> bool:
        """Whether it is time to save."""
        return self.path is not None and time.monotonic() >= self.next

    def save(self, state: State) -> None:
        """Replace what was saved. Where that cannot be written it is said, and the run goes on without."""
        if self.path is None:
            return
        began = time.monotonic()
        rows = None if state.rows is None else f"{self.path.stem}-at-{time.time_ns()}{ROWS}"
        head = {
            "cvfp": cvfp.__version__,
            "numbers": state.numbers,
            "mark": self.run.mark(),
            "seconds": began - self.started + self.seconds_before,
            "checksum": _checksum(state.tensors),
            "rows": rows,
        }
        try:
            if rows is not None:
                head["rows_checksum"] = _write_rows(self.path.with_name(rows), state.rows)
            write_tensors(self.path, state.tensors, {"cvfp": json.dumps(head, allow_nan=False)})
        except WriteError as error:
            warnings.warn(f"no savepoint: {error}", stacklevel=2)
        for old in self.path.parent.glob(f"{self.path.stem}-at-*{ROWS}"):
            if old.name != rows:
                old.unlink(missing_ok=True)
        took = time.monotonic() - began
        self.next = time.monotonic() + max(self.run.every, took / MOST_OVERHEAD)

    def load(self, device: torch.device, rows: ContextStore | None = None) -> State | None:
        """What was saved last, its rows read into `rows`; None where there is nothing that can be used.

        A file that is damaged, or of another version of cvfp, is said and left aside.
        """
        if self.path is None or not self.path.exists():
            return None
        try:
            head = read_head(self.path)
            tensors = read_tensors(self.path, device)
            if _checksum(tensors) != head["checksum"]:
                raise InputError(f"{self.path}: damaged: its checksum is another")
            if head["rows"] is not None and rows is not None:
                _read_rows(self.path.with_name(head["rows"]), rows, head["rows_checksum"])
        except InputError as error:
            warnings.warn(f"a savepoint is not used, its part starts again: {error}", stacklevel=2)
            return None
        self.seconds_before = head["seconds"]
        self.run.rewind(head["mark"])
        return State(tensors, head["numbers"], rows)


NOWHERE = Savepoints()
NOT_SAVED = NOWHERE.of("")


def read_head(path: Path) -> dict[str, Any]:
    """What a savepoint says of itself. Raises `InputError`: damaged, or of another version of cvfp."""
    try:
        head = json.loads(read_metadata(path)["cvfp"])
        version = head["cvfp"]
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is no savepoint") from error
    if version != cvfp.__version__:
        raise InputError(f"{path}: was saved by cvfp {version}, this is {cvfp.__version__}")
    return head


def _checksum(tensors: dict[str, Tensor]) -> int:
    total = 0
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        total = zlib.crc32(values, zlib.crc32(name.encode(), total))
    return total


def _write_rows(path: Path, store: ContextStore) -> int:
    """Copy a store to a file part by part; the checksum of what was written."""
    total = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for first in range(0, store.shape[0], ROWS_AT_ONCE):
            part = store.read(first, min(first + ROWS_AT_ONCE, store.shape[0])).cpu().contiguous().numpy()
            total = zlib.crc32(part, total)
            file.write(part)
    return total


def _read_rows(path: Path, store: ContextStore, checksum: int) -> None:
    total, row = 0, int(np.prod(store.shape[1:]))
    kind = torch.empty(0, dtype=store.dtype).numpy().dtype
    try:
        with path.open("rb") as file:
            for first in range(0, store.shape[0], ROWS_AT_ONCE):
                count = min(ROWS_AT_ONCE, store.shape[0] - first)
                data = bytearray(file.read(count * row * kind.itemsize))
                part = torch.frombuffer(data, dtype=store.dtype).view(count, *store.shape[1:])
                total = zlib.crc32(data, total)
                store.write(first, part.to(store.device))
    except (OSError, ValueError, RuntimeError) as error:
        raise InputError(f"{path}: damaged: {error}") from error
    if total != checksum:
        raise InputError(f"{path}: damaged: its checksum is another")
