"""Reading and writing files so that nobody ever sees half of one."""

from __future__ import annotations

import json
import os
import re
import tempfile
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cvfp.records.errors import InputError, WriteError
from cvfp.records.schema import digest

SEAL = "digest"

DEEPEST = 100
"""Lists and tables inside one another; ours are below 10."""


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
    """Write `text` as UTF-8, atomically; the bytes are the same on every system."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def append_text(path: Path, text: str) -> None:
    """Add `text` to the end of a file, in one piece. Raises `WriteError` when it cannot be written."""
    try:
        with path.open("a", encoding="utf-8", newline="\n") as file:
            file.write(text)
    except OSError as error:
        raise WriteError(f"cannot write {path}: {error.strerror or error}") from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    write_text(path, json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def write_sealed(path: Path, value: dict[str, Any]) -> None:
    """This is `write_json` with the hash of the value beside it."""
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
    try:
        fits = seal == digest(found)
    except ValueError:  # NaN or infinity, which is never written
        fits = False
    if not fits:
        raise InputError(f"{path}: was changed after it was written; take it away, and its run is done again")
    return found


TRIED_BYTES = 8 << 20
"""Written for a try, of which nothing stays: a disk that has no room for them has none for a model."""


def check_out(path: Path) -> None:
    """Try whether a directory can be at `path` and be written.

    Raises:
        InputError: it, or one above it, is a file; or no name.
        WriteError: it, or the nearest one above it that is there, cannot be written, or the disk is full.
    """
    for each in (path, *path.parents):
        if is_file(each):
            raise InputError(f"--out {path}: {each} is a file; give a directory")
    try:
        path.stat()
    except FileNotFoundError:
        pass
    except (OSError, ValueError) as error:
        raise InputError(f"--out {path}: {reason(error)}; give another directory") from error
    there = next(each for each in (path, *path.absolute().parents) if is_dir(each))
    try:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(TRIED_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise WriteError(
            f"--out {path}: {there} cannot be written: {reason(error)}; make room there or give another "
            f"directory"
        ) from error


def is_file(path: Path) -> bool:
    """Whether a regular file is there: no directory, and no pipe or device, which may have no end. False too
    where `path` can be no path (it is too long, or holds a NUL byte)."""
    return _exists(path) and path.is_file()


def is_dir(path: Path) -> bool:
    """Whether a directory is there; False too where `path` can be no path."""
    return _exists(path) and path.is_dir()


def _exists(path: Path) -> bool:
    try:
        path.stat()
    except (OSError, ValueError):
        return False
    return True


def refuse_special(path: Path) -> None:
    """Raise `InputError` for a pipe, a socket or a device."""
    if _exists(path) and not (path.is_file() or path.is_dir()):
        raise InputError(f"{path}: is a pipe or a device, a file is needed")


def parts_of(spec: str) -> list[str]:
    """The parts of a setting such as `hub:FOLDER:SPLIT`; the colon of a Windows drive belongs to its path."""
    return re.split(r"(?<!:[A-Za-z]):|:(?![\\/])", f":{spec}")[1:]


def reason(error: Exception) -> str:
    """Why a path could not be used, in the words of the operating system where it said so."""
    return getattr(error, "strerror", None) or str(error)


def read_text(path: Path | str) -> str:
    """The file's text, decoded as UTF-8: exactly as it is but for a byte order mark.

    Raises:
        InputError: the file is missing, is a directory, cannot be read, is binary (holds a NUL byte), or is
            not UTF-8; the message gives the byte.
    """
    data = read_bytes(Path(path))
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
        InputError: the text is not JSON (the message gives line and column), is nested too deeply, or holds
            a number of thousands of digits.
    """
    return _json(text, where, lambda error: f"line {error.lineno}, column {error.colno}")


def parse_json_line(line: str, where: str) -> Any:
    """The JSON value of one line, which `where` names. Raises `InputError` as `parse_json`."""
    return _json(line.rstrip("\r\n"), where, lambda error: f"column {error.colno}")


def _json(text: str, where: str, place: Callable[[json.JSONDecodeError], str]) -> Any:
    try:
        value = json.loads(text)
    except json.JSONDecodeError as error:
        raise InputError(f"{where}: not JSON at {place(error)}: {error.msg}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {_excess(error)}") from error
    return _check_depth(value, where)


def parse_toml(text: str, where: str) -> dict[str, Any]:
    """The TOML table of a text that stands in `where`. Raises `InputError` as `parse_json`."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{where}: not TOML: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: {_excess(error)}") from error
    return _check_depth(table, where)


def _excess(error: ValueError | RecursionError) -> str:
    """Python reads whole numbers of at most `sys.get_int_max_str_digits()` digits."""
    return "nested too deeply" if isinstance(error, RecursionError) else "a number in it has too many digits"


def _check_depth(value: Any, where: str) -> Any:
    level = [value]
    for _ in range(DEEPEST):
        lists = [each.values() if isinstance(each, dict) else each for each in level if _holds(each)]
        level = [each for inner in lists for each in inner if _holds(each)]
        if not level:
            return value
    raise InputError(f"{where}: nested too deeply: at most {DEEPEST} lists or tables inside one another")


def _holds(value: Any) -> bool:
    return isinstance(value, dict | list)


def read_bytes(path: Path) -> bytes:
    refuse_special(path)
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a directory, a file is needed") from error
    except (OSError, ValueError) as error:  # a ValueError: no path can be like this
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
