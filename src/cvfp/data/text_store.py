"""The documents of a corpus on disk: read, filtered and cut once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvfp.data.cache import Note, cached_folder
from cvfp.data.documents import Document
from cvfp.records.errors import InputError
from cvfp.records.files import read_json, write_json

FORMAT = 2
"""Raised when the same documents would be stored otherwise."""


@dataclass(frozen=True, eq=False)
class TextStore:
    """UTF-8 text of all documents, one after the other, in a file."""

    path: Path
    offsets: np.ndarray
    """(N + 1,) first byte of every document, and the end."""
    sources: np.ndarray
    """(N,) number of the source that every document is cut from, from 0 on; documents that are not cut have
    one each."""
    speakers: list[frozenset[str]] | None
    dropped: int
    """Empty documents that were left out."""

    def __len__(self) -> int:
        return len(self.offsets) - 1

    @property
    def sizes(self) -> np.ndarray:
        """(N,) bytes of every document."""
        return np.diff(self.offsets)

    def texts(self, indices: np.ndarray) -> Iterator[str]:
        """The text of these documents, read one at a time."""
        with self.path.open("rb") as file:
            for index in indices:
                file.seek(int(self.offsets[index]))
                yield file.read(int(self.offsets[index + 1] - self.offsets[index])).decode()


def open_text_store(name: str, key: list, documents: Iterable[Document], note: Note) -> TextStore:
    """The stored documents of a corpus; `documents` is iterated only when the cache has no whole copy.

    Raises:
        InputError: there is no document that is not empty.
    """

    def build(folder: Path) -> None:
        note(f"{name}: reading the documents")
        _write(name, documents, folder)

    folder = cached_folder("text", [*key, FORMAT], build, note)
    facts = read_json(folder / "documents.json")
    speakers = facts["speakers"]
    store = TextStore(
        path=folder / "text.bin",
        offsets=np.load(folder / "offsets.npy", allow_pickle=False),
        sources=np.load(folder / "sources.npy", allow_pickle=False),
        speakers=None if speakers is None else [frozenset(members) for members in speakers],
        dropped=facts["dropped"],
    )
    if store.dropped:
        note(f"{name}: {store.dropped} empty documents were left out, {len(store)} remain")
    return store


def _write(name: str, documents: Iterable[Document], folder: Path) -> None:
    offsets, sources, speakers, source, dropped = [0], [], [], -1, 0
    with (folder / "text.bin").open("wb") as file:
        for document in documents:
            source += not document.continues
            if not document.text.strip():
                dropped += 1
                continue
            offsets.append(offsets[-1] + file.write(document.text.encode()))
            sources.append(source)
            speakers.append(document.speakers)
    if not speakers:
        raise InputError(f"{name}: no text in it ({dropped} empty documents)")
    np.save(folder / "offsets.npy", np.array(offsets, dtype=np.int64))
    # A source without text has no number.
    np.save(folder / "sources.npy", np.unique(sources, return_inverse=True)[1].astype(np.int64))
    known = None if None in speakers else [sorted(members) for members in speakers]
    write_json(folder / "documents.json", {"speakers": known, "dropped": dropped})
