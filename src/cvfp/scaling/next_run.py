"""What to run next: how much each addition to a sweep would narrow the claim in question, and what it costs.

The claim is a number at one size: ln(PPL_2 / PPL_1) of two lines in pairs, or ln PPL of a lone line. All that
could be added is held to the same number, by half of its 95% interval, now and expected.

**At a size that has been run** it is the mean of k seeds there, as in every table of a report. Its interval
is over seeds, s / sqrt(k) with Student's t at k - 1, and over test documents (`documents.Crossed`). More
seeds make k larger; results at other sizes are not in it, so more sizes do nothing.

**At a size that has not** it is read off straight lines over ln D, with three errors. The widest interval
counts, of each alone and of all together:

* seeds: each has its own line, whose height at the claim's size varies by s_h^2 = s_seed^2 + s_rest^2 * H,
  H = 1 / n + (ln D_claim - mean ln D)^2 / SS over the n sizes. The error is s_h / sqrt(k): smaller with more
  seeds, and by H with more sizes. s_rest is what a mean per size and a line per seed leave of all results;
* line: the means of the sizes lie off the mean line by s_m, n - 2 degrees of freedom, and so may that of the
  claim: s_m * sqrt(1 + H). A bend is in it. Smaller with more sizes;
* test documents.

Once it has been run at k seeds, it is known as the largest size is today.

*Limits.* Spreads are taken to stay as measured; of few seeds they are little known. The error over test
documents stays, whatever is run (a part of it would shrink with seeds: cautious). Runs scatter alike and
independently at all sizes, which favours sizes: those of a seed are nested. Hence no size is proposed below
the gap under the largest: a small one costs little, and would seem to tell more than it does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Literal

import numpy as np

from cvfp.records.plan import PlannedPoint
from cvfp.records.sweep import Sweep
from cvfp.scaling.documents import Losses, height_weights, law_at, log_ppl_at
from cvfp.scaling.draws import Estimate, across_draws, earlier_copies, widest
from cvfp.scaling.points import Points, percent

ENOUGH_SEEDS = 3
"""The 95% interval of two seeds reaches 12.7 standard errors to either side, of three 4.3."""
MORE_SEEDS = (1, 2)
BEYOND = 2
"""Times the largest size."""
LEAST_SIZES = 3
"""From which a straight line tells how far results lie off it."""


# --- What is known of the claim, and what would be.


@dataclass(frozen=True)
class Known:
    """What is known of a claim, in ln PPL; made by `known_of`."""

    size: int
    """Training documents at which it is read."""
    sizes: tuple[int, ...]
    """That have been run, smallest first."""
    value: float
    draws: Estimate | None
    """Across seeds; None with one."""
    documents: Estimate | None
    """Over test documents; None where their losses were not kept."""
    line: Estimate | None
    """By the line; None where the size has been run, and with fewer than three sizes."""
    scatter: float
    """Share of s_h^2 that more sizes can lessen, s_rest^2 * H / s_h^2, from 0 to 1."""
    measured: Known | None
    """What is known at the largest size, where this one has not been run; else None."""
    ratio: bool
    """Of two lines; else of a lone one."""

    @property
    def seeds(self) -> int:
        """The seeds with results of their own."""
        return 1 if self.draws is None else int(self.draws.dof) + 1

    def percent(self, log_ppl: float) -> float:
        """A ln PPL near `value` in percent: of the first line's PPL, of a lone line of its own."""
        return percent(log_ppl if self.ratio else log_ppl - self.value)

    def interval(self, more_seeds: int = 0, more_sizes: Iterable[int] = ()) -> tuple[float, float] | None:
        """The 95% interval in percent, as expected with so many more seeds and these sizes.

        None where it is not known: with one seed, which does not tell how seeds vary, and off a line through
        fewer than three sizes.
        """
        sizes = tuple(sorted({*self.sizes, *more_sizes}))
        if self.measured is not None and self.size in sizes:
            return self.measured.interval(more_seeds)
        if self.draws is None or (self.measured is not None and self.line is None):
            return None
        seeds, shrunk = self.seeds + more_seeds, 1.0
        sources = [] if self.documents is None else [self.documents]
        if self.line is not None:
            now, then = leverage(self.sizes, self.size), leverage(sizes, self.size)
            shrunk = 1 - self.scatter + self.scatter * then / now
            error = math.sqrt(self.line.variance * (1 + then) / (1 + now))
            sources.append(replace(self.line, error=error, dof=len(sizes) - 2))
        variance = self.draws.variance * shrunk * self.seeds / seeds
        sources.append(Estimate(self.value, math.sqrt(variance), seeds - 1, "draws"))
        interval = widest([*sources, _together(sources)]).interval
        assert interval is not None
        return self.percent(interval[0]), self.percent(interval[1])

    def half_width(self, more_seeds: int = 0, more_sizes: Iterable[int] = ()) -> float | None:
        """Half of that interval, in percent."""
        interval = self.interval(more_seeds, more_sizes)
        return None if interval is None else (interval[1] - interval[0]) / 2


def _together(sources: Sequence[Estimate]) -> Estimate:
    """The variances add up, with Satterthwaite's degrees of freedom, as in `documents.Crossed`."""
    variances = np.array([one.variance for one in sources])
    whole = float(variances.sum())
    shares = variances / whole if whole > 0 else np.full(len(sources), 1 / len(sources))
    dof = 1 / float(np.sum(shares**2 / [one.dof for one in sources]))
    return Estimate(sources[0].value, math.sqrt(whole), dof, sources[0].kind)


def leverage(sizes: Sequence[int], at: int) -> float:
    """H = 1 / n + (ln at - mean)^2 / SS of the logarithms of at least two different sizes."""
    x = np.log(np.asarray(sizes, dtype=np.float64))
    return float(np.sum(height_weights(x, math.log(at)) ** 2))


def known_of(points: Points, size: int, losses: Losses | None = None, ratio: bool = True) -> Known:
    """What results tell of ln PPL (of a difference: of the ratio) at `size`, be it run or not.

    Args:
        points: at least one result of a line, or ratio of two; their `sizes` are training documents.
        size: training documents.
        losses: of the same results on each test document.
        ratio: whether they are ratios.
    """
    points = points.by_draw()
    results = list(zip(points.sizes.tolist(), points.ppl.tolist(), strict=True))
    points = points.kept(np.array([earlier is None for earlier in earlier_copies(results)]))
    sizes = tuple(int(each) for each in points.distinct_sizes)
    if size in sizes:
        values = points.log_ppl[points.sizes == size]
        documents = None if losses is None else log_ppl_at(losses, size).documents
        draws = across_draws(values) if len(values) > 1 else None
        return Known(size, sizes, float(values.mean()), draws, documents, None, 0.0, None, ratio)
    measured = known_of(points, sizes[-1], losses, ratio)
    if len(sizes) < LEAST_SIZES:
        return Known(size, sizes, measured.value, None, None, None, 0.0, measured, ratio)
    return _off_the_line(points, size, sizes, losses, measured)


def _off_the_line(
    points: Points, size: int, sizes: tuple[int, ...], losses: Losses | None, measured: Known
) -> Known:
    units = points.units(2)
    x, y = points.log_tokens, points.log_ppl
    target = float(x[points.sizes == sizes[-1]].mean()) + math.log(size / sizes[-1])
    weights = [height_weights(x[unit], target) for unit in units]
    heights = np.array([w @ y[unit] for w, unit in zip(weights, units, strict=True)])
    draws, scatter = (across_draws(heights) if len(units) > 1 else None), 0.0
    if draws is not None and draws.variance > 0:
        part = _rest_variance(points, target) * fmean(float(np.sum(w**2)) for w in weights)
        scatter = min(part / (draws.variance * len(units)), 1.0)
    means = np.array([[x[points.sizes == each].mean(), y[points.sizes == each].mean()] for each in sizes])
    weight = height_weights(means[:, 0], target)
    rest = means[:, 1] - np.polyval(np.polyfit(means[:, 0], means[:, 1], 1), means[:, 0])
    error = math.sqrt(float(rest @ rest) / (len(sizes) - 2) * (1 + float(weight @ weight)))
    value = float(heights.mean())
    line = Estimate(value, error, len(sizes) - 2, "line")
    documents = None if losses is None else law_at(losses, math.exp(target)).documents
    return Known(size, sizes, value, draws, documents, line, scatter, measured, measured.ratio)


def _rest_variance(points: Points, target: float) -> float:
    """s_rest^2: of what a mean per size and a line per seed leave; 0 without degrees of freedom."""
    x, y = points.log_tokens - target, points.log_ppl
    sizes = points.sizes[:, None] == np.unique(points.sizes)
    seeds = np.array([[draw == each for each in dict.fromkeys(points.draws)] for draw in points.draws])
    design = np.hstack([sizes, seeds, seeds * x[:, None]]).astype(np.float64)
    solution, _rss, rank, _singular = np.linalg.lstsq(design, y, rcond=None)
    dof = len(y) - int(rank)
    return float(np.sum((y - design @ solution) ** 2)) / dof if dof > 0 else 0.0


# --- What a sweep runs, and what that takes.


@dataclass(frozen=True)
class LineCost:
    """One line of a plan: the sizes that it runs at, and seconds per run at those that have run."""

    sizes: tuple[int, ...]
    seconds: Mapping[int, float]

    def at(self, size: int) -> float | None:
        """Seconds of one run with `size` documents; None where no run of the line is known.

        Measured ones; else the power law through the two nearest measured sizes, so that beyond the largest
        it is the growth over the last of them. From one size, in proportion to documents.
        """
        if size in self.seconds or not self.seconds:
            return self.seconds.get(size)
        known = sorted(self.seconds)
        if len(known) == 1:
            return self.seconds[known[0]] * size / known[0]
        first = min(max(sum(each < size for each in known) - 1, 0), len(known) - 2)
        low, high = known[first : first + 2]
        growth = math.log(self.seconds[high] / self.seconds[low]) / math.log(high / low)
        return self.seconds[low] * (size / low) ** growth


@dataclass(frozen=True)
class Design:
    """What a sweep runs, as far as `cvfp run DIR --seeds N --samples N` can add to it."""

    lines: tuple[LineCost, ...]
    runs: int
    """Of a line at a size: a seed each, or several initialisations of a seed."""
    seeds_can_grow: bool
    """Not where a seed has several initialisations."""
    documents: int | None
    """In the corpus for training; None where it is not known."""
    share: float = 1.0
    """Seconds of the sweep for a second of one of its runs."""

    @property
    def sizes(self) -> tuple[int, ...]:
        """Smallest first."""
        return tuple(sorted({size for line in self.lines for size in line.sizes}))

    def reaches(self, size: int) -> bool:
        """Whether the corpus is known to have so many documents."""
        return self.documents is not None and size <= self.documents

    def seconds_of_seeds(self, count: int) -> float | None:
        """All lines at their sizes with so many new seeds; None where the time of one is not known."""
        found = [line.at(size) for line in self.lines for size in line.sizes]
        return _total(found, count * self.share)

    def seconds_of_size(self, size: int) -> float | None:
        """All lines that do not run there yet, with every seed; None where the time of one is not known."""
        found = [line.at(size) for line in self.lines if size not in line.sizes]
        return _total(found, self.runs * self.share)


def _total(seconds: Iterable[float | None], share: float) -> float | None:
    """Their sum, of each this share (or so often); None where one is not known."""
    found = list(seconds)
    known = [each for each in found if each is not None]
    return share * sum(known) if len(known) == len(found) else None


def design_of(sweep: Sweep) -> Design:
    """The plan of a sweep, with the seconds that its records tell."""
    draws = {(point.config.seed, point.config.data.draw_seed) for point in sweep.plan.points}
    pools = [data.splits["pool"].documents for data in sweep.metadata.data if "pool" in data.splits]
    return Design(
        tuple(_costs(sweep).values()),
        len(draws),
        all(draw is None for _seed, draw in draws),
        min(pools) if pools else None,
        _share(sweep),
    )


def _costs(sweep: Sweep) -> dict[str, LineCost]:
    """By the hash of the settings of a line."""
    sizes: dict[str, set[int]] = {}
    for point in sweep.plan.points:
        sizes.setdefault(point.config.config_hash, set()).add(point.config.data.num_samples)
    seconds: dict[str, dict[int, list[float]]] = {line: {} for line in sizes}
    for point in sweep.points:
        if point.config_hash in seconds and point.wall_seconds:
            seconds[point.config_hash].setdefault(point.num_samples, []).append(point.wall_seconds)
    return {
        line: LineCost(tuple(sorted(own)), {size: fmean(each) for size, each in seconds[line].items()})
        for line, own in sizes.items()
    }


def _share(sweep: Sweep) -> float:
    """1/2 where two runs were always at work side by side, as they are again on GPUs: `cvfp run` takes every
    one that is there, but one process for a CPU."""
    if any(one.device.startswith("cpu") for one in sweep.metadata.environments):
        return 1.0
    runs = sum(point.wall_seconds or 0.0 for point in sweep.points)
    wall = sweep.metadata.wall_seconds
    return min(wall / runs, 1.0) if wall and runs else 1.0


def seconds_of(sweep: Sweep, points: Iterable[PlannedPoint]) -> float | None:
    """What planned runs of a sweep would take, by its own records; None where one of a line is not known."""
    costs = _costs(sweep)
    found = (costs[point.config.config_hash].at(point.config.data.num_samples) for point in points)
    return _total(found, _share(sweep))


# --- What could be added, the best first.


What = Literal["missing", "seeds", "between", "beyond"]


@dataclass(frozen=True)
class Addition:
    """One thing that `cvfp run DIR` could add to a sweep."""

    what: What
    count: int
    """Runs that are missing; seeds that are added; the documents of a new size."""
    options: str
    """Behind `cvfp run DIR`: `--seeds 5`, `--samples 1131`; empty for what is missing."""
    now: float | None
    """Half of the 95% interval of the claim, percent of PPL; None: there is none yet."""
    then: float | None
    """The same, expected when it has run; None where that cannot be told."""
    seconds: float | None
    """Of the machine that the records are from, one run after another; None where no record tells."""

    @property
    def narrower(self) -> float:
        """ln(now / then): 0 where it narrows nothing, or where that cannot be told.

        A logarithm, because steps multiply: two that each take a fifth off are worth one that takes 36%.
        """
        return max(math.log(self.now / self.then), 0.0) if self.now and self.then else 0.0

    @property
    def rate(self) -> float | None:
        """`narrower` per second: what additions are ranked by; None without seconds."""
        return self.narrower / self.seconds if self.seconds else None


def next_runs(sweep: Sweep, known: Known | None) -> list[Addition]:
    """What could be added to a sweep, the best first; what is planned and has no record comes before all."""
    found = [] if known is None else additions(known, design_of(sweep))
    missing = sweep.missing()
    if not missing:
        return found
    now = None if known is None else known.half_width()
    return [Addition("missing", len(missing), "", now, None, seconds_of(sweep, missing)), *found]


def additions(known: Known, design: Design) -> list[Addition]:
    """More seeds, a size beyond and one between, as far as they can be added; the best first.

    That is the one that narrows the claim most per second; where no time is known, the one that narrows it
    most. A size between comes last: it betters a forecast only, which is lost when the claim's size is run
    (simulated in `tests/test_next_run.py`). Where there is no interval yet only seeds are proposed, first as
    many as make three.
    """
    now = known.half_width()
    found = []
    for more in MORE_SEEDS if design.seeds_can_grow else ():
        options, then = f"--seeds {design.runs + more}", known.half_width(more_seeds=more)
        found.append(Addition("seeds", more, options, now, then, design.seconds_of_seeds(more)))
    if now is None:
        return sorted(found, key=lambda one: (design.runs + one.count < ENOUGH_SEEDS, one.count))
    for what, size in _new_sizes(design):
        then = known.half_width(more_sizes=(size,))
        found.append(Addition(what, size, f"--samples {size}", now, then, design.seconds_of_size(size)))
    return sorted(found, key=_rank)


def _rank(one: Addition) -> tuple[bool, float, float, float]:
    """Smaller is better."""
    return one.what == "between", -(one.rate or 0.0), -one.narrower, one.seconds or 0.0


def _new_sizes(design: Design) -> Iterator[tuple[What, int]]:
    """The geometric mean of the two largest sizes; twice the largest, if there are as many documents."""
    sizes = list(design.sizes)
    if len(sizes) > 1:
        middle = round(math.sqrt(sizes[-2] * sizes[-1]))
        if middle not in sizes:
            yield "between", middle
    if design.reaches(BEYOND * sizes[-1]):
        yield "beyond", BEYOND * sizes[-1]
