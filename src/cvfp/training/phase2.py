"""Phase 2: learn to predict the next token from frozen contexts (algorithm, section 4).

The contexts do not change, so positions are independent examples: a step takes any batch of them.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator

import torch
from jaxtyping import Int
from torch import Tensor, nn

from cvfp.models.cvfp import CVFPModel
from cvfp.models.layers import features_of, token_window
from cvfp.models.parts import widest
from cvfp.records.schema import Precision
from cvfp.records.training_config import Phase2Config
from cvfp.training import group
from cvfp.training.contexts import SpanContexts
from cvfp.training.evaluation import Segments, mean_nats
from cvfp.training.events import Listener, silent
from cvfp.training.next_token import Batch, Learned, TokenLearner, learning
from cvfp.training.savepoint import NOT_SAVED, Savepoint


def trained_parameters(model: CVFPModel, train_embedding: bool) -> list[nn.Parameter]:
    """What phase 2 learns: token layers or projection, output bias where there is one, embedding if asked."""
    readers = [one for one in (model.token_block, model.projection) if one is not None]
    parameters = [parameter for reader in readers for parameter in reader.parameters()]
    if model.output_bias is not None:
        parameters.append(model.output_bias)
    return [*parameters, model.embedding] if train_embedding else parameters


def learn_tokens(
    model: CVFPModel,
    tokens: Int[Tensor, " N"],
    contexts: SpanContexts,
    dev: Int[Tensor, " M"],
    config: Phase2Config,
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
    batch = Positions(model, tokens, contexts, dev, config)
    learner = TokenLearner(
        batch,
        trained_parameters(model, train_embedding),
        config,
        epoch_steps=sum(math.ceil((last - first) / config.batch_size) for first, last in batch.spans),
        phase="phase 2",
        seed=seed,
        listen=listen,
    )
    with learning(learner, savepoint):
        for _epoch in learner.epochs():
            for positions in learner.batches(batch.of_epoch(learner.generator)):
                batch.load(positions)
                learner.step()
                learner.finish_step()
    return learner.result(time.perf_counter() - started + savepoint.seconds_before)


class Positions(Batch[CVFPModel]):
    """Any positions of the stream, each with its frozen context."""

    replayable = looks_exactly = True

    def __init__(
        self,
        model: CVFPModel,
        tokens: Int[Tensor, " N"],
        contexts: SpanContexts,
        dev: Int[Tensor, " M"],
        config: Phase2Config,
    ) -> None:
        self.model, self.tokens, self.contexts = model, tokens, contexts
        self.dev, self.config = dev, config
        examples = len(tokens) - 1
        spans = [(first, min(last, examples)) for first, last in contexts.bounds]
        self.spans = [(first, last) for first, last in spans if last > first]
        rows = group.most(config.batch_size)
        self.positions = torch.zeros(rows, dtype=torch.long, device=tokens.device)
        self.read = model.read_table.new_zeros((rows, model.config.num_layers, model.context_dim))
        wide = torch.promote_types(model.embedding.dtype, torch.float32)
        self.weights = torch.zeros(rows, dtype=wide, device=tokens.device)
        self.weighed: tuple[int, int] | None = None
        self.dev_part = group.share(len(dev) - 1)
        self.dev_segments = list(_within(model.context_segments(dev), self.dev_part))

    def load(self, positions: Int[Tensor, " B"]) -> None:
        """Put positions and their contexts where a step finds them; rows that are missing weigh 0."""
        mine = positions[group.share(len(positions))]
        self.positions[: len(mine)] = mine
        self.contexts.take(mine, self.read[: len(mine)])
        self.count = len(positions)
        if self.weighed != (len(mine), self.count):
            self.weights.fill_(0.0)[: len(mine)] = 1 / self.count
            self.weighed = len(mine), self.count

    def lookup(self) -> tuple[Tensor, Tensor]:
        ids, self.before = token_window(self.tokens, self.positions, self.model.config.num_input_tokens)
        return ids, self.tokens[self.positions + 1]

    def hidden(self, vectors: Tensor) -> Tensor:
        return self.model.hidden_from(self.read, features_of(vectors, self.before), self.config.dropout)

    def dev_nats(self, precision: Precision, exact: bool) -> float:
        if group.world_size() == 1:
            return mean_nats(self.model, self.dev, self.dev_segments, precision)
        count = self.dev_part.stop - self.dev_part.start
        mean = mean_nats(self.model, self.dev, self.dev_segments, precision) if count else 0.0
        total = torch.tensor(mean * count, dtype=widest(self.dev.device), device=self.dev.device)
        group.all_reduce(total)
        return float(total) / (len(self.dev) - 1)

    def of_epoch(self, generator: torch.Generator) -> Iterator[Int[Tensor, " B"]]:
        """The positions of an epoch in batches: span after span, shuffled within each.

        Drawn on the CPU so that every device sees the same order.
        """
        order = torch.arange(len(self.spans))
        if self.config.shuffle and len(self.spans) > 1:
            order = torch.randperm(len(self.spans), generator=generator)
        for index in self.contexts.opened(order.tolist()):
            first, last = self.spans[index]
            positions = torch.arange(last - first)
            if self.config.shuffle:
                positions = torch.randperm(last - first, generator=generator)
            yield from (positions + first).to(self.tokens.device).split(self.config.batch_size)


def _within(segments: Segments, part: slice) -> Iterator[tuple[Tensor, Tensor]]:
    """What segments hold of the positions in `part`."""
    first = 0
    for positions, contexts in segments:
        inside = slice(max(part.start - first, 0), max(part.stop - first, 0))
        first += len(positions)
        if len(positions[inside]):
            yield positions[inside], contexts[inside]
