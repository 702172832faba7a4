"""The one stepper: it clips gradients and takes Adam steps; a GPU records whole steps; it can be saved.

Every training is a loop of its own that calls it. On an ordinary device a step is

    stepper.zero_grad();  loss.backward();  stepper.update()

and where all steps are the same operations on the same tensors, `Stepper.whole_step` makes one call of it,
which a GPU replays from its record. In a group of processes gradients are added up before they are clipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from cvfp.models.replay import Replayed
from cvfp.records.errors import DivergedError
from cvfp.records.schema import Precision
from cvfp.training import group
from cvfp.training.devices import computing_in

BETA1 = 0.9
ADAM_EPS = 1e-8


def has_fused(device: torch.device) -> bool:
    """Whether a step is one operation over all parameters there."""
    return device.type != "mps"


class Moments(NamedTuple):
    """What Adam remembers of a parameter: updates so far, running means of its gradient and of its square."""

    step: Tensor
    exp_avg: Tensor
    exp_avg_sq: Tensor

    @classmethod
    def of(cls, parameter: Tensor) -> Moments:
        """Those of a parameter that no step has changed yet."""
        zeros = (torch.zeros_like(parameter, requires_grad=False) for _ in range(2))
        # Read by the CPU where torch has no fused step.
        device = parameter.device if has_fused(parameter.device) else "cpu"
        return cls(torch.zeros((), dtype=torch.float32, device=device), *zeros)


class Stepper:
    """Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019) on clipped gradients.

    Weight decay is for matrices; biases and normalisations do not decay.

    Args:
        parameters: what is learned.
        lr, beta2, weight_decay: of Adam.
        grad_clip: the norm over all parameters' gradients is clipped to it.
        precision: of the products in `whole_step` (one that is `usable`).
        recorded: whether `whole_step` may be recorded, on a GPU.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        *,
        lr: float,
        grad_clip: float,
        weight_decay: float = 0.0,
        beta2: float = 0.999,
        precision: Precision = "float32",
        recorded: bool = False,
    ) -> None:
        self.parameters = sorted(parameters, key=lambda one: weight_decay > 0 and one.dim() < 2)
        self.device, self.grad_clip = self.parameters[0].device, grad_clip
        self.precision: Precision = precision
        self.recorded = recorded and self.device.type == "cuda"
        self.steps = 0
        """Steps that were taken."""
        matrices = [one for one in self.parameters if one.dim() > 1 or not weight_decay]
        self.groups = ((matrices, weight_decay), (self.parameters[len(matrices) :], 0.0))
        self.beta2 = beta2
        self.rate = torch.tensor(lr, device=self.device) if self.recorded else lr
        """The learning rate, in a tensor where a recorded step reads it."""
        self.moments: dict[Tensor, Moments] = {one: Moments.of(one) for one in self.parameters}

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        for one in self.parameters:
            one.grad = None

    def update(self) -> None:
        """Take the step that the gradients ask for."""
        self._all_reduce(())
        self._apply()
        self.steps += 1

    def whole_step(
        self, gradients: Callable[[], None], shares: tuple[Tensor, ...], updated: Callable[[], None]
    ) -> Callable[[], None]:
        """A call that takes a step: it sets gradients, takes the update, tells that the weights have changed.

        Args:
            gradients: sets the gradients of a loss; they are None before. In a group those of a share of it.
            shares: what it writes beside them, a share of each in a group until shares are added up.
            updated: called after the weights have changed, as a part of what is recorded.
        """

        def learn() -> None:
            self.zero_grad()
            with computing_in(self.precision, self.device):
                gradients()

        def change() -> None:
            self._apply()
            updated()

        def both() -> None:
            learn()
            change()

        parts = (both,) if group.world_size() == 1 else (learn, change)
        first, *rest = (Replayed(part, self.device) if self.recorded else part for part in parts)

        def take() -> None:
            first()
            for part in rest:
                self._all_reduce(shares)
                part()
            self.steps += 1

        return take

    def _all_reduce(self, shares: tuple[Tensor, ...]) -> None:
        if group.world_size() == 1:
            return
        gradients = []
        for one in self.parameters:
            if one.grad is None:  # a process that has no share of the step
                one.grad = torch.zeros_like(one)
            gradients.append(one.grad)
        group.all_reduce(*gradients, *shares)

    @torch.no_grad()
    def _apply(self) -> None:
        nn.utils.clip_grad_norm_(self.parameters, self.grad_clip)
        for members, decay in self.groups:
            learned: list[Tensor] = [one for one in members if one.grad is not None]
            moments = [self.moments[one] for one in learned]
            # The function, not the class, whose construction imports a compiler: seconds in every process.
            adamw(
                learned,
                [one.grad for one in learned if one.grad is not None],
                [one.exp_avg for one in moments],
                [one.exp_avg_sq for one in moments],
                [],
                [one.step for one in moments],
                fused=has_fused(self.device),
                capturable=self.recorded,
                amsgrad=False,
                beta1=BETA1,
                beta2=self.beta2,
                lr=self.rate,
                weight_decay=decay,
                eps=ADAM_EPS,
                maximize=False,
            )

    @property
    def lr(self) -> float:
        return float(self.rate)

    def scale_lr(self, factor: float) -> None:
        """Multiply the learning rate in place, where a recorded step reads it."""
        self.rate *= factor

    def tensors(self) -> dict[str, Tensor]:
        """The parameters and Adam's moments, by name, for a savepoint."""
        found: dict[str, Tensor] = {}
        for index, one in enumerate(self.parameters):
            found[f"parameter.{index}"] = one
            for name, value in self.moments[one]._asdict().items():
                found[f"adam.{index}.{name}"] = value
        return found

    def numbers(self) -> dict[str, Any]:
        """The rest of what a savepoint needs."""
        return {"steps": self.steps, "lr": self.lr}

    def restore(self, tensors: Mapping[str, Tensor], numbers: Mapping[str, Any]) -> None:
        """Be as it was when `tensors` and `numbers` were taken."""
        with torch.no_grad():
            for name, tensor in self.tensors().items():
                tensor.copy_(tensors[name])
        self.rate *= 0.0  # in place, where a recorded step reads it
        self.rate += numbers["lr"]
        self.steps = numbers["steps"]


def require_finite(value: float, what: str, step: int) -> float:
    """The loss (nats), or `DivergedError` when it is not finite."""
    if not math.isfinite(value):
        raise DivergedError(
            f"{what} is {value:.4g} at step {step}: training diverged; try a smaller learning rate"
        )
    return value
