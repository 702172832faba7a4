"""Claim: small steps in a row take one thread, large ones all, and the bits are the same.

Where the model is on another device the CPU takes few.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from cvfp.models.cells import LstmCell
from cvfp.models.fixed_point import solve_blocks
from cvfp.models.sequence import LstmLanguageModel
from cvfp.models.threads import BESIDE, SHARED, threads_beside, threads_for


@pytest.fixture(autouse=True)
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("numbers", "threads"), [(1, 1), (SHARED, 1), (SHARED + 1, 2)])
def test_a_block_has_the_threads_that_its_states_are_worth(numbers: int, threads: int):
    with pytest.raises(KeyError), threads_for(torch.empty(numbers)):
        assert torch.get_num_threads() == threads
        raise KeyError
    assert torch.get_num_threads() == 2


@pytest.mark.parametrize(
    ("device", "threads", "inside"),
    [("cuda:0", 8, BESIDE), ("mps", 8, BESIDE), ("cuda:0", 1, 1), ("cpu", 8, 8)],
)
def test_beside_another_device_few_threads_are_left(device: str, threads: int, inside: int):
    torch.set_num_threads(threads)
    with pytest.raises(KeyError), threads_beside(torch.device(device)):
        assert torch.get_num_threads() == inside
        raise KeyError
    assert torch.get_num_threads() == threads


@torch.no_grad()
def test_a_solve_has_the_same_bits(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(1)
    cell = LstmCell(1, 96, 64, rounds=2, rank=16)
    parts, start = cell.token_parts(torch.randn(2000, 64)), torch.zeros(cell.state_dim)
    found = solve_blocks(cell.step, parts, start).states
    monkeypatch.setattr("cvfp.models.threads.SHARED", 0)
    assert torch.equal(found, solve_blocks(cell.step, parts, start).states)


def test_a_roll_out_and_its_gradient_have_the_same_bits(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(1)
    cell, features = LstmCell(1, 96, 64, rounds=2, rank=16), torch.randn(8, 32, 64)

    def run() -> list[torch.Tensor]:
        contexts, after = cell.roll(features, torch.zeros(32, cell.state_dim))
        gradients = torch.autograd.grad(contexts.square().sum(), tuple(cell.parameters()))
        return [contexts, after, *gradients]

    found = run()
    monkeypatch.setattr("cvfp.models.threads.SHARED", 0)
    assert all(map(torch.equal, found, run()))


@torch.no_grad()
def test_an_lstm_reads_the_same_bits(monkeypatch: pytest.MonkeyPatch):
    torch.manual_seed(1)
    model, tokens = LstmLanguageModel(1, torch.randn(50, 64)), torch.randint(50, (3000,))
    found = torch.cat(list(model.stream(tokens)))
    monkeypatch.setattr("cvfp.models.threads.SHARED", 0)
    assert torch.equal(found, torch.cat(list(model.stream(tokens))))
