"""Steps on a GPU without Python in between: recorded once as a CUDA graph, then replayed."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch import Tensor

EAGER_STEPS = 3
"""Steps that run as written before one is recorded: libraries set themselves up, the optimiser its state."""


class Replayed:
    """A step that is the same operations on the same tensors every time: what differs is in the tensors.

    The first calls run as written, on the stream that records (as torch asks); later ones replay the record.
    """

    def __init__(self, step: Callable[[], None]) -> None:
        self.step, self.calls = step, 0
        self.stream = torch.cuda.Stream()
        self.graph: torch.cuda.CUDAGraph | None = None

    def __call__(self) -> None:
        self.calls += 1
        if self.calls <= EAGER_STEPS:
            self.stream.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(self.stream):
                self.step()
            torch.cuda.current_stream().wait_stream(self.stream)
            return
        if self.graph is None:
            self.graph = _recorded(self.step)
        self.graph.replay()


def _recorded(step: Callable[[], None]) -> torch.cuda.CUDAGraph:
    """The step as a graph.

    No garbage is collected meanwhile: a graph in it would be freed, which CUDA does not allow while it
    records.
    """
    graph, collecting = torch.cuda.CUDAGraph(), gc.isenabled()
    gc.disable()
    try:
        with torch.cuda.graph(graph):
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

        self.replayed = Replayed(call)  # which does not lead back here: freed with the last reference

    def __call__(self, *arguments: Tensor) -> Tensor:
        for held, argument in zip(self.arguments, arguments, strict=True):
            held.copy_(argument)
        self.replayed()
        return self.outputs[0]
