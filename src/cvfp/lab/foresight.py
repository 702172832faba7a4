"""Forecasts of a sweep's next size, written down before it runs, so that nobody can have known the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from statistics import fmean

from cvfp.lab.messages import Note, Tell
from cvfp.lab.point import Datasets
from cvfp.lab.sweep_directory import SweepDirectory
from cvfp.records.config import RunConfig
from cvfp.records.errors import InputError
from cvfp.records.plan import PlannedPoint
from cvfp.records.sweep import RegisteredForecast, Rule, read_forecasts, read_points, write_forecasts
from cvfp.scaling.forecast import Forecast, Predictor, forecast_at, last_slope
from cvfp.scaling.line import LineAnalysis
from cvfp.scaling.summary import LineFit, fit_lines

RULES: dict[Rule, Callable[[LineAnalysis], Predictor | None]] = {
    "outlook": lambda line: None if line.outlook.refused else line.outlook,
    "last_slope": lambda line: last_slope(line.points),
}


def register_forecasts(
    directory: SweepDirectory, datasets: Datasets, point: PlannedPoint, tell: Tell
) -> None:
    """Add to `forecasts.json` what lines say of the size of `point`, before any of their runs there begins.

    These are its own line and those that have all their smaller sizes. A line says something where these give
    an interval. A forecast that is there already stays. `tell` is told each new one with its hash: the log of
    the sweep shows what was known when.
    """
    size = point.config.data.num_samples
    held = read_forecasts(directory.files.forecasts)
    known = {one.config_hash for one in held if one.num_samples == size}
    new: list[RegisteredForecast] = []
    for line, coming in _lines_at(directory, size).items():
        smaller = [each for each in directory.plan.points if _is_smaller(each, line, size)]
        ready = line == point.config.config_hash or all(map(directory.has_result, smaller))
        begun = any(directory.run_directory(config.run_hash).has_begun for config in coming)
        if ready and not begun and line not in known:
            rows = [record.point for record in read_points(directory.files, smaller).values()]
            new += _forecasts(fit_lines(rows, directory.plan.analysis), datasets, coming)
    if new:
        write_forecasts(directory.files.forecasts, [*held, *new])
    for one in new:
        high = "infinity" if one.high is None else f"{one.high:.1f}"
        tell(
            Note(
                f"forecast of {one.arm} {one.config_name} at {one.num_samples} samples by {one.rule}: "
                f"PPL {one.ppl:.1f}, 95% interval {one.low:.1f} to {high}, hash {one.digest}"
            )
        )


def _lines_at(directory: SweepDirectory, size: int) -> dict[str, list[RunConfig]]:
    """The configs of a size, by line."""
    lines: dict[str, list[RunConfig]] = {}
    for point in directory.plan.points:
        if point.config.data.num_samples == size:
            lines.setdefault(point.config.config_hash, []).append(point.config)
    return lines


def _is_smaller(point: PlannedPoint, line: str, size: int) -> bool:
    return point.config.config_hash == line and point.config.data.num_samples < size


def _forecasts(
    lines: Iterable[LineFit], datasets: Datasets, coming: Sequence[RunConfig]
) -> Iterator[RegisteredForecast]:
    """Forecasts of the runs of one line at one size, from its fit to the smaller ones."""
    size = coming[0].data.num_samples
    for line in lines:
        if line.analysis is None:
            continue
        by_draw = {config.draw: config for config in coming}
        tokens = fmean(len(datasets.of(c).train(size, d).tokens) for d, c in by_draw.items())
        for rule in RULES:
            found = _forecast(line.analysis, rule, tokens)
            if found is not None and found.low is not None and found.low > 0:
                yield _registered(line, rule, size, found, found.low)


def _forecast(line: LineAnalysis, rule: Rule, tokens: float) -> Forecast | None:
    law = RULES[rule](line)
    if law is None:
        return None
    try:
        return forecast_at(law, tokens)
    except InputError:  # sizes too close together, or a number beyond the range of a float
        return None


def _registered(
    line: LineFit, rule: Rule, num_samples: int, found: Forecast, low: float
) -> RegisteredForecast:
    first = line.points[0]
    return RegisteredForecast(
        arm=first.arm,
        config_name=first.config_name,
        config_hash=first.config_hash,
        rule=rule,
        num_samples=num_samples,
        tokens=found.tokens,
        known_samples=tuple(sorted({point.num_samples for point in line.fitted})),
        seeds=tuple(sorted({point.draw for point in line.fitted})),
        ppl=found.ppl,
        low=low,
        high=found.high,
        made=time.strftime("%Y-%m-%d %H:%M:%S"),
    )
