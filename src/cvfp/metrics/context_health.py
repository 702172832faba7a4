"""Is a context block healthy: does it move, carry anything, forget its start; how many dimensions it uses.

Every function takes the block as a callable `step(c, z)` at frozen weights: states (M, d_c) and whatever
describes the tokens (M, ...) to next states (M, d_c).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from numpy.typing import NDArray
from torch import Tensor

# --- Effective rank of a set of context vectors (Roy & Vetterli 2007).


MAX_ROWS = 10_000


def sample_rows(num_rows: int, seed: int, most: int = MAX_ROWS) -> NDArray[np.int64]:
    """At most `most` of `num_rows` row numbers, drawn without replacement with `seed`, in order."""
    if num_rows <= most:
        return np.arange(num_rows)
    return np.sort(np.random.default_rng(seed).choice(num_rows, most, replace=False))


def effective_rank(rows: Float[Tensor, "T d"]) -> float:
    """ER = exp(-sum p ln p), p = s / sum(s), of the singular values s of the uncentred matrix (T, d).

    Singular values are roots of the eigenvalues of C^T C in float64: the same numbers as an SVD of C, far
    faster. 0 ln 0 = 0. Between 1 and d; an all-zero matrix raises ValueError.
    """
    c = (rows.cpu() if rows.device.type == "mps" else rows).double()
    # Eigenvalues on the CPU: a GPU's library takes longer to load than they take.
    singular = torch.linalg.eigvalsh((c.T @ c).cpu()).clamp(min=0).sqrt()
    total = singular.sum()
    if not total > 0:
        raise ValueError("the effective rank of an all-zero matrix is not defined")
    p = singular[singular > 0] / total
    return float((-(p * p.log()).sum()).exp())


# --- Whether a block moves, carries anything, forgets its start.


Step = Callable[[Tensor, Tensor], Tensor]

IDENTITY_COSINE = 0.95
"""Above this mean cosine between input and output the block hardly computes (algorithm, section 5)."""
DEGENERATE = 0.1
"""Below this mean norm, or mean distance from the mean, contexts carry nothing (algorithm, section 5)."""
SETTLED_MSE = 1e-9
"""Repeated roll-outs closer than this are the same in float32 (assumed)."""
POWER_STEPS = 20
"""Power iterations per Jacobian; the largest of many starts is taken (assumed enough for two digits)."""

Trend = Literal["converged", "converging", "diverging", "unstable"]


def identity_cosine(step: Step, states: Float[Tensor, "M d_c"], inputs: Tensor) -> float:
    """Mean cosine between c and block(c, f) over the given (random) states and inputs."""
    return float(torch.cosine_similarity(states, step(states, inputs), dim=1).mean())


def spread(contexts: Float[Tensor, "T d_c"]) -> tuple[float, float]:
    """(mean norm, mean distance from the mean) of contexts: both near zero when they are degenerate."""
    distances = (contexts - contexts.mean(dim=0)).norm(dim=1)
    return float(contexts.norm(dim=1).mean()), float(distances.mean())


def trial_convergence(
    roll: Callable[[Tensor], Float[Tensor, "T d_c"]], first: Float[Tensor, "T d_c"], trials: int = 4
) -> tuple[Trend, list[float]]:
    """Roll the same text out again and again, each time from the last state of the time before; `first` is
    what the first time gave.

    Returns the trend of the MSE between successive roll-outs, and those MSEs: `converged` when the last is
    rounding, `converging` / `diverging` when ln MSE falls / rises every time, else `unstable`.
    """
    before, errors = first, []
    for _ in range(trials):
        contexts = roll(before[-1])
        errors.append(float((contexts - before).square().mean()))
        before = contexts
    return _trend(errors), errors


def _trend(errors: list[float]) -> Trend:
    if errors[-1] < SETTLED_MSE:
        return "converged"
    logs = [math.log(error) if error > 0 else -math.inf for error in errors]
    slopes = [after - earlier for earlier, after in pairwise(logs)]
    if all(slope < 0 for slope in slopes):
        return "converging"
    return "diverging" if all(slope > 0 for slope in slopes) else "unstable"


def local_lipschitz(step: Step, states: Float[Tensor, "M d_c"], inputs: Tensor, seed: int = 0) -> float:
    """Largest spectral norm of d block / d c over the given states, by power iteration on J^T J.

    Below 1 the block contracts everywhere that was looked at: any start is forgotten at that rate or faster.
    """
    generator = torch.Generator().manual_seed(seed)
    direction = torch.randn(states.shape, generator=generator).to(states)
    norms = states.new_zeros(len(states))
    # By autograd alone: what torch.func imports takes seconds.
    with torch.enable_grad():
        before = states.detach().requires_grad_()
        after = step(before, inputs)
        row = torch.zeros_like(after, requires_grad=True)
        (pulled,) = torch.autograd.grad(after, before, row, create_graph=True)
    for _ in range(POWER_STEPS):
        direction = torch.nn.functional.normalize(direction, dim=1)
        # J v is the gradient of v^T J^T u in u, whatever u is.
        (forward,) = torch.autograd.grad(pulled, row, direction, retain_graph=True)
        norms = forward.norm(dim=1)
        (direction,) = torch.autograd.grad(after, before, forward, retain_graph=True)
    return float(norms.max())


def memory_length(
    step: Step,
    states: Float[Tensor, "M d_c"],
    inputs: Float[Tensor, "M K ..."],
    threshold: float = 1e-3,
) -> int | None:
    """Positions until a state started from zero is within `threshold` of the true one in every element.

    `states` are true states at M places of a text, `inputs` what follows each for K positions. The slowest
    place counts. None: not within K positions.
    """
    both = torch.cat([states, torch.zeros_like(states)])
    for position in range(inputs.shape[1]):
        both = step(both, torch.cat([inputs[:, position]] * 2))
        right, wrong = both.chunk(2)
        if float((right - wrong).abs().max()) < threshold:
            return position + 1
    return None
