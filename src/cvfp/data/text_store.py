"""The documents of a corpus on disk: read, filtered and cut once."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvfp.data.cache import Note, cached_folder
from cvfp.data.documents import Document
from cvfp.records.errors import InputError
from cvfp.records.files import read_json, write_json

FORMAT = 3
"""Raised when the same documents would be stored otherwise."""
ARRAYS = ("offsets", "sources", "parts", "characters")
"""Fields of `TextStore` that are arrays of whole numbers."""


@dataclass(frozen=True, eq=False)
class TextStore:
    """UTF-8 text of all documents, one after the other, in a file."""

    path: Path
    offsets: np.ndarray
    """(N + 1,) first byte of every document, and the end."""
    sources: np.ndarray
    """(N,) number of the source that every document is cut from, from 0 on; documents that are not cut have
    one each."""
    parts: np.ndarray
    """(N,) number of the corpus that every document is from, ascending; all 0 where there is one."""
    characters: np.ndarray
    """(N,) characters of every document."""
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
    arrays = {each: np.load(folder / f"{each}.npy", allow_pickle=False) for each in ARRAYS}
    known = None if speakers is None else [frozenset(members) for members in speakers]
    store = TextStore(folder / "text.bin", **arrays, speakers=known, dropped=facts["dropped"])
    if store.dropped:
        note(f"{name}: {store.dropped} empty documents were left out, {len(store)} remain")
    return store


def _write(name: str, documents: Iterable[Document], folder: Path) -> None:
    columns = {each: array("q") for each in ARRAYS}
    speakers, source, dropped, end = [], -1, 0, 0
    columns["offsets"].append(0)
    with (folder / "text.bin").open("wb") as file:
        for document in documents:
            source += not document.continues
            if not document.text.strip():
                dropped += 1
                continue
            end += file.write(document.text.encode())
            row = {
                "offsets": end,
                "sources": source,
                "parts": document.part,
                "characters": len(document.text),
            }
            for each, value in row.items():
                columns[each].append(value)
            speakers.append(document.speakers)
    if not speakers:
        raise InputError(f"{name}: no text in it ({dropped} empty documents)")
    arrays = {each: np.array(values, dtype=np.int64) for each, values in columns.items()}
    # A source without text has no number.
    arrays["sources"] = np.unique(arrays["sources"], return_inverse=True)[1].astype(np.int64)
    for each, values in arrays.items():
        np.save(folder / f"{each}.npy", values)
    known = None if None in speakers else [sorted(members) for members in speakers]
    write_json(folder / "documents.json", {"speakers": known, "dropped": dropped})
