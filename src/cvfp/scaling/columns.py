"""Which columns of a table a fit reads: token counts, results, what tells curves apart. What is chosen is
said."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cvfp.records.errors import InputError
from cvfp.scaling.rows import FILE, Row, Table
from cvfp.scaling.units import Unit, named_unit, words_of

Note = Callable[[str], None]


@dataclass(frozen=True)
class Columns:
    """The columns a fit reads; `samples`, `seed` and `draw` are None in a file without them.

    `draw` holds the seed that the documents of a row were drawn with, where that is not its `seed`. `unit`
    is that of y. A unit of x is `tokens_per_x` tokens: more than one where x counts steps.
    """

    x: str
    y: str
    samples: str | None
    seed: str | None
    draw: str | None = None
    unit: Unit = "ppl"
    tokens_per_x: float = 1


# --- Tokens and results.


X_COLUMNS = ("tokens", "train_tokens")
Y_COLUMNS = ("val_ppl", "ppl")
"""What the tables of cvfp have; the first present is taken, spelled in any way, then those of other tools."""
OTHER_X_COLUMNS = {
    *("total_tokens", "n_tokens", "num_tokens", "token_count", "training_tokens", "tokens_seen"),
    *("num_input_tokens_seen", "num_tokens_seen", "train_tokens_seen", "tokens_processed", "consumed_tokens"),
    *("consumed_train_tokens", "tokens_trained", "train_num_tokens", "seen_tokens"),
}
STEP_COLUMNS = ("global_step", "trainer_global_step", "step", "_step", "steps", "current_steps")
STEP_COLUMNS = (*STEP_COLUMNS, "iter", "iteration", "iterations", "iter_num")
TASK = "task"
VALUE = "value"
"""What TensorBoard calls any metric."""
HELD_OUT = {"val", "valid", "validation", "eval", "evaluation", "test", "dev", "heldout", "holdout"}
TRAINING = {"train", "training", "trn"}
OTHER_WORDS = {"stderr", "std", "min", "max", "best", "lr", "scale", "weight", "aux", "grad", "time", "ratio"}
"""Words in the names of columns that are about a loss, and no loss."""
PREFIXES = re.compile(
    r"(?:(?:data|metrics?|params?|config|summary(?:_metrics)?|attributes|info|tags|trainer)[./])+"
)


def key_of(column: str) -> str:
    """A column's name in small letters with "_" between its words, without what nested records put before
    it."""
    name = column.lower()
    bare = PREFIXES.sub("", name, count=1) if PREFIXES.match(name) else name
    lead = "_" if bare.startswith("_") else ""
    return lead + "_".join(re.findall(r"[^\W_]+", bare)) or name


def choose_x(table: Table, asked: str | None, tokens_per_step: float | None, note: Note) -> str:
    """The column that counts tokens, or steps where it is said how many tokens each has.

    Raises:
        InputError: there is none; names what to say.
    """
    if asked is not None:
        return table.require(asked)
    steps = _of_keys(table, STEP_COLUMNS)
    if tokens_per_step is not None:
        if not steps:
            raise InputError(
                f"{table.path}: no column of steps; name one of: {', '.join(table.columns)} (--x)"
            )
        return _first(steps, table, "steps", note, "--x")
    for keys in (X_COLUMNS, sorted(OTHER_X_COLUMNS)):
        found = _of_keys(table, keys)
        if found:
            return _first(found, table, "tokens", note, "--x", quiet=found[0] in X_COLUMNS)
    hint = f"; of column {steps[0]!r} say --tokens-per-step N" if steps else ""
    tasks = [row.text(TASK) for row in table.rows if TASK in row.values]
    if not steps and tasks and len(set(tasks)) == len(tasks):
        hint = "; results of one model are one size: several files make a curve"
    known = f"name one of: {', '.join(table.columns)} (--x)"
    raise InputError(f"{table.path}: no column {' or '.join(X_COLUMNS)}; {known}{hint}")


def choose_y(table: Table, asked: str | None, x: str, note: Note) -> str:
    """The column of results: a perplexity on held-out text, another perplexity, a loss on held-out text,
    another.

    Raises:
        InputError: there is none; names what there is.
    """
    if asked is not None:
        return table.require(asked)
    named = [name for name in table.columns if name != x and _is_measure(name)]
    measures = [name for name in named if any(row.has(name) for row in table.rows)] or named
    found = [name for key in Y_COLUMNS for name in measures if key_of(name) == key]
    if found:
        alike = [name for name in found if key_of(name) == key_of(found[0])]
        return _first(alike, table, "results", note, "--y", quiet=True)
    ranked = sorted(measures, key=_rank)
    if ranked:
        best = [name for name in ranked if _rank(name) == _rank(ranked[0])]
        return _first(best, table, "results", note, "--y")
    values = [name for name in table.columns if key_of(name) == VALUE and name != x]
    if values:
        return values[0]
    raise InputError(
        f"{table.path}: no column {' or '.join(Y_COLUMNS)}; name one of: {', '.join(table.columns)} (--y)"
    )


def _is_measure(column: str) -> bool:
    return named_unit(column) is not None and not set(words_of(column)) & (TRAINING | OTHER_WORDS)


def _rank(column: str) -> tuple[bool, bool]:
    """Perplexities first, then what was held out."""
    return named_unit(column) != "ppl", not set(words_of(column)) & HELD_OUT


def _of_keys(table: Table, keys: Sequence[str]) -> list[str]:
    return [name for key in keys for name in table.columns if key_of(name) == key]


def _first(
    found: Sequence[str], table: Table, what: str, note: Note, option: str, quiet: bool = False
) -> str:
    """The first of several columns that could be meant; said where it is not as the tables of cvfp have it,
    or another has other values."""
    first = found[0]
    others = [name for name in found[1:] if any(row.size(name) != row.size(first) for row in table.rows)]
    if others:
        note(f"{what} are column {first!r}, not {' or '.join(map(repr, others))} ({option})")
    elif not quiet:
        note(f"{what} are column {first!r} ({option})")
    return first


# --- What tells curves apart.


NAME_COLUMNS = ("config_name", "config", "line")
"""The first present names the lines of an arm."""
RUN_COLUMNS = (TASK, "model", "run", "run_name", "mlflow_runname", "name", FILE)
"""What tells curves apart in the tables of other tools, where it does."""
ONE_LINE = "none"
"""In place of columns: all rows are one line."""


def choose_grouping(table: Table, by: str | None, x: str, note: Note) -> list[str]:
    """The columns whose values tell curves apart.

    Raises:
        InputError: no column of such a name.
    """
    if by is not None:
        if by == ONE_LINE and by not in table.columns:
            return []
        return [table.require(name.strip()) for name in by.split(",")]
    names = [name for name in NAME_COLUMNS if name in table.columns][:1]
    if "arm" in table.columns and (not names or len({row.text("arm") for row in table.rows}) > 1):
        return ["arm", *names]
    return names or _runs(table, x, note)


def _runs(table: Table, x: str, note: Note) -> list[str]:
    """Those of `RUN_COLUMNS` that leave lines of several sizes, each of which tells apart what those before
    do not."""
    found: list[str] = []
    rows = [row for row in table.rows if row.has(x)]
    for column in [name for name in _of_keys(table, RUN_COLUMNS) if name != x]:
        sizes: dict[tuple[str, ...], set[float | str]] = {}
        for row in rows:
            sizes.setdefault(tuple(table.label(row, name) for name in (*found, column)), set()).add(
                row.size(x)
            )
        before = {tuple(table.label(row, name) for name in found) for row in rows}
        if len(sizes) > len(before) and all(len(each) > 1 for each in sizes.values()):
            found.append(column)
    if found:
        note(f"a line for each {' and '.join(found)} (--by COLUMN, or --by {ONE_LINE} for one line)")
    return found


BETWEEN = " / "
"""Between the parts of the name of a group."""


def grouped(table: Table, rows: Sequence[Row], columns: Sequence[str]) -> dict[str, list[Row]]:
    """The rows by the name of their group; a part of a name that has the sign between parts is quoted."""
    groups: dict[str, list[Row]] = {}
    for row in rows:
        parts = [table.label(row, column) for column in columns]
        shown = [repr(part) if BETWEEN in part and len(parts) > 1 else part for part in parts]
        groups.setdefault(BETWEEN.join(shown) if columns else "all", []).append(row)
    return groups
