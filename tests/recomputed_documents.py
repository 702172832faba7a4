"""What varies with the test documents a second time, of lines and pairs of lines, from their run records."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
from scipy import stats

Key = tuple[str, str, int, int]


class Documents:
    """The losses of the runs of a sweep on each test document."""

    def __init__(self, runs: Sequence[dict]) -> None:
        self.scores = {self.key(run["point"]): run["test_documents"] for run in runs}
        self.tokens = np.array(next(iter(self.scores.values()))["tokens"], dtype=float)
        n = len(self.tokens)
        self.picked = np.random.default_rng(0).integers(0, n, (2000, n))
        self.lengths = self.tokens[self.picked].sum(axis=1)

    @staticmethod
    def key(point: dict) -> Key:
        return tuple(point[name] for name in ("arm", "config_name", "num_samples", "seed"))

    def nats(self, point: dict) -> np.ndarray:
        return np.array(self.scores[self.key(point)]["nats"])

    def resampled(self, nats: np.ndarray) -> np.ndarray:
        """ln PPL on each set of as many documents."""
        return nats[self.picked].sum(axis=1) / self.lengths

    def spread(self, group: Sequence[dict], alpha: float) -> Iterator[float]:
        """Of the runs of one size, one per draw: standard deviations and degrees of freedom."""
        if len({p["val_ppl"] for p in group}) > 1:
            yield np.std([math.log(p["val_ppl"] / p["train_tokens"] ** alpha) for p in group], ddof=1)
        all_nats = [self.nats(p) for p in group]
        n = len(self.tokens)
        yield math.sqrt(np.mean([np.var(self.resampled(nats), ddof=1) for nats in all_nats]) * n / (n - 1))
        yield self.effective(np.mean(all_nats, axis=0))

    def effective(self, nats: np.ndarray) -> float:
        """How many documents the error of a sum rests on."""
        parts = nats - nats.sum() / self.tokens.sum() * self.tokens
        return np.sum(parts**2) ** 2 / np.sum(parts**4)

    def interval(self, by_draw: Sequence[np.ndarray]) -> tuple[float, float, float]:
        """Mean over draws of nats per token, and the widest of its 95% intervals."""
        values = np.array([nats.sum() / self.tokens.sum() for nats in by_draw])
        n, k = len(self.tokens), len(values)
        boot = np.mean([self.resampled(nats) for nats in by_draw], axis=0)
        sources = [
            (stats.sem(values), k - 1),
            (boot.std(ddof=1) * math.sqrt(n / (n - 1)), self.effective(np.mean(by_draw, axis=0))),
        ]
        total = math.sqrt(sum(error**2 for error, _ in sources))
        sources.append((total, total**4 / sum(error**4 / dof for error, dof in sources)))
        reach = max(stats.t.ppf(0.975, dof) * error for error, dof in sources)
        return values.mean(), values.mean() - reach, values.mean() + reach

    def change(self, pairs: Sequence[tuple[dict, dict]]) -> Iterator[float]:
        """Of PPL, over pairs of one size; equal pairs count once."""
        once = {(p["val_ppl"], q["val_ppl"]): self.nats(q) - self.nats(p) for p, q in pairs}
        if len(once) > 1:
            yield from (math.expm1(each) for each in self.interval(list(once.values())))

    def exponent(self, pairs: Sequence[tuple[dict, dict]]) -> Iterator[float]:
        """Of the ratio of two lines: least squares of every document's losses on ln tokens."""
        draws: dict[int, list[tuple[dict, dict]]] = {}
        for p, q in pairs:
            draws.setdefault(p["seed"], []).append((p, q))
        slopes = []
        for own in draws.values():
            x = np.log([p["train_tokens"] for p, _ in own])
            slopes.append(np.polyfit(x, np.array([self.nats(q) - self.nats(p) for p, q in own]), 1)[0])
        if len(slopes) > 1:
            yield from self.interval(slopes)
