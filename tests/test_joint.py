"""Claim: joint training is the algorithm of its page, at every window, and sees no test text."""

from __future__ import annotations

import copy
import math
from typing import get_args

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from lab_helpers import tiny_spec
from marks import one_quick
from model_helpers import VOCABULARY, draw_tokens, real_text
from store_helpers import LAYOUTS, lay_out
from test_cells import CELLS, model_of
from torch import Tensor
from torch.testing import assert_close

from cvfp.arms.base import Budget, make_arm
from cvfp.lab.plan import make_plan
from cvfp.metrics.perplexity import perplexity
from cvfp.models.cells import make_cell
from cvfp.models.cvfp import CVFPModel
from cvfp.models.layers import features_of, token_window
from cvfp.models.recurrence import roll_out
from cvfp.records.config import ModelConfig, RunConfig
from cvfp.records.errors import InputError
from cvfp.records.training_config import Cell, JointConfig
from cvfp.training.averaging import ExponentialAverage, TwoTailedAverage
from cvfp.training.distillation import Teachers
from cvfp.training.events import silent
from cvfp.training.joint import Chunks, joint_parameters, learn_jointly, locked, swept_segments
from cvfp.training.next_token import TokenLearner

PLAIN = {
    "dropout": 0.0,
    "word_dropout": 0.0,
    "averaging": 0.0,
    "consistency": 0.0,
    "weight_decay": 0.0,
    "precision": "float32",
}
SMALL = {
    "joint.context_dim": 24,
    "joint.rank": 4,
    "model.embed_dim": 16,
    "joint.chunks": 8,
    "joint.window": 4,
    "joint.consistency": 0.0,
}
EXACT = {"atol": 1e-10, "rtol": 1e-10}


def chunks_of(model: CVFPModel, tokens: Tensor, teachers: Teachers | None = None, **settings) -> Chunks:
    return Chunks(model, tokens, draw_tokens(30, seed=5), JointConfig(**(PLAIN | settings)), teachers)


def learner_of(batch: Chunks) -> TokenLearner:
    parameters = joint_parameters(batch.model, train_embedding=True)
    return TokenLearner(batch, parameters, batch.config, 1, "joint", 7, silent)


def first_chunks(batch: Chunks) -> Tensor:
    """Of an epoch, loaded."""
    chunks = batch.draw(torch.Generator().manual_seed(7))[: batch.at_once]
    batch.load(chunks)
    return chunks


def taken(batch: Chunks) -> tuple[Tensor, dict[str, Tensor]]:
    """Loss and gradients, by parameter, of what is loaded."""
    for parameter in batch.model.parameters():
        parameter.grad = None
    learner = learner_of(batch)
    learner.gradients()
    return learner.loss, {name: parameter.grad for name, parameter in batch.model.named_parameters()}


def states(model: CVFPModel, tokens: Tensor) -> Tensor:
    """(N + 1, d_s): the state before every position and after the last, by the definition."""
    features = model.context_features(tokens, torch.arange(len(tokens)))
    rolled = roll_out(model.context_block, features)[:, -1]
    return torch.cat([rolled.new_zeros(1, model.state_dim), rolled])


def naive(model: CVFPModel, tokens: Tensor, starts: Tensor, window: int) -> tuple[Tensor, Tensor]:
    """Mean loss of chunks of `window` positions from these starts, and the states after them."""
    losses, ends = [], []
    for chunk, start in enumerate(starts):
        first = chunk * window
        positions = torch.arange(first, first + window)
        rolled = roll_out(model.context_block, model.context_features(tokens, positions), start)
        hidden = model.hidden(model.context_block.contexts(rolled), tokens, positions)
        losses.append(F.cross_entropy(model.logits(hidden), tokens[positions + 1], reduction="none"))
        ends.append(rolled[-1, -1])
    return torch.cat(losses).mean(), torch.stack(ends).detach()


@pytest.mark.parametrize("token_layers", [False, True])
@pytest.mark.parametrize("cell", CELLS)
def test_a_window_of_one_is_a_jacobi_sweep_with_the_token_loss(cell: str, token_layers: bool):
    model, tokens = model_of(cell, token_layers=token_layers), draw_tokens(22)
    batch = chunks_of(model, tokens, window=1, chunks=21)
    store = 0.3 * torch.randn(22, model.state_dim, dtype=torch.float64)
    store[0] = 0.0
    batch.store.write(0, store)
    chunks = first_chunks(batch)
    told, found = taken(batch)
    batch.write_back(chunks)
    other = copy.deepcopy(model).requires_grad_(True)
    loss, ends = naive(other, tokens, store[:21], 1)
    loss.backward()
    assert_close(told, loss.detach(), **EXACT)
    for name, parameter in other.named_parameters():
        assert_close(found[name], parameter.grad, msg=name, **EXACT)
    assert_close(batch.store.read()[1:], ends, **EXACT)


@pytest.mark.parametrize("cell", CELLS)
def test_one_chunk_of_the_whole_text_is_backpropagation_through_it(cell: str):
    model, tokens = model_of(cell, 2), draw_tokens(40)
    batch = chunks_of(model, tokens, window=1000, chunks=4)
    first_chunks(batch)
    told, found = taken(batch)
    other = copy.deepcopy(model).requires_grad_(True)
    seen = tokens[:-1]
    rolled = roll_out(other.context_block, other.context_features(seen, torch.arange(39)))
    hidden = other.hidden(other.context_block.contexts(rolled), tokens, torch.arange(39))
    loss = F.cross_entropy(other.logits(hidden), tokens[1:])
    loss.backward()
    assert_close(told, loss.detach(), **EXACT)
    for name, parameter in other.named_parameters():
        assert_close(found[name], parameter.grad, msg=name, **EXACT)


@pytest.mark.parametrize("window", one_quick(3, 1, 16))
@pytest.mark.parametrize("cell", CELLS)
def test_the_store_after_a_refresh_is_the_roll_out(cell: str, window: int, monkeypatch):
    monkeypatch.setattr("cvfp.training.joint.SPAN", 16)
    monkeypatch.setattr("cvfp.training.joint.SWEEPS", 14)
    monkeypatch.setattr("cvfp.training.joint.SPANS_AT_ONCE", 3)
    model, tokens = model_of(cell, 2), draw_tokens(120)
    batch = chunks_of(model, tokens, window=window, chunks=5)
    expected = states(model, tokens)
    for offset in (*range(batch.spare + 1), 0):
        batch.offset = offset
        batch.refresh()
        borders = offset + window * torch.arange(batch.number)
        assert_close(batch.store.read()[: batch.number], expected[borders], atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("cell", CELLS)
def test_contexts_in_training_become_the_roll_out_with_every_sweep(cell: str, monkeypatch):
    monkeypatch.setattr("cvfp.training.joint.SPAN", 16)
    monkeypatch.setattr("cvfp.training.joint.SPANS_AT_ONCE", 5)
    model, tokens = model_of(cell, 2), draw_tokens(200)
    expected, errors = model.contexts(tokens), []
    for sweeps in (1, 2, 5):
        monkeypatch.setattr("cvfp.training.joint.SWEEPS", sweeps)
        positions, contexts = zip(*swept_segments(model, tokens), strict=True)
        assert torch.equal(torch.cat(positions), torch.arange(200))
        errors.append((torch.cat(contexts) - expected).abs().max().item())
    assert errors[0] > errors[1] and errors[2] < 1e-8


def test_every_chunk_is_seen_once_an_epoch_and_starts_where_the_one_before_ended():
    model, tokens = model_of("mogrified"), draw_tokens(103)
    batch = chunks_of(model, tokens, window=4, chunks=5, refresh=False)
    known, seen = {0: torch.zeros(model.state_dim).double()}, []
    for chunks in batch.draw(torch.Generator().manual_seed(7)).split(batch.at_once):
        batch.load(chunks)
        with torch.no_grad():
            batch.hidden(F.embedding(batch.lookup()[0], model.embedding))
        for row, chunk in enumerate(chunks.tolist()):
            start = known.get(chunk, torch.zeros(model.state_dim).double())
            assert torch.equal(batch.starts[row], start)
            assert batch.positions[:, row].tolist() == list(range(4 * chunk, 4 * chunk + 4))
        for row, chunk in enumerate(chunks.tolist()):
            known[chunk + 1] = batch.ends[row].clone()
            seen.append(chunk)
        batch.write_back(chunks)
    assert sorted(seen) == list(range(batch.number)) and batch.number == (102 - 3) // 4


@pytest.mark.parametrize("memory", LAYOUTS, ids=str)
def test_where_the_store_lies_decides_no_bit(memory: tuple[int, int], monkeypatch):
    tokens, dev = draw_tokens(300), draw_tokens(60, seed=1)
    config = JointConfig(window=4, chunks=9, epochs=2, precision="float32")

    def trained() -> dict[str, Tensor]:
        model = model_of("mogrified").float()
        learn_jointly(model, tokens, dev, config, train_embedding=True, seed=1)
        return model.state_dict()

    in_memory = trained()
    lay_out(monkeypatch, *memory)
    for name, tensor in trained().items():
        assert torch.equal(tensor, in_memory[name]), name


def test_the_exponential_average_is_the_formula_and_stands_in_for_the_weights_for_a_while():
    weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]).double())
    average, expected = ExponentialAverage([weight], 0.5), None
    for k, value in enumerate(([1.0, 2.0], [3.0, 0.0], [5.0, 8.0], [-1.0, 2.0])):
        with torch.no_grad():
            weight.copy_(torch.tensor(value))
        average.update()
        keep = min(0.5, k / (k + 10))
        now = torch.tensor(value).double()
        expected = now if expected is None else keep * expected + (1 - keep) * now
        assert_close(average.weights[0], expected, **EXACT)
    assert average.dev_loss(lambda: float(weight.detach().sum())) == float(average.weights[0].sum())
    assert weight.tolist() == [-1.0, 2.0]


@settings(max_examples=30)
@given(losses=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5)), min_size=1, max_size=8))
def test_two_tailed_averages_are_means_over_tails_and_the_short_one_takes_over_where_it_is_better(losses):
    weight = torch.nn.Parameter(torch.zeros(2).double())
    average, taken, long_from, short_from = TwoTailedAverage([weight]), [], 0, 0
    for of_long, of_short in losses:
        for _ in range(3):
            taken.append([float(len(taken)), float(len(taken) ** 2)])
            with torch.no_grad():
                weight.copy_(torch.tensor(taken[-1]))
            average.update()
        seen = []

        def evaluate(seen=seen, answers=(of_long, of_short)) -> float:
            seen.append(weight.detach().clone())
            return float(answers[len(seen) - 1])

        assert average.dev_loss(evaluate) == min(of_long, of_short)
        for found, first in zip(seen, (long_from, short_from), strict=True):
            assert_close(found, torch.tensor(taken[first:]).double().mean(dim=0), **EXACT)
        if of_short <= of_long:
            long_from, short_from = short_from, len(taken)
        assert_close(average.weights[0], torch.tensor(taken[long_from:]).double().mean(dim=0), **EXACT)
        assert weight.tolist() == taken[-1]


def test_consistent_training_reads_a_batch_twice_and_learns_from_both():
    """Without dropout both readings agree: then it is the gradient of one, whatever the weight."""
    model, tokens = model_of("mogrified"), draw_tokens(300)
    gradients = []
    for consistency, dropout in ((0.0, 0.0), (2.0, 0.0), (2.0, 0.4)):
        batch = chunks_of(model, tokens, window=4, chunks=9, consistency=consistency, dropout=dropout)
        first_chunks(batch)
        torch.manual_seed(0)
        _, found = taken(batch)
        gradients.append(torch.cat([gradient.flatten() for gradient in found.values()]))
    once, twice, apart = gradients
    assert_close(once, twice, **EXACT)
    assert not torch.allclose(once, apart)


def test_dropped_words_say_nothing_and_all_others_what_they_did():
    model, tokens = model_of("mogrified"), draw_tokens(400)
    batch = chunks_of(model, tokens, window=2, chunks=100, word_dropout=0.3)
    read = []
    batch.hidden = lambda vectors: (
        read.append(vectors) or F.linear(vectors.flatten(1), torch.zeros(8, 16).double())
    )
    first_chunks(batch)
    taken(batch)
    vectors, ids = read[0].detach(), batch.lookup()[0]
    gone = (vectors == 0).all(dim=-1)
    assert 0.2 < gone.double().mean() < 0.4
    assert torch.equal(vectors[~gone], model.embedding.detach()[ids][~gone])


def test_locked_dropout_zeroes_the_same_elements_at_all_positions_of_a_chunk():
    torch.manual_seed(0)
    found = locked(torch.ones(5, 40, 30), 0.4)
    assert (found == found[:1]).all()
    assert 0.5 < (found[0] == 0).float().mean() + 0.2 < 0.7
    assert_close(found.unique(), torch.tensor([0.0, 1 / 0.6]))


@pytest.mark.long
@pytest.mark.parametrize("cell", ["gated", "mogrified"])
def test_a_real_text_is_learned(cell: str):
    tokens, vocabulary = real_text()
    train, dev, test = tokens[:8000], tokens[8000:9500], tokens[9500:]
    settings = {"joint.cell": cell, "joint.epochs": 12, "joint.dropout": 0.1, "joint.averaging": 0.98}
    settings |= {"joint.lr": 0.01, "joint.weight_decay": 0.1, "joint.chunks": 32, "joint.context_dim": 48}
    config = RunConfig.from_settings(SMALL | settings | {"arm": "cvfp-joint"})
    fitted = make_arm(config, vocabulary).fit(
        train.numpy(), dev.numpy(), Budget(torch.device("cpu")), config.seed
    )
    unigram = np.bincount(train, minlength=vocabulary) + 1.0
    floor = math.exp(-np.log(unigram / unigram.sum())[test[1:]].mean())
    assert perplexity(fitted.nll(test.numpy())) < 0.6 * floor
    assert fitted.facts.train_er > 0.1
    assert fitted.facts.notes["health"]["solve_status"] == "converged"


def test_a_student_learns_the_mean_of_its_teachers_at_the_positions_of_its_chunks():
    model, tokens = model_of("mogrified"), draw_tokens(60)
    others = [model_of(cell, 2) for cell in ("mogrified", "gated")]
    teachers = Teachers(others, [one.context_segments(tokens) for one in others], tokens, 0.4, "float32")
    batch = chunks_of(model, tokens, teachers, window=4, chunks=5)
    first_chunks(batch)
    _, found = taken(batch)
    places = batch.positions.flatten()
    everywhere = torch.arange(60)
    mean = torch.stack(
        [one.logits(one.hidden(one.contexts(tokens), tokens, everywhere)).softmax(dim=1) for one in others]
    ).mean(dim=0)
    other = copy.deepcopy(model).requires_grad_(True)
    ids, before = token_window(tokens, places, model.config.num_input_tokens)
    features = features_of(F.embedding(ids, other.embedding), before).unflatten(0, batch.positions.shape)
    contexts, _ = other.context_block.roll(features, batch.starts)
    logs = other.logits(other.hidden_from(contexts.flatten(0, 1), features.flatten(0, 1))).log_softmax(dim=1)
    hard = -logs.gather(1, tokens[places + 1][:, None])[:, 0]
    (0.6 * hard - 0.4 * (mean[places] * logs).sum(dim=1)).mean().backward()
    for name, parameter in other.named_parameters():
        assert_close(found[name], parameter.grad, msg=name, **EXACT)


@pytest.mark.long
def test_a_student_has_a_dropout_of_its_own_and_reads_once():
    train, dev = draw_tokens(500).numpy(), draw_tokens(90, seed=1).numpy()
    own = SMALL | {"arm": "cvfp-joint", "joint.epochs": 2, "joint.averaging": 0.9}

    def weights_of(**settings: float) -> dict[str, Tensor]:
        config = RunConfig.from_settings(own | {f"joint.{key}": value for key, value in settings.items()})
        arm = make_arm(config, VOCABULARY)
        return arm.fit(train, dev, Budget(torch.device("cpu")), 3).model.state_dict()

    # Teachers without weight in the loss leave a model alone with the student's settings.
    student = weights_of(teachers=1, distillation=0.0, student_dropout=0.1, dropout=0.5, consistency=1.0)
    alone = weights_of(dropout=0.1, consistency=0.0)
    for name, value in alone.items():
        assert_close(student[name], value, msg=name)


@pytest.mark.long
def test_teachers_are_trained_first_and_told_of():
    config = RunConfig.from_settings(SMALL | {"arm": "cvfp-joint", "joint.epochs": 2, "joint.teachers": 2})
    train, dev = draw_tokens(500).numpy(), draw_tokens(90, seed=1).numpy()
    alone = RunConfig.from_settings(SMALL | {"arm": "cvfp-joint", "joint.epochs": 2})

    told: list[str] = []

    def fitted(config: RunConfig):
        budget = Budget(torch.device("cpu"), lambda event: told.append(event.phase))
        return make_arm(config, VOCABULARY).fit(train, dev, budget, 3)

    taught = fitted(config)
    assert list(dict.fromkeys(told)) == ["teacher-0", "teacher-1", "joint"]
    other = fitted(alone)
    assert len(taught.facts.notes["teachers"]) == 2
    assert len({one["dev_ppl"] for one in taught.facts.notes["teachers"]} | {other.facts.dev_ppl}) == 3
    assert taught.facts.flops > 2.5 * other.facts.flops
    assert taught.facts.total_params == other.facts.total_params
    again = fitted(config).model.state_dict()
    assert all(torch.equal(again[name], value) for name, value in taught.model.state_dict().items())
    assert not torch.equal(taught.model.embedding, other.model.embedding)


def test_the_test_text_has_no_part_in_training():
    config = RunConfig.from_settings(SMALL | {"arm": "cvfp-joint", "joint.epochs": 2})
    train, dev = draw_tokens(500).numpy(), draw_tokens(90, seed=1).numpy()

    def weights(test: np.ndarray) -> dict[str, Tensor]:
        fitted = make_arm(config, VOCABULARY).fit(train, dev, Budget(torch.device("cpu")), 3)
        fitted.score(test)
        return fitted.model.state_dict()

    first, second = weights(draw_tokens(50, seed=2).numpy()), weights(draw_tokens(50, seed=3).numpy())
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_only_dev_losses_choose_and_dev_never_enters_the_training():
    """With other dev texts, of which none can stop it or lower the rate, all steps have the same losses."""
    tokens = draw_tokens(400)
    config = JointConfig(window=4, chunks=16, epochs=3, patience=100, precision="float32", lr_decay=1.0)

    def trained(dev: Tensor) -> tuple[list[float], list[float]]:
        events = []
        learn_jointly(
            model_of("mogrified").float(),
            tokens,
            dev,
            config,
            train_embedding=True,
            seed=1,
            listen=events.append,
        )
        told = [event.values for event in events if event.values]
        return [one["train_ppl"] for one in told], [one["dev_ppl"] for one in told]

    (first, first_dev), (second, second_dev) = (trained(draw_tokens(80, seed=seed)) for seed in (1, 2))
    assert first == second and len(first) == 6
    assert first_dev != second_dev


def test_settings_that_follow_the_size_are_interpolated_as_the_rule_says(corpus):
    followed = {
        "by_size.joint.lr.50": 0.004,
        "by_size.joint.lr.800": 0.001,
        "by_size.joint.dropout.50": 0.4,
        "by_size.joint.dropout.800": 0.2,
        "by_size.joint.averaging.50": 0.9,
        "by_size.joint.averaging.800": 0.999,
        "by_size.joint.chunks.50": 32,
        "by_size.joint.chunks.800": 128,
    }

    def at(size: int) -> JointConfig:
        return (
            RunConfig.from_settings(followed | {"arm": "cvfp-joint", "data.num_samples": size})
            .resolved()
            .joint
        )

    assert [at(size).lr for size in (10, 50, 200, 800, 900)] == [0.004, 0.004, 0.002, 0.001, 0.001]
    assert at(200).dropout == pytest.approx(0.3) and at(200).averaging == pytest.approx(0.99)
    assert [at(size).chunks for size in (100, 199, 201)] == [32, 32, 128]
    steps = {"arm": "cvfp-joint", "by_size.joint.steps.50": 7}
    found = [RunConfig.from_settings(steps | {"data.num_samples": size}).resolved() for size in (50, 60)]
    assert [config.joint.steps for config in found] == [7, None], "elsewhere it would train too little"
    spec = tiny_spec(corpus, arms=("cvfp-joint",), samples=(4, 8)).with_settings(followed)
    assert len({point.config.config_hash for point in make_plan(spec).points}) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model.cell": "mogrified"}, "phase 1 cannot iterate 'mogrified'"),
        ({"model.cell": "lstm", "arm": "random-context"}, "phase 1 cannot iterate 'lstm'"),
        ({"model.token_layers": False, "arm": "no-context"}, "nothing but token layers"),
        ({"by_size.joint.lr.many": 0.1}, r"joint.lr: a number of documents is needed, got \['many'\]"),
        ({"by_size.joint.cell.50": "lstm"}, "no setting that may follow the size"),
        ({"by_size.ngram.order.50": 3}, "by_size.ngram: no section of training"),
        ({"by_size.joint.lr.50": -1.0, "arm": "cvfp-joint"}, "lr: input should be greater than 0, got -1.0"),
        ({"joint.cell": "gru"}, "joint.cell"),
    ],
)
def test_what_makes_no_sense_is_one_line(settings: dict, message: str):
    with pytest.raises(InputError, match=message):
        RunConfig.from_settings(settings)


def of_one_vector(cell: str) -> bool:
    model = make_cell(ModelConfig(cell=cell, context_dim=4, embed_dim=4))
    return model.state_dim == model.context_dim


@pytest.mark.parametrize("cell", [cell for cell in get_args(Cell) if of_one_vector(cell)])
def test_two_phases_accept_every_cell_of_one_vector(cell: str):
    settings = {"model.cell": cell, "model.context_dim": 16, "model.embed_dim": 8, "phase1.slice_length": 100}
    settings |= {"phase1.max_iterations": 6, "phase2.epochs": 1, "phase2.batch_size": 64}
    config = RunConfig.from_settings(settings)
    fitted = make_arm(config, VOCABULARY).fit(
        draw_tokens(300).numpy(), draw_tokens(60, seed=1).numpy(), Budget(torch.device("cpu")), 1
    )
    assert np.isfinite(fitted.nll(draw_tokens(40, seed=2).numpy())).all()
