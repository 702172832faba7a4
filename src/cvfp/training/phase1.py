"""Phase 1: learn the context block without labels, by fixed-point iteration (algorithm, section 2).

A Jacobi sweep of c_t = block(c_{t-1}, f_t) over the whole token stream, one Adam step per sweep. Slices of B
tokens bound memory and define the loss; the gradient of a sweep is accumulated over them.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from cvfp.models.cvfp import CVFPModel
from cvfp.models.layers import ContextBlock
from cvfp.records.config import Phase1Config
from cvfp.records.seeds import derived_seed
from cvfp.training.events import Event, Listener, silent
from cvfp.training.loop import Objective, optimise, require_finite

START_STD = 0.01
CONVERGED = "converged"


@dataclass(frozen=True)
class Phase1Result:
    """`iterations` counts the random start as 1 (steps are one fewer); `contexts` are the last sweep's."""

    iterations: int
    converged: bool
    convergence_rate: float
    contexts: Float[Tensor, "N d_c"]
    seconds: float = field(compare=False)


def slice_bounds(num_tokens: int, slice_length: int) -> list[tuple[int, int]]:
    """[first, last) of consecutive slices; a last slice shorter than 2 rows joins the one before."""
    starts = list(range(0, num_tokens, slice_length))
    if len(starts) > 1 and num_tokens - starts[-1] < 2:
        starts.pop()
    return list(zip(starts, [*starts[1:], num_tokens], strict=True))


def slice_losses(
    new: Float[Tensor, "S d_c"], old: Float[Tensor, "S d_c"]
) -> tuple[Float[Tensor, ""], Float[Tensor, ""]]:
    """(convergence, dispersion) of one slice s of |s| rows.

    convergence = mean_{t,d}((C^k - C^{k-1})^2),  dispersion = -||C^k_s - mean_t(C^k_s)||_F / |s|
    """
    convergence = (new - old).square().mean()
    dispersion = -torch.linalg.norm(new - new.mean(dim=0)) / len(new)
    return convergence, dispersion


def shifted(
    contexts: Float[Tensor, "N d_c"], first: int, last: int, before: Float[Tensor, " d_c"]
) -> Float[Tensor, "S d_c"]:
    """Inputs of positions [first, last): the contexts one position earlier, `before` ahead of `first`."""
    return torch.cat([before[None], contexts[first : last - 1]])


def learn_contexts(
    model: CVFPModel, tokens: Int[Tensor, " N"], config: Phase1Config, seed: int, listen: Listener = silent
) -> Phase1Result:
    """Train `model.context_block` on a token stream until its contexts stand still.

    Raises:
        CvfpError: the loss is no longer finite.
    """
    assert model.context_block is not None
    started = time.perf_counter()
    objective = _FixedPointObjective(model, model.context_block, tokens, config, seed, listen)
    steps, reason = optimise(
        objective,
        model.context_block.parameters(),
        lr=config.lr,
        grad_clip=config.grad_clip,
        max_steps=config.max_iterations - 1,
    )
    seconds = time.perf_counter() - started
    return Phase1Result(steps + 1, reason == CONVERGED, objective.rate, objective.contexts, seconds)


def one_step_contexts(
    model: CVFPModel, tokens: Int[Tensor, " N"], contexts: Float[Tensor, "N d_c"], slice_length: int
) -> Float[Tensor, "N L d_c"]:
    """One more sweep from phase 1's last contexts, all layers kept (the published training contexts)."""
    assert model.context_block is not None
    parts, before = [], torch.zeros_like(contexts[0])
    with torch.no_grad():
        for first, last in slice_bounds(len(tokens), slice_length):
            features = model.context_features(tokens, torch.arange(first, last, device=tokens.device))
            parts.append(model.context_block(shifted(contexts, first, last, before), features))
            before = contexts[last - 1]
    return torch.cat(parts)


class _FixedPointObjective(Objective):
    """One step is one sweep; `contexts` holds C^{k-1} before it and C^k after it."""

    def __init__(
        self,
        model: CVFPModel,
        block: ContextBlock,
        tokens: Tensor,
        config: Phase1Config,
        seed: int,
        listen: Listener,
    ) -> None:
        self.model, self.block, self.tokens = model, block, tokens
        self.config, self.seed, self.listen = config, seed, listen
        self.bounds = slice_bounds(len(tokens), config.slice_length)
        generator = torch.Generator(tokens.device).manual_seed(derived_seed(seed, "contexts"))
        shape = (len(tokens), block.context_dim)
        start = torch.randn(shape, generator=generator, device=tokens.device, dtype=model.context_table.dtype)
        self.contexts = START_STD * start
        self.rate = 0.0

    def backward(self, step: int) -> None:
        weight = self.config.dist_reg_weight
        self.totals = self.contexts.new_zeros(3)
        for old, new in self._sweep(step):
            convergence, dispersion = slice_losses(new, old)
            loss = (1 - weight) * convergence + weight * dispersion
            (loss / len(self.bounds)).backward()
            with torch.no_grad():
                change = (new - old).square().mean(dim=1)
                settled = (change < self.config.convergence_threshold).sum()
                self.totals += torch.stack([convergence, dispersion, settled])

    def _sweep(self, step: int) -> Iterator[tuple[Tensor, Tensor]]:
        """(C^{k-1}, C^k) slice by slice. Each slice is overwritten once its loss has been taken."""
        before = torch.zeros_like(self.contexts[0])
        for index, (first, last) in enumerate(self.bounds):
            old = self.contexts[first:last]
            inputs = shifted(self.contexts, first, last, before) + self._noise(step, index, last - first)
            before = old[-1].clone()
            features = self.model.context_features(
                self.tokens, torch.arange(first, last, device=self.tokens.device)
            )
            new = self.block(inputs, features)[:, -1]
            yield old, new
            self.contexts[first:last] = new.detach()

    def _noise(self, step: int, index: int, rows: int) -> Tensor | float:
        """Noise of one slice, from a generator of its own: how slices are spread changes nothing."""
        if self.config.context_noise == 0:
            return 0.0
        device = self.contexts.device
        generator = torch.Generator(device).manual_seed(derived_seed(self.seed, "noise", step, index))
        shape = (rows, self.block.context_dim)
        return self.config.context_noise * torch.randn(shape, generator=generator, device=device)

    def after_step(self, step: int, optimizer: torch.optim.Optimizer) -> str | None:
        convergence, dispersion, settled = self.totals.tolist()
        slices = len(self.bounds)
        values = {
            "convergence_loss": require_finite(convergence / slices, "the phase 1 loss", step),
            "dispersion_loss": dispersion / slices,
            "convergence_rate": settled / len(self.tokens),
        }
        self.rate = values["convergence_rate"]
        self.listen(Event("phase 1", step + 1, self.config.max_iterations, values))
        enough = step + 1 >= self.config.min_iterations and self.rate >= self.config.convergence_rate
        return CONVERGED if enough else None
