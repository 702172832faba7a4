"""Work on many rows in parts whose size decides memory and nothing else."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch

T = TypeVar("T")

LEAST = 64
"""Parts are not made smaller than this: then memory has really run out."""
OUT_OF_MEMORY = (
    "DefaultCPUAllocator",
    "CUDA error: out of memory",
    "CUBLAS_STATUS_ALLOC_FAILED",
    "[CUDA]: out of memory",
)
"""In the messages of RuntimeErrors: torch has no memory left on the CPU; CUDA has none for a graph or a
library, cuBLAS none for itself, Triton none for a kernel."""


def widest(device: torch.device) -> torch.dtype:
    """What long sums are kept in: float64, or float32 on mps, which has no more."""
    return torch.float32 if device.type == "mps" else torch.float64


def ran_out_of_memory(error: BaseException) -> bool:
    """Whether that is what an error says."""
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or (
        isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY)
    )


class Parts:
    """Parts of `size` rows each; where memory runs out the size is halved for good, with a warning."""

    def __init__(self, size: int) -> None:
        self.size = size

    def over(self, first: int, last: int, compute: Callable[[int, int], T]) -> Iterator[T]:
        """compute(begin, end) for consecutive parts of [first, last); what failed is computed again."""
        begin = first
        while begin < last:
            end = min(begin + self.size, last)
            try:
                found = compute(begin, end)
            except (MemoryError, RuntimeError) as error:
                if not ran_out_of_memory(error) or end - begin <= LEAST:
                    raise
                self.size = max((end - begin) // 2, LEAST)
            else:
                yield found
                begin = end
                continue
            # Out of the handler: its traceback holds the tensors that were in the way.
            warnings.warn(f"memory ran out: going on in parts of {self.size:,} positions", stacklevel=2)
            if torch.cuda.is_available():
                torch.cuda.empty_cache()
