"""Claim: the stepper's steps are those of torch's AdamW on clipped gradients, and start in no time."""

from __future__ import annotations

import subprocess
import sys

import pytest
import torch
from torch import Tensor, nn

from cvfp.training.stepper import ADAM_EPS, BETA1, Stepper

LR, BETA2, CLIP = 0.02, 0.95, 0.5


def parameters(dtype: torch.dtype) -> list[nn.Parameter]:
    """Two matrices and a bias; the last matrix gets no gradient."""
    torch.manual_seed(0)
    return [nn.Parameter(torch.randn(*shape, dtype=dtype)) for shape in ((4, 3), (4,), (2, 2))]


def set_gradients(learned: list[nn.Parameter], step: int) -> None:
    generator = torch.Generator().manual_seed(step)
    for one in learned[:2]:
        one.grad = torch.randn(one.shape, generator=generator, dtype=torch.float64).to(one.dtype)


def stepper_of(learned: list[nn.Parameter], decay: float) -> Stepper:
    return Stepper(learned, lr=LR, grad_clip=CLIP, weight_decay=decay, beta2=BETA2)


def by_torch(learned: list[nn.Parameter], decay: float, steps: int, halved_after: int) -> None:
    matrices = [one for one in learned if one.dim() > 1]
    biases = [one for one in learned if one.dim() == 1]
    optimizer = torch.optim.AdamW(
        [{"params": matrices, "weight_decay": decay}, {"params": biases, "weight_decay": 0.0}],
        lr=LR,
        betas=(BETA1, BETA2),
        eps=ADAM_EPS,
        fused=True,
    )
    for step in range(steps):
        optimizer.zero_grad()
        set_gradients(learned, step)
        nn.utils.clip_grad_norm_(learned, CLIP)
        optimizer.step()
        if step == halved_after:
            for options in optimizer.param_groups:
                options["lr"] *= 0.5


def by_stepper(stepper: Stepper, learned: list[nn.Parameter], steps: range, halved_after: int) -> None:
    for step in steps:
        stepper.zero_grad()
        set_gradients(learned, step)
        stepper.update()
        if step == halved_after:
            stepper.scale_lr(0.5)


@pytest.mark.parametrize("decay", [0.0, 0.3])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_steps_are_those_of_torch_bit_for_bit(dtype: torch.dtype, decay: float):
    ours, theirs, start = parameters(dtype), parameters(dtype), parameters(dtype)
    by_torch(theirs, decay, 7, halved_after=3)
    stepper = stepper_of(ours, decay)
    by_stepper(stepper, ours, range(7), halved_after=3)
    assert all(torch.equal(one, other) for one, other in zip(ours, theirs, strict=True))
    assert torch.equal(ours[2], start[2])
    assert not torch.equal(ours[1], start[1])
    assert (stepper.steps, stepper.lr) == (7, LR / 2)


def test_a_stepper_that_is_restored_goes_on_as_the_one_that_was_saved():
    ours, other = parameters(torch.float32), parameters(torch.float32)
    first = stepper_of(ours, 0.3)
    by_stepper(first, ours, range(3), halved_after=1)
    kept: dict[str, Tensor] = {name: tensor.detach().clone() for name, tensor in first.tensors().items()}
    second = stepper_of(other, 0.3)
    second.restore(kept, first.numbers())
    assert (second.steps, second.lr) == (3, LR / 2)
    for stepper, learned in ((first, ours), (second, other)):
        by_stepper(stepper, learned, range(3, 6), halved_after=4)
    assert all(torch.equal(one, same) for one, same in zip(ours, other, strict=True))


def test_steps_and_the_health_of_contexts_import_no_compiler():
    """Classes of `torch.optim`, and `torch.func`, import it when they are first used: seconds a process."""
    code = """
import sys, torch
from cvfp.metrics.context_health import local_lipschitz
from cvfp.training.stepper import Stepper
weights = torch.nn.Parameter(torch.eye(3))
stepper = Stepper([weights], lr=0.1, grad_clip=1.0)
weights.sum().backward()
stepper.update()
local_lipschitz(lambda c, z: torch.nn.functional.layer_norm(c @ weights.T, (3,)), torch.randn(4, 3), weights)
print("torch._dynamo" in sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "False"
