"""Reading and writing files so that nobody ever sees half of one."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cvfp.records.errors import InputError, WriteError
from cvfp.records.schema import digest

SEAL = "digest"


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; rename it to `path` when the block ends without an error.

    Readers see the old file or the whole new one. The temporary file is removed when the block raises.

    Raises:
        WriteError: the directory cannot be written, or the disk is full.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".tmp", dir=path.parent)
        os.close(handle)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        _flush(temporary)
        temporary.replace(path)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _flush(path: Path) -> None:
    """Have the bytes on the disk before the name is: a machine that stops leaves no empty file."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def remove_temporary(directory: Path) -> None:
    """Take away what killed processes left half-written in a directory and below it."""
    for path in directory.rglob(".*.tmp"):
        path.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8, atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def append_text(path: Path, text: str) -> None:
    """Add `text` to the end of a file, in one piece. Raises `WriteError` when it cannot be written."""
    try:
        with path.open("a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """As `write_json`, with the hash of the value beside it."""
    write_json(path, value | {SEAL: digest(value)})


def read_sealed(path: Path) -> dict[str, Any]:
    """The value that `write_sealed` wrote.

    Raises:
        InputError: as `read_json`; there is no hash, or the value does not fit it.
    """
    found = read_json(path)
    seal = found.pop(SEAL, None) if isinstance(found, dict) else None
    if seal is None:
        raise InputError(f"{path}: has no {SEAL}: it is torn, or not a file of cvfp's")
    if seal != digest(found):
        raise InputError(f"{path}: was changed after it was written; take it away, and its run is done again")
    return found


def check_out(path: Path) -> None:
    """Raises `InputError` when no directory can be at `path`, since it, or one above it, is a file."""
    for each in (path, *path.parents):
        if each.exists() and not each.is_dir():
            raise InputError(f"--out {path}: {each} is a file; give a directory")


def read_text(path: Path) -> str:
    """The file's text, decoded as UTF-8: exactly as it is but for a byte order mark.

    Raises:
        InputError: the file is missing, is a directory, cannot be read, is binary (holds a NUL byte), or is
            not UTF-8; the message gives the byte.
    """
    data = _bytes(Path(path))
    if b"\0" in data:
        raise InputError(
            f"{path}: is a binary file or UTF-16 (NUL byte at {data.index(0)}); UTF-8 text is needed"
        )
    try:
        return data.decode().removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); convert it to UTF-8") from error


def read_json(path: Path) -> Any:
    """The file's JSON value.

    Raises:
        InputError: as `read_text` and `parse_json`.
    """
    return parse_json(read_text(path), str(path))


def parse_json(text: str, where: str) -> Any:
    """The JSON value of a text that stands in `where`.

    Raises:
        InputError: the text is not JSON (the message gives line and column), or is nested too deeply.
    """
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: not JSON at line {error.lineno}, column {error.colno}: {error.msg}"
        ) from error
    except RecursionError as error:
        raise InputError(f"{where}: JSON nested too deeply to be one of our files") from error


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a directory, a file is needed") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
