"""What the machine can do: matrix products and copies, measured where the rest is."""

from __future__ import annotations

import functools
import platform
from dataclasses import dataclass

import torch

from benchmarks.table import timings
from cvfp.records.schema import Precision
from cvfp.training.devices import BITS, computing_in, describe_device, usable

SIDE = {"cpu": 2048, "cuda": 8192}
"""Rows and columns of the matrices that are multiplied."""
COPIED_BYTES = {"cpu": 1 << 28, "cuda": 1 << 32}
REPEATS = 7


@dataclass(frozen=True)
class Limits:
    """The best of a few repeats each. `flops` per second by precision, those that are usable."""

    flops: dict[Precision, float]
    copy_bytes: float
    """Bytes read and written per second."""


def usable_precisions(device: torch.device) -> list[Precision]:
    """Those that the device takes as they are."""
    return [name for name in BITS if usable(name, device) == name]


def measure_limits(device: torch.device) -> Limits:
    side, size = SIDE[device.type], COPIED_BYTES[device.type]
    rates: dict[Precision, float] = {}
    for precision in usable_precisions(device):
        a, b = (torch.randn(side, side, device=device).to(BITS[precision]) for _ in range(2))
        out = torch.empty_like(a)
        with computing_in(precision, device):
            seconds = min(timings(functools.partial(torch.mm, a, b, out=out), device, REPEATS))
        rates[precision] = 2 * side**3 / seconds
    source = torch.zeros(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    seconds = min(timings(lambda: target.copy_(source), device, REPEATS))
    return Limits(rates, 2 * size / seconds)


def describe(device: torch.device, limits: Limits) -> str:
    """The lines that stand before the table."""
    rates = ", ".join(f"{name} {rate / 1e12:,.3g} TFLOP/s" for name, rate in limits.flops.items())
    versions = f"torch {torch.__version__}, Python {platform.python_version()}"
    return (
        f"{describe_device(device)}; {torch.get_num_threads()} CPU threads; {versions}\n\n"
        f"Measured limits: matrix products {rates}; copies {limits.copy_bytes / 1e9:,.0f} GB/s "
        f"(read and written)."
    )
