"""No verdict hangs on one size, or on digits that were not printed, without saying so."""

import numpy as np
import pytest
from scaling_helpers import SIX, line

from cvfp.scaling.forms import choices
from cvfp.scaling.local_exponent import bend, bends, curvature
from cvfp.scaling.robustness import flips

X = np.log(SIX)
STRAIGHT = 12 - 0.4 * X
BENT = STRAIGHT + 0.0005 * np.random.default_rng(0).normal(size=6) + 0.0003 * (X - X.mean()) ** 2


def without(points, size):
    left = points.kept(points.sizes != size)
    return left, left.log_ppl[None]


NOISE = 0.001 * np.random.default_rng(0).normal(size=6)


@pytest.mark.parametrize("losses", [BENT, STRAIGHT + NOISE + np.array([0.02, 0, 0, 0, 0, 0])])
def test_every_verdict_that_changes_without_one_size_is_reported(losses):
    points = line(SIX, losses)
    found = {(flip.verdict, flip.dropped[0]): flip.becomes for flip in flips(points)}
    for name, verdict in (("curvature", bends), ("form", choices)):
        (given,) = verdict(points, points.log_ppl[None])
        for size in SIX:
            (becomes,) = verdict(*without(points, size))
            assert found.get((name, size), given) == becomes
    assert any(name == "curvature" for name, _ in found)


def test_a_verdict_that_half_a_printed_digit_decides_is_reported():
    points = line(SIX, BENT)
    assert bend(curvature(points)) == "curved"
    fine, coarse = (
        [flip for flip in flips(points, np.full(6, half)) if flip.by == "rounding"] for half in (1e-5, 2e-3)
    )
    assert fine == []
    assert [(flip.verdict, flip.becomes) for flip in coarse if flip.verdict == "curvature"] == [
        ("curvature", "straight within error")
    ]


def test_verdicts_of_a_clear_line_survive_everything():
    losses = 3 + 400 * SIX**-0.4 + 0.001 * np.random.default_rng(0).normal(size=6)
    assert flips(line(SIX, losses), np.full(6, 1e-4)) == []


def test_what_cannot_be_tested_does_not_flip():
    assert flips(line(SIX[:3], STRAIGHT[:3]), np.full(3, 0.1)) == []
    four = line(SIX[:4], STRAIGHT[:4] + np.array([0.1, 0, 0, 0]))
    assert not any(flip.verdict == "curvature" for flip in flips(four))


def test_long_lines_are_dropped_in_runs_of_neighbours():
    tokens = np.geomspace(1e5, 1e7, 40)
    folds = line(tokens, 12 - 0.4 * np.log(tokens)).folds()
    assert len(folds) == 12 and np.concatenate(folds) == pytest.approx(tokens)
