"""In which unit a column of results is: perplexities, or losses in nats or bits, per token or per byte.

A loss that is fitted as a perplexity gives another exponent without a word. So the unit is what was said,
or what the name of the column says where its values can be that; else it is asked for.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from typing import Literal, get_args

from cvfp.records.errors import InputError
from cvfp.scaling.rows import Row, Table

Unit = Literal["nats", "bits", "ppl"]
UNITS: tuple[Unit, ...] = get_args(Unit)
NATS_IN: dict[Unit, float] = {"nats": 1.0, "bits": math.log(2)}
"""Of the units of a loss."""
CALLED: dict[Unit, str] = {"nats": "losses in nats", "bits": "losses in bits", "ppl": "perplexities"}

HIGHEST_LOSS = 20.0
"""Nats per token that no loss has: an untrained model has the logarithm of its vocabulary, 12.5 of
270,000."""
LOSS_OF_NO_MODEL = 12.5
"""Nats per token above which not all losses of a curve are."""
LOWEST_PPL = 20.0
"""From which all values of a column without a telling name are perplexities."""
EQUAL = 0.01
"""Relative difference of a perplexity and exp of the loss beside it, which are rounded."""

PPL_WORDS, LOGARITHM_WORDS = {"perplexity", "perplexities", "perplex"}, {"log", "ln", "log2", "log10"}
BITS_WORDS = {"bits", "bit", "bpb", "bpc", "bpt", "bpw", "bpd"}
NATS_WORDS = {"nats", "nat"}
LOSS_WORDS = {
    "nll",
    "ce",
    "xent",
    "xe",
    "crossentropy",
    "entropy",
    "logloss",
    "likelihood",
    "logprob",
    "logprobs",
}
OTHER_LOGARITHMS = {"log2", "log10"}


def words_of(name: str) -> list[str]:
    """The words of a column's name, in small letters: `valLoss`, `val/loss` and `val_loss` have the same."""
    apart = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name)
    return re.findall(r"[^\W_]+", apart.lower())


def named_unit(column: str) -> Unit | None:
    """The unit that a column's name says; None where it says none, or several."""
    words = set(words_of(column))
    of_ppl = bool(words & PPL_WORDS) or any(word.endswith("ppl") for word in words)
    of_bits, of_nats = bool(words & BITS_WORDS), bool(words & NATS_WORDS)
    of_loss = bool(words & LOSS_WORDS) or any(word.endswith("loss") for word in words)
    if words & OTHER_LOGARITHMS or (of_ppl and (of_bits or of_nats or of_loss or words & LOGARITHM_WORDS)):
        return None
    if of_ppl:
        return "ppl"
    if of_bits and of_nats:
        return None
    return "bits" if of_bits else "nats" if of_nats or of_loss else None


def unit_of(
    table: Table,
    rows: Sequence[Row],
    column: str,
    asked: Unit | None,
    trusted: bool,
    note: Callable[[str], None],
) -> Unit:
    """The unit of the values that `rows` have in a column.

    Args:
        table: where they are from.
        rows: all have a number there.
        column: its name.
        asked: the unit that was said, which is held against the values alone; None: what the name says is
            held against them and said.
        trusted: whether a perplexity is one by its name, whatever its values: the tables of cvfp.
        note: called with what is inferred, or with a doubt.

    Raises:
        InputError: the unit is not known, or the values cannot be in it; names the option to use.
    """
    if asked is not None and asked not in UNITS:
        raise InputError(f"unit: one of {', '.join(UNITS)} is needed, got {asked!r}")
    values = [row.number(column) for row in rows]
    low, high = min(values), max(values)
    span = f"{low:.5g} to {high:.5g}" if low < high else f"{low:.5g}"
    named = named_unit(column)
    choice = " or ".join(f"--unit {unit}" for unit in UNITS)
    beside = _beside(rows, column, table) if asked is None else None
    unit = asked or beside or named
    if unit is None:
        if low < LOWEST_PPL or re.search("log|loss", column, re.IGNORECASE):
            raise InputError(
                f"{table.path}: is {column!r} ({span}) a perplexity, or a loss in nats or bits? Say {choice}"
            )
        note(f"{column!r} ({span}) holds perplexities (--unit)")
        return "ppl"
    if unit != "ppl":
        of_one = NATS_IN[unit]
        if high * of_one > HIGHEST_LOSS or low * of_one > LOSS_OF_NO_MODEL:
            row = rows[values.index(high)]
            raise InputError(
                f"{row.where}: column {column!r}: {high:g} {unit} is no loss per token or byte; is it a "
                f"perplexity? Say --unit ppl{'' if asked else ', or name another column with --y'}"
            )
    elif asked is None and low >= 1 and high < LOSS_OF_NO_MODEL and not trusted and beside is None:
        raise InputError(
            f"{table.path}: column {column!r} is called a perplexity, but its values ({span}) look like "
            f"losses; say {choice}"
        )
    if asked is None and unit != "ppl":
        note(f"{column!r} holds {CALLED[unit]} (--unit)")
    elif named is not None and named != unit:
        note(f"{column!r} holds {CALLED[unit]} (--unit), though its name says {CALLED[named]}")
    return unit


def _beside(rows: Sequence[Row], column: str, table: Table) -> Unit | None:
    """The unit that follows from another column with the same results in another: exp of a loss is its
    perplexity."""
    units: dict[Unit, Callable[[float], float]] = {
        "nats": math.exp,
        "bits": lambda loss: 2.0**loss,
        "ppl": lambda ppl: ppl,
    }
    for other in table.columns:
        known = named_unit(other)
        if other == column or known is None:
            continue
        try:
            pairs = [(row.number(column), row.number(other)) for row in rows if row.has(other)]
            if len(pairs) < 2:
                continue
            for unit, ppl_of in units.items():
                if unit != known and all(
                    math.isclose(ppl_of(mine), units[known](its), rel_tol=EQUAL) for mine, its in pairs
                ):
                    return unit
        except (InputError, OverflowError):
            continue
    return None
