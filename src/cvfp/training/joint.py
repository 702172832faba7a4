"""Joint training: contexts as a fixed point of the text, learned with the token loss (joint.md).

    store C[p]: the state before position p, for the borders of chunks
    every epoch:  from the second one on, refresh the store: the contexts under the weights as they are
                  draw an offset, cut the text there into chunks of T positions, shuffle them
      every step: take S chunks, start each from the store, roll T positions out,
                  learn from the next tokens of all S * T positions; no gradient flows into a start,
                  write the states after the chunks back into the store, where the next chunks start

As in phase 1 a position starts from what the sweep before left one position earlier; a sweep runs T positions
instead of one, and the loss is that of the next tokens. T = 1 is phase 1's sweep with another loss, T = N
backpropagation through the whole text.
"""

from __future__ import annotations

import math
import time

import torch
import torch.nn.functional as F
from jaxtyping import Int
from torch import Tensor, nn

from cvfp.models.cvfp import CVFPModel
from cvfp.models.layers import features_of, token_window
from cvfp.records.schema import Precision
from cvfp.records.training_config import JointConfig
from cvfp.training import group
from cvfp.training.context_store import ContextStore
from cvfp.training.devices import computing_in, usable
from cvfp.training.distillation import Teachers
from cvfp.training.evaluation import Segments, mean_nats
from cvfp.training.events import Listener, silent
from cvfp.training.next_token import Batch, Learned, TokenLearner, learning
from cvfp.training.savepoint import NOT_SAVED, Savepoint

ROWS = 1 << 16
"""Rows of the store that are zeroed at once."""
SPAN, SWEEPS = 128, 2
"""Contexts in training come from so many sweeps of spans of so many positions, rolled out side by side: every
state has at least a span of text behind it. The solver's tolerance would take the memory of an LSTM cell,
thousands of positions in a row; it is for what is reported. A later sweep starts where the one before ended,
the first one from what is there: so the store of an epoch is a sweep away from that of the last one."""
SPANS_AT_ONCE = 2048


def joint_parameters(model: CVFPModel, train_embedding: bool) -> list[nn.Parameter]:
    """What joint training learns: cell, projection or token layers, output bias, embedding if asked for."""
    tied = {"embedding"} if not train_embedding else set()
    return [parameter for name, parameter in model.named_parameters() if name not in tied]


def learn_jointly(
    model: CVFPModel,
    tokens: Int[Tensor, " N"],
    dev: Int[Tensor, " M"],
    config: JointConfig,
    *,
    train_embedding: bool,
    seed: int,
    listen: Listener = silent,
    savepoint: Savepoint = NOT_SAVED,
    teachers: Teachers | None = None,
) -> Learned:
    """Train on `tokens` to the minimum of the dev loss; leave the best weights in `model`.

    With `teachers` it learns their probabilities too (`cvfp.training.distillation`).

    Raises:
        CvfpError: no loss was ever finite.
    """
    started = time.perf_counter()
    batch = Chunks(model, tokens, dev, config, teachers)
    learner = TokenLearner(
        batch,
        joint_parameters(model, train_embedding),
        config,
        epoch_steps=math.ceil(batch.number / batch.at_once),
        phase="joint",
        seed=seed,
        listen=listen,
    )
    with learning(learner, savepoint):
        for epoch in learner.epochs():
            order = batch.draw(learner.generator)
            if config.refresh and epoch and not learner.inside_epoch:
                batch.refresh()
            for chunks in learner.batches(order.split(batch.at_once)):
                batch.load(chunks)
                learner.step()
                batch.write_back(chunks)
                learner.finish_step()
    return learner.result(time.perf_counter() - started + savepoint.seconds_before)


class Chunks(Batch[CVFPModel]):
    """S chunks of T positions from anywhere in the text, each with its start out of the store.

    Row k of the store is the state before chunk k. Of a group's processes each has a share of the chunks of a
    batch, and all have the whole store.

    Args:
        model: with a cell; it reads the table that is learned.
        tokens, dev: what is learned, and what says when to stop.
        config: T (`window`), S (`chunks`), dropout.
        teachers: whose probabilities are learned too, if any.
    """

    replayable = True

    def __init__(
        self,
        model: CVFPModel,
        tokens: Int[Tensor, " N"],
        dev: Int[Tensor, " M"],
        config: JointConfig,
        teachers: Teachers | None = None,
    ) -> None:
        assert model.context_block is not None
        self.model, self.cell, self.config = model, model.context_block, config
        self.tokens, self.dev = tokens, dev
        self.looks_exactly = not tokens.is_cuda  # see `training_segments`
        examples = len(tokens) - 1
        self.length = min(config.window, examples)
        """T."""
        # So many that every offset below T leaves room for them; a text that is shorter is one chunk.
        self.number = max((examples - self.length + 1) // self.length, 1)
        """Chunks of the text."""
        self.spare = examples - self.number * self.length
        self.at_once = min(config.chunks, self.number)
        """S."""
        self.precision: Precision = usable(config.precision, tokens.device)
        self.within = torch.arange(self.length, device=tokens.device)[:, None]
        self.offset = 0
        table, width, rows = model.read_table, model.state_dim, group.most(self.at_once)
        self.store = self.rows = ContextStore((self.number + 1, width), table.dtype, tokens.device)
        for first in range(0, self.number + 1, ROWS):
            self.store.write(first, table.new_zeros(min(ROWS, self.number + 1 - first), width))
        self.positions = torch.zeros(self.length, rows, dtype=torch.long, device=tokens.device)
        self.starts = table.new_zeros(rows, width)
        # Where the states after this process's chunks belong in the batch; the last place is for padding.
        self.places = torch.full((rows,), self.at_once, device=tokens.device)
        self.ends = table.new_zeros(self.at_once + 1, width)
        self.shares = (self.ends,)
        wide = torch.promote_types(table.dtype, torch.float32)
        self.weights = torch.zeros(rows * self.length, dtype=wide, device=tokens.device)
        self.weighed: tuple[int, int] | None = None
        self.teachers = teachers
        self.soft = None if teachers is None else teachers.targets(rows * self.length)

    def draw(self, generator: torch.Generator) -> Int[Tensor, " C"]:
        """The chunks of an epoch in random order, cut at a new offset, but where the store is not refreshed.

        Drawn on the CPU so that every device sees the same order.
        """
        ends = self.spare + 1 if self.config.refresh else 1
        self.offset = int(torch.randint(ends, (), generator=generator))
        return torch.randperm(self.number, generator=generator).to(self.tokens.device)

    def load(self, chunks: Int[Tensor, " S"]) -> None:
        """Put these chunks' positions and starts where a step finds them; rows that are missing weigh 0."""
        share = group.share(len(chunks))
        mine = chunks[share]
        positions = self.positions[:, : len(mine)]
        torch.add(self.within + self.offset, mine, alpha=self.length, out=positions)
        self.store.take(mine, self.starts[: len(mine)])
        if self.teachers is not None and self.soft is not None:
            self.teachers.load(self.positions.flatten(), self.soft)
        self.count = len(chunks) * self.length
        if self.weighed != (len(mine), len(chunks)):
            rows = self.weights.view(self.length, -1).fill_(0.0)
            rows[:, : len(mine)] = 1 / self.count
            self.places[: len(mine)] = torch.arange(share.start, share.stop, device=mine.device)
            self.places[len(mine) :] = self.at_once
            self.weighed = len(mine), len(chunks)

    def write_back(self, chunks: Int[Tensor, " S"]) -> None:
        """Put the states after these chunks, as the step computed them, where the next chunks start."""
        self.store.put(chunks + 1, self.ends[: len(chunks)])

    @torch.no_grad()
    def refresh(self) -> None:
        """Put the contexts at the weights as they are into the store, by sweeps from what is there."""
        together = max(SPAN // self.length, 1)
        spans = torch.arange(0, self.number, together, device=self.tokens.device)
        with computing_in(self.precision, self.tokens.device):
            before = self.model.read_table.new_zeros(1, self.model.state_dim)
            if self.offset:
                _, before = roll_from(self.model, self.tokens, spans[:1], self.offset, before)
            self.store.write(0, before)
            for _ in range(SWEEPS):
                ends = [self._sweep(chunks, together) for chunks in spans.split(SPANS_AT_ONCE)]
                for chunks, states in ends:  # where other spans start: not before all have started
                    self.store.put(chunks, states)

    def _sweep(self, chunks: Tensor, together: int) -> tuple[Tensor, Tensor]:
        """Roll spans of `together` chunks out from the store, whose rows inside them are written.

        Returns the chunks after the spans, and the states before those.
        """
        state = self.ends.new_empty(len(chunks), self.model.state_dim)
        self.store.take(chunks, state)
        for _ in range(together):
            chunks = chunks[chunks < self.number]
            firsts = self.offset + chunks * self.length
            _, state = roll_from(self.model, self.tokens, firsts, self.length, state[: len(chunks)])
            chunks = chunks + 1
            inside = chunks % together != 0
            self.store.put(chunks[inside], state[inside])
        return chunks, state

    def lookup(self) -> tuple[Tensor, Tensor]:
        positions = self.positions.flatten()
        ids, self.before = token_window(self.tokens, positions, self.model.config.num_input_tokens)
        return ids, self.tokens[positions + 1]

    def hidden(self, vectors: Tensor) -> Tensor:
        """u_t of all rows, T times S of them, position after position."""
        config, shape = self.config, self.positions.shape
        features = locked(features_of(vectors, self.before).unflatten(0, shape), config.dropout)
        contexts, ends = self.cell.roll(features, self.starts, config.dropout)
        self.ends.zero_().index_copy_(0, self.places, ends.to(self.ends.dtype))
        contexts = locked(contexts, config.dropout)
        return self.model.hidden_from(contexts.flatten(0, 1), features.flatten(0, 1))

    def dev_nats(self, precision: Precision, exact: bool) -> float:
        model, dev = self.model, self.dev
        segments = model.context_segments(dev) if exact else training_segments(model, dev)
        return mean_nats(model, dev, segments, precision)


def locked(rows: Tensor, probability: float) -> Tensor:
    """Dropout of (T, S, ...) that zeroes the same elements at all T positions (Gal & Ghahramani 2016)."""
    return rows * F.dropout(torch.ones_like(rows[:1]), probability) if probability else rows


def roll_from(
    model: CVFPModel, tokens: Int[Tensor, " N"], firsts: Int[Tensor, " S"], length: int, state: Tensor
) -> tuple[Tensor, Tensor]:
    """Contexts (length, S, L, d_c) of the positions from each of `firsts` on, and the states after them.

    Positions behind the text are those of its last token.
    """
    assert model.context_block is not None
    positions = firsts + torch.arange(length, device=tokens.device)[:, None]
    features = model.context_features(tokens, positions.flatten().clamp(max=len(tokens) - 1))
    contexts, state = model.context_block.roll(features.unflatten(0, positions.shape), state)
    return contexts, state.to(model.read_table.dtype)


def training_segments(model: CVFPModel, tokens: Int[Tensor, " N"]) -> Segments:
    """(positions, contexts) of a stream as training looks at them: swept on a GPU.

    On a CPU they are solved: what the solver saves by stopping early is not lost to launches there.
    """
    return swept_segments(model, tokens) if tokens.is_cuda else model.context_segments(tokens)


@torch.no_grad()
def swept_segments(model: CVFPModel, tokens: Int[Tensor, " N"]) -> Segments:
    """(positions, contexts) of a stream by `SWEEPS` of spans, from zero."""
    state = model.read_table.new_zeros(1, model.state_dim)
    for firsts in torch.arange(0, len(tokens), SPAN, device=tokens.device).split(SPANS_AT_ONCE):
        starts = torch.cat([state, state.new_zeros(len(firsts) - 1, model.state_dim)])
        for _ in range(SWEEPS - 1):
            _, ends = roll_from(model, tokens, firsts, SPAN, starts)
            starts = torch.cat([state, ends[:-1]])
        contexts, ends = roll_from(model, tokens, firsts, SPAN, starts)
        state = ends[-1:]
        inside = min(int(firsts[-1]) + SPAN, len(tokens)) - int(firsts[0])
        flat = contexts.transpose(0, 1).flatten(0, 1)[:inside]
        yield firsts[0] + torch.arange(inside, device=tokens.device), flat
