"""Where the spread of ln PPL comes from at each size: initialisation, draw of documents, test documents."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cvfp.scaling.crossed import effective_count, resampled
from cvfp.scaling.documents import exponent
from cvfp.scaling.losses import Losses

Source = Literal["initialisation", "draw", "draw and initialisation", "test documents"]
"""`draw and initialisation` is both together, where one run per draw cannot tell them apart."""


@dataclass(frozen=True)
class Component:
    """Standard deviation of ln PPL of a single run that one source makes, nats per token.

    `dof` are the degrees of freedom of the mean square that it comes from: one less than the draws; the runs
    less the draws; for test documents the number of documents that their error rests on.
    """

    deviation: float
    dof: int | float


@dataclass(frozen=True)
class Spread:
    """The components at one size; a source that these runs do not identify is not in `components`."""

    size: int
    """Training documents."""
    draws: int
    """With distinct results."""
    runs: int
    components: Mapping[Source, Component]

    @property
    def largest(self) -> Source:
        return max(self.components, key=lambda source: self.components[source].deviation)


def spreads(losses: Losses) -> list[Spread]:
    """One per size of a line, or of a difference of two, smallest first.

    Model, run i of draw d: ln PPL = mu + draw_d + initialisation_di on these test documents, by `nested`.
    Draws of as many documents differ in tokens: every ln PPL is first moved along the exponent of the line,
    where it has one, to the mean ln tokens of its size. Test documents: the variance over bootstrapped sets
    of as many of them, the mean over runs. What a draw does to some test documents only is in both.
    """
    sizes = losses.points.distinct_sizes
    alpha = exponent(losses).value if len(sizes) > 1 else 0.0
    return [_spread(_without_copies(losses.at(size)), alpha) for size in sizes]


def nested(values: np.ndarray, draws: Sequence[Hashable]) -> dict[Source, Component]:
    """The variance components of a one-way nested design, balanced or not, as standard deviations.

    Analysis of variance by the method of moments (Searle, Casella & McCulloch 1992, chapter 3): with n_d of N
    values in each of a draws, initialisation^2 = MSW, within draws, and draw^2 = (MSB - MSW) / n_0, not below
    0, n_0 = (N - sum n_d^2 / N) / (a - 1). With one value per draw MSB is of both together. Empty for a
    single value.

    Args:
        values: ln PPL of the runs, (N,).
        draws: the draw of each, (N,).
    """
    groups = [values[[other == draw for other in draws]] for draw in dict.fromkeys(draws)]
    counts = np.array([len(group) for group in groups])
    between, within = len(groups) - 1, len(values) - len(groups)
    found: dict[Source, Component] = {}
    msw = 0.0
    if within > 0:
        msw = sum(float(np.sum((group - group.mean()) ** 2)) for group in groups) / within
        found["initialisation"] = Component(float(np.sqrt(msw)), within)
    if between > 0:
        means = np.array([group.mean() for group in groups])
        msb = float(counts @ (means - values.mean()) ** 2) / between
        per_draw = (len(values) - float(counts @ counts) / len(values)) / between
        deviation = float(np.sqrt(max(msb - msw, 0.0) / per_draw))
        found["draw" if within > 0 else "draw and initialisation"] = Component(deviation, between)
    return found


def _spread(runs: Losses, alpha: float) -> Spread:
    points = runs.points
    found = nested(points.log_ppl - alpha * points.log_tokens, points.draws)
    n = len(runs.tokens)
    variance = float(resampled(runs.nats, runs.tokens).var(axis=0, ddof=1).mean()) * n / (n - 1)
    mean = runs.nats.mean(axis=0)
    rest = effective_count(mean - mean.sum() / runs.tokens.sum() * runs.tokens)
    found["test documents"] = Component(float(np.sqrt(variance)), rest)
    return Spread(int(points.sizes[0]), len(set(points.draws)), len(points.draws), found)


def _without_copies(runs: Losses) -> Losses:
    """Without draws whose losses another one has. Initialisations that change nothing stay: they tell so."""
    kept = set(runs.by_draw().distinct().points.draws)
    return runs.kept(np.array([draw in kept for draw in runs.points.draws]))
