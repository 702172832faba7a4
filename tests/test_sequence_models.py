"""LSTM and Transformer: what they see, how a stream is read, what training reaches."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from model_helpers import real_text
from torch.testing import assert_close

from cvfp.arms.base import Budget, make_arm
from cvfp.arms.kneser_ney import UnigramArm
from cvfp.arms.sequence import FittedSequence
from cvfp.metrics.cost import run_cost
from cvfp.metrics.perplexity import perplexity
from cvfp.models import sequence
from cvfp.models.sequence import LstmLanguageModel, SequenceModel, TransformerLanguageModel
from cvfp.records.config import RunConfig
from cvfp.records.errors import InputError
from cvfp.records.training_config import LstmConfig, TransformerConfig
from cvfp.training.evaluation import mean_nats_of_sequence, score_sequence
from cvfp.training.next_token import TokenLearner
from cvfp.training.through_time import Windows, sequence_parameters

ARMS = ("lstm", "transformer")
WIDTH, VOCAB = 8, 11
SMALL = {
    "model.embed_dim": 32,
    "lstm.num_layers": 1,
    "lstm.window": 16,
    "lstm.sequences": 16,
    "lstm.lr": 0.01,
    "lstm.dropout": 0.1,
    "lstm.consistency": 0.0,
    "transformer.window": 16,
    "transformer.sequences": 16,
    "transformer.head_dim": 8,
    "transformer.dropout": 0.1,
    "transformer.consistency": 0.0,
    "transformer.lr": 0.003,
}


def make(name: str, window: int = 6, bias: bool = True) -> SequenceModel:
    torch.manual_seed(1)
    table, output_bias = torch.randn(VOCAB, WIDTH), torch.randn(VOCAB) if bias else None
    if name == "lstm":
        return LstmLanguageModel(2, table, output_bias).double()
    return TransformerLanguageModel(2, window, 4, table, output_bias).double()


def draw(length: int) -> torch.Tensor:
    return torch.randint(VOCAB, (length,), generator=torch.Generator().manual_seed(2))


def whole(model: SequenceModel, tokens: torch.Tensor) -> torch.Tensor:
    return model.hidden(model.read(tokens[None]), None)[0][0]


@pytest.mark.parametrize("name", ARMS)
def test_a_token_changes_nothing_before_it(name: str):
    model, tokens = make(name, window=20), draw(20)
    changed = tokens.clone()
    changed[12] = (tokens[12] + 1) % VOCAB
    before, after = whole(model, tokens), whole(model, changed)
    assert torch.equal(before[:12], after[:12])
    assert (before[12:] - after[12:]).abs().amax(dim=1).min() > 0


def test_a_stream_of_an_lstm_is_the_cells_one_token_after_the_other(monkeypatch):
    monkeypatch.setitem(sequence.SEGMENT, "cpu", 7)
    model, tokens = make("lstm"), draw(25)
    states = [(torch.zeros(WIDTH).double(), torch.zeros(WIDTH).double()) for _ in model.layers]
    expected = []
    for token in tokens:
        u = F.layer_norm(model.embedding[token], (WIDTH,))
        for index, layer in enumerate(model.layers):
            h, c = states[index]
            gates = layer.weight_ih_l0 @ u + layer.bias_ih_l0 + layer.weight_hh_l0 @ h + layer.bias_hh_l0
            i, f, g, o = gates.chunk(4)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            u = o.sigmoid() * c.tanh()
            states[index] = u, c
        expected.append(u)
    assert_close(torch.cat(list(model.stream(tokens))), torch.stack(expected), atol=1e-12, rtol=0)


def test_windows_go_on_from_the_state_of_the_one_before():
    model, tokens = make("lstm"), draw(12)
    first, state = model.hidden(model.read(tokens[None, :5]), None)
    second, _ = model.hidden(model.read(tokens[None, 5:]), state)
    assert_close(torch.cat([first, second], dim=1)[0], whole(model, tokens), atol=1e-12, rtol=0)
    assert not any(tensor.requires_grad for pair in state for tensor in pair)


@pytest.mark.parametrize("length", [1, 29, 30, 31, 120, 331, 400])
def test_a_stream_read_in_chunks_is_the_stream_read_from_its_start(monkeypatch, length: int):
    monkeypatch.setattr(sequence, "CHUNK", 30)
    monkeypatch.setitem(sequence.SEGMENT, "cpu", 120)
    model, tokens = make("lstm"), draw(length)
    assert_close(torch.cat(list(model.stream(tokens))), whole(model, tokens), atol=1e-10, rtol=0)


def test_a_stream_that_is_never_forgotten_is_read_exactly_all_the_same(monkeypatch):
    monkeypatch.setattr(sequence, "CHUNK", 30)
    model, tokens = make("lstm"), draw(331)
    for layer in model.layers:  # open forget gates: a cell keeps all it ever took in
        layer.bias_ih_l0.data[WIDTH : 2 * WIDTH] = 50.0
    assert_close(torch.cat(list(model.stream(tokens))), whole(model, tokens), atol=1e-10, rtol=0)


def test_two_passes_read_at_least_a_chunk_before_every_token(monkeypatch):
    monkeypatch.setattr(sequence, "CHUNK", 30)
    model, tokens = make("lstm"), draw(331)
    found, exact = torch.cat(list(model.stream(tokens, exact=False))), whole(model, tokens)
    assert_close(found[:60], exact[:60], atol=1e-12, rtol=0)
    assert_close(found[300:330], whole(model, tokens[270:330])[30:], atol=1e-12, rtol=0)
    assert 0 < (found - exact).abs().max() < 1e-3


@pytest.mark.parametrize("length", [3, 6, 7, 9, 10, 31])
@pytest.mark.parametrize("window", [6, 7])
def test_a_stream_of_a_transformer_is_the_last_half_of_overlapping_windows(length: int, window: int):
    model, tokens = make("transformer", window), draw(length)
    found = torch.cat(list(model.stream(tokens)))
    step, expected = window // 2, []
    for place in range(length):
        first = 0 if place < window else (place - window) // step * step + step
        expected.append(whole(model, tokens[first : place + 1])[-1])
    assert_close(found, torch.stack(expected), atol=1e-10, rtol=0)


def test_attention_is_the_softmax_of_scaled_products():
    layer = make("transformer").layers[0]
    (
        torch.nn.init.zeros_(layer.narrow.weight),
        torch.nn.init.zeros_(layer.narrow.bias),
    )  # nothing else is added
    u = torch.randn(1, 5, WIDTH, dtype=torch.float64)
    queries, keys, values = (
        layer.queries_keys_values(layer.before_attention(u))[0].view(5, 3, 2, 4).unbind(dim=1)
    )
    joined = []
    for head in range(2):
        scores = queries[:, head] @ keys[:, head].T / math.sqrt(4)
        scores = scores.masked_fill(torch.ones(5, 5).triu(1).bool(), -math.inf)
        joined.append(scores.softmax(dim=1) @ values[:, head])
    expected = layer.joined(torch.cat(joined, dim=1))
    assert_close((layer(u, 0.0, False) - u)[0], expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("name", ARMS)
def test_scores_are_the_cross_entropy_of_the_next_tokens(name: str):
    model, tokens = make(name, window=40), draw(40)
    logits = model.logits(whole(model, tokens))[:-1]
    expected = F.cross_entropy(logits, tokens[1:], reduction="none")
    scores = score_sequence(model, tokens)
    assert_close(torch.from_numpy(scores.nll), expected.detach(), atol=1e-10, rtol=0)
    assert np.array_equal(scores.correct, (logits.argmax(dim=1) == tokens[1:]).numpy())
    assert mean_nats_of_sequence(model, tokens, "float32", True) == pytest.approx(expected.mean().item())


@pytest.mark.parametrize("name", ARMS)
@pytest.mark.parametrize("bias", [False, True])
def test_the_gradients_of_a_step_are_those_of_the_cross_entropy(name: str, bias: bool):
    model, tokens = make(name, bias=bias), draw(200)
    shape = {"window": 6, "sequences": 3, "dropout": 0.0, "word_dropout": 0.0}
    settings = {"lstm": LstmConfig, "transformer": TransformerConfig}[name](**shape)
    batch = Windows(model, tokens, tokens[:20], settings)
    learner = learner_of(batch)
    batch.load(next(batch.of_epoch(learner.generator)))
    learner.gradients()
    found = [parameter.grad.clone() for parameter in learner.parameters]
    model.zero_grad()
    places = batch.places
    hidden, _ = model.hidden(model.read(tokens[places]), None)
    F.cross_entropy(model.logits(hidden.flatten(0, 1)), tokens[places + 1].flatten()).backward()
    for gradient, parameter in zip(found, learner.parameters, strict=True):
        assert_close(gradient, parameter.grad, atol=1e-10, rtol=0)


@pytest.mark.parametrize("name", ARMS)
def test_batches_of_one_shape_as_a_gpu_records_them_teach_the_same(name: str):
    found = []
    for padded in (False, True):
        model, tokens = make(name), draw(130)
        settings = {"lstm": LstmConfig, "transformer": TransformerConfig}[name]
        batch = Windows(
            model, tokens, tokens[:20], settings(window=6, sequences=4, dropout=0.0, word_dropout=0.0)
        )
        batch.padded = padded
        learner = learner_of(batch)
        shapes, addresses, gradients = set(), set(), []
        for _epoch in range(3):
            batch.forget()
            for places in batch.of_epoch(learner.generator):
                model.zero_grad()
                batch.load(places)
                learner.gradients()
                gradients += [parameter.grad for parameter in learner.parameters]
                shapes.add(batch.places.shape)
                carried = [tensor for pair in batch.carried or () for tensor in pair]
                held = [batch.places, batch.weights, *carried]
                addresses.add(tuple(tensor.data_ptr() for tensor in held))
        assert len(shapes) == (1 if padded else 2), (
            "the last window of an epoch, or its last batch, is not full"
        )
        assert len(addresses) == 1 or not padded
        found.append(gradients)
    for gradient, expected in zip(*found, strict=True):
        assert_close(gradient, expected, atol=1e-12, rtol=0)


def learner_of(batch: Windows) -> TokenLearner:
    parameters = sequence_parameters(batch.model, train_embedding=True)
    return TokenLearner(batch, parameters, batch.settings, 1, "training", 0, lambda event: None)


@pytest.mark.parametrize("length", [2, 7, 50, 331])
def test_an_epoch_of_an_lstm_reads_all_but_a_token_per_stream_window_after_window(length: int):
    batch = Windows(make("lstm"), draw(length), draw(20), LstmConfig(window=6, sequences=4))
    steps = list(batch.of_epoch(torch.Generator().manual_seed(0)))
    assert len(steps) == batch.steps_of_text >= 1
    assert [len(step[0]) for step in steps[:-1]] == [batch.window] * (len(steps) - 1)
    streams = torch.cat(steps, dim=1)
    assert (streams.diff(dim=1) == 1).all()
    covered = streams.flatten().tolist()
    assert covered == list(range(covered[0], covered[0] + len(covered)))
    assert covered[0] >= 0 and covered[-1] < length - 1
    assert length - 1 - len(covered) < batch.sequences


@pytest.mark.parametrize("length", [2, 7, 50, 331])
def test_an_epoch_of_a_transformer_reads_every_window_once_in_random_order(length: int):
    batch = Windows(make("transformer"), draw(length), draw(20), TransformerConfig(window=6, sequences=4))
    generator = torch.Generator().manual_seed(0)
    epochs = [[row.tolist() for step in batch.of_epoch(generator) for row in step] for _ in range(2)]
    for windows in epochs:
        covered = [place for window in sorted(windows) for place in window]
        assert covered == list(range(covered[0], covered[0] + len(covered)))
        assert len(windows) == (length - 1) // batch.window
    assert length < 50 or epochs[0] != epochs[1]


def fit(arm: str, epochs: int = 30, **changes) -> tuple[FittedSequence, RunConfig]:
    tokens, vocab_size = real_text()
    settings = SMALL | {"arm": arm, f"{arm}.epochs": epochs} | changes
    config = RunConfig.from_settings(settings)
    arm_of_it = make_arm(config, vocab_size)
    train, dev = tokens[:5000].numpy(), tokens[5000:7000].numpy()
    return arm_of_it.fit(train, dev, Budget(torch.device("cpu")), 0), config


@pytest.mark.parametrize("arm", ["lstm", pytest.param("transformer", marks=pytest.mark.long)])
def test_training_beats_the_unigrams_of_the_same_text(arm: str):
    tokens, vocab_size = real_text()
    train, dev, test = (tokens[slice(*ends)].numpy() for ends in ((0, 5000), (5000, 7000), (7000, None)))
    unigram = UnigramArm(vocab_size).fit(train, dev, Budget(torch.device("cpu")), seed=0)
    found, config = fit(arm)
    assert perplexity(found.nll(test)) < 0.8 * perplexity(unigram.nll(test))
    assert found.facts.dev_ppl == pytest.approx(perplexity(found.nll(dev)), rel=1e-5)
    expected = run_cost(config, vocab_size, len(train))
    assert found.facts.total_params == expected.total_params == found.facts.trained_params
    assert found.facts.flops == pytest.approx(
        expected.flops * found.facts.tokens_seen / (len(train) * config.token_training.epochs)
    )


@pytest.mark.parametrize("arm", ARMS)
def test_training_repeats_itself_bit_for_bit(arm: str):
    tokens, _ = real_text()
    first, second = (fit(arm, epochs=2)[0].nll(tokens[7000:].numpy()) for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("arm", ARMS)
def test_a_frozen_table_stays_as_it_was(arm: str):
    found, config = fit(arm, epochs=1, **{"embedding.trained": False, "embedding.output_bias": False})
    assert found.model.output_bias is None
    assert abs(found.model.embedding.std() - config.embedding.std) < 0.001
    assert found.facts.trained_params == found.facts.total_params - found.model.embedding.numel()


def test_a_run_that_ends_at_its_cap_says_so():
    found, _ = fit("lstm", epochs=1)
    assert found.facts.stop_reason == "cap"


def test_heads_must_divide_the_width():
    with pytest.raises(
        InputError, match=r"transformer.head_dim: .*divide model.embed_dim, got 64 for a width of 96"
    ):
        RunConfig.from_settings({"arm": "transformer", "model.embed_dim": 96})


def test_settings_of_another_arm_change_no_hash():
    first = RunConfig.from_settings({"arm": "lstm"})
    assert first.run_hash == RunConfig.from_settings({"arm": "lstm", "model.context_dim": 5}).run_hash
    assert first.run_hash == RunConfig.from_settings({"arm": "lstm", "phase2.lr": 0.5}).run_hash
    assert first.run_hash != RunConfig.from_settings({"arm": "lstm", "lstm.lr": 0.5}).run_hash
