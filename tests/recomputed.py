"""The statistics of a report a second time, by other means: numpy's and scipy's own routines."""

from __future__ import annotations

import itertools
import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
from recomputed_documents import Documents
from recomputed_forecast import forecasts
from scipy import optimize, stats

MEANS = (
    "train_tokens",
    "val_acc",
    "bits_per_byte",
    "val_er",
    "train_er",
    "wall_seconds",
    "steps",
    "total_params",
    "trained_params",
)
"""Fields whose means over the seeds are shown."""


class Recomputed:
    """The statistics of a sweep, from its points alone, with numpy's and scipy's own routines."""

    def __init__(self, directory: Path) -> None:
        self.points = json.loads((directory / "detailed_results.json").read_text())
        self.lines: dict[tuple[str, str], list[dict]] = {}
        for point in self.points:
            self.lines.setdefault((point["arm"], point["config_name"]), []).append(point)
        self.runs = [json.loads(path.read_text()) for path in directory.glob("runs/*/record.json")]
        self.documents = Documents(self.runs)

    def values(self) -> Iterator[float]:
        for points in self.lines.values():
            yield from self.line(points)
        for a, b in itertools.permutations(self.lines.values(), 2):
            yield from self.pair(a, b)
        yield from self.common()
        yield from self.counts()

    def laws(self, points: list[dict]) -> dict[int, tuple[float, float]]:
        """(alpha, ln A) of every seed with two sizes."""
        return {seed: tuple(np.polyfit(*self.logs(own), 1)) for seed, own in self.draws(points).items()}

    @staticmethod
    def draws(points: list[dict]) -> dict[int, list[dict]]:
        """The points of every seed with two sizes, smallest first."""
        ordered = sorted(points, key=lambda p: p["num_samples"])
        found = {p["seed"]: [q for q in ordered if q["seed"] == p["seed"]] for p in points}
        return {seed: own for seed, own in found.items() if len(own) > 1}

    def law(self, points: list[dict]) -> Iterator[float]:
        laws = np.array(list(self.laws(points).values()))
        alpha, log_A = laws.mean(axis=0)
        yield from (alpha, math.exp(log_A), *student(laws[:, 0]))
        x, y = (np.log([p[name] for p in points]) for name in ("train_tokens", "val_ppl"))
        yield 1 - np.sum((y - log_A - alpha * x) ** 2) / np.sum((y - y.mean()) ** 2)

    def line(self, points: list[dict]) -> Iterator[float]:
        fitted = [p for p in points if p["stop_reason"] != "cap"]
        yield from self.law(fitted)
        largest = max(p["train_tokens"] for p in fitted)
        yield from (value for factor in (4, 10) for value in (factor * largest, factor))
        yield from itertools.chain(*(forecasts(fitted, [4 * largest, 10 * largest]) or ()))
        yield from self.windows(fitted)
        for analysis in (self.bytes_law, self.forms, self.bends, self.backtests):
            yield from analysis(fitted)
        alpha = np.mean([alpha for alpha, _ in self.laws(points).values()])
        for group in self.by_size(points).values():
            yield from self.means(group)
            yield from self.documents.spread(group, alpha)

    def form(self, points: list[dict], floor: bool) -> dict[int, tuple[float, float, float]]:
        """(E, B, beta) of L = E + B * D^-beta of every seed, E >= 0, by a search over beta."""
        found = {}
        for seed, own in self.draws(points).items():
            x, y = self.logs(own)

            def amounts(beta, x=x, y=y):
                shape = [np.exp(-beta * x), *([np.ones_like(x)] if floor else [])]
                scale = shape[0].max()
                solved, residual = optimize.nnls(np.stack([shape[0] / scale, *shape[1:]], axis=1), y)
                return solved[0] / scale, (solved[1] if floor else 0.0), residual**2

            bounds = [math.log(end / np.ptp(x)) for end in (1e-3, 20)]
            grid = np.exp(np.linspace(*bounds, 400))
            near = int(np.argmin([amounts(beta)[2] for beta in grid]))
            best = optimize.minimize_scalar(
                lambda log_beta: 1e6 * amounts(math.exp(log_beta))[2],
                bounds=[math.log(grid[max(near - 1, 0)]), math.log(grid[min(near + 1, 399)])],
                method="bounded",
                options={"xatol": 1e-10},
            )
            B, E, _rss = amounts(math.exp(best.x))
            found[seed] = (E, B, math.exp(best.x))
        return found

    @staticmethod
    def logs(points: list[dict]) -> tuple[np.ndarray, np.ndarray]:
        return tuple(np.log([p[name] for p in points]) for name in ("train_tokens", "val_ppl"))

    def predictions(self, points: list[dict], tokens: float) -> Iterator[np.ndarray]:
        """ln PPL at so many tokens, of every seed, by each form."""
        x = math.log(tokens)
        yield np.array([log_A + alpha * x for alpha, log_A in self.laws(points).values()])
        for floor in (False, True):
            yield np.array([E + B * math.exp(-beta * x) for E, B, beta in self.form(points, floor).values()])

    def forms(self, points: list[dict]) -> Iterator[float]:
        """Exponents and floors, what is predicted at ten times the data, errors at sizes left out."""
        for floor in (False, True):
            laws = np.array(list(self.form(points, floor).values()))
            for values in (laws[:, 0], laws[:, 2]):
                yield from (values.mean(), *student(values))
        for logs in self.predictions(points, 10 * max(p["train_tokens"] for p in points)):
            yield from new_draw(logs)
        sizes = Counter(p["seed"] for p in points)
        for number, least in enumerate((3, 3, 4)):
            known = [p for p in points if sizes[p["seed"]] >= least + (len(sizes) == 1)]
            if len({p["seed"] for p in known}) > (len(sizes) > 1):
                yield self.left_out_error(known, number)

    def left_out_error(self, points: list[dict], number: int) -> float:
        """Of one form, root mean square over sizes left out of their seeds."""
        errors = []
        for size, out in self.by_size(points).items():
            rest = [p for p in points if p["num_samples"] != size]
            for one in out:
                own = [p for p in rest if p["seed"] == one["seed"]]
                predicted = next(itertools.islice(self.predictions(own, one["train_tokens"]), number, None))
                errors.append((predicted[0] - math.log(one["val_ppl"])) ** 2)
        return math.sqrt(np.mean(errors))

    def bends(self, points: list[dict]) -> Iterator[float]:
        """Curvature, and the exponents between neighbouring sizes."""
        groups = list(self.by_size(points).values())
        for own, degree in ((points, 2), *(([*a, *b], 1) for a, b in itertools.pairwise(groups))):
            seeds = {p["seed"] for p in own}
            units = [self.logs([p for p in own if p["seed"] == seed]) for seed in seeds]
            tops = [np.polyfit(x, y, degree)[0] for x, y in units if len(x) > degree]
            yield from (np.mean(tops), *student(tops))

    def backtests(self, points: list[dict]) -> Iterator[float]:
        """The one and the two largest sizes, predicted from the others, with scores."""
        sizes = self.by_size(points)
        for hide in (1, 2) if len(sizes) > 4 else (1,):
            known = [p for size in list(sizes)[:-hide] for p in sizes[size]]
            scores: dict[int, list[float]] = {}
            tokens = [np.mean([p["train_tokens"] for p in sizes[size]]) for size in list(sizes)[-hide:]]
            ahead = forecasts(known, tokens) or [()] * hide
            for out, at, said in zip(list(sizes.values())[-hide:], tokens, ahead, strict=True):
                measured = self.logs(out)[1].mean()
                by_form = [
                    list(new_draw(logs)) for logs in (*self.predictions(known, at), self.slopes(known, at))
                ]
                by_outlook = [[said[0], *said[3:]]] if said else []
                for number, predicted in enumerate([*by_form, *by_outlook]):
                    yield from predicted
                    low, high = np.log(predicted[1:])
                    outside = max(low - measured, measured - high, 0)
                    scores.setdefault(number, []).append(high - low + 40 * outside)
            yield from (np.mean(score) / np.mean(scores[3]) for score in scores.values())

    def slopes(self, points: list[dict], tokens: float) -> np.ndarray:
        """ln PPL on the lines through the two largest sizes of every seed."""
        found = []
        for own in self.draws(points).values():
            slope, height = np.polyfit(*self.logs(own[-2:]), 1)
            found.append(height + slope * math.log(tokens))
        return np.array(found)

    def bytes_law(self, points: list[dict]) -> Iterator[float]:
        nats = [math.exp(math.log(2) * p["bits_per_byte"]) for p in points]
        yield from self.law(
            [p | {"train_tokens": p["train_bytes"], "val_ppl": y} for p, y in zip(points, nats, strict=True)]
        )

    def common(self) -> Iterator[float]:
        """Exponents over the sizes that all lines have in their fits."""
        fits = [[p for p in points if p["stop_reason"] != "cap"] for points in self.lines.values()]
        shared = set.intersection(*({p["num_samples"] for p in points} for points in fits))
        for points in fits:
            own = [p for p in points if p["num_samples"] in shared]
            yield np.mean([alpha for alpha, _ in self.laws(own).values()])

    def windows(self, points: list[dict], size: int = 4) -> Iterator[float]:
        sizes = sorted({p["num_samples"] for p in points})
        windows = [
            [p for p in points if p["num_samples"] in sizes[first : first + size]]
            for first in range(len(sizes) - size + 1)
        ]
        for window in windows:
            yield from self.law(window)
            yield from (min(p["train_tokens"] for p in window), max(p["train_tokens"] for p in window))
        if len(windows) > 1:
            first, last = self.laws(windows[0]), self.laws(windows[-1])
            changes = [last[seed][0] - first[seed][0] for seed in first if seed in last]
            start = np.mean([alpha for alpha, _ in first.values()])
            yield from (np.mean(changes), *student(changes), np.mean(changes) / abs(start))

    def means(self, group: list[dict]) -> Iterator[float]:
        """Of the points of one line and size."""
        for name in MEANS:
            known = [p[name] for p in group if p[name] is not None]
            if known:
                yield np.mean(known)
        yield stats.gmean([p["val_ppl"] for p in group])
        if all(p["train_ppl"] for p in group):
            yield np.mean([math.log(p["val_ppl"] / p["train_ppl"]) for p in group])
        if group[0]["val_er"] is not None:
            dimensions = np.mean([p["val_er"] for p in group]) * group[0]["context_dim"]
            yield from (dimensions, group[0]["context_dim"] - dimensions)

    def pair(self, a: list[dict], b: list[dict]) -> Iterator[float]:
        known = {(p["num_samples"], p["seed"]): p for p in b}
        pairs = [(p, known[key]) for p in a if (key := (p["num_samples"], p["seed"])) in known]
        for size in {p["num_samples"] for p, _ in pairs}:
            own = [(p, q) for p, q in pairs if p["num_samples"] == size]
            yield from self.documents.change(own)
            for name in ("val_er", "val_acc", "wall_seconds", "phase1_iter"):
                changes = [q[name] - p[name] for p, q in own if None not in (p[name], q[name])]
                if changes:
                    yield from (np.mean(changes), *student(changes))
        both = [(p, q) for p, q in pairs if "cap" not in (p["stop_reason"], q["stop_reason"])]
        ratios = [p | {"val_ppl": q["val_ppl"] / p["val_ppl"]} for p, q in both]
        laws = np.array(list(self.laws(ratios).values()))
        yield from (*self.documents.exponent(both), math.expm1(laws[:, 1].mean()))
        yield from self.data_ratios(a, b)
        if a[0]["context_block_params"] and b[0]["context_block_params"]:
            yield b[0]["context_block_params"] / a[0]["context_block_params"]

    def data_ratios(self, a: list[dict], b: list[dict]) -> Iterator[float]:
        """With how many times the data line a reaches the PPL of line b, size by size, and where a ends.

        A curve goes on by one step at both ends.
        """
        sizes = {p["num_samples"] for p in a}
        for out in self.by_size(b).values():
            found, ends = set(), []
            for p in out:
                own = sorted((q for q in a if q["seed"] == p["seed"]), key=lambda q: q["num_samples"])
                if not {min(sizes), max(sizes)} <= {q["num_samples"] for q in own} or len(sizes) < 2:
                    continue
                x, y = (np.concatenate([[2 * v[0] - v[1]], v, [2 * v[-1] - v[-2]]]) for v in self.logs(own))
                x, above = x - math.log(p["train_tokens"]), y - math.log(p["val_ppl"])
                ends.append((x[1], x[-2]))
                first = int(np.argmax(above <= 0))
                if first > 0:
                    found.add(optimize.brentq(np.interp, x[first - 1], x[first], args=(x, above)))
            yield from np.exp(np.mean(ends, axis=0)) if ends else ()
            if found:
                yield from np.exp([np.mean(list(found)), *student(found)])

    def counts(self) -> Iterator[float]:
        """How many points, runs and lines there are of a kind, and sums of their times."""
        yield from range(len(self.points) + 1)
        seconds = [p["wall_seconds"] for p in self.points]
        yield from (sum(seconds), *(sum(p["wall_seconds"] for p in line) for line in self.lines.values()))
        yield from duration(sum(seconds))
        for line in self.lines.values():
            for group in self.by_size(line).values():
                yield from self.phases(group)

    def phases(self, group: list[dict]) -> Iterator[float]:
        keys = {(p["arm"], p["config_name"], p["num_samples"], p["seed"]) for p in group}
        facts = [
            run["facts"]
            for run in self.runs
            if tuple(run["point"][name] for name in ("arm", "config_name", "num_samples", "seed")) in keys
        ]
        first = [each["phase1"]["seconds"] for each in facts if each["phase1"]]
        second = [each["phase2"]["seconds"] for each in facts if each["phase2"]]
        if first:
            iterations = np.mean([p["phase1_iter"] for p in group])
            yield from (np.mean(first), np.mean(first) / (iterations - 1), iterations)
        if second:
            yield np.mean(second)
        weights = [each["weights"] for each in facts if each.get("weights")]
        yield from (np.mean([each[arm] for each in weights]) for arm in (weights[0] if weights else ()))

    @staticmethod
    def by_size(points: list[dict]) -> dict[int, list[dict]]:
        sizes = sorted({p["num_samples"] for p in points})
        return {size: [p for p in points if p["num_samples"] == size] for size in sizes}


def student(values: Iterable[float]) -> tuple[float, float]:
    """95% interval of a mean; nothing to say of a single value."""
    values = np.asarray(list(values), dtype=float)
    if len(values) < 2 or np.ptp(values) == 0:
        return float(values[0]), float(values[0])
    return stats.t.interval(0.95, len(values) - 1, loc=values.mean(), scale=stats.sem(values))


def new_draw(logs: np.ndarray) -> Iterator[float]:
    """Mean and 95% interval of one more of such values, as PPL."""
    spread = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) * math.sqrt(1 + 1 / len(logs))
    yield from np.exp([logs.mean(), logs.mean() - spread, logs.mean() + spread])


def duration(seconds: float) -> tuple[int, ...]:
    minutes = round(seconds) // 60
    return minutes // 60, minutes % 60, minutes, round(seconds) % 60
