"""Parquet files: one record per row, with a text field or chat messages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from cvfp.data.documents import Document, text_of
from cvfp.data.extras import require
from cvfp.records.errors import InputError

BUFFER = 1 << 20
"""Bytes read at a time."""


def read_parquet(path: Path, field: str | None) -> Iterator[Document]:
    """The rows of a `.parquet` file, in order.

    Raises:
        InputError: a file that is not Parquet or has no such field.
    """
    for number, row in enumerate(_rows(path, field), start=1):
        yield Document(text_of(row, field, f"{path}, row {number}"))


def _rows(path: Path, field: str | None) -> Iterator[dict]:
    # Without buffering ahead, which takes the memory of all row groups.
    with (
        _told(path),
        require("pyarrow.parquet").ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file,
    ):
        wanted = {"text", "messages"} if field is None else {field}
        names = file.schema_arrow.names
        columns = [name for name in names if name in wanted]
        if not columns:
            text_of(dict.fromkeys(names), field, f"{path}, row 1")  # raises
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            yield from batch.to_pylist()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """The library's errors in ours."""
    pyarrow = require("pyarrow")
    try:
        yield
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        # Errors of values: text that is not UTF-8, a date beyond Python's.
        first = str(error).partition("\n")[0]
        raise InputError(f"{path}: not a readable Parquet file: {first}") from error
