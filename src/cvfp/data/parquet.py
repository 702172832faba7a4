"""Parquet files: one record per row, with a text field or chat messages."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from cvfp.data.documents import Document, Source, text_of
from cvfp.data.extras import require
from cvfp.data.hashing import file_sha256
from cvfp.records.errors import InputError
from cvfp.records.schema import digest


def open_parquet(name: str, files: list[Path], field: str | None) -> Source:
    """The rows of `.parquet` files, in order.

    Raises:
        InputError: when read, a file that is not Parquet or has no such field.
    """
    fingerprint = digest(["parquet", [file_sha256(file) for file in files], field], 64)
    return Source(name, fingerprint, lambda: _read(files, field))


def _read(files: list[Path], field: str | None) -> Iterator[Document]:
    for path in files:
        for number, row in enumerate(_rows(path, field), start=1):
            yield Document(text_of(row, field, f"{path}, row {number}"))


def _rows(path: Path, field: str | None) -> Iterator[dict]:
    parquet, pyarrow = require("pyarrow.parquet"), require("pyarrow")
    try:
        with parquet.ParquetFile(path) as file:
            wanted = {"text", "messages"} if field is None else {field}
            names = file.schema_arrow.names
            columns = [name for name in names if name in wanted]
            if not columns:
                text_of(dict.fromkeys(names), field, f"{path}, row 1")  # raises
            for batch in file.iter_batches(batch_size=1024, columns=columns):
                yield from batch.to_pylist()
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        # Errors of values: text that is not UTF-8, a date beyond Python's.
        first = str(error).partition("\n")[0]
        raise InputError(f"{path}: not a readable Parquet file: {first}") from error
