"""Which rows of a table a fit may use: finished runs that have a size and a result, each once. The others are
counted, and called what they are."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from cvfp.records.errors import InputError
from cvfp.records.results import CAP
from cvfp.records.schema import MAX_NATS
from cvfp.scaling.columns import STEP_COLUMNS, Columns, Note, key_of
from cvfp.scaling.rows import Row, Table, as_float, label_of
from cvfp.scaling.units import HIGHEST_LOSS, NATS_IN, Unit

# --- Runs that did not finish.


STATE_COLUMNS = {"status", "state", "run_status", "run_state", "job_status", "job_state"}
FINISHED = {"done", "finished", "finish", "complete", "completed", "success", "successful", "succeeded", "ok"}
UNFINISHED = {
    *(
        "failed",
        "fail",
        "failure",
        "crashed",
        "crash",
        "running",
        "killed",
        "pending",
        "preempted",
        "preempting",
    ),
    *(
        "scheduled",
        "queued",
        "interrupted",
        "aborted",
        "cancelled",
        "canceled",
        "error",
        "errored",
        "timeout",
    ),
    *(
        "oom",
        "diverged",
        "unfinished",
        "incomplete",
        "partial",
        "partially",
        "terminated",
        "starting",
        "waiting",
    ),
    *("paused", "memory", "suspended", "progress", "not", "never", "timed", "stopped", "exception", "nan"),
}
"""Words that tell what a run is, in any case; where a column has one of them, whatever is not among the
finished is left out."""
TRUE_OF_FINISHED = {"finished", "is_finished", "completed", "is_completed", "complete", "done", "success"}
TRUE_OF_OTHERS = {"failed", "is_failed", "crashed", "is_crashed", "diverged", "is_diverged"}
TRUE, FALSE = {"true", "yes", "1", "1.0"}, {"false", "no", "0", "0.0"}


def _is_finished(state: str) -> bool | None:
    """Whether the words of a state say that a run finished; None where they say neither."""
    words = set(re.findall(r"[^\W_]+", state.lower()))
    return False if words & UNFINISHED else True if words & FINISHED else None


def _unfinished(table: Table) -> dict[int, str]:
    """What the rows are that are of no finished run, by their place."""
    found: dict[int, str] = {}
    for column in table.columns:
        key = key_of(column)
        states = {place: row.text(column) for place, row in enumerate(table.rows) if row.has(column)}
        told = set(states.values())
        if key in STATE_COLUMNS and any(_is_finished(state) is not None for state in told):
            left = {state: state for state in told if not _is_finished(state)}
        elif key in TRUE_OF_FINISHED | TRUE_OF_OTHERS and {one.lower() for one in told} <= TRUE | FALSE:
            bad = FALSE if key in TRUE_OF_FINISHED else TRUE
            left = {state: f"{column} {state}" for state in told if state.lower() in bad}
        else:
            continue
        for place, state in states.items():
            if state in left:
                found.setdefault(place, left[state])
    return found


def finished_rows(table: Table, include_capped: bool, note: Note) -> Table:
    """The table without runs that diverged, did not finish, or stopped at their cap.

    Raises:
        InputError: no row is left.
    """
    unfinished = _unfinished(table)
    diverged = [table.rows[place] for place, state in unfinished.items() if _has_diverged(state)]
    done = [row for place, row in enumerate(table.rows) if place not in unfinished]
    kept = [row for row in done if include_capped or row.values.get("stop_reason") != CAP]
    counts = Counter(state for state in unfinished.values() if not _has_diverged(state))
    if counts:
        what = ", ".join(f"{count} {name}" for name, count in counts.items())
        note(f"{counts.total()} of {len(table.rows)} rows are left out, of unfinished runs: {what}")
    if diverged:
        note(f"{len(diverged)} of {len(table.rows)} rows are left out: they diverged ({_names(diverged)})")
    if len(kept) < len(done):
        note(
            f"{len(done) - len(kept)} of {len(table.rows)} rows stopped at their cap and are left out; "
            "include_capped (--include-capped) fits them too"
        )
    if not kept:
        raise InputError(
            f"{table.path}: every row is of a run that is unfinished, diverged or stopped at its cap"
        )
    return replace(table, rows=tuple(kept))


# --- Runs that diverged: they say so, or their result is infinite.


NAMED_BY = ("arm", "config_name", "config", "line", "run", "num_samples", "seed")
"""Columns that tell which run a row is of."""
MOST_NAMED = 5
GUESS = 1e6
"""Tokens that no usual vocabulary has."""


def _has_diverged(state: str) -> bool:
    return "diverged" in re.findall(r"[^\W_]+", state.lower())


def infinite_from(table: Table, y: str, unit: Unit | None) -> float:
    """The least result with an infinite perplexity: of losses that of 700 nats, where all others are such as
    models have; of perplexities infinity alone."""
    if unit not in NATS_IN:
        return math.inf
    limit, highest = (nats / NATS_IN[unit] for nats in (MAX_NATS, HIGHEST_LOSS))
    results = [as_float(row.values[y]) for row in table.rows if row.has(y)]
    others = [result for result in results if result is not None and result < limit]
    return limit if others and max(others) <= highest else math.inf


def diverged_runs(table: Table, y: str, infinite: float) -> tuple[str, ...]:
    """The rows of runs that diverged, by name; `infinite` as `infinite_from`."""
    said = _unfinished(table)
    return tuple(
        named(row)
        for place, row in enumerate(table.rows)
        if _has_diverged(said.get(place, "")) or _is_infinite(row, y, infinite)
    )


def named(row: Row) -> str:
    """Where a row stands, and which run it is of."""
    known = {key_of(column): column for column in row.values if row.has(column)}
    parts = [f"{name} {row.text(known[name])}" for name in NAMED_BY if name in known]
    return f"{row.where}: {', '.join(parts)}" if parts else row.where


def _names(rows: Sequence[Row]) -> str:
    more = [f"{len(rows) - MOST_NAMED} more"] if len(rows) > MOST_NAMED else []
    return "; ".join([*map(named, rows[:MOST_NAMED]), *more])


def _is_infinite(row: Row, y: str, infinite: float) -> bool:
    return row.has(y) and abs(as_float(row.values[y]) or 0) >= infinite


def note_worse_than_a_guess(table: Table, y: str, unit: Unit, note: Note) -> None:
    """Say which finite results are those of no model, whatever its vocabulary; how large that is nobody knows
    here, so they stay."""
    highest = GUESS if unit not in NATS_IN else math.log(GUESS) / NATS_IN[unit]
    found = [row for row in table.rows if row.number(y) > highest]
    if found:
        note(
            f"{len(found)} of {len(table.rows)} rows have a perplexity above {GUESS:g}, worse than a guess "
            f"over any usual vocabulary, and are fitted ({_names(found)}); a run that diverged is to be left "
            "out"
        )


# --- Rows without a result or a size, and rows that are there again.


def measured_rows(table: Table, x: str, y: str, infinite: float, note: Note) -> Table:
    """The table without rows that have no result, or no size; a size that another row of the same step has is
    theirs, too. NaN is no result; from `infinite` (`infinite_from`) on it is that of a run that diverged.

    Raises:
        InputError: no row is left; a size that is no positive number.
    """
    number, total = as_float, len(table.rows)
    with_y = [row for row in table.rows if row.has(y)]
    diverged = [row for row in with_y if _is_infinite(row, y, infinite)]
    finite = [row for row in with_y if not _is_infinite(row, y, infinite)]
    sizes = _sizes_by_step(table, x)
    rows = [_with_size(row, x, sizes) for row in finite]
    with_x = [row for row in rows if row.has(x)]
    kept = [row for row in with_x if number(row.values[x]) != 0]
    for row in kept:
        row.positive(x)
    for count, why in (
        (total - len(with_y), f"have no {y}"),
        (len(diverged), f"have an infinite {y}: they diverged ({_names(diverged)})"),
        (len(finite) - len(with_x), f"have no {x}"),
        (len(with_x) - len(kept), f"are of no data yet ({x} 0)"),
    ):
        if count:
            note(f"{count} of {total} rows are left out: they {why}")
    if not kept:
        both = (
            ""
            if with_y and any(row.has(x) for row in table.rows)
            else f"; no row has a {y if not with_y else x}"
        )
        raise InputError(f"{table.path}: no row has numbers in both {x!r} and {y!r}{both}")
    return replace(table, rows=tuple(kept))


def _step_of(row: Row) -> tuple[str, ...] | None:
    """The file, run and step of a row, where it has a step."""
    keys = {key_of(name): name for name in row.values}
    steps = [keys[key] for key in STEP_COLUMNS if key in keys and row.has(keys[key])]
    runs = [row.text(keys[key]) for key in ("run", "run_name", "run_id") if key in keys]
    return (row.file, *runs, label_of(row.text(steps[0]))) if steps else None


def _sizes_by_step(table: Table, x: str) -> dict[tuple[str, ...], object]:
    """The sizes that rows of a step have: trainers write them beside the training loss. A step with several
    has none."""
    found: dict[tuple[str, ...], object] = {}
    several = set()
    for row in table.rows:
        step = _step_of(row)
        if step is None or not row.has(x):
            continue
        if as_float(found.setdefault(step, row.values[x])) != as_float(row.values[x]):
            several.add(step)
    return {step: size for step, size in found.items() if step not in several}


def _with_size(row: Row, x: str, sizes: dict[tuple[str, ...], object]) -> Row:
    step = None if row.has(x) else _step_of(row)
    return row if step not in sizes else replace(row, values=row.values | {x: sizes[step]})


def rows_once(name: str, table: Table, rows: Sequence[Row], columns: Columns, note: Note) -> list[Row]:
    """The rows of a group without those that are there again: equal in every column but times, or of steps
    that a run which went back to a savepoint did once more, of which the later ones count."""
    times = {column for column in table.columns if any(word in key_of(column) for word in ("time", "date"))}
    kept: dict[tuple, Row] = {}
    for row in rows:
        key = tuple(table.label(row, column) for column in table.columns if column not in times)
        kept.setdefault(key, row)
    if len(kept) < len(rows):
        note(
            f"{name}: {len(rows) - len(kept)} of {len(rows)} rows repeat another in every column and count "
            "once"
        )
    left = _after_restarts(list(kept.values()), columns)
    if len(left) < len(kept):
        note(
            f"{name}: {len(kept) - len(left)} rows are of steps that were done again after a restart; the "
            "later ones count"
        )
    return left


def _after_restarts(rows: list[Row], columns: Columns) -> list[Row]:
    """The last row of each step, where the rows are a log that went back: several pieces of rising steps,
    of which each begins at a step that was there, but not at the first. A table in any other order is left
    as it is."""
    names = dict.fromkeys(name for row in rows for name in row.values)
    of_steps = [name for key in STEP_COLUMNS for name in names if key_of(name) == key and key != "steps"]
    if columns.seed is not None or not of_steps:
        return rows
    steps = [as_float(row.values.get(of_steps[0])) for row in rows]
    seen, pieces = set(), 0
    for before, step in zip([None, *steps], steps, strict=False):
        if step is None:
            return rows
        if before is not None and step <= before:
            pieces += 1
            if step not in seen or step == steps[0]:
                return rows
        seen.add(step)
    if not 0 < 2 * pieces < len(rows):
        return rows
    last = {step: place for place, step in enumerate(steps)}
    return [rows[place] for place in sorted(last.values())]
