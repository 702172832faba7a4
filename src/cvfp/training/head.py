"""The tied output head in training: losses and gradients of next tokens, without keeping logits.

loss = sum_i w_i * -ln softmax(u_i E^T + b)[y_i]. Its gradient at the logits is w_i * (softmax - onehot), so
both come from one pass: logits of a block of rows become their gradient and are used up at once (the idea of
Liger's fused linear cross-entropy, Hsu et al. 2024). `F.cross_entropy` is the definition in the tests.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

ROW_ALIGNMENT = {"cuda": 64}
"""Rows of the table come in multiples of this: logits that start at odd addresses keep a GPU's matrix units
from the products with 50,257 rows."""
BLOCK_BYTES = {"cpu": 8 << 20, "mps": 64 << 20, "cuda": 1 << 30}
"""Logits that are held at once: on a CPU what its cache keeps until they are used up."""


@dataclass(frozen=True)
class HeadGradients:
    """The loss of a batch and its gradients; those of what is not trained are None."""

    loss: Float[Tensor, ""]
    hidden: Float[Tensor, "B d_e"]
    table: Float[Tensor, "V d_e"] | None
    bias: Float[Tensor, " V"] | None


class Head:
    """The head at the present values of its table and bias, in one type of operands.

    Args:
        table: (V, d_e) embedding.
        bias: (V,), added to the products in float32, or None.
        dtype: of the operands of matrix products.
    """

    def __init__(self, table: Float[Tensor, "V d_e"], bias: Float[Tensor, " V"] | None, dtype: torch.dtype):
        self.vocab_size, width = table.shape
        self.wide = torch.promote_types(table.dtype, torch.float32)
        missing = -self.vocab_size % ROW_ALIGNMENT.get(table.device.type, 1)
        self.table, self.offsets = table.detach(), None if bias is None else bias.detach()
        if dtype != table.dtype or missing:
            self.table = table.new_zeros(self.vocab_size + missing, width, dtype=dtype)
            self.table[: self.vocab_size] = table.detach()
        if missing:
            self.offsets = table.new_full((self.vocab_size + missing,), -math.inf, dtype=self.wide)
            self.offsets[: self.vocab_size] = 0.0 if bias is None else bias.detach()

    def nll(self, hidden: Float[Tensor, "B d_e"], targets: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """-ln p of the targets."""
        losses = _kernels(hidden.device.type).losses
        parts = [
            losses(self._products(hidden[rows]), self.offsets, targets[rows])
            for rows in self._blocks(len(hidden))
        ]
        return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=self.wide)

    def gradients(
        self,
        hidden: Float[Tensor, "B d_e"],
        targets: Int[Tensor, " B"],
        weights: Float[Tensor, " B"],
        train_table: bool,
        train_bias: bool,
    ) -> HeadGradients:
        """The weighted sum of the losses, and its gradients."""
        wide, inputs = self.wide, hidden.detach().to(self.table.dtype)
        loss, grad_hidden = hidden.new_zeros((), dtype=wide), torch.empty_like(inputs)
        grad_table = grad_bias = None
        for rows in self._blocks(len(hidden)):
            kernel = _kernels(hidden.device.type).gradients
            part, grad = kernel(self._products(inputs[rows]), self.offsets, targets[rows], weights[rows])
            loss += part
            torch.mm(grad, self.table, out=grad_hidden[rows])
            if train_table:
                grad_table = _accumulate(grad_table, _wide_product(grad.T, inputs[rows], wide))
            if train_bias:
                grad_bias = _accumulate(grad_bias, grad.sum(0, dtype=wide))
        return HeadGradients(
            loss,
            grad_hidden.to(hidden.dtype),
            None if grad_table is None else grad_table[: self.vocab_size],
            None if grad_bias is None else grad_bias[: self.vocab_size],
        )

    def _products(self, hidden: Tensor) -> Tensor:
        return hidden.to(self.table.dtype) @ self.table.T

    def _blocks(self, rows: int) -> Iterator[slice]:
        held = BLOCK_BYTES[self.table.device.type] // (len(self.table) * self.table.element_size())
        step = max(held // 64 * 64, 64)
        return (slice(first, min(first + step, rows)) for first in range(0, rows, step))


def _accumulate(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total.add_(part)


def _wide_product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """a @ b summed and returned in `dtype`."""
    if a.is_cuda and a.dtype != dtype:
        return torch.mm(a, b, out_dtype=dtype)
    return torch.mm(a, b).to(dtype)


def _log_normalisers(logits: Tensor, offsets: Tensor | None) -> tuple[Tensor, Tensor]:
    wide = torch.promote_types(logits.dtype, torch.float32)
    full = logits.to(wide) if offsets is None else logits + offsets
    return full, torch.logsumexp(full, dim=1)


def _losses(logits: Tensor, offsets: Tensor | None, targets: Tensor) -> Tensor:
    full, normaliser = _log_normalisers(logits, offsets)
    return normaliser - full.gather(1, targets[:, None])[:, 0]


def _gradients(
    logits: Tensor, offsets: Tensor | None, targets: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """(weighted sum of the losses, its gradient at the logits in their type)."""
    full, normaliser = _log_normalisers(logits, offsets)
    loss = ((normaliser - full.gather(1, targets[:, None])[:, 0]) * weights).sum()
    chosen = torch.arange(full.shape[1], device=full.device) == targets[:, None]
    share = torch.exp(full - normaliser[:, None])
    return loss, ((share - chosen.to(full.dtype)) * weights[:, None]).to(logits.dtype)


def _gradients_in_place(
    logits: Tensor, offsets: Tensor | None, targets: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """As `_gradients`, with as few passes over memory as single operations allow."""
    full, normaliser = _log_normalisers(logits, offsets)
    loss = ((normaliser - full.gather(1, targets[:, None])[:, 0]) * weights).sum()
    full.sub_(normaliser[:, None]).exp_().mul_(weights[:, None])
    full.scatter_add_(1, targets[:, None], -weights[:, None])
    return loss, full.to(logits.dtype)


@dataclass(frozen=True)
class _Kernels:
    losses: Callable[..., Tensor]
    gradients: Callable[..., tuple[Tensor, Tensor]]


@functools.cache
def _kernels(device_type: str) -> _Kernels:
    """On cuda what torch.compile makes of the definitions, in few passes; elsewhere as they stand."""
    if device_type == "cuda":
        from torch.utils._triton import has_triton

        if has_triton():
            return _Kernels(torch.compile(_losses), torch.compile(_gradients))
        warnings.warn("triton is missing: the loss over the vocabulary runs uncompiled, slower", stacklevel=2)
    return _Kernels(_losses, _gradients_in_place)
