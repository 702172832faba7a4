"""Starts the kernels of the mogrified LSTM's roll-out, position by position: a backend of `lstm_rollout`.

Nothing waits for the device and no shape depends on data, so that a CUDA graph can take a whole window.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import triton
from torch import Tensor

from cvfp.models import lstm_kernel
from cvfp.models.lstm_rollout import Backward, Trace

MOGRIFY = {"TILE": 8192, "num_warps": 8, "num_stages": 3}
"""TILE is rank * features of a block, in operands of 2 bytes."""
MOGRIFY_BACK = {"TILE": 8192, "num_warps": 8, "num_stages": 3}
GATES = {"ROWS": 64, "UNITS": 16, "BLOCK": 128, "num_warps": 4, "num_stages": 4}
"""BLOCK is of operands of 2 bytes, wider ones have half of it."""
POINTWISE = {"BLOCK": 512, "num_warps": 4}


def padded_rank(rank: int) -> int:
    """The rank that the kernels compute with: a power of two that a matrix unit takes."""
    return max(16, triton.next_power_of_2(rank))


def pack(matrices: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """All rounds' (A, B) in one vector; every round takes padded rank * (d_x + d_h) of it."""
    if not matrices:
        return ()
    missing = padded_rank(len(matrices[0])) - len(matrices[0])
    flat = []
    for i, matrix in enumerate(matrices):
        padding = (0, missing) if i % 2 else (0, 0, 0, missing)
        flat.append((F.pad(matrix, padding) if missing else matrix).reshape(-1))
    return (torch.cat(flat).to(dtype),)


def _precision(dtype: torch.dtype) -> str:
    exact = dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    return "ieee" if exact else "tf32"


def _rounds(trace: Trace, chosen: dict[str, int]) -> dict[str, int | str]:
    """Settings of the kernels that go through the rounds, for operands and a rank of this size."""
    rank, dtype = trace.narrow.shape[3], trace.operands.dtype
    block = triton.next_power_of_2(max(16, chosen["TILE"] * 2 // (dtype.itemsize * rank)))
    rest = {key: value for key, value in chosen.items() if key != "TILE"}
    return {"ROUNDS": len(trace.narrow), "RANK": rank, "BLOCK": block, "PRECISION": _precision(dtype), **rest}


def mogrify(packed: Sequence[Tensor], trace: Trace, t: int) -> None:
    """The rounds of position t."""
    (positions, rows, x_width), h_width = trace.x.shape, trace.memory.shape[2]
    lstm_kernel.mogrify[(triton.cdiv(rows, lstm_kernel.ROWS.value),)](
        trace.x[t], trace.hidden[t], packed[0], trace.operands[t], trace.narrow[:, t], trace.x_open[:, t],
        trace.h_open[:, t], trace.x_rounds[:, t], trace.h_rounds[:, t],
        rows, x_width, h_width, trace.hidden.stride(1), positions * rows, **_rounds(trace, MOGRIFY),
    )  # fmt: skip


def gates(weight: Tensor, bias: Tensor, trace: Trace, hs: Tensor, t: int) -> None:
    """h' and m' of position t from its operands."""
    rows, units, dtype = trace.x.shape[1], trace.memory.shape[2], weight.dtype
    lstm_kernel.gates[(triton.cdiv(rows, GATES["ROWS"]), triton.cdiv(units, GATES["UNITS"]))](
        trace.operands[t], weight, bias, trace.memory[t], trace.memory[t + 1], hs[t],
        trace.hidden[t + 1], trace.activations[t], rows, weight.shape[1], units, trace.hidden.stride(1),
        PRECISION=_precision(dtype), **{**GATES, "BLOCK": GATES["BLOCK"] * 2 // dtype.itemsize},
    )  # fmt: skip


def forward(weight: Tensor, bias: Tensor, packed: Sequence[Tensor], trace: Trace) -> Tensor:
    """(T, S, d_h): h' of every position."""
    hs = torch.empty_like(trace.memory[1:])
    for t in range(len(hs)):
        if packed:
            mogrify(packed, trace, t)
        gates(weight, bias, trace, hs, t)
    return hs


def gates_back(
    trace: Trace, grad: Tensor, carried: Tensor | None, grad_memory: Tensor, before: Tensor, t: int
):
    """From the gradient of h' of position t, and what later ones add to it, to that at f, i, g and o."""
    rows, units = grad.shape[1:]
    lstm_kernel.gates_back[(rows, triton.cdiv(units, POINTWISE["BLOCK"]))](
        grad[t], grad_memory if carried is None else carried, grad_memory, trace.activations[t],
        trace.memory[t], trace.memory[t + 1], before[t],
        units, units if carried is None else carried.stride(0), CARRIED=carried is not None, **POINTWISE,
    )  # fmt: skip


def mogrify_back(
    packed: Sequence[Tensor], trace: Trace, grad: Tensor, found: Backward, of_h: Tensor, carried: Tensor,
    of_x: Tensor, t: int,
) -> None:  # fmt: skip
    """From the gradient of position t's operands, which is used up, to those of its x and h."""
    (positions, rows, x_width), h_width = trace.x.shape, trace.memory.shape[2]
    lstm_kernel.mogrify_back[(triton.cdiv(rows, lstm_kernel.ROWS.value),)](
        grad, found.x[t], carried, packed[0], trace.operands[t], found.narrow[:, t], trace.x_open[:, t],
        trace.h_open[:, t], trace.x_rounds[:, t], trace.h_rounds[:, t], of_x[:, t], of_h[:, t],
        rows, x_width, h_width, positions * rows, **_rounds(trace, MOGRIFY_BACK),
    )  # fmt: skip


def backward(weight: Tensor, packed: Sequence[Tensor], trace: Trace, grad: Tensor) -> Backward:
    """The gradients, from the last position to the first."""
    x_width, rounds = trace.x.shape[2], len(trace.narrow)
    before, grad_memory = torch.empty_like(trace.activations), torch.empty_like(grad[0])
    of_x, of_h = torch.empty_like(trace.x_open), torch.empty_like(trace.h_open)
    wide = [(of_h if i % 2 else of_x)[i // 2] for i in range(rounds)]
    grad_x = torch.empty_like(trace.x, dtype=grad.dtype) if rounds else None
    found = Backward(before, wide, torch.empty_like(trace.narrow), grad_x)
    carried = None
    buffer = torch.empty_like(grad[0])
    for t in reversed(range(len(grad))):
        gates_back(trace, grad, carried, grad_memory, before, t)
        if rounds:
            work = _wide(before[t], weight)
            mogrify_back(packed, trace, work, found, of_h, buffer, of_x, t)
            carried = buffer
        elif t:
            carried = _wide(before[t], weight[:, x_width:])
    return found


def _wide(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in float32."""
    return torch.mm(a, b) if a.dtype == torch.float32 else torch.mm(a, b, out_dtype=torch.float32)
