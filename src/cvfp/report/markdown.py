"""Markdown written so that no name out of a record can become markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_BLOCK = re.compile(r"^(\d*)([-+#=.)])(?=[-=#\s]|$)")
"""What could open a heading, a list or a rule at the start of a line."""
_MARKUP = re.compile(r"([\\`*<>\[\]|&!~]|(?<![0-9A-Za-z])_|_(?![0-9A-Za-z]))")
"""What CommonMark or its tables could read as markup inside a line; an underscore within a word is plain."""


def plain(text: object) -> str:
    """`text` as one line of Markdown that shows exactly its characters (runs of white space as one space)."""
    escaped = _MARKUP.sub(r"\\\1", " ".join(str(text).split()))
    return _BLOCK.sub(r"\1\\\2", escaped)


def bold(markdown: str) -> str:
    return f"**{markdown}**"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], left: int = 1) -> str:
    """A Markdown table; the first `left` columns are aligned left, the others right.

    Cells are Markdown: what comes out of a record goes through `plain` first.
    """
    rule = [":---" if column < left else "---:" for column in range(len(header))]
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (header, rule, *rows))


def bullets(items: Iterable[str]) -> str:
    return "\n".join(f"- {item}" for item in items)
