"""Training through time: windows of consecutive tokens, gradients through all of a window.

For a model with a state the stream is cut into parallel ones, whose states go on from window to window
(truncated backpropagation, Williams & Peng 1990); for one without, windows come in random order.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from cvfp.models.sequence import SequenceModel
from cvfp.records.schema import Precision
from cvfp.records.training_config import SequenceTraining
from cvfp.training import group
from cvfp.training.evaluation import mean_nats_of_sequence
from cvfp.training.events import Listener, silent
from cvfp.training.next_token import Learned, NextTokenObjective, learn
from cvfp.training.savepoint import NOT_SAVED, Savepoint, State


def sequence_parameters(model: SequenceModel, train_embedding: bool) -> list[nn.Parameter]:
    """What is trained: the layers, output bias where there is one, embedding if asked for."""
    bias = [] if model.output_bias is None else [model.output_bias]
    return [*model.core_parameters(), *bias, *([model.embedding] if train_embedding else [])]


def learn_through_time(
    model: SequenceModel,
    tokens: Int[Tensor, " N"],
    dev: Int[Tensor, " M"],
    settings: SequenceTraining,
    train_embedding: bool,
    seed: int,
    listen: Listener = silent,
    savepoint: Savepoint = NOT_SAVED,
) -> Learned:
    """Train on `tokens` to the minimum of the dev loss; leave the best weights in `model`.

    Raises:
        CvfpError: the dev loss is no longer finite.
    """
    started = time.perf_counter()
    parameters = sequence_parameters(model, train_embedding)
    objective = WindowsObjective(model, parameters, tokens, dev, settings, seed, listen)
    return learn(objective, seed, started, savepoint)


class WindowsObjective(NextTokenObjective):
    """A batch is one window of each of `sequences` streams, or as many windows from anywhere.

    Where a step may be recorded all batches have one shape: rows and ends of rows that are missing weigh 0.
    """

    phase = "training"

    def __init__(
        self,
        model: SequenceModel,
        parameters: list[nn.Parameter],
        tokens: Tensor,
        dev: Tensor,
        settings: SequenceTraining,
        seed: int,
        listen: Listener,
    ) -> None:
        self.tokens, self.dev, examples = tokens, dev, len(tokens) - 1
        self.window = min(settings.window, examples)
        windows = examples // self.window
        self.sequences = min(settings.sequences, windows)
        # Rows that are read side by side: parallel streams, or single windows in any order.
        self.rows, self.row_length = windows, self.window
        if model.has_state:
            self.rows, self.row_length = self.sequences, examples // self.sequences
        steps = math.ceil(self.rows * math.ceil(self.row_length / self.window) / self.sequences)
        own = group.most(self.sequences) * self.window
        super().__init__(model, parameters, settings, steps, own, seed, listen)
        self.replayable = model.replayable
        self.padded = self.replayable and tokens.is_cuda
        self.places = torch.zeros(own // self.window, self.window, dtype=torch.long, device=tokens.device)
        self.carried: Any = None

    def prepare(self, step: int) -> None:
        if (step - 1) % self.epoch_steps == 0:
            self.forget()
        batch = self.next_places(step)
        mine = batch[group.share(len(batch))]
        if self.padded:
            self.places[: len(mine), : batch.shape[1]] = mine
            self.weigh_windows(len(mine), batch)
            return
        self.places = mine
        self.weigh(mine.numel(), batch.numel())
        if not len(mine):  # more processes than rows: this one learns from none, but takes the step
            self.places = batch[:1]

    def weigh_windows(self, rows: int, batch: Tensor) -> None:
        """The first rows of `places` are this process's of the batch; its windows may be shorter."""
        own, count = rows * batch.shape[1], batch.numel()
        if self.weighed != (own, count):
            weights = self.weights.fill_(0.0).view_as(self.places)
            weights[:rows, : batch.shape[1]] = 1 / count
            self.weighed = own, count
        self.sizes.append(count)

    def forget(self) -> None:
        """Go on from no state."""
        if not self.replayable:
            self.carried = None
            return
        for tensor in _tensors(self.carried):
            tensor.zero_()

    def batch(self) -> tuple[Tensor, Tensor]:
        places = self.places
        return self.tokens[places], self.tokens[places + 1].flatten()

    def hidden(self, vectors: Tensor) -> Tensor:
        settings = self.settings
        locked = {"locked": True} if settings.locked_dropout else {}
        hidden, self.after = self.model.hidden(vectors, self.carried, settings.dropout, **locked)
        return hidden.flatten(0, 1)

    def backward(self) -> None:
        """The gradients, and the state that the next window goes on from, once they have read this one's.

        Of a replayable model it stays in the same tensors.
        """
        super().backward()
        if not self.replayable:
            self.carried = self.after
        elif self.carried is None and self.after is not None:
            self.carried = [tuple(tensor.clone() for tensor in pair) for pair in self.after]
        else:
            for old, new in zip(_tensors(self.after), _tensors(self.carried), strict=True):
                new.copy_(old)

    def dev_nats(self, precision: Precision, exact: bool) -> float:
        return mean_nats_of_sequence(self.model, self.dev, precision, exact)

    def state(self, step: int) -> State:
        """With what is carried from window to window: pairs of tensors, layer by layer."""
        state = super().state(step)
        mine = group.share(self.sequences)
        for layer, pair in enumerate(self.carried or ()):
            for part, own in enumerate(pair):
                whole = own.new_zeros((own.shape[0], self.sequences, own.shape[2]))
                whole[:, mine] = own[:, : mine.stop - mine.start]
                group.add_up(whole)
                state.tensors[f"carried.{layer}.{part}"] = whole
        return state

    def restore(self, state: State, step: int) -> None:
        super().restore(state, step)
        found = {name: tensor for name, tensor in state.tensors.items() if name.startswith("carried.")}
        layers = range(len(found) // 2)
        mine = group.share(self.sequences)
        mine = mine if mine.stop > mine.start else slice(0, 1)
        missing = group.most(self.sequences) - (mine.stop - mine.start) if self.padded else 0
        pairs = [
            [F.pad(found[f"carried.{n}.{part}"][:, mine], (0, 0, 0, missing)).contiguous() for part in (0, 1)]
            for n in layers
        ]
        self.carried = [tuple(pair) for pair in pairs] or None

    def epoch_batches(self) -> Iterator[Tensor]:
        """Positions (S, T) of each step of an epoch; the last window of streams may be shorter.

        Every epoch moves all rows by another offset: what is left over at the ends of the text, less than a
        window, or a token per stream. Drawn on the CPU so that every device sees the same order.
        """
        spare = len(self.tokens) - 1 - self.rows * self.row_length
        offset = int(torch.randint(spare + 1, (), generator=self.generator))
        order = torch.arange(self.rows)
        if not self.model.has_state:
            order = torch.randperm(self.rows, generator=self.generator)
        starts = (offset + self.row_length * order).to(self.tokens.device)[:, None]
        within = torch.arange(self.row_length, device=self.tokens.device)
        if self.model.has_state:
            yield from (starts + part for part in within.split(self.window))
        else:
            yield from (part + within for part in starts.split(self.sequences))


def _tensors(state: Any) -> list[Tensor]:
    """Of pairs, layer by layer, or of None."""
    return [tensor for pair in state or () for tensor in pair]
