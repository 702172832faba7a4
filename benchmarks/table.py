"""Timing, checks against definitions, and the table of ratios."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor

Result = TypeVar("Result")
HEADER = ("what", "naive definition", "ours", "ratio", "share of the machine's limit", "check")


@dataclass(frozen=True)
class Check:
    """Ours equals the definition when `error` is at most `bound`; a NaN is not."""

    error: float
    bound: float

    @property
    def passed(self) -> bool:
        return self.error <= self.bound

    def __str__(self) -> str:
        relation = "≤" if self.passed else "FAILED: not ≤"
        return f"{self.error:.1e} {relation} {self.bound:.0e}"


@dataclass(frozen=True)
class Row:
    """One line of the table. `share` is of 1; None where no limit is meant."""

    what: str
    naive: str
    ours: str
    ratio: float
    share: float | None
    check: Check

    def cells(self) -> tuple[str, ...]:
        share = "–" if self.share is None else f"{100 * self.share:.1f}%"
        return (self.what, self.naive, self.ours, f"{self.ratio:.1f}", share, str(self.check))


def row_per_token(
    what: str, tokens: int, naive: float, ours: float, share: float | None, check: Check
) -> Row:
    """A row from the seconds that the definition and ours take for so many tokens."""
    rates = (f"{tokens / seconds:,.0f} tokens/s" for seconds in (naive, ours))
    return Row(what, *rates, naive / ours, share, check)


def checked(what: str, error: float, bound: float) -> Check:
    """The check, told on stderr as soon as it is known."""
    check = Check(error, bound)
    print(f"{what}: {check}", file=sys.stderr, flush=True)
    return check


def relative_error(found: Tensor, expected: Tensor) -> float:
    """||found - expected|| / ||expected|| in float64."""
    expected = expected.double()
    return float((found.double() - expected).norm() / expected.norm())


def synchronise(device: torch.device) -> None:
    """Wait until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def timed(call: Callable[[], Result], device: torch.device) -> tuple[Result, float]:
    """What the call returns, and its wall seconds."""
    synchronise(device)
    started = time.perf_counter()
    result = call()
    synchronise(device)
    return result, time.perf_counter() - started


def timings(call: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Wall seconds of each call, after one that warms up."""
    call()
    return [timed(call, device)[1] for _ in range(repeats)]


def median_seconds(call: Callable[[], object], device: torch.device, repeats: int = 3) -> float:
    return statistics.median(timings(call, device, repeats))


def markdown(header: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """A Markdown table."""
    header = list(header)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
