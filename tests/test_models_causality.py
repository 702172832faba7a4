"""Claim: changing token t changes nothing before t."""

from __future__ import annotations

import pytest
import torch
from model_helpers import VOCABULARY, draw_tokens, make_model, train_contexts
from torch import Tensor
from torch.testing import assert_close

from cvfp.models.cells import ContextBlock
from cvfp.models.cvfp import CVFPModel
from cvfp.records.training_config import Phase1Config
from cvfp.training.contexts import SlicedContexts
from cvfp.training.evaluation import score
from cvfp.training.phase1 import learn_contexts, one_step_segments

LENGTH = 300
CHANGED = [0, 1, 2, 127, 128, 129, 255, LENGTH - 1]
"""Both ends of the text, and both sides of a chunk's border."""
CLOSE = {"atol": 1e-10, "rtol": 1e-10}


def with_another_token(tokens: Tensor, position: int) -> Tensor:
    changed = tokens.clone()
    changed[position] = (changed[position] + 1) % VOCABULARY
    return changed


def float64_model(n: int = 2, trained: bool = False) -> CVFPModel:
    model = make_model(2, n, dtype=torch.float64, output_bias=True)
    if trained:
        train_contexts(model, draw_tokens(LENGTH))
    return model.eval()


@pytest.mark.parametrize("trained", [False, True], ids=["untrained", "trained"])
@pytest.mark.parametrize("position", CHANGED)
def test_contexts_before_a_changed_token_stay(position: int, trained: bool):
    model, tokens = float64_model(trained=trained), draw_tokens(LENGTH)
    before, after = model.contexts(tokens), model.contexts(with_another_token(tokens, position))
    assert_close(after[:position], before[:position], **CLOSE)
    assert (after[position] - before[position]).abs().max() > 1e-3


@torch.no_grad()
def all_logits(model: CVFPModel, tokens: Tensor) -> Tensor:
    return model.logits(model.hidden(model.contexts(tokens), tokens, torch.arange(len(tokens))))


@pytest.mark.parametrize("use_context", [True, False])
@pytest.mark.parametrize("position", CHANGED)
def test_predictions_made_before_a_changed_token_stay(position: int, use_context: bool):
    tokens = draw_tokens(LENGTH)
    model = make_model(2, 3, dtype=torch.float64, use_context=use_context)
    before, after = all_logits(model, tokens), all_logits(model, with_another_token(tokens, position))
    assert_close(after[:position], before[:position], **CLOSE)
    assert (after[position] - before[position]).abs().max() > 1e-3


def test_scores_of_earlier_tokens_stay():
    """`nll[i]` is that of token i + 1: changing token t leaves those of tokens 1..t-1."""
    model, tokens, position = float64_model(), draw_tokens(LENGTH), 200
    before = score(model, tokens).nll
    after = score(model, with_another_token(tokens, position)).nll
    assert abs(after[: position - 1] - before[: position - 1]).max() < 1e-10
    assert abs(after[position - 1] - before[position - 1]) > 1e-3


def test_without_context_only_the_latest_n_tokens_matter():
    model, tokens, position = make_model(1, 2, use_context=False), draw_tokens(LENGTH), 100
    before, after = all_logits(model, tokens), all_logits(model, with_another_token(tokens, position))
    touched = (after - before).abs().amax(dim=1) > 0
    assert torch.equal(touched.nonzero()[:, 0], torch.tensor([position, position + 1]))


@pytest.fixture
def sweeps(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Tensor, Tensor, Tensor]]:
    """(inputs, features, outputs) of every call of the context block."""
    calls, forward = [], ContextBlock.forward

    def watched(block: ContextBlock, c: Tensor, f: Tensor) -> Tensor:
        outputs = forward(block, c, f)
        calls.append((c.detach().clone(), f.detach().clone(), outputs.detach()[:, -1].clone()))
        return outputs

    monkeypatch.setattr(ContextBlock, "forward", watched)
    return calls


def phase1_sweeps(sweeps: list, tokens: Tensor, iterations: int = 3) -> list[list[Tensor]]:
    """[inputs, features, outputs] over the whole text, per sweep, of a phase 1 in slices of 100."""
    sweeps.clear()
    config = Phase1Config(max_iterations=iterations, min_iterations=iterations, slice_length=100)
    learn_contexts(make_model(1, 2), tokens, config, seed=0)
    slices = len(sweeps) // (iterations - 1)
    by_sweep = [sweeps[first : first + slices] for first in range(0, len(sweeps), slices)]
    return [[torch.cat(parts) for parts in zip(*calls, strict=True)] for calls in by_sweep]


def test_position_0_of_every_sweep_gets_the_zero_vector(sweeps: list):
    for inputs, _, outputs in phase1_sweeps(sweeps, draw_tokens(LENGTH)):
        assert torch.equal(inputs[0], torch.zeros(24))
        assert (outputs[-1] != 0).all()


def test_inputs_of_a_sweep_are_the_outputs_of_the_one_before_one_position_earlier(sweeps: list):
    first, second, third = phase1_sweeps(sweeps, draw_tokens(LENGTH), iterations=4)
    for (_, _, outputs), (inputs, _, _) in [(first, second), (second, third)]:
        assert torch.equal(inputs[1:], outputs[:-1])


@pytest.mark.parametrize("position", [0, 1, 99, 100, 101, LENGTH - 1])
def test_phase1_inputs_before_a_changed_token_stay(sweeps: list, position: int):
    """The inputs of the first two sweeps do not depend on trained weights, so they show causality alone."""
    tokens = draw_tokens(LENGTH)
    before = phase1_sweeps(sweeps, tokens)
    after = phase1_sweeps(sweeps, with_another_token(tokens, position))
    for (inputs, features, _), (new_inputs, new_features, _) in zip(before, after, strict=True):
        assert_close(new_inputs[: position + 1], inputs[: position + 1], atol=1e-6, rtol=0)
        assert torch.equal(new_features[:position], features[:position])
    if position + 1 < LENGTH:
        assert (after[1][0][position + 1] - before[1][0][position + 1]).abs().max() > 1e-3


def test_one_step_contexts_give_position_0_the_zero_vector(sweeps: list):
    model, tokens = make_model(1, 2), draw_tokens(LENGTH)
    last = torch.randn(LENGTH, 24, generator=torch.Generator().manual_seed(0))
    store = SlicedContexts(LENGTH, 100, None, 24, torch.float32, torch.device("cpu"))
    store.write(0, last)
    list(one_step_segments(model, tokens, store))
    inputs = torch.cat([call[0] for call in sweeps])
    assert torch.equal(inputs, torch.cat([torch.zeros(1, 24), last[:-1]]))
