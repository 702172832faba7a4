"""Numbers as people write them: decimal points or commas, thousands of every style, k, M, B and T.

A text can have two readings: "1,200" is 1200 where a point is the decimal mark, 1.2 where a comma is. Which
one a column has is told by its other cells, then by other columns of the file; where nothing tells, nothing
is guessed.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Literal

from cvfp.records.errors import InputError

Mark = Literal[".", ","]
"""The decimal mark."""
MARKS: tuple[Mark, Mark] = (".", ",")
NO_VALUE = {"", "-", "--", "–", "—", "?", "n/a", "na", "#n/a", "<na>", "null", "none", "missing"}
"""What stands in a cell, in small letters, that has no value."""
MAGNITUDES = {"k": 3, "m": 6, "mio": 6, "mn": 6, "b": 9, "bn": 9, "g": 9, "t": 12}
"""Powers of ten of the letters behind a count."""

# One sign between thousands, the same throughout; the first group has no leading zero. Indian lakhs, too.
_WHOLE = r"(?:\d+|[1-9]\d{0,2}(?P<sign>[, '_])\d{3}(?:(?P=sign)\d{3})*|[1-9]\d?(?:,\d{2})+,\d{3})"
_NUMERAL = re.compile(
    rf"(?P<number>[+-]?(?:{_WHOLE}(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)"
    rf"(?: ?(?P<letter>{'|'.join(sorted(MAGNITUDES, key=len, reverse=True))}))?(?: tok(?:en)?s?)?",
    re.IGNORECASE | re.ASCII,
)
_ALIKE = str.maketrans(
    {"\u2212": "-", "，": ",", "．": ".", "٫": ".", "٬": ",", "’": "'", "`": "'"}
    | dict.fromkeys("\u00a0\u2007\u2008\u2009\u202f", " ")
)
_SWAPPED = str.maketrans(".,", ",.")


def readings(text: str, count: bool = False) -> dict[Mark, str]:
    """What a text is by each decimal mark that it can be read with, in digits that `float` reads.

    Args:
        text: a cell.
        count: whether a letter for a power of ten may follow: "0.06M" is "0.06e6".
    """
    plain = "".join(
        str(unicodedata.decimal(sign)) if sign.isdecimal() else sign
        for sign in text.strip().translate(_ALIKE)
    )
    found: dict[Mark, str | None] = {
        ".": _reading(plain, count),
        ",": _reading(plain.translate(_SWAPPED), count),
    }
    return {mark: number for mark, number in found.items() if number is not None}


def _reading(text: str, count: bool) -> str | None:
    match = _NUMERAL.fullmatch(text)
    if match is None or (not count and match.end("number") < len(text)):
        return None
    number, letter = re.sub("[, '_]", "", match["number"]), match["letter"]
    if letter is None:
        return number
    return None if "e" in number.lower() else f"{number}e{MAGNITUDES[letter.lower()]}"


def _up_to(highest: float, found: dict[Mark, str]) -> dict[Mark, str]:
    return {mark: number for mark, number in found.items() if float(number) <= highest} or found


def is_missing(value: object) -> bool:
    """Whether a cell says that there is no value; NaN is one."""
    if isinstance(value, str):
        return value.strip().lower() in NO_VALUE or value.strip().lower().lstrip("+-") == "nan"
    return value is None or (isinstance(value, float) and math.isnan(value))


def decimal_mark_of(cells: Iterable[object]) -> Mark | None:
    """The decimal mark of a file, where some of its cells can be read with it alone and none with the other
    alone."""
    found: set[Mark] = set()
    for cell in cells:
        if isinstance(cell, str) and ("." in cell or "," in cell):
            possible = readings(cell, count=True)
            found |= set(possible) if len(possible) == 1 else set()
    return found.pop() if len(found) == 1 else None


def mark_of_column(
    cells: Sequence[tuple[str, str]],
    file_mark: Mark | None,
    count: bool,
    column: str,
    highest: float = math.inf,
) -> Mark:
    """The decimal mark that the texts of a column are written with.

    A count has no fractions, so that "1.200" is doubtful where points are decimal, too: it may be in
    thousands.

    Args:
        cells: where each stands ("t.csv, line 3"), and what it says; those that are no number say nothing.
        file_mark: that of the file (`decimal_mark_of`).
        count: whether the column counts something: then no fractions are expected.
        column: its name.
        highest: what is more than this is no reading, if there is another: no loss is 5815.

    Raises:
        InputError: two cells that go by different marks, or texts that are different numbers by each mark
            with nothing to tell which; names the cells and the option.
    """
    possible = {cell: found for cell in cells if (found := _up_to(highest, readings(cell[1], count)))}
    left: list[Mark] = [mark for mark in MARKS if all(mark in found for found in possible.values())]
    if len(left) == 1:
        return left[0]
    if not left:
        (where, first), (there, second) = (
            next(cell for cell, found in possible.items() if mark not in found) for mark in MARKS
        )
        raise InputError(
            f"{where}: column {column!r}: {first!r} has a decimal comma and {second!r} ({there}) a decimal "
            "point; write them alike"
        )
    doubtful = next(
        (cell for cell, found in possible.items() if len(set(map(float, found.values()))) > 1), None
    )
    if doubtful is None:
        return "."
    sign: Mark = "." if "." in doubtful[1] else ","
    if count and file_mark is not None and sign != file_mark:
        return file_mark
    if not count:
        # "1.234" is a fraction, unless 999 stands beside it, or the file has decimal commas; "1,234" is one
        # where it has.
        whole = [float(text) for _where, text in cells if text.strip().isdecimal()]
        if sign == (file_mark or ".") and not (whole and max(whole) >= 100):
            return sign
    found = possible[doubtful]
    raise InputError(
        f"{doubtful[0]}: column {column!r}: {doubtful[1]!r} may be {float(found['.']):g} or "
        f"{float(found[',']):g}; say which sign stands before decimals: --decimal point or --decimal comma"
    )
