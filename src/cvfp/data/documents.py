"""What a corpus yields, and how the text is found in a record with fields."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

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
