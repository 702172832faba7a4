"""The tables of a report that are made of lines and points. Each function: records in, Markdown out."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.records.results import PointRecord, RunRecord, WindowRecord
from cvfp.report import numbers
from cvfp.report.lines import Line, capped, phase1_iterations, several_seeds
from cvfp.report.markdown import plain, table

INTERVAL_OVER = {"line": "sizes", "draws": "draws", None: numbers.ABSENT}


def summary_table(lines: Sequence[Line]) -> str:
    """One row per line: its shape, its power law, its best point."""
    header = (
        "arm",
        "config",
        "context_dim",
        "context-block params",
        "α",
        "95% interval of α",
        "interval over",
        "A",
        "R²",
        "points in fit",
        "best val PPL",
        "val accuracy",
        "ER",
        "P1 iterations",
    )
    return table(header, [_summary_row(line) for line in lines], left=2)


def forecast_table(lines: Sequence[Line]) -> str:
    """One row per line and predicted size."""
    header = (
        "line",
        "training tokens",
        "times the largest fitted",
        "predicted PPL",
        "95% prediction interval",
    )
    return table(header, [row for line in lines for row in _forecast_rows(line)])


def window_table(lines: Sequence[Line]) -> str:
    """One row per window of every line that has windows."""
    header = ("line", "documents", "training tokens", "α", "95% interval of α", "A", "R²")
    return table(header, [row for line in lines for row in _window_rows(line)])


def trend_table(lines: Sequence[Line]) -> str:
    """Change of the exponent from the first to the last window, a row per line that has windows."""
    header = ("line", "first α", "last α", "change", "95% interval", "excludes 0", "percent", "trend")
    return table(header, [_trend_row(line) for line in lines if line.progression is not None])


def details_table(line: Line) -> str:
    """One row per point, in order of size."""
    seeds = several_seeds(line.points)
    header = [
        "documents",
        *(["seed"] if seeds else []),
        "tokens",
        "steps",
        "stopped by",
        "train PPL",
        "dev PPL",
        "val PPL",
        "val accuracy",
        "train ER",
        "val ER",
        "bits per byte",
        "P1 iterations",
        "seconds",
    ]
    pairs = sorted(
        zip(line.points, line.runs, strict=True), key=lambda pair: (pair[0].num_samples, pair[0].seed)
    )
    return table(header, [_details_row(point, run, seeds) for point, run in pairs])


def _summary_row(line: Line) -> list[str]:
    row = line.summary
    return [
        plain(line.arm),
        plain(line.config_name),
        numbers.count(row.context_dim),
        numbers.count(row.context_block_params),
        numbers.exponent(row.alpha),
        numbers.exponent_interval(row.alpha_ci95),
        INTERVAL_OVER[row.interval_kind],
        numbers.coefficient(row.A),
        numbers.r_squared(row.r_squared),
        f"{row.fitted_points} of {len(line.points)}",
        numbers.ppl(row.best_ppl),
        numbers.share(row.best_acc),
        numbers.share(row.best_val_er),
        _best_iterations(line),
    ]


def _best_iterations(line: Line) -> str:
    """Phase-1 iterations of the point with the lowest perplexity."""
    for point, run in zip(line.points, line.runs, strict=True):
        if point.val_ppl is not None and point.val_ppl == line.summary.best_ppl:
            return phase1_iterations(point, run)
    return numbers.ABSENT


def _forecast_rows(line: Line) -> list[list[str]]:
    if not line.fitted:
        return []
    largest = max(point.train_tokens for point in line.fitted)
    return [
        [
            plain(line.label),
            numbers.count(one.tokens),
            f"{one.tokens / largest:.3g}",
            numbers.ppl(one.ppl),
            numbers.ppl_interval(one.low, one.high),
        ]
        for one in line.forecasts
    ]


def _window_rows(line: Line) -> list[list[str]]:
    if line.progression is None:
        return []
    return [
        [
            plain(line.label),
            _window_sizes(window),
            numbers.count_range(window.token_range),
            numbers.exponent(window.alpha),
            numbers.exponent_interval(window.alpha_ci95),
            numbers.coefficient(window.A),
            numbers.r_squared(window.r_squared),
        ]
        for window in line.progression.windows
    ]


def _window_sizes(window: WindowRecord) -> str:
    shown = numbers.count_range(window.sample_range)
    return f"{shown}, {numbers.without(window.missing_sizes)}" if window.missing_sizes else shown


def _trend_row(line: Line) -> list[str]:
    found = line.progression
    interval = found.alpha_change_ci95
    return [
        plain(line.label),
        numbers.exponent(found.windows[0].alpha),
        numbers.exponent(found.windows[-1].alpha),
        numbers.signed_exponent(found.alpha_change),
        numbers.ABSENT if interval is None else numbers.signed_exponent_interval(interval),
        numbers.ABSENT if interval is None else _yes_or_no(not interval[0] <= 0 <= interval[1]),
        numbers.signed_percent(found.alpha_change_percent),
        found.trend,
    ]


def _yes_or_no(value: bool) -> str:
    return "yes" if value else "no"


def _details_row(point: PointRecord, run: RunRecord | None, seeds: bool) -> list[str]:
    if point.status == "failed":
        stopped = "failed"
    else:
        stopped = plain(point.stop_reason or numbers.ABSENT).replace("_", " ") + (
            "‡" if capped(point) else ""
        )
    return [
        numbers.count(point.num_samples),
        *([str(point.seed)] if seeds else []),
        numbers.count(point.train_tokens),
        numbers.count(point.steps),
        stopped,
        numbers.ppl(point.train_ppl),
        numbers.ppl(point.dev_ppl),
        numbers.ppl(point.val_ppl),
        numbers.share(point.val_acc),
        numbers.share(point.train_er),
        numbers.share(point.val_er),
        numbers.bits(point.bits_per_byte),
        phase1_iterations(point, run),
        numbers.seconds(point.wall_seconds),
    ]
