"""What a corpus holds, in numbers."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from cvfp.data.splits import Split

TOP = 20
LONGEST = 0.01


def part_stats(
    parts: Mapping[str, Mapping[str, Any]],
    numbers: np.ndarray,
    lengths: np.ndarray,
    sizes: np.ndarray,
    split: Split,
) -> dict[str, Any]:
    """Counts of each of several corpora, with facts of its files; `numbers` (N,) tells its documents."""
    found = {}
    for number, (name, facts) in enumerate(parts.items()):
        own = numbers == number
        found[name] = {
            "documents": int(own.sum()),
            "tokens": int(lengths[own].sum()),
            "bytes": int(sizes[own].sum()),
            "dev_documents": int(own[split.dev].sum()),
            "test_documents": int(own[split.test].sum()),
            **facts,
        }
    return found


def density(lengths: np.ndarray, sizes: np.ndarray, characters: np.ndarray) -> dict[str, float]:
    """How much text a token stands for, which tells whether the tokenizer suits the language.

    Args: tokens, UTF-8 bytes and characters of every document, (N,) each.
    """
    tokens = int(lengths.sum())
    return {
        "bytes_per_token": float(sizes.sum() / tokens) if tokens else 0.0,
        "tokens_per_character": float(tokens / characters.sum()),
    }


def corpus_stats(lengths: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
    """Counts of documents with these `lengths` (N,) in tokens and `sizes` (N,) in bytes."""
    total = int(lengths.sum())
    longest = np.sort(lengths)[::-1][: math.ceil(LONGEST * len(lengths))]
    return {
        "documents": len(lengths),
        "tokens": total,
        "bytes": int(sizes.sum()),
        "mean_tokens": float(lengths.mean()),
        "median_tokens": float(np.median(lengths)),
        "max_tokens": int(lengths.max()),
        "token_share_of_longest_1_percent": float(longest.sum() / total) if total else 0.0,
    }


def speaker_stats(speakers: list[frozenset[str]], lengths: np.ndarray, split: Split) -> dict[str, Any]:
    """How much of the text few people speak, and how many test documents have a speaker who also trains.

    The tokens of a document are shared evenly by its speakers; `token_share_of_top_20` is the share of the 20
    speakers with the most.
    """
    spoken: Counter[str] = Counter()
    for members, length in zip(speakers, lengths.tolist(), strict=True):
        spoken.update({name: length / len(members) for name in members})
    trained = set().union(*(speakers[i] for i in split.pool))
    seen = [bool(speakers[i] & trained) for i in split.test]
    top = sum(tokens for _, tokens in spoken.most_common(TOP))
    return {
        "speakers": len(spoken),
        "token_share_of_top_20": float(top / lengths.sum()),
        "test_documents_with_a_training_speaker": float(np.mean(seen)),
    }
