"""Phase 2: learn to predict the next token from frozen contexts (algorithm, section 4).

The contexts do not change, so positions are independent examples: a step takes any batch of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from cvfp.models.cvfp import CVFPModel
from cvfp.models.layers import features_of, token_window
from cvfp.records.config import Phase2Config, Precision
from cvfp.records.seeds import derived_seed
from cvfp.training.devices import seeded
from cvfp.training.evaluation import mean_nats
from cvfp.training.events import Event, Listener, silent
from cvfp.training.head import Head
from cvfp.training.loop import Objective, optimise, require_finite, scale_lr
from cvfp.training.precision import operand_dtype, usable
from cvfp.training.spans import SpanContexts
from cvfp.training.stopping import Patience

DEV_MINIMUM = "dev_minimum"
REPORT_EVERY = 10
"""Steps between two reports of progress that are not evaluations."""


@dataclass(frozen=True)
class Phase2Result:
    """The best evaluation (its weights are in the model) and how far training went.

    `best_epoch` is in passes over the training tokens; losses are nats per token, the training loss a running
    mean over the last pass before the best evaluation.
    """

    steps: int
    tokens_seen: int
    stop_reason: str
    best_epoch: float
    dev_loss: float
    train_loss: float
    precision: Precision
    seconds: float = field(compare=False)


def trained_parameters(model: CVFPModel, train_embedding: bool) -> list[nn.Parameter]:
    """What phase 2 learns: token block, output bias where there is one, embedding if asked for."""
    parameters = list(model.token_block.parameters())
    if model.output_bias is not None:
        parameters.append(model.output_bias)
    return [*parameters, model.embedding] if train_embedding else parameters


def learn_tokens(
    model: CVFPModel,
    tokens: Int[Tensor, " N"],
    contexts: SpanContexts,
    dev: Int[Tensor, " M"],
    config: Phase2Config,
    train_embedding: bool,
    seed: int,
    listen: Listener = silent,
) -> Phase2Result:
    """Train on `tokens` to the minimum of the dev loss; leave the best weights in `model`.

    Raises:
        CvfpError: the dev loss is no longer finite.
    """
    parameters = trained_parameters(model, train_embedding)
    started = time.perf_counter()
    needed_gradients = {parameter: parameter.requires_grad for parameter in model.parameters()}
    model.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)
    objective = _NextTokenObjective(
        model, tokens, contexts, dev, config, parameters, train_embedding, seed, listen
    )
    with seeded(derived_seed(seed, "dropout"), model.device):
        steps, reason = optimise(
            objective,
            parameters,
            lr=config.lr,
            grad_clip=config.grad_clip,
            weight_decay=config.weight_decay,
            max_steps=objective.max_steps,
            precision=objective.precision,
        )
    objective.restore_best()
    for parameter, needed in needed_gradients.items():
        parameter.grad = None
        parameter.requires_grad_(needed)
    return objective.result(steps, reason, time.perf_counter() - started)


def _add_rows(table: Tensor, ids: Tensor, rows: Tensor) -> Tensor:
    """Add rows to a table in place, always in the same order: on each device the call that has one."""
    if table.is_cuda:
        return table.index_put_((ids,), rows, accumulate=True)
    return table.index_add_(0, ids, rows)


class _NextTokenObjective(Objective):
    """Mean cross-entropy over a batch of positions; evaluation, patience and the best weights."""

    replayable = True

    def __init__(
        self,
        model: CVFPModel,
        tokens: Tensor,
        contexts: SpanContexts,
        dev: Tensor,
        config: Phase2Config,
        parameters: list[nn.Parameter],
        train_embedding: bool,
        seed: int,
        listen: Listener,
    ) -> None:
        self.train_embedding = train_embedding
        self.precision = usable(config.precision, tokens.device)
        self.model, self.tokens, self.contexts, self.dev = model, tokens, contexts, dev
        self.config, self.parameters, self.listen = config, parameters, listen
        self.examples = len(tokens) - 1
        self.spans = [(first, min(last, self.examples)) for first, last in contexts.bounds]
        self.spans = [(first, last) for first, last in self.spans if last > first]
        counts = [last - first for first, last in self.spans]
        self.epoch_steps = sum(math.ceil(count / config.batch_size) for count in counts)
        self.max_steps = config.epochs * self.epoch_steps
        self.eval_every = self.epoch_steps
        if config.eval_every is not None:
            self.eval_every = min(config.eval_every, self.epoch_steps)
        self.generator = torch.Generator().manual_seed(derived_seed(seed, "batches"))
        wide = torch.promote_types(model.embedding.dtype, torch.float32)
        self.positions = torch.zeros(config.batch_size, dtype=torch.long, device=tokens.device)
        self.rows = model.context_table.new_zeros(
            config.batch_size, model.config.num_layers, model.context_dim
        )
        self.weights = torch.zeros(config.batch_size, dtype=wide, device=tokens.device)
        self.sizes: list[int] = []
        self.loss = torch.zeros((), dtype=wide, device=tokens.device)
        self.losses = torch.zeros(self.max_steps, dtype=wide, device=tokens.device)
        self.head = Head(model.embedding, model.output_bias, operand_dtype(self.precision, model.embedding))
        self.dev_segments = list(model.context_segments(dev))
        self.patience = Patience(config.patience)
        self.best_step, self.best_train_loss = 0, math.nan
        self.best_weights = [parameter.detach().clone() for parameter in parameters]

    def prepare(self, step: int) -> None:
        """Put the step's positions into `positions`, a batch that is not full filled up at weight 0."""
        if (step - 1) % self.epoch_steps == 0:
            self.batches = self._epoch_batches()
        chosen = next(self.batches)
        self.positions[: len(chosen)] = chosen
        self.contexts.take(chosen, self.rows[: len(chosen)])
        if not self.sizes or self.sizes[-1] != len(chosen):
            self.weights.fill_(0.0)[: len(chosen)] = 1 / len(chosen)
        self.sizes.append(len(chosen))

    def backward(self) -> None:
        """The gradients by hand where that saves passes over the table: at the head, and at the lookup."""
        model, positions = self.model, self.positions
        ids, before = token_window(self.tokens, positions, model.config.num_input_tokens)
        vectors = F.embedding(ids, model.embedding.detach()).requires_grad_(self.train_embedding)
        hidden = model.hidden_from(self.rows, features_of(vectors, before), self.config.dropout).to(
            model.embedding.dtype
        )
        self.head.load(self.train_embedding)
        found = self.head.gradients(
            hidden,
            self.tokens[positions + 1],
            self.weights,
            self.train_embedding,
            model.output_bias is not None,
        )
        hidden.backward(found.hidden)
        if model.output_bias is not None:
            model.output_bias.grad = found.bias
        if self.train_embedding:
            model.embedding.grad = _add_rows(found.table, ids.flatten(), vectors.grad.flatten(0, 1))
        self.loss.copy_(found.loss)

    def _epoch_batches(self) -> Iterator[Tensor]:
        """Positions of one epoch in batches: span after span, shuffled within each.

        Drawn on the CPU so that every device sees the same order.
        """
        order = torch.arange(len(self.spans))
        if self.config.shuffle and len(self.spans) > 1:
            order = torch.randperm(len(self.spans), generator=self.generator)
        for index in order.tolist():
            first, last = self.spans[index]
            positions = torch.arange(last - first)
            if self.config.shuffle:
                positions = torch.randperm(last - first, generator=self.generator)
            self.contexts.open(index)
            yield from (positions + first).to(self.tokens.device).split(self.config.batch_size)

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> str | None:
        self.losses[step - 1].copy_(self.loss)
        last = step == self.max_steps
        if step % self.eval_every and not last:
            if step % REPORT_EVERY == 0:
                self.listen(Event("phase 2", step, self.max_steps, {}))
            return None
        dev_loss = mean_nats(self.model, self.dev, self.dev_segments, self.precision)
        train_loss = require_finite(self._train_loss(step), "the training loss", step)
        require_finite(dev_loss, "the dev loss", step)
        if self.patience.improved(dev_loss):
            self._keep(step)
        else:
            scale_lr(optimizer, self.config.lr_decay)
        values = {"dev_ppl": math.exp(dev_loss), "train_ppl": math.exp(train_loss)}
        values["lr"] = float(optimizer.param_groups[0]["lr"])
        self.listen(Event("phase 2", step, self.max_steps, values))
        return DEV_MINIMUM if self.patience.exhausted else None

    def _train_loss(self, step: int) -> float:
        """Running mean (nats per token) over the last pass, or over all steps before one is complete."""
        steps = slice(max(step - self.epoch_steps, 0), step)
        window, sizes = self.losses[steps], self.losses.new_tensor(self.sizes[steps])
        return float((window * sizes).sum() / sizes.sum())

    def _keep(self, step: int) -> None:
        self.best_step, self.best_train_loss = step, self._train_loss(step)
        with torch.no_grad():
            for kept, parameter in zip(self.best_weights, self.parameters, strict=True):
                kept.copy_(parameter)

    def restore_best(self) -> None:
        with torch.no_grad():
            for kept, parameter in zip(self.best_weights, self.parameters, strict=True):
                parameter.copy_(kept)

    def result(self, steps: int, reason: str, seconds: float) -> Phase2Result:
        """How training went; the dev loss is that of the weights now in the model."""
        return Phase2Result(
            steps=steps,
            tokens_seen=sum(self.sizes[:steps]),
            stop_reason=reason,
            best_epoch=self.best_step / self.epoch_steps,
            dev_loss=mean_nats(self.model, self.dev, self.dev_segments),
            train_loss=self.best_train_loss,
            precision=self.precision,
            seconds=seconds,
        )
