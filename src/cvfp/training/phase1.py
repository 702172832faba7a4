"""Phase 1: learn the context block without labels, by fixed-point iteration (algorithm, section 2).

A Jacobi sweep of c_t = block(c_{t-1}, f_t) over the whole token stream, one Adam step per sweep. Slices of B
tokens bound memory and define the loss; the gradient of a sweep is accumulated over them. A variant takes a
step after every few slices instead.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cvfp.models.cells import Cell
from cvfp.models.cvfp import CVFPModel
from cvfp.records.config import derived_seed
from cvfp.records.schema import Precision
from cvfp.records.training_config import Phase1Config
from cvfp.training import group
from cvfp.training.contexts import Bounds, SlicedContexts, slice_groups
from cvfp.training.devices import usable
from cvfp.training.events import Event, Listener, silent
from cvfp.training.loop import Objective, optimise, require_finite
from cvfp.training.savepoint import NOWHERE, Savepoints, State

START_STD = 0.01
CONVERGED = "converged"
ROWS_AT_ONCE = {"cuda": 65_536}
"""Slices are swept together up to this many rows, elsewhere one by one: a GPU that gets 5,000 rows at a time
waits for Python. A sweep reads only the contexts of the sweep before, so the sum is the same."""


@dataclass(frozen=True)
class Phase1Result:
    """`iterations` counts the random start as 1 (sweeps are one fewer); `contexts` are the last sweep's."""

    iterations: int
    converged: bool
    convergence_rate: float
    precision: Precision
    seconds: float = field(compare=False)
    contexts: SlicedContexts | None


def slice_losses(
    new: Float[Tensor, "K S d_c"], old: Float[Tensor, "K S d_c"]
) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"]]:
    """(convergence, dispersion) of each of K slices s of |s| rows.

    convergence = mean_{t,d}((C^k - C^{k-1})^2),  dispersion = -||C^k_s - mean_t(C^k_s)||_F / |s|
    """
    convergence = (new - old).square().mean(dim=(1, 2))
    dispersion = -torch.linalg.vector_norm(new - new.mean(dim=1, keepdim=True), dim=(1, 2)) / new.shape[1]
    return convergence, dispersion


def shifted(old: Float[Tensor, "S d_c"], before: Float[Tensor, " d_c"]) -> Float[Tensor, "S d_c"]:
    """Inputs of consecutive positions: the contexts one position earlier, `before` ahead of them."""
    return torch.cat([before[None], old[:-1]])


def learn_contexts(
    model: CVFPModel,
    tokens: Int[Tensor, " N"],
    config: Phase1Config,
    seed: int,
    listen: Listener = silent,
    saves: Savepoints = NOWHERE,
    keep_contexts: bool = True,
) -> Phase1Result:
    """Train `model.context_block` on a token stream until its contexts stand still.

    With `saves`, a run that was interrupted goes on after its last saved sweep; one that had ended is read
    back. Without `keep_contexts` the result has none: they are 4 d_c bytes per token.

    Raises:
        CvfpError: the loss is no longer finite.
    """
    assert model.context_block is not None
    end, started = saves.of("phase1-end"), time.perf_counter()
    precision = usable(config.precision, tokens.device)
    contexts = contexts_of(model, tokens, config)
    kept = contexts if keep_contexts else None
    ended = end.load(tokens.device, kept)
    if ended is not None:
        model.context_block.load_state_dict(ended.tensors)
        return Phase1Result(**ended.numbers, contexts=kept)
    objective = _FixedPointObjective(model, model.context_block, tokens, contexts, config, seed, listen)
    saves.keep_only("phase1")
    savepoint = saves.of("phase1")
    steps, reason = optimise(
        objective,
        model.context_block.parameters(),
        lr=config.lr,
        grad_clip=config.grad_clip,
        max_steps=(config.max_iterations - 1) * len(contexts.pieces),
        precision=precision,
        savepoint=savepoint,
    )
    found = {
        "iterations": steps // len(contexts.pieces) + 1,
        "converged": reason == CONVERGED,
        "convergence_rate": objective.rate,
        "precision": precision,
        "seconds": time.perf_counter() - started + savepoint.seconds_before,
    }
    end.save(State(model.context_block.state_dict(), found, kept))
    saves.keep_only("phase1-end")
    return Phase1Result(**found, contexts=kept)


def contexts_of(model: CVFPModel, tokens: Tensor, config: Phase1Config) -> SlicedContexts:
    """Room for the contexts of a stream, sliced as the config says."""
    return SlicedContexts(
        len(tokens),
        config.slice_length,
        config.slices_per_step,
        model.context_dim,
        model.read_table.dtype,
        tokens.device,
    )


def one_step_segments(
    model: CVFPModel, tokens: Int[Tensor, " N"], contexts: SlicedContexts
) -> Iterator[tuple[Int[Tensor, " S"], Float[Tensor, "S L d_c"]]]:
    """(positions, contexts) of one more sweep from phase 1's last (the published training contexts)."""
    assert model.context_block is not None
    before = model.read_table.new_zeros(model.context_dim)
    for first, last in contexts.bounds:
        positions, old = torch.arange(first, last, device=tokens.device), contexts.read(first, last)
        with torch.no_grad():
            features = model.context_features(tokens, positions)
            new = model.context_block(shifted(old, before), features)
        yield positions, new
        before = old[-1]


class _FixedPointObjective(Objective):
    """A sweep is one step, or one per batch of slices; `contexts` holds C^{k-1} before it, C^k after it."""

    def __init__(
        self,
        model: CVFPModel,
        block: Cell,
        tokens: Tensor,
        contexts: SlicedContexts,
        config: Phase1Config,
        seed: int,
        listen: Listener,
    ) -> None:
        self.model, self.block, self.tokens = model, block, tokens
        self.config, self.seed, self.listen = config, seed, listen
        self.device, self.dtype = tokens.device, model.read_table.dtype
        self.contexts = self.saved_rows = contexts
        self.groups = [
            slice_groups(piece.bounds, ROWS_AT_ONCE.get(self.device.type, 0)) for piece in contexts.pieces
        ]
        for piece in contexts.pieces:
            for index, (first, last) in enumerate(piece.bounds, piece.index):
                start = START_STD * self._normal(last - first, "contexts", index)
                contexts.write_own(piece, first, start)
        self.rate = 0.0

    def can_resume_after(self, step: int) -> bool:
        return step % len(self.groups) == 0

    def state(self, step: int) -> State:
        return State({}, {"rate": self.rate}, self.contexts)

    def restore(self, state: State, step: int) -> None:
        self.rate = state.numbers["rate"]

    def _normal(self, rows: int, *purpose: str | int) -> Tensor:
        """(rows, d_c) standard normal numbers, from a generator of their own: how slices are spread changes
        nothing."""
        generator = torch.Generator(self.device).manual_seed(derived_seed(self.seed, *purpose))
        shape = (rows, self.block.context_dim)
        return torch.randn(shape, generator=generator, device=self.device, dtype=self.dtype)

    def prepare(self, step: int) -> None:
        sweep, self.place = divmod(step - 1, len(self.groups))
        if self.place == 0:
            self.totals = torch.zeros(3, dtype=self.dtype, device=self.device)
            self.coming = self._sweep(sweep + 1, self.contexts.rows_before())

    def backward(self) -> None:
        weight, all_slices = self.config.dist_reg_weight, self.contexts.pieces[self.place].batch_slices
        for slices, old, new in itertools.islice(self.coming, len(self.groups[self.place])):
            shape = (slices, len(new) // slices)
            convergence, dispersion = slice_losses(new.unflatten(0, shape), old.unflatten(0, shape))
            loss = ((1 - weight) * convergence + weight * dispersion).sum()
            (loss / all_slices).backward()
            with torch.no_grad():
                change = (new - old).square().mean(dim=1)
                settled = (change < self.config.convergence_threshold).sum()
                self.totals += torch.stack([convergence.sum(), dispersion.sum(), settled])

    def _sweep(self, sweep: int, rows_before: list[Tensor]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """(slices, their C^{k-1}, their C^k) group by group. Each is overwritten once its loss was taken."""
        for piece, groups, before in zip(self.contexts.pieces, self.groups, rows_before, strict=True):
            index = piece.index
            for slices in groups:
                first, last = slices[0][0], slices[-1][1]
                old = self.contexts.own(piece, first, last)
                inputs = shifted(old, before) + self._noise(sweep, index, slices)
                before = old[-1].clone()
                positions = torch.arange(first, last, device=self.device)
                new = self.block(inputs, self.model.context_features(self.tokens, positions))[:, -1]
                yield len(slices), old, new
                self.contexts.write_own(piece, first, new.detach())
                index += len(slices)

    def _noise(self, sweep: int, index: int, slices: Bounds) -> Tensor | float:
        """Noise of slices of which the first is the index-th, drawn slice by slice."""
        if self.config.context_noise == 0:
            return 0.0
        parts = [
            self._normal(last - first, "noise", sweep, place)
            for place, (first, last) in enumerate(slices, index)
        ]
        return self.config.context_noise * torch.cat(parts)

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> str | None:
        if not self.can_resume_after(step):
            return None
        next(self.coming, None)  # the last slices are overwritten
        group.add_up(self.totals)
        iteration = step // len(self.groups) + 1
        convergence, dispersion, settled = self.totals.tolist()
        slices = len(self.contexts.bounds)
        values = {
            "convergence_loss": require_finite(convergence / slices, "the phase 1 loss", step),
            "dispersion_loss": dispersion / slices,
            "convergence_rate": settled / len(self.tokens),
        }
        self.rate = values["convergence_rate"]
        self.listen(Event("phase 1", iteration, self.config.max_iterations, values))
        enough = iteration >= self.config.min_iterations and self.rate >= self.config.convergence_rate
        return CONVERGED if enough else None
