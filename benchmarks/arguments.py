"""Values of options that the benchmarks share."""

from __future__ import annotations

from argparse import ArgumentTypeError


def positive(text: str) -> int:
    """A whole number of at least 1. Raises `ArgumentTypeError`, which argparse turns into a message."""
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentTypeError(f"{text}: it must be a whole number of at least 1")
    return int(text)
