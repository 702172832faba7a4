"""Claim: the health checks see what was planted: an identity, a constant, a decay, an expansion."""

from __future__ import annotations

import pytest
import torch
from model_helpers import draw_tokens, make_model, real_text, train_contexts
from torch import Tensor, nn

from cvfp.metrics.context_health import (
    identity_cosine,
    local_lipschitz,
    memory_length,
    spread,
    trial_convergence,
)
from cvfp.models.cvfp import CVFPModel
from cvfp.training.diagnosis import diagnose


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def nothing(rows: int) -> Tensor:
    return torch.zeros(rows, 1, dtype=torch.float64)


def test_identity_cosine_of_the_identity_is_one_of_its_mirror_minus_one():
    states = drawn(50, 8)
    assert identity_cosine(lambda c, z: 3 * c, states, nothing(50)) == pytest.approx(1.0)
    assert identity_cosine(lambda c, z: -c, states, nothing(50)) == pytest.approx(-1.0)
    assert abs(identity_cosine(lambda c, z: drawn(50, 8, seed=1), states, nothing(50))) < 0.2


def test_spread_by_hand():
    norm, deviation = spread(torch.tensor([[3.0, 0.0], [0.0, 4.0], [3.0, 4.0], [0.0, 0.0]]))
    assert norm == pytest.approx((3 + 4 + 5 + 0) / 4)
    assert deviation == pytest.approx(2.5)
    assert spread(torch.ones(5, 4))[1] == 0


@pytest.mark.parametrize("largest", [0.5, 0.95, 1.7])
def test_lipschitz_of_a_linear_map_is_its_spectral_norm(largest: float):
    left, right = (torch.linalg.qr(drawn(8, 8, seed=seed))[0] for seed in (1, 2))
    weights = left @ torch.diag(largest * 0.7 ** torch.arange(8.0, dtype=torch.float64)) @ right.T
    found = local_lipschitz(lambda c, z: c @ weights.T + z, drawn(20, 8), nothing(20))
    assert found == pytest.approx(largest, rel=1e-3)


def test_lipschitz_is_the_largest_over_the_states():
    """c^2 / 2 has the Jacobian diag(c)."""
    states = drawn(20, 8)
    states[7, 2] = 5.0
    assert local_lipschitz(lambda c, z: c**2 / 2, states, nothing(20)) == pytest.approx(5.0, rel=1e-3)


@pytest.mark.parametrize(("rate", "threshold", "expected"), [(0.5, 1e-3, 10), (0.9, 1e-3, 66), (0.9, 0.5, 7)])
def test_memory_length_of_a_planted_decay(rate: float, threshold: float, expected: int):
    """A start of size 1 is below the threshold after the first k with rate^k < threshold."""
    inputs = drawn(3, 100, 4)
    found = memory_length(lambda c, z: rate * c + z, torch.ones(3, 4).double(), inputs, threshold)
    assert found == expected
    assert rate**expected < threshold <= rate ** (expected - 1)


def test_memory_that_outlasts_the_inputs_is_none():
    assert memory_length(lambda c, z: 0.9 * c + z, torch.ones(3, 4).double(), drawn(3, 30, 4)) is None
    assert memory_length(lambda c, z: 1.1 * c + z, torch.ones(3, 4).double(), drawn(3, 30, 4)) is None


def test_the_slowest_place_counts():
    start = torch.tensor([[1.0], [1000.0]], dtype=torch.float64)
    assert memory_length(lambda c, z: c / 2 + z, start, torch.zeros(2, 50, 1).double(), 0.1) == 14


@pytest.mark.parametrize(
    ("end_of", "trend"),
    [
        (lambda s: 0 * s, "converged"),
        (lambda s: 0.5 * s + 1, "converging"),
        (lambda s: 1.5 * s + 1, "diverging"),
        (lambda s: torch.where(s.abs() < 2, 3 * s + 1, 0.1 * s), "unstable"),
    ],
)
def test_trend_of_repeated_rollouts(end_of, trend: str):
    """Roll-outs of one position whose state follows a map of the state they start from."""
    one = torch.ones(1, dtype=torch.float64)
    found, errors = trial_convergence(lambda s: end_of(s)[None], end_of(one)[None])
    assert found == trend
    assert len(errors) == 4


def trained_model() -> tuple[CVFPModel, Tensor]:
    tokens, vocab_size = real_text()
    model = make_model(1, 2, vocab_size=vocab_size)
    train_contexts(model, tokens[:2000], iterations=30, slice_length=2000)
    return model, tokens[2000:4000]


def test_a_trained_block_is_healthy():
    model, tokens = trained_model()
    found = diagnose(model, tokens)
    assert found.failures == ()
    assert found.trial_trend == "converged"
    assert found.solve_status == "converged"
    assert found.solve_passes < found.solve_chunks
    assert found.lipschitz > 0
    assert found.memory_length is not None
    assert found == diagnose(model, tokens)


def test_an_identity_block_is_named():
    model = make_model()
    nn.init.zeros_(model.context_block.layers[0].linear.weight)
    nn.init.zeros_(model.context_block.layers[0].linear.bias)
    assert "identity mapping" in diagnose(model, draw_tokens(600)).failures[0]


def test_a_constant_block_is_named():
    model = make_model()
    nn.init.zeros_(model.context_block.layers[0].norm.weight)
    nn.init.ones_(model.context_block.layers[0].norm.bias)
    found = diagnose(model, draw_tokens(2048))
    assert found.mean_deviation < 1e-6
    assert any("degenerate" in failure for failure in found.failures)


def test_an_expanding_block_is_named():
    """Large recurrent weights and deaf to tokens: chaos, so a wrong start is not forgotten."""
    model = make_model(context_dim=32)
    weight = model.context_block.layers[0].linear.weight
    with torch.no_grad():
        weight[:, :32] = 3 * drawn(32, 32)
        weight[:, 32:] *= 0.1
    found = diagnose(model, draw_tokens(2048))
    assert found.lipschitz > 1
    assert found.memory_length is None
    assert any("expanding" in failure for failure in found.failures)
    assert found.solve_status == "converged"
