"""Claim: the score of a text is its log-softmax, token by token."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from model_helpers import draw_tokens, make_model

from cvfp.training import evaluation
from cvfp.training.evaluation import hits, mean_nats, score


def test_score_equals_the_log_softmax_by_hand():
    model, tokens = make_model(2, 2, dtype=torch.float64, output_bias=True).eval(), draw_tokens(60)
    scores = score(model, tokens)
    with torch.no_grad():
        logits = model.logits(model.hidden(model.contexts(tokens), tokens, torch.arange(60))).tolist()
    for t in range(59):
        target, row = int(tokens[t + 1]), logits[t]
        by_hand = math.log(sum(math.exp(x - max(row)) for x in row)) + max(row) - row[target]
        assert scores.nll[t] == pytest.approx(by_hand, rel=1e-9)
        assert scores.correct[t] == (row[target] == max(row))


@pytest.mark.parametrize("values", [1, 2, 3, 1000])
def test_hits_are_what_argmax_says_of_ties_too(values: int):
    logits = torch.randint(values, (200, 30)).float()
    targets = logits.argmax(dim=1).where(torch.rand(200) < 0.5, torch.randint(30, (200,)))
    assert torch.equal(hits(logits, targets), logits.argmax(dim=1) == targets)


@pytest.mark.parametrize("length", [0, 1, 2, 300])
def test_the_first_token_is_not_predicted(length: int):
    scores = score(make_model(), draw_tokens(length))
    assert scores.nll.shape == scores.correct.shape == (max(length - 1, 0),)
    assert np.isfinite(scores.nll).all()


@pytest.mark.parametrize("rows", [1, 7, 299, 300, 301])
def test_score_does_not_depend_on_the_rows_held_at_once(rows: int, monkeypatch: pytest.MonkeyPatch):
    model, tokens = make_model(1, 2), draw_tokens(300)
    expected = score(model, tokens)
    monkeypatch.setitem(evaluation.LOGIT_ROWS, "cpu", rows)
    found = score(model, tokens)
    np.testing.assert_allclose(found.nll, expected.nll, atol=1e-5, rtol=1e-5)
    np.testing.assert_array_equal(found.correct, expected.correct)


@pytest.mark.parametrize("segment", [50, 299, 300])
def test_score_from_solved_segments_is_the_same(segment: int):
    model, tokens = make_model(1, 2, dtype=torch.float64), draw_tokens(300)
    found = score(model, tokens, list(model.context_segments(tokens, segment)))
    np.testing.assert_allclose(found.nll, score(model, tokens).nll, atol=1e-9, rtol=0)


@pytest.mark.parametrize("length", [2, 50, 51, 300])
def test_mean_nats_is_the_mean_of_the_scores(length: int):
    model, tokens = make_model(1, 2, dtype=torch.float64), draw_tokens(length)
    found = mean_nats(model, tokens, list(model.context_segments(tokens, 50)))
    assert found == pytest.approx(score(model, tokens).nll.mean(), rel=1e-12)


def test_score_uses_the_segments_it_is_given():
    model, tokens = make_model(), draw_tokens(100)
    zeros = [(torch.arange(100), torch.zeros(100, 1, 24))]
    assert abs(score(model, tokens, zeros).nll - score(model, tokens).nll).max() > 1e-3


def test_scoring_leaves_the_mode_of_the_model_and_no_gradient():
    model = make_model()
    for training in (True, False):
        model.train(training)
        score(model, draw_tokens(20))
        assert model.training is training
    assert all(parameter.grad is None for parameter in model.parameters())
