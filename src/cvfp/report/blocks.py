"""What pages are made of: text, pictures, and what is folded away; and their Markdown.

A section of a page is a title with blocks. A picture knows how it is drawn; whoever writes the page says
where its file lies.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import plotly.graph_objects as go
from matplotlib.figure import Figure

FOLD, END_OF_FOLD = "<details><summary>{}</summary>", "</details>"
"""Lines of a page that open and close what is folded; GitHub and `page.render_page` know them. No name out
of a record can become one (`markdown.plain`)."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A figure with its file name, what it shows in words, and the interactive chart of the same, if any."""

    file: str
    text: str
    figure: Figure
    chart: go.Figure | None = None


@dataclass(frozen=True)
class Fold:
    """Blocks that a reader opens by their title."""

    title: str
    blocks: tuple[Block, ...]


Block = str | Picture | tuple[Picture, ...] | Fold
"""Markdown; a picture; pictures side by side; or what is folded away. An empty text is nothing."""


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it."""

    title: str
    blocks: tuple[Block, ...]

    def pictures(self) -> Iterator[Picture]:
        """All of its pictures, as they come."""
        return _pictures(self.blocks)


Link = Callable[[Picture], str] | None
"""Where a picture lies, relative to the page; None: pictures are left out."""


def written(section: Section, link: Link) -> str:
    """The section as Markdown."""
    return "\n\n".join([f"## {section.title}", *_texts(section.blocks, link)])


def page_of(title: str, sections: Sequence[Section], link: Link, *lead: str) -> str:
    """A page as Markdown: its title, lines under it, and its sections."""
    parts = [f"# {title}", *lead, *(written(section, link) for section in sections)]
    return re.sub(r"\n{3,}", "\n\n", "\n\n".join(part for part in parts if part)).strip() + "\n"


def present(blocks: Sequence[Block | None]) -> tuple[Block, ...]:
    """The blocks that are there: without None, empty texts, and folds of nothing."""
    return tuple(one for one in blocks if one and not (isinstance(one, Fold) and not present(one.blocks)))


def _texts(blocks: Sequence[Block], link: Link) -> Iterator[str]:
    for block in blocks:
        match block:
            case str():
                yield block
            case Fold():
                yield "\n\n".join(
                    [FOLD.format(block.title), *_texts(present(block.blocks), link), END_OF_FOLD]
                )
            case Picture() | tuple() if link is not None:
                pictures = (block,) if isinstance(block, Picture) else block
                yield "\n".join(f"![{picture.text}]({link(picture)})" for picture in pictures)


def _pictures(blocks: Sequence[Block]) -> Iterator[Picture]:
    for block in blocks:
        match block:
            case Picture():
                yield block
            case Fold():
                yield from _pictures(block.blocks)
            case tuple():
                yield from block
