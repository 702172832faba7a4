"""The one training loop: gradient, clip, Adam step, stop. Phases differ in their objective only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import nn

from cvfp.metrics.perplexity import MAX_NATS
from cvfp.records.errors import CvfpError
from cvfp.records.results import CAP
from cvfp.records.values import Precision
from cvfp.training.precision import computing_in
from cvfp.training.replay import Replayed

ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8


class Objective(ABC):
    """What a phase minimises and when it has had enough."""

    replayable = False
    """Whether `backward` runs the same operations on the same tensors in every step, whatever is in them."""

    @abstractmethod
    def prepare(self, step: int) -> None:
        """Make ready for this step (steps count from 1)."""

    @abstractmethod
    def backward(self) -> None:
        """Set the gradients of this step's loss; they are None before."""

    @abstractmethod
    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> str | None:
        """Called after the update. A stop reason ends the loop; None goes on."""


def optimise(
    objective: Objective,
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    grad_clip: float,
    max_steps: int,
    weight_decay: float = 0.0,
    precision: Precision = "float32",
) -> tuple[int, str]:
    """Take up to `max_steps` Adam steps; return how many were taken and why it stopped (`cap`: all of them).

    Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019); with decay 0 it is Adam.
    The gradient's norm over all parameters is clipped to `grad_clip`.
    """
    parameters = list(parameters)
    device = parameters[0].device
    replayed = objective.replayable and device.type == "cuda"
    optimizer = torch.optim.AdamW(
        parameters,
        lr=torch.tensor(lr, device=device) if replayed else lr,
        betas=ADAM_BETAS,
        eps=ADAM_EPS,
        weight_decay=weight_decay,
        fused=device.type != "mps",
        capturable=replayed,
    )

    def update() -> None:
        optimizer.zero_grad(set_to_none=True)
        with computing_in(precision, device):
            objective.backward()
        nn.utils.clip_grad_norm_(parameters, grad_clip)
        optimizer.step()

    run = Replayed(update) if replayed else update
    for step in range(1, max_steps + 1):
        objective.prepare(step)
        run()
        reason = objective.after_step(step, optimizer)
        if reason is not None:
            return step, reason
    return max_steps, CAP


def scale_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Multiply the learning rate in place, where a recorded step reads it."""
    for group in optimizer.param_groups:
        group["lr"] *= factor


def require_finite(value: float, what: str, step: int) -> float:
    """The loss (nats), or `CvfpError` when it is not finite or has no perplexity in floating point."""
    if not abs(value) < MAX_NATS:
        raise CvfpError(
            f"{what} is {value:.4g} at step {step}: training diverged; try a smaller learning rate"
        )
    return value
