"""JSON lines: one record per line, with a text field or chat messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from cvfp.data.documents import Document, Source, text_of
from cvfp.data.hashing import file_sha256
from cvfp.records.errors import InputError
from cvfp.records.files import parse_json
from cvfp.records.schema import digest


def open_json_lines(name: str, files: list[Path], field: str | None) -> Source:
    """The records of `.jsonl` files, in order; blank lines are skipped.

    Raises:
        InputError: when read, names the line that is not UTF-8, not JSON, or has no such field.
    """
    fingerprint = digest(["jsonl", [file_sha256(file) for file in files], field], 64)
    return Source(name, fingerprint, lambda: _read(files, field))


def _read(files: list[Path], field: str | None) -> Iterator[Document]:
    for path in files:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, start=1):
                if line.strip():
                    where = f"{path}, line {number}"
                    yield Document(_whole(text_of(_record(line, where), field, where), where))


def _whole(text: str, where: str) -> str:
    """`text`, which JSON escapes may have given half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: character {error.start} is half of a surrogate pair") from error
    return text


def _record(line: bytes, where: str) -> Any:
    try:
        return parse_json(line.decode("utf-8-sig"), where)
    except UnicodeDecodeError as error:
        raise InputError(f"{where}: not UTF-8: byte {error.start} of the line") from error
