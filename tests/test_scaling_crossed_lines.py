"""Laws of paired lines over draws and test documents: intervals are those of the same numbers elsewhere."""

import math

import numpy as np
import pytest
from scaling_helpers import run_of

from cvfp.scaling.difference import crossover, difference
from cvfp.scaling.documents import Losses, crossed_lines, exponent, law_at, losses_of, paired_losses
from cvfp.scaling.draws import StraightLine, widest
from cvfp.scaling.line import LineAnalysis

SIZES, DOCUMENTS = (50, 100, 200, 400), 60
CROSSING = 2e6
"""Tokens at which the planted laws of the two lines are equal."""


def a_line(slope: float, draws: int, stream: int, noise: float = 0.004) -> Losses:
    rng, known = np.random.default_rng(stream), np.random.default_rng(99)
    lengths, difficulty = known.integers(20, 900, DOCUMENTS), known.normal(0, 0.2, DOCUMENTS)
    runs = []
    for draw in range(draws):
        for size in SIZES:
            trained = 1000 * size + draw
            loss = 5 + slope * math.log(trained / CROSSING) + difficulty
            loss = loss + rng.normal(0, noise) + rng.normal(0, 5 * noise, DOCUMENTS)
            runs.append(run_of(size, draw, trained, lengths, lengths * loss))
    return losses_of(runs)


def pair(draws: int = 4) -> tuple[Losses, Losses]:
    return a_line(-0.3, draws, stream=1), a_line(-0.34, draws, stream=2)


@pytest.mark.parametrize("draws", [1, 4])
def test_the_exponent_and_every_height_have_the_crossed_interval(draws):
    losses = paired_losses(*pair(draws))
    lines = crossed_lines(losses)
    assert widest([line.exponent for line in lines]).interval == pytest.approx(exponent(losses).interval)
    at = widest([line.at(math.log(3e5)) for line in lines])
    assert at.value == pytest.approx(law_at(losses, 3e5).value)
    assert at.interval == pytest.approx(law_at(losses, 3e5).interval, rel=0.15)
    assert {line.kind for line in lines} == {exponent(losses).kind}
    assert len(lines) == (1 if draws == 1 else 3)


def test_a_difference_with_losses_is_over_draws_and_test_documents():
    first, second = pair()
    losses = paired_losses(first, second)
    found = difference(LineAnalysis(first.points), LineAnalysis(second.points), losses)
    plain = difference(LineAnalysis(first.points), LineAnalysis(second.points))
    assert found.exponent.value == pytest.approx(plain.exponent.value)
    assert (found.exponent.kind, plain.exponent.kind) == ("draws x documents", "draws")
    assert found.exponent.interval == pytest.approx(exponent(losses).interval)
    assert found.crossover.tokens == pytest.approx(plain.crossover.tokens)
    low, high = found.crossover.interval
    assert low <= plain.crossover.interval[0] and plain.crossover.interval[1] <= high
    assert low < CROSSING < high and found.verdict == "second falls faster"
    assert found.first_ahead < 0.2


def test_one_draw_gives_an_interval_over_test_documents_and_no_verdict():
    first, second = pair(draws=1)
    found = difference(LineAnalysis(first.points), LineAnalysis(second.points), paired_losses(first, second))
    assert found.exponent.kind == "documents" and found.exponent.sign == -1
    assert found.verdict == "no verdict"


def test_a_crossover_covers_those_of_all_sources_and_is_open_where_one_is():
    def line(error: float) -> StraightLine:
        return StraightLine(10.0, 0.1, -0.05, np.diag([error**2, error**2]), 5, "draws")

    narrow, wide = crossover([line(0.001)]), crossover([line(0.01)])
    both = crossover([line(0.01), line(0.001)])
    assert both.interval == wide.interval and both.interval[0] < narrow.interval[0]
    assert crossover([line(0.001), line(0.1)]).status == "unbounded"
