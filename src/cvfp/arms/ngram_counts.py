"""All distinct n-grams of a token stream, order by order, as sorted arrays of integers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

UNSEEN = -1
"""Id of an n-gram that is not in the index, or does not fit between a stream's start and a position."""


@dataclass(frozen=True)
class GramTypes:
    """The distinct n-grams of one order. The id of an n-gram is its place in `keys`.

    `keys` (G,) int64, ascending: (id of the first n - 1 tokens) * V + last token, so the n-grams of one
    context lie next to each other, their last tokens ascending. At order 1 the id is the token itself and
    `keys` are all V tokens, seen or not: the empty context has id 0.
    """

    keys: np.ndarray
    counts: np.ndarray
    """(G,) occurrences in the stream."""
    suffixes: np.ndarray
    """(G,) ids, one order below, of the last n - 1 tokens; 0 at order 1."""
    num_contexts: int
    """Number of n-grams one order below (1 at order 1)."""
    vocab_size: int

    @property
    def contexts(self) -> np.ndarray:
        """(G,) ids, one order below, of the first n - 1 tokens."""
        return self.keys // self.vocab_size

    @property
    def words(self) -> np.ndarray:
        """(G,) last tokens."""
        return self.keys % self.vocab_size

    @property
    def num_seen(self) -> int:
        """Number of n-grams that occur."""
        return int(np.count_nonzero(self.counts))

    @property
    def num_followed(self) -> int:
        """Number of contexts that some token follows."""
        return 1 + int(np.count_nonzero(np.diff(self.contexts[self.counts > 0])))

    def find(self, contexts: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Ids of the n-grams (context, word); `UNSEEN` where there is no such n-gram or no context."""
        wanted = contexts * self.vocab_size + words
        places = np.minimum(np.searchsorted(self.keys, wanted), len(self.keys) - 1)
        return np.where((contexts != UNSEEN) & (self.keys[places] == wanted), places, UNSEEN)


def index_grams(tokens: np.ndarray, order: int, vocab_size: int) -> list[GramTypes]:
    """The n-grams of orders 1 to `order` (fewer when the stream is shorter than `order`).

    Args:
        tokens: (T,) int64 in [0, V), T >= 1.
    """
    levels = [_single_tokens(tokens, vocab_size)]
    ids = tokens  # ids[i] belongs to the n-gram that starts at position i
    for length in range(2, min(order, len(tokens)) + 1):
        keys = ids[:-1] * vocab_size + tokens[length - 1 :]
        unique, first, inverse, counts = np.unique(
            keys, return_index=True, return_inverse=True, return_counts=True
        )
        num_contexts = len(levels[-1].keys)
        levels.append(GramTypes(unique, counts, ids[first + 1], num_contexts, vocab_size))
        ids = inverse
    return levels


def stream_ids(levels: list[GramTypes], tokens: np.ndarray) -> list[np.ndarray]:
    """For every order, (T,) ids of the n-grams that end at each position of a stream, `UNSEEN` included."""
    ids = [tokens]
    for grams in levels[1:]:
        contexts = np.concatenate([[UNSEEN], ids[-1][:-1]])
        ids.append(grams.find(contexts, tokens))
    return ids


def _single_tokens(tokens: np.ndarray, vocab_size: int) -> GramTypes:
    return GramTypes(
        keys=np.arange(vocab_size),
        counts=np.bincount(tokens, minlength=vocab_size),
        suffixes=np.zeros(vocab_size, dtype=np.int64),
        num_contexts=1,
        vocab_size=vocab_size,
    )
