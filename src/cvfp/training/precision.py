"""In which precision matrix products are computed, and what that changes.

Optimiser steps, and the dev losses that decide when to stop, may use fewer bits; weights, their updates and
sums over the vocabulary are always float32, and so is every reported score.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cvfp.records.values import Precision

BITS = {"float32": torch.float32, "tf32": torch.float32, "bf16": torch.bfloat16}
"""What the operands of matrix products are stored in."""


def usable(precision: Precision, device: torch.device) -> Precision:
    """The precision asked for, or the next higher one that the device computes fast.

    tf32 exists on cuda only; bf16 is taken on cuda and on processors with AVX512-BF16 or AMX.
    """
    if device.type == "cuda":
        return precision
    return "bf16" if precision == "bf16" and device.type == "cpu" and _cpu_has_bf16() else "float32"


def _cpu_has_bf16() -> bool:
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def operand_dtype(precision: Precision, table: torch.Tensor) -> torch.dtype:
    """The type of the operands; that of `table` where it is not float32 (tests compute in float64)."""
    return BITS[precision] if table.dtype == torch.float32 else table.dtype


@contextmanager
def computing_in(precision: Precision, device: torch.device) -> Iterator[None]:
    """Inside the block matrix products take operands of this precision (one that is `usable`).

    float32: 24 bits; tf32: products of float32 tensors on cuda take 11 bits of them; bf16: autocast to 8
    bits, tf32 for what autocast leaves in float32.
    """
    before = torch.get_float32_matmul_precision()
    exact = precision == "float32" or device.type != "cuda"
    torch.set_float32_matmul_precision("highest" if exact else "high")
    try:
        with torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16"):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
