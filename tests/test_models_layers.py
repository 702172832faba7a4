"""Claim: the modules compute the formulas of the specification, and count as it says."""

from __future__ import annotations

import math

import jaxtyping
import pytest
import torch
from fuzz_helpers import tried
from hypothesis import given
from hypothesis import strategies as st
from model_helpers import draw_tokens, make_model
from torch import Tensor, nn
from torch.testing import assert_close

from cvfp.metrics.cost import model_cost
from cvfp.models.cells import ContextBlock
from cvfp.models.cvfp import CVFPModel
from cvfp.models.layers import TokenBlock, gathered_features, normalised_rows, token_features
from cvfp.models.recurrence import roll_out
from cvfp.records.config import ModelConfig

SHAPES = [(num_layers, n) for num_layers in (1, 2, 3) for n in (1, 2, 3)]


def normalised(row: list[float], scale: list[float], shift: list[float]) -> list[float]:
    mean = sum(row) / len(row)
    variance = sum((x - mean) ** 2 for x in row) / len(row)
    return [
        s * (x - mean) / math.sqrt(variance + 1e-5) + b for x, s, b in zip(row, scale, shift, strict=True)
    ]


def affine(linear: nn.Linear, row: list[float]) -> list[float]:
    return [
        sum(w * x for w, x in zip(weights, row, strict=True)) + b
        for weights, b in zip(linear.weight.tolist(), linear.bias.tolist(), strict=True)
    ]


def features_by_hand(table: Tensor, tokens: Tensor, t: int, n: int) -> list[float]:
    ones, zeros = [1.0] * table.shape[1], [0.0] * table.shape[1]
    row = []
    for position in range(t - n + 1, t + 1):
        row += normalised(table[tokens[position]].tolist(), ones, zeros) if position >= 0 else zeros
    return row


def layer_by_hand(layer, c: list[float], u: list[float], residual: list[float]) -> list[float]:
    """LN(residual + ReLU(W [c; u] + b))."""
    total = [r + max(h, 0.0) for r, h in zip(residual, affine(layer.linear, c + u), strict=True)]
    return normalised(total, layer.norm.weight.tolist(), layer.norm.bias.tolist())


def with_random_norms(model: CVFPModel) -> CVFPModel:
    """Scales and shifts away from 1 and 0, so that leaving them out would show."""
    torch.manual_seed(5)
    for module in model.modules():
        if isinstance(module, nn.LayerNorm):
            nn.init.normal_(module.weight)
            nn.init.normal_(module.bias)
    return model


@pytest.mark.parametrize(("num_layers", "n"), SHAPES)
def test_whole_model_equals_the_formulas_in_plain_loops(num_layers: int, n: int):
    model = make_model(num_layers, n, context_dim=5, embed_dim=4, dtype=torch.float64, output_bias=True)
    with_random_norms(model)
    tokens = draw_tokens(6)
    state, logits, contexts = [0.0] * 5, [], []
    for t in range(len(tokens)):
        f = features_by_hand(model.context_table, tokens, t, n)
        u = f
        contexts.append([])
        for context_layer, token_layer in zip(
            model.context_block.layers, model.token_block.layers, strict=True
        ):
            state = layer_by_hand(context_layer, state, f, residual=state)
            contexts[-1].append(state)
            same = isinstance(token_layer.residual, nn.Identity)
            u = layer_by_hand(token_layer, state, u, u if same else affine(token_layer.residual, u))
        bias = model.output_bias.tolist()
        rows = zip(model.embedding.tolist(), bias, strict=True)
        logits.append([sum(e * x for e, x in zip(row, u, strict=True)) + b for row, b in rows])
    with torch.no_grad():
        found = model.contexts(tokens)
        found_logits = model.logits(model.hidden(found, tokens, torch.arange(6)))
    assert_close(found, torch.tensor(contexts, dtype=torch.float64), atol=1e-10, rtol=1e-10)
    assert_close(found_logits, torch.tensor(logits, dtype=torch.float64), atol=1e-9, rtol=1e-9)


def test_zero_vectors_stand_before_the_start():
    table, tokens = torch.randn(9, 4, generator=torch.Generator().manual_seed(0)), torch.arange(9)
    f = token_features(table, tokens, torch.arange(9), num_input_tokens=3)
    assert torch.equal(f[0, :8], torch.zeros(8))
    assert torch.equal(f[1, :4], torch.zeros(4))
    assert (f[2] != 0).all()
    assert torch.equal(f[2, :4], f[0, 8:])


def test_token_normalisation_is_plain_and_untrained():
    """Mean 0, variance 1 per token, whatever the scale of the table, and no parameter of its own."""
    model = make_model(2, 2)
    f = model.context_features(draw_tokens(50), torch.arange(1, 50)).unflatten(1, (2, 16))
    assert_close(f.mean(dim=2), torch.zeros(49, 2), atol=1e-6, rtol=0)
    assert_close(f.var(dim=2, correction=0), torch.ones(49, 2), atol=1e-3, rtol=0)
    names = {name.split(".")[0] for name, _ in model.named_parameters()}
    assert names == {"embedding", "context_block", "token_block"}


@pytest.mark.parametrize(("context_dim", "count"), [(768, 1_181_952), (1200, 2_365_200), (1537, 3_547_396)])
def test_context_block_has_the_published_parameter_count(context_dim: int, count: int):
    with torch.device("meta"):
        block = ContextBlock(1, context_dim, 768)
    assert sum(p.numel() for p in block.parameters()) == count
    cost = model_cost(ModelConfig(context_dim=context_dim), 50_257, output_bias=False)
    assert cost.context_block_params == count


def test_token_widths_shrink_linearly():
    config = ModelConfig(num_layers=3, num_input_tokens=3)
    assert config.token_widths == [2304, 1792, 1280, 768]
    with torch.device("meta"):
        block = TokenBlock(config.token_widths, 768)
    assert [layer.norm.normalized_shape[0] for layer in block.layers] == [1792, 1280, 768]
    assert [layer.linear.in_features for layer in block.layers] == [768 + 2304, 768 + 1792, 768 + 1280]


@tried(100)
@given(num_layers=st.integers(1, 6), n=st.integers(1, 5), embed_dim=st.integers(1, 40))
def test_token_widths_run_from_n_d_e_to_d_e_without_rising(num_layers: int, n: int, embed_dim: int):
    widths = ModelConfig(num_layers=num_layers, num_input_tokens=n, embed_dim=embed_dim).token_widths
    assert (widths[0], widths[-1], len(widths)) == (n * embed_dim, embed_dim, num_layers + 1)
    expected = [
        n * embed_dim - math.floor((n - 1) * embed_dim * i / num_layers) for i in range(num_layers + 1)
    ]
    assert widths == expected


@pytest.mark.parametrize("use_context", [True, False])
@pytest.mark.parametrize("output_bias", [True, False])
@pytest.mark.parametrize(("num_layers", "n"), SHAPES)
def test_costs_count_what_the_modules_hold(num_layers: int, n: int, output_bias: bool, use_context: bool):
    model = make_model(num_layers, n, output_bias=output_bias, use_context=use_context)
    cost = model_cost(model.config, model.vocab_size, output_bias, use_context)
    assert cost.total_params == sum(p.numel() for p in model.parameters())
    block = model.context_block
    assert cost.context_block_params == (sum(p.numel() for p in block.parameters()) if use_context else 0)
    assert cost.token_block_params == sum(p.numel() for p in model.token_block.parameters())
    linears = [m.weight.numel() for m in model.modules() if isinstance(m, nn.Linear)]
    assert cost.context_madds + cost.token_madds == sum(linears)
    assert cost.head_madds == model.embedding.numel()


def test_equal_widths_keep_the_identity_and_others_learn_a_projection():
    assert all(isinstance(layer.residual, nn.Identity) for layer in make_model(3, 1).token_block.layers)
    assert all(isinstance(layer.residual, nn.Linear) for layer in make_model(3, 2).token_block.layers)


@torch.no_grad()
def test_initialisation_is_the_published_one():
    """Every linear weight N(0, 0.1^2), every linear bias N(0, 0.01^2), LN scale 1 shift 0."""
    model = make_model(3, 3, context_dim=96, embed_dim=64)
    linears = [m for m in model.modules() if isinstance(m, nn.Linear)]
    norms = [m for m in model.modules() if isinstance(m, nn.LayerNorm)]
    assert (len(linears), len(norms)) == (9, 6)
    for linear in linears:
        assert float(linear.weight.std()) == pytest.approx(0.1, rel=0.05)
        assert abs(float(linear.weight.mean())) < 0.005
    biases = torch.cat([linear.bias for linear in linears])
    assert float(biases.std()) == pytest.approx(0.01, rel=0.1)
    assert abs(float(biases.mean())) < 0.002
    for norm in norms:
        assert torch.equal(norm.weight, torch.ones_like(norm.weight))
        assert torch.equal(norm.bias, torch.zeros_like(norm.bias))
        assert norm.eps == 1e-5


def test_context_block_reads_the_initial_table_and_the_head_the_trained_one():
    model, tokens = make_model(1, 2), draw_tokens(100)
    contexts = model.contexts(tokens)
    before = model.logits(model.hidden(contexts, tokens, torch.arange(100)))
    with torch.no_grad():
        model.embedding.mul_(torch.linspace(0.5, 2, 16))
    assert torch.equal(model.contexts(tokens), contexts)
    after = model.logits(model.hidden(contexts, tokens, torch.arange(100)))
    assert (after - before).abs().max() > 1e-3


def test_a_model_without_context_refuses_to_solve_one():
    model = make_model(use_context=False)
    assert model.contexts(draw_tokens(30)).shape == (30, 1, 0)
    with pytest.raises(ValueError, match="without a context block"):
        model.solve_contexts(draw_tokens(30), torch.arange(30), torch.zeros(24))


def test_dropout_scales_what_it_keeps_and_is_off_by_default():
    model, tokens, positions = make_model(1, 2), draw_tokens(200), torch.arange(200)
    contexts = model.contexts(tokens)
    plain = model.hidden(contexts, tokens, positions)
    assert torch.equal(plain, model.hidden(contexts, tokens, positions))
    torch.manual_seed(0)
    dropped = model.hidden(contexts, tokens, positions, dropout=0.5)
    assert float((dropped == 0).float().mean()) == pytest.approx(0.5, abs=0.05)


def test_wrong_shapes_are_caught_while_tests_run():
    """The type checker of conftest.py works, also on annotations that are strings."""
    block = ContextBlock(1, 8, 4)
    with pytest.raises(jaxtyping.TypeCheckError):
        roll_out(block, torch.zeros(3, 4, 5))
    with pytest.raises(jaxtyping.TypeCheckError):
        block.step(torch.zeros(3, 8), torch.zeros(2, 1, 8))
    with pytest.raises(jaxtyping.TypeCheckError):
        CVFPModel(ModelConfig(), torch.zeros(3))


@pytest.mark.parametrize("num_input_tokens", [1, 2, 4])
def test_features_gathered_from_normalised_rows_are_the_same_bits(num_input_tokens: int):
    table, tokens, positions = torch.randn(50, 96), draw_tokens(40), torch.arange(40)
    found = gathered_features(normalised_rows(table), tokens, positions, num_input_tokens)
    assert torch.equal(found, token_features(table, tokens, positions, num_input_tokens))
