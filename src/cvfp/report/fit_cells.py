"""The numbers of `fit_table` as cells of a table to print."""

from __future__ import annotations

from typing import Any

from cvfp.report import numbers

HEADER = ("group", "n", "alpha", "95% interval", "A", "R²", "forecast PPL (95% interval)")

WINDOW_HEADER = ("group", "sizes", "alpha", "95% interval", "A", "R²")


def text_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of cells per group of `fit_table`'s result, in the order of `HEADER`."""
    return [_row(group) for group in result["groups"]]


def window_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of cells per window, in the order of `WINDOW_HEADER`."""
    return [
        (group["group"], _sizes(window), *_law_cells(window))
        for group in result["groups"]
        for window in group["windows"]
    ]


def footnote(result: dict[str, Any]) -> str:
    """What the intervals of the printed groups are."""
    kinds = dict.fromkeys(group["interval_kind"] for group in result["groups"])
    return " ".join(numbers.INTERVAL_KINDS[kind] for kind in kinds if kind is not None)


def _row(group: dict[str, Any]) -> tuple[str, ...]:
    predicted = "; ".join(_forecast(one) for one in group["extrapolation"])
    return (group["group"], str(group["n"]), *_law_cells(group), predicted)


def _law_cells(law: dict[str, Any]) -> tuple[str, str, str, str]:
    interval = law["alpha_ci95"]
    return (
        numbers.exponent(law["alpha"]),
        numbers.exponent_interval(None if interval is None else (interval[0], interval[1])),
        numbers.coefficient(law["A"]),
        numbers.r_squared(law["r_squared"]),
    )


def _forecast(one: dict[str, Any]) -> str:
    shown = f"{numbers.ppl(one['ppl'])} at {numbers.count(one['tokens'])} tokens"
    return shown if one["low"] is None else f"{shown} ({numbers.ppl_interval(one['low'], one['high'])})"


def _sizes(window: dict[str, Any]) -> str:
    if window["sample_range"] is None:
        return f"{numbers.count_range(window['token_range'])} tokens"
    shown = f"{numbers.count_range(window['sample_range'])} samples"
    return f"{shown}, {numbers.without(window['missing_sizes'])}" if window["missing_sizes"] else shown
