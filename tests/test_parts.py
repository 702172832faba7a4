"""Claim: running out of memory makes parts smaller, says so, and changes no result."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from model_helpers import draw_tokens, make_model, train_contexts
from torch.testing import assert_close

from cvfp.models import parts
from cvfp.models.cvfp import CVFPModel
from cvfp.models.parts import Parts
from cvfp.training.evaluation import mean_nats, score

CPU_MESSAGE = "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes"


def limited(most: int, error: Exception):
    """Computes a part of at most so many rows."""

    def compute(begin: int, end: int) -> list[int]:
        if end - begin > most:
            raise error
        return list(range(begin, end))

    return compute


ERRORS = (
    MemoryError(),
    torch.OutOfMemoryError("full"),
    RuntimeError(CPU_MESSAGE),
    RuntimeError("CUDA error: out of memory\nCUDA kernel errors might be reported later"),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("Triton Error [CUDA]: out of memory"),
)


@pytest.mark.parametrize("error", ERRORS)
def test_parts_are_halved_until_they_fit_and_nothing_is_left_out(error: Exception):
    with pytest.warns(UserWarning) as told:
        found = list(Parts(500).over(10, 1010, limited(130, error)))
    assert [str(each.message) for each in told] == [
        f"memory ran out: going on in parts of {size} positions" for size in (250, 125)
    ]
    assert [row for part in found for row in part] == list(range(10, 1010))
    assert max(map(len, found)) == 125


def test_what_fits_is_not_cut_and_does_not_warn(recwarn):
    assert list(map(len, Parts(400).over(0, 1000, limited(400, MemoryError())))) == [400, 400, 200]
    assert not recwarn.list


def test_memory_that_is_too_small_for_any_part_is_an_error():
    with pytest.warns(UserWarning, match="memory ran out"), pytest.raises(MemoryError):
        list(Parts(500).over(0, 1000, limited(parts.LEAST - 1, MemoryError())))


def test_other_errors_are_not_taken_for_it():
    with pytest.raises(RuntimeError, match="shapes"):
        list(Parts(500).over(0, 1000, limited(1, RuntimeError("shapes do not fit"))))


def test_contexts_and_scores_do_not_depend_on_it(monkeypatch: pytest.MonkeyPatch):
    model, tokens = make_model(2, 2, dtype=torch.float64), draw_tokens(700)
    train_contexts(model, tokens, iterations=10, slice_length=100)
    segments = list(model.context_segments(tokens))
    contexts, scores, loss = model.contexts(tokens), score(model, tokens), mean_nats(model, tokens, segments)
    solve, hidden = CVFPModel.solve_contexts, CVFPModel.hidden

    def short_solve(self, tokens, positions, start, tolerance=None):
        if len(positions) > 200:
            raise torch.OutOfMemoryError("full")
        return solve(self, tokens, positions, start, tolerance)

    def short_hidden(self, contexts, tokens, positions, dropout=0.0):
        if len(positions) > 100:
            raise RuntimeError(CPU_MESSAGE)
        return hidden(self, contexts, tokens, positions, dropout)

    monkeypatch.setattr(CVFPModel, "solve_contexts", short_solve)
    monkeypatch.setattr(CVFPModel, "hidden", short_hidden)
    with pytest.warns(UserWarning, match="memory ran out"):
        assert_close(model.contexts(tokens), contexts, atol=1e-10, rtol=0)
        found = score(model, tokens)
        np.testing.assert_allclose(found.nll, scores.nll, atol=1e-10)
        np.testing.assert_array_equal(found.correct, scores.correct)
        assert mean_nats(model, tokens, segments) == pytest.approx(loss, rel=1e-12)
