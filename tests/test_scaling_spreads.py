"""Variance components: planted ones are recovered, and what the design cannot tell is not told."""

import math
from itertools import product

import numpy as np
import pytest
from scaling_helpers import run_of
from scipy import stats

from cvfp.scaling.documents import Losses, losses_of, nested, spreads

INITIALISATION, DRAW, DOCUMENT = 0.02, 0.05, 0.2
LENGTH = 50


def a_line(draws: int, inits: int, documents: int = 100, sizes=(100, 400), stream: int = 0) -> Losses:
    """Runs with planted effects of each source, on the same test documents, all of `LENGTH` tokens."""
    rng = np.random.default_rng(stream)
    difficulty = rng.normal(0, DOCUMENT, documents)
    runs = []
    for size, draw in product(sizes, range(draws)):
        trained = 1000 * size + 37 * draw
        of_draw = rng.normal(0, DRAW)
        for init in range(inits):
            loss = 9 - 0.3 * math.log(trained) + of_draw + rng.normal(0, INITIALISATION) + difficulty
            seed = draw + draws * init
            runs.append(run_of(size, seed, trained, [LENGTH] * documents, LENGTH * loss, draw))
    return losses_of(runs)


def test_planted_components_are_recovered():
    (found,) = spreads(a_line(draws=400, inits=3, sizes=(100,)))
    parts = found.components
    assert (found.draws, found.runs, found.largest) == (400, 1200, "draw")
    assert parts["initialisation"].deviation == pytest.approx(INITIALISATION, rel=0.08)
    assert parts["draw"].deviation == pytest.approx(DRAW, rel=0.12)
    assert parts["test documents"].deviation == pytest.approx(DOCUMENT / math.sqrt(100), rel=0.2)
    assert (parts["initialisation"].dof, parts["draw"].dof) == (800, 399)
    assert 30 < parts["test documents"].dof < 100


def test_the_variances_are_unbiased_for_few_unequal_draws():
    """Means over many small designs with 1, 2 and 4 runs of a draw; of the draw while it is not cut at 0."""
    rng, draws = np.random.default_rng(1), [0, 1, 1, 2, 2, 2, 2]
    large = 20 * INITIALISATION
    found = []
    for _ in range(4000):
        values = rng.normal(0, large, 3)[draws] + rng.normal(0, INITIALISATION, 7)
        parts = nested(values, draws)
        found.append((parts["initialisation"].deviation ** 2, parts["draw"].deviation ** 2))
    assert np.mean(found, axis=0) == pytest.approx([INITIALISATION**2, large**2], rel=0.06)


def test_the_mean_squares_are_those_of_the_f_test():
    values = np.random.default_rng(2).normal(0, 1, 12)
    draws = np.repeat([1, 2, 3], 4)
    values += draws
    parts = nested(values, draws.tolist())
    f = stats.f_oneway(*(values[draws == draw] for draw in (1, 2, 3))).statistic
    within = parts["initialisation"].deviation ** 2
    assert parts["draw"].deviation ** 2 == pytest.approx(within * (f - 1) / 4)
    assert (parts["initialisation"].dof, parts["draw"].dof) == (9, 2)


def test_one_run_per_draw_does_not_tell_the_draw_from_the_initialisation():
    losses = a_line(draws=3, inits=1, sizes=(100,))
    (found,) = spreads(losses)
    assert set(found.components) == {"draw and initialisation", "test documents"}
    together = found.components["draw and initialisation"]
    assert (together.deviation, together.dof) == (pytest.approx(losses.points.log_ppl.std(ddof=1)), 2)


def test_one_draw_tells_the_initialisation_alone_and_one_run_neither():
    (several,), (single,) = (spreads(a_line(1, inits, sizes=(100,))) for inits in (3, 1))
    assert set(several.components) == {"initialisation", "test documents"}
    assert set(single.components) == {"test documents"}
    assert nested(np.array([1.0]), [0]) == {}


def test_draws_closer_than_their_initialisations_have_no_variance_of_their_own():
    parts = nested(np.array([1.0, 3.0, 1.1, 2.9]), [0, 0, 1, 1])
    assert parts["draw"].deviation == 0
    assert parts["initialisation"].deviation > 1


def test_draws_of_more_tokens_are_told_from_draws_that_are_better():
    """ln PPL on one line of ln tokens, whose tokens differ by draw."""
    lengths, runs = np.full(5, 10), []
    for seed, size in product((1, 2, 3), (50, 100, 200)):
        loss = 9 - 0.3 * math.log(1000 * size * seed) + 0.1 * np.arange(5)
        runs.append(run_of(size, seed, 1000 * size * seed, lengths, 10 * loss))
    losses = losses_of(runs)
    assert losses.at(50).points.log_ppl.std(ddof=1) > 0.15
    for one in spreads(losses):
        assert one.components["draw and initialisation"].deviation == pytest.approx(0, abs=1e-12)


def test_an_arm_that_ignores_its_initialisation_has_none_and_one_that_ignores_its_draw_has_one_draw():
    lengths, nats = np.full(5, 10), np.array([40.0, 50.0, 45.0, 60.0, 52.0])
    counts = [run_of(50, seed, 7000, lengths, nats * (1 + seed % 2), seed % 2) for seed in range(4)]
    parts = spreads(losses_of(counts))[0].components
    assert parts["initialisation"].deviation == 0
    assert parts["draw"].deviation == pytest.approx(np.std([9.88, 4.94], ddof=1))
    (same,) = spreads(losses_of([run_of(50, seed, 7000, lengths, nats) for seed in (1, 2)]))
    assert (same.draws, set(same.components)) == (1, {"test documents"})
