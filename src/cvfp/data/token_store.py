"""Tokens of many texts on disk as one memory-mapped array: tokenized once."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cvfp.data.cache import Note, cached_folder
from cvfp.data.tokenizers import Tokenizer

FORMAT = 1
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
        _write(tokenizer, texts(), dtype, folder)

    folder = cached_folder("tokens", [*key, tokenizer.fingerprint, dtype.str, FORMAT], build, note)
    offsets = np.load(folder / "offsets.npy", allow_pickle=False)
    # An empty file cannot be mapped.
    tokens = np.memmap(folder / "tokens.bin", dtype, "r") if offsets[-1] else np.empty(0, dtype)
    return TokenStore(tokens, offsets)


def _write(tokenizer: Tokenizer, texts: Iterable[str], dtype: np.dtype, folder: Path) -> None:
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
