"""Resuming inside a run: what a training needs to go on as if it had never stopped.

A savepoint is a safetensors file, and a file of rows beside it where there are contexts to keep. Each save
replaces the one before; on the CPU a resumed run ends with the very bits of one that was not interrupted.
"""

from __future__ import annotations

import json
import time
import warnings
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

import cvfp
from cvfp.models.checkpoint import read_metadata, read_tensors, write_tensors
from cvfp.records.errors import InputError, WriteError
from cvfp.records.files import atomic_path
from cvfp.training import group
from cvfp.training.context_store import ContextStore
from cvfp.training.contexts import SlicedContexts

FORMAT = 2
"""Of what is saved; a savepoint of another one is left aside."""
MOST_OVERHEAD = 0.05
"""Share of the time that saving may take."""
ROWS, ROWS_AT_ONCE = ".rows", 1 << 16
Rows = ContextStore | SlicedContexts


@dataclass(frozen=True)
class State:
    """What is saved: tensors, numbers (JSON values), and rows of contexts where there are any."""

    tensors: dict[str, Tensor]
    numbers: dict[str, Any]
    rows: Rows | None = field(default=None, compare=False)


class Savepoints:
    """The savepoints of one run, in a directory of their own; by default nothing is saved.

    Args:
        directory: where they lie; None: nowhere.
        every: seconds between two saves of one part, at least; 0 is at every chance.
        mark: how far the run is (JSON values), noted with each save.
        rewind: told that mark when a run goes on from there.
    """

    def __init__(
        self,
        directory: Path | None = None,
        every: float = 0.0,
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
        return group.broadcast(self.path is not None and time.monotonic() >= self.next)

    def save(self, state: State) -> None:
        """Replace what was saved. Where that cannot be written it is said, and the run goes on without."""
        parts = _parts(state.rows) if group.broadcast(self.path is not None) else iter(())
        try:
            if self.path is not None:
                self._write(self.path, state, parts)
        except WriteError as error:
            warnings.warn(f"no savepoint: {error}", stacklevel=2)
        for _part in parts:  # all processes of a group read them together, whoever writes
            pass

    def _write(self, path: Path, state: State, parts: Iterator[np.ndarray]) -> None:
        began = time.monotonic()
        rows = None if state.rows is None else f"{path.stem}-at-{time.time_ns()}{ROWS}"
        head = {
            "cvfp": cvfp.__version__,
            "format": FORMAT,
            "numbers": state.numbers,
            "mark": self.run.mark(),
            "seconds": began - self.started + self.seconds_before,
            "checksum": _checksum(state.tensors),
            "rows": rows,
        }
        try:
            if rows is not None:
                head["rows_checksum"] = _write_rows(path.with_name(rows), parts)
            write_tensors(path, state.tensors, {"cvfp": json.dumps(head, allow_nan=False)})
        except WriteError:
            self._keep_rows(path, lambda name: name != rows)
            raise
        else:
            self._keep_rows(path, lambda name: name == rows)
        finally:
            took = time.monotonic() - began
            self.next = time.monotonic() + max(self.run.every, took / MOST_OVERHEAD)

    def _keep_rows(self, path: Path, wanted: Callable[[str], bool]) -> None:
        """Take away this part's files of rows that are not wanted."""
        for old in path.parent.glob(f"{path.stem}-at-*{ROWS}"):
            if not wanted(old.name):
                old.unlink(missing_ok=True)

    def drop(self) -> None:
        """Take away what was saved: its part has ended, and is kept in another way."""
        if self.path is not None:
            self.path.unlink(missing_ok=True)
            self._keep_rows(self.path, lambda name: False)

    def load(self, device: torch.device, rows: Rows | None = None) -> State | None:
        """What was saved last, its rows read into `rows`; None where there is nothing that can be used.

        A file that is damaged, or of another version of cvfp, is said and left aside.
        """
        head, tensors = self._read(device, rows) or (None, None)
        head = group.broadcast(head)
        if head is None:
            return None
        tensors = group.broadcast_tensors(tensors, device)
        if head["rows"] is not None and rows is not None:
            path = None if self.path is None else self.path.with_name(head["rows"])
            for first, part in _read_rows(path, rows):
                rows.write(first, group.broadcast_tensors(part, rows.device)["rows"])
        self.seconds_before = head["seconds"]
        self.run.rewind(head["mark"])
        return State(tensors, head["numbers"], rows)

    def _read(
        self, device: torch.device, rows: Rows | None
    ) -> tuple[dict[str, Any], dict[str, Tensor]] | None:
        """Head and tensors of what was saved, all of which, rows too, has the checksum that it should."""
        if self.path is None or not self.path.exists():
            return None
        try:
            head = read_head(self.path)
            tensors = read_tensors(self.path, device)
            if _checksum(tensors) != head["checksum"]:
                raise InputError(f"{self.path}: damaged: its checksum is another")
            if head["rows"] is not None and rows is not None:
                _check_rows(self.path.with_name(head["rows"]), rows, head["rows_checksum"])
        except InputError as error:
            warnings.warn(f"a savepoint is not used, its part starts again: {error}", stacklevel=3)
            return None
        return head, tensors


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
    if head.get("format") != FORMAT:
        raise InputError(f"{path}: was saved by a cvfp that kept other things")
    return head


def _checksum(tensors: dict[str, Tensor]) -> int:
    total = 0
    for name in sorted(tensors):
        values = tensors[name].detach().cpu().contiguous().flatten().view(torch.uint8).numpy()
        total = zlib.crc32(values.data, zlib.crc32(name.encode(), total))
    return total


def _spans(rows: Rows) -> Iterator[tuple[int, int]]:
    """[first, last) of the parts in which rows are written and read."""
    for first in range(0, rows.shape[0], ROWS_AT_ONCE):
        yield first, min(first + ROWS_AT_ONCE, rows.shape[0])


def _parts(rows: Rows | None) -> Iterator[np.ndarray]:
    if rows is None:
        return
    for first, last in _spans(rows):
        yield rows.read(first, last).cpu().contiguous().numpy()


def _write_rows(path: Path, parts: Iterator[np.ndarray]) -> int:
    """Write rows part by part; the checksum of what was written."""
    total = 0
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        for part in parts:
            total = zlib.crc32(part.data, total)
            file.write(part.data)
    return total


def _check_rows(path: Path, rows: Rows, checksum: int) -> None:
    """Raises `InputError`: not all of the rows are there, or they are not what was written."""
    total = 0
    try:
        with path.open("rb") as file:
            for first, last in _spans(rows):
                total = zlib.crc32(file.read((last - first) * _row_bytes(rows)), total)
            ended = not file.read(1)
    except OSError as error:
        raise InputError(f"{path}: damaged: {error}") from error
    if total != checksum or not ended:
        raise InputError(f"{path}: damaged: its checksum is another")


def _read_rows(path: Path | None, rows: Rows) -> Iterator[tuple[int, dict[str, Tensor] | None]]:
    """(first row, the rows) part by part; None for them where there is no path."""
    if path is None:
        yield from ((first, None) for first, _ in _spans(rows))
        return
    with path.open("rb") as file:
        for first, last in _spans(rows):
            data = bytearray(file.read((last - first) * _row_bytes(rows)))
            part = torch.frombuffer(data, dtype=rows.dtype).view(last - first, *rows.shape[1:])
            yield first, {"rows": part.to(rows.device)}


def _row_bytes(rows: Rows) -> int:
    return int(np.prod(rows.shape[1:])) * rows.dtype.itemsize
