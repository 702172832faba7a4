"""The tied output head in training: losses and gradients of next tokens, without keeping logits.

loss = sum_i w_i * -ln softmax(u_i E^T + b)[y_i]. Its gradient at the logits is w_i * (softmax - onehot), so
both come from one pass: logits of a block of rows become their gradient and are used up at once (the idea of
Liger's fused linear cross-entropy, Hsu et al. 2024). `F.cross_entropy` is the definition in the tests.
"""

from __future__ import annotations

import functools
import math
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

ROW_ALIGNMENT = {"cuda": 64}
"""Rows of the table come in multiples of this: logits that start at odd addresses keep a GPU's matrix units
from the products with 50,257 rows."""
BLOCK_BYTES = {"cpu": 2 << 20, "mps": 64 << 20, "cuda": 1 << 30}
"""Logits that are held at once: on a CPU what its cache keeps until they are used up (measured: with a
vocabulary of 2,048 blocks of 8 MiB take 1.5 times as long)."""
MIN_ROWS = 256
"""Rows of a block at least: the gradient of the table is summed over blocks (measured: at 50,257 tokens
blocks of 64 rows take 1.7 times as long)."""


@dataclass(frozen=True)
class HeadGradients:
    """The loss of a batch and its gradients; those of what is not trained are None."""

    loss: Float[Tensor, ""]
    hidden: Sequence[Float[Tensor, "B d_e"]]
    """Of each reading."""
    table: Float[Tensor, "V d_e"] | None
    bias: Float[Tensor, " V"] | None


@dataclass(frozen=True)
class SoftTargets:
    """What a share of the loss has in place of the next token: the mean of several heads' probabilities."""

    heads: Sequence[Head]
    hidden: Sequence[Float[Tensor, "B _"]]
    """What each of the heads reads, row by row of the batch."""
    share: float

    def probabilities(self, rows: slice) -> Float[Tensor, "b V"]:
        parts = [
            head.probabilities(hidden[rows]) for head, hidden in zip(self.heads, self.hidden, strict=True)
        ]
        return torch.stack(parts).mean(dim=0) if len(parts) > 1 else parts[0]


class Head:
    """The head at the present values of its table and bias, in one type of operands.

    Args:
        table: (V, d_e) embedding.
        bias: (V,), added to the products in float32, or None.
        dtype: of the operands of matrix products.
    """

    def __init__(self, table: Float[Tensor, "V d_e"], bias: Float[Tensor, " V"] | None, dtype: torch.dtype):
        self.source, self.bias = table.detach(), None if bias is None else bias.detach()
        self.vocab_size, width = table.shape
        self.wide = torch.promote_types(table.dtype, torch.float32)
        missing = -self.vocab_size % ROW_ALIGNMENT.get(table.device.type, 1)
        self.table = self.source
        if dtype != table.dtype or missing:
            self.table = table.new_zeros(self.vocab_size + missing, width, dtype=dtype)
        if self.bias is not None and not missing:
            self.offsets = self.bias
        else:
            self.offsets = table.new_full((self.vocab_size + missing,), -math.inf, dtype=self.wide)
            self.offsets[: self.vocab_size] = 0.0
        self.load()

    def load(self, table: bool = True) -> None:
        """Take over what the bias, and if asked the table, have become."""
        if table and self.table is not self.source:
            self.table[: self.vocab_size] = self.source
        if self.bias is not None and self.offsets is not self.bias:
            self.offsets[: self.vocab_size] = self.bias

    def nll(self, hidden: Float[Tensor, "B d_e"], targets: Int[Tensor, " B"]) -> Float[Tensor, " B"]:
        """-ln p of the targets."""
        losses = _kernels(hidden.device.type).losses
        parts = [
            losses(self._products(hidden[rows]), self.offsets, targets[rows])
            for rows in self._blocks(len(hidden))
        ]
        return torch.cat(parts) if parts else hidden.new_zeros(0, dtype=self.wide)

    def probabilities(self, hidden: Float[Tensor, "B d_e"]) -> Float[Tensor, "B V"]:
        """Probabilities of all tokens, and 0 for the rows that fill the table up."""
        return torch.softmax(self._products(hidden) + self.offsets, dim=1)

    def gradients(
        self,
        readings: Sequence[Float[Tensor, "B d_e"]],
        targets: Int[Tensor, " B"],
        weights: Float[Tensor, " B"],
        train_table: bool,
        train_bias: bool,
        consistency: float = 0.0,
        soft: SoftTargets | None = None,
    ) -> HeadGradients:
        """The weighted sum of the losses, and its gradients, of one reading of a batch or of two.

        Of two it is that of their mean losses and of `consistency` times half the sum of the Kullback-Leibler
        divergences between their predictions. With `soft` the gradients are those of (1 - share) times the
        losses of the targets and share times the cross-entropy of the soft ones. The loss that is told
        remains that of the targets.
        """
        wide = self.wide
        inputs = [hidden.detach().to(self.table.dtype) for hidden in readings]
        loss, grad_hidden = inputs[0].new_zeros((), dtype=wide), [torch.empty_like(one) for one in inputs]
        grad_table = grad_bias = None
        kernels = _kernels(self.table.device.type)
        for rows in self._blocks(len(targets)):
            logits = [self._products(one[rows]) for one in inputs]
            if len(logits) == 1:
                part, grad = kernels.gradients(*logits, self.offsets, targets[rows], weights[rows])
                grads = [grad]
            else:
                part, grads = kernels.paired_gradients(
                    *logits, self.offsets, targets[rows], weights[rows], consistency
                )
            loss += part
            if soft is not None:
                probabilities, own = soft.probabilities(rows), soft.share * weights[rows] / len(grads)
                for grad in grads:
                    _soften(grad, targets[rows], own, probabilities)
            for grad, one, found in zip(grads, inputs, grad_hidden, strict=True):
                torch.mm(grad, self.table, out=found[rows])
                if train_table:
                    grad_table = _accumulate(grad_table, _wide_product(grad.T, one[rows], wide))
                if train_bias:
                    grad_bias = _accumulate(grad_bias, grad.sum(0, dtype=wide))
        return HeadGradients(
            loss,
            [found.to(hidden.dtype) for found, hidden in zip(grad_hidden, readings, strict=True)],
            None if grad_table is None else grad_table[: self.vocab_size],
            None if grad_bias is None else grad_bias[: self.vocab_size],
        )

    def _products(self, hidden: Tensor) -> Tensor:
        return hidden.to(self.table.dtype) @ self.table.T

    def _blocks(self, rows: int) -> Iterator[slice]:
        held = BLOCK_BYTES[self.table.device.type] // (len(self.table) * self.table.element_size())
        step = max(held // 64 * 64, MIN_ROWS)
        return (slice(first, min(first + step, rows)) for first in range(0, rows, step))


def _soften(grad: Tensor, targets: Tensor, weights: Tensor, probabilities: Tensor) -> None:
    """Turn the gradient at the logits, w * (softmax - onehot), towards `probabilities` by these weights."""
    grad -= weights[:, None] * probabilities
    grad.scatter_add_(1, targets[:, None], weights[:, None].to(grad.dtype))


def _accumulate(total: Tensor | None, part: Tensor) -> Tensor:
    return part if total is None else total.add_(part)


def _wide_product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """a @ b in `dtype`; on a CPU narrow operands have it rounded to their type on the way."""
    if a.is_cuda and a.dtype != dtype:
        return torch.mm(a, b, out_dtype=dtype)
    return torch.mm(a, b).to(dtype)


def eager_losses(logits: Tensor, offsets: Tensor, targets: Tensor) -> Tensor:
    """(B,): logsumexp(logits + offsets) - (logits + offsets)[target] of every row; the logits are used up."""
    full = logits.add_(offsets) if logits.dtype == offsets.dtype else logits + offsets
    return F.cross_entropy(full, targets, reduction="none")


def eager_gradients(
    logits: Tensor, offsets: Tensor, targets: Tensor, weights: Tensor
) -> tuple[Tensor, Tensor]:
    """(sum of weights * losses, its gradient at the logits in their type); the logits are used up."""
    full = logits.add_(offsets) if logits.dtype == offsets.dtype else logits + offsets
    full.sub_(full.amax(dim=1, keepdim=True))
    chosen = full.gather(1, targets[:, None])[:, 0]
    total = full.exp_().sum(dim=1)
    loss = torch.dot(total.log() - chosen, weights)
    full.mul_((weights / total)[:, None])
    full.scatter_add_(1, targets[:, None], -weights[:, None])
    return loss, full.to(logits.dtype)


def eager_paired_gradients(
    first: Tensor, second: Tensor, offsets: Tensor, targets: Tensor, weights: Tensor, consistency: float
) -> tuple[Tensor, list[Tensor]]:
    """(sum of weights * mean losses of two readings, gradients at both logits in their type).

    The gradients are those of that sum plus consistency * sum of weights * J, J half the sum of the
    Kullback-Leibler divergences between the readings' softmaxes p and q. With d the difference of their
    logits, J = sum_v (p_v - q_v) d_v / 2, and at p's logits dJ = (p - q + p * (d - sum_v p_v d_v)) / 2.
    """
    full = [logits + offsets for logits in (first, second)]
    losses = [torch.dot(F.cross_entropy(one, targets, reduction="none"), weights) for one in full]
    p, q = (one.softmax(dim=1) for one in full)
    apart = first.to(p.dtype) - second
    grads = []
    for own, other, difference in ((p, q, apart), (q, p, -apart)):
        grad = own - other + own * (difference - (own * difference).sum(dim=1, keepdim=True))
        grad = (consistency * grad + own) * (weights / 2)[:, None]
        grads.append(grad.scatter_add_(1, targets[:, None], -weights[:, None] / 2).to(first.dtype))
    return (losses[0] + losses[1]) / 2, grads


@dataclass(frozen=True)
class _Kernels:
    losses: Callable[..., Tensor]
    gradients: Callable[..., tuple[Tensor, Tensor]]
    paired_gradients: Callable[..., tuple[Tensor, list[Tensor]]]


@functools.cache
def _kernels(device_type: str) -> _Kernels:
    """On cuda one kernel over each row of logits, if there is a Triton for it; else torch's operations."""
    if device_type == "cuda":
        try:
            from cvfp.training import softmax_kernel
        except ImportError:
            warnings.warn("no triton: losses over the vocabulary take several passes, slower", stacklevel=2)
        else:
            return _Kernels(softmax_kernel.losses, softmax_kernel.gradients, softmax_kernel.paired_gradients)
    return _Kernels(eager_losses, eager_gradients, eager_paired_gradients)
