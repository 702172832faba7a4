"""What `cvfp fit` computes: power laws, windows and forecasts of the groups of a table file."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from cvfp.records.errors import InputError
from cvfp.records.results import CAP
from cvfp.scaling.forecast import forecast
from cvfp.scaling.power_law import Number, PowerLaw, fit_power_law
from cvfp.scaling.rows import Row, Table, read_table
from cvfp.scaling.windows import Window, sliding_windows

X_COLUMNS = ("tokens", "train_tokens")
Y_COLUMNS = ("val_ppl", "ppl")
SAMPLES = "num_samples"


def fit_table(
    path: Path,
    x: str | None = None,
    y: str | None = None,
    by: str | None = None,
    window: int | None = None,
    extrapolate: Sequence[Number] = (),
    note: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """The power law of every group of a CSV, JSON or JSONL file.

    Args:
        path: the file; see `rows.read_table`.
        x: column of token counts; None: the first present of tokens, train_tokens.
        y: column of perplexities; None: the first present of val_ppl, ppl.
        by: columns to group by, comma separated; None: config_name (with arm when there are several), else
            arm, else one group.
        window: consecutive sizes per sliding window (sizes are values of num_samples where the file has it,
            else of x); None: no windows.
        extrapolate: token counts to predict at; empty: 4 and 10 times the largest of the group.
        note: called with a sentence on rows that are not what they seem: failed points, which are left
            out, and points that stopped at their cap, which are not.

    Returns:
        `{"groups": [{"group", "n", "alpha", "A", "r_squared", "alpha_ci95", "windows", "extrapolation"}]}`
        in order of first appearance, made of JSON values; None where degrees of freedom are short.

    Raises:
        InputError: as `read_table`; a missing column; a value that is not a positive number (names line and
            column); a group with fewer than two distinct sizes; a window below 2.
    """
    table = read_table(path)
    rows = _usable_rows(table, note)
    columns = _Columns(
        x=_column(table, x, X_COLUMNS),
        y=_column(table, y, Y_COLUMNS),
        samples=SAMPLES if SAMPLES in table.columns else None,
    )
    groups = _group(rows, _grouping(table, by))
    return {"groups": [_fit_group(name, rows, columns, window, extrapolate) for name, rows in groups.items()]}


@dataclass(frozen=True)
class _Columns:
    """The columns a fit reads; `samples` is None in a file without numbers of samples."""

    x: str
    y: str
    samples: str | None


def _fit_group(
    name: str, rows: Sequence[Row], columns: _Columns, window: int | None, extrapolate: Sequence[Number]
) -> dict[str, Any]:
    tokens = [_positive(row, columns.x) for row in rows]
    ppl = [_positive(row, columns.y) for row in rows]
    try:
        law = fit_power_law(tokens, ppl)
        predicted = forecast(law, max(tokens), extrapolate)
    except InputError as error:
        raise InputError(f"group {name!r}: {error}") from error
    return {
        "group": name,
        "n": law.n,
        **_law_values(law),
        "windows": [] if window is None else _windows(rows, columns, tokens, ppl, window),
        "extrapolation": [asdict(one) for one in predicted],
    }


def _windows(
    rows: Sequence[Row], columns: _Columns, tokens: list[float], ppl: list[float], window: int
) -> list[dict[str, Any]]:
    samples = None if columns.samples is None else [_whole(row, columns.samples) for row in rows]
    found = sliding_windows(tokens, ppl, window, samples)
    return [_window_values(one, samples is not None) for one in found]


def _window_values(window: Window, has_samples: bool) -> dict[str, Any]:
    return {
        "sample_range": list(window.size_range) if has_samples else None,
        "token_range": list(window.token_range),
        **_law_values(window.law),
    }


def _law_values(law: PowerLaw) -> dict[str, Any]:
    interval = None if law.alpha_ci95 is None else list(law.alpha_ci95)
    return {"alpha": law.alpha, "A": law.A, "r_squared": law.r_squared, "alpha_ci95": interval}


def _column(table: Table, asked: str | None, defaults: Sequence[str]) -> str:
    if asked is not None:
        return table.require(asked)
    present = [name for name in defaults if name in table.columns]
    if not present:
        raise InputError(
            f"{table.path}: no column {' or '.join(defaults)}; name one of: {', '.join(table.columns)}"
        )
    return present[0]


def _usable_rows(table: Table, note: Callable[[str], None] | None) -> list[Row]:
    kept = [row for row in table.rows if row.values.get("status") != "failed"]
    failed = len(table.rows) - len(kept)
    capped = sum(row.values.get("stop_reason") == CAP for row in kept)
    if note is not None and failed:
        note(f"{failed} of {len(table.rows)} rows are failed points and left out")
    if note is not None and capped:
        note(
            f"{capped} of {len(kept)} fitted rows stopped at their cap, not at the minimum of their dev loss"
        )
    if not kept:
        raise InputError(f"{table.path}: every row is a failed point")
    return kept


def _grouping(table: Table, by: str | None) -> list[str]:
    if by is not None:
        return [table.require(name.strip()) for name in by.split(",")]
    names = [name for name in ("arm", "config_name") if name in table.columns]
    if len(names) == 2 and len({row.text("arm") for row in table.rows}) == 1:
        return ["config_name"]
    return names


def _group(rows: Sequence[Row], columns: Sequence[str]) -> dict[str, list[Row]]:
    groups: dict[str, list[Row]] = {}
    for row in rows:
        name = " / ".join(row.text(column) for column in columns) if columns else "all"
        groups.setdefault(name, []).append(row)
    return groups


def _positive(row: Row, column: str) -> float:
    number = row.number(column)
    if number <= 0:
        raise InputError(f"{row.where}: column {column!r}: must be positive, got {number:g}")
    return number


def _whole(row: Row, column: str) -> int:
    number = row.number(column)
    if not number.is_integer():
        raise InputError(f"{row.where}: column {column!r}: must be a whole number, got {number:g}")
    return int(number)
