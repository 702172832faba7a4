"""What a corpus yields: documents, found in records with fields, and cut where they are too long.

Lengths are in GPT-2 tokens whatever tokenizer is used later, so that all tokenizers see the same documents
and can be compared on them.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np

from cvfp.data.encodings import BLOCK
from cvfp.data.tokenizers import gpt2_tokenizer
from cvfp.records.errors import InputError

LARGEST_DOCUMENT = 64_000_000
"""Characters of a document, which is tokenized as a whole."""


@dataclass(frozen=True)
class Document:
    """One text, who speaks in it where that is known, and whether it is cut from the source before it."""

    text: str
    speakers: frozenset[str] | None = None
    continues: bool = False
    """True for the second and later pieces of one source: a file, a record, a conversation."""
    unfinished: bool = False
    """True where the text goes on in the next `Document`: long texts are read in blocks."""
    separated: bool = False
    """True for the first piece of what comes behind a separator."""
    part: int = 0
    """Number of the corpus it is from, where several are read as one."""


@dataclass(frozen=True)
class Source:
    """A corpus before it is read: its name, the hash of all that determines it, and how to read it."""

    name: str
    fingerprint: str
    read: Callable[[], Iterator[Document]]
    kinds: frozenset[str] = frozenset()
    """What it is read from; decides which options apply."""
    notes: tuple[str, ...] = ()
    """What a user should know of its files, in lines: what was left out, what is not UTF-8."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """The same in numbers, for `data stats`; empty where it has no files of the user's."""
    files: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """Paths of the local files, by kind and SHA-256."""


def text_of(record: Any, field: str | None, where: str) -> str:
    """The text of a record: its `field`; without one its `text`, else its chat `messages`.

    Messages are joined by "\\n". A null is an empty text (and so a dropped document).

    Raises:
        InputError: `where` has no such field, or it holds no text; the fields there are named.
    """
    if not isinstance(record, Mapping):
        raise InputError(f"{where}: a record with fields is needed, got {type(record).__name__}")
    name = field if field is not None else next((f for f in ("text", "messages") if f in record), None)
    if name is None or name not in record:
        wanted = "'text' or 'messages'" if field is None else repr(field)
        raise InputError(f"{where}: no field {wanted}; there are {', '.join(map(repr, record))}")
    value = record[name]
    if isinstance(value, list):
        return "\n".join(_content(message, f"{where}, field {name!r}") for message in value)
    if value is not None and not isinstance(value, str):
        raise InputError(f"{where}: field {name!r} holds {type(value).__name__}, not text or chat messages")
    return "" if value is None else value


def _content(message: Any, where: str) -> str:
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, str):
        raise InputError(f"{where}: every message needs a 'content' that is text")
    return content


# --- Cutting long documents.


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
            continues, separated = first.continues or number > 0, first.continues and number == 0
            yield Document(piece, first.speakers, continues, separated=separated, part=first.part)


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
