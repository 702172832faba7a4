"""Choosing where to compute and in which precision, and seeding what is drawn there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cvfp.records.errors import InputError, near
from cvfp.records.schema import Precision

DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` takes cuda, else mps, else cpu.

    Raises:
        InputError: an unknown name, or a device that this machine does not have.
    """
    kind, colon, number = name.partition(":")
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if kind not in available or (colon and not (kind == "cuda" and number.isdecimal())):
        meant = " (a GPU is 'cuda')" if kind.lower() == "gpu" else near(name, DEVICES)
        raise InputError(f"--device {name!r}: unknown{meant}; there are {', '.join(DEVICES)}")
    if not available[kind] or (colon and int(number) >= torch.cuda.device_count()):
        raise InputError(f"--device {name}: not available on this machine; use auto or cpu")
    return torch.device(name)


def pick_devices(names: str = "auto") -> tuple[torch.device, ...]:
    """The devices of a list such as `cuda:0,cuda:1`; `auto` and `cuda` take every card that is there.

    A device may be listed several times: that many processes share it.

    Raises:
        InputError: as `pick_device`.
    """
    devices: list[torch.device] = []
    for name in names.split(","):
        device = pick_device(name)
        every = device.type == "cuda" and device.index is None
        cards = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
        devices += cards if every else [device]
    return tuple(devices)


def describe_device(device: torch.device) -> str:
    """The name a record keeps: the card's, or the processor with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from generators seeded with `seed` inside the block; leave the global ones as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield


# --- In which precision matrix products are computed, and what that changes.
#
# Optimiser steps, and the dev losses that decide when to stop, may use fewer bits; weights, their updates and
# sums over the vocabulary are always float32, and so is every reported score.


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
