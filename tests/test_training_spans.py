"""Claim: spans and files bound the memory of training and change nothing but who shares a batch."""

from __future__ import annotations

import gc
import tempfile
from pathlib import Path

import pytest
import torch
from model_helpers import draw_tokens, make_model, train_contexts
from torch.testing import assert_close

from cvfp.records.errors import CvfpError
from cvfp.records.training_config import Phase2Config
from cvfp.training import contexts as contexts_module
from cvfp.training.contexts import ContextStore, SpanContexts, span_bounds
from cvfp.training.head import Head
from cvfp.training.phase2 import learn_tokens

VALUES = 2 * 8
"""Layers times width of the models here."""


@pytest.fixture
def in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setattr(contexts_module, "CPU_BYTES", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_a_store_in_a_file_reads_what_was_written(in_files: Path):
    store = ContextStore((7, 2, 3), torch.float32, torch.device("cpu"))
    rows = torch.randn(7, 2, 3)
    store.write(0, rows[:4])
    store.write(4, rows[4:])
    assert store.rows is None
    assert torch.equal(store.read(), rows) and torch.equal(store.read(2, 5), rows[2:5])
    taken = torch.empty(3, 2, 3)
    store.take(torch.tensor([6, 0, 6]), taken)
    assert torch.equal(taken, rows[[6, 0, 6]])
    assert store.read(3, 3).shape == (0, 2, 3)


def test_the_file_of_a_store_is_gone_at_once_or_with_it(in_files: Path):
    store = ContextStore((5, 3), torch.float32, torch.device("cpu"))
    store.write(0, torch.ones(5, 3))
    del store
    gc.collect()
    assert list(in_files.iterdir()) == []


def test_an_arm_without_contexts_has_rows_of_no_width(in_files: Path):
    store = ContextStore((5, 1, 0), torch.float32, torch.device("cpu"))
    taken = torch.empty(2, 1, 0)
    store.take(torch.tensor([1, 4]), taken)
    assert taken.shape == (2, 1, 0)


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
@pytest.mark.parametrize("room", [True, False])
def test_spans_give_the_contexts_of_the_whole_stream(room: bool, held: int | None, monkeypatch):
    monkeypatch.setattr(contexts_module, "CPU_BYTES", (4 << 30) if room else 0)
    model, tokens, found = contexts_of(held, monkeypatch)
    expected = model.contexts(tokens)
    assert found.keeps_all == (room or held != 30 * VALUES)
    assert len(found.bounds) == (4 if held == 30 * VALUES else 1)
    for index in [*reversed(range(len(found.bounds))), 0]:
        found.open(index)
        first, last = found.bounds[index]
        places = torch.arange(first, last).flip(0)
        taken = torch.empty_like(expected[places])
        found.take(places, taken)
        assert_close(taken, expected[places], atol=1e-10, rtol=0)


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize("where", ["memory", "file"])
def test_training_over_spans_visits_every_position_once_an_epoch(shuffle: bool, where: str, monkeypatch):
    if where == "file":
        monkeypatch.setattr(contexts_module, "CPU_BYTES", 0)
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
    for room in (4 << 30, 0):
        monkeypatch.setattr(contexts_module, "CPU_BYTES", room)
        model, tokens, contexts = contexts_of(30 * VALUES, monkeypatch)
        learn_tokens(model, tokens, contexts, draw_tokens(50), config, train_embedding=True, seed=0)
        found.append([parameter.detach() for parameter in model.parameters()])
    for one, other in zip(*found, strict=True):
        assert_close(one, other, atol=1e-10, rtol=0)


def test_in_order_spans_of_whole_batches_train_as_one_span_does(monkeypatch):
    config = Phase2Config(epochs=2, batch_size=10, shuffle=False, eval_every=None, lr=0.01)
    found = []
    monkeypatch.setattr(contexts_module, "CPU_BYTES", 0)
    for held in (30 * VALUES, None):
        model, tokens, contexts = contexts_of(held, monkeypatch)
        learn_tokens(model, tokens, contexts, draw_tokens(50), config, train_embedding=True, seed=0)
        found.append([parameter.detach() for parameter in model.parameters()])
    for one, other in zip(*found, strict=True):
        assert_close(one, other, atol=1e-10, rtol=0)


def test_a_full_disk_is_an_error_that_names_the_place(in_files: Path, monkeypatch: pytest.MonkeyPatch):
    def full(handle: int, size: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(contexts_module, "_reserve", full)
    with pytest.raises(CvfpError, match=r"cvfp-contexts-.*No space left on device.*TMPDIR"):
        ContextStore((5, 3), torch.float32, torch.device("cpu"))
    assert list(in_files.iterdir()) == []


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
