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


@triton.jit
def _paired(
    first,
    second,
    offsets,
    targets,
    weights,
    losses,
    consistency,
    width,
    stride,
    BLOCK: tl.constexpr,
):
    """Both readings of a row: normalisers and expected differences in one pass, gradients in another."""
    row = tl.program_id(0).to(tl.int64)
    first += row * stride
    second += row * stride
    lanes = tl.arange(0, BLOCK)
    top_p = tl.full((BLOCK,), -1e30, tl.float32)
    top_q = tl.full((BLOCK,), -1e30, tl.float32)
    total_p = tl.zeros((BLOCK,), tl.float32)
    total_q = tl.zeros((BLOCK,), tl.float32)
    apart_p = tl.zeros((BLOCK,), tl.float32)
    apart_q = tl.zeros((BLOCK,), tl.float32)
    for begin in range(0, width, BLOCK):
        p = _row(first, offsets, begin + lanes, width)
        q = _row(second, offsets, begin + lanes, width)
        apart = _apart(first, second, begin + lanes, width)
        higher = tl.maximum(top_p, p)
        kept, new = tl.exp2(top_p - higher), tl.exp2(p - higher)
        total_p = total_p * kept + new
        apart_p = apart_p * kept + new * apart
        top_p = higher
        higher = tl.maximum(top_q, q)
        kept, new = tl.exp2(top_q - higher), tl.exp2(q - higher)
        total_q = total_q * kept + new
        apart_q = apart_q * kept + new * apart
        top_q = higher
    highest = tl.max(top_p, axis=0)
    share = tl.exp2(top_p - highest)
    sum_p = tl.sum(total_p * share, axis=0)
    mean_p = tl.sum(apart_p * share, axis=0) / sum_p
    normaliser_p = highest + tl.log2(sum_p)
    highest = tl.max(top_q, axis=0)
    share = tl.exp2(top_q - highest)
    sum_q = tl.sum(total_q * share, axis=0)
    mean_q = tl.sum(apart_q * share, axis=0) / sum_q
    normaliser_q = highest + tl.log2(sum_q)
    target = tl.load(targets + row)
    offset = tl.load(offsets + target)
    chosen = (tl.load(first + target).to(tl.float32) + tl.load(second + target).to(tl.float32)) / 2 + offset
    tl.store(losses + row, (normaliser_p + normaliser_q) / (2 * LOG2_E) - chosen)
    tl.debug_barrier()
    weight = tl.load(weights + row) / 2
    for begin in range(0, width, BLOCK):
        columns = begin + lanes
        inside = columns < width
        p = tl.exp2(_row(first, offsets, columns, width) - normaliser_p)
        q = tl.exp2(_row(second, offsets, columns, width) - normaliser_q)
        apart = _apart(first, second, columns, width)
        hit = tl.where(columns == target, 1.0, 0.0)
        of_p = weight * (p - hit + consistency * (p - q + p * (apart - mean_p)))
        of_q = weight * (q - hit - consistency * (p - q + q * (apart - mean_q)))
        tl.store(first + columns, of_p.to(first.dtype.element_ty), mask=inside)
        tl.store(second + columns, of_q.to(second.dtype.element_ty), mask=inside)


@triton.jit
def _apart(first, second, columns, width):
    inside = columns < width
    p = tl.load(first + columns, mask=inside, other=0.0).to(tl.float32)
    return p - tl.load(second + columns, mask=inside, other=0.0).to(tl.float32)


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


def paired_gradients(
    first: Tensor, second: Tensor, offsets: Tensor, targets: Tensor, weights: Tensor, consistency: float
) -> tuple[Tensor, list[Tensor]]:
    """This is `cvfp.training.head.eager_paired_gradients`; the gradients replace the logits."""
    found = torch.empty(len(first), dtype=torch.float32, device=first.device)
    rows, width = first.shape
    with torch.cuda.device_of(first):
        _paired[(rows,)](
            first,
            second,
            offsets,
            targets,
            weights,
            found,
            consistency,
            width,
            first.stride(0),
            BLOCK,
            num_warps=WARPS,
        )
    return torch.dot(found, weights), [first, second]


def _launch(logits, offsets, targets, weights, found, with_gradient: bool) -> None:
    rows, width = logits.shape
    with torch.cuda.device_of(logits):  # kernels are launched on the current card
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
