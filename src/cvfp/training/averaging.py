"""Averages of the weights over training steps: what is evaluated and kept in place of the last weights.

An average is updated after every optimiser step and asked for its dev loss at every evaluation. Its numbers
stay on the device, so that a recorded step can hold an update.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

WARM_UP = 10
"""Updates over which an exponential average forgets where it began (common practice)."""


class Average(ABC):
    """Some average of the parameters of a model."""

    weights: Sequence[Tensor]
    """The average as it was at the last evaluation or is now: what is kept."""
    tensors: dict[str, Tensor]
    """All that it has to remember, by name: what a savepoint holds."""

    @abstractmethod
    def update(self) -> None:
        """Take in the parameters as they are after a step."""

    @abstractmethod
    def dev_loss(self, evaluate: Callable[[], float]) -> float:
        """The loss of `weights`; `evaluate` computes that of the parameters, which come back unchanged."""


class LastWeights(Average):
    """No average: the parameters as they are."""

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.weights, self.tensors = parameters, {}

    def update(self) -> None:
        """There is nothing to remember."""

    def dev_loss(self, evaluate: Callable[[], float]) -> float:
        return evaluate()


class ExponentialAverage(Average):
    """A moving average: the k-th update keeps min(decay, k / (k + 10)) of it, k from 0."""

    def __init__(self, parameters: Sequence[nn.Parameter], decay: float) -> None:
        self.parameters, self.decay = parameters, decay
        self.weights, self.aside = _copies(parameters), _copies(parameters)
        self.updates = torch.zeros((), dtype=parameters[0].dtype, device=parameters[0].device)
        self.tensors = _named("weights", self.weights) | {"updates": self.updates}

    @torch.no_grad()
    def update(self) -> None:
        share = 1 - (self.updates / (self.updates + WARM_UP)).clamp(max=self.decay)
        for weights, parameter in zip(self.weights, self.parameters, strict=True):
            weights.lerp_(parameter, share)
        self.updates += 1

    def dev_loss(self, evaluate: Callable[[], float]) -> float:
        copy(self.parameters, self.aside)
        copy(self.weights, self.parameters)
        loss = evaluate()
        copy(self.aside, self.parameters)
        return loss


class TwoTailedAverage(Average):
    """Two means of the parameters, of which the longer one is kept (Melis 2023, "Two-Tailed Averaging").

    Each is the plain mean over the steps since it began. At every evaluation at which the short one is at
    least as good as the long one, the long one becomes it, and a new short one begins. So the tail that is
    averaged over grows for as long as that pays, and there is no decay to choose.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self.parameters = parameters
        self.short, self.weights, self.aside = (_copies(parameters) for _ in range(3))
        zero = torch.zeros((), dtype=parameters[0].dtype, device=parameters[0].device)
        self.short_steps, self.long_steps = zero, zero.clone()
        self.tensors = _named("short", self.short) | _named("long", self.weights)
        self.tensors |= {"short_steps": self.short_steps, "long_steps": self.long_steps}

    @torch.no_grad()
    def update(self) -> None:
        for steps, mean in ((self.short_steps, self.short), (self.long_steps, self.weights)):
            share = 1 / steps.add_(1)
            for weights, parameter in zip(mean, self.parameters, strict=True):
                weights.lerp_(parameter, share)

    def dev_loss(self, evaluate: Callable[[], float]) -> float:
        copy(self.parameters, self.aside)
        copy(self.weights, self.parameters)
        loss = evaluate()
        copy(self.short, self.parameters)
        short_loss = evaluate()
        copy(self.aside, self.parameters)
        if short_loss > loss:
            return loss
        copy([*self.short, self.short_steps], [*self.weights, self.long_steps])
        self.short_steps.zero_()
        return short_loss


def make_average(parameters: Sequence[nn.Parameter], averaging: float | Literal["two-tailed"]) -> Average:
    """The average that a config asks for: a decay, 0 for none, or the name of the one without a decay."""
    if averaging == "two-tailed":
        return TwoTailedAverage(parameters)
    return ExponentialAverage(parameters, averaging) if averaging else LastWeights(parameters)


@torch.no_grad()
def copy(source: Sequence[Tensor], target: Sequence[Tensor]) -> None:
    """Write tensors over others of their shapes."""
    for old, new in zip(source, target, strict=True):
        new.copy_(old)


def _copies(parameters: Sequence[nn.Parameter]) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in parameters]


def _named(name: str, tensors: Sequence[Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{index}": tensor for index, tensor in enumerate(tensors)}
