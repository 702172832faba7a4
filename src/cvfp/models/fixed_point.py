"""Solving c_t = step(c_{t-1}, z_t) for all t in parallel, at frozen weights.

The fixed point of the sweep over a text is the sequential roll-out (zeroth-order DEER: Lim et al. 2024,
Gonzalez et al. 2024). Two solvers: `solve_blocks` rolls many chunks out in lockstep and repeats until
neighbouring chunks agree; `solve_tokens` is the textbook Jacobi sweep over single positions, kept as the
reference. Not converging within a bound is a status, not an exception: the caller decides.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from cvfp.models.replay import ReplayedFunction

Step = Callable[[Tensor, Tensor], Tensor]
"""Maps states (M, d_s) and inputs (M, ...) to all outputs (M, L, d_s); [:, -1] is the next state."""

SINGLE = 4e-6
"""Tolerance in float32. Two roll-outs that differ in nothing but the shape of their matrix products end up to
1e-5 apart there (measured at d_c 24..768), so a tighter bound would chase rounding."""
MEMORY = 1e-3
"""That of memory cells, which forget slowly (measured: a state from zero is within 1e-3 after 300 positions,
within 4e-6 after 500, later in models of more text); 1e-3 or 1e-4 changes a mean loss by less than 1e-8
nats."""
CHECK_EVERY = 16
"""Lockstep positions between two comparisons with the pass before (a comparison costs about one step)."""
START_CHUNK = 128
"""First chunk length: twice the 64 positions in which a trained context forgets its start (measured)."""
RESOLVED = 10.0
"""Excess above which a difference is far enough from rounding to read a rate from it (assumed)."""


@dataclass(frozen=True)
class Tolerance:
    """Two states agree when |a - b| <= absolute + relative * |b| in every element."""

    absolute: float
    relative: float

    @classmethod
    def of(cls, dtype: torch.dtype, single: float = SINGLE) -> Tolerance:
        """`single` in float32, 1e-12 in float64, both absolute and relative."""
        return cls(single, single) if dtype == torch.float32 else cls(1e-12, 1e-12)

    def excess(self, new: Tensor, old: Tensor) -> float:
        """Largest |new - old| in units of the tolerance: at most 1 when all elements agree."""
        if new.numel() == 0:
            return 0.0
        return float(((new - old).abs() / (self.absolute + self.relative * old.abs())).max())


@dataclass(frozen=True)
class FixedPoint:
    """What a solve found. `states` (N, L, d_s); `residuals` in units of the tolerance, one per pass.

    `contraction` is the factor per position at which a wrong start was forgotten, where that could be seen.
    """

    states: Float[Tensor, "N L d_s"]
    status: Literal["converged", "bound"]
    passes: int
    chunks: int
    chunk_length: int
    residuals: tuple[float, ...]
    contraction: float | None = None


def solve_tokens(
    step: Step,
    inputs: Float[Tensor, "N ..."],
    start: Float[Tensor, " d_s"],
    tolerance: Tolerance | None = None,
    max_sweeps: int | None = None,
) -> FixedPoint:
    """Jacobi sweeps C^k[t] = step(C^{k-1}[t-1], z_t) over all positions, from zero, until nothing moves.

    After k sweeps the first k positions are exact, so N sweeps always suffice (the default bound).
    """
    tolerance = tolerance or Tolerance.of(inputs.dtype)
    bound = max(len(inputs), 1) if max_sweeps is None else max_sweeps
    before, residuals = start.new_zeros(max(len(inputs) - 1, 0), len(start)), []
    states: Tensor | None = None
    while len(residuals) < bound:
        new = step(torch.cat([start[None], before])[: len(inputs)], inputs)
        residuals.append(tolerance.excess(new, torch.zeros_like(new) if states is None else states))
        states, before = new, new[:-1, -1]
        if residuals[-1] <= 1:
            break
    assert states is not None  # there is one sweep at least
    # N sweeps are exact by induction, also when the last one still moved something.
    exact = residuals[-1] <= 1 or len(residuals) >= len(inputs)
    status = "converged" if exact else "bound"
    return FixedPoint(states, status, len(residuals), len(inputs), 1, tuple(residuals))


def solve_blocks(
    step: Step,
    inputs: Float[Tensor, "N ..."],
    start: Float[Tensor, " d_s"],
    tolerance: Tolerance | None = None,
    chunk_length: int = START_CHUNK,
    max_passes: int | None = None,
) -> FixedPoint:
    """Block Jacobi: chunks rolled out in lockstep, each from the end of its neighbour in the pass before.

    A pass stops as soon as every chunk has met the trajectory it found in the pass before: from there on
    nothing can change. When a chunk never meets it, the memory is longer than a chunk: neighbours merge (2,
    4, 8, ... of them, as many as the rate of forgetting asks for). At the latest one chunk is left, rolled
    out from the true start: so it always ends, and is exact. `max_passes` is the only reason for "bound".
    """
    solver = _BlockSolver(step, inputs, start, tolerance or Tolerance.of(inputs.dtype), chunk_length)
    while not solver.converged and (max_passes is None or len(solver.residuals) < max_passes):
        solver.run_pass()
    return solver.result()


class _BlockSolver:
    """The chunks of one solve and what is known of them after each pass."""

    def __init__(self, step: Step, inputs: Tensor, start: Tensor, tolerance: Tolerance, length: int) -> None:
        self.step, self.start, self.tolerance = step, start, tolerance
        self.num_positions = len(inputs)
        self.length = max(min(length, len(inputs)), 1)
        self.first_chunks = self.num_chunks = max(-(-len(inputs) // self.length), 1)
        self.inputs = self._padded(inputs)
        self.states: Tensor | None = None
        self.starts = start.new_zeros(self.num_chunks, len(start))
        self.starts[0] = start
        self.residuals: list[float] = []
        self.trace: list[tuple[int, float]] = []
        self.contraction: float | None = None
        self.converged = False

    @property
    def filled(self) -> Tensor:
        """The states; a pass has filled them."""
        assert self.states is not None
        return self.states

    def _padded(self, rows: Tensor) -> Tensor:
        missing = self.num_chunks * self.length - len(rows)
        return F.pad(rows, (*[0] * (2 * rows.dim() - 1), missing)) if missing else rows

    def run_pass(self) -> None:
        """Roll every chunk out once, update the starts, and decide whether neighbours agree."""
        check_from = self._merge() if len(self.residuals) >= 2 else 0
        met = self._lockstep(check_from)
        ends = self.filled.unflatten(0, (self.num_chunks, self.length))[:, -1, -1]
        starts = torch.cat([self.start[None], ends[:-1]])
        if len(self.residuals) == 1:
            self.contraction = _contraction(self.trace)
        self.residuals.append(0.0 if met else self.tolerance.excess(starts, self.starts))
        self.starts = starts
        self.converged = met or self.num_chunks == 1 or self.residuals[-1] <= 1

    def _merge(self) -> int:
        """Merge neighbours; return the last old border inside the new chunks.

        Before it a merged chunk cannot show that it agrees: its later parts were rolled out from old starts.
        """
        factor = self._merge_factor()
        last_border = (factor - 1) * self.length
        self.length *= factor
        self.starts = self.starts[::factor]
        self.num_chunks = len(self.starts)
        self.inputs, self.states = self._padded(self.inputs), self._padded(self.filled)
        return last_border

    def _merge_factor(self) -> int:
        """Smallest power of two, at least 2, whose chunks forget their start at the rate that was seen."""
        needed, rate = 0.0, _contraction(self.trace)
        if rate is not None:
            position, excess = self.trace[-1]
            needed = math.inf if rate >= 1 else position - math.log(excess) / math.log(rate)
        factor = 2
        while factor < self.num_chunks and factor * self.length < needed:
            factor *= 2
        return factor

    def _lockstep(self, check_from: int) -> bool:
        """Roll all chunks out from their starts; True when all met their previous trajectories on the way."""
        shape = (self.num_chunks, self.length)
        inputs, state, self.trace = self.inputs.unflatten(0, shape), self.starts, []
        step = ReplayedFunction(self.step, state, inputs[:, 0]) if inputs.is_cuda else self.step
        states = before = None if self.states is None else self.states.unflatten(0, shape)
        last_chunk = self.num_positions - (self.num_chunks - 1) * self.length  # the rest of it is padding
        for position in range(self.length):
            outputs = step(state, inputs[:, position])
            state = outputs[:, -1]
            if before is not None and position >= check_from and position % CHECK_EVERY == CHECK_EVERY - 1:
                whole = self.num_chunks if position < last_chunk else self.num_chunks - 1
                excess = self.tolerance.excess(state[:whole], before[:whole, position, -1])
                self.trace.append((position + 1, excess))
                if excess <= 1:
                    return True
            if states is None:
                self.states = outputs.new_empty(len(self.inputs), *outputs.shape[1:])
                states = self.states.unflatten(0, shape)
            states[:, position] = outputs
        return False

    def result(self) -> FixedPoint:
        return FixedPoint(
            states=self.filled[: self.num_positions],
            status="converged" if self.converged else "bound",
            passes=len(self.residuals),
            chunks=self.first_chunks,
            chunk_length=self.length,
            residuals=tuple(self.residuals),
            contraction=self.contraction,
        )


def _contraction(trace: list[tuple[int, float]]) -> float | None:
    """Mean factor per position between the first and the last (position, excess) clear of rounding."""
    clear = [pair for pair in trace if pair[1] > RESOLVED]
    if len(clear) < 2:
        return None
    (first, high), (last, low) = clear[0], clear[-1]
    return (low / high) ** (1 / (last - first))
