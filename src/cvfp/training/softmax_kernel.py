"""Losses over a vocabulary, and their gradient at the logits, in one kernel for GPUs (Triton).

Written here because neither torch.compile nor Liger's kernel does it in as few passes: the bias stays float32
beside bf16 logits, the gradient replaces the logits, nothing else of that size is written. The definition,
`cvfp.training.head.eager_gradients`, is what `python -m benchmarks` holds it to.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

BLOCK = 4096
WARPS = 32
LOG2_E = tl.constexpr(1.4426950408889634)
"""Powers are of 2, the one that the hardware takes (measured: 10% faster)."""


@triton.jit
def _row(logits, offsets, columns, width):
    inside = columns < width
    value = tl.load(logits + columns, mask=inside, other=-float("inf")).to(tl.float32)
    return (value + tl.load(offsets + columns, mask=inside, other=0.0)) * LOG2_E


@triton.jit
def _softmax(
    logits, offsets, targets, weights, losses, width, stride, WITH_GRADIENT: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.program_id(0).to(tl.int64)
    logits += row * stride
    lanes = tl.arange(0, BLOCK)
    # Every lane keeps its own running maximum and sum (Milakov & Gimelshein 2018): one pass over the row.
    top = tl.full((BLOCK,), -1e30, tl.float32)
    total = tl.zeros((BLOCK,), tl.float32)
    for first in range(0, width, BLOCK):
        value = _row(logits, offsets, first + lanes, width)
        higher = tl.maximum(top, value)
        total = total * tl.exp2(top - higher) + tl.exp2(value - higher)
        top = higher
    highest = tl.max(top, axis=0)
    normaliser = highest + tl.log2(tl.sum(total * tl.exp2(top - highest), axis=0))
    target = tl.load(targets + row)
    chosen = tl.load(logits + target).to(tl.float32) + tl.load(offsets + target)
    tl.store(losses + row, normaliser / LOG2_E - chosen)
    if WITH_GRADIENT:
        tl.debug_barrier()
        weight = tl.load(weights + row)
        for first in range(0, width, BLOCK):
            columns = first + lanes
            share = tl.exp2(_row(logits, offsets, columns, width) - normaliser)
            gradient = tl.where(columns == target, share - 1.0, share) * weight
            tl.store(logits + columns, gradient.to(logits.dtype.element_ty), mask=columns < width)


def losses(logits: Tensor, offsets: Tensor, targets: Tensor) -> Tensor:
    """(B,) float32: logsumexp(logits + offsets) - (logits + offsets)[target] of every row."""
    found = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    _launch(logits, offsets, targets, found, found, with_gradient=False)
    return found


def gradients(logits: Tensor, offsets: Tensor, targets: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """(sum of weights * losses, its gradient at the logits, which it replaces)."""
    found = torch.empty(len(logits), dtype=torch.float32, device=logits.device)
    _launch(logits, offsets, targets, weights, found, with_gradient=True)
    return torch.dot(found, weights), logits


def _launch(logits, offsets, targets, weights, found, with_gradient: bool) -> None:
    rows, width = logits.shape
    _softmax[(rows,)](
        logits,
        offsets,
        targets,
        weights,
        found,
        width,
        logits.stride(0),
        with_gradient,
        BLOCK,
        num_warps=WARPS,
    )
