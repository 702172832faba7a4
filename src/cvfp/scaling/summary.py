"""The lines of a sweep: which points a fit uses, the law it gives, and the records that sum it up."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

from cvfp.records.errors import InputError
from cvfp.records.plan import Analysis
from cvfp.records.results import (
    CAP,
    DIVERGED,
    Exclusion,
    ExclusionReason,
    PointRecord,
    ProgressionRecord,
    SummaryRecord,
    WindowRecord,
)
from cvfp.scaling.draws import Law, earlier_copies, fit_draws, lone_draws
from cvfp.scaling.line import LineAnalysis
from cvfp.scaling.local_exponent import Window, progression
from cvfp.scaling.points import Points, cells, points_of

# --- The lines of a sweep: which points a fit uses, and the law it gives.


PRINTED_HALF_UNIT = 0.05
"""Half of the last digit that reports print of a perplexity."""


@dataclass(frozen=True)
class LineFit:
    """The points of one line: those that its fit uses, those that it does not with the reason, and what the
    fitted ones say."""

    points: tuple[PointRecord, ...]
    fitted: tuple[PointRecord, ...]
    excluded: tuple[Exclusion, ...]
    analysis: LineAnalysis | None
    """None where fewer than two sizes are left."""

    @property
    def law(self) -> Law | None:
        """The power law of PPL; None where there is none."""
        return None if self.analysis is None else self.analysis.law


def line_points(points: Sequence[PointRecord]) -> Points:
    """Scored points with `num_samples` as sizes: one per size and draw, the mean over its initialisations."""
    found = cells(points)
    return points_of(
        [cell.tokens for cell in found],
        [cell.val_ppl for cell in found],
        [cell.draw for cell in found],
        [cell.num_samples for cell in found],
    )


def lines(points: Sequence[PointRecord]) -> list[list[PointRecord]]:
    """The points by line, that is by (arm, config_hash), in order of first appearance."""
    grouped: dict[tuple[str, str], list[PointRecord]] = {}
    for point in points:
        grouped.setdefault((point.arm, point.config_hash), []).append(point)
    return list(grouped.values())


def fit_lines(points: Sequence[PointRecord], analysis: Analysis) -> list[LineFit]:
    """One fit per line: with several draws the mean of a law per draw (`fit_draws`), in which its
    initialisations are averaged.

    Left out are points that failed or diverged, points without a perplexity, (unless
    `analysis.include_capped`) points whose training ended at its cap, results that equal those of another
    seed, and draws with too few sizes.
    """
    return [_fit(line, analysis) for line in lines(points)]


def of_two_sizes(points: Sequence[PointRecord]) -> bool:
    """Whether points can have a law: two sizes, in documents and in tokens (where draws of one differ)."""
    sizes = {point.num_samples for point in points}, {point.train_tokens for point in points}
    return min(map(len, sizes)) > 1


def law_of(points: Sequence[PointRecord]) -> Law:
    """The law of points that all have a perplexity, as `line_points`."""
    line = line_points(points)
    return fit_draws(line.tokens, line.ppl, line.draws)


def _fit(line: list[PointRecord], analysis: Analysis) -> LineFit:
    reasons = [_reason_to_exclude(point, analysis) for point in line]
    for rule in (_repeated, _lone_draws, _lone_size):
        used = [index for index, reason in enumerate(reasons) if reason is None]
        for index, reason in zip(used, rule([line[index] for index in used]), strict=True):
            reasons[index] = reason
    fitted = tuple(point for point, reason in zip(line, reasons, strict=True) if reason is None)
    excluded = tuple(reason for reason in reasons if reason is not None)
    return LineFit(tuple(line), fitted, excluded, _analysed(fitted) if fitted else None)


def _analysed(points: Sequence[PointRecord]) -> LineAnalysis:
    data = line_points(points)
    found = LineAnalysis(data, PRINTED_HALF_UNIT / data.ppl)
    try:
        found.law  # noqa: B018 (what has no law is told here, with its name)
    except InputError as error:
        raise InputError(f"{points[0].arm} {points[0].config_name}: {error}") from error
    return found


def _excluded(point: PointRecord, reason: ExclusionReason, repeated_seed: int | None = None) -> Exclusion:
    return Exclusion(
        num_samples=point.num_samples, seed=point.seed, reason=reason, repeated_seed=repeated_seed
    )


def _reason_to_exclude(point: PointRecord, analysis: Analysis) -> Exclusion | None:
    if point.status == "failed":
        return _excluded(point, "failed")
    if point.status == DIVERGED:
        return _excluded(point, "diverged")
    if point.val_ppl is None or point.train_tokens is None:
        return _excluded(point, "no_result")
    if point.stop_reason == CAP and not analysis.include_capped:
        return _excluded(point, "cap")
    return None


def _repeated(points: list[PointRecord]) -> list[Exclusion | None]:
    earlier = earlier_copies([(point.num_samples, point.train_tokens, point.val_ppl) for point in points])
    return [
        None if index is None else _excluded(point, "repeated", points[index].seed)
        for point, index in zip(points, earlier, strict=True)
    ]


def _lone_draws(points: list[PointRecord]) -> list[Exclusion | None]:
    lone = lone_draws([point.tokens for point in points], [point.draw for point in points])
    return [_excluded(point, "lone_seed") if point.draw in lone else None for point in points]


def _lone_size(points: list[PointRecord]) -> list[Exclusion | None]:
    alone = not of_two_sizes(points)
    return [_excluded(point, "lone_size") if alone else None for point in points]


# --- From the points of a sweep to the records of its lines: summaries, and the exponents of windows.


LINE_FIELDS = ("num_layers", "context_dim", "num_input_tokens", "context_block_params")
"""What all points of a line have in common, apart from its names."""
LAW_FIELDS = ("alpha", "A", "r_squared", "alpha_ci95")


def summarise(fits: Sequence[LineFit]) -> list[SummaryRecord]:
    """One summary per line (`fit_lines`): its power law, its best point, why points are not in the fit.

    With fewer than two sizes left there is no fit, and its numbers are None. `best_*` come from the done
    point with the lowest `val_ppl`, capped or not.
    """
    return [_summary(fit) for fit in fits]


def progressions(fits: Sequence[LineFit], window_size: int | None) -> list[ProgressionRecord]:
    """How the exponent changes over the sliding windows of each line (`fit_lines`).

    Empty when `window_size` is None; a line with fewer than two windows has no change and is left out.
    """
    if window_size is None:
        return []
    sizes = {point.num_samples for fit in fits for point in fit.points}
    found = [_progression(fit, window_size, sizes) for fit in fits]
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
    best = min(done, key=lambda point: point.ppl, default=None)
    sources = {
        "best_ppl": "val_ppl",
        "best_acc": "val_acc",
        "best_train_ppl": "train_ppl",
        "best_val_er": "val_er",
        "best_iter": "phase1_iter",
    }
    return {name: None if best is None else getattr(best, source) for name, source in sources.items()}


def _progression(fit: LineFit, window_size: int, known_sizes: Collection[int]) -> ProgressionRecord | None:
    if fit.analysis is None:
        return None
    windows = fit.analysis.windows(window_size, known_sizes)
    if len(windows) < 2:
        return None
    change = progression([window.law.alpha for window in windows])
    return ProgressionRecord(
        arm=fit.points[0].arm,
        config_name=fit.points[0].config_name,
        window_size=window_size,
        windows=tuple(_window_record(window) for window in windows),
        alpha_change=change.alpha_change,
        alpha_change_ci95=fit.analysis.change(windows),
        alpha_change_percent=change.alpha_change_percent,
        trend=change.trend,
    )


def _window_record(window: Window) -> WindowRecord:
    return WindowRecord(
        sample_range=(int(window.size_range[0]), int(window.size_range[1])),
        token_range=(int(window.token_range[0]), int(window.token_range[1])),
        **law_fields(window.law),
        missing_sizes=tuple(int(size) for size in window.missing),
    )
