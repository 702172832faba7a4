"""Corpora by name or path."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from cvfp.data.cache import Note, silent
from cvfp.data.chitchat import open_chitchat
from cvfp.data.cutting import cut_documents
from cvfp.data.documents import Source
from cvfp.data.hub import open_hub
from cvfp.data.json_lines import open_json_lines
from cvfp.data.parquet import open_parquet
from cvfp.data.text_files import open_text_files
from cvfp.data.text_store import TextStore, open_text_store
from cvfp.records.config import DataConfig
from cvfp.records.errors import InputError
from cvfp.records.files import is_dir, is_file
from cvfp.records.schema import digest

FORMAT = 1
"""Raised when the same source would be read into other documents."""
KNOWN = "chitchat, ultrachat[:FOLDER], hub:OWNER/NAME[:SPLIT], or a path: text file, folder, .jsonl, .parquet"
KINDS = {".txt": "text", ".md": "text", ".jsonl": "jsonl", ".ndjson": "jsonl", ".parquet": "parquet"}
"""Kinds of file by suffix. A single file with any other suffix is taken for text."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents that are read when first asked for, and kept in the cache."""

    name: str
    fingerprint: str
    """SHA-256 of all that determines the documents: the content of the files and how they are read."""
    open_store: Callable[[], TextStore]

    @cached_property
    def store(self) -> TextStore:
        """The documents on disk."""
        return self.open_store()

    def __len__(self) -> int:
        return len(self.store)

    def documents(self) -> list[str]:
        """All documents, in the order of the source."""
        return list(self.store.texts(np.arange(len(self))))

    def speakers(self) -> list[frozenset[str]] | None:
        """Who speaks in each document; None where the corpus does not say."""
        return self.store.speakers

    @property
    def sources(self) -> np.ndarray:
        """(N,) number of the file, record or conversation that every document is cut from."""
        return self.store.sources


def open_corpus(config: DataConfig, note: Note = silent) -> Corpus:
    """The corpus that `config` names.

    Raises:
        InputError: an unknown name, a file that is missing, empty, binary, broken or not UTF-8, an option
            that does not apply, or a hub that cannot be reached.
    """
    source = _source(config)
    key = [source.fingerprint, config.document_tokens, FORMAT]

    def open_store() -> TextStore:
        return open_text_store(source.name, key, _Cut(source, config.document_tokens), note)

    return Corpus(source.name, digest(key, 64), open_store)


@dataclass(frozen=True)
class _Cut:
    """The documents of a source, cut; read only when iterated."""

    source: Source
    max_tokens: int | None

    def __iter__(self):
        return cut_documents(self.source.read(), self.max_tokens)


def _source(config: DataConfig) -> Source:
    spec = config.corpus
    if spec == "chitchat":
        _refuse(config, "text_field", "document_separator")
        return open_chitchat()
    if spec.partition(":")[0] in ("ultrachat", "hub"):
        _refuse(config, "document_separator")
        return open_hub(spec, config.text_field)
    path = Path(spec)
    if not (is_file(path) or is_dir(path)):
        raise InputError(f"corpus {spec!r}: no such file, and no known name; there are {KNOWN}")
    files = _files(path)
    kind = _kind(path, files)
    if kind == "text":
        _refuse(config, "text_field")
        return open_text_files(path.name, files, config.document_separator)
    _refuse(config, "document_separator")
    opener = open_json_lines if kind == "jsonl" else open_parquet
    return opener(path.name, files, config.text_field)


def _refuse(config: DataConfig, *fields: str) -> None:
    for field in fields:
        if getattr(config, field) is not None:
            raise InputError(f"data.{field} does not apply to the corpus {config.corpus!r}; leave it out")


def _files(path: Path) -> list[Path]:
    """The file itself, or all known files below a folder, sorted by path; hidden ones are left out."""
    if not path.is_dir():
        return [path]
    below = (file.relative_to(path) for file in path.rglob("*") if file.suffix.lower() in KINDS)
    shown = [file for file in below if not any(part.startswith(".") for part in file.parts)]
    shown.sort(key=lambda file: file.parts)  # paths themselves are not compared alike on all systems
    files = [path / file for file in shown if (path / file).is_file()]
    if not files:
        raise InputError(f"{path}: no {', '.join(KINDS)} files in this folder")
    return files


def _kind(path: Path, files: list[Path]) -> str:
    kinds = sorted({KINDS.get(file.suffix.lower(), "text") for file in files})
    if len(kinds) > 1:
        raise InputError(f"{path}: holds {' and '.join(kinds)} files; name a folder or file of one kind")
    return kinds[0]
