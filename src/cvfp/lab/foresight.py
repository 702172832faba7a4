"""Forecasts of a sweep's next size, written down before it runs, so that nobody can have known the answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from statistics import fmean

from cvfp.lab.datasets import Datasets
from cvfp.lab.sweep_directory import SweepDirectory
from cvfp.records.config import RunConfig
from cvfp.records.errors import InputError
from cvfp.records.forecasts import RegisteredForecast, Rule, read_forecasts, write_forecasts
from cvfp.scaling.forecast import Forecast, Predictor, forecast
from cvfp.scaling.last_slope import last_slope
from cvfp.scaling.line_fit import LineFit, fit_lines, line_points

RULES: dict[Rule, Callable[[LineFit], Predictor]] = {
    "ppl_power": lambda line: line.law,
    "last_slope": lambda line: last_slope(line_points(line.fitted)),
}


def register_forecasts(
    directory: SweepDirectory, datasets: Datasets, num_samples: int, note: Callable[[str], None]
) -> None:
    """Add the forecasts of `num_samples` to `forecasts.json`: of every line with no result there as yet.

    A line has one where its smaller sizes give an interval. One that is there already stays. `note` is told
    each new one with its hash: the log of the sweep shows what was known when.
    """
    path = directory.files.forecasts
    held = read_forecasts(path)
    known = {(one.config_hash, one.num_samples) for one in held}
    new = [
        one
        for one in _forecasts(directory, datasets, num_samples)
        if (one.config_hash, one.num_samples) not in known
    ]
    if new:
        write_forecasts(path, [*held, *new])
    for one in new:
        note(
            f"forecast of {one.arm} {one.config_name} at {one.num_samples} samples by {one.rule}: "
            f"PPL {one.ppl:.1f}, 95% interval {one.low:.1f} to "
            f"{'infinity' if one.high is None else f'{one.high:.1f}'}, hash {one.digest}"
        )


def _forecasts(
    directory: SweepDirectory, datasets: Datasets, num_samples: int
) -> Iterator[RegisteredForecast]:
    plan, rows = directory.plan, [record.point for record in directory.records().values()]
    begun = {row.config_hash for row in rows if row.num_samples == num_samples and row.status == "done"}
    coming: dict[str, list[RunConfig]] = {}
    for point in plan.points:
        if point.config.data.num_samples == num_samples and point.config.config_hash not in begun:
            coming.setdefault(point.config.config_hash, []).append(point.config)
    smaller = [row for row in rows if row.num_samples < num_samples and row.config_hash in coming]
    for line in fit_lines(smaller, plan.analysis):
        if line.law is None:
            continue
        by_draw = {config.draw: config for config in coming[line.points[0].config_hash]}
        tokens = fmean(len(datasets.of(c).train(num_samples, d).tokens) for d, c in by_draw.items())
        for rule in RULES:
            found = _forecast(line, rule, tokens)
            if found is not None and found.low is not None and found.low > 0:
                yield _registered(line, rule, num_samples, found)


def _forecast(line: LineFit, rule: Rule, tokens: float) -> Forecast | None:
    try:
        return forecast(RULES[rule](line), tokens, [tokens])[0]
    except InputError:  # sizes too close together, or a number beyond the range of a float
        return None


def _registered(line: LineFit, rule: Rule, num_samples: int, found: Forecast) -> RegisteredForecast:
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
        low=found.low,
        high=found.high,
        made=time.strftime("%Y-%m-%d %H:%M:%S"),
    )
