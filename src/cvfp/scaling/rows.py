"""Rows of a table, whoever wrote it: a file or several, a frame, dictionaries. Errors name the place."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

from cvfp.records.errors import InputError, near
from cvfp.records.files import is_dir
from cvfp.records.schema import LARGEST
from cvfp.records.sweep import SweepFiles
from cvfp.scaling.delimited import Found, read_delimited, read_table_text
from cvfp.scaling.exports import items_of, plain_value, read_json, read_json_lines, row_of, unfolded
from cvfp.scaling.numerals import MARKS, Mark, decimal_mark_of, is_missing, mark_of_column, readings


@dataclass(frozen=True)
class Row:
    """One row: its values by column, where it stands ("results.csv, line 3"), and in which file."""

    where: str
    values: dict[str, Any]
    file: str = ""

    def has(self, column: str) -> bool:
        """Whether there is a value in `column`."""
        return not is_missing(self.values.get(column))

    def number(self, column: str) -> float:
        """The finite number in `column`.

        Raises:
            InputError: the value is missing, empty or not a finite number; names line and column.
        """
        value = self.values.get(column)
        if value is None or value == "":
            raise InputError(f"{self.where}: column {column!r} is empty, a number is needed")
        number = as_float(value)
        if number is None or not math.isfinite(number):
            hint = "; write digits alone, without units" if isinstance(value, str) else ""
            raise InputError(f"{self.where}: column {column!r}: {value!r} is not a finite number{hint}")
        return number

    def positive(self, column: str) -> float:
        """This is `number`, above 0."""
        number = self.number(column)
        if number <= 0:
            raise InputError(f"{self.where}: column {column!r}: must be positive, got {number:g}")
        return number

    def perplexity(self, column: str) -> float:
        """This is `positive`; in a column whose name ends in ppl it is at least 1."""
        number = self.number(column)
        if column.endswith("ppl") and number < 1:
            raise InputError(
                f"{self.where}: column {column!r}: a perplexity is at least 1, got {number:g}; of losses in "
                "nats say so (--unit nats)"
            )
        return self.positive(column)

    def half_unit(self, column: str) -> float:
        """Half a unit of the last digit that a number in `column` is written with: 0.05 of "131.8"."""
        self.number(column)
        exponent = Decimal(str(self.values[column])).as_tuple().exponent
        assert isinstance(exponent, int)  # the number is finite
        return 0.5 * 10.0**exponent

    def whole(self, column: str) -> int:
        """This is `number` without a fraction, as numpy holds it."""
        number = self.number(column)
        if not number.is_integer():
            raise InputError(f"{self.where}: column {column!r}: must be a whole number, got {number:g}")
        if abs(number) > LARGEST:
            raise InputError(f"{self.where}: column {column!r}: must be at most {LARGEST}, got {number:g}")
        return int(number)

    def size(self, column: str) -> float | str:
        """The number in `column`, however it is written, else its text: it tells sizes of failed rows too."""
        number = as_float(self.values.get(column))
        return self.text(column) if number is None else number

    def text(self, column: str) -> str:
        """The value of `column` as a label; "-" where there is none."""
        value = self.values.get(column)
        return "-" if is_missing(value) else str(value)


@dataclass(frozen=True)
class Table:
    """All rows of a table, and the columns that any of them has, in order of appearance."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]
    said: tuple[str, ...] = ()
    """What was guessed to read it, a sentence per file."""

    def require(self, column: str) -> str:
        """`column` itself.

        Raises:
            InputError: there is no such column; the message lists those there are.
        """
        if column not in self.columns:
            known = ", ".join(self.columns)
            raise InputError(
                f"{self.path}: no column {column!r}{near(column, self.columns)}; it has: {known}"
            )
        return column

    def require_once(self, columns: Sequence[str]) -> None:
        """Raises `InputError` when two rows agree in all of `columns`; a file without one of them passes."""
        if not set(columns) <= set(self.columns):
            return
        seen: dict[tuple[str, ...], Row] = {}
        for row in self.rows:
            first = seen.setdefault(tuple(self.label(row, column) for column in columns), row)
            if first is not row:
                same = ", ".join(f"{column} {row.text(column)}" for column in columns)
                raise InputError(f"{row.where}: has the {same} of {first.where} again; keep one of them")

    def label(self, row: Row, column: str) -> str:
        """The value of a row as a label: the same for equal numbers, however they are written. Of a column
        that holds anything else, plain digits alone are numbers: "1e5" may be a name."""
        text = row.text(column)
        return label_of(text) if column in self._of_numbers or PLAIN_NUMBER.fullmatch(text) else text

    @cached_property
    def _of_numbers(self) -> frozenset[str]:
        texts = ((column, row.text(column)) for row in self.rows for column in row.values)
        others = {column for column, text in texts if text != "-" and _as_decimal(text) is None}
        return frozenset(self.columns) - others

    def with_numbers(
        self,
        columns: Mapping[str, bool],
        decimal: Mark | None = None,
        highest: Mapping[str, float] = MappingProxyType({}),
    ) -> tuple[Table, tuple[str, ...]]:
        """The table with the texts of columns as digits that `Row.number` reads, and a word for each file
        in which that took a guess.

        Args:
            columns: which; True where they count something.
            decimal: the decimal mark of all files; None: it is told by their cells.
            highest: what no number of a column is above (`numerals.mark_of_column`).

        Raises:
            InputError: as `numerals.mark_of_column`.
        """
        said: list[str] = []
        made: list[Row] = []
        files: dict[str, list[Row]] = {}
        for row in self.rows:
            files.setdefault(row.file, []).append(row)
        for file, rows in files.items():
            mark = decimal or decimal_mark_of(value for row in rows for value in row.values.values())
            marks: dict[str, Mark] = {
                column: decimal
                or mark_of_column(_texts(rows, column), mark, count, column, highest.get(column, math.inf))
                for column, count in columns.items()
            }
            changed = [_with_digits(row, columns, marks) for row in rows]
            made += changed
            if decimal is None:
                said += _guessed(file, rows, changed, marks)
        return replace(self, rows=tuple(made)), tuple(said)  # the rows of a file stand together


def _texts(rows: Sequence[Row], column: str) -> list[tuple[str, str]]:
    values = ((row.where, row.values.get(column)) for row in rows)
    return [(where, value) for where, value in values if isinstance(value, str) and not is_missing(value)]


def _with_digits(row: Row, columns: Mapping[str, bool], marks: Mapping[str, Mark]) -> Row:
    new = {}
    for column, count in columns.items():
        value = row.values.get(column)
        digits = readings(value, count).get(marks[column]) if isinstance(value, str) else None
        if digits is not None and digits != value:
            new[column] = digits
    return replace(row, values=row.values | new) if new else row


def _guessed(file: str, before: Sequence[Row], after: Sequence[Row], marks: Mapping[str, Mark]) -> list[str]:
    """One cell of each column that was changed, for a file."""
    shown = []
    for column, mark in marks.items():
        pairs: list[tuple[Any, Any]] = [
            (old.values.get(column), new.values.get(column)) for old, new in zip(before, after, strict=True)
        ]
        told = next(
            ((old, new) for old, new in pairs if old is not new and as_float(old) != as_float(new)), None
        )
        if told is not None:
            what = ", with decimal commas" if mark == "," and "." in told[1] else ""
            shown.append(f"{column} {told[0]!r} as {float(told[1]):.15g}{what}")
    return [f"{file}: read {', '.join(shown)} (--decimal)"] if shown else []


def as_float(value: Any) -> float | None:
    """The number that a value is, or that its digits write; None of any other value."""
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


def _as_decimal(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except InvalidOperation:
        return None
    return number if number.is_finite() else None


PLAIN_NUMBER = re.compile(r"[+-]?(?:0|[1-9]\d*)(?:\.\d*)?", re.ASCII)
LONGEST = 25
"""Digits of a number that is a label."""


def label_of(text: str) -> str:
    """The same for 1, 1.0 and 1e0; other texts as they are."""
    number = _as_decimal(text)
    if number is None or abs(number.adjusted()) > LONGEST or len(number.as_tuple().digits) > LONGEST:
        return text
    return "0" if number == 0 else f"{number.normalize():f}"


# --- Where a table comes from.


@dataclass(frozen=True)
class Reading:
    """How the files of a table are read, where that is not to be guessed.

    Args:
        encoding: what Python calls the encoding of the text.
        separator: the sign between the columns of delimited text.
        decimal: the decimal mark.
    """

    encoding: str | None = None
    separator: str | None = None
    decimal: Mark | None = None

    def __post_init__(self) -> None:
        if self.decimal is not None and self.decimal not in MARKS:
            raise InputError(f"decimal: one of {' '.join(MARKS)} is needed, got {self.decimal!r}")


GUESSED = Reading()
DELIMITED = (".csv", ".tsv", ".tab", ".txt", ".dat")
LINES = (".jsonl", ".ndjson")
SUFFIXES = (*DELIMITED, ".json", *LINES)
FILE = "file"
"""The column that says which of several files a row is of."""


def read_table(path: Path, reading: Reading = GUESSED) -> Table:
    """Read one file: delimited text under a header line (`delimited`), JSON in the shapes of `exports`, or an
    object per line.

    Raises:
        InputError: a directory; another suffix; the file is missing, empty, binary, has no rows, or is not
        what
            its suffix says. Messages name the line.
    """
    path = Path(path)
    if is_dir(path):
        raise InputError(
            f"{path}: is a directory, a file is needed (of a sweep: its {SweepFiles(path).points.name})"
        )
    kind = path.suffix.lower()
    if kind not in SUFFIXES:
        hint = "; save it as CSV" if kind in (".xlsx", ".xls", ".ods") else ""
        raise InputError(f"{path}: cannot read {kind or 'no suffix'!r}; allowed: {', '.join(SUFFIXES)}{hint}")
    text, said = read_table_text(path, reading.encoding)
    if not text.strip().strip("\ufeff"):
        raise InputError(f"{path}: is empty")
    if kind in DELIMITED:
        found = read_delimited(path, text, reading.separator)
    else:
        found = read_json_lines(path, text) if kind in LINES else read_json(path, text)
    return _table(path, Found(found.rows, [*said, *found.said]))


def read_tables(paths: Sequence[Path], reading: Reading = GUESSED) -> Table:
    """One table of several files, with a column `file` where there is none: the name without what all names
    end in.

    Raises:
        InputError: as `read_table`; no file; one twice.
    """
    if len(paths) == 1:
        return read_table(paths[0], reading)
    if not paths:
        raise InputError("no file is given")
    twice = [path for index, path in enumerate(paths) if path in paths[:index]]
    if twice:
        raise InputError(f"{twice[0]}: is given twice")
    tables = [read_table(path, reading) for path in paths]
    names = [path.stem for path in map(Path, paths)]
    if len(set(names)) < len(names):
        names = [str(path) for path in paths]
    rows = tuple(
        replace(row, values={FILE: name, **row.values})
        for name, table in zip(names, tables, strict=True)
        for row in table.rows
    )
    columns = tuple(dict.fromkeys(column for row in rows for column in row.values))
    said: dict[str, list[Path]] = {}
    for table in tables:
        for one in table.said:
            said.setdefault(one.removeprefix(f"{table.path}: "), []).append(table.path)
    told = (
        f"{files[0]}{f' and {len(files) - 1} more' if len(files) > 1 else ''}: {one}"
        for one, files in said.items()
    )
    return Table(Path(str(paths[0])), columns, rows, tuple(told))


def table_of(data: Any, name: str = "the rows") -> Table:
    """The table of rows that are dictionaries, of a dictionary of columns, or of a frame of pandas or polars;
    numbers of numpy and pandas are numbers.

    Raises:
        InputError: there are none, or one is no dictionary.
    """
    if hasattr(data, "reset_index") and hasattr(data, "to_dict"):  # pandas
        named = any(level is not None and level not in data.columns for level in data.index.names)
        data = (data.reset_index() if named else data).to_dict("records")
    elif hasattr(data, "to_dicts"):  # polars
        data = data.to_dicts()
    elif hasattr(data, "to_pylist"):  # pyarrow
        data = data.to_pylist()
    elif isinstance(data, Mapping):
        columns = {key: one.tolist() if hasattr(one, "tolist") else one for key, one in data.items()}
        data, _said = items_of(columns, name)
    items = [
        {_name(key): plain_value(one) for key, one in item.items()} if isinstance(item, Mapping) else item
        for item in data
    ]
    rows = [(f"{name}, item {number}", item) for number, item in enumerate(items, 1)]
    return _table(Path(name), Found([(where, row_of(where, item)) for where, item in rows]))


def _name(key: Any) -> str:
    return ".".join(map(str, key)) if isinstance(key, tuple) else str(key)


def _table(path: Path, found: Found) -> Table:
    found = unfolded(found)
    if not found.rows:
        raise InputError(f"{path}: has no rows")
    columns = dict.fromkeys(column for _where, row in found.rows for column in row)
    rows = tuple(Row(where, values, str(path)) for where, values in found.rows)
    said = (f"{path}: {'; '.join(found.said)}",) if found.said else ()
    return Table(path, tuple(columns), rows, said)
