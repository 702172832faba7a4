"""Where a store's rows lie in a test: the CPU stands in for a card, with a host of its own beside it."""

from __future__ import annotations

import pytest

from cvfp.training import context_store

ALL_NEAR = (1 << 30, 0)
LAYOUTS = [(0, 0), (0, 1 << 30), (300, 0), (300, 1 << 30), (300, 700)]
"""Bytes of the device and of its host: all rows in a file, all in the host, some in each."""


def lay_out(monkeypatch: pytest.MonkeyPatch, near: int, far: int) -> None:
    """Give the device room for so many bytes of contexts, and its host for so many more."""
    monkeypatch.setattr(context_store, "CPU_BYTES", near)
    monkeypatch.setattr(context_store, "HOST_SHARE", {"cpu": 1.0})
    monkeypatch.setattr(context_store, "available_memory", lambda: far)
