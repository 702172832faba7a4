"""The one training loop: gradient, clip, Adam step, stop. Phases differ in their objective only."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from cvfp.metrics.perplexity import MAX_NATS
from cvfp.models.replay import Replayed
from cvfp.records.errors import DivergedError
from cvfp.records.results import CAP
from cvfp.records.schema import Precision
from cvfp.training import group
from cvfp.training.devices import computing_in
from cvfp.training.savepoint import NOT_SAVED, Rows, Savepoint, State

BETA1 = 0.9
ADAM_EPS = 1e-8


class Objective(ABC):
    """What a phase minimises and when it has had enough."""

    saved_rows: Rows | None = None
    """Rows that a savepoint keeps, and that one is read into."""
    replayable = False
    """Whether `backward` runs the same operations on the same tensors in every step, whatever is in them."""
    sums: tuple[Tensor, ...] = ()
    """What `backward` adds up beside the gradients: in a group a share of each, until shares are added."""

    @abstractmethod
    def prepare(self, step: int) -> None:
        """Make ready for this step (steps count from 1)."""

    @abstractmethod
    def backward(self) -> None:
        """Set the gradients of this step's loss; they are None before. In a group: those of a share of it."""

    def updated(self) -> None:  # noqa: B027 (most objectives have nothing to do there)
        """Called right after the weights have changed, as a part of the step that may be recorded."""

    @abstractmethod
    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> str | None:
        """Called after the update. A stop reason ends the loop; None goes on."""

    def can_resume_after(self, step: int) -> bool:
        """Whether `state` says all there is to say after this step."""
        return True

    @abstractmethod
    def state(self, step: int) -> State:
        """What the objective itself has to remember after this step."""

    @abstractmethod
    def restore(self, state: State, step: int) -> None:
        """Be as it was when `state` was taken."""


def optimise(
    objective: Objective,
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    grad_clip: float,
    max_steps: int,
    weight_decay: float = 0.0,
    beta2: float = 0.999,
    precision: Precision = "float32",
    savepoint: Savepoint = NOT_SAVED,
) -> tuple[int, str]:
    """Take up to `max_steps` Adam steps; return how many were taken and why it stopped (`cap`: all of them).

    Adam (Kingma & Ba 2015) with decoupled weight decay (Loshchilov & Hutter 2019) of matrices; biases and
    normalisations do not decay.
    The gradient's norm over all parameters is clipped to `grad_clip`. What `savepoint` holds is gone on with.
    The processes of a group add up their gradients and take the same steps.
    """
    parameters = sorted(parameters, key=lambda parameter: weight_decay > 0 and parameter.dim() < 2)
    device = parameters[0].device
    replayed = objective.replayable and device.type == "cuda"
    matrices = [parameter for parameter in parameters if parameter.dim() > 1 or not weight_decay]
    groups = [(matrices, weight_decay), (parameters[len(matrices) :], 0.0)]
    optimizer = torch.optim.AdamW(
        [
            {
                "params": members,
                "weight_decay": decay,
                "lr": torch.tensor(lr, device=device) if replayed else lr,
            }
            for members, decay in groups
            if members
        ],
        betas=(BETA1, beta2),
        eps=ADAM_EPS,
        fused=device.type != "mps",
        capturable=replayed,
    )

    def gradients() -> None:
        optimizer.zero_grad(set_to_none=True)
        with computing_in(precision, device):
            objective.backward()

    def update() -> None:
        nn.utils.clip_grad_norm_(parameters, grad_clip)
        optimizer.step()
        objective.updated()

    take_step = _stepper(gradients, update, parameters, objective.sums, replayed)
    done = _resume(savepoint, objective, parameters, optimizer)
    for step in range(done + 1, max_steps + 1):
        objective.prepare(step)
        take_step()
        reason = objective.after_step(step, optimizer)
        if reason is not None:
            return step, reason
        if objective.can_resume_after(step) and savepoint.due():
            savepoint.save(_state(objective, parameters, optimizer, step))
    return max_steps, CAP


def _stepper(
    gradients: Callable[[], None],
    update: Callable[[], None],
    parameters: list[nn.Parameter],
    sums: tuple[Tensor, ...],
    replayed: bool,
) -> Callable[[], None]:
    """Both, one after the other; in a group the gradients are added up in between."""

    def alone() -> None:
        gradients()
        update()

    if group.size() == 1:
        return Replayed(alone) if replayed else alone
    parts = [Replayed(part) if replayed else part for part in (gradients, update)]

    def together() -> None:
        parts[0]()
        for parameter in parameters:  # a process that has no share of the step has no gradient
            parameter.grad = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
        group.add_up(*(parameter.grad for parameter in parameters), *sums)
        parts[1]()

    return together


def _state(
    objective: Objective, parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, step: int
) -> State:
    own = objective.state(step)
    tensors = {f"objective.{name}": tensor for name, tensor in own.tensors.items()}
    for index, parameter in enumerate(parameters):
        tensors[f"parameter.{index}"] = parameter
        for name, value in optimizer.state[parameter].items():
            tensors[f"adam.{index}.{name}"] = value
    numbers = {"step": step, "lr": float(optimizer.param_groups[0]["lr"]), "objective": own.numbers}
    return State(tensors, numbers, own.rows)


def _resume(
    savepoint: Savepoint,
    objective: Objective,
    parameters: list[nn.Parameter],
    optimizer: torch.optim.Optimizer,
) -> int:
    """Be where the savepoint is; the steps that were taken, 0 where there is none."""
    saved = savepoint.load(parameters[0].device, objective.saved_rows)
    if saved is None:
        return 0
    parts: dict[str, dict[str, Tensor]] = {}
    for name, tensor in saved.tensors.items():
        part, _, rest = name.partition(".")
        parts.setdefault(part, {})[rest] = tensor
    moments: dict[int, dict[str, Tensor]] = {}
    for name, tensor in parts["adam"].items():
        index, _, key = name.partition(".")
        moments.setdefault(int(index), {})[key] = tensor
    with torch.no_grad():
        for index, parameter in enumerate(parameters):
            parameter.copy_(parts["parameter"][str(index)])
    optimizer.load_state_dict({"state": moments, "param_groups": optimizer.state_dict()["param_groups"]})
    for options in optimizer.param_groups:
        lr = options["lr"]
        options["lr"] = lr.fill_(saved.numbers["lr"]) if isinstance(lr, Tensor) else saved.numbers["lr"]
    step = saved.numbers["step"]
    objective.restore(State(parts.get("objective", {}), saved.numbers["objective"]), step)
    return step


def scale_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    """Multiply the learning rate in place, where a recorded step reads it."""
    for options in optimizer.param_groups:
        options["lr"] *= factor


def require_finite(value: float, what: str, step: int) -> float:
    """The loss (nats), or `DivergedError` when it is not finite or has no perplexity in floating point."""
    if not abs(value) < MAX_NATS:
        raise DivergedError(
            f"{what} is {value:.4g} at step {step}: training diverged; try a smaller learning rate"
        )
    return value
