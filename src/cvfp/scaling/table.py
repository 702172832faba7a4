"""What `cvfp fit` computes: power laws, windows and forecasts of the groups of a table file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cvfp.records.errors import InputError
from cvfp.records.results import CAP
from cvfp.scaling.draws import earlier_copies, fit_draws, lone_draws
from cvfp.scaling.forecast import forecast
from cvfp.scaling.power_law import Number
from cvfp.scaling.rows import Row, Table, read_table
from cvfp.scaling.summary import law_fields
from cvfp.scaling.windows import Window, sliding_windows

X_COLUMNS = ("tokens", "train_tokens")
Y_COLUMNS = ("val_ppl", "ppl")
NAME_COLUMNS = ("config_name", "config", "line")
"""The first present names the lines of an arm."""
SAMPLES, SEED = "num_samples", "seed"
POINT_COLUMNS = ("config_hash", SAMPLES, SEED)
"""What together names one point: a file that has all three holds each point once."""
STATES = ("status", "stop_reason")

Note = Callable[[str], None]


def fit_table(
    path: Path,
    x: str | None = None,
    y: str | None = None,
    by: str | None = None,
    window: int | None = None,
    extrapolate: Sequence[Number] = (),
    include_capped: bool = False,
    note: Note = lambda _: None,
) -> dict[str, Any]:
    """The power law of every group of a CSV, JSON or JSONL file.

    A column `seed` that is not grouped by tells draws apart: with at least two that have a law of their own,
    the law of the group is the mean over them (`draws.fit_draws`).

    Args:
        path: the file; see `rows.read_table`.
        x: column of token counts; None: the first present of tokens, train_tokens.
        y: column of perplexities; None: the first present of val_ppl, ppl.
        by: columns to group by, comma separated; None: the first present of config_name, config, line (with
            arm when there are several), else arm, else one group.
        window: consecutive sizes per sliding window (sizes are values of num_samples where the file has it,
            else of x); None: no windows.
        extrapolate: token counts to predict at; empty: 4 and 10 times the largest of the group.
        include_capped: whether rows with the stop_reason "cap" take part: their training ended at its cap,
            not at the minimum of its dev loss.
        note: called with a sentence on what is left out, and on columns that may tell lines apart.

    Returns:
        `{"groups": [{"group", "n", "alpha", "A", "r_squared", "alpha_ci95", "interval_kind", "windows",
        "extrapolation"}]}` in order of first appearance, made of JSON values; None where degrees of freedom
        are short, and where fewer than two sizes remain because rows were left out.

    Raises:
        InputError: as `read_table`; a missing column, or one for both x and y; a point twice; a value that is
            not a positive number, or a perplexity below 1 (names line and column); a group with fewer than
            two distinct sizes; a window below 2, or of more sizes than any group has.
    """
    table = read_table(path)
    table.require_once(POINT_COLUMNS)
    grouping = _grouping(table, by)
    columns = _columns(table, x, y, grouping)
    usable = _usable_rows(table, include_capped, note)
    sizes = _known_sizes(table, columns) if window is not None else frozenset()
    fits, fitted = [], {}
    for name, rows in _group(table.rows, grouping).items():
        kept = [row for row in rows if row.where in usable]
        points = _points(name, kept, columns, note)
        reason = _reason_for_no_fit(points, len(kept) < len(rows))
        if reason is not None:
            note(f"{name}: no fit, since {reason}")
            fits.append(_no_fit(name, points))
            continue
        fits.append(_fit_group(name, points, window, sizes, extrapolate))
        fitted[name] = points
        if by is None:
            _note_unused_names(name, points, note)
    if window is not None:
        _check_windows(table.path, window, fitted, note)
    return {"groups": fits}


@dataclass(frozen=True)
class _Columns:
    """The columns a fit reads; `samples` and `seed` are None in a file without them."""

    x: str
    y: str
    samples: str | None
    seed: str | None


def _columns(table: Table, x: str | None, y: str | None, grouping: Sequence[str]) -> _Columns:
    columns = _Columns(
        x=_column(table, x, X_COLUMNS),
        y=_column(table, y, Y_COLUMNS),
        samples=SAMPLES if SAMPLES in table.columns else None,
        seed=SEED if SEED in table.columns and SEED not in grouping else None,
    )
    if columns.x == columns.y:
        raise InputError(f"{table.path}: column {columns.x!r} is given as x and as y; give one of each")
    return columns


@dataclass(frozen=True)
class _Points:
    """The points of one group, with the rows they come from."""

    rows: Sequence[Row]
    columns: _Columns
    tokens: list[float]
    ppl: list[float]
    seeds: list[str]

    @property
    def sizes(self) -> Sequence[Number]:
        """Numbers of samples where the file has them, else tokens."""
        column = self.columns.samples
        return self.tokens if column is None else [row.whole(column) for row in self.rows]

    def kept(self, keep: Sequence[bool]) -> _Points:
        """Those marked with True."""
        lists = (
            [value for value, kept in zip(values, keep, strict=True) if kept]
            for values in (self.rows, self.tokens, self.ppl, self.seeds)
        )
        rows, tokens, ppl, seeds = lists
        return _Points(rows, self.columns, tokens, ppl, seeds)


def _points(name: str, rows: Sequence[Row], columns: _Columns, note: Note) -> _Points:
    """The points of a group, without copies of other seeds' results and without seeds of a single size."""
    tokens, ppl = [row.positive(columns.x) for row in rows], [row.positive(columns.y) for row in rows]
    if columns.seed is None:
        return _Points(rows, columns, tokens, ppl, [""] * len(rows))
    points = _Points(rows, columns, tokens, ppl, [row.text(columns.seed) for row in rows])
    copies = earlier_copies(list(zip(tokens, ppl, strict=True)))
    points = points.kept([copy is None for copy in copies])
    lone = lone_draws(points.tokens, points.seeds)
    left = points.kept([seed not in lone for seed in points.seeds])
    if len(points.rows) < len(rows):
        note(
            f"{name}: {len(rows) - len(points.rows)} rows repeat the result of another seed and are left out"
        )
    if lone:
        note(f"{name}: seeds with a single size are left out: {', '.join(sorted(lone))}")
    return left


def _reason_for_no_fit(points: _Points, some_left_out: bool) -> str | None:
    if some_left_out and len(set(points.tokens)) < 2:
        return "fewer than two sizes are left"
    if len(set(points.tokens)) > 1 and len(set(points.ppl)) == 1:
        return f"column {points.columns.y!r} is {points.ppl[0]:g} in every row"
    return None


def _note_unused_names(name: str, points: _Points, note: Note) -> None:
    """Say so when another column seems to tell lines apart: its values share sizes, and each has several."""
    columns, num_sizes = points.columns, len(set(points.tokens))
    read = {columns.x, columns.y, columns.samples, columns.seed, *STATES}
    names = []
    for column in dict.fromkeys(column for row in points.rows for column in row.values):
        sizes: dict[str, set[float]] = {}
        for row, tokens in zip(points.rows, points.tokens, strict=True):
            sizes.setdefault(row.text(column), set()).add(tokens)
        counts = [len(each) for each in sizes.values()]
        if column not in read and min(counts) > 1 and sum(counts) > num_sizes:
            names.append(column)
    if names:
        note(f"{name}: fitted as one line; where {', '.join(names)} tells lines apart, use --by")


def _check_windows(path: Path, window: int, fitted: Mapping[str, _Points], note: Note) -> None:
    """Say which fitted groups have too few sizes for a window. Raises `InputError` when all have."""
    num_sizes = {name: len(set(points.sizes)) for name, points in fitted.items()}
    short = {name: number for name, number in num_sizes.items() if number < window}
    if short and len(short) == len(num_sizes):
        raise InputError(f"{path}: no group has {window} sizes for a window, only {max(short.values())}")
    for name, number in short.items():
        note(f"{name}: no window of {window} sizes, since it has {number}")


def _fit_group(
    name: str, points: _Points, window: int | None, sizes: frozenset[int], extrapolate: Sequence[Number]
) -> dict[str, Any]:
    try:
        law = fit_draws(points.tokens, points.ppl, points.seeds)
        predicted = forecast(law, max(points.tokens), extrapolate)
    except InputError as error:
        raise InputError(f"group {name!r}: {error}") from error
    return {
        "group": name,
        "n": law.n,
        **_as_json(law_fields(law)),
        "windows": [] if window is None else _windows(points, window, sizes),
        "extrapolation": [asdict(one) for one in predicted],
    }


def _no_fit(name: str, points: _Points) -> dict[str, Any]:
    empty: dict[str, Any] = {"windows": [], "extrapolation": []}
    return {"group": name, "n": len(points.rows), **law_fields(None), **empty}


def _windows(points: _Points, window: int, known_sizes: frozenset[int]) -> list[dict[str, Any]]:
    found = sliding_windows(points.tokens, points.ppl, window, points.sizes, points.seeds, known_sizes)
    return [_window_values(one, points.columns.samples is not None) for one in found]


def _window_values(window: Window, has_samples: bool) -> dict[str, Any]:
    values = {
        "sample_range": window.size_range if has_samples else None,
        "token_range": window.token_range,
        **law_fields(window.law),
        "missing_sizes": window.missing,
    }
    return _as_json(values)


def _as_json(values: dict[str, Any]) -> dict[str, Any]:
    return {name: list(value) if isinstance(value, tuple) else value for name, value in values.items()}


def _known_sizes(table: Table, columns: _Columns) -> frozenset[int]:
    """Every size that any row of the file has; empty in a file without numbers of samples."""
    if columns.samples is None:
        return frozenset()
    return frozenset(row.whole(columns.samples) for row in table.rows)


def _usable_rows(table: Table, include_capped: bool, note: Note) -> set[str]:
    """Where the rows stand that a fit may use."""
    done = [row for row in table.rows if row.values.get("status") != "failed"]
    kept = [row for row in done if include_capped or row.values.get("stop_reason") != CAP]
    if len(done) < len(table.rows):
        note(f"{len(table.rows) - len(done)} of {len(table.rows)} rows are failed points and left out")
    if len(kept) < len(done):
        note(
            f"{len(done) - len(kept)} of {len(table.rows)} rows stopped at their cap and are left out; "
            "include_capped (--include-capped) fits them too"
        )
    if not kept:
        raise InputError(f"{table.path}: every row is a failed point, or stopped at its cap")
    return {row.where for row in kept}


def _column(table: Table, asked: str | None, defaults: Sequence[str]) -> str:
    if asked is not None:
        return table.require(asked)
    present = [name for name in defaults if name in table.columns]
    if not present:
        raise InputError(
            f"{table.path}: no column {' or '.join(defaults)}; name one of: {', '.join(table.columns)}"
        )
    return present[0]


def _grouping(table: Table, by: str | None) -> list[str]:
    if by is not None:
        return [table.require(name.strip()) for name in by.split(",")]
    names = [name for name in NAME_COLUMNS if name in table.columns][:1]
    if "arm" in table.columns and (not names or len({row.text("arm") for row in table.rows}) > 1):
        return ["arm", *names]
    return names


def _group(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        name = " / ".join(row.text(column) for column in columns) if columns else "all"
        groups.setdefault(name, []).append(row)
    return groups
