"""The lines of a sweep: which points a fit uses, and the law it gives."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cvfp.records.errors import InputError
from cvfp.records.plan import Analysis
from cvfp.records.results import CAP, Exclusion, ExclusionReason, PointRecord
from cvfp.scaling.cells import cells
from cvfp.scaling.draws import Law, earlier_copies, fit_draws, lone_draws
from cvfp.scaling.forecast import Forecast, forecast
from cvfp.scaling.points import Points, points_of


@dataclass(frozen=True)
class LineFit:
    """The points of one line, those that its fit uses, those that it does not with the reason, the law."""

    points: tuple[PointRecord, ...]
    fitted: tuple[PointRecord, ...]
    excluded: tuple[Exclusion, ...]
    law: Law | None

    def forecasts(self, analysis: Analysis) -> list[Forecast]:
        """Predicted perplexities, with 95% prediction intervals, at `analysis.extrapolate`.

        When that is empty: at 4 and 10 times the largest size in the fit. No fit, no forecasts.
        """
        if self.law is None:
            return []
        return forecast(self.law, max(point.train_tokens for point in self.fitted), analysis.extrapolate)


def line_points(points: Sequence[PointRecord]) -> Points:
    """Scored points with `num_samples` as sizes: one per size and draw, the mean over its initialisations."""
    found = cells(points)
    return points_of(
        [cell.train_tokens for cell in found],
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

    Left out are failed points, points without a perplexity, (unless `analysis.include_capped`) points whose
    training ended at its cap, results that equal those of another seed, and draws with too few sizes.
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
    return LineFit(tuple(line), fitted, excluded, _named_law(fitted) if fitted else None)


def _named_law(points: Sequence[PointRecord]) -> Law:
    try:
        return law_of(points)
    except InputError as error:
        raise InputError(f"{points[0].arm} {points[0].config_name}: {error}") from error


def _excluded(point: PointRecord, reason: ExclusionReason, repeated_seed: int | None = None) -> Exclusion:
    return Exclusion(
        num_samples=point.num_samples, seed=point.seed, reason=reason, repeated_seed=repeated_seed
    )


def _reason_to_exclude(point: PointRecord, analysis: Analysis) -> Exclusion | None:
    if point.status == "failed":
        return _excluded(point, "failed")
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
    lone = lone_draws([point.train_tokens for point in points], [point.draw for point in points])
    return [_excluded(point, "lone_seed") if point.draw in lone else None for point in points]


def _lone_size(points: list[PointRecord]) -> list[Exclusion | None]:
    alone = not of_two_sizes(points)
    return [_excluded(point, "lone_size") if alone else None for point in points]
