"""What training tells the outside while it runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Event:
    """One report: `step` of at most `total` in a phase, with named numbers (nats, shares, PPL)."""

    phase: str
    step: int
    total: int
    values: dict[str, float]


Listener = Callable[[Event], None]


def silent(event: Event) -> None:
    """The listener of those who do not listen."""
