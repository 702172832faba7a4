"""Claim: the roll-out of the mogrified LSTM and its hand-written gradient are those of its definition."""

from __future__ import annotations

import sys

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cvfp.models import lstm_rollout as module
from cvfp.models.lstm_rollout import roll_positions

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
ROUNDS = pytest.mark.parametrize("rounds", [0, 1, 2, 3, 4])


def draw(
    positions: int,
    rows: int,
    x_width: int,
    h_width: int,
    rank: int,
    rounds: int,
    dtype=torch.float64,
    device="cpu",
) -> list[Tensor]:
    """[x, h, m, weight, bias, A_0, B_0, A_1, ...] of a size at which sigmoids are neither 0 nor 1."""
    generator = torch.Generator().manual_seed(0)

    def normal(*shape: int, scale: float = 1.0) -> Tensor:
        drawn = torch.randn(*shape, generator=generator, dtype=torch.float64) * scale
        return drawn.to(dtype).to(device)

    width = x_width + h_width
    drawn = [normal(positions, rows, x_width), normal(rows, h_width), normal(rows, h_width)]
    drawn += [normal(4 * h_width, width, scale=width**-0.5), normal(4 * h_width)]
    for i in range(rounds):
        source, target = (x_width, h_width) if i % 2 else (h_width, x_width)
        drawn += [normal(rank, source, scale=source**-0.5), normal(target, rank, scale=rank**-0.5)]
    return drawn


def by_definition(x, h, m, weight, bias, *matrices) -> tuple[Tensor, Tensor]:
    """(h' at every position, the last m'), one position after the other."""
    found = []
    for now in x:
        for i, (a, b) in enumerate(zip(matrices[::2], matrices[1::2], strict=True)):
            if i % 2:
                h = 2 * torch.sigmoid(now @ a.T @ b.T) * h
            else:
                now = 2 * torch.sigmoid(h @ a.T @ b.T) * now
        f, i, g, o = (torch.cat([now, h], dim=1) @ weight.T + bias).chunk(4, dim=1)
        m = torch.sigmoid(f) * m + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(m)
        found.append(h)
    return torch.stack(found), m


def rolled(x, h, m, weight, bias, *matrices, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    pairs = tuple(zip(matrices[::2], matrices[1::2], strict=True))
    return roll_positions(x, h, m, weight, bias, pairs, dtype)


def with_gradients(function, tensors: list[Tensor], **settings) -> list[Tensor]:
    """[h', m', gradient of x, weight, bias, A_0, ...] of a loss in which every h' has another weight."""
    leaves = [one.detach().clone().requires_grad_(i not in (1, 2)) for i, one in enumerate(tensors)]
    hs, m = function(*leaves, **settings)
    grid = torch.arange(hs.numel(), dtype=torch.float64, device=hs.device).reshape(hs.shape)
    (hs * torch.sin(grid).to(hs.dtype)).sum().backward()
    return [hs.detach(), m.detach(), *(leaf.grad for leaf in leaves if leaf.requires_grad)]


def distance(found: Tensor, expected: Tensor) -> float:
    """Frobenius norm of the difference, of the expected norm."""
    return float((found.double() - expected.double()).norm() / expected.double().norm())


@ROUNDS
@pytest.mark.parametrize("positions", [1, 5])
def test_values_and_gradients_are_those_of_the_definition(rounds: int, positions: int):
    tensors = draw(positions, 7, 6, 10, 3, rounds)
    found = with_gradients(rolled, tensors, dtype=torch.float64)
    expected = with_gradients(by_definition, tensors)
    for one, other in zip(found, expected, strict=True):
        assert_close(one, other, rtol=1e-9, atol=1e-12)


@ROUNDS
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 2e-6), (torch.bfloat16, 2e-2)])
@pytest.mark.parametrize("autocast", [False, True])
def test_narrow_operands_change_little(rounds: int, dtype: torch.dtype, tolerance: float, autocast: bool):
    tensors = draw(5, 7, 12, 20, 8, rounds, dtype=torch.float32)
    expected = with_gradients(by_definition, [one.double() for one in tensors])
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        found = with_gradients(rolled, tensors, dtype=dtype)
    for one, other in zip(found, expected, strict=True):
        assert one.dtype == torch.float32
        assert distance(one, other) < tolerance


def test_inputs_of_a_narrow_type_give_wide_results_and_gradients_of_their_own_type():
    tensors = draw(3, 4, 6, 10, 3, 2, dtype=torch.float32)
    tensors[0] = tensors[0].bfloat16()
    hs, m, grad_x, *others = with_gradients(rolled, tensors, dtype=torch.bfloat16)
    assert (hs.dtype, m.dtype, grad_x.dtype) == (torch.float32, torch.float32, torch.bfloat16)
    assert {one.dtype for one in others} == {torch.float32}


def test_no_gradient_reaches_what_was_before_the_window_or_leaves_through_the_memory():
    leaves = [one.requires_grad_() for one in draw(3, 5, 6, 10, 3, 2)]
    hs, m = rolled(*leaves, dtype=torch.float64)
    assert hs.requires_grad and not m.requires_grad
    hs.sum().backward()
    assert [leaf.grad is None for leaf in leaves] == [False, True, True, *[False] * 6]


def test_the_same_bits_every_time_and_again_from_a_kept_graph():
    tensors = draw(4, 5, 6, 10, 3, 4, dtype=torch.float32)
    first, second = (with_gradients(rolled, tensors, dtype=torch.float32) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    leaves = [one.requires_grad_() for one in tensors]
    hs, _ = rolled(*leaves, dtype=torch.float32)
    wanted = [leaf for i, leaf in enumerate(leaves) if i not in (1, 2)]
    first = torch.autograd.grad(hs.sum(), wanted, retain_graph=True)
    second = torch.autograd.grad(hs.sum(), wanted)
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_changing_the_result_in_place_is_no_silent_error():
    leaves = [one.requires_grad_() for one in draw(3, 5, 6, 10, 3, 2)]
    hs, _ = rolled(*leaves, dtype=torch.float64)
    loss = hs.sum()
    with torch.no_grad():
        hs.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


def test_a_gpu_without_triton_warns_and_uses_torch(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "cvfp.models.lstm_kernel", None)
    monkeypatch.delattr("cvfp.models.lstm_kernel", raising=False)
    module._kernels.cache_clear()
    with pytest.warns(UserWarning, match="no triton"):
        assert module._backend("cuda", torch.float32) is module._TORCH
    module._kernels.cache_clear()


@needs_cuda
@ROUNDS
@pytest.mark.parametrize("sizes", [(5, 33, 48, 80, 16), (1, 16, 64, 64, 24), (3, 7, 33, 49, 5)])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-4), (torch.bfloat16, 2e-2)])
def test_the_kernels_are_the_operations_of_torch(rounds: int, sizes, dtype: torch.dtype, tolerance: float):
    pytest.importorskip("triton")
    tensors = draw(*sizes, rounds, dtype=torch.float32, device="cuda")
    found = with_gradients(rolled, tensors, dtype=dtype)
    expected = with_gradients(rolled, [one.double() for one in tensors], dtype=torch.float64)
    assert max(distance(one, other) for one, other in zip(found, expected, strict=True)) < tolerance
    again = with_gradients(rolled, tensors, dtype=dtype)
    assert all(torch.equal(one, other) for one, other in zip(found, again, strict=True))


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("rounds", [0, 4])
def test_a_card_that_is_not_the_current_one_computes_the_same(rounds: int):
    assert torch.cuda.current_device() == 0
    first, second = (
        with_gradients(rolled, draw(4, 8, 32, 48, 16, rounds, torch.float32, device), dtype=torch.float32)
        for device in ("cuda:0", "cuda:1")
    )
    assert {one.device.index for one in second} == {1}
    assert all(torch.equal(one.cpu(), other.cpu()) for one, other in zip(first, second, strict=True))
