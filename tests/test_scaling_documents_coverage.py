"""Coverage of intervals over test documents, simulated (the process is stated) and on kept records."""

from pathlib import Path

import numpy as np
import pytest
from scaling_helpers import SIXTEENFOLD, nested_noise

from cvfp.records.sweep import load_sweep
from cvfp.scaling import documents as crossed_module
from cvfp.scaling.documents import Crossed, Losses, exponent, law_at, log_ppl_at, losses_of, paired_losses
from cvfp.scaling.points import points_of

V3 = Path(__file__).parents[1] / "docs" / "results" / "v3"
ALPHA, LARGEST = -0.35, 16
DOCUMENTS, TRIALS = 100, 400
LONGEST = 26_627
"""Predicted tokens of one of the 300 test documents of v3: 8% of all."""


HIGHEST = {3: 0.975, 2: 0.985, 5: 0.975}
"""The largest share of intervals that may hold, by the number of draws."""


def quick_first(cases: list) -> list:
    """The first one for every run of the tests, the others for a long one."""
    first, *others = cases
    others = [one if isinstance(one, tuple) else (one,) for one in others]
    return [first, *(pytest.param(*one, marks=pytest.mark.long) for one in others)]


@pytest.fixture(autouse=True)
def fewer_resamples(monkeypatch):
    """The error they leave in an interval, 3%, is far below what the bands here can tell."""
    monkeypatch.setattr(crossed_module, "RESAMPLES", 500)


def simulated(rng: np.random.Generator, draws: int, spread: float) -> Losses:
    """ln PPL of a document = 10 - 0.35 ln D + draw + document + rest, in nats per token.

    draw: `nested_noise` over five sizes that double. document: normal, independent; `spread` at the mean of
    ln D, with an exponent of its own of standard deviation spread / 3. rest: 0.05, normal, by size, draw and
    document. Lengths of documents are lognormal, of standard deviation 0.8 of their logarithm.
    """
    x = np.log(SIXTEENFOLD)
    by_document = spread * rng.normal(size=DOCUMENTS) + spread / 3 * np.outer(
        x - x.mean(), rng.normal(size=DOCUMENTS)
    )
    loss = (10 + ALPHA * x + nested_noise(rng, (draws, 5)))[..., None] + by_document
    loss = (loss + 0.05 * rng.normal(size=(draws, 5, DOCUMENTS))).reshape(-1, DOCUMENTS)
    tokens = np.ceil(np.exp(rng.normal(6, 0.8, DOCUMENTS)))
    ppl = np.exp(loss @ tokens / tokens.sum())
    trained, sizes = np.tile(SIXTEENFOLD, draws), np.tile([1, 2, 4, 8, 16], draws)
    points = points_of(trained, ppl, np.repeat(np.arange(draws), 5).tolist(), sizes)
    return Losses(points, loss * tokens, tokens)


def share_that_holds(intervals: list[tuple[float, float]], truth: float) -> float:
    low, high = np.array(intervals).T
    return float(np.mean((low <= truth) & (truth <= high)))


CROSSED = [(draws, highest, spread) for draws, highest in HIGHEST.items() for spread in (0.05, 0.15)]


@pytest.mark.parametrize(("draws", "highest", "spread"), quick_first(CROSSED))
def test_for_new_draws_and_documents_the_crossed_interval_holds(draws, highest, spread):
    """With two draws it is cautious. That of draws alone says less than it seems to."""
    rng = np.random.default_rng(10 * draws + round(100 * spread))
    lines = [simulated(rng, draws, spread) for _ in range(TRIALS)]
    ppl = [log_ppl_at(one, LARGEST) for one in lines]
    truth = 10 + ALPHA * np.log(SIXTEENFOLD[-1])
    assert 0.92 <= share_that_holds([one.interval for one in ppl], truth) <= highest
    assert share_that_holds([one.draws.interval for one in ppl], truth) < 0.935
    exponents = [exponent(one).interval for one in lines]
    assert 0.92 <= share_that_holds(exponents, ALPHA) <= highest
    further = [law_at(one, 1e7).interval for one in lines]
    assert 0.92 <= share_that_holds(further, 10 + ALPHA * np.log(1e7)) <= highest


def kept_lines() -> dict[str, Losses]:
    sweep = load_sweep(V3)
    arms = dict.fromkeys(point.arm for point in sweep.points)
    return {arm: losses_of([run for run in sweep.runs.values() if run.point.arm == arm]) for arm in arms}


def held_on_resampled_documents(losses: Losses, number, documents: int, trials: int = 600) -> float:
    """How often the interval over test documents holds the number of all documents of one draw (seed 42),
    with test sets drawn from them.
    """
    one = losses.kept(np.array([draw == 42 for draw in losses.points.draws]))
    truth, rng = number(one).value, np.random.default_rng(documents)
    found: list[Crossed] = []
    for _ in range(trials):
        picked = rng.integers(0, len(one.tokens), documents)
        nats, tokens = one.nats[:, picked], one.tokens[picked]
        ppl = np.exp(nats.sum(axis=1) / tokens.sum())
        points = points_of(one.points.tokens, ppl, one.points.draws, one.points.sizes)
        found.append(number(Losses(points, nats, tokens)))
    assert {one.kind for one in found} == {"documents"}
    return share_that_holds([one.interval for one in found], truth)


def at_800(losses: Losses) -> Crossed:
    return log_ppl_at(losses, 800)


@pytest.mark.parametrize("other", quick_first(["no-context", "random-context", "kneser-ney"]))
def test_on_resampled_kept_documents_the_interval_of_a_paired_difference_holds(other):
    lines = kept_lines()
    change = paired_losses(lines["cvfp"], lines[other])
    for number in (at_800, exponent):
        assert 0.91 <= held_on_resampled_documents(change, number, 100) <= 0.98


@pytest.mark.parametrize("arm", quick_first(["cvfp", "no-context", "random-context", "kneser-ney"]))
def test_on_resampled_kept_documents_the_interval_of_an_exponent_holds(arm):
    assert 0.92 <= held_on_resampled_documents(kept_lines()[arm], exponent, 100) <= 0.98


def test_every_arm_of_the_kept_sweep_is_among_those_asked_for():
    assert set(kept_lines()) == {"cvfp", "no-context", "random-context", "kneser-ney"}


def test_the_interval_of_a_perplexity_holds_but_for_one_document_of_eight_percent_of_the_tokens():
    """With it in the population, a test set of 100 that lacks it cannot know of it."""
    cvfp = kept_lines()["cvfp"]
    usual = cvfp.tokens < LONGEST
    without = Losses(cvfp.points, cvfp.nats[:, usual], cvfp.tokens[usual])
    assert usual.sum() == 299
    assert 0.92 <= held_on_resampled_documents(without, at_800, 100) <= 0.97
    assert held_on_resampled_documents(cvfp, at_800, 100) < 0.88
    assert at_800(cvfp).documents.dof < 2
