"""Claim: phase 1 is the iteration of the specification, written there in one formula."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from model_helpers import draw_tokens, make_model, real_text
from store_helpers import ALL_NEAR, LAYOUTS, lay_out
from torch import Tensor
from torch.testing import assert_close

from cvfp.models.cells import ContextBlock
from cvfp.models.cvfp import CVFPModel
from cvfp.records.config import derived_seed
from cvfp.records.training_config import Phase1Config
from cvfp.training import phase1
from cvfp.training.contexts import slice_bounds, slice_groups
from cvfp.training.events import Event
from cvfp.training.phase1 import Phase1Result, learn_contexts, one_step_segments
from cvfp.training.stepper import Stepper

SEED = 7
SLICES = [
    (60, 20, [20, 20, 20]),
    (50, 20, [20, 20, 10]),
    (42, 20, [20, 20, 2]),
    (41, 20, [20, 21]),
    (21, 20, [21]),
]
"""(tokens, slice length, rows of each slice); a last slice of 1 row joins the one before."""
IDS = ["full", "short-last", "two-rows-last", "one-row-joins", "one-slice"]


def settings_of(iterations: int = 4, slice_length: int = 20, **changes) -> Phase1Config:
    fixed = {"max_iterations": iterations, "min_iterations": iterations, "slice_length": slice_length}
    fixed["precision"] = "float32"
    return Phase1Config(**(fixed | changes))


def features_of(model: CVFPModel, tokens: Tensor) -> Tensor:
    return model.context_features(tokens, torch.arange(len(tokens)))


def block_by_hand(block: ContextBlock, c: Tensor, f: Tensor) -> Tensor:
    for layer in block.layers:
        hidden = torch.cat([c, f], dim=1) @ layer.linear.weight.T + layer.linear.bias
        total = c + torch.relu(hidden)
        centred = total - total.mean(dim=1, keepdim=True)
        scaled = centred / torch.sqrt(centred.square().mean(dim=1, keepdim=True) + 1e-5)
        c = scaled * layer.norm.weight + layer.norm.bias
    return c


def normal_by_hand(model_dtype: torch.dtype, rows: int, width: int, *purpose: str | int) -> Tensor:
    generator = torch.Generator().manual_seed(derived_seed(SEED, *purpose))
    return torch.randn(rows, width, generator=generator, dtype=model_dtype)


def start_by_hand(model: CVFPModel, rows: list[int]) -> Tensor:
    """Drawn slice by slice."""
    dtype, width = model.embedding.dtype, model.context_dim
    return 0.01 * torch.cat(
        [normal_by_hand(dtype, count, width, "contexts", index) for index, count in enumerate(rows)]
    )


def inputs_by_hand(old: Tensor, rows: list[int], noise: float, step: int) -> Tensor:
    """C^{k-1} one position earlier, the zero vector at position 0, and noise drawn per slice."""
    inputs = torch.zeros_like(old)
    inputs[1:] = old[:-1]
    if noise:
        first = 0
        for index, count in enumerate(rows):
            drawn = normal_by_hand(old.dtype, count, old.shape[1], "noise", step, index)
            inputs[first : first + count] += noise * drawn
            first += count
    return inputs


def loss_by_hand(new: Tensor, old: Tensor, rows: list[int], w: float) -> Tensor:
    """Mean over slices of (1-w) * mean((C^k - C^{k-1})^2) + w * (-||C^k_s - mean||_F / |s|)."""
    losses, first = [], 0
    for count in rows:
        new_s, old_s = new[first : first + count], old[first : first + count]
        convergence = ((new_s - old_s) ** 2).sum() / new_s.numel()
        dispersion = -((new_s - new_s.mean(dim=0)) ** 2).sum().sqrt() / count
        losses.append((1 - w) * convergence + w * dispersion)
        first += count
    return sum(losses) / len(losses)


def phase1_by_hand(
    model: CVFPModel, tokens: Tensor, rows: list[int], config: Phase1Config, steps: int
) -> Tensor:
    block, f = model.context_block, features_of(model, tokens)
    optimizer = torch.optim.Adam(block.parameters(), lr=config.lr, betas=(0.9, 0.999), eps=1e-8)
    old = start_by_hand(model, rows)
    for step in range(1, steps + 1):
        new = block_by_hand(block, inputs_by_hand(old, rows, config.context_noise, step), f)
        optimizer.zero_grad()
        loss_by_hand(new, old, rows, config.dist_reg_weight).backward()
        torch.nn.utils.clip_grad_norm_(block.parameters(), 1.0)
        optimizer.step()
        old = new.detach()
    return old


@pytest.mark.parametrize(("num_tokens", "length", "rows"), SLICES, ids=IDS)
def test_slices_are_consecutive_and_a_single_last_row_joins_the_one_before(num_tokens, length, rows):
    bounds = slice_bounds(num_tokens, length)
    assert [last - first for first, last in bounds] == rows
    assert (bounds[0][0], bounds[-1][1]) == (0, num_tokens)


@given(num_tokens=st.integers(2, 500), length=st.integers(2, 60))
def test_any_slices_cover_the_stream_and_hold_two_rows_or_more(num_tokens: int, length: int):
    bounds = slice_bounds(num_tokens, length)
    assert all(before[1] == after[0] for before, after in pairwise(bounds))
    assert (bounds[0][0], bounds[-1][1]) == (0, num_tokens)
    assert all(last - first == length for first, last in bounds[:-1])
    assert 2 <= bounds[-1][1] - bounds[-1][0] <= length + 1


@pytest.mark.parametrize(("num_tokens", "length", "rows"), SLICES, ids=IDS)
@pytest.mark.parametrize("at_once", [0, 40, 55, 1000])
def test_groups_hold_consecutive_slices_of_one_length(num_tokens, length, rows, at_once):
    bounds = slice_bounds(num_tokens, length)
    groups = slice_groups(bounds, at_once)
    assert [one for group in groups for one in group] == bounds
    for group in groups:
        lengths = {last - first for first, last in group}
        assert len(lengths) == 1
        assert len(group) == 1 or len(group) * lengths.pop() <= at_once


@pytest.mark.parametrize("w", [0.0, 0.9, 1.0])
@pytest.mark.parametrize("noise", [0.0, 0.1])
@pytest.mark.parametrize("at_once", [0, 40, 1000])
@pytest.mark.parametrize(("num_tokens", "length", "rows"), SLICES, ids=IDS)
def test_phase1_in_slices_equals_the_formula(
    num_tokens: int, length: int, rows: list, at_once: int, noise: float, w: float, monkeypatch
):
    monkeypatch.setitem(phase1.ROWS_AT_ONCE, "cpu", at_once)
    model, tokens = make_model(2, 2, context_dim=8, embed_dim=6, dtype=torch.float64), draw_tokens(num_tokens)
    by_hand, before = copy.deepcopy(model), copy.deepcopy(model)
    config = settings_of(6, length, dist_reg_weight=w, context_noise=noise)
    result = learn_contexts(model, tokens, config, seed=SEED)
    expected = phase1_by_hand(by_hand, tokens, rows, config, steps=5)
    assert (result.iterations, result.converged) == (6, False)
    assert_close(result.contexts.read(), expected, atol=1e-8, rtol=0)
    for name, parameter in model.context_block.named_parameters():
        assert_close(parameter, by_hand.context_block.get_parameter(name), atol=1e-8, rtol=0)
        assert not torch.equal(parameter, before.context_block.get_parameter(name))
    for name, parameter in model.named_parameters():
        if not name.startswith("context_block"):
            assert torch.equal(parameter, before.get_parameter(name))


@pytest.mark.parametrize("rows_at_once", [0, 50])
@pytest.mark.parametrize("memory", LAYOUTS, ids=str)
def test_where_contexts_lie_decides_no_bit(memory: tuple[int, int], rows_at_once: int, monkeypatch):
    """In the memory of the device, of the host, in a file, or some in each, and in small groups or large."""
    found = []
    monkeypatch.setattr(phase1, "ROWS_AT_ONCE", {"cpu": rows_at_once})
    for near, far in (ALL_NEAR, memory):
        lay_out(monkeypatch, near, far)
        model, events = make_model(2, 2), []
        config = settings_of(6, 20, context_noise=0.1)
        result = learn_contexts(model, draw_tokens(130), config, seed=SEED, listen=events.append)
        assert bool(result.contexts.store.far) == ((near, far) != ALL_NEAR)
        weights = [parameter.detach() for parameter in model.context_block.parameters()]
        found.append((result.contexts.read(), *weights, torch.tensor(events[-1].values["dispersion_loss"])))
    for one, other in zip(*found, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("noise", [0.0, 0.1])
def test_contexts_kept_in_float16_move_a_result_by_less_than_a_thousandth_or_two(noise: float, monkeypatch):
    """Stated bounds: contexts 2e-3 of their size, losses 1e-3, the share of settled positions 2e-3."""
    monkeypatch.setattr(phase1, "usable", lambda precision, device: "tf32")
    tokens, vocabulary = real_text()
    found, losses = [], []
    for most in (phase1.FLOAT32_VALUES, 0):
        monkeypatch.setattr(phase1, "FLOAT32_VALUES", most)
        model, events = make_model(1, 2, vocab_size=vocabulary), []
        config = settings_of(20, 500, context_noise=noise)
        result = learn_contexts(model, tokens[:3000], config, seed=SEED, listen=events.append)
        assert result.contexts.store.dtype == (torch.float32 if most else torch.float16)
        assert result.contexts.read().dtype == torch.float32
        found.append(result.contexts.read())
        losses.append(events[-1].values)
    assert (found[0] - found[1]).norm() < 2e-3 * found[0].norm()
    exact, kept = losses
    assert kept["convergence_loss"] == pytest.approx(exact["convergence_loss"], rel=1e-3)
    assert kept["dispersion_loss"] == pytest.approx(exact["dispersion_loss"], rel=1e-3)
    assert kept["convergence_rate"] == pytest.approx(exact["convergence_rate"], abs=2e-3)


@pytest.mark.parametrize("precision", ["float32", "bf16"])
def test_results_asked_for_in_float32_keep_float32(precision: str, monkeypatch):
    monkeypatch.setattr(phase1, "FLOAT32_VALUES", 100)
    monkeypatch.setattr(phase1, "usable", lambda precision, device: precision)
    for tokens in (4, 5):  # of 24 numbers each
        rows = phase1.contexts_of(make_model(), draw_tokens(tokens), settings_of(precision=precision))
        half = precision == "bf16" and tokens == 5
        assert rows.store.dtype == (torch.float16 if half else torch.float32)


@pytest.mark.parametrize(("num_tokens", "rows"), [(60, [20, 20, 20]), (50, [20, 20, 10]), (41, [20, 21])])
def test_gradient_of_a_sweep_agrees_with_finite_differences(num_tokens: int, rows: list[int]):
    model = make_model(2, 2, context_dim=6, embed_dim=5, dtype=torch.float64)
    tokens, start = draw_tokens(num_tokens), copy.deepcopy(model.context_block)
    config = settings_of(2, dist_reg_weight=0.7, context_noise=0.1, grad_clip=1e9)
    learn_contexts(model, tokens, config, seed=SEED)
    old, f = start_by_hand(model, rows), features_of(model, tokens)
    inputs = inputs_by_hand(old, rows, 0.1, step=1)

    def loss() -> float:
        return float(loss_by_hand(block_by_hand(start, inputs, f), old, rows, 0.7))

    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter, trained in zip(start.parameters(), model.context_block.parameters(), strict=True):
            direction = torch.randn(parameter.shape, dtype=torch.float64, generator=generator)
            parameter += 1e-6 * direction
            above = loss()
            parameter -= 2e-6 * direction
            below = loss()
            parameter += 1e-6 * direction
            expected = float((trained.grad * direction).sum())
            assert (above - below) / 2e-6 == pytest.approx(expected, rel=1e-5, abs=1e-8)


@pytest.mark.parametrize("num_tokens", [21, 60, 400])
def test_every_iteration_but_the_first_is_one_optimiser_step(
    num_tokens: int, monkeypatch: pytest.MonkeyPatch
):
    steps, plain_step = [], Stepper._apply

    def counted(stepper):
        steps.append(1)
        return plain_step(stepper)

    monkeypatch.setattr(Stepper, "_apply", counted)
    events: list[Event] = []
    result = learn_contexts(
        make_model(), draw_tokens(num_tokens), settings_of(9), seed=SEED, listen=events.append
    )
    assert (len(steps), result.iterations) == (8, 9)
    assert [(event.phase, event.step, event.total) for event in events] == [
        ("phase 1", k, 9) for k in range(2, 10)
    ]


def run(num_tokens: int = 60, seed: int = SEED, **changes) -> tuple[CVFPModel, Phase1Result]:
    model = make_model()
    return model, learn_contexts(
        model, draw_tokens(num_tokens), Phase1Config(slice_length=20, **changes), seed=seed
    )


def test_stops_at_the_least_iterations_when_all_positions_stand_still():
    _, result = run(convergence_threshold=1e9, max_iterations=40)
    assert (result.iterations, result.converged, result.convergence_rate) == (5, True, 1.0)


def test_converging_at_the_cap_counts_as_converged():
    _, result = run(convergence_threshold=1e9, max_iterations=5)
    assert (result.iterations, result.converged) == (5, True)


@pytest.mark.parametrize("cap", [2, 3, 4, 12])
def test_a_run_that_ends_at_its_cap_has_not_converged(cap: int):
    threshold = 1e9 if cap < 5 else 1e-12
    _, result = run(convergence_threshold=threshold, max_iterations=cap)
    assert (result.iterations, result.converged) == (cap, False)


def test_convergence_rate_is_the_share_of_positions_that_moved_less_than_the_threshold():
    before, after = run(max_iterations=4)[1], run(max_iterations=5, convergence_threshold=0.8)[1]
    change = (after.contexts.read() - before.contexts.read()).square().mean(dim=1)
    share = float((change < 0.8).float().mean())
    assert 0 < share < 1
    assert after.convergence_rate == pytest.approx(share)


def test_an_explicit_zero_is_honoured():
    """A rate of 0.0 stops at once; weight 0.0 and noise 0.0 differ from the defaults 0.9 and 0.1."""
    assert run(convergence_rate=0.0, convergence_threshold=1e-12)[1].iterations == 5
    weights = {
        w: run(dist_reg_weight=w, max_iterations=4)[0].context_block.layers[0].linear.weight
        for w in (0.0, 0.9)
    }
    assert (weights[0.0] - weights[0.9]).abs().max() > 1e-4
    quiet, noisy = (run(context_noise=noise, max_iterations=4)[1].contexts.read() for noise in (0.0, 0.1))
    assert torch.equal(quiet, run(max_iterations=4)[1].contexts.read())
    assert (quiet - noisy).abs().max() > 1e-3


@pytest.fixture
def block_inputs(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Tensor]]:
    calls, forward = [], ContextBlock.forward

    def watched(block: ContextBlock, c: Tensor, f: Tensor) -> Tensor:
        calls.append(c.detach().clone())
        return forward(block, c, f)

    monkeypatch.setattr(ContextBlock, "forward", watched)
    return calls


def test_noise_of_a_slice_does_not_depend_on_the_other_slices(block_inputs: list[Tensor]):
    noises = {}
    for num_tokens in (40, 60, 100):
        block_inputs.clear()
        run(num_tokens, context_noise=0.5, max_iterations=2)
        rows = [len(inputs) for inputs in block_inputs]
        quiet = inputs_by_hand(start_by_hand(make_model(), rows), rows, noise=0.0, step=1)
        noises[num_tokens] = torch.cat(block_inputs) - quiet
    assert_close(noises[60][:40], noises[40], atol=1e-6, rtol=0)
    assert_close(noises[100][:60], noises[60], atol=1e-6, rtol=0)
    assert float(noises[100].std()) == pytest.approx(0.5, rel=0.05)
    assert (noises[100][:20] - noises[100][20:40]).abs().max() > 0.5


def test_noise_changes_from_sweep_to_sweep(block_inputs: list[Tensor]):
    run(20, context_noise=0.5, max_iterations=3)
    first, second = block_inputs[0][0], block_inputs[1][0]
    assert (first - second).abs().max() > 0.1


def test_same_seed_same_bits_and_another_seed_other_weights():
    first, again, other = (run(seed=seed, context_noise=0.1, max_iterations=6) for seed in (1, 1, 2))
    for name, parameter in first[0].context_block.named_parameters():
        assert torch.equal(parameter, again[0].context_block.get_parameter(name))
    assert torch.equal(first[1].contexts.read(), again[1].contexts.read())
    weights = [model.context_block.layers[0].linear.weight for model in (first[0], other[0])]
    assert (weights[0] - weights[1]).abs().max() > 1e-4


def test_phase1_leaves_the_global_generator_alone():
    torch.manual_seed(3)
    before = torch.get_rng_state()
    run(context_noise=0.1, max_iterations=3)
    assert torch.equal(torch.get_rng_state(), before)


def test_one_step_contexts_are_one_more_forward_of_the_last_sweep():
    model = make_model(2, 2, dtype=torch.float64)
    tokens = draw_tokens(50)
    result = learn_contexts(model, tokens, settings_of(4), seed=SEED)
    found = torch.cat([part for _, part in one_step_segments(model, tokens, result.contexts)])
    inputs = inputs_by_hand(result.contexts.read(), [50], noise=0.0, step=0)
    with torch.no_grad():
        expected = block_by_hand(model.context_block, inputs, features_of(model, tokens))
    assert found.shape == (50, 2, 24)
    assert_close(found[:, -1], expected, atol=1e-10, rtol=0)
    assert (found - model.contexts(tokens)).abs().max() > 1e-3


def test_a_step_after_every_few_slices_is_the_definition_on_these_slices():
    """Every step sees the old contexts of its own slices, under weights that earlier steps have moved."""
    rows, size = [20, 20, 20, 20, 10], 2
    config = settings_of(iterations=3, slices_per_step=size)
    model, tokens = make_model(1, 2, context_dim=12, dtype=torch.float64), draw_tokens(sum(rows))
    expected = copy.deepcopy(model)
    block, f, old = expected.context_block, features_of(expected, tokens), start_by_hand(model, rows)
    optimizer = torch.optim.Adam(block.parameters(), lr=config.lr, betas=(0.9, 0.999), eps=1e-8)
    for sweep in (1, 2):
        inputs, following = inputs_by_hand(old, rows, 0.0, sweep), []
        for first in range(0, len(rows), size):
            part, start = rows[first : first + size], sum(rows[:first])
            places = slice(start, start + sum(part))
            new = block_by_hand(block, inputs[places], f[places])
            optimizer.zero_grad()
            loss_by_hand(new, old[places], part, config.dist_reg_weight).backward()
            torch.nn.utils.clip_grad_norm_(block.parameters(), 1.0)
            optimizer.step()
            following.append(new.detach())
        old = torch.cat(following)
    events: list[Event] = []
    found = learn_contexts(model, tokens, config, seed=SEED, listen=events.append)
    assert found.iterations == 3 and [event.step for event in events] == [2, 3]
    assert_close(found.contexts.read(), old, atol=1e-10, rtol=0)
    for one, other in zip(model.context_block.parameters(), block.parameters(), strict=True):
        assert_close(one, other, atol=1e-10, rtol=0)


def test_as_many_slices_per_step_as_there_are_change_nothing():
    tokens, results = draw_tokens(90), []
    for per_step in (None, 5, 99):
        model = make_model(context_dim=12)
        learn_contexts(model, tokens, settings_of(slices_per_step=per_step), seed=SEED)
        results.append(torch.cat([p.detach().flatten() for p in model.context_block.parameters()]))
    assert torch.equal(results[0], results[1]) and torch.equal(results[0], results[2])
