"""What `cvfp fit` computes: the scaling analysis of the groups of a table file, as JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cvfp.records.errors import InputError, near
from cvfp.scaling.columns import (
    NAME_COLUMNS,
    STEP_COLUMNS,
    X_COLUMNS,
    Y_COLUMNS,
    Columns,
    Note,
    choose_grouping,
    choose_x,
    choose_y,
    grouped,
    key_of,
)
from cvfp.scaling.difference import Difference, difference
from cvfp.scaling.draws import Estimate
from cvfp.scaling.forecast import Holdout
from cvfp.scaling.forms import FORMULAS, ComparedForm
from cvfp.scaling.group_points import (
    DISTINCT,
    EPOCHS,
    SEEN,
    GroupPoints,
    independent,
    passes_of,
    read_points,
)
from cvfp.scaling.joint_table import JointGroup, read_cells
from cvfp.scaling.line import LineAnalysis
from cvfp.scaling.local_exponent import LocalExponent, Window, bend
from cvfp.scaling.outlook import REFUSALS, Extrapolated
from cvfp.scaling.power_law import Number
from cvfp.scaling.rows import GUESSED, Reading, Row, Table, label_of, read_tables
from cvfp.scaling.summary import law_fields
from cvfp.scaling.units import HIGHEST_LOSS, NATS_IN, Unit, named_unit, unit_of, words_of
from cvfp.scaling.usable import (
    STATE_COLUMNS,
    diverged_runs,
    finished_rows,
    infinite_from,
    measured_rows,
    note_worse_than_a_guess,
    rows_once,
)

# --- The scaling analysis of one group of a table, as JSON values.


@dataclass(frozen=True)
class TableOptions:
    """How a table is read, and what its analysis holds beside the laws.

    Args:
        x: column of token counts; None: the first present of tokens, train_tokens, else as other tools call
            it (`columns.choose_x`).
        y: column of results; None: the first present of val_ppl, ppl, else as other tools call it
            (`columns.choose_y`).
        by: columns to group by, comma separated, "none" for one group; None: config_name, config or line
            (with arm when there are several), else arm, else runs, where they have several sizes each, else
            one group.
        unit: of y: perplexities, or losses in nats or bits (per token or per byte); everywhere
            PPL = exp(nats). None: what the name of y says, where its values can be that (`units.unit_of`).
        tokens_per_step: x counts steps of so many tokens each.
        include_capped: whether rows whose training ended at its cap (stop_reason "cap") take part.
        window: consecutive sizes (of num_samples where the file has it, else of x) per sliding window; None:
            no windows.
        extrapolate: token counts to predict at; empty: 4 and 10 times the largest of the group.
        holdout: how many of the largest sizes to hide and predict (`forecast.holdout`); None: none.
        difference: two groups to compare, the second against the first (`difference.difference`).
        reading: how the files are read, where that is not to be guessed.
    """

    x: str | None = None
    y: str | None = None
    by: str | None = None
    unit: Unit | None = None
    tokens_per_step: float | None = None
    include_capped: bool = False
    window: int | None = None
    extrapolate: Sequence[Number] = ()
    holdout: int | None = None
    difference: tuple[str, str] | None = None
    reading: Reading = GUESSED


DEFAULTS = TableOptions()
OF_LINES = ("window", "extrapolate", "difference")
"""Options of laws of data alone."""


@dataclass(frozen=True, eq=False)
class GroupFit:
    """One group of a table: its points, and what they say; `line` is None where there is no law."""

    name: str
    points: GroupPoints
    line: LineAnalysis | None

    def values(self, asked: TableOptions, known_sizes: frozenset[int]) -> dict[str, Any]:
        """The group as JSON values, `known_sizes` being all that any row has; keys as `fit_table`.

        Raises:
            InputError: no law or no finite prediction, with the name of the group.
        """
        line, has_samples = self.line, self.points.sizes_are_samples
        known_sizes = known_sizes if has_samples else frozenset()
        if line is None:
            return values_without_fit(self.name, self.points)
        window, hide = asked.window, asked.holdout
        try:
            values = {
                "group": self.name,
                "n": line.law.n,
                "passes": self.points.passes,
                **law_fields(line.law),
                "windows": [] if window is None else _windows(line, window, known_sizes, has_samples),
                "extrapolation": [_forecast_values(one) for one in line.forecasts(asked.extrapolate)],
                "no_forecast": None if line.outlook.refused is None else REFUSALS[line.outlook.refused],
                "forms": [_form_values(one) for one in line.forms],
                "curvature": _curvature_values(line.curvature),
                "local_exponents": _exponents(line.local_exponents, has_samples),
                "robustness": [asdict(flip) for flip in line.flips],
                "holdout": None if hide is None else _holdout_values(line.holdout(hide)),
            }
        except InputError as error:
            raise InputError(f"group {self.name!r}: {error}") from error
        return as_json(values)


@dataclass(frozen=True, eq=False)
class TableFit:
    """The analysis of all groups of a table, and of the two that were to be compared, if any."""

    groups: tuple[GroupFit, ...]
    asked: TableOptions
    known_sizes: frozenset[int]
    """All that any row has, where windows are asked for."""
    columns: Columns
    diverged: tuple[str, ...]
    """The rows that are left out since their runs diverged, by name."""
    compared: tuple[GroupFit, GroupFit] | None = None
    """With all of their points, copies of other seeds' results too."""

    def values(self) -> dict[str, Any]:
        """All groups as JSON values; see `fit_table`. Raises as `GroupFit.values` and `difference`."""
        values: dict[str, Any] = {
            **what_was_read(self.columns, self.diverged),
            "groups": [group.values(self.asked, self.known_sizes) for group in self.groups],
        }
        return values if self.compared is None else values | {"difference": difference_values(*self.compared)}


def what_was_read(columns: Columns, diverged: Sequence[str]) -> dict[str, Any]:
    """Which columns were read, the unit of y, and the rows that are left out since their runs diverged."""
    left_out = {"count": len(diverged), "rows": list(diverged)}
    return {"x": columns.x, "y": columns.y, "unit": columns.unit, "diverged": left_out}


def values_without_fit(name: str, group: GroupPoints) -> dict[str, Any]:
    """The same keys for a group that has no law."""
    lists = ("windows", "extrapolation", "forms", "local_exponents", "robustness")
    empty = {key: [] for key in lists} | {"no_forecast": "no law", "curvature": None, "holdout": None}
    return {"group": name, "n": len(group.rows), "passes": group.passes, **law_fields(None), **empty}


def difference_values(first: GroupFit, second: GroupFit) -> dict[str, Any]:
    """The second of two groups against the first; keys as `fit_table`. Raises as `difference`."""
    assert first.line is not None and second.line is not None
    found = difference(first.line, second.line)
    return {"first": first.name, "second": second.name} | difference_fields(found)


def difference_fields(found: Difference) -> dict[str, Any]:
    """The numbers of a difference as JSON values, by their names in `fit_table`."""
    values = {
        "paired": found.paired,
        "n": found.n,
        "alpha_difference": found.exponent.value,
        **_interval(found.exponent, "alpha_difference_ci95"),
        "verdict": found.verdict,
        "ahead_tokens": found.ahead_tokens,
        "first_ahead": found.first_ahead,
        "crossover": asdict(found.crossover),
        "robustness": [asdict(flip) for flip in found.flips],
        "data_ratios": [asdict(one) for one in found.data],
    }
    return as_json(values)


def as_json(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {name: as_json(one) for name, one in value.items()}
    return [as_json(one) for one in value] if isinstance(value, list | tuple) else value


def _forecast_values(one: Extrapolated) -> dict[str, float | None]:
    """An upper end that no float holds is None."""
    return {name: value if math.isfinite(value) else None for name, value in asdict(one).items()}


def _form_values(one: ComparedForm) -> dict[str, Any]:
    fit = one.fit
    return {
        "form": fit.form,
        "formula": FORMULAS[fit.form],
        "status": fit.status,
        "verdict": one.verdict,
        "parameters": fit.parameters,
        "ci95": fit.intervals,
        "rss": fit.rss,
        "loo_rms": one.loo_rms,
    }


def _curvature_values(found: Estimate | None) -> dict[str, Any]:
    value = None if found is None else found.value
    return {"coefficient": value, **_interval(found, "ci95"), "verdict": bend(found)}


def _exponents(found: Sequence[LocalExponent], has_samples: bool) -> list[dict[str, Any]]:
    return [
        {
            "sample_range": one.size_range if has_samples else None,
            "token_range": one.token_range,
            "alpha": None if one.exponent is None else one.exponent.value,
            **_interval(one.exponent, "alpha_ci95"),
        }
        for one in found
    ]


def _interval(estimate: Estimate | None, name: str) -> dict[str, Any]:
    if estimate is None or estimate.interval is None:
        return {name: None, "interval_kind": None}
    return {name: estimate.interval, "interval_kind": estimate.kind}


def _holdout_values(found: Holdout | None) -> dict[str, Any] | None:
    if found is None:
        return None
    forms = [
        {**asdict(form), "predictions": [asdict(one) | {"held": one.held} for one in form.predictions]}
        for form in found.forms
    ]
    return {"known": found.known, "hidden": found.hidden, "forms": forms}


def _windows(
    line: LineAnalysis, window: int, known_sizes: frozenset[int], has_samples: bool
) -> list[dict[str, Any]]:
    return [_window_values(one, has_samples) for one in line.windows(window, known_sizes)]


def _window_values(window: Window, has_samples: bool) -> dict[str, Any]:
    return {
        "sample_range": window.size_range if has_samples else None,
        "token_range": window.token_range,
        **law_fields(window.law),
        "missing_sizes": window.missing,
    }


# --- The groups of a table, analysed and compared.


SAMPLES, SEED, DRAW = "num_samples", "seed", "draw_seed"
SEED_COLUMNS = (SEED, "random_seed")
PARAMS_COLUMNS = ("n", "model_size")
"""Names of counts of parameters, beside those with "param" in them."""
TOGETHER = 0.9
"""Rank correlation of parameters and tokens from which the parameters of a line follow its data. Assumed."""
POINT_COLUMNS = ("config_hash", SAMPLES, SEED)
"""What together names one point: a file that has all three holds each point once."""
CHOICES = {
    *("width", "layer", "layers", "dim", "hidden", "head", "heads", "depth", "embd", "vocab", "model"),
    *("arch", "architecture", "lr", "batch", "dropout", "optimizer", "tokenizer", "dataset", "corpus"),
}
"""Words in the names of columns of what is chosen of a model, its training or its data."""
STOPPED = "stop_reason"
FEW = 1000
"""Tokens, below which fractions of one are no rounding."""


def fit_table(
    paths: Path | Sequence[Path], options: TableOptions = DEFAULTS, note: Note = lambda _: None
) -> dict[str, Any]:
    """The scaling analysis of every group of a table file, or of several as one (see `rows.read_tables`).

    A column `seed` that is not grouped by tells draws apart, initialisations where rows share a `draw_seed`.
    `note` is called with a sentence on what was guessed, what is left out, and on columns that may tell lines
    apart.

    Returns:
        `{"x", "y", "unit", "diverged": {"count", "rows"}, "groups": [{"group", "n", "passes", "alpha", "A",
        "r_squared", "alpha_ci95", "interval_kind", "windows", "extrapolation", "no_forecast", "forms",
        "curvature", "local_exponents", "robustness", "holdout"}]}`, with "difference" where asked for, made
        of JSON values; None where degrees of freedom are short or there is no law. "x" and "y" are the
        columns that were read, "unit" is that of y: everything else is of PPL, exp of the loss in nats.
        "diverged" names the rows that are left out since their runs diverged. "passes" are the fewest and
        most times that a token was read, where data are repeated (column epochs, or tokens_seen).

    Raises:
        InputError: as `read_tables`; a missing column or group; a unit that is not known, or that the values
            cannot have; a point twice; a value that is not positive, or a perplexity below 1; a group of one
            size; a window or a holdout that fits no group.
    """
    return analyse_table(read_tables(_listed(paths), options.reading), options, note).values()


def _listed(paths: Path | Sequence[Path]) -> list[Path]:
    return [Path(paths)] if isinstance(paths, Path | str) else [Path(path) for path in paths]


@dataclass(frozen=True, eq=False)
class Prepared:
    """A table with what a fit reads of it: the columns, and rows that may be used (of which others are
    all)."""

    table: Table
    usable: Table
    columns: Columns
    grouping: list[str]
    own: bool
    """Whether cvfp has written it."""
    diverged: tuple[str, ...]
    """The rows of runs that diverged, by name: none of them is usable."""


def prepare(table: Table, options: TableOptions, note: Note, params: Sequence[str] = ()) -> Prepared:
    """Choose columns, read their numbers, find the unit, and leave out rows that no fit may use; what is
    guessed or left out is noted.

    Raises:
        InputError: as `fit_table`, of the table before it is fitted.
    """
    for said in table.said:
        note(said)
    table.require_once(POINT_COLUMNS)
    guessed: list[str] = []
    x = choose_x(table, options.x, options.tokens_per_step, guessed.append)
    y = choose_y(table, options.y, x, guessed.append)
    _check_pair(table, x, y)
    if options.tokens_per_step is not None and not 0 < options.tokens_per_step < math.inf:
        raise InputError(f"tokens_per_step: must be positive and finite, got {options.tokens_per_step:g}")
    counts = [x, *params, *([SAMPLES] if SAMPLES in table.columns else [])]
    likely_unit = options.unit or named_unit(y)
    table, said = table.with_numbers(
        {y: False, **dict.fromkeys(counts, True)},
        options.reading.decimal,
        {y: HIGHEST_LOSS / NATS_IN["bits"]} if likely_unit in NATS_IN else {},
    )
    for one in said:
        note(one)
    # What passes over the data are told by is read where it can be.
    for column in (EPOCHS, SEEN, DISTINCT):
        if column in table.columns and column not in (x, y, *params):
            with suppress(InputError):
                table, _said = table.with_numbers({column: column != EPOCHS}, options.reading.decimal)
    grouping = choose_grouping(table, options.by, x, guessed.append)
    finished = finished_rows(table, options.include_capped, note)
    infinite = infinite_from(finished, y, likely_unit)
    usable = measured_rows(finished, x, y, infinite, note)
    own = set(POINT_COLUMNS) <= set(table.columns)
    seeds = [name for name in table.columns if key_of(name) in SEED_COLUMNS and name not in grouping]
    unit = unit_of(usable, usable.rows, y, options.unit, own, guessed.append)
    if guessed:
        note(f"{table.path}: {'; '.join(guessed)}")
    note_worse_than_a_guess(usable, y, unit, note)
    columns = Columns(
        x=x,
        y=y,
        samples=SAMPLES if SAMPLES in table.columns else None,
        seed=seeds[0] if seeds else None,
        draw=DRAW if DRAW in table.columns else None,
        unit=unit,
        tokens_per_x=options.tokens_per_step or 1,
    )
    return Prepared(table, usable, columns, grouping, own, diverged_runs(table, y, infinite))


def _check_pair(table: Table, x: str, y: str) -> None:
    if x == y:
        raise InputError(f"{table.path}: column {x!r} is given as x and as y; give one of each")
    if key_of(x) in Y_COLUMNS or key_of(y) in X_COLUMNS:
        raise InputError(
            f"{table.path}: x is {x!r} and y {y!r}; x counts tokens, y is a perplexity: are they swapped?"
        )


def analyse_table(table: Table, options: TableOptions = DEFAULTS, note: Note = lambda _: None) -> TableFit:
    """This is `fit_table` of a table that was read, as objects: what is not looked at is not computed.

    Raises:
        InputError: as `fit_table`, of the table and its groups.
    """
    ready = prepare(table, options, note)
    table, columns, grouping = ready.table, ready.columns, ready.grouping
    sizes = _known_sizes(table, columns) if options.window is not None else frozenset()
    groups = grouped(table, table.rows, grouping)
    usable = grouped(ready.usable, ready.usable.rows, grouping)
    left = {
        name: rows_once(name, ready.usable, usable[name], columns, note) if name in usable else []
        for name in groups
    }
    every = {name: read_points(rows, columns) for name, rows in left.items()}
    _require_sizes(groups, columns.x)
    fits, fitted = [], {}
    for name, rows in left.items():
        _note_doubtful(name, every[name], note)
        pooled = options.by is None and _note_unused_names(name, rows, columns, note)
        if not pooled:
            _note_repeats(name, every[name], rows, note)
            if not ready.own:
                _note_confounded(name, rows, columns, grouping, note)
        group = _group_to_fit(name, every[name], note)
        line = None if group is None else LineAnalysis(group.points, group.half_units)
        fits.append(GroupFit(name, every[name] if group is None else group, line))
        if group is not None and line is not None:
            fitted[name] = group
            if line.law.alpha > 0:
                note(f"{name}: {columns.y} rises with {columns.x}; are the columns the right way round?")
    if not ready.own:
        _note_steps({name: left[name] for name in fitted}, columns, note)
    if not fitted:
        raise InputError(f"{table.path}: no group has a law; one needs two sizes and two perplexities")
    _check_sizes(table.path, fitted, options, note)
    compared = _compared(table.path, options.difference, every, fitted)
    return TableFit(tuple(fits), options, sizes, columns, ready.diverged, compared)


def _compared(
    path: Path,
    names: tuple[str, str] | None,
    every: Mapping[str, GroupPoints],
    fitted: Mapping[str, GroupPoints],
) -> tuple[GroupFit, GroupFit] | None:
    if names is None:
        return None
    for name in names:
        if name not in fitted:
            known = ", ".join(fitted) or "none"
            raise InputError(
                f"{path}: no fitted group {name!r}{near(name, fitted)} to compare; there are: {known}"
            )
    if names[0] == names[1]:
        raise InputError(f"{path}: group {names[0]!r} is compared with itself; give two")
    first, second = (
        GroupFit(name, every[name], LineAnalysis(every[name].points, every[name].half_units))
        for name in names
    )
    return first, second


def _require_sizes(groups: Mapping[str, Sequence[Row]], x: str) -> None:
    """Raise `InputError` where no group ever had two sizes: there is nothing to fit."""
    if all(len({row.size(x) for row in rows}) == 1 for rows in groups.values()):
        name, rows = next(iter(groups.items()))
        raise InputError(
            f"group {name!r}: column {x!r} is {rows[0].values.get(x)} in every row; a power law needs at "
            "least two sizes"
        )


def _group_to_fit(name: str, group: GroupPoints, note: Note) -> GroupPoints | None:
    """The independent points of a group; None, and a note why, where they have no law."""
    left = independent(name, group, note)
    reason = _reason_for_no_fit(left)
    if reason is None:
        return left
    note(f"{name}: no fit, since {reason}")
    return None


def _reason_for_no_fit(group: GroupPoints) -> str | None:
    if len(np.unique(group.points.tokens)) < 2:
        return "fewer than two sizes are left"
    if len(np.unique(group.points.ppl)) > 1:
        return None
    return f"column {group.columns.y!r} is {group.rows[0].number(group.columns.y):g} in every row"


def _note_unused_names(
    name: str, rows: Sequence[Row], columns: Columns, note: Note, params: Sequence[str] = ()
) -> bool:
    """Say so when another column of the rows of a group seems to tell lines apart, and whether one does.

    Its values share sizes (of data, and of models where `params` count their parameters), and each has
    several; or without `params` it counts parameters itself, which do not just grow with the data.
    """
    tokens = [row.number(columns.x) for row in rows]
    sizes = [(size, *(row.text(column) for column in params)) for row, size in zip(rows, tokens, strict=True)]
    read = {columns.x, columns.y, columns.samples, columns.seed, columns.draw, STOPPED, *params}
    names = []
    for column in dict.fromkeys(column for row in rows for column in row.values):
        if column in read or key_of(column) in STATE_COLUMNS:
            continue
        of_value: dict[str, set[tuple]] = {}
        for row, size in zip(rows, sizes, strict=True):
            of_value.setdefault(row.text(column), set()).add(size)
        counts = [len(each) for each in of_value.values()]
        shared = min(counts) > 1 and sum(counts) > len(set(sizes))
        if shared or (not params and _counts_params_freely(rows, column, tokens)):
            names.append(column)
    if names:
        both = ", or --params for one law of parameters and data"
        suffix = both if not params and any(map(_counts_params, names)) else ""
        note(f"{name}: fitted as one line; where {', '.join(names)} tells lines apart, use --by{suffix}")
    return bool(names)


def _note_repeats(name: str, group: GroupPoints, rows: Sequence[Row], note: Note) -> None:
    """Say so when rows of one size are taken together, since nothing tells them apart."""
    seed, size = group.columns.seed, group.columns.samples if group.sizes_are_samples else group.columns.x
    assert size is not None
    if seed is None or all(row.text(seed) == "-" for row in rows):
        why = f"no column {SEED!r}" if seed is None else f"column {seed!r} is empty"
        fewer = len(rows) - len({row.number(size) for row in rows})
        if fewer:
            note(f"{name}: rows of one {size} count once, with their mean ({fewer} fewer): {why}")
        return
    seen: dict[tuple, Row] = {}
    for row in rows:
        seen.setdefault((row.number(size), label_of(row.text(seed))), row)
    again = [row for row in rows if seen[row.number(size), label_of(row.text(seed))] is not row]
    if again:
        first = seen[again[0].number(size), label_of(again[0].text(seed))]
        note(
            f"{name}: rows of one {size} and {seed} count once, with their mean ({len(again)} fewer; "
            f"{again[0].where} has those of {first.where}); where they are of several curves, name in --by "
            "what tells them apart"
        )


def _note_doubtful(name: str, group: GroupPoints, note: Note) -> None:
    """Say so when columns do not look like counts of tokens and perplexities, or the sizes are very many."""
    columns, y = group.columns, group.columns.y
    if not group.rows:
        return
    if columns.unit == "ppl" and group.points.ppl.min() < 1:
        note(f"{name}: column {y!r} is below 1 somewhere, as no perplexity is; of losses say --unit nats")
    fractions = [row for row in group.rows if 1 <= row.number(columns.x) < FEW and row.number(columns.x) % 1]
    if fractions:
        first = fractions[0].number(columns.x)
        note(f"{name}: column {columns.x!r} has fractions of a token ({first:g}, {fractions[0].where})")
    if group.points.tokens.min() < 1:
        note(f"{name}: column {columns.x!r} is below 1 somewhere; give numbers of tokens, not of millions")
    sizes = len(group.points.distinct_sizes)
    if sizes < group.num_sizes and not group.sizes_are_samples:
        note(
            f"{name}: {group.num_sizes} sizes are taken in {sizes} groups of neighbours, each with its means"
        )


def _note_confounded(
    name: str, rows: Sequence[Row], columns: Columns, grouping: Sequence[str], note: Note
) -> None:
    """Say so when something of the model or its training is another at each size: the law is of both."""
    read = {columns.x, columns.y, columns.samples, columns.seed, columns.draw, *grouping}
    sizes = {row.number(columns.x) for row in rows}
    names = []
    for column in dict.fromkeys(column for row in rows for column in row.values):
        if column in read or not (_counts_params(column) or CHOICES & set(words_of(column))):
            continue
        at: dict[float, set[str]] = {}
        for row in rows:
            at.setdefault(row.number(columns.x), set()).add(label_of(row.text(column)))
        if len(set().union(*at.values())) > 1 and all(len(each) == 1 for each in at.values()):
            names.append(column)
    if names and len(sizes) > 1:
        note(
            f"{name}: with {columns.x} {'changes' if len(names) == 1 else 'change'} {', '.join(names)}, too: "
            "the law is of both together, not of data alone"
        )


def _note_steps(groups: Mapping[str, Sequence[Row]], columns: Columns, note: Note) -> None:
    """Say so when the sizes of groups are those that one training came by."""
    found = []
    for name, rows in groups.items():
        names = dict.fromkeys(column for row in rows for column in row.values)
        steps = [column for column in names if key_of(column) in STEP_COLUMNS and key_of(column) != "steps"]
        if any(len({row.size(column) for row in rows}) > 2 for column in steps):
            found.append(name)
    if found and columns.seed is None:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        note(
            f"{found[0]}{more}: sizes are steps of one training, which share its errors and its rate; a law "
            "of data takes a run for each size"
        )


def _counts_params(column: str) -> bool:
    """Whether a column's name says that it counts parameters."""
    return "param" in column.lower() or column.lower().replace(" ", "_") in PARAMS_COLUMNS


def _counts_params_freely(rows: Sequence[Row], column: str, tokens: Sequence[float]) -> bool:
    """Whether it counts parameters that do not just grow with the data, as those of an n-gram do."""
    if not _counts_params(column):
        return False
    try:
        counts = [row.positive(column) for row in rows]
    except InputError:
        return False
    ranks = (np.unique(values, return_inverse=True)[1] for values in (counts, tokens))
    of_counts, of_tokens = (one - one.mean() for one in ranks)
    spread = np.sqrt(np.sum(of_counts**2) * np.sum(of_tokens**2))
    return bool(spread > 0 and of_counts @ of_tokens < TOGETHER * spread)


def _check_sizes(path: Path, fitted: Mapping[str, GroupPoints], options: TableOptions, note: Note) -> None:
    """Say which fitted groups have too few sizes for what was asked. Raises `InputError` when all have."""
    asked = []
    if options.window is not None:
        asked.append((f"window of {options.window} sizes", options.window))
    if options.holdout is not None:
        asked.append((f"holdout of {options.holdout} beside two known sizes", options.holdout + 2))
    num_sizes = {name: len(group.points.distinct_sizes) for name, group in fitted.items()}
    for what, least in asked:
        short = {name: number for name, number in num_sizes.items() if number < least}
        if short and len(short) == len(num_sizes):
            most = max(short.values())
            raise InputError(f"{path}: no group has sizes for a {what}: {least} are needed, got {most}")
        for name, number in short.items():
            note(f"{name}: no {what}, since it has {number}")


def _known_sizes(table: Table, columns: Columns) -> frozenset[int]:
    """Every size that any row of the file has; empty in a file without numbers of samples."""
    if columns.samples is None:
        return frozenset()
    return frozenset(row.whole(columns.samples) for row in table.rows if row.text(columns.samples) != "-")


# --- Parameters and data together: one joint law per group.


def fit_joint_table(
    paths: Path | Sequence[Path],
    params: Sequence[str],
    options: TableOptions = DEFAULTS,
    budget: Number | None = None,
    note: Note = lambda _: None,
) -> dict[str, Any]:
    """L(N, D) = E + A / N^a + B / D^b of every group of a table file, or of several as one (`joint_law`).

    Args:
        paths: the file, or files; see `rows.read_tables`.
        params: columns of parameter counts N: one law by each, as with and without embeddings.
        options: as `fit_table`; but lines of an arm that have a number of parameters each are one group where
            `by` is None, and `holdout` hides the largest model size too.
        budget: FLOPs, 6 * N * D, to divide between N and D.
        note: as `fit_table`.

    Returns:
        `{"x", "y", "unit", "diverged", "groups": [{"group", "passes", "laws": [{"params", "n",
        "num_model_sizes", "num_data_sizes", "status", "reason", "parameters", "ci95", "scale", "optimum",
        "holdouts"}], "differing"}]}`, of JSON values. "diverged" and "passes" as `fit_table`. "parameters"
        are E, A, B, a, b and share, b / (a + b). "optimum" has flops, params, tokens, loss, params_ci95,
        tokens_ci95, beyond. One of "holdouts" has hidden ("tokens" or "params"), sizes, n, status, reason,
        rms, bias, held. "differing" names, by further column, what its law says differently from that of the
        first (`joint_law.differing`).

    Raises:
        InputError: as `fit_table`; a column given twice; an option of laws of data alone (`OF_LINES`); a
            budget that is not positive; no group that has counts of parameters.
    """
    for name in OF_LINES:
        if getattr(options, name) != getattr(DEFAULTS, name):
            raise InputError(f"{name}: is for laws of data alone; leave it out, or leave out params")
    table = read_tables(_listed(paths), options.reading)
    for name in params:
        table.require(name)
    ready = prepare(table, options, note, params)
    columns, grouping = ready.columns, ready.grouping
    given = [columns.x, columns.y, *params]
    for name in params:
        if given.count(name) > 1:
            raise InputError(
                f"{table.path}: column {name!r} is given twice among x, y and params; give one of each"
            )
    kept = ready.usable
    groups = []
    for name, every in _joint_groups(kept, grouping, params[0], options.by is None, note).items():
        rows = rows_once(name, kept, every, columns, note)
        empty = [column for column in params if all(row.text(column) == "-" for row in rows)]
        if empty:
            note(f"{name}: no law of parameters, since it has no {', '.join(empty)}")
        else:
            cells = {column: read_cells(rows, column, columns) for column in params}
            _note_doubtful(name, read_points(rows, columns), note)
            groups.append(JointGroup(name, cells, passes_of(rows, columns)))
            if options.by is None:
                _note_unused_names(name, rows, columns, note, params)
    if not groups:
        raise InputError(f"{table.path}: no group has numbers in the columns {', '.join(params)}")
    values = [group.values(budget, options.holdout) for group in groups]
    for group in values:
        hidden = {one["hidden"] for law in group["laws"] for one in law["holdouts"]}
        if options.holdout is not None and "tokens" not in hidden:
            note(f"{group['group']}: no holdout of {options.holdout} data sizes, too few are left for a law")
    return as_json({**what_was_read(columns, ready.diverged), "groups": values})


def _joint_groups(
    table: Table, grouping: Sequence[str], params: str, merge: bool, note: Note
) -> dict[str, list[Row]]:
    """The rows by group. With `merge`, groups that differ in the name of their line alone are one where each
    has its own number of parameters: the name tells model sizes apart, as that of a width does.
    """
    left = [column for column in grouping if column not in NAME_COLUMNS]
    found: dict[str, list[Row]] = {}
    for name, together in grouped(table, table.rows, left).items():
        lines = grouped(table, together, grouping)
        sizes = [{row.text(params) for row in line} for line in lines.values()]
        if merge and len(lines) > 1 and all(len(each) == 1 for each in sizes):
            found[name] = together
            note(f"{name}: one law over {', '.join(lines)}; where they differ in more than size, use --by")
        else:
            found |= lines
    return found
