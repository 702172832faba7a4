"""Plain text: a file is a document, or is cut into documents at a separator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cvfp.data.documents import LARGEST_DOCUMENT, Document
from cvfp.data.encodings import BLOCK, text_blocks
from cvfp.records.errors import InputError


def read_text_file(path: Path, encoding: str, separator: str | None, whole: bool) -> Iterator[Document]:
    """The documents of a file, read in blocks; of a long one the first parts are `unfinished`.

    Args:
        path: the file.
        encoding: of it.
        separator: between the documents; None: there is one.
        whole: whether documents stay as long as they are, and so have a limit.

    Raises:
        InputError: a document above the limit, where there is one.
        UnicodeDecodeError: the file is not in this encoding.
    """
    kept = 0 if separator is None else len(separator) - 1  # a separator may begin in them
    rest, pieces, length = "", 0, 0
    for block in text_blocks(path, encoding):
        *done, rest = [rest + block] if separator is None else (rest + block).split(separator)
        for piece in done:
            yield Document(piece, continues=pieces > 0)
            pieces, length = pieces + 1, 0
        if len(rest) > BLOCK:
            ready = len(rest) - kept
            yield Document(rest[:ready], continues=pieces > 0, unfinished=True)
            rest, length = rest[ready:], length + ready
        if whole and length > LARGEST_DOCUMENT:
            raise InputError(_too_long(path, separator))
    yield Document(rest, continues=pieces > 0)


def _too_long(path: Path, separator: str | None) -> str:
    where = "it is one document" if separator is None else "a document in it is"
    cuts = (
        "data.document_separator or data.document_tokens=1000"
        if separator is None
        else "data.document_tokens=1000"
    )
    return f"{path}: {where} of more than {LARGEST_DOCUMENT // 1_000_000} million characters; {cuts} cuts it"
