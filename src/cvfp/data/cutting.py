"""Cutting long documents.

Lengths are in GPT-2 tokens whatever tokenizer is used later, so that all tokenizers see the same documents
and can be compared on them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import pairwise

import numpy as np

from cvfp.data.documents import Document
from cvfp.data.encodings import BLOCK
from cvfp.data.gpt2_tokenizer import gpt2_tokenizer

BORDER = re.compile(r"(?<=\S)(?=[ \t\n\r\u3000])|(?<=[^\W\d_])(?=[.,;:!?。、！？「」])")
"""Where GPT-2's pattern ends a word whatever comes next: texts cut there have the tokens of the whole."""
LONGEST_WITHOUT_BORDER = 16 * BLOCK
"""Characters; a longer run is cut anywhere, to bound the memory."""


def cut_documents(documents: Iterable[Document], max_tokens: int | None) -> Iterator[Document]:
    """Consecutive pieces of at most `max_tokens` GPT-2 tokens each; together they are the text unchanged.

    None: documents stay whole. Of long texts that come in parts only a few parts are held at a time.
    """
    iterator = iter(documents)
    for first in iterator:
        texts = _texts(first, iterator)
        pieces = ["".join(texts)] if max_tokens is None else _pieces(texts, max_tokens)
        for number, piece in enumerate(pieces):
            yield Document(piece, first.speakers, first.continues or number > 0, part=first.part)


def _texts(first: Document, following: Iterator[Document]) -> Iterator[str]:
    """The parts of the document that begins with `first`."""
    yield first.text
    while first.unfinished:
        first = next(following)
        yield first.text


def _pieces(texts: Iterable[str], max_tokens: int) -> Iterator[str]:
    """The text between every `max_tokens`-th token; an empty text is one piece."""
    rest, seen, tokenizer = b"", 0, gpt2_tokenizer()
    for block in _blocks(texts):
        (ids,) = tokenizer.encode_batch([block])
        data = rest + block.encode()
        ends = len(rest) + np.cumsum(tokenizer.token_bytes[ids])
        chosen = ends[max_tokens - 1 - seen % max_tokens :: max_tokens].tolist()
        bounds = sorted({0, *(_character_start(data, end) for end in chosen)})
        yield from (data[start:end].decode() for start, end in pairwise(bounds))
        rest, seen = data[bounds[-1] :], seen + len(ids)
    if rest or not seen:
        yield rest.decode()


def _blocks(texts: Iterable[str]) -> Iterator[str]:
    """The same text in blocks that can be tokenized one by one."""
    rest = ""
    for text in texts:
        rest += text
        if len(rest) > BLOCK:
            cut = _last_border(rest)
            yield rest[:cut]
            rest = rest[cut:]
    yield rest


def _last_border(text: str) -> int:
    """0 where there is none and the text is not too long."""
    for start in range(len(text) - 1000, -1000, -1000):
        found = [match.end() for match in BORDER.finditer(text, max(0, start), start + 1000)]
        if found and found[-1]:
            return found[-1]
    return len(text) if len(text) > LONGEST_WITHOUT_BORDER else 0


def _character_start(data: bytes, position: int) -> int:
    """`position`, moved back to the start of the character it falls into."""
    while position < len(data) and data[position] & 0xC0 == 0x80:
        position -= 1
    return position
