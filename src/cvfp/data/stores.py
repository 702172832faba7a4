"""What is kept of a corpus on disk: its documents, read, filtered and cut once; its tokens, made once."""

from __future__ import annotations

import hashlib
from array import array
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvfp.data.cache import Note, cached_folder
from cvfp.data.documents import Document
from cvfp.data.tokenizers import Tokenizer
from cvfp.records.errors import InputError
from cvfp.records.files import read_json, write_json

# --- The documents of a corpus on disk: read, filtered and cut once.


TEXT_FORMAT = 5
"""Raised when the same documents would be stored otherwise."""
ARRAYS = ("offsets", "sources", "parts", "characters", "digests")
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
    digests: np.ndarray
    """(N,) equal for documents of the same words (`text_digest`)."""
    speakers: list[frozenset[str]] | None
    dropped: int
    """Empty documents that were left out."""
    separated: dict[int, int]
    """Of how many sources of each corpus, by its number, a separator cuts documents."""

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
        _write_texts(name, documents, folder)

    folder = cached_folder("text", [*key, TEXT_FORMAT], build, note)
    facts = read_json(folder / "documents.json")
    speakers = facts["speakers"]
    arrays = {each: np.load(folder / f"{each}.npy", allow_pickle=False) for each in ARRAYS}
    known = None if speakers is None else [frozenset(members) for members in speakers]
    separated = {int(part): count for part, count in facts["separated"].items()}
    text, dropped = folder / "text.bin", facts["dropped"]
    store = TextStore(text, **arrays, speakers=known, dropped=dropped, separated=separated)
    if store.dropped:
        note(f"{name}: {store.dropped} empty documents were left out, {len(store)} remain")
    return store


def _write_texts(name: str, documents: Iterable[Document], folder: Path) -> None:
    columns = {each: array("q") for each in ARRAYS}
    speakers, source, dropped, end, separated = [], -1, 0, 0, set()
    columns["offsets"].append(0)
    with (folder / "text.bin").open("wb") as file:
        for document in documents:
            source += not document.continues
            if document.separated:
                separated.add((document.part, source))
            if not document.text.strip():
                dropped += 1
                continue
            end += file.write(document.text.encode())
            row = {
                "offsets": end,
                "sources": source,
                "parts": document.part,
                "characters": len(document.text),
                "digests": text_digest(document.text),
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
    counts = Counter(part for part, _source in separated)
    facts = {"speakers": known, "dropped": dropped, "separated": counts}
    write_json(folder / "documents.json", facts)


def text_digest(text: str) -> int:
    """64 bits of a text's words: white space and a byte order mark make no difference."""
    words = " ".join(text.replace("\ufeff", " ").split())
    return int.from_bytes(hashlib.blake2b(words.encode(), digest_size=8).digest(), "little", signed=True)


# --- Tokens of many texts on disk as one memory-mapped array: tokenized once.


TOKEN_FORMAT = 1
"""Raised when the same texts would be stored otherwise."""
BATCH, CHARACTERS = 1024, 4 << 20
"""Most texts tokenized at a time, and characters; they bound the memory, and change nothing else."""


@dataclass(frozen=True, eq=False)
class TokenStore:
    """Tokens of all texts, one text after the other."""

    tokens: np.ndarray
    """(T,) uint16 or uint32, memory-mapped."""
    offsets: np.ndarray
    """(N + 1,) first token of every text, and the end."""

    @property
    def lengths(self) -> np.ndarray:
        """(N,) tokens of every text."""
        return np.diff(self.offsets)

    def concatenate(self, indices: np.ndarray) -> np.ndarray:
        """(T',) int64: the tokens of these texts with nothing between them."""
        parts = [self.tokens[self.offsets[i] : self.offsets[i + 1]] for i in indices]
        return np.concatenate(parts).astype(np.int64)


def open_token_store(
    tokenizer: Tokenizer, key: list, texts: Callable[[], Iterable[str]], note: Note
) -> TokenStore:
    """The stored tokens of `texts`, which are tokenized only when the cache has no whole copy.

    Args:
        tokenizer: its fingerprint is part of the key.
        key: determines the texts: the corpus' fingerprint, and which of its documents, joined how.
        texts: gives them.
        note: told what takes time.
    """
    dtype = np.dtype("<u2" if tokenizer.vocab_size <= 2**16 else "<u4")

    def build(folder: Path) -> None:
        note(f"tokenizing with {tokenizer.name}")
        _write_tokens(tokenizer, texts(), dtype, folder)

    folder = cached_folder("tokens", [*key, tokenizer.fingerprint, dtype.str, TOKEN_FORMAT], build, note)
    offsets = np.load(folder / "offsets.npy", allow_pickle=False)
    # An empty file cannot be mapped.
    tokens = np.memmap(folder / "tokens.bin", dtype, "r") if offsets[-1] else np.empty(0, dtype)
    return TokenStore(tokens, offsets)


def _write_tokens(tokenizer: Tokenizer, texts: Iterable[str], dtype: np.dtype, folder: Path) -> None:
    lengths = array("q", [0])
    with (folder / "tokens.bin").open("wb") as file:
        for batch in _batches(texts):
            for ids in tokenizer.encode_batch(batch):
                lengths.append(len(ids))
                file.write(ids.astype(dtype).tobytes())
    np.save(folder / "offsets.npy", np.cumsum(lengths, dtype=np.int64))


def _batches(texts: Iterable[str]) -> Iterator[list[str]]:
    batch, characters = [], 0
    for text in texts:
        batch.append(text)
        characters += len(text)
        if len(batch) == BATCH or characters >= CHARACTERS:
            yield batch
            batch, characters = [], 0
    if batch:
        yield batch
