"""Learning to predict the next token: what phase 2 and training through time have in common."""

from __future__ import annotations

import math
import time
from abc import abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from cvfp.records.config import derived_seed
from cvfp.records.schema import Precision
from cvfp.records.training_config import TokenTraining
from cvfp.training import group
from cvfp.training.averaging import copy, make_average
from cvfp.training.devices import operand_dtype, seeded, usable
from cvfp.training.events import Event, Listener
from cvfp.training.head import Head, SoftTargets
from cvfp.training.loop import Objective, optimise, require_finite, scale_lr
from cvfp.training.savepoint import Savepoint, State

# --- When to stop: patience on the dev loss.


class Patience:
    """Remembers the best loss; `exhausted` after `limit` values in a row that are not below it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.best = float("inf")
        self.misses = 0

    def improved(self, loss: float) -> bool:
        """Take in one more value (nats); True when it is the best so far."""
        if loss < self.best:
            self.best, self.misses = loss, 0
            return True
        self.misses += 1
        return False

    @property
    def exhausted(self) -> bool:
        return self.misses >= self.limit


# --- The objective that losses of next tokens have in common, and learning it.


DEV_MINIMUM = "dev_minimum"
FIXED_STEPS = "fixed_steps"
REPORT_EVERY = 10
"""Steps between two reports of progress that are not evaluations."""


@dataclass(frozen=True)
class Learned:
    """The best evaluation (its weights are in the model) and how far training went.

    `best_epoch` is in passes over the training tokens; losses are nats per token, the training loss a running
    mean over the last pass before the best evaluation. `tokens_read` counts tokens as often as steps read
    them, `tokens_seen` once in each.
    """

    steps: int
    tokens_seen: int
    tokens_read: int
    stop_reason: str
    best_epoch: float
    dev_loss: float
    train_loss: float
    precision: Precision
    seconds: float = field(compare=False)


class NextTokenObjective(Objective):
    """Mean cross-entropy over a batch of next tokens; evaluation, patience and the best weights.

    Args:
        model: has an `embedding` (V, d_e), looked up and tied to the head, and an `output_bias` or None.
        parameters: those that are trained, the table among them if it is.
        settings: how long, how fast, when to stop.
        epoch_steps: steps of a pass over the training tokens.
        rows: next tokens of a full batch that this process has.
        seed: of the order of batches, and of dropout.
    """

    def __init__(
        self,
        model: nn.Module,
        parameters: list[nn.Parameter],
        settings: TokenTraining,
        epoch_steps: int,
        rows: int,
        seed: int,
        listen: Listener,
    ) -> None:
        self.model, self.parameters, self.settings, self.listen = model, parameters, settings, listen
        self.train_embedding = any(parameter is model.embedding for parameter in parameters)
        self.precision = usable(settings.precision, model.device)
        self.epoch_steps = epoch_steps
        self.max_steps = settings.epochs * epoch_steps if settings.steps is None else settings.steps
        self.eval_every = settings.steps_between_evaluations(epoch_steps)
        wide = torch.promote_types(model.embedding.dtype, torch.float32)
        self.weights = torch.zeros(rows, dtype=wide, device=model.device)
        self.weighed: tuple[int, int] | None = None
        self.seed = seed
        self.sizes: list[int] = []
        self.loss = torch.zeros((), dtype=wide, device=model.device)
        self.sums = (self.loss,)
        self.losses = torch.zeros(epoch_steps, dtype=wide, device=model.device)
        """Of the last pass; step s stands at (s - 1) % epoch_steps."""
        self.head = Head(model.embedding, model.output_bias, operand_dtype(self.precision, model.embedding))
        self.patience = Patience(settings.patience)
        self.best_step, self.best_train_loss = 0, math.nan
        self.best_weights = [parameter.detach().clone() for parameter in parameters]
        self.average = make_average(parameters, settings.averaging)
        self.generator = torch.Generator().manual_seed(derived_seed(seed, "batches"))
        self.epoch_start = self.generator.get_state()

    phase = "phase 2"
    """What events call it."""
    soft: SoftTargets | None = None
    """What the rows of the batch learn beside the next tokens."""

    @abstractmethod
    def epoch_batches(self) -> Iterator[Tensor]:
        """Places in the text, batch by batch, of an epoch that begins; drawn from `generator`."""

    def next_places(self, step: int) -> Tensor:
        """The places of a step."""
        if (step - 1) % self.epoch_steps == 0:
            self.epoch_start = self.generator.get_state()
            self.batches = self.epoch_batches()
        return next(self.batches)

    @abstractmethod
    def batch(self) -> tuple[Int[Tensor, ...], Int[Tensor, " B"]]:
        """Ids that the step looks up, and the tokens that it predicts."""

    @abstractmethod
    def hidden(self, vectors: Float[Tensor, "... d_e"]) -> Float[Tensor, "B d_e"]:
        """u_t of the batch, from the vectors of its ids."""

    @abstractmethod
    def dev_nats(self, precision: Precision, exact: bool) -> float:
        """Mean nats per token of the dev text; training asks for one that need not be exact."""

    def weigh(self, own: int, count: int) -> None:
        """The coming batch has `count` next tokens; this process has `own` of them, in its first rows."""
        if self.weighed != (own, count):
            self.weights.fill_(0.0)[:own] = 1 / count
            self.weighed = own, count
        self.sizes.append(count)

    def backward(self) -> None:
        """The gradients by hand where that saves passes over the table: at the head, and at the lookup.

        Where predictions are to be consistent the batch is read twice, under dropout of its own each time.
        """
        model = self.model
        ids, targets = self.batch()
        vectors = F.embedding(ids, model.embedding.detach()).requires_grad_(self.train_embedding)
        readings = [
            self.hidden(drop_words(vectors, self.settings.word_dropout)).to(model.embedding.dtype)
            for _ in range(self.settings.readings)
        ]
        self.head.load(self.train_embedding)
        found = self.head.gradients(
            readings,
            targets,
            self.weights[: len(targets)],
            self.train_embedding,
            model.output_bias is not None,
            self.settings.consistency,
            self.soft,
        )
        torch.autograd.backward(readings, found.hidden)
        if model.output_bias is not None:
            model.output_bias.grad = found.bias
        if self.train_embedding:
            model.embedding.grad = _add_rows(found.table, ids.flatten(), vectors.grad.flatten(0, -2))
        self.loss.copy_(found.loss)

    def agreed_dev_nats(self, precision: Precision, exact: bool) -> float:
        """`dev_nats` of the first process: what is decided by it all decide."""
        return group.told(self.dev_nats(precision, exact))

    def updated(self) -> None:
        self.average.update()

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> str | None:
        self.losses[(step - 1) % self.epoch_steps].copy_(self.loss)
        last = step == self.max_steps
        if step % self.eval_every and not last:
            if step % REPORT_EVERY == 0:
                self.listen(Event(self.phase, step, self.max_steps, {}))
            return None
        dev_loss = self.average.dev_loss(lambda: self.agreed_dev_nats(self.precision, exact=False))
        train_loss = require_finite(self._train_loss(step), "the training loss", step)
        require_finite(dev_loss, "the dev loss", step)
        fixed = self.settings.steps is not None
        if fixed or self.patience.improved(dev_loss):
            self._keep(step)
        else:
            scale_lr(optimizer, self.settings.lr_decay)
        values = {"dev_ppl": math.exp(dev_loss), "train_ppl": math.exp(train_loss)}
        values["lr"] = float(optimizer.param_groups[0]["lr"])
        self.listen(Event(self.phase, step, self.max_steps, values))
        if fixed:
            return FIXED_STEPS if last else None
        return DEV_MINIMUM if self.patience.exhausted else None

    def _train_loss(self, step: int) -> float:
        """Running mean (nats per token) over the last pass, or over all steps before one is complete."""
        seen = min(step, self.epoch_steps)
        window = self.losses.roll(-step) if step > self.epoch_steps else self.losses[:seen]
        sizes = self.losses.new_tensor(self.sizes[step - seen : step])
        return float((window * sizes).sum() / sizes.sum())

    def _keep(self, step: int) -> None:
        self.best_step, self.best_train_loss = step, self._train_loss(step)
        copy(self.average.weights, self.best_weights)

    def state(self, step: int) -> State:
        ended = step % self.epoch_steps == 0
        tensors = {f"best.{index}": weights for index, weights in enumerate(self.best_weights)}
        tensors |= {"losses": self.losses, "sizes": torch.tensor(self.sizes)}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        tensors["generator"] = self.generator.get_state() if ended else self.epoch_start
        tensors["dropout"] = torch.get_rng_state()
        if self.losses.is_cuda:
            tensors["dropout_cuda"] = torch.cuda.get_rng_state(self.losses.device)
        numbers = {
            "best_step": self.best_step,
            "best_train_loss": self.best_train_loss if self.best_step else None,
            "best_dev_loss": self.patience.best if math.isfinite(self.patience.best) else None,
            "misses": self.patience.misses,
        }
        return State(tensors, numbers)

    def restore(self, state: State, step: int) -> None:
        tensors, numbers = state.tensors, state.numbers
        copy([tensors[f"best.{index}"] for index in range(len(self.parameters))], self.best_weights)
        for name, tensor in self.average.tensors.items():
            tensor.copy_(tensors[f"average.{name}"])
        self.losses.copy_(tensors["losses"])
        self.sizes = tensors["sizes"].tolist()
        self.best_step, self.patience.misses = numbers["best_step"], numbers["misses"]
        if self.best_step:
            self.best_train_loss = numbers["best_train_loss"]
        if numbers["best_dev_loss"] is not None:
            self.patience.best = numbers["best_dev_loss"]
        self.generator.set_state(tensors["generator"].cpu())
        self.epoch_start = self.generator.get_state()
        if step % self.epoch_steps:
            self.batches = self.epoch_batches()
            for _ in range(step % self.epoch_steps):
                next(self.batches)
        if not group.leads():
            torch.manual_seed(dropout_seed(self.seed, step))
            return
        torch.set_rng_state(tensors["dropout"].cpu())
        if self.losses.is_cuda and "dropout_cuda" in tensors:
            torch.cuda.set_rng_state(tensors["dropout_cuda"].cpu(), self.losses.device)

    def restore_best(self) -> None:
        copy(self.best_weights, self.parameters)


def drop_words(vectors: Float[Tensor, "... d_e"], probability: float) -> Float[Tensor, "... d_e"]:
    """Vectors of which all elements are zeroed at once with that probability; what is left is not scaled, for
    what reads it normalises it."""
    if not probability:
        return vectors
    return vectors * (torch.rand(vectors.shape[:-1], device=vectors.device) >= probability)[..., None]


def dropout_seed(seed: int, step: int = 0) -> int:
    """Each process of a group drops other elements; the first one those that it drops alone."""
    return derived_seed(seed, "dropout", *(() if group.leads() else (group.rank(), step)))


def learn(objective: NextTokenObjective, seed: int, started: float, savepoint: Savepoint) -> Learned:
    """Train to the minimum of the dev loss, or for a fixed number of steps; leave its weights in the model.

    Raises:
        CvfpError: the dev loss is no longer finite.
    """
    model, settings = objective.model, objective.settings
    needed_gradients = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    for parameter in objective.parameters:
        parameter.requires_grad_(True)
    with seeded(dropout_seed(seed), model.device):
        steps, reason = optimise(
            objective,
            objective.parameters,
            lr=settings.lr,
            grad_clip=settings.grad_clip,
            weight_decay=settings.weight_decay,
            beta2=settings.beta2,
            max_steps=objective.max_steps,
            precision=objective.precision,
            savepoint=savepoint,
        )
    objective.restore_best()
    seconds = time.perf_counter() - started + savepoint.seconds_before
    for parameter, needed in needed_gradients.items():
        parameter.grad = None
        parameter.requires_grad_(needed)
    return Learned(
        steps=steps,
        tokens_seen=(seen := sum(objective.sizes[:steps])),
        tokens_read=seen * settings.readings,
        stop_reason=reason,
        best_epoch=objective.best_step / objective.epoch_steps,
        dev_loss=objective.agreed_dev_nats("float32", exact=True),
        train_loss=objective.best_train_loss,
        precision=objective.precision,
        seconds=seconds,
    )


def _add_rows(table: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
    """Add rows to a table in place, always in the same order: on each device the call that has one."""
    if table.is_cuda:
        return table.index_put_((ids,), rows, accumulate=True)
    return table.index_add_(0, ids, rows)
