"""Rows of a table file, whoever wrote it: CSV, JSON or JSONL; and the points that a group of rows makes.

Strict, with errors that name the place.
"""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np

from cvfp.records.errors import InputError, near
from cvfp.records.files import is_dir, parse_json, read_text
from cvfp.records.schema import LARGEST
from cvfp.records.sweep import SweepFiles
from cvfp.scaling.draws import earlier_copies, lone_draws
from cvfp.scaling.points import Points, points_of, range_of_passes


@dataclass(frozen=True)
class Row:
    """One row: its values by column, and where it stands ("results.csv, line 3")."""

    where: str
    values: dict[str, Any]

    def number(self, column: str) -> float:
        """The finite number in `column`.

        Raises:
            InputError: the value is missing, empty or not a finite number; names line and column.
        """
        value = self.values.get(column)
        if value is None or value == "":
            raise InputError(f"{self.where}: column {column!r} is empty, a number is needed")
        number = _as_float(value)
        if number is None or not math.isfinite(number):
            hint = "; write digits alone, without units or separators" if isinstance(value, str) else ""
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
                "nats say so (--nats)"
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
        number = _as_float(self.values.get(column))
        return self.text(column) if number is None else number

    def text(self, column: str) -> str:
        """The value of `column` as a label; "-" where there is none."""
        value = self.values.get(column)
        return "-" if value is None or value == "" else str(value)


@dataclass(frozen=True)
class Table:
    """All rows of one file, and the columns that any of them has, in order of appearance."""

    path: Path
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

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
            first = seen.setdefault(tuple(row.text(column) for column in columns), row)
            if first is not row:
                same = ", ".join(f"{column} {row.text(column)}" for column in columns)
                raise InputError(f"{row.where}: has the {same} of {first.where} again; keep one of them")


def read_table(path: Path) -> Table:
    """Read `.csv` (comma separated, one header line), `.jsonl` (an object per line) or `.json` (a list of
    objects, or an object that holds one such list).

    Raises:
        InputError: a directory; another suffix; the file is missing, empty, binary, not UTF-8, has no rows,
            or is not what its suffix says. Messages name the line.
    """
    path = Path(path)
    if is_dir(path):
        raise InputError(
            f"{path}: is a directory, a file is needed (of a sweep: its {SweepFiles(path).points.name})"
        )
    readers: dict[str, Callable[[Path, str], list[Row]]] = {
        ".csv": _read_csv,
        ".json": _read_json,
        ".jsonl": _read_jsonl,
    }
    if path.suffix.lower() not in readers:
        raise InputError(f"{path}: cannot read {path.suffix or 'no suffix'!r}; allowed: {', '.join(readers)}")
    text = read_text(path)
    if not text.strip():
        raise InputError(f"{path}: is empty")
    rows = readers[path.suffix.lower()](path, text)
    if not rows:
        raise InputError(f"{path}: has no rows")
    columns = dict.fromkeys(column for row in rows for column in row.values)
    return Table(path, tuple(columns), tuple(rows))


def table_of(rows: Iterable[Mapping[str, Any]], name: str = "the rows") -> Table:
    """The table of rows that are dictionaries by column; numbers of numpy and pandas are numbers.

    Raises:
        InputError: there are none, or one is no dictionary.
    """
    found = [_json_row(f"{name}, item {number}", _plain(item)) for number, item in enumerate(rows, 1)]
    if not found:
        raise InputError(f"{name}: has no rows")
    columns = dict.fromkeys(column for row in found for column in row.values)
    return Table(Path(name), tuple(columns), tuple(found))


def _plain(item: Any) -> Any:
    """A row whose values are Python's; what is not there (NaN of a data frame) as None."""
    if not isinstance(item, Mapping):
        return item
    values = {
        str(name): value.item() if isinstance(value, np.generic) else value for name, value in item.items()
    }
    return {name: None if isinstance(one, float) and math.isnan(one) else one for name, one in values.items()}


def _read_csv(path: Path, text: str) -> list[Row]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    lines: list[tuple[int, list[str]]] = []
    try:
        for fields in reader:
            if fields:
                lines.append((reader.line_num, fields))
    except csv.Error as error:
        raise InputError(f"{path}, line {reader.line_num}: not CSV: {error}") from error
    header = _header(path, lines[0][1])
    return [_csv_row(f"{path}, line {number}", header, fields) for number, fields in lines[1:]]


def _header(path: Path, fields: list[str]) -> list[str]:
    header = [name.strip() for name in fields]
    for sign, called in ((";", "semicolons"), ("\t", "tabs"), ("|", "bars")):
        if len(header) == 1 and sign in header[0]:
            raise InputError(f"{path}, line 1: its columns are separated by {called}; commas are needed")
    if "" in header or len(set(header)) < len(header):
        raise InputError(f"{path}, line 1: every column needs a name of its own, got: {', '.join(header)}")
    return header


def _csv_row(where: str, header: list[str], fields: list[str]) -> Row:
    if len(fields) != len(header):
        raise InputError(f"{where}: {len(fields)} values for {len(header)} columns")
    return Row(where, dict(zip(header, (field.strip() for field in fields), strict=True)))


def _read_json(path: Path, text: str) -> list[Row]:
    items = _the_list(path, parse_json(text, str(path)))
    return [_json_row(f"{path}, item {number}", item) for number, item in enumerate(items, 1)]


def _the_list(path: Path, value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    lists = (
        {key: item for key, item in value.items() if isinstance(item, list)}
        if isinstance(value, dict)
        else {}
    )
    if len(lists) != 1:
        found = f"lists: {', '.join(lists)}" if lists else "no list"
        raise InputError(f"{path}: a list of objects, or an object with one, is needed; found {found}")
    return next(iter(lists.values()))


def _read_jsonl(path: Path, text: str) -> list[Row]:
    return [
        _json_row(f"{path}, line {number}", parse_json(line, f"{path}, line {number}"))
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]


def _json_row(where: str, item: Any) -> Row:
    if not isinstance(item, dict):
        raise InputError(f"{where}: an object of columns is needed, got {json.dumps(item)[:40]}")
    return Row(where, item)


def _as_float(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
        return None
    try:
        return float(value)
    except (ValueError, OverflowError):
        return None


# --- The points of a group of rows: tokens, perplexities, sizes, draws, and how exactly they are written.


Note = Callable[[str], None]

EPOCHS, SEEN, DISTINCT = "epochs", "tokens_seen", "train_tokens"
"""Columns that say how often data were read: passes over them; tokens read, over distinct ones."""
FINE = 1e-5
"""Half a unit of the last printed digit, as a change of ln PPL, below which equal results are no chance."""
LARGEST_LOSS = 700.0
"""Nats; exp of more is beyond a float."""


@dataclass(frozen=True)
class Columns:
    """The columns a fit reads; `samples`, `seed` and `draw` are None in a file without them.

    `draw` holds the seed that the documents of a row were drawn with, where that is not its `seed`. `nats`: y
    holds losses in nats, not perplexities.
    """

    x: str
    y: str
    samples: str | None
    seed: str | None
    draw: str | None = None
    nats: bool = False


@dataclass(frozen=True, eq=False)
class GroupPoints:
    """The points of one group, with the rows they come from, and half a printed unit of each as ln PPL (n,).

    Numbers of samples are sizes where every row has a whole one, else tokens are.
    """

    rows: Sequence[Row]
    columns: Columns
    points: Points
    half_units: np.ndarray
    passes: tuple[float, float] | None = None
    """How often the data of all rows that were read were read (`passes_of`)."""

    @property
    def sizes_are_samples(self) -> bool:
        return _samples(self.rows, self.columns) is not None

    def kept(self, keep: np.ndarray) -> GroupPoints:
        """Those marked with True (n,)."""
        rows = [row for row, kept in zip(self.rows, keep, strict=True) if kept]
        return GroupPoints(rows, self.columns, self.points.kept(keep), self.half_units[keep], self.passes)


def read_points(rows: Sequence[Row], columns: Columns) -> GroupPoints:
    """All rows of a group; rows of one size and seed, or of one draw, as one point, the mean of ln PPL over
    them: without a column that tells seeds apart they are no independent results.

    Raises:
        InputError: a value that is not a positive number, a perplexity below 1, a loss of 700 nats or more;
            names the row and the column.
    """
    tokens = [row.positive(columns.x) for row in rows]
    written = np.array(
        [row.positive(columns.y) if columns.nats else row.perplexity(columns.y) for row in rows]
    )
    half = np.array([row.half_unit(columns.y) for row in rows])
    if columns.nats:
        for row, loss in zip(rows, written, strict=True):
            if loss >= LARGEST_LOSS:
                raise InputError(
                    f"{row.where}: column {columns.y!r}: {loss:g} nats is no loss; is it a perplexity?"
                )
    ppl = np.exp(written) if columns.nats else written
    draws = [_draw(row, columns) for row in rows]
    sizes = _samples(rows, columns)
    points = points_of(tokens, ppl, draws, sizes)
    half = half if columns.nats else half / ppl
    group = GroupPoints(rows, columns, points, half, passes_of(rows, columns))
    return _by_draw(group)


def passes_of(rows: Sequence[Row], columns: Columns) -> tuple[float, float] | None:
    """Fewest and most times that rows read a training token, where some repeat their data: by the column
    `epochs`, else by `tokens_seen` over the tokens. Rows with no positive number there do not say.
    """
    return range_of_passes(_passes(row, columns) for row in rows)


def _passes(row: Row, columns: Columns) -> float | None:
    def known(column: str) -> float | None:
        value = _as_float(row.values.get(column))
        return value if value is not None and math.isfinite(value) and value > 0 else None

    if known(EPOCHS) is not None:
        return known(EPOCHS)
    seen, distinct = known(SEEN), known(DISTINCT) or known(columns.x)
    return None if seen is None or distinct is None else seen / distinct


def independent(name: str, group: GroupPoints, note: Note) -> GroupPoints:
    """The group without copies of other seeds' results, and without seeds of a single size beside several.

    Equal perplexities at equal tokens are a copy where they are written finely (`FINE`), or where the two
    seeds agree at all sizes that both have, several: of few digits a single one may be chance.
    """
    if group.columns.seed is None:
        return group
    copies = _copies(group)
    kept = group.kept(np.array([copy is None for copy in copies], dtype=bool))
    lone = lone_draws(kept.points.tokens.tolist(), kept.points.draws)
    left = kept.kept(np.array([seed not in lone for seed in kept.points.draws], dtype=bool))
    if len(kept.rows) < len(group.rows):
        count = len(group.rows) - len(kept.rows)
        note(f"{name}: {count} rows repeat the result of another seed and are left out")
    if lone:
        note(f"{name}: seeds with a single size are left out: {', '.join(sorted(map(str, lone)))}")
    if short := left.points.short_draws:
        names = ", ".join(sorted(map(str, short)))
        note(f"{name}: seeds with less than half of the sizes count in the forecast alone: {names}")
    return left


def _copies(group: GroupPoints) -> list[int | None]:
    """Which row of another seed each row repeats; None where it repeats none."""
    tokens, ppl = group.points.tokens.tolist(), group.points.ppl.tolist()
    draws = group.points.draws
    results = {
        draw: {size: value for size, value, of in zip(tokens, ppl, draws, strict=True) if of == draw}
        for draw in dict.fromkeys(draws)
    }

    def repeats(draw: Hashable, other: Hashable) -> bool:
        common = results[draw].keys() & results[other].keys()
        return len(common) > 1 and all(results[draw][size] == results[other][size] for size in common)

    found = earlier_copies(list(zip(tokens, ppl, strict=True)))
    return [
        earlier if earlier is None or half < FINE or repeats(draw, draws[earlier]) else None
        for draw, half, earlier in zip(draws, group.half_units.tolist(), found, strict=True)
    ]


def _draw(row: Row, columns: Columns) -> str:
    if columns.seed is None:
        return ""
    if columns.draw is None or row.values.get(columns.draw) in (None, ""):
        return _name_of_seed(row.text(columns.seed))
    return str(row.whole(columns.draw))


def _name_of_seed(text: str) -> str:
    """The same for `1` and `1.0`."""
    number = _as_float(text)
    return str(int(number)) if number is not None and number.is_integer() and abs(number) <= LARGEST else text


def _by_draw(group: GroupPoints) -> GroupPoints:
    """One point per size and draw, with the first of its rows."""
    found = group.points.cells()
    half = np.array([group.half_units[cell].mean() for cell in found])
    rows = [group.rows[cell[0]] for cell in found]
    return GroupPoints(rows, group.columns, group.points.by_draw(), half, group.passes)


def _samples(rows: Sequence[Row], columns: Columns) -> list[int] | None:
    """Numbers of samples, where every row has one; else sizes are told by tokens."""
    if columns.samples is None:
        return None
    try:
        found = [row.whole(columns.samples) for row in rows]
    except InputError:
        return None
    return found if all(number > 0 for number in found) else None
