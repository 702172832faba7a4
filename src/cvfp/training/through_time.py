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
from cvfp.training.next_token import Batch, Learned, TokenLearner, learning
from cvfp.training.savepoint import NOT_SAVED, Savepoint


def sequence_parameters(model: SequenceModel, train_embedding: bool) -> list[nn.Parameter]:
    """What is trained: the layers, output bias where there is one, embedding if asked for."""
    bias = [] if model.output_bias is None else [model.output_bias]
    return [*model.core_parameters(), *bias, *([model.embedding] if train_embedding else [])]


def learn_through_time(
    model: SequenceModel,
    tokens: Int[Tensor, " N"],
    dev: Int[Tensor, " M"],
    settings: SequenceTraining,
    *,
    train_embedding: bool,
    seed: int,
    listen: Listener = silent,
    savepoint: Savepoint = NOT_SAVED,
) -> Learned:
    """Train on `tokens` to the minimum of the dev loss; leave the best weights in `model`.

    Raises:
        CvfpError: no loss was ever finite.
    """
    started = time.perf_counter()
    batch = Windows(model, tokens, dev, settings)
    learner = TokenLearner(
        batch,
        sequence_parameters(model, train_embedding),
        settings,
        epoch_steps=batch.steps_of_text,
        phase="training",
        seed=seed,
        listen=listen,
    )
    with learning(learner, savepoint):
        for _epoch in learner.epochs():
            if not learner.inside_epoch:
                batch.forget()
            for places in learner.batches(batch.of_epoch(learner.generator)):
                batch.load(places)
                learner.step()
                learner.finish_step()
    return learner.result(time.perf_counter() - started + savepoint.seconds_before)


class Windows(Batch[SequenceModel]):
    """One window of each of `sequences` streams, or as many windows from anywhere.

    Where a step may be recorded all batches have one shape: rows and ends of rows that are missing weigh 0.
    """

    def __init__(
        self,
        model: SequenceModel,
        tokens: Int[Tensor, " N"],
        dev: Int[Tensor, " M"],
        settings: SequenceTraining,
    ) -> None:
        self.model, self.settings = model, settings
        self.tokens, self.dev, examples = tokens, dev, len(tokens) - 1
        self.window = min(settings.window, examples)
        windows = examples // self.window
        self.sequences = min(settings.sequences, windows)
        # Rows that are read side by side: parallel streams, or single windows in any order.
        self.rows_of_text, self.row_length = windows, self.window
        if model.has_state:
            self.rows_of_text, self.row_length = self.sequences, examples // self.sequences
        windows_of_rows = self.rows_of_text * math.ceil(self.row_length / self.window)
        self.steps_of_text = math.ceil(windows_of_rows / self.sequences)
        self.replayable = model.replayable
        self.padded = self.replayable and tokens.is_cuda
        rows = group.most(self.sequences)
        self.places = torch.zeros(rows, self.window, dtype=torch.long, device=tokens.device)
        wide = torch.promote_types(model.embedding.dtype, torch.float32)
        self.weights = torch.zeros(rows * self.window, dtype=wide, device=tokens.device)
        self.weighed: tuple[int, int] | None = None
        self.carried: Any = None

    def load(self, places: Int[Tensor, "S T"]) -> None:
        """Put this process's windows where a step finds them."""
        mine = places[group.share(len(places))]
        self.count = places.numel()
        if self.weighed != (mine.numel(), self.count):
            weights = self.weights.fill_(0.0)
            weights = weights.view_as(self.places) if self.padded else weights[: mine.numel()].view_as(mine)
            weights[: len(mine), : mine.shape[1]] = 1 / self.count
            self.weighed = mine.numel(), self.count
        if self.padded:
            self.places[: len(mine), : mine.shape[1]] = mine
        else:  # with more processes than rows this one learns from none, but takes the step
            self.places = mine if len(mine) else places[:1]

    def forget(self) -> None:
        """Go on from no state."""
        if not self.replayable:
            self.carried = None
            return
        for tensor in _tensors(self.carried):
            tensor.zero_()

    def lookup(self) -> tuple[Tensor, Tensor]:
        places = self.places
        return self.tokens[places], self.tokens[places + 1].flatten()

    def hidden(self, vectors: Tensor) -> Tensor:
        settings = self.settings
        locked = {"locked": True} if settings.locked_dropout else {}
        hidden, self.after = self.model.hidden(vectors, self.carried, settings.dropout, **locked)
        return hidden.flatten(0, 1)

    def after_gradients(self) -> None:
        """Carry the state on to the next window: gradients have read this one's.

        Of a replayable model it stays in the same tensors.
        """
        if not self.replayable:
            self.carried = self.after
        elif self.carried is None and self.after is not None:
            self.carried = [tuple(tensor.clone() for tensor in pair) for pair in self.after]
        else:
            for old, new in zip(_tensors(self.after), _tensors(self.carried), strict=True):
                new.copy_(old)

    def dev_nats(self, precision: Precision, exact: bool) -> float:
        return mean_nats_of_sequence(self.model, self.dev, precision, exact)

    def tensors(self) -> dict[str, Tensor]:
        """What is carried from window to window: pairs of tensors, layer by layer."""
        found: dict[str, Tensor] = {}
        mine = group.share(self.sequences)
        for layer, pair in enumerate(self.carried or ()):
            for part, own in enumerate(pair):
                whole = own.new_zeros((own.shape[0], self.sequences, own.shape[2]))
                whole[:, mine] = own[:, : mine.stop - mine.start]
                group.all_reduce(whole)
                found[f"carried.{layer}.{part}"] = whole
        return found

    def restore(self, tensors: dict[str, Tensor]) -> None:
        layers = range(len(tensors) // 2)
        mine = group.share(self.sequences)
        mine = mine if mine.stop > mine.start else slice(0, 1)
        missing = group.most(self.sequences) - (mine.stop - mine.start) if self.padded else 0
        pairs = [
            [
                F.pad(tensors[f"carried.{n}.{part}"][:, mine], (0, 0, 0, missing)).contiguous()
                for part in (0, 1)
            ]
            for n in layers
        ]
        self.carried = [tuple(pair) for pair in pairs] or None

    def of_epoch(self, generator: torch.Generator) -> Iterator[Int[Tensor, "S T"]]:
        """Positions (S, T) of each step of an epoch; the last window of streams may be shorter.

        Every epoch moves all rows by another offset: what is left over at the ends of the text, less than a
        window, or a token per stream. Drawn on the CPU so that every device sees the same order.
        """
        spare = len(self.tokens) - 1 - self.rows_of_text * self.row_length
        offset = int(torch.randint(spare + 1, (), generator=generator))
        order = torch.arange(self.rows_of_text)
        if not self.model.has_state:
            order = torch.randperm(self.rows_of_text, generator=generator)
        starts = (offset + self.row_length * order).to(self.tokens.device)[:, None]
        within = torch.arange(self.row_length, device=self.tokens.device)
        if self.model.has_state:
            yield from (starts + part for part in within.split(self.window))
        else:
            yield from (part + within for part in starts.split(self.sequences))


def _tensors(state: Any) -> list[Tensor]:
    """The tensors of pairs, layer by layer, or of None."""
    return [tensor for pair in state or () for tensor in pair]
