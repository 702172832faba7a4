"""Rows of delimited text (CSV and its dialects), and the text of a table's file in whatever encoding it is.

What is guessed is said: the encoding, the separator, lines that are left out, names that were changed.
"""

from __future__ import annotations

import codecs
import csv
import io
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cvfp.records.errors import InputError
from cvfp.records.files import read_bytes
from cvfp.scaling.numerals import is_missing, readings


@dataclass(frozen=True)
class Found:
    """Rows as a file holds them, and what was guessed or done to read them, in a few words each."""

    rows: Sequence[tuple[str, dict[str, Any]]]
    """Where each stands ("t.csv, line 3"), and its values by column."""
    said: Sequence[str] = field(default=())


# --- The encoding.


UTF8 = "utf-8-sig"
BYTE_ORDER_MARKS = {
    # UTF-32's begins with that of UTF-16.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
WIDE = 0.2
"""Share of NUL bytes, all on one side, from which a file is UTF-16 without a byte order mark."""
CALLED = {
    "utf-16": "UTF-16",
    "utf-16-le": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32": "UTF-32",
    "cp932": "Shift_JIS",
    "cp1252": "Windows-1252",
    "latin-1": "Latin-1",
}


def read_table_text(path: Path, encoding: str | None = None) -> tuple[str, list[str]]:
    """The text of a table's file without a byte order mark, and what was guessed of its encoding.

    Args:
        path: the file.
        encoding: what Python calls it; None: UTF-8, what a byte order mark says, UTF-16 by its NUL bytes,
            Japanese by its kana, else Windows-1252, whose digits are those of any other.

    Raises:
        InputError: no file that can be read; an unknown encoding, or not text of it; binary.
    """
    data = read_bytes(path)
    if encoding is not None:
        return _decoded(data, encoding, path), []
    guess = next((name for mark, name in BYTE_ORDER_MARKS.items() if data.startswith(mark)), None)
    guess = guess or _wide(data)
    if guess is None and b"\0" in data:
        raise InputError(
            f"{path}: is a binary file (NUL byte at {data.index(0)}); if it is text, name its --encoding"
        )
    if guess is None:
        try:
            return data.decode(UTF8), []
        except UnicodeDecodeError:
            guess = next(name for name in ("cp932", "cp1252", "latin-1") if _can_be(data, name))
    return _decoded(data, guess, path), [f"{CALLED[guess]} text (--encoding)"]


def _wide(data: bytes) -> str | None:
    sample = data[:4096]
    for name, side in (("utf-16-le", sample[1::2]), ("utf-16-be", sample[::2])):
        if len(data) % 2 == 0 and sample and side.count(0) == sample.count(0) >= WIDE * len(sample):
            return name
    return None


def _can_be(data: bytes, encoding: str) -> bool:
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError:
        return False
    return encoding != "cp932" or any("\u3041" <= sign <= "\u30fc" for sign in text)


def _decoded(data: bytes, encoding: str, path: Path) -> str:
    try:
        text = data.decode(encoding)
    except LookupError as error:
        raise InputError(f"--encoding: there is no {encoding!r}; one is utf-8, utf-16 or latin-1") from error
    except UnicodeError as error:
        raise InputError(f"{path}: is not whole {encoding.upper()} text; name another --encoding") from error
    if "\0" in text:
        raise InputError(f"{path}: has NUL characters as {encoding.upper()} text; name another --encoding")
    return text.removeprefix("\ufeff")


# --- Separators, comments, the header.


SEPARATORS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars", " ": "spaces"}
"""By which a file's columns may be separated; spaces where nothing else does it."""


def read_delimited(path: Path, text: str, separator: str | None = None) -> Found:
    """The rows of a text of columns, under one header line.

    Lines that begin with "#", empty ones, and repetitions of the header are left out; a header that is a
    comment itself, as numpy writes it, is one. Columns without a name are called by their place, and left
    out where they are empty.

    Args:
        path: what the text was read from.
        text: the text.
        separator: one of `SEPARATORS`; None: the one by which every line has as many columns as the header.

    Raises:
        InputError: lines of different numbers of columns, with no separator or with several that fit; a name
            twice, or no header; text that a quote never ends in. Names the line.
    """
    lines, said = _without_comments(text)
    if separator is None:
        separator = _told_by_excel(lines) or _separator(path, lines)
        if separator != ("\t" if path.suffix.lower() in (".tsv", ".tab") else ","):
            said.append(f"separated by {SEPARATORS[separator]} (--separator)")
    table = _split(path, lines, separator)
    header = _header(path, table[0], table[1:], said)
    rows, again = [], 0
    for number, fields in table[1:]:
        if fields == table[0][1]:
            again += 1
            continue
        rows.append((f"{path}, line {number}", _row(f"{path}, line {number}", header, fields)))
    if again:
        said.append(f"its header, which comes {again} times again, left out")
    return Found(rows, said)


def _without_comments(text: str) -> tuple[list[str], list[str]]:
    """The lines, comments as empty ones, with their ends; and what was left out."""
    lines = text.splitlines(keepends=True) if "\r" in text and "\n" not in text else text.split("\n")
    lines = [line.rstrip("\r\n") for line in lines]
    marked = [index for index, line in enumerate(lines) if line.lstrip().startswith("#")]
    first = next(
        (index for index, line in enumerate(lines) if line.strip() and index not in marked), len(lines)
    )
    above = [index for index in marked if index < first]
    below = [index for index in marked if index > first]
    if 2 * len(below) > sum(bool(line.strip()) for line in lines[first + 1 :]):
        below = []  # most rows begin so: it is what they are called
    kept = above[-1] if above and first < len(lines) and _all_numerals(lines[first]) else None
    comments = {*above, *below} - {kept}
    if kept is not None:
        lines[kept] = lines[kept].lstrip().lstrip("#").lstrip()
    said = [f"{len(comments)} comment lines left out"] if comments else []
    return ["" if index in comments else line for index, line in enumerate(lines)], said


def _all_numerals(line: str) -> bool:
    return any(all(readings(part) for part in _parts(line, sign)) for sign in SEPARATORS)


def _parts(line: str, separator: str) -> list[str]:
    return line.split() if separator == " " else line.split(separator)


def _told_by_excel(lines: list[str]) -> str | None:
    """The separator that a first line `sep=;` names; the line is emptied."""
    for index, line in enumerate(lines):
        if line.strip():
            told = line.strip().strip('"')
            if told.lower().startswith("sep=") and told[4:] in SEPARATORS:
                lines[index] = ""
                return told[4:]
            return None
    return None


def _separator(path: Path, lines: Sequence[str]) -> str:
    """The sign by which every line has as many columns as the header, at least two; a comma where none
    has."""
    fitting, most = [], (1, ",")
    for sign in SEPARATORS:
        try:
            table = _split(path, lines, sign)
        except InputError:
            continue
        width = len(table[0][1]) if table else 0
        if width > 1 and all(len(fields) == width for _number, fields in table):
            fitting.append(sign)
        most = max(most, (width if sign != " " else 1, sign), key=lambda one: one[0])
    fitting = [sign for sign in fitting if sign != " "] or fitting
    if len(fitting) > 1:
        names = " or ".join(SEPARATORS[sign] for sign in fitting)
        raise InputError(f"{path}: its columns may be separated by {names}; say which: --separator")
    return fitting[0] if fitting else most[1]


def _split(path: Path, lines: Sequence[str], separator: str) -> list[tuple[int, list[str]]]:
    """The fields of each line that has any, with its number; bars at both ends of a line are its frame."""
    if separator == " ":
        return [(number, line.split()) for number, line in enumerate(lines, 1) if line.strip()]
    reader = csv.reader(
        io.StringIO("\n".join(lines), newline=""),
        delimiter=separator,
        strict=True,
        skipinitialspace=separator != "\t",
    )
    table: list[tuple[int, list[str]]] = []
    try:
        for fields in reader:
            fields = [part.strip() for part in fields]
            if separator == "|" and len(fields) > 2 and not fields[0] and not fields[-1]:
                fields = fields[1:-1]
                if all(set(part) <= set("-:") and "-" in part for part in fields):
                    continue
            if any(fields):
                table.append((reader.line_num, fields))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    return table


def _header(
    path: Path, first: tuple[int, list[str]], rows: Sequence[tuple[int, list[str]]], said: list[str]
) -> list[str | None]:
    """The names of the columns; None for one to leave out."""
    number, fields = first
    where = f"{path}, line {number}"
    names: list[str | None] = []
    for place, written in enumerate(fields):
        name = visible(written)
        if name != written:
            said.append(
                f"a column {name!r} that is written {shown(written)}, with characters that do not show"
            )
        if not name and all(place >= len(each) or not each[place] for _number, each in rows):
            names.append(None)
        else:
            names.append(name or f"column {place + 1}")
    named = [name for name in names if name is not None]
    if all(readings(name) or is_missing(name) for name in named):
        raise InputError(
            f"{where}: a header is needed, with the names of the columns; got {', '.join(named)}"
        )
    twice = [name for index, name in enumerate(named) if name in named[:index]]
    if twice:
        raise InputError(
            f"{where}: every column needs a name of its own; twice there: {', '.join(map(shown, fields))}"
        )
    return names


def _row(where: str, header: Sequence[str | None], fields: Sequence[str]) -> dict[str, Any]:
    fields = [*fields[: len(header)], *(extra for extra in fields[len(header) :] if extra)]
    if len(fields) != len(header):
        hint = "; a comma in a number needs quotes around it" if len(fields) > len(header) else ""
        raise InputError(f"{where}: {len(fields)} values for {len(header)} columns{hint}")
    return {name: value for name, value in zip(header, fields, strict=True) if name is not None}


INVISIBLE = ("Cf", "Cc", "Zl", "Zp", "Co", "Cn")
"""Categories of characters that do not show."""


def visible(name: str) -> str:
    """A name without characters that do not show, and with ordinary spaces."""
    kept = (
        " " if sign.isspace() else "" if unicodedata.category(sign) in INVISIBLE else sign for sign in name
    )
    return " ".join("".join(kept).split())


def shown(name: str) -> str:
    """A name in quotes, with escapes for what does not show."""
    hidden = (*INVISIBLE, "Zs")
    signs = (
        ascii(sign)[1:-1] if unicodedata.category(sign) in hidden and sign != " " else sign for sign in name
    )
    return f"'{''.join(signs)}'"
