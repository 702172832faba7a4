"""Claim: figures of merit are what their formulas say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cvfp.metrics.cost import model_cost, phase1_flops, phase2_flops, run_cost
from cvfp.metrics.perplexity import bits_per_byte, mean_nats, perplexity, perplexity_of
from cvfp.records.config import ModelConfig, RunConfig
from cvfp.records.errors import CvfpError

NATS = st.lists(st.floats(0, 20), min_size=1, max_size=50)


def test_perplexity_by_hand():
    assert perplexity(np.array([math.log(2), math.log(8)])) == pytest.approx(4.0)
    assert perplexity(np.full(7, math.log(50_257), np.float32)) == pytest.approx(50_257, rel=1e-6)


def test_a_loss_beyond_a_float_has_nats_and_no_perplexity():
    assert perplexity_of(699.0) == math.exp(699.0) and perplexity_of(700.0) is None
    assert mean_nats(np.array([1e30, 3e30])) == 2e30
    with pytest.raises(CvfpError, match="812 nats per token: it has no perplexity"):
        perplexity(np.array([812.0]))
    for bad in (math.nan, math.inf):
        with pytest.raises(CvfpError, match="it cannot be scored"):
            mean_nats(np.array([1.0, bad]))


def test_bits_per_byte_by_hand():
    """Three tokens of 1, 2 and 3 bits over 4 bytes: 6 / 4."""
    assert bits_per_byte(np.log([2.0, 4.0, 8.0]), 4) == pytest.approx(1.5)


@given(nll=NATS)
def test_a_uniform_guess_over_ppl_tokens_costs_the_same(nll: list[float]):
    losses = np.array(nll)
    assert math.log(perplexity(losses)) == pytest.approx(losses.mean(), abs=1e-12)
    assert bits_per_byte(losses, 1) * math.log(2) == pytest.approx(losses.sum(), abs=1e-9)


def test_long_float32_losses_are_summed_in_float64():
    nll = np.full(3_000_000, 0.1, np.float32)
    assert math.log(perplexity(nll)) == pytest.approx(float(np.float32(0.1)), rel=1e-9)


def test_flops_by_hand():
    """d_c 10, d_e 4, n 1: 140 context weights, 14 * 4 token weights, 9 * 4 head weights."""
    cost = model_cost(ModelConfig(context_dim=10, embed_dim=4), vocab_size=9, output_bias=True)
    assert (cost.context_madds, cost.token_madds, cost.head_madds) == (140, 56, 36)
    assert phase1_flops(cost, tokens=100, steps=39) == 6 * 140 * 100 * 39
    assert phase2_flops(cost, 1000, embedding_trained=False) == 1000 * (6 * 56 + 4 * 36)
    assert phase2_flops(cost, 1000, embedding_trained=True) == 1000 * 6 * (56 + 36)


def test_expected_flops_are_those_of_running_to_the_caps():
    settings = {
        "model.context_dim": 10,
        "model.embed_dim": 4,
        "phase1.max_iterations": 40,
        "phase2.epochs": 3,
    }
    by_arm = {
        arm: run_cost(RunConfig.from_settings(settings | {"arm": arm}), 9, tokens=100)
        for arm in ("cvfp", "random-context", "no-context", "kneser-ney", "unigram")
    }
    assert by_arm["cvfp"].flops == 6 * 140 * 100 * 39 + 300 * 6 * (56 + 36)
    assert by_arm["random-context"].flops == 300 * 6 * (56 + 36)
    assert by_arm["no-context"].flops == 300 * 6 * (16 + 36)
    assert by_arm["cvfp"].scored_madds == 140 + 56 + 36
    assert by_arm["kneser-ney"] is by_arm["unigram"] is None
