"""Claim: the CVFP arm is both phases in a row; its ablations leave out phase 1, or the context altogether."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pytest
import torch
from marks import one_quick
from model_helpers import real_text

from cvfp.arms import cvfp as cvfp_arm
from cvfp.arms.base import Budget, log_unigram, make_arm
from cvfp.arms.cvfp import FittedCvfp
from cvfp.arms.kneser_ney import UnigramArm
from cvfp.metrics.cost import model_cost
from cvfp.models.checkpoint import load_checkpoint
from cvfp.records.config import RunConfig
from cvfp.training.evaluation import score

ARMS = ("cvfp", "random-context", "no-context")
SMALL = {
    "model.context_dim": 32,
    "model.embed_dim": 24,
    "model.num_input_tokens": 2,
    "phase1.max_iterations": 8,
    "phase1.slice_length": 1000,
    "phase2.batch_size": 256,
    "phase2.lr": 0.01,
}


def texts() -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    tokens, vocab_size = real_text()
    return tokens[:5000].numpy(), tokens[5000:7000].numpy(), tokens[7000:].numpy(), vocab_size


def fit(arm: str = "cvfp", seed: int = 0, epochs: int = 4, **changes) -> FittedCvfp:
    train, dev, _, vocab_size = texts()
    settings = (
        SMALL
        | {"arm": arm, "phase2.epochs": epochs}
        | {key.replace("__", "."): value for key, value in changes.items()}
    )
    config = RunConfig.from_settings(settings)
    return make_arm(config, vocab_size).fit(train, dev, Budget(torch.device("cpu")), seed)


fitted = lru_cache(fit)


def weights(found: FittedCvfp, part: str) -> dict[str, torch.Tensor]:
    return {name: value for name, value in found.model.state_dict().items() if name.startswith(part)}


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("arm", ARMS)
def test_every_arm_beats_the_unigrams_of_the_same_text(arm: str):
    train, dev, test, vocab_size = texts()
    unigram = UnigramArm(vocab_size).fit(train, dev, Budget(torch.device("cpu")), seed=0)
    assert fitted(arm).nll(test).mean() < 0.85 * unigram.nll(test).mean()


@pytest.mark.long
def test_random_context_is_the_untrained_start_of_cvfp(monkeypatch: pytest.MonkeyPatch):
    starts, learn = [], cvfp_arm.learn_contexts

    def watched(model, *rest, **named):
        starts.append({f"context_block.{k}": v.clone() for k, v in model.context_block.state_dict().items()})
        return learn(model, *rest, **named)

    monkeypatch.setattr(cvfp_arm, "learn_contexts", watched)
    trained = fit("cvfp")
    untrained = fit("random-context")
    assert len(starts) == 1
    assert same(weights(untrained, "context_block"), starts[0])
    assert not same(weights(trained, "context_block"), starts[0])
    assert same(weights(untrained, "context_table"), weights(trained, "context_table"))


@pytest.mark.parametrize("arm", ARMS)
def test_facts_are_counted_on_the_model(arm: str):
    found = fitted(arm)
    facts, model = found.facts, found.model
    assert facts.total_params == sum(p.numel() for p in model.parameters())
    block = 0 if model.context_block is None else sum(p.numel() for p in model.context_block.parameters())
    assert facts.context_block_params == block
    assert facts.trained_params == facts.total_params - (0 if arm == "cvfp" else block)
    assert (facts.steps, facts.tokens_seen, facts.stop_reason) == (4 * 20, 4 * 4999, "cap")
    assert facts.prior == ()
    assert 1 < facts.train_ppl < model.vocab_size
    assert 1 < facts.dev_ppl < model.vocab_size
    assert facts.phase1_iter == (8 if arm == "cvfp" else None)
    assert facts.phase1_converged is (False if arm == "cvfp" else None)


def test_flops_count_both_phases():
    found = fitted("cvfp")
    cost = model_cost(found.model.config, found.model.vocab_size, output_bias=True)
    phase1, phase2 = 7 * 5000 * cost.context_madds, 4 * 4999 * (cost.token_madds + cost.head_madds)
    assert found.facts.flops == 6 * (phase1 + phase2)


@pytest.mark.parametrize("arm", ["cvfp", "random-context"])
def test_effective_rank_is_a_share_of_the_width(arm: str):
    *_, test, _ = texts()
    found = fitted(arm)
    assert 1 / 32 < found.score_with_rank(test, seed=0)[1] <= 1
    assert 1 / 32 < found.facts.train_er <= 1


def test_without_context_there_is_no_rank_and_no_health():
    *_, test, _ = texts()
    found = fitted("no-context")
    assert found.score_with_rank(test, seed=0)[1] is None
    assert found.facts.train_er is None
    assert set(found.facts.notes) == {"phase2"}


def test_same_seed_same_bits_and_another_seed_other_nats():
    *_, test, _ = texts()
    nats = fitted("cvfp").nll(test)
    np.testing.assert_array_equal(fit("cvfp").nll(test), nats)
    assert abs(fit("cvfp", seed=1).nll(test) - nats).max() > 1e-3


def test_the_seed_draws_the_table_and_the_untrained_block():
    first, other = (fit("random-context", seed, epochs=1) for seed in (0, 1))
    for name in ("context_table", "context_block.layers.0.linear.weight"):
        tables = [found.model.state_dict()[name] for found in (first, other)]
        assert (tables[0] - tables[1]).abs().max() > 0.01


def test_a_frozen_table_stays_and_only_the_head_of_a_trained_one_moves():
    trained, frozen = fitted("cvfp").model, fit("cvfp", embedding__trained=False, epochs=1).model
    assert torch.equal(frozen.embedding, frozen.context_table)
    assert torch.equal(trained.context_table, frozen.context_table)
    assert not torch.equal(trained.embedding, trained.context_table)


@pytest.mark.parametrize("source", one_quick("fixed_point", "one_step"))
def test_training_contexts_come_from_the_chosen_source(source: str, monkeypatch: pytest.MonkeyPatch):
    seen = []

    def watched(model, tokens, contexts, *rest, **named):
        with torch.no_grad():
            seen.append(float((contexts.store.read() - model.contexts(tokens)).abs().max()))
        return learn(model, tokens, contexts, *rest, **named)

    learn = cvfp_arm.learn_tokens
    monkeypatch.setattr(cvfp_arm, "learn_tokens", watched)
    fit("cvfp", epochs=1, phase2__context_source=source)
    assert (seen[0] == 0) == (source == "fixed_point")


def test_a_saved_arm_scores_as_before(tmp_path: Path):
    *_, test, _ = texts()
    found = fitted("cvfp")
    found.save(tmp_path)
    scores = score(load_checkpoint(tmp_path), torch.from_numpy(test))
    np.testing.assert_array_equal(scores.nll, found.score(test).nll)


def test_output_bias_starts_at_the_log_frequencies_raised_by_one():
    bias = log_unigram(np.array([2, 2, 0, 2]), vocab_size=4)
    torch.testing.assert_close(bias.exp(), torch.tensor([2, 1, 4, 1]) / 8)
