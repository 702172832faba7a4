"""From the points of a sweep to the records of its lines: summaries, and the exponents of windows."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from cvfp.records.plan import Analysis
from cvfp.records.results import PointRecord, ProgressionRecord, SummaryRecord, WindowRecord
from cvfp.scaling.draws import Law
from cvfp.scaling.line_fit import LineFit, fit_lines, line_points
from cvfp.scaling.windows import Window, change_interval, progression, sliding_windows

LINE_FIELDS = ("num_layers", "context_dim", "num_input_tokens", "context_block_params")
"""What all points of a line have in common, apart from its names."""
LAW_FIELDS = ("alpha", "A", "r_squared", "alpha_ci95")


def summarise(points: Sequence[PointRecord], analysis: Analysis) -> list[SummaryRecord]:
    """One summary per line: its power law (`fit_lines`), its best point, why points are not in the fit.

    With fewer than two sizes left there is no fit, and its numbers are None. `best_*` come from the done
    point with the lowest `val_ppl`, capped or not.
    """
    return [_summary(fit) for fit in fit_lines(points, analysis)]


def progressions(points: Sequence[PointRecord], analysis: Analysis) -> list[ProgressionRecord]:
    """How the exponent changes over the sliding windows of each line.

    Empty when `analysis.window_size` is None; a line with fewer than two windows has no change and is left
    out.
    """
    if analysis.window_size is None:
        return []
    sizes = {point.num_samples for point in points}
    found = [_progression(fit, analysis.window_size, sizes) for fit in fit_lines(points, analysis)]
    return [record for record in found if record is not None]


def law_fields(law: Law | None) -> dict[str, Any]:
    """The numbers of a law by their names in records; all None without a law."""
    if law is None:
        return dict.fromkeys((*LAW_FIELDS, "interval_kind"))
    kind = None if law.alpha_ci95 is None else law.interval_kind
    return {name: getattr(law, name) for name in LAW_FIELDS} | {"interval_kind": kind}


def _summary(fit: LineFit) -> SummaryRecord:
    first = fit.points[0]
    return SummaryRecord(
        arm=first.arm,
        config_name=first.config_name,
        config_hash=first.config_hash,
        **{name: _first_known(fit.points, name) for name in LINE_FIELDS},
        **law_fields(fit.law),
        **_best_fields(fit.points),
        fitted_points=len(fit.fitted),
        excluded=fit.excluded,
    )


def _first_known(line: Sequence[PointRecord], name: str) -> Any:
    """The value of a field that is equal along a line; a failed point may not know it."""
    known = (getattr(point, name) for point in line)
    return next((value for value in known if value is not None), None)


def _best_fields(line: Sequence[PointRecord]) -> dict[str, Any]:
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


def _progression(fit: LineFit, window_size: int, known_sizes: Collection[int]) -> ProgressionRecord | None:
    line = line_points(fit.fitted)
    windows = sliding_windows(line.tokens, line.ppl, window_size, line.sizes, line.draws, known_sizes)
    if len(windows) < 2:
        return None
    change = progression([window.law.alpha for window in windows])
    return ProgressionRecord(
        arm=fit.points[0].arm,
        config_name=fit.points[0].config_name,
        window_size=window_size,
        windows=tuple(_window_record(window) for window in windows),
        alpha_change=change.alpha_change,
        alpha_change_ci95=change_interval(line.tokens, line.ppl, line.sizes, windows),
        alpha_change_percent=change.alpha_change_percent,
        trend=change.trend,
    )


def _window_record(window: Window) -> WindowRecord:
    return WindowRecord(
        sample_range=window.size_range,
        token_range=(int(window.token_range[0]), int(window.token_range[1])),
        **law_fields(window.law),
        missing_sizes=window.missing,
    )
