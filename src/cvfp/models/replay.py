"""Steps on a GPU without Python in between: recorded once as a CUDA graph, then replayed."""

from __future__ import annotations

import gc
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

EAGER_STEPS = 3
"""Steps that run as written before one is recorded: libraries set themselves up."""


class Replayed:
    """A step that is the same operations on the same tensors every time: what differs is in the tensors.

    The first calls run as written, on a stream of their own (as torch asks); later ones replay the record.

    Args:
        device: the card that the tensors are on, which need not be the process's current one.
    """

    def __init__(self, step: Callable[[], None], device: torch.device) -> None:
        self.step, self.device, self.calls = step, device, 0
        self.stream = torch.cuda.Stream(device)
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        with torch.cuda.device(self.device):
            self._call()

    def _call(self) -> None:
        self.calls += 1
        if self.calls <= EAGER_STEPS:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.step()
            torch.cuda.current_stream().wait_stream(self.stream)
            return
        if self.graph is None:
            self.graph = _recorded(self.step, self.device)
        self.graph.replay()


@cache
def _recording_stream(device: torch.device) -> torch.cuda.Stream:
    """The one that steps on a card are recorded on; torch has one for all cards."""
    return torch.cuda.Stream(device)


def _recorded(step: Callable[[], None], device: torch.device) -> torch.cuda.CUDAGraph:
    """The step as a graph.

    No garbage is collected meanwhile: a graph in it would be freed, which CUDA does not allow while it
    records.
    """
    graph, collecting = torch.cuda.CUDAGraph(), gc.isenabled()
    gc.disable()
    try:
        with torch.cuda.graph(graph, stream=_recording_stream(device)):
            step()
    finally:
        if collecting:
            gc.enable()
    return graph


class ReplayedFunction:
    """A function of tensors that have the same shapes and types in every call.

    What a call returns is overwritten by the next one.
    """

    def __init__(self, function: Callable[..., Tensor], *arguments: Tensor) -> None:
        self.arguments = held = [argument.clone() for argument in arguments]
        self.outputs: list[Tensor] = []

        def call(outputs: list[Tensor] = self.outputs) -> None:
            outputs[:] = [function(*held)]

        # It does not lead back here: freed with the last reference.
        self.replayed = Replayed(call, held[0].device)

    def __call__(self, *arguments: Tensor) -> Tensor:
        for held, argument in zip(self.arguments, arguments, strict=True):
            held.copy_(argument)
        self.replayed()
        return self.outputs[0]
