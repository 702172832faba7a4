"""Cutting long documents.

Lengths are in GPT-2 tokens whatever tokenizer is used later, so that all tokenizers see the same documents
and can be compared on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from cvfp.data.documents import Document
from cvfp.data.gpt2_tokenizer import gpt2_tokenizer


def cut_documents(documents: Iterable[Document], max_tokens: int | None) -> Iterator[Document]:
    """Consecutive pieces of at most `max_tokens` GPT-2 tokens each; together they are the text unchanged."""
    for document in documents:
        pieces = [document.text] if max_tokens is None else _pieces(document.text, max_tokens)
        for number, piece in enumerate(pieces):
            yield Document(piece, document.speakers, document.continues or number > 0)


def _pieces(text: str, max_tokens: int) -> list[str]:
    tokenizer = gpt2_tokenizer()
    (ids,) = tokenizer.encode_batch([text])
    ends = np.cumsum(tokenizer.token_bytes[ids])
    data = text.encode()
    cuts = [_character_start(data, int(end)) for end in ends[max_tokens - 1 :: max_tokens]]
    bounds = sorted({0, *cuts, len(data)})
    return [data[start:end].decode() for start, end in pairwise(bounds)]


def _character_start(data: bytes, position: int) -> int:
    """`position`, moved back to the start of the character it falls into."""
    while position < len(data) and data[position] & 0xC0 == 0x80:
        position -= 1
    return position
