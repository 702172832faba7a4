"""Perplexities, exponents and differences over test documents: planted sums, refits, pairs, kinds."""

import math

import numpy as np
import pytest
from scaling_helpers import run_of

from cvfp.records.errors import InputError
from cvfp.records.results import DocumentScores
from cvfp.scaling.documents import (
    RESAMPLES,
    SEED,
    Crossed,
    Losses,
    crossed,
    exponent,
    law_at,
    log_ppl_at,
    losses_of,
    paired_losses,
    resampled,
)
from cvfp.scaling.draws import Estimate, fit_draws
from cvfp.scaling.local_exponent import top_weights
from cvfp.scaling.power_law import refit_power_laws

SIZES = (50, 100, 200, 400)
DOCUMENTS = 40


def a_line(seeds=(1, 2, 3), alpha: float = -0.3, stream: int = 0, sizes=SIZES) -> Losses:
    rng = np.random.default_rng(stream)
    lengths = np.random.default_rng(99).integers(20, 900, DOCUMENTS)
    difficulty = np.random.default_rng(98).normal(0, 0.2, DOCUMENTS)
    runs = []
    for seed in seeds:
        for size in sizes:
            trained = 1000 * size + seed
            loss = 9 + alpha * math.log(trained) + difficulty + rng.normal(0, 0.02) + rng.normal(0, 0.02, 40)
            runs.append(run_of(size, seed, trained, lengths, lengths * loss))
    return losses_of(runs)


def test_perplexities_and_laws_are_those_of_the_runs():
    losses = a_line()
    points = losses.points
    law = fit_draws(points.tokens, points.ppl, points.draws)
    assert exponent(losses).value == pytest.approx(law.alpha, abs=1e-12)
    assert exponent(losses).draws.interval == pytest.approx(law.alpha_ci95, abs=1e-12)
    assert law_at(losses, 1e7).value == pytest.approx(math.log(law.predict(1e7)), abs=1e-12)
    at_400 = points.sizes == 400
    assert log_ppl_at(losses, 400).value == pytest.approx(points.log_ppl[at_400].mean(), abs=1e-12)


def test_refitting_the_laws_to_resampled_documents_is_resampling_one_sum_per_draw():
    losses = a_line(seeds=(1, 2))
    n, units = len(losses.tokens), (slice(0, 4), slice(4, 8))
    picked = np.random.default_rng(SEED).integers(0, n, (RESAMPLES, n))
    ppl = np.exp(losses.nats[:, picked].sum(axis=2) / losses.tokens[picked].sum(axis=1)).T
    trained, x = losses.points.tokens, losses.points.log_tokens
    alphas = np.stack([refit_power_laws(trained[unit], ppl[:, unit])[0] for unit in units], axis=1)
    sums = np.array([top_weights(x[unit], 1) @ losses.nats[unit] for unit in units])
    assert resampled(sums, losses.tokens) == pytest.approx(alphas, abs=1e-10)
    error = alphas.mean(axis=1).std(ddof=1) * math.sqrt(n / (n - 1))
    assert exponent(losses).documents.error == pytest.approx(error, rel=1e-9)


def test_the_bootstrap_gives_the_standard_error_of_a_ratio():
    """sqrt(n / (n - 1) * sum u^2) / sum tokens with u = values - q * tokens, to first order."""
    losses = a_line(seeds=(1,))
    values, tokens = losses.nats[3:], losses.tokens
    found = crossed(values, tokens).documents
    parts = values[0] - found.value * tokens
    n = len(tokens)
    assert found.error == pytest.approx(math.sqrt(n / (n - 1) * (parts @ parts)) / tokens.sum(), rel=0.05)
    assert found.dof == pytest.approx((parts @ parts) ** 2 / np.sum(parts**4))


def test_the_variances_over_draws_and_over_documents_add_up():
    found = exponent(a_line())
    variances = np.array([found.draws.error**2, found.documents.error**2])
    dof = variances.sum() ** 2 / (variances[0] ** 2 / 2 + variances[1] ** 2 / found.documents.dof)
    assert found.total.error == pytest.approx(math.sqrt(variances.sum()))
    assert found.total.dof == pytest.approx(dof)
    assert (found.kind, found.count, found.draws.kind) == ("draws x documents", 3, "draws")


@pytest.mark.parametrize("draws_error", [0.0, 0.02, 0.05, 0.2, 1.0])
def test_a_claim_about_more_is_never_more_certain(draws_error):
    found = Crossed(Estimate(1.0, draws_error, 2, "draws"), Estimate(1.0, 0.05, 30, "documents"))
    low, high = found.interval
    for one in (found.draws, found.documents, found.total):
        assert low <= one.interval[0] and one.interval[1] <= high


def test_one_draw_has_an_interval_over_test_documents_only_and_no_verdict():
    change = log_ppl_at(paired_losses(a_line((1,)), a_line((1,), alpha=-0.2)), 400).percent_change
    assert change.interval[0] > 0
    assert (change.kind, change.pairs, change.distinguishable) == ("documents", 1, None)


def test_one_document_that_makes_the_error_leaves_one_degree_of_freedom():
    tokens = np.full(100, 50)
    values = np.full((1, 100), 250.0)
    values[0, 7] = 400.0
    assert 1 <= crossed(values, tokens).documents.dof < 1.1
    assert crossed(np.full((1, 100), 250.0), tokens).documents.dof == 100


def test_what_both_lines_share_drops_out_of_their_difference():
    first, steeper = a_line(stream=1), a_line(alpha=-0.35, stream=1)
    found = exponent(paired_losses(first, steeper))
    assert found.value == pytest.approx(-0.05, abs=1e-12)
    assert found.interval == pytest.approx((-0.05, -0.05), abs=1e-9)


def test_a_change_of_ppl_is_that_of_the_paired_runs_in_percent():
    first, second = a_line(stream=1), a_line((2, 3, 4), stream=2)
    change = log_ppl_at(paired_losses(first, second), 400).percent_change
    ratios = second.points.ppl[[3, 7]] / first.points.ppl[[7, 11]]
    assert change.value == pytest.approx(100 * math.expm1(np.log(ratios).mean()))
    assert (change.pairs, change.kind) == (2, "draws x documents")


def test_a_seed_that_changes_nothing_is_no_draw():
    lengths = np.full(5, 10)
    nats = np.array([40.0, 50.0, 45.0, 60.0, 52.0])
    same = losses_of([run_of(50, seed, 7000, lengths, nats) for seed in (1, 2)])
    other = losses_of([run_of(50, seed, 7000, lengths, nats * seed) for seed in (1, 2)])
    assert log_ppl_at(same, 50).kind == "documents"
    assert log_ppl_at(paired_losses(same, other), 50).count == 2


def test_documents_without_a_predicted_token_are_left_out():
    losses = losses_of([run_of(50, 1, 7000, (0, 5, 5), (0.0, 20.0, 25.0))])
    assert losses.tokens.tolist() == [5, 5] and losses.nats.tolist() == [[20.0, 25.0]]


def test_what_cannot_be_paired_or_resampled_is_said():
    lengths, nats = (5, 5), (20.0, 25.0)
    run = run_of(50, 1, 7000, lengths, nats)
    longer = run_of(100, 1, 14000, (5, 6), nats)
    unscored = run.model_copy(update={"test_documents": None})
    alone = run.model_copy(update={"test_documents": DocumentScores(tokens=(5,), nats=(20.0,))})
    for runs, words in (
        ([], "at least one run"),
        ([unscored], "not recorded"),
        ([run, longer], "other test documents"),
        ([run, run], "is there twice"),
        ([alone], "at least two of them"),
    ):
        with pytest.raises(InputError, match=words):
            losses_of(runs)
    with pytest.raises(InputError, match="scored on different ones"):
        paired_losses(losses_of([run]), losses_of([longer]))
    with pytest.raises(InputError, match="no runs of equal size"):
        paired_losses(losses_of([run]), losses_of([run_of(50, 1, 7001, lengths, nats)]))
    with pytest.raises(InputError, match="no run with 100"):
        log_ppl_at(losses_of([run]), 100)
    with pytest.raises(InputError, match="two distinct sizes, got 1"):
        exponent(losses_of([run]))
