"""Claim: the head's losses and gradients are those of softmax cross-entropy, in whatever blocks and types."""

from __future__ import annotations

import pytest
import torch
from model_helpers import make_model
from torch import Tensor
from torch.testing import assert_close

from cvfp.training import head as module
from cvfp.training.head import Head, SoftTargets

ROWS, VOCAB, WIDTH = 150, 40, 6


def draw(dtype: torch.dtype = torch.float64) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """(hidden, table, bias, targets, weights); some weights are 0."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64).to(dtype)

    targets = torch.randint(0, VOCAB, (ROWS,), generator=generator)
    weights = torch.rand(ROWS, generator=generator, dtype=torch.float64).to(dtype)
    weights[::7] = 0
    return normal(ROWS, WIDTH), normal(VOCAB, WIDTH), normal(VOCAB), targets, weights


def by_definition(hidden: Tensor, table: Tensor, bias: Tensor | None, targets: Tensor, weights: Tensor):
    """(losses, weighted sum, gradients of hidden, table and bias) from torch's cross-entropy."""
    leaves = [one.clone().requires_grad_() for one in (hidden, table, *([] if bias is None else [bias]))]
    logits = torch.nn.functional.linear(*leaves)
    losses = torch.nn.functional.cross_entropy(logits, targets, reduction="none")
    loss = (losses * weights).sum()
    loss.backward()
    return losses.detach(), loss.detach(), [leaf.grad for leaf in leaves]


@pytest.fixture(params=[(1, 8 << 20), (64, 8 << 20), (64, 1)], ids=["plain", "aligned", "blocks of 64 rows"])
def layout(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    alignment, held = request.param
    monkeypatch.setitem(module.ROW_ALIGNMENT, "cpu", alignment)
    monkeypatch.setitem(module.BLOCK_BYTES, "cpu", held)
    monkeypatch.setattr(module, "MIN_ROWS", 64)


@pytest.mark.parametrize("with_bias", [False, True])
def test_losses_and_gradients_are_those_of_cross_entropy(with_bias: bool, layout):
    hidden, table, bias, targets, weights = draw()
    bias = bias if with_bias else None
    losses, loss, gradients = by_definition(hidden, table, bias, targets, weights)
    head = Head(table, bias, torch.float64)
    assert_close(head.nll(hidden, targets), losses, atol=1e-12, rtol=0)
    found = head.gradients([hidden], targets, weights, True, with_bias)
    assert_close(found.loss, loss, atol=1e-12, rtol=0)
    for one, other in zip((*found.hidden, found.table, found.bias), gradients, strict=False):
        assert_close(one, other, atol=1e-12, rtol=0)
    assert (found.bias is None) == (not with_bias)


def test_what_is_not_trained_gets_no_gradient():
    hidden, table, bias, targets, weights = draw()
    found = Head(table, bias, torch.float64).gradients([hidden], targets, weights, False, False)
    assert found.table is None and found.bias is None and found.hidden[0].shape == hidden.shape


def test_new_values_of_what_is_trained_are_taken_over(layout):
    hidden, table, bias, targets, weights = draw()
    head = Head(table, bias, torch.float64)
    table += 0.5 * torch.randn(table.shape, dtype=table.dtype, generator=torch.Generator().manual_seed(1))
    bias.mul_(2)
    head.load()
    assert_close(head.nll(hidden, targets), by_definition(hidden, table, bias, targets, weights)[0])


def test_bf16_operands_err_by_their_rounding():
    """8 bits of each operand: 2^-9 relative to the largest products, a few percent of small gradients."""
    hidden, table, bias, targets, weights = draw(torch.float32)
    losses, loss, gradients = by_definition(hidden, table, bias, targets, weights)
    head = Head(table, bias, torch.bfloat16)
    found = head.gradients([hidden], targets, weights, True, True)
    assert found.loss.dtype == found.table.dtype == found.bias.dtype == found.hidden[0].dtype == torch.float32
    assert float((head.nll(hidden, targets) - losses).abs().max()) < 0.05
    assert float(loss) == pytest.approx(float(found.loss), rel=1e-3)
    for one, other in zip((*found.hidden, found.table, found.bias), gradients, strict=True):
        assert float((one - other).norm() / other.norm()) < 0.01


def test_no_rows_have_no_losses():
    model = make_model()
    head = Head(model.embedding, model.output_bias, torch.float32)
    assert head.nll(torch.zeros(0, model.config.embed_dim), torch.zeros(0, dtype=torch.long)).shape == (0,)


def disagreement(first: Tensor, second: Tensor) -> Tensor:
    """(B,) half the sum of the Kullback-Leibler divergences between two softmaxes, written out."""
    kl = torch.nn.functional.kl_div
    logs = first.log_softmax(dim=1), second.log_softmax(dim=1)
    pairs = (logs, logs[::-1])
    return sum(kl(q, p, reduction="none", log_target=True).sum(dim=1) for p, q in pairs) / 2


@pytest.mark.parametrize("consistency", [0.0, 0.7])
@pytest.mark.parametrize("with_bias", [False, True])
def test_two_readings_are_held_to_the_targets_and_to_each_other(with_bias: bool, consistency: float, layout):
    hidden, table, bias, targets, weights = draw()
    leaves = [
        one.clone().requires_grad_()
        for one in (
            hidden,
            hidden + torch.randn(hidden.shape).double(),
            table,
            *([bias] if with_bias else []),
        )
    ]
    logits = [torch.nn.functional.linear(one, *leaves[2:]) for one in leaves[:2]]
    losses = [torch.nn.functional.cross_entropy(one, targets, reduction="none") for one in logits]
    told = (weights * (losses[0] + losses[1]) / 2).sum()
    (told + consistency * (weights * disagreement(*logits)).sum()).backward()
    head = Head(table, bias if with_bias else None, torch.float64)
    readings = [leaf.detach() for leaf in leaves[:2]]
    found = head.gradients(readings, targets, weights, True, with_bias, consistency)
    assert_close(found.loss, told.detach(), atol=1e-12, rtol=0)
    for one, leaf in zip((*found.hidden, found.table, found.bias), leaves, strict=False):
        assert_close(one, leaf.grad, atol=1e-12, rtol=0)


@pytest.mark.parametrize("readings", [1, 2])
@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_soft_targets_are_the_cross_entropy_with_the_mean_of_the_heads_probabilities(
    share: float, readings: int, layout
):
    hidden, table, bias, targets, weights = draw()
    others = [(torch.randn(ROWS, WIDTH).double(), torch.randn(VOCAB, WIDTH).double()) for _ in range(3)]
    soft = SoftTargets([Head(t, bias, torch.float64) for _, t in others], [h for h, _ in others], share)
    mean = torch.stack([(h @ t.T + bias).softmax(dim=1) for h, t in others]).mean(dim=0)
    leaves = [one.clone().requires_grad_() for one in (hidden, table, bias)]
    logs = torch.nn.functional.linear(*leaves).log_softmax(dim=1)
    hard = -logs.gather(1, targets[:, None])[:, 0]
    (weights * ((1 - share) * hard - share * (mean * logs).sum(dim=1))).sum().backward()
    head = Head(table, bias, torch.float64)
    found = head.gradients([hidden] * readings, targets, weights, True, True, soft=soft)
    assert_close(found.loss, (weights * hard).sum().detach(), atol=1e-12, rtol=0)
    for one, leaf in zip((sum(found.hidden), found.table, found.bias), leaves, strict=True):
        assert_close(one, leaf.grad, atol=1e-12, rtol=0)
