"""Corpora by name or path, one or several that are read as one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cvfp.data.cache import Note, silent
from cvfp.data.chitchat import open_chitchat
from cvfp.data.cutting import cut_documents
from cvfp.data.documents import Document, Source
from cvfp.data.hub import open_hub
from cvfp.data.local_files import open_local
from cvfp.data.text_store import TextStore, open_text_store
from cvfp.records.config import DataConfig
from cvfp.records.errors import InputError
from cvfp.records.files import is_dir, is_file, refuse_special
from cvfp.records.schema import digest

FORMAT = 1
"""Raised when the same source would be read into other documents."""
KNOWN = "chitchat, ultrachat[:FOLDER], hub:OWNER/NAME[:SPLIT], or a path: text file, folder, .jsonl, .parquet"
APPLIES = {"text_field": {"jsonl", "parquet", "hub"}, "document_separator": {"text"}}
"""Kinds of source that an option is for."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents that are read when first asked for, and kept in the cache."""

    name: str
    fingerprint: str
    """SHA-256 of all that determines the documents: the content of the files and how they are read."""
    open_store: Callable[[], TextStore]
    parts: Mapping[str, Mapping[str, Any]]
    """By the name of each corpus that it is made of: what its files are, and which were left out."""

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
    """The corpus that `config` names, or all of those that it names as one, in that order.

    Raises:
        InputError: an unknown name, a file that is missing, empty, binary, broken or of no known encoding,
            two corpora with the same text or a file in common, an option that does not apply,
            or a hub that cannot be reached.
    """
    sources = _named([_source(spec, config) for spec in config.corpora], config.corpora)
    _check_options(config, sources)
    for source in sources:
        for line in source.notes:
            note(line)
    whole = sources[0] if len(sources) == 1 else _together(sources)
    key = [whole.fingerprint, config.document_tokens, FORMAT]

    def open_store() -> TextStore:
        return open_text_store(whole.name, key, _Cut(whole, config.document_tokens), note)

    parts = {source.name: source.facts for source in sources}
    return Corpus(whole.name, digest(key, 64), open_store, parts)


@dataclass(frozen=True)
class _Cut:
    """The documents of a source, cut; read only when iterated."""

    source: Source
    max_tokens: int | None

    def __iter__(self):
        return cut_documents(self.source.read(), self.max_tokens)


def _source(spec: str, config: DataConfig) -> Source:
    if spec == "chitchat":
        return open_chitchat()
    if spec.partition(":")[0] in ("ultrachat", "hub"):
        return open_hub(spec, config)
    path = Path(spec)
    if not (is_file(path) or is_dir(path)):
        refuse_special(path)
        raise InputError(f"corpus {spec!r}: no such file, and no known name; there are {KNOWN}")
    return open_local(path, config)


def _named(sources: list[Source], specs: tuple[str, ...]) -> list[Source]:
    """The sources, those of the same name called by their paths."""
    names = Counter(source.name for source in sources)
    return [
        replace(source, name=spec) if names[source.name] > 1 else source
        for source, spec in zip(sources, specs, strict=True)
    ]


def _together(sources: list[Source]) -> Source:
    first: dict[str, str] = {}
    for source in sources:
        if source.fingerprint in first:
            raise InputError(
                f"corpora {first[source.fingerprint]} and {source.name}: they hold the same text"
            )
        first[source.fingerprint] = source.name
    _refuse_common_files(sources)

    def read() -> Iterator[Document]:
        for part, source in enumerate(sources):
            yield from (replace(document, part=part) for document in source.read())

    return Source(" + ".join(first.values()), digest(["together", list(first)], 64), read)


def _refuse_common_files(sources: list[Source]) -> None:
    known: dict[tuple[str, str], str] = {}
    for source in sources:
        common = known.keys() & source.files.keys()
        if common:
            key = min(common, key=lambda key: source.files[key])
            same = f"another corpus holds {source.files[key]} too, as {known[key]}"
            more = f" (and {len(common) - 1} more of its files)" if len(common) > 1 else ""
            raise InputError(f"corpus {source.name}: {same}{more}; leave out one of the two")
        known |= source.files


def _check_options(config: DataConfig, sources: list[Source]) -> None:
    kinds = frozenset().union(*(source.kinds for source in sources))
    for field, applies in APPLIES.items():
        if getattr(config, field) is not None and not kinds & applies:
            name = " + ".join(config.corpora)
            raise InputError(f"data.{field} does not apply to the corpus {name!r}; leave it out")
