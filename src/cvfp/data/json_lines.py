"""JSON lines: one record per line, with a text field or chat messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cvfp.data.documents import LARGEST_DOCUMENT, Document, text_of
from cvfp.records.errors import InputError
from cvfp.records.files import parse_json_line


def read_json_lines(path: Path, encoding: str, field: str | None) -> Iterator[Document]:
    """The records of a `.jsonl` file, in order, read line by line; blank lines are skipped.

    Raises:
        InputError: names the line that is not JSON, is too long, or has no such field.
        UnicodeDecodeError: the file is not in this encoding.
    """
    with path.open(encoding=encoding, newline="\n") as lines:
        number = 0
        while line := lines.readline(LARGEST_DOCUMENT):
            number += 1
            where = f"{path}, line {number}"
            if len(line) == LARGEST_DOCUMENT:
                raise InputError(f"{where}: longer than {LARGEST_DOCUMENT // 1_000_000} million characters")
            if line.strip():
                record = parse_json_line(line.removeprefix("\ufeff"), where)
                yield Document(_whole(text_of(record, field, where), where))


def _whole(text: str, where: str) -> str:
    """`text`, which JSON escapes may have given half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: character {error.start} is half of a surrogate pair") from error
    return text
