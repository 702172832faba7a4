"""Learning to predict the next token: what phase 2, joint training and training through time have in common.

Each of them is a loop of its own over epochs and batches. It loads a batch into tensors that stay the same,
and calls the learner, which takes the step (`step`), and then evaluates, keeps the best weights, saves, and
says when it is enough (`finish_step`):

    with learning(...) as learner:
        for epoch in learner.epochs():
            for places in learner.batches(...):
                batch.load(places)
                learner.step()
                learner.finish_step()
    return learner.result(seconds)
"""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from cvfp.metrics.perplexity import perplexity_of
from cvfp.models.cvfp import CVFPModel
from cvfp.models.sequence import SequenceModel
from cvfp.records.config import derived_seed
from cvfp.records.errors import DivergedError
from cvfp.records.results import CAP, DIVERGED
from cvfp.records.schema import Precision
from cvfp.records.training_config import TokenTraining
from cvfp.training import group
from cvfp.training.averaging import copy, make_average
from cvfp.training.devices import operand_dtype, seeded, usable
from cvfp.training.events import Event, Listener
from cvfp.training.head import Head, SoftTargets
from cvfp.training.savepoint import Rows, Savepoint, State
from cvfp.training.stepper import Stepper, require_finite

T = TypeVar("T")
Model = TypeVar("Model", bound=CVFPModel | SequenceModel, covariant=True)
"""What is trained: its `embedding` is looked up and tied to the head."""

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


class Batch(ABC, Generic[Model]):
    """The next tokens that a step learns from, in tensors that every step finds in the same place.

    A loop loads the places of a step into them; rows that a batch does not fill weigh 0.
    """

    model: Model
    weights: Float[Tensor, " B"]
    """Of each row in the loss: 1 / `count`, or 0."""
    count: int
    """Next tokens of the batch, in all processes of a group together."""
    looks_exactly = False
    """Whether `dev_nats` is exact where it need not be."""
    replayable = False
    """Whether a step is the same operations on the same tensors every time, whatever is in them."""
    shares: tuple[Tensor, ...] = ()
    """What a step writes beside gradients: a share of each in a group, until shares are added up."""
    soft: SoftTargets | None = None
    """What the rows learn beside the next tokens."""
    rows: Rows | None = None
    """Rows that a savepoint keeps, and that one is read into."""

    @abstractmethod
    def lookup(self) -> tuple[Int[Tensor, ...], Int[Tensor, " B"]]:
        """Ids that the step looks up in the table, and the tokens that it predicts."""

    @abstractmethod
    def hidden(self, vectors: Float[Tensor, "... d_e"]) -> Float[Tensor, "B d_e"]:
        """u_t of the rows, from the vectors of the ids."""

    def after_gradients(self) -> None:
        """Called once the gradients are there, as a part of the step that may be recorded."""

    @abstractmethod
    def dev_nats(self, precision: Precision, exact: bool) -> float:
        """Mean nats per token of the dev text; training asks for one that need not be exact."""

    def tensors(self) -> dict[str, Tensor]:
        """What a savepoint keeps of it beside `rows`."""
        return {}

    def restore(self, tensors: dict[str, Tensor]) -> None:
        """Be as it was when `tensors` were taken."""


class TokenLearner:
    """Takes steps on batches of next tokens until dev says that it is enough; see the head of this page.

    Args:
        batch: where the loop loads what a step learns from.
        parameters: those that are trained, the table among them if it is.
        settings: how long, how fast, when to stop.
        epoch_steps: steps of a pass over the training tokens.
        phase: what events call it.
        seed: of the order of batches, and of dropout.
    """

    def __init__(
        self,
        batch: Batch[CVFPModel | SequenceModel],
        parameters: list[nn.Parameter],
        settings: TokenTraining,
        epoch_steps: int,
        phase: str,
        seed: int,
        listen: Listener,
    ) -> None:
        self.batch, self.parameters, self.settings = batch, parameters, settings
        self.epoch_steps, self.phase, self.seed, self.listen = epoch_steps, phase, seed, listen
        self.model = model = batch.model
        self.train_embedding = any(parameter is model.embedding for parameter in parameters)
        self.precision: Precision = usable(settings.precision, model.device)
        self.max_steps = settings.epochs * epoch_steps if settings.steps is None else settings.steps
        self.eval_every = settings.steps_between_evaluations(epoch_steps)
        self.head = Head(model.embedding, model.output_bias, operand_dtype(self.precision, model.embedding))
        self.loss = batch.weights.new_zeros(())
        self.losses = batch.weights.new_zeros(epoch_steps)
        """Of the last pass; step s stands at (s - 1) % epoch_steps."""
        self.sizes: list[int] = []
        """Next tokens of each step."""
        self.patience = Patience(settings.patience)
        self.average = make_average(parameters, settings.averaging)
        self.best_step, self.best_train_loss, self.best_dev_loss = 0, math.nan, math.inf
        self.best_weights = [parameter.detach().clone() for parameter in parameters]
        self.generator = torch.Generator().manual_seed(derived_seed(seed, "batches"))
        self.epoch_start = self.generator.get_state()
        self.to_skip = 0
        self.stop_reason: str | None = None
        self.stepper = Stepper(
            parameters,
            lr=settings.lr,
            grad_clip=settings.grad_clip,
            weight_decay=settings.weight_decay,
            beta2=settings.beta2,
            precision=self.precision,
            recorded=batch.replayable,
        )
        shares = (self.loss, *batch.shares)
        self.take_step = self.stepper.whole_step(self.gradients, shares, self.average.update)
        self.savepoint: Savepoint | None = None

    @property
    def steps(self) -> int:
        return self.stepper.steps

    @property
    def inside_epoch(self) -> bool:
        """Whether a part of the epoch is learned already: training goes on from a savepoint."""
        return self.steps % self.epoch_steps > 0

    def epochs(self) -> Iterator[int]:
        """The number of each epoch from 0, until training ends; what one draws comes from `generator`."""
        while self.stop_reason is None:
            self.epoch_start = self.generator.get_state()
            yield self.steps // self.epoch_steps

    def batches(self, of_epoch: Iterable[T]) -> Iterator[T]:
        """The batches of an epoch that are still to be learned, until training ends."""
        skipped, self.to_skip = self.to_skip, 0
        for places in itertools.islice(of_epoch, skipped, None):
            yield places
            if self.stop_reason is not None:
                return

    def gradients(self) -> None:
        """Set the gradients of the batch, by hand where that saves passes over the table: head and lookup.

        Where predictions are to be consistent the batch is read twice, under dropout of its own each time.
        """
        model, batch = self.model, self.batch
        ids, targets = batch.lookup()
        vectors = F.embedding(ids, model.embedding.detach()).requires_grad_(self.train_embedding)
        readings = [
            batch.hidden(drop_words(vectors, self.settings.word_dropout)).to(model.embedding.dtype)
            for _ in range(self.settings.readings)
        ]
        self.head.load(self.train_embedding)
        found = self.head.gradients(
            readings,
            targets,
            batch.weights[: len(targets)],
            self.train_embedding,
            model.output_bias is not None,
            self.settings.consistency,
            batch.soft,
        )
        if readings[0].requires_grad:  # else the head reads frozen contexts as they are
            torch.autograd.backward(readings, found.hidden)
        if model.output_bias is not None:
            model.output_bias.grad = found.bias
        if self.train_embedding:
            assert found.table is not None
            if vectors.grad is not None:  # else nothing reads them: there are no token layers
                _add_rows(found.table, ids.flatten(), vectors.grad.flatten(0, -2))
            model.embedding.grad = found.table
        self.loss.copy_(found.loss)
        batch.after_gradients()

    def step(self) -> None:
        """Learn from what is loaded."""
        self.take_step()
        self.sizes.append(self.batch.count)
        self.losses[(self.steps - 1) % self.epoch_steps].copy_(self.loss)

    def finish_step(self) -> None:
        """Evaluate, keep the best weights, lower the learning rate, stop, save: whatever it is time for."""
        last = self.steps == self.max_steps
        if self.steps % self.eval_every == 0 or last:
            self._evaluate(last)
        elif self.steps % REPORT_EVERY == 0:
            self.listen(Event(self.phase, self.steps, self.max_steps, {}))
        if self.stop_reason is None and self.savepoint is not None and self.savepoint.due():
            self.savepoint.save(self._state())

    def _evaluate(self, last: bool) -> None:
        step = self.steps
        dev_loss = self.average.dev_loss(lambda: self.dev_nats(self.precision, exact=False))
        try:
            train_loss = require_finite(self._train_loss(), "the training loss", step)
            require_finite(dev_loss, "the dev loss", step)
        except DivergedError:
            if not self.best_step:  # no weights that could be scored
                raise
            self.stop_reason = DIVERGED
            return
        fixed = self.settings.steps is not None
        if fixed or self.patience.improved(dev_loss):
            self.best_step, self.best_train_loss, self.best_dev_loss = step, train_loss, dev_loss
            copy(self.average.weights, self.best_weights)
        else:
            self.stepper.scale_lr(self.settings.lr_decay)
        told = {"dev_ppl": perplexity_of(dev_loss), "train_ppl": perplexity_of(train_loss)}
        values = {name: ppl for name, ppl in told.items() if ppl is not None} | {"lr": self.stepper.lr}
        self.listen(Event(self.phase, step, self.max_steps, values))
        if not fixed and self.patience.exhausted:
            self.stop_reason = DEV_MINIMUM
        elif last:
            self.stop_reason = FIXED_STEPS if fixed else CAP

    def dev_nats(self, precision: Precision, exact: bool) -> float:
        """Mean nats per dev token, by the first process: what is decided by it all decide."""
        return group.broadcast(self.batch.dev_nats(precision, exact))

    def _train_loss(self) -> float:
        """Running mean (nats per token) over the last pass, or over all steps before one is complete."""
        seen = min(self.steps, self.epoch_steps)
        window = self.losses.roll(-self.steps) if self.steps > self.epoch_steps else self.losses[:seen]
        sizes = self.losses.new_tensor(self.sizes[self.steps - seen : self.steps])
        return float((window * sizes).sum() / sizes.sum())

    def result(self, seconds: float) -> Learned:
        """What came of it. The best weights are in the model."""
        assert self.stop_reason is not None
        seen = sum(self.sizes)
        return Learned(
            steps=self.steps,
            tokens_seen=seen,
            tokens_read=seen * self.settings.readings,
            stop_reason=self.stop_reason,
            best_epoch=self.best_step / self.epoch_steps,
            dev_loss=self._exact_dev_loss(),
            train_loss=self.best_train_loss,
            precision=self.precision,
            seconds=seconds,
        )

    def _exact_dev_loss(self) -> float:
        """The dev loss of the best weights, which are in the model; as it was when they were found, if
        that was exact."""
        if self.batch.looks_exactly and self.precision == "float32":
            return self.best_dev_loss
        return self.dev_nats("float32", exact=True)

    # --- What a savepoint keeps of it.

    def _state(self) -> State:
        tensors = self.stepper.tensors()
        tensors |= {f"batch.{name}": tensor for name, tensor in self.batch.tensors().items()}
        tensors |= {f"average.{name}": tensor for name, tensor in self.average.tensors.items()}
        tensors |= {f"best.{index}": weights for index, weights in enumerate(self.best_weights)}
        tensors |= {"losses": self.losses, "sizes": torch.tensor(self.sizes)}
        tensors["generator"] = self.epoch_start if self.inside_epoch else self.generator.get_state()
        tensors["dropout"] = torch.get_rng_state()
        if self.losses.is_cuda:
            tensors["dropout_cuda"] = torch.cuda.get_rng_state(self.losses.device)
        numbers = self.stepper.numbers() | {
            "best_step": self.best_step,
            "best_train_loss": self.best_train_loss if self.best_step else None,
            "best_dev_loss": self.best_dev_loss if self.best_step else None,
            "misses": self.patience.misses,
        }
        return State(tensors, numbers, self.batch.rows)

    def resume(self, savepoint: Savepoint) -> None:
        """Go on from where a savepoint is, if it is anywhere; save there from now on."""
        self.savepoint = savepoint
        saved = savepoint.load(self.losses.device, self.batch.rows)
        if saved is None:
            return
        tensors, numbers = saved.tensors, saved.numbers
        self.stepper.restore(tensors, numbers)
        self.batch.restore(
            {name.removeprefix("batch."): one for name, one in tensors.items() if name.startswith("batch.")}
        )
        for name, tensor in self.average.tensors.items():
            tensor.copy_(tensors[f"average.{name}"])
        copy([tensors[f"best.{index}"] for index in range(len(self.parameters))], self.best_weights)
        self.losses.copy_(tensors["losses"])
        self.sizes = tensors["sizes"].tolist()
        self.best_step, self.patience.misses = numbers["best_step"], numbers["misses"]
        if self.best_step:
            self.best_train_loss = numbers["best_train_loss"]
            self.best_dev_loss = self.patience.best = numbers["best_dev_loss"]
        self.generator.set_state(tensors["generator"].cpu())
        self.to_skip = self.steps % self.epoch_steps
        if not group.is_main():
            torch.manual_seed(dropout_seed(self.seed, self.steps))
            return
        torch.set_rng_state(tensors["dropout"].cpu())
        if self.losses.is_cuda and "dropout_cuda" in tensors:
            torch.cuda.set_rng_state(tensors["dropout_cuda"].cpu(), self.losses.device)


@contextmanager
def learning(learner: TokenLearner, savepoint: Savepoint) -> Iterator[TokenLearner]:
    """Inside the block the learner's parameters, and they alone, get gradients; dropout draws from its seed.

    It goes on from `savepoint` if there is anything. After the block the best weights are in the model.

    Raises:
        CvfpError: no loss was ever finite.
    """
    model = learner.model
    needed_gradients = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    for parameter in learner.parameters:
        parameter.requires_grad_(True)
    with seeded(dropout_seed(learner.seed), model.device):
        learner.resume(savepoint)
        yield learner
    copy(learner.best_weights, learner.parameters)
    for parameter, needed in needed_gradients.items():
        parameter.grad = None
        parameter.requires_grad_(needed)


def drop_words(vectors: Float[Tensor, "... d_e"], probability: float) -> Float[Tensor, "... d_e"]:
    """Vectors of which all elements are zeroed at once with that probability; what is left is not scaled, for
    what reads it normalises it."""
    if not probability:
        return vectors
    return vectors * (torch.rand(vectors.shape[:-1], device=vectors.device) >= probability)[..., None]


def dropout_seed(seed: int, step: int = 0) -> int:
    """Each process of a group drops other elements; the first one those that it drops alone."""
    return derived_seed(seed, "dropout", *(() if group.is_main() else (group.rank(), step)))


def _add_rows(table: Tensor, ids: Tensor, rows: Tensor) -> None:
    """Add rows to a table in place, always in the same order: on each device the call that has one."""
    if table.is_cuda:
        table.index_put_((ids,), rows, accumulate=True)
    else:
        table.index_add_(0, ids, rows)
