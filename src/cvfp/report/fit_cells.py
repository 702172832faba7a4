"""The numbers of `fit_table` as cells of a table to print."""

from __future__ import annotations

from typing import Any

HEADER = ("group", "n", "alpha", "95% interval", "A", "R²", "forecast PPL [95% interval of one run]")

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


def _row(group: dict[str, Any]) -> tuple[str, ...]:
    predicted = "; ".join(_forecast(one) for one in group["extrapolation"])
    return (group["group"], str(group["n"]), *_law_cells(group), predicted)


def _law_cells(law: dict[str, Any]) -> tuple[str, str, str, str]:
    interval = law["alpha_ci95"]
    shown = "-" if interval is None else f"[{interval[0]:.3f}, {interval[1]:.3f}]"
    return f"{law['alpha']:.4f}", shown, f"{law['A']:.4g}", f"{law['r_squared']:.4f}"


def _forecast(one: dict[str, Any]) -> str:
    shown = f"{one['ppl']:.4g} at {one['tokens']:.4g} tokens"
    if one["low"] is None:
        return shown
    high = "inf" if one["high"] is None else f"{one['high']:.4g}"
    return f"{shown} [{one['low']:.4g}, {high}]"


def _sizes(window: dict[str, Any]) -> str:
    if window["sample_range"] is None:
        first, last = window["token_range"]
        return f"{first:.4g}..{last:.4g} tokens"
    first, last = window["sample_range"]
    return f"{first}..{last} samples"
