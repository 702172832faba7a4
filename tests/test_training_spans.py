"""Claim: spans bound the memory of training and change nothing but who shares a batch."""

from __future__ import annotations

import pytest
import torch
from model_helpers import draw_tokens, make_model, train_contexts
from store_helpers import ALL_NEAR, lay_out
from torch.testing import assert_close

from cvfp.records.training_config import Phase2Config
from cvfp.training import context_store
from cvfp.training import contexts as contexts_module
from cvfp.training.contexts import SpanContexts, span_bounds
from cvfp.training.head import Head
from cvfp.training.phase2 import learn_tokens

VALUES = 2 * 8
"""Layers times width of the models here."""


def test_spans_cover_the_stream_whatever_is_held():
    assert span_bounds(100, 16) == [(0, 100)]
    assert span_bounds(100, 16, held=480) == [(0, 30), (30, 60), (60, 90), (90, 100)]
    assert span_bounds(3_000_000, 768)[0] == (0, 2 * contexts_module.SPAN_UNIT)
    assert span_bounds(100, 0) == [(0, 100)]


def contexts_of(held: int | None, monkeypatch: pytest.MonkeyPatch, use_context: bool = True):
    monkeypatch.setattr(contexts_module, "SPAN_UNIT", 1)
    model = make_model(2, 2, context_dim=8, embed_dim=6, dtype=torch.float64, use_context=use_context)
    tokens = draw_tokens(101)
    if use_context:
        train_contexts(model, tokens, iterations=10, slice_length=50)
    return model, tokens, SpanContexts(model, tokens, held=held)


@pytest.mark.parametrize("held", [30 * VALUES, 101 * VALUES, None])
@pytest.mark.parametrize("memory", [ALL_NEAR, (0, 0), (0, 1 << 20), (101 * VALUES * 8 - 1, 1 << 20)], ids=str)
def test_spans_give_the_contexts_of_the_whole_stream(memory: tuple[int, int], held: int | None, monkeypatch):
    """Kept in the device's memory, in the host's, or in none and solved again."""
    lay_out(monkeypatch, *memory)
    model, tokens, found = contexts_of(held, monkeypatch)
    expected = model.contexts(tokens)
    assert found.keeps_all == (memory != (0, 0) or held != 30 * VALUES)
    assert len(found.bounds) == (4 if held == 30 * VALUES else 1)
    for index in found.opened([*reversed(range(len(found.bounds))), 0]):
        first, last = found.bounds[index]
        places = torch.arange(first, last).flip(0)
        taken = torch.empty_like(expected[places])
        found.take(places, taken)
        assert_close(taken, expected[places], atol=1e-10, rtol=0)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("memory", [ALL_NEAR, (0, 0), (0, 1 << 20)], ids=str)
def test_training_over_spans_visits_every_position_once_an_epoch(
    shuffle: bool, memory: tuple[int, int], monkeypatch
):
    lay_out(monkeypatch, *memory)
    model, tokens, contexts = contexts_of(30 * VALUES, monkeypatch)
    seen, take = [], SpanContexts.take

    def watched(self, positions, out):
        seen.append(positions.tolist())
        take(self, positions, out)

    monkeypatch.setattr(SpanContexts, "take", watched)
    config = Phase2Config(epochs=2, batch_size=20, shuffle=shuffle, eval_every=None, patience=9)
    result = learn_tokens(model, tokens, contexts, draw_tokens(50), config, train_embedding=True, seed=0)
    seen = [batch for batch in seen if batch]
    for epoch in (seen[:7], seen[7:]):
        assert sorted(len(batch) for batch in epoch) == [10, 10, 10, 10, 20, 20, 20]
        assert sorted(place for batch in epoch for place in batch) == list(range(100))
        assert all(max(batch) // 30 == min(batch) // 30 for batch in epoch)
    assert (result.steps, result.tokens_seen) == (14, 200)


def test_room_for_all_contexts_changes_no_bit_of_the_order(monkeypatch):
    """The order of positions follows from the shape of the model, not from the memory of the machine."""
    config = Phase2Config(epochs=2, batch_size=10, eval_every=None, precision="float32")
    found = []
    for memory in (ALL_NEAR, (0, 1 << 20), (0, 0)):
        lay_out(monkeypatch, *memory)
        model, tokens, contexts = contexts_of(30 * VALUES, monkeypatch)
        learn_tokens(model, tokens, contexts, draw_tokens(50), config, train_embedding=True, seed=0)
        found.append([parameter.detach() for parameter in model.parameters()])
    for one, kept, solved in zip(*found, strict=True):
        assert torch.equal(one, kept)
        assert_close(one, solved, atol=1e-10, rtol=0)


def test_in_order_spans_of_whole_batches_train_as_one_span_does(monkeypatch):
    config = Phase2Config(epochs=2, batch_size=10, shuffle=False, eval_every=None, lr=0.01)
    found = []
    monkeypatch.setattr(context_store, "CPU_BYTES", 0)
    for held in (30 * VALUES, None):
        model, tokens, contexts = contexts_of(held, monkeypatch)
        learn_tokens(model, tokens, contexts, draw_tokens(50), config, train_embedding=True, seed=0)
        found.append([parameter.detach() for parameter in model.parameters()])
    for one, other in zip(*found, strict=True):
        assert_close(one, other, atol=1e-10, rtol=0)


def test_shuffled_spans_keep_count_of_what_was_trained_on(monkeypatch):
    """The training loss weighs every batch by its own size, whatever the order of the spans."""
    model, tokens, contexts = contexts_of(40 * VALUES, monkeypatch)
    seen, gradients = [], Head.gradients

    def watched(head, hidden, targets, weights, *trained):
        found = gradients(head, hidden, targets, weights, *trained)
        seen.append((float(found.loss), int((weights > 0).sum())))
        return found

    monkeypatch.setattr(Head, "gradients", watched)
    config = Phase2Config(epochs=1, batch_size=30, eval_every=None, precision="float32")
    result = learn_tokens(model, tokens, contexts, draw_tokens(50), config, train_embedding=True, seed=3)
    assert sorted(size for _, size in seen) == [10, 10, 20, 30, 30]
    expected = sum(loss * size for loss, size in seen) / 100
    assert (result.tokens_seen, result.train_loss) == (100, pytest.approx(expected, rel=1e-9))


def test_training_leaves_no_gradients_and_the_flags_as_they_were(monkeypatch):
    model, tokens, contexts = contexts_of(None, monkeypatch)
    flags = [parameter.requires_grad for parameter in model.parameters()]
    learn_tokens(
        model, tokens, contexts, draw_tokens(50), Phase2Config(epochs=1), train_embedding=False, seed=0
    )
    assert [parameter.requires_grad for parameter in model.parameters()] == flags
    assert all(parameter.grad is None for parameter in model.parameters())
