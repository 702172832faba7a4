"""Plain text: a file is a document, or is cut into documents at a separator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cvfp.data.documents import Document, Source
from cvfp.data.hashing import file_sha256
from cvfp.records.errors import InputError
from cvfp.records.files import read_text
from cvfp.records.schema import digest


def open_text_files(name: str, files: list[Path], separator: str | None) -> Source:
    """Text files in the given order.

    Raises:
        InputError: an empty separator; when read, a file that is empty, binary or not UTF-8.
    """
    if separator == "":
        raise InputError("data.document_separator: an empty string cuts nothing; leave it out")
    fingerprint = digest(["text", [file_sha256(file) for file in files], separator], 64)
    return Source(name, fingerprint, lambda: _read(files, separator))


def _read(files: list[Path], separator: str | None) -> Iterator[Document]:
    for file in files:
        text = read_text(file)
        pieces = [text] if separator is None else text.split(separator)
        yield from (Document(piece, continues=number > 0) for number, piece in enumerate(pieces))
