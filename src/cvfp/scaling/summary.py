"""From the points of a sweep to one summary, one progression and forecasts per line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvfp.records.plan import Analysis
from cvfp.records.results import CAP, PointRecord, ProgressionRecord, SummaryRecord, WindowRecord
from cvfp.scaling.forecast import Forecast, forecast
from cvfp.scaling.power_law import PowerLaw, fit_power_law
from cvfp.scaling.windows import Window, progression, sliding_windows

LINE_FIELDS = ("num_layers", "context_dim", "num_input_tokens", "context_block_params")
"""What all points of a line have in common, apart from its names."""


def lines(points: Sequence[PointRecord]) -> list[list[PointRecord]]:
    """The points by line, that is by (arm, config_hash), in order of first appearance."""
    grouped: dict[tuple[str, str], list[PointRecord]] = {}
    for point in points:
        grouped.setdefault((point.arm, point.config_hash), []).append(point)
    return list(grouped.values())


def summarise(points: Sequence[PointRecord], analysis: Analysis) -> list[SummaryRecord]:
    """One summary per line: its power law, its best point, and why points are not in the fit.

    Failed points, points without a perplexity and (unless `analysis.include_capped`) points whose training
    ended at its cap are left out of the fit. With fewer than two sizes left there is no fit, and its
    numbers are None. `best_*` come from the done point with the lowest `val_ppl`, capped or not.
    """
    return [_summary(line, analysis) for line in lines(points)]


def progressions(points: Sequence[PointRecord], analysis: Analysis) -> list[ProgressionRecord]:
    """How the exponent changes over the sliding windows of each line.

    Empty when `analysis.window_size` is None; a line with fewer than two windows has no change and is left
    out.
    """
    if analysis.window_size is None:
        return []
    found = [_progression(line, analysis, analysis.window_size) for line in lines(points)]
    return [record for record in found if record is not None]


def forecasts(line: Sequence[PointRecord], analysis: Analysis) -> list[Forecast]:
    """Predicted perplexity of one line, with 95% prediction intervals, at `analysis.extrapolate`.

    When that is empty: at 4 and 10 times the largest size in the fit. No fit, no forecasts.
    """
    fitted, _ = fitted_points(line, analysis)
    law = _law(fitted)
    if law is None:
        return []
    return forecast(law, max(_tokens(fitted)), analysis.extrapolate)


def fitted_points(
    line: Sequence[PointRecord], analysis: Analysis
) -> tuple[list[PointRecord], tuple[str, ...]]:
    """The points that a fit of the line uses, and one sentence per point that it does not."""
    reasons = [_reason_to_exclude(point, analysis) for point in line]
    kept = [point for point, reason in zip(line, reasons, strict=True) if reason is None]
    alone = min(len({point.num_samples for point in kept}), len(set(_tokens(kept)))) < 2
    excluded = []
    for point, reason in zip(line, reasons, strict=True):
        if reason is None and alone:
            reason = "the only size left, and a fit needs two"
        if reason is not None:
            excluded.append(f"{point.num_samples} samples, seed {point.seed}: {reason}")
    return [] if alone else kept, tuple(excluded)


def _reason_to_exclude(point: PointRecord, analysis: Analysis) -> str | None:
    if point.status == "failed":
        return "failed"
    if point.val_ppl is None or point.train_tokens is None:
        return "has no val_ppl or no train_tokens"
    if point.stop_reason == CAP and not analysis.include_capped:
        return "stopped at its cap"
    return None


def _summary(line: list[PointRecord], analysis: Analysis) -> SummaryRecord:
    fitted, excluded = fitted_points(line, analysis)
    first = line[0]
    return SummaryRecord(
        arm=first.arm,
        config_name=first.config_name,
        config_hash=first.config_hash,
        **{name: _first_known(line, name) for name in LINE_FIELDS},
        **_law_fields(_law(fitted)),
        **_best_fields(line),
        fitted_points=len(fitted),
        excluded=excluded,
    )


def _first_known(line: list[PointRecord], name: str) -> Any:
    """The value of a field that is equal along a line; a failed point may not know it."""
    known = (getattr(point, name) for point in line)
    return next((value for value in known if value is not None), None)


def _best_fields(line: list[PointRecord]) -> dict[str, Any]:
    done = [point for point in line if point.status == "done" and point.val_ppl is not None]
    best = min(done, key=lambda point: point.val_ppl, default=None)
    sources = {
        "best_ppl": "val_ppl",
        "best_acc": "val_acc",
        "best_train_ppl": "train_ppl",
        "best_val_er": "val_er",
        "best_iter": "phase1_iter",
    }
    return {name: None if best is None else getattr(best, source) for name, source in sources.items()}


def _law(fitted: list[PointRecord]) -> PowerLaw | None:
    return fit_power_law(_tokens(fitted), [point.val_ppl for point in fitted]) if fitted else None


def _law_fields(law: PowerLaw | None) -> dict[str, Any]:
    names = ("alpha", "A", "r_squared", "alpha_ci95")
    return {name: None if law is None else getattr(law, name) for name in names}


def _tokens(points: Sequence[PointRecord]) -> list[int | None]:
    return [point.train_tokens for point in points]


def _progression(line: list[PointRecord], analysis: Analysis, window_size: int) -> ProgressionRecord | None:
    fitted, _ = fitted_points(line, analysis)
    ppl, sizes = [point.val_ppl for point in fitted], [point.num_samples for point in fitted]
    windows = sliding_windows(_tokens(fitted), ppl, window_size, sizes)
    if len(windows) < 2:
        return None
    change = progression([window.law.alpha for window in windows])
    return ProgressionRecord(
        arm=line[0].arm,
        config_name=line[0].config_name,
        window_size=window_size,
        windows=tuple(_window_record(window) for window in windows),
        alpha_change=change.alpha_change,
        alpha_change_percent=change.alpha_change_percent,
        trend=change.trend,
    )


def _window_record(window: Window) -> WindowRecord:
    return WindowRecord(
        sample_range=window.size_range,
        token_range=(int(window.token_range[0]), int(window.token_range[1])),
        **_law_fields(window.law),
    )
