"""A stream: what a model is trained or scored on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cvfp.data.tokenizers import Tokenizer
from cvfp.records.errors import InputError


@dataclass(frozen=True, eq=False)
class Stream:
    """Tokens of documents put together with no separator."""

    tokens: np.ndarray
    """(T,) int64; all but the first are predicted."""
    offsets: np.ndarray
    """(D,) int64: position of the first token of every document."""
    num_bytes: int
    """UTF-8 bytes of the whole text."""
    target_bytes: int
    """UTF-8 bytes of the predicted tokens, `tokens[1:]`: what bits per byte divides by."""

    def __len__(self) -> int:
        return len(self.tokens)


def make_stream(tokens: np.ndarray, lengths: np.ndarray, num_bytes: int, tokenizer: Tokenizer) -> Stream:
    """A stream of documents with these `lengths` in tokens and `num_bytes` of text."""
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    return Stream(tokens, offsets, num_bytes, num_bytes - int(tokenizer.token_bytes[tokens[0]]))


def first_tokens(stream: Stream, num_tokens: int, tokenizer: Tokenizer) -> Stream:
    """The stream cut after `num_tokens`. Raises `InputError` when it has fewer.

    Its bytes are those of its tokens, scaled by the text's bytes per byte of tokens (1 unless the tokenizer
    loses text).
    """
    if num_tokens > len(stream):
        raise InputError(f"data.test_tokens {num_tokens}: the test documents hold {len(stream)} tokens")
    tokens = stream.tokens[:num_tokens]
    sizes = tokenizer.token_bytes[tokens]
    text_share = stream.num_bytes / int(tokenizer.token_bytes[stream.tokens].sum())
    num_bytes = round(text_share * int(sizes.sum()))
    offsets = stream.offsets[stream.offsets < num_tokens]
    return Stream(tokens, offsets, num_bytes, num_bytes - int(sizes[0]))
