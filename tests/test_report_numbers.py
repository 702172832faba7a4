"""Every number of a report is in the records, or computed from them here a second time, by other means."""

from __future__ import annotations

import itertools
import json
import math
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats
from test_report_language import texts_of_the_source

RESULTS = Path(__file__).parents[1] / "docs" / "results"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
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
FORMATS = ("{:,.0f}", "{:.0f}", "{:,.1f}", "{:.1f}", "{:.2f}", "{:.3f}", "{:.4f}", "{:g}", "{:.3g}", "{:.4g}")


def numbers_of(text: str) -> list[str]:
    """The numerals of a text without those in names: of files, of links, and within words (1L_768d_1tok)."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", text)
    text = re.sub(r"(?<=[A-Za-z_])[\d.]+|[\d.,]+(?=[A-Za-z_])", " ", text)
    return [token.rstrip(",") for token in NUMBER.findall(text)]


def written(values: Iterable[float]) -> set[str]:
    """Every way in which a value may be written: any rounding, as a percentage, without its sign."""
    return {
        form.format(abs(each)) for value in values for each in (value, 100 * value) for form in FORMATS
    } | {f"{float(f'{abs(value):.4g}'):,.0f}" for value in values}


def leaves(value: Any) -> Iterator[float | str]:
    """Every number in JSON data, and every numeral in its texts as it stands there."""
    if isinstance(value, dict):
        yield from leaves(list(value.values()))
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, str):
        yield from NUMBER.findall(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


class Recomputed:
    """The statistics of a sweep, from its points alone, with numpy's and scipy's own routines."""

    def __init__(self, directory: Path) -> None:
        self.points = json.loads((directory / "detailed_results.json").read_text())
        self.lines: dict[tuple[str, str], list[dict]] = {}
        for point in self.points:
            self.lines.setdefault((point["arm"], point["config_name"]), []).append(point)
        self.runs = [json.loads(path.read_text()) for path in directory.glob("runs/*/record.json")]

    def values(self) -> Iterator[float]:
        for points in self.lines.values():
            yield from self.line(points)
        for a, b in itertools.permutations(self.lines.values(), 2):
            yield from self.pair(a, b)
        yield from self.common()
        yield from self.counts()

    def laws(self, points: list[dict]) -> dict[int, tuple[float, float]]:
        """(alpha, ln A) of every seed with two sizes."""
        found = {}
        for seed in {point["seed"] for point in points}:
            own = [p for p in points if p["seed"] == seed]
            if len({p["num_samples"] for p in own}) > 1:
                x, y = (np.log([p[name] for p in own]) for name in ("train_tokens", "val_ppl"))
                found[seed] = tuple(np.polyfit(x, y, 1))
        return found

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
        for factor in (4, 10):
            yield from (factor * largest, factor)
            yield from self.forecast(fitted, factor * largest)
        sizes = self.by_size(fitted)
        top = sizes.pop(max(sizes))
        smaller = [p for group in sizes.values() for p in group]
        yield from self.forecast(smaller, np.mean([p["train_tokens"] for p in top]))
        yield from self.windows(fitted)
        for group in self.by_size(points).values():
            yield from self.means(group)

    def forecast(self, points: list[dict], tokens: float) -> Iterator[float]:
        laws = np.array(list(self.laws(points).values()))
        logs = laws[:, 1] + laws[:, 0] * math.log(tokens)
        spread = stats.t.ppf(0.975, len(logs) - 1) * logs.std(ddof=1) * math.sqrt(1 + 1 / len(logs))
        yield from np.exp([logs.mean(), logs.mean() - spread, logs.mean() + spread])

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
            logs = [math.log(q["val_ppl"] / p["val_ppl"]) for p, q in own]
            yield from (math.expm1(each) for each in (np.mean(logs), *student(logs)))
            for name in ("val_er", "val_acc", "wall_seconds", "phase1_iter"):
                changes = [q[name] - p[name] for p, q in own if None not in (p[name], q[name])]
                if changes:
                    yield from (np.mean(changes), *student(changes))
        both = [(p, q) for p, q in pairs if "cap" not in (p["stop_reason"], q["stop_reason"])]
        ratios = [p | {"val_ppl": q["val_ppl"] / p["val_ppl"]} for p, q in both]
        laws = np.array(list(self.laws(ratios).values()))
        yield from (laws[:, 0].mean(), *student(laws[:, 0]), math.expm1(laws[:, 1].mean()))
        if a[0]["context_block_params"] and b[0]["context_block_params"]:
            yield b[0]["context_block_params"] / a[0]["context_block_params"]

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


def duration(seconds: float) -> tuple[int, ...]:
    minutes = round(seconds) // 60
    return minutes // 60, minutes % 60, minutes, round(seconds) % 60


def known_numbers(directory: Path) -> set[str]:
    """What may stand in the report of a sweep: from the records, the statistics, and the wording itself."""
    read = [json.loads((directory / name).read_text()) for name in ("plan.json", "metadata.json")]
    recomputed = Recomputed(directory)
    recorded = set(
        leaves([*read, recomputed.points, *({**run, "test_documents": 0} for run in recomputed.runs)])
    )
    texts = {value for value in recorded if isinstance(value, str)}
    values = {value for value in recorded if not isinstance(value, str)} | set(recomputed.values())
    wording = {token for text in texts_of_the_source() for token in NUMBER.findall(text)}
    return written(values | set(duration(read[1]["wall_seconds"]))) | texts | wording


@pytest.mark.parametrize("name", ["v1", "v3"])
def test_every_number_is_in_the_records_or_computed_from_them(name):
    text = (RESULTS / name / "report.md").read_text(encoding="utf-8")
    known = known_numbers(RESULTS / name)
    found = numbers_of(text)
    assert len(found) > 500
    assert [token for token in found if token not in known] == []


def test_a_changed_number_is_noticed():
    """Otherwise the test above could hold for any text: most numbers with one digit changed are unknown."""
    known = known_numbers(RESULTS / "v3")
    text = (RESULTS / "v3" / "report.md").read_text(encoding="utf-8")
    long = [token for token in numbers_of(text) if len(re.sub(r"\D", "", token)) >= 4]
    changed = [token[:-1] + str((int(token[-1]) + 5) % 10) for token in long]
    missed = [token for token in changed if token in known]
    assert len(changed) > 300
    assert len(missed) < 0.2 * len(changed)
