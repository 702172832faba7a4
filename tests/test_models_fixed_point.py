"""Claim: contexts computed in parallel are the contexts of the sequential roll-out."""

from __future__ import annotations

import sys
from functools import lru_cache

import pytest
import torch
from fuzz_helpers import tried
from hypothesis import given
from hypothesis import strategies as st
from model_helpers import draw_tokens, make_model, train_contexts
from torch import Tensor
from torch.testing import assert_close

from cvfp.models import recurrence
from cvfp.models.cells import ContextBlock
from cvfp.models.cvfp import CVFPModel
from cvfp.models.fixed_point import FixedPoint, Tolerance, solve_blocks, solve_tokens

LENGTH = 500
TOLERANCE = {torch.float32: 1e-5, torch.float64: 1e-10}
SHAPES = [(num_layers, n) for num_layers in (1, 2, 3) for n in (1, 2, 3)]


@lru_cache
def block_model(num_layers: int, n: int, trained: bool, dtype: torch.dtype = torch.float32) -> CVFPModel:
    """d_c 16, d_e 32: a width at which the untrained float32 roll-out is itself reproducible (see below)."""
    model = make_model(num_layers, n, context_dim=16, embed_dim=32)
    if trained:
        train_contexts(model, draw_tokens(LENGTH))
    return model.to(dtype).eval()


@torch.no_grad()
def rolled_out(model: CVFPModel, tokens: Tensor, start: Tensor | None = None) -> Tensor:
    features = model.context_features(tokens, torch.arange(len(tokens)))
    return recurrence.roll_out(model.context_block, features, start)


@torch.no_grad()
def solved(model: CVFPModel, tokens: Tensor, solver=solve_blocks, **options) -> FixedPoint:
    features = model.context_features(tokens, torch.arange(len(tokens)))
    start = features.new_zeros(model.context_dim)
    return solver(model.context_block.step, model.context_block.token_parts(features), start, **options)


def follow(step, inputs: Tensor, start: Tensor) -> Tensor:
    """The states of any step function, one position after the other."""
    states, state = [], start[None]
    for z in inputs:
        outputs = step(state, z[None])
        state = outputs[:, -1]
        states.append(outputs[0])
    return torch.stack(states) if states else torch.zeros_like(inputs)


@pytest.mark.parametrize("dtype", TOLERANCE, ids=["float32", "float64"])
@pytest.mark.parametrize("trained", [False, True], ids=["untrained", "trained"])
@pytest.mark.parametrize(("num_layers", "n"), SHAPES)
def test_block_solve_equals_rollout(num_layers: int, n: int, trained: bool, dtype: torch.dtype):
    """Within 1e-5 + 1e-5 |c| in float32, 1e-10 in float64.

    Two float32 roll-outs that differ in nothing but the shape of their matrix products are themselves up to
    1e-5 apart: there is no tighter truth to compare with in float32.
    """
    model, tokens = block_model(num_layers, n, trained, dtype), draw_tokens(LENGTH)
    found = solved(model, tokens, chunk_length=64)
    bound = TOLERANCE[dtype]
    assert_close(found.states, rolled_out(model, tokens), atol=bound, rtol=bound)
    assert found.status == "converged"
    assert len(found.residuals) == found.passes
    assert found.chunks == 8
    if trained:
        assert found.passes < found.chunks


def test_where_float32_is_ill_conditioned_the_solve_errs_as_little_as_the_rollout():
    """Untrained narrow blocks hardly forget, so rounding adds up: the float32 roll-out itself is about 1e-4
    from the float64 one. The block solve has no larger error than that (within a factor of 5)."""
    errors = {"solve": 0.0, "rollout": 0.0}
    for num_layers in (1, 2, 3):
        for seed in range(3):
            model, tokens = make_model(num_layers, seed=seed), draw_tokens(LENGTH)
            found, rolled = solved(model, tokens, chunk_length=32).states, rolled_out(model, tokens)
            truth = rolled_out(model.double(), tokens).float()
            errors["solve"] = max(errors["solve"], float((found - truth).abs().max()))
            errors["rollout"] = max(errors["rollout"], float((rolled - truth).abs().max()))
    assert errors["rollout"] > 1e-5
    assert errors["solve"] < 5 * errors["rollout"]


def test_fast_path_neither_rolls_out_nor_steps_through_single_positions(monkeypatch: pytest.MonkeyPatch):
    model, tokens = block_model(2, 2, True), draw_tokens(4000)
    expected, steps, plain_step = rolled_out(model, tokens), [], ContextBlock.step

    def refuse(*_args, **_options):
        raise AssertionError("the roll-out was called")

    def counted(block: ContextBlock, c: Tensor, z: Tensor) -> Tensor:
        steps.append(len(c))
        return plain_step(block, c, z)

    for module in [m for name, m in sys.modules.items() if name.startswith("cvfp")]:
        if hasattr(module, "roll_out"):
            monkeypatch.setattr(module, "roll_out", refuse)
    monkeypatch.setattr(ContextBlock, "step", counted)
    with pytest.raises(AssertionError, match="roll-out was called"):
        rolled_out(model, tokens)
    assert_close(model.contexts(tokens), expected, atol=1e-5, rtol=1e-5)
    assert 0 < len(steps) < len(tokens) / 10
    assert min(steps) > 10


@pytest.mark.parametrize("chunk_length", [1, 7, 16, 100, 499, 500, 2000])
def test_result_does_not_depend_on_the_chunk_length(chunk_length: int):
    model, tokens = block_model(2, 1, True), draw_tokens(LENGTH)
    found = solved(model, tokens, chunk_length=chunk_length)
    assert_close(found.states, rolled_out(model, tokens), atol=1e-5, rtol=1e-5)
    assert found.status == "converged"


@pytest.mark.parametrize("segment", [1, 37, 250, 499, 500, 10_000])
def test_result_does_not_depend_on_the_segment_length(segment: int):
    model, tokens = block_model(2, 3, True), draw_tokens(LENGTH)
    parts = list(model.context_segments(tokens, segment))
    assert torch.equal(torch.cat([positions for positions, _ in parts]), torch.arange(LENGTH))
    contexts = torch.cat([contexts for _, contexts in parts])
    assert_close(contexts, rolled_out(model, tokens), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("length", [0, 1, 2])
@pytest.mark.parametrize("solver", [solve_blocks, solve_tokens])
def test_shortest_texts_are_solved(length: int, solver):
    model, tokens = block_model(2, 3, False), draw_tokens(length)
    found = solved(model, tokens, solver)
    assert found.status == "converged"
    assert found.states.shape == (length, 2, 16)
    assert_close(found.states, rolled_out(model, tokens), atol=1e-5, rtol=1e-5)
    assert model.contexts(tokens).shape == (length, 2, 16)


def test_solve_starts_from_the_given_state():
    model, tokens = block_model(1, 1, False, torch.float64), draw_tokens(LENGTH)
    start = torch.randn(16, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    positions = torch.arange(LENGTH)
    found = model.solve_contexts(tokens, positions, start).states
    assert_close(found, rolled_out(model, tokens, start), atol=1e-10, rtol=1e-10)
    assert (found - rolled_out(model, tokens)).abs().max() > 1e-3


def test_token_level_jacobi_equals_rollout():
    model, tokens = block_model(2, 2, True, torch.float64), draw_tokens(LENGTH)
    found = solved(model, tokens, solve_tokens)
    assert_close(found.states, rolled_out(model, tokens), atol=1e-10, rtol=1e-10)
    assert (found.status, found.chunks, found.chunk_length) == ("converged", LENGTH, 1)
    assert found.passes < LENGTH


@pytest.mark.parametrize("sweeps", [1, 2, 5, 20])
def test_after_k_sweeps_the_first_k_positions_are_exact(sweeps: int):
    model, tokens = block_model(1, 1, False, torch.float64), draw_tokens(100)
    found, exact = solved(model, tokens, solve_tokens, max_sweeps=sweeps), rolled_out(model, tokens)
    assert_close(found.states[:sweeps], exact[:sweeps], atol=1e-13, rtol=1e-13)
    assert (found.states[sweeps] - exact[sweeps]).abs().max() > 1e-6
    assert (found.status, found.passes) == ("bound", sweeps)


def expanding(c: Tensor, z: Tensor) -> Tensor:
    return (1.2 * c + z[:, 0]).clamp(-1, 1)[:, None]


def chaotic(c: Tensor, z: Tensor) -> Tensor:
    return (3.9 * c * (1 - c))[:, None]


@pytest.mark.parametrize(("step", "scale"), [(expanding, 0.05), (expanding, 1e-9), (chaotic, 1.0)])
def test_a_block_that_never_forgets_is_still_solved_exactly(step, scale: float):
    generator = torch.Generator().manual_seed(3)
    inputs = scale * torch.randn(300, 1, 4, dtype=torch.float64, generator=generator)
    start = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    found = solve_blocks(step, inputs, start, chunk_length=8)
    assert found.status == "converged"
    assert_close(found.states, follow(step, inputs, start), atol=1e-12, rtol=0)


def test_chunks_at_least_double_after_two_passes_until_one_covers_the_text():
    """38 chunks of 8: two passes, then at most 19, 10, 5, 3, 2, 1, whatever rate of forgetting was seen."""
    inputs = torch.zeros(300, 1, 4, dtype=torch.float64)
    start = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    found = solve_blocks(chaotic, inputs, start, chunk_length=8)
    assert found.chunks == 38
    assert found.chunk_length >= 8 * 2 ** (found.passes - 2)
    assert found.passes <= 8
    assert_close(found.states, follow(chaotic, inputs, start), atol=1e-12, rtol=0)


def test_a_block_that_never_forgets_goes_to_one_chunk_at_once():
    """Rotations keep every difference: the rate says that no chunk is long enough."""
    inputs = torch.zeros(4000, 1, 2, dtype=torch.float64)
    turn = torch.tensor([[0.6, -0.8], [0.8, 0.6]], dtype=torch.float64)
    start = torch.tensor([1.0, 0.0], dtype=torch.float64)

    def rotate(c, z):
        return (c @ turn.T + z[:, 0])[:, None]

    found = solve_blocks(rotate, inputs, start, chunk_length=50)
    assert (found.status, found.passes, found.chunks) == ("converged", 3, 80)
    assert_close(found.states, follow(rotate, inputs, start), atol=1e-10, rtol=0)


def test_a_bound_on_the_passes_is_a_status():
    model, tokens = block_model(1, 1, False), draw_tokens(LENGTH)
    found = solved(model, tokens, chunk_length=16, max_passes=2)
    assert (found.status, found.passes) == ("bound", 2)
    assert found.residuals[-1] > 1
    assert (found.states - rolled_out(model, tokens)).abs().max() > 1e-5


def test_a_planted_contraction_is_read():
    generator = torch.Generator().manual_seed(4)
    inputs = torch.randn(2000, 1, 8, dtype=torch.float64, generator=generator)
    found = solve_blocks(
        lambda c, z: (0.9 * c + z[:, 0])[:, None],
        inputs,
        inputs[0, 0],
        Tolerance(1e-6, 0.0),
        chunk_length=250,
    )
    assert found.contraction == pytest.approx(0.9, abs=1e-6)


@tried(60)
@given(
    length=st.integers(0, 90),
    chunk_length=st.integers(1, 40),
    gain=st.floats(0.0, 1.5),
    seed=st.integers(0, 1000),
)
def test_any_gain_length_and_chunk_give_the_states_of_the_recurrence(length, chunk_length, gain, seed):
    generator = torch.Generator().manual_seed(seed)
    inputs = 0.1 * torch.randn(length, 1, 3, dtype=torch.float64, generator=generator)
    start = torch.randn(3, dtype=torch.float64, generator=generator).clamp(-1, 1)

    def step(c: Tensor, z: Tensor) -> Tensor:
        return (gain * c + z[:, 0]).clamp(-1, 1)[:, None]

    found = solve_blocks(step, inputs, start, chunk_length=chunk_length)
    assert found.status == "converged"
    assert_close(found.states, follow(step, inputs, start), atol=1e-9, rtol=0)
