"""Markdown written so that no name out of a record can become markup."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

_BLOCK = re.compile(r"^(\d*)([-+#=.)])(?=[-=#\s]|$)")
"""What could open a heading, a list or a rule at the start of a line."""
_MARKUP = re.compile(r"([\\`*<>\[\]|&!~]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z]))")
"""What CommonMark or its tables could read as markup inside a line; an underscore within a word is plain."""

Row = TypeVar("Row")


def plain(text: object) -> str:
    """`text` as one line of Markdown that shows exactly its characters (runs of white space as one space)."""
    escaped = _MARKUP.sub(r"\\\1", " ".join(str(text).split()))
    return _BLOCK.sub(r"\1\\\2", escaped)


def code(text: str) -> str:
    """`text` in one line of code, whatever backticks it has."""
    text = " ".join(text.split())
    fence = "`" * (1 + max(map(len, re.findall("`+", text)), default=0))
    pad = " " if "`" in text else ""
    return f"{fence}{pad}{text}{pad}{fence}"


def bold(markdown: str) -> str:
    return f"**{markdown}**"


@dataclass(frozen=True)
class Column(Generic[Row]):
    """A column of a table: its heading, and what it says of a row.

    Both are Markdown: what comes out of a record goes through `plain` first. Words stand left, numbers right.
    """

    title: str
    cell: Callable[[Row], str]
    words: bool = False


def table(columns: Sequence[Column[Row]], rows: Iterable[Row]) -> str:
    """A Markdown table with a line for each of `rows`; empty without any."""
    lines = [[column.cell(row) for column in columns] for row in rows]
    if not lines:
        return ""
    rule = [":---" if column.words else "---:" for column in columns]
    header = [column.title for column in columns]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *lines))


def text_table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A table of cells that are Markdown already; the first `left` columns stand left. Empty without rows."""
    columns = [
        Column[Sequence[str]](title, lambda row, index=index: row[index], words=index < left)
        for index, title in enumerate(header)
    ]
    return table(columns, rows)


def bullets(items: Iterable[str]) -> str:
    """A list, an item for each; empty without any."""
    return "\n".join(f"- {item}" for item in items)


def quote(*paragraphs: str) -> str:
    """Paragraphs as a box."""
    return "\n>\n".join(f"> {text}" for text in paragraphs if text)
