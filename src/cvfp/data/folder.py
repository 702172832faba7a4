"""The files of a folder: which are read, and which are left out, counted and named."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from cvfp.records.errors import InputError
from cvfp.records.files import reason

KINDS = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".markdown": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
"""Kinds of file by suffix."""
REASONS = {
    "empty": "empty",
    "binary": "binary (NUL bytes)",
    "undecodable": "of no known encoding",
    "same": "the same as another file",
    "no_records": "broken, or without the text field (data.text_field names it)",
    "unreadable": "cannot be read",
    "broken_links": "links that lead nowhere",
    "linked_folders": "links to folders, which are not followed",
    "special": "pipes, sockets or devices",
    "hidden": "hidden",
    "other_kinds": "of other kinds",
}
"""Why something in a folder is left out, in words."""
SHOWN = 3
"""Names that a note gives; the others are counted."""


@dataclass(frozen=True)
class Listing:
    """Files to read, in sorted order, and the names of all else by reason."""

    files: list[Path]
    left: dict[str, list[str]] = field(default_factory=dict)

    def leave(self, why: str, name: str) -> None:
        """Count something as left out for a reason of `REASONS`."""
        self.left.setdefault(why, []).append(name)

    def notes(self) -> list[str]:
        """A line per reason."""
        return [_note(why, sorted(self.left[why])) for why in REASONS if why in self.left]

    def counts(self) -> dict[str, int]:
        """How many were left out, by reason."""
        return {why: len(self.left[why]) for why in REASONS if why in self.left}


def list_folder(root: Path) -> Listing:
    """Everything below a folder. Hidden files and folders are left out, and links to folders not followed.

    Raises:
        InputError: the folder itself cannot be read.
    """
    listing, waiting = Listing([]), [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                waiting += [Path(entry.path) for entry in entries if _is_folder(entry, root, listing)]
        except OSError as error:
            if folder == root:
                raise InputError(f"{root}: cannot be read: {reason(error)}") from error
            listing.leave("unreadable", _name(folder, root))
    listing.files.sort(key=lambda file: file.relative_to(root).parts)
    return listing


def few(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def shown_name(path: Path) -> str:
    """A path as one line of text: bytes of old encodings, as archives leave them, and control characters as
    `\\x82` and `\\n`."""
    text = os.fsencode(path.as_posix()).decode(errors="backslashreplace")
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":  # such as the wide Japanese space
        return character
    return character.encode("unicode_escape").decode("ascii")


def _is_folder(entry: os.DirEntry, root: Path, listing: Listing) -> bool:
    """Sort what is not a folder into the listing."""
    path = Path(entry.path)
    if entry.name.startswith("."):
        listing.leave("hidden", _name(path, root))
    elif entry.is_dir(follow_symlinks=False):
        return True
    elif (why := _why_no_file(entry)) is not None:
        listing.leave(why, _name(path, root))
    elif path.suffix.lower() in KINDS:
        listing.files.append(path)
    else:
        listing.leave("other_kinds", _name(path, root))
    return False


def _why_no_file(entry: os.DirEntry) -> str | None:
    try:
        if entry.is_file():
            return None
        if entry.is_dir():
            return "linked_folders"
    except OSError:  # a link that leads to itself
        return "broken_links"
    return "broken_links" if entry.is_symlink() else "special"


def _name(path: Path, root: Path) -> str:
    return shown_name(path.relative_to(root))


def _note(why: str, names: list[str]) -> str:
    what = "file" if len(names) == 1 else "files"
    if why == "hidden":
        what = f"{what} or folder{'s' if len(names) > 1 else ''}"
    if why in ("linked_folders", "broken_links"):
        what = "entry" if len(names) == 1 else "entries"
    shown = few(names) if why != "other_kinds" else ", ".join(_by_suffix(names))
    return f"{len(names)} {what} left out, {REASONS[why]}: {shown}"


def _by_suffix(names: list[str]) -> Iterator[str]:
    """Suffixes with their counts, the most frequent first."""
    counts = Counter(Path(name).suffix.lower() or "no suffix" for name in names)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return (f"{suffix} {count}" for suffix, count in ordered)
