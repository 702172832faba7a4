"""The one training loop: gradient, clip, Adam step, stop. Phases differ in their objective only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable

import torch
from torch import nn

from cvfp.metrics.perplexity import MAX_NATS
from cvfp.records.errors import CvfpError
from cvfp.records.results import CAP
from cvfp.training.devices import tensor_float32

ADAM_BETAS = (0.9, 0.999)
ADAM_EPS = 1e-8


class Objective(ABC):
    """What a phase minimises and when it has had enough."""

    @abstractmethod
    def backward(self, step: int) -> None:
        """Accumulate the gradient of this step's loss (steps count from 1)."""

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
) -> tuple[int, str]:
    """Take up to `max_steps` Adam steps; return how many were taken and why it stopped (`cap`: all of them).

    Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019); with decay 0 it is Adam.
    The gradient's norm over all parameters is clipped to `grad_clip`.
    """
    parameters = list(parameters)
    device = parameters[0].device
    optimizer = torch.optim.AdamW(
        parameters,
        lr=lr,
        betas=ADAM_BETAS,
        eps=ADAM_EPS,
        weight_decay=weight_decay,
        fused=device.type != "mps",
    )
    for step in range(1, max_steps + 1):
        optimizer.zero_grad(set_to_none=True)
        with tensor_float32(device):
            objective.backward(step)
            nn.utils.clip_grad_norm_(parameters, grad_clip)
            optimizer.step()
        reason = objective.after_step(step, optimizer)
        if reason is not None:
            return step, reason
    return max_steps, CAP


def require_finite(value: float, what: str, step: int) -> float:
    """The loss (nats), or `CvfpError` when it is not finite or has no perplexity in floating point."""
    if not abs(value) < MAX_NATS:
        raise CvfpError(
            f"{what} is {value:.4g} at step {step}: training diverged; try a smaller learning rate"
        )
    return value
