"""Phase 1: learn the context block without labels, by fixed-point iteration (algorithm, section 2).

A Jacobi sweep of c_t = block(c_{t-1}, f_t) over the whole token stream, one Adam step per sweep. Slices of B
tokens bound memory and define the loss; the gradient of a sweep is accumulated over them. A variant takes a
step after every few slices instead.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cvfp.models.cvfp import CVFPModel
from cvfp.models.layers import gathered_features, normalised_rows
from cvfp.records.config import derived_seed
from cvfp.records.schema import Precision
from cvfp.records.training_config import Phase1Config
from cvfp.training import group
from cvfp.training.contexts import SlicedContexts, slice_groups
from cvfp.training.devices import computing_in, usable
from cvfp.training.events import Event, Listener, silent
from cvfp.training.savepoint import NOWHERE, Savepoints, State
from cvfp.training.stepper import Stepper, require_finite

START_STD = 0.01
ROWS_AT_ONCE = {"cuda": 65_536}
"""Slices are swept together up to this many rows, elsewhere one by one: a GPU that gets 5,000 rows at a time
waits for Python. A sweep reads only the contexts of the sweep before, so the sum is the same."""
FLOAT32_VALUES = 1 << 33
"""Numbers of contexts, 32 GiB of float32. More than these are kept in float16 between sweeps, where products
take no more of their bits anyway (tf32, bf16): each number is within 2^-11 of itself. It follows from the
text and the model, never from the memory of a machine."""


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
) -> tuple[Float[Tensor, " K"], Float[Tensor, " K"], Float[Tensor, "K S"]]:
    """(convergence, dispersion) of each of K slices s of |s| rows, and how far each row has moved.

    convergence = mean_{t,d}((C^k - C^{k-1})^2),  dispersion = -||C^k_s - mean_t(C^k_s)||_F / |s|
    """
    squares = (new - old).square()
    dispersion = -torch.linalg.vector_norm(new - new.mean(dim=1, keepdim=True), dim=(1, 2)) / new.shape[1]
    return squares.mean(dim=(1, 2)), dispersion, squares.detach().mean(dim=2)


def shifted(old: Float[Tensor, "S d_c"], before: Float[Tensor, " d_c"]) -> Float[Tensor, "S d_c"]:
    """Inputs of consecutive positions: the contexts one position earlier, `before` ahead of them."""
    return torch.cat([before[None], old[:-1]])


def learn_contexts(
    model: CVFPModel,
    tokens: Int[Tensor, " N"],
    config: Phase1Config,
    *,
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
    block, device, started = model.context_block, tokens.device, time.perf_counter()
    precision = usable(config.precision, device)
    contexts = contexts_of(model, tokens, config)
    kept = contexts if keep_contexts else None
    end = saves.of("phase1-end")
    ended = end.load(device, kept)
    if ended is not None:
        block.load_state_dict(ended.tensors)
        return Phase1Result(**ended.numbers, contexts=kept)
    saves.keep_only("phase1")
    savepoint = saves.of("phase1")
    draw = NormalRows(seed, block.context_dim, device, model.read_table.dtype)
    stepper = Stepper(block.parameters(), lr=config.lr, grad_clip=config.grad_clip)
    weight, iteration, rate = config.dist_reg_weight, 1, 0.0
    table_rows, read = normalised_rows(model.read_table), model.config.num_input_tokens
    saved = savepoint.load(device, contexts)
    if saved is None:
        start_at_random(contexts, draw)
    else:
        stepper.restore(saved.tensors, saved.numbers)
        iteration, rate = saved.numbers["iteration"], saved.numbers["rate"]
    converged = False
    while iteration < config.max_iterations and not converged:
        iteration += 1
        totals = torch.zeros(3, dtype=contexts.dtype, device=device)
        for piece, before in zip(contexts.pieces, contexts.rows_before(), strict=True):
            stepper.zero_grad()
            index = piece.index
            groups = slice_groups(piece.bounds, ROWS_AT_ONCE.get(device.type, 0))
            for slices, old in zip(groups, contexts.sweep(piece, groups), strict=True):
                first, last, count = slices[0][0], slices[-1][1], len(slices)
                inputs = shifted(old, before)
                if config.context_noise:  # drawn slice by slice: how slices are spread changes nothing
                    lengths = enumerate((end - start for start, end in slices), index)
                    drawn = [draw(length, "noise", iteration - 1, place) for place, length in lengths]
                    inputs = inputs + config.context_noise * torch.cat(drawn)
                before = old[-1].clone()
                with computing_in(precision, device):
                    positions = torch.arange(first, last, device=device)
                    new = block(inputs, gathered_features(table_rows, tokens, positions, read))[:, -1]
                    shape = (count, len(new) // count)
                    convergence, dispersion, moved = slice_losses(
                        new.unflatten(0, shape), old.unflatten(0, shape)
                    )
                    loss = ((1 - weight) * convergence + weight * dispersion).sum()
                    (loss / piece.batch_slices).backward()
                with torch.no_grad():
                    settled = (moved < config.convergence_threshold).sum()
                    totals += torch.stack([convergence.sum(), dispersion.sum(), settled])
                    contexts.write_own(piece, first, new)
                index += count
            stepper.update()
        group.all_reduce(totals)
        convergence, dispersion, settled = totals.tolist()
        slices = len(contexts.bounds)
        rate = settled / len(tokens)
        values = {
            "convergence_loss": require_finite(convergence / slices, "the phase 1 loss", stepper.steps),
            "dispersion_loss": dispersion / slices,
            "convergence_rate": rate,
        }
        listen(Event("phase 1", iteration, config.max_iterations, values))
        converged = iteration >= config.min_iterations and rate >= config.convergence_rate
        if not converged and savepoint.due():
            numbers = stepper.numbers() | {"iteration": iteration, "rate": rate}
            savepoint.save(State(stepper.tensors(), numbers, contexts))
    found = {
        "iterations": iteration,
        "converged": converged,
        "convergence_rate": rate,
        "precision": precision,
        "seconds": time.perf_counter() - started + savepoint.seconds_before,
    }
    end.save(State(block.state_dict(), found, kept))
    saves.keep_only("phase1-end")
    return Phase1Result(**found, contexts=kept)


class NormalRows:
    """Draws standard normal rows, for each purpose from a generator of its own."""

    def __init__(self, seed: int, width: int, device: torch.device, dtype: torch.dtype) -> None:
        self.seed, self.width, self.device, self.dtype = seed, width, device, dtype

    def __call__(self, rows: int, purpose: str, *parts: int) -> Float[Tensor, "rows d_c"]:
        generator = torch.Generator(self.device).manual_seed(derived_seed(self.seed, purpose, *parts))
        return torch.randn((rows, self.width), generator=generator, device=self.device, dtype=self.dtype)


def start_at_random(contexts: SlicedContexts, draw: NormalRows) -> None:
    """Put C^1 there: every element N(0, 0.01^2), slice by slice, so that it does not matter who has which."""
    for piece in contexts.pieces:
        for index, (first, last) in enumerate(piece.bounds, piece.index):
            contexts.write_own(piece, first, START_STD * draw(last - first, "contexts", index))


def contexts_of(model: CVFPModel, tokens: Tensor, config: Phase1Config) -> SlicedContexts:
    """Room for the contexts of a stream, sliced as the config says."""
    dtype, values = model.read_table.dtype, len(tokens) * model.context_dim
    few_bits = usable(config.precision, tokens.device) != "float32" and dtype == torch.float32
    return SlicedContexts(
        len(tokens),
        config.slice_length,
        config.slices_per_step,
        model.context_dim,
        dtype,
        tokens.device,
        torch.float16 if few_bits and values > FLOAT32_VALUES else dtype,
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
