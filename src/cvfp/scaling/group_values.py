"""The scaling analysis of one group of a table, as JSON values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cvfp.records.errors import InputError
from cvfp.scaling.curvature import bend, curvature, local_exponents
from cvfp.scaling.difference import Difference, difference
from cvfp.scaling.draws import fit_draws
from cvfp.scaling.estimate import Estimate
from cvfp.scaling.forecast import forecast
from cvfp.scaling.form_choice import ComparedForm, compare_forms
from cvfp.scaling.forms import FORMULAS
from cvfp.scaling.group_points import GroupPoints
from cvfp.scaling.holdout import Holdout, holdout
from cvfp.scaling.points import Points
from cvfp.scaling.power_law import Number
from cvfp.scaling.robustness import flips
from cvfp.scaling.summary import law_fields
from cvfp.scaling.windows import Window, sliding_windows


def group_values(
    name: str,
    group: GroupPoints,
    window: int | None,
    known_sizes: frozenset[int],
    extrapolate: Sequence[Number],
    hide: int | None,
) -> dict[str, Any]:
    """Everything of one group that has a law; keys as `table.fit_table`.

    Raises:
        InputError: no law or no finite prediction, with the name of the group.
    """
    points = group.points
    try:
        law = fit_draws(points.tokens, points.ppl, points.draws)
        values = {
            "group": name,
            "n": law.n,
            **law_fields(law),
            "windows": [] if window is None else _windows(group, window, known_sizes),
            "extrapolation": [asdict(one) for one in forecast(law, float(points.tokens.max()), extrapolate)],
            "forms": [_form_values(one, points, extrapolate) for one in compare_forms(points)],
            "curvature": _curvature_values(points),
            "local_exponents": _exponents(group),
            "robustness": [asdict(flip) for flip in flips(points, group.half_units)],
            "holdout": None if hide is None else _holdout_values(holdout(points, hide)),
        }
    except InputError as error:
        raise InputError(f"group {name!r}: {error}") from error
    return as_json(values)


def values_without_fit(name: str, group: GroupPoints) -> dict[str, Any]:
    """The same keys for a group that has no law."""
    lists = ("windows", "extrapolation", "forms", "local_exponents", "robustness")
    empty = {key: [] for key in lists} | {"curvature": None, "holdout": None}
    return {"group": name, "n": len(group.rows), **law_fields(None), **empty}


def difference_values(names: Sequence[str], groups: Sequence[GroupPoints]) -> dict[str, Any]:
    """The second of two groups against the first; keys as `table.fit_table`. Raises as `difference`."""
    first, second = groups
    found = difference(first.points, second.points, (first.half_units, second.half_units))
    return {"first": names[0], "second": names[1]} | difference_fields(found)


def difference_fields(found: Difference) -> dict[str, Any]:
    """The numbers of a difference as JSON values, by their names in `table.fit_table`."""
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
    }
    return as_json(values)


def as_json(value: Any) -> Any:
    """Tuples as lists, all the way down."""
    if isinstance(value, dict):
        return {name: as_json(one) for name, one in value.items()}
    return [as_json(one) for one in value] if isinstance(value, list | tuple) else value


def _form_values(one: ComparedForm, points: Points, extrapolate: Sequence[Number]) -> dict[str, Any]:
    fit = one.fit
    predicted = forecast(fit.law, float(points.tokens.max()), extrapolate) if fit.extrapolates else []
    return {
        "form": fit.form,
        "formula": FORMULAS[fit.form],
        "status": fit.status,
        "verdict": one.verdict,
        "parameters": fit.parameters,
        "ci95": fit.intervals,
        "rss": fit.rss,
        "loo_rms": one.loo_rms,
        "extrapolation": [asdict(each) for each in predicted],
    }


def _curvature_values(points: Points) -> dict[str, Any]:
    found = curvature(points)
    value = None if found is None else found.value
    return {"coefficient": value, **_interval(found, "ci95"), "verdict": bend(found)}


def _exponents(group: GroupPoints) -> list[dict[str, Any]]:
    return [
        {
            "sample_range": one.size_range if group.sizes_are_samples else None,
            "token_range": one.token_range,
            "alpha": None if one.exponent is None else one.exponent.value,
            **_interval(one.exponent, "alpha_ci95"),
        }
        for one in local_exponents(group.points)
    ]


def _interval(estimate: Estimate | None, name: str) -> dict[str, Any]:
    interval = None if estimate is None else estimate.interval
    return {name: interval, "interval_kind": None if interval is None else estimate.kind}


def _holdout_values(found: Holdout | None) -> dict[str, Any] | None:
    if found is None:
        return None
    forms = [
        {**asdict(form), "predictions": [asdict(one) | {"held": one.held} for one in form.predictions]}
        for form in found.forms
    ]
    return {"known": found.known, "hidden": found.hidden, "forms": forms}


def _windows(group: GroupPoints, window: int, known_sizes: frozenset[int]) -> list[dict[str, Any]]:
    points = group.points
    found = sliding_windows(points.tokens, points.ppl, window, points.sizes, points.draws, known_sizes)
    return [_window_values(one, group.sizes_are_samples) for one in found]


def _window_values(window: Window, has_samples: bool) -> dict[str, Any]:
    return {
        "sample_range": window.size_range if has_samples else None,
        "token_range": window.token_range,
        **law_fields(window.law),
        "missing_sizes": window.missing,
    }
