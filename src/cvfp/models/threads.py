"""How many threads of a CPU its work is worth: of a model that is there, and of one that is elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

SHARED = 1 << 15
"""Numbers up to which torch gives an element-wise operation to one thread (its own bound)."""
BESIDE = 2
"""Threads for what is left to the CPU where the model is on another device: eigenvalues, counts."""


@contextmanager
def threads_for(state: Tensor) -> Iterator[None]:
    """Inside the block a CPU takes one thread where `state`, which every step makes anew, is small.

    Matrix products are shared out however few numbers there are: then waking a thread for each of them takes
    longer than the product. Memory cells have the same bits with any number of threads (tested); the residual
    cell has not, and is left alone.
    """
    threads = torch.get_num_threads()
    alone = state.device.type == "cpu" and state.numel() <= SHARED
    try:
        if alone:
            torch.set_num_threads(1)
        yield
    finally:
        if alone:
            torch.set_num_threads(threads)


@contextmanager
def threads_beside(device: torch.device) -> Iterator[None]:
    """Inside the block the CPU takes few threads, unless the model is on it.

    More would spin while they wait, beside a device and other processes that could use the cores.
    """
    threads = torch.get_num_threads()
    bounded = device.type != "cpu" and threads > BESIDE
    try:
        if bounded:
            torch.set_num_threads(BESIDE)
        yield
    finally:
        if bounded:
            torch.set_num_threads(threads)
