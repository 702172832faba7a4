"""Positions of a mogrified LSTM's roll-out on GPUs (Triton): a backend of `cvfp.models.lstm_rollout`.

That module says what is computed and has it in torch's operations, to which the tests hold the kernels. Names
are those of `lstm_rollout.Trace`, pointers those of one position, of which there are `count` = S rows.

A round is a launch, whose programs each have some features of some rows. A product over all features (with A
forward, with B backward) is one that they have in common: every program writes the part of its own features,
and every one of the next launch adds up the parts of its rows, always in the same order. Nothing waits for
the device and no shape depends on data, so that a CUDA graph can take a whole window.
"""

# Which branches of a kernel there are is decided when it is compiled: what one needs, another one has set.
# pyright: reportPossiblyUnboundVariable=false

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import triton
import triton.language as tl
from torch import Tensor

from cvfp.models.lstm_rollout import Backward, Trace

MOGRIFY = {"ROWS": 16, "BLOCK": 128, "AT_ONCE": 1 << 13, "num_warps": 8}
"""Rows and features of a program, fewer features at a high rank (`TILE`); AT_ONCE elements of parts are read
before they are added up."""
MOGRIFY_BACK = {"ROWS": 16, "BLOCK": 128, "AT_ONCE": 1 << 13, "num_warps": 8}
GATES_BACK = {"ROWS": 16, "BLOCK": 64, "AT_ONCE": 1 << 13, "num_warps": 8}
GATES = {"ROWS": 64, "UNITS": 16, "BLOCK": 128, "num_warps": 4, "num_stages": 4}
"""BLOCK is of operands of 2 bytes, wider ones have half of it."""
TILE = 1 << 14
"""Bytes of a block of A or B at most."""
AHEAD = True
"""Whether a launch begins while the one before it ends (programmatic dependent launch, from Hopper on)."""


@triton.jit
def _tanh(value):
    return 2.0 * tl.sigmoid(2.0 * value) - 1.0


@triton.jit
def _tile(pointers, columns, width, inside):
    """A block of rows, float32; zeros where there is nothing."""
    mask = inside[:, None] & (columns < width)[None, :]
    return tl.load(pointers[:, None] + columns[None, :], mask=mask, other=0.0).to(tl.float32)


@triton.jit
def _put(pointers, columns, width, inside, value):
    mask = inside[:, None] & (columns < width)[None, :]
    tl.store(pointers[:, None] + columns[None, :], value.to(pointers.dtype.element_ty), mask=mask)


@triton.jit
def _reader(matrix, columns, width, RANK: tl.constexpr):
    """(features of a block, rank) of A^T."""
    base = matrix + tl.arange(0, RANK) * width
    return tl.load(base[None, :] + columns[:, None], mask=(columns < width)[:, None], other=0.0)


@triton.jit
def _writer(matrix, columns, width, RANK: tl.constexpr):
    """(features of a block, rank) of B."""
    base = matrix + tl.arange(0, RANK)
    return tl.load(base[None, :] + columns[:, None] * RANK, mask=(columns < width)[:, None], other=0.0)


@triton.jit
def _begin(AHEAD: tl.constexpr):
    """What is read before this call no launch writes; what is after it waits for the launch before."""
    if AHEAD:
        tl.extra.cuda.gdc_launch_dependents()
        tl.extra.cuda.gdc_wait()


@triton.jit
def _summed(
    parts, blocks, rows, inside, count, ROWS: tl.constexpr, RANK: tl.constexpr, AT_ONCE: tl.constexpr
):
    """(ROWS, RANK): a product over all features, from the parts of the blocks."""
    ranks = tl.arange(0, RANK)
    total = tl.zeros((ROWS, RANK), tl.float32)
    for first in range(0, blocks, AT_ONCE):
        some = first + tl.arange(0, AT_ONCE)
        at = parts + (rows[None, :] + some[:, None] * count) * RANK
        there = inside[None, :] & (some < blocks)[:, None]
        total += tl.sum(tl.load(at[:, :, None] + ranks, mask=there[:, :, None], other=0.0), axis=0)
    return total


@triton.jit
def _mogrify(
    parts, parts_after, reader, writer, target, narrow, opened, found,
    blocks, count, width, target_stride, found_stride,
    FIRST: tl.constexpr, LAST: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    AT_ONCE: tl.constexpr, AHEAD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """A round, and the parts of the product that the next one begins with, whose A is `reader`.

    The first launch puts out its target, h, as it is.
    """
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < count
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    kind: tl.constexpr = reader.dtype.element_ty
    if not LAST:
        across = _reader(reader, columns, width, RANK)
    if not FIRST:
        back = _writer(writer, columns, width, RANK)
    _begin(AHEAD)
    value = _tile(target + rows * target_stride, columns, width, inside)
    if not FIRST:
        product = _summed(parts, blocks, rows, inside, count, ROWS, RANK, AT_ONCE).to(kind)
        kept = inside & (tl.program_id(1) == 0)
        _put(narrow + rows * RANK, tl.arange(0, RANK), RANK, kept, product)
        share = tl.sigmoid(tl.dot(product, tl.trans(back), input_precision=PRECISION))
        value = 2.0 * share * value
        _put(opened + rows * width, columns, width, inside, share)
        _put(found + rows * found_stride, columns, width, inside, value)
    if not LAST:
        part = tl.dot(value.to(kind), across, input_precision=PRECISION)
        part_at = parts_after + (rows + tl.program_id(1) * count) * RANK
        _put(part_at, tl.arange(0, RANK), RANK, inside, part)


@triton.jit
def _through_reader(
    parts, across, narrow, blocks, rows, inside, count,
    RANK: tl.constexpr, ROWS: tl.constexpr, AT_ONCE: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """What a round adds to the gradient at what it reads: parts of the product with B, times A (`across`)."""
    product = _summed(parts, blocks, rows, inside, count, ROWS, RANK, AT_ONCE).to(across.dtype)
    kept = inside & (tl.program_id(1) == 0)
    _put(narrow + rows * RANK, tl.arange(0, RANK), RANK, kept, product)
    return tl.dot(product, tl.trans(across), input_precision=PRECISION)


@triton.jit
def _mogrify_back(
    parts, parts_before, reader, writer, grad, grad_before, opened, output, wide, narrow,
    blocks, count, width, stride, stride_before, output_stride,
    LAST: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    AT_ONCE: tl.constexpr, AHEAD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Back through a round; the one after it, whose A is `reader`, has first to add to the gradient."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < count
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    back = _writer(writer, columns, width, RANK)
    if not LAST:
        across = _reader(reader, columns, width, RANK)
    _begin(AHEAD)
    value = _tile(grad + rows * stride, columns, width, inside)
    share = _tile(opened + rows * width, columns, width, inside)
    opening = _tile(output + rows * output_stride, columns, width, inside) * (1.0 - share)
    if not LAST:
        value += _through_reader(
            parts, across, narrow, blocks, rows, inside, count, RANK, ROWS, AT_ONCE, PRECISION
        )
    slope = (value * opening).to(back.dtype)
    _put(wide + rows * width, columns, width, inside, slope)
    _put(grad_before + rows * stride_before, columns, width, inside, 2.0 * share * value)
    part = tl.dot(slope, back, input_precision=PRECISION)
    part_at = parts_before + (rows + tl.program_id(1) * count) * RANK
    _put(part_at, tl.arange(0, RANK), RANK, inside, part)


@triton.jit
def _gates(
    operands, weight, bias, memory, new_memory, hs, hidden, activations,
    count, width, units, hidden_stride,
    ROWS: tl.constexpr, UNITS: tl.constexpr, BLOCK: tl.constexpr, AHEAD: tl.constexpr,
    PRECISION: tl.constexpr,
):  # fmt: skip
    """h' and m' of a position from its operands."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < count
    # The four gates of a unit stand side by side: one product for all of them, taken apart at the end.
    lanes = tl.arange(0, 4 * UNITS)
    known = tl.program_id(1) * UNITS + lanes // 4 < units
    gates = (lanes % 4) * units + tl.program_id(1) * UNITS + lanes // 4
    total = tl.zeros((ROWS, 4 * UNITS), tl.float32)
    _begin(AHEAD)
    for first in range(0, width, BLOCK):
        columns = first + tl.arange(0, BLOCK)
        left = (columns < width)[None, :]
        a = tl.load(
            operands + rows[:, None] * width + columns[None, :], mask=inside[:, None] & left, other=0.0
        )
        b = tl.load(weight + gates[:, None] * width + columns[None, :], mask=known[:, None] & left, other=0.0)
        total = tl.dot(a, tl.trans(b), total, input_precision=PRECISION)
    total += tl.load(bias + gates, mask=known, other=0.0).to(tl.float32)[None, :]
    of_f_g, of_i_o = tl.split(tl.reshape(total, (ROWS, UNITS, 2, 2)))
    f, g = tl.split(of_f_g)
    i, o = tl.split(of_i_o)
    f, i, g, o = tl.sigmoid(f), tl.sigmoid(i), _tanh(g), tl.sigmoid(o)
    columns = tl.program_id(1) * UNITS + tl.arange(0, UNITS)
    _put(activations + rows * 4 * units, columns, units, inside, f)
    _put(activations + rows * 4 * units + units, columns, units, inside, i)
    _put(activations + rows * 4 * units + 2 * units, columns, units, inside, g)
    _put(activations + rows * 4 * units + 3 * units, columns, units, inside, o)
    m = f * _tile(memory + rows * units, columns, units, inside) + i * g
    h = o * _tanh(m)
    _put(new_memory + rows * units, columns, units, inside, m)
    _put(hs + rows * units, columns, units, inside, h)
    _put(hidden + rows * hidden_stride, columns, units, inside, h)


@triton.jit
def _gates_back(
    parts, reader, narrow, grad, carried, grad_memory, activations, memory, new_memory, before,
    blocks, count, units, carried_stride,
    CARRIED: tl.constexpr, RANK: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
    AT_ONCE: tl.constexpr, AHEAD: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Back through the gates; first back through round 0 of the position after, from its parts."""
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < count
    columns = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    if CARRIED and RANK > 0:
        across = _reader(reader, columns, units, RANK)
    _begin(AHEAD)
    f = _tile(activations + rows * 4 * units, columns, units, inside)
    i = _tile(activations + rows * 4 * units + units, columns, units, inside)
    g = _tile(activations + rows * 4 * units + 2 * units, columns, units, inside)
    o = _tile(activations + rows * 4 * units + 3 * units, columns, units, inside)
    m = _tile(memory + rows * units, columns, units, inside)
    squashed = _tanh(_tile(new_memory + rows * units, columns, units, inside))
    of_h = _tile(grad + rows * units, columns, units, inside)
    of_m = o * (1.0 - squashed * squashed)
    if CARRIED:
        of_h += _tile(carried + rows * carried_stride, columns, units, inside)
        later = _tile(grad_memory + rows * units, columns, units, inside)
        if RANK > 0:
            of_h += _through_reader(
                parts, across, narrow, blocks, rows, inside, count, RANK, ROWS, AT_ONCE, PRECISION
            )
        of_m = of_h * of_m + later
    else:
        of_m = of_h * of_m
    _put(grad_memory + rows * units, columns, units, inside, of_m * f)
    before += rows * 4 * units
    _put(before, columns, units, inside, of_m * m * f * (1.0 - f))
    _put(before + units, columns, units, inside, of_m * g * i * (1.0 - i))
    _put(before + 2 * units, columns, units, inside, of_m * i * (1.0 - g * g))
    _put(before + 3 * units, columns, units, inside, of_h * squashed * o * (1.0 - o))


def padded_rank(rank: int) -> int:
    """The rank that the kernels compute with: a power of two that a matrix unit takes."""
    return max(16, triton.next_power_of_2(rank))


def pack(matrices: Sequence[Tensor], dtype: torch.dtype) -> tuple[Tensor, ...]:
    """The matrices with the padded rank."""
    if not matrices:
        return ()
    missing = padded_rank(len(matrices[0])) - len(matrices[0])
    if missing:
        matrices = [
            F.pad(one, (0, missing) if i % 2 else (0, 0, 0, missing)) for i, one in enumerate(matrices)
        ]
    parts = (
        torch.cat([one.reshape(-1) for one in matrices]).to(dtype).split([one.numel() for one in matrices])
    )
    return tuple(part.view_as(one) for part, one in zip(parts, matrices, strict=True))


def _precision(dtype: torch.dtype) -> str:
    exact = dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    return "ieee" if exact else "tf32"


def _launch(tensor: Tensor) -> dict[str, bool]:
    """Whether launches on the tensor's device begin early."""
    ahead = AHEAD and tensor.is_cuda and torch.cuda.get_device_capability(tensor.device) >= (9, 0)
    return {"AHEAD": ahead, "launch_pdl": ahead}


def _settings(trace: Trace, chosen: dict[str, int]) -> dict[str, int | str | bool]:
    """Settings of the kernels that go through the rounds, for operands and a rank of this size."""
    rank, dtype = trace.narrow.shape[3], trace.operands.dtype
    block = min(chosen["BLOCK"], max(16, TILE // (dtype.itemsize * max(rank, 1))))
    at_once = max(chosen["AT_ONCE"] // (chosen["ROWS"] * max(rank, 1)), 1)
    sizes = {"BLOCK": block, "RANK": rank, "AT_ONCE": at_once}
    return {**chosen, **sizes, "PRECISION": _precision(dtype), **_launch(trace.x)}


def parts_of(trace: Trace, chosen: dict[str, int]) -> Tensor:
    """(2, blocks, S, rank) for the parts of products: of one round while those of the last one are read."""
    widths, (_, _, rows, rank) = (trace.x.shape[2], trace.memory.shape[2]), trace.narrow.shape
    blocks = triton.cdiv(max(widths), _settings(trace, chosen)["BLOCK"])
    return trace.memory.new_empty(2, blocks, rows, rank)


def mogrify(packed: Sequence[Tensor], trace: Trace, parts: Tensor, t: int) -> None:
    """The rounds of position t."""
    rounds, rows, blocks = len(trace.narrow), trace.x.shape[1], 0
    settings = _settings(trace, MOGRIFY)
    for i in range(-1, rounds):
        first, last = i < 0, i + 1 == rounds
        target = (trace.hidden if first else trace.target(i))[t]
        found, opened = (target, target) if first else (trace.output(i)[t], trace.opened(i)[t])
        blocks_before, blocks = blocks, triton.cdiv(target.shape[1], settings["BLOCK"])
        _mogrify[(triton.cdiv(rows, settings["ROWS"]), blocks)](
            parts[i % 2], parts[(i + 1) % 2], packed[0 if last else 2 * i + 2], packed[2 * i + 1], target,
            trace.narrow[i, t], opened, found, blocks_before, rows, target.shape[1], target.stride(0),
            found.stride(0), FIRST=first, LAST=last, **settings,
        )  # fmt: skip


def gates(weight: Tensor, bias: Tensor, trace: Trace, hs: Tensor, t: int) -> None:
    """h' and m' of position t from its operands."""
    rows, units, dtype = trace.x.shape[1], trace.memory.shape[2], weight.dtype
    _gates[(triton.cdiv(rows, GATES["ROWS"]), triton.cdiv(units, GATES["UNITS"]))](
        trace.operands[t], weight, bias, trace.memory[t], trace.memory[t + 1], hs[t],
        trace.hidden[t + 1], trace.activations[t], rows, weight.shape[1], units, trace.hidden.stride(1),
        PRECISION=_precision(dtype), **{**GATES, "BLOCK": GATES["BLOCK"] * 2 // dtype.itemsize},
        **_launch(weight),
    )  # fmt: skip


def forward(weight: Tensor, bias: Tensor, packed: Sequence[Tensor], trace: Trace) -> Tensor:
    """(T, S, d_h): h' of every position."""
    hs, parts = torch.empty_like(trace.memory[1:]), parts_of(trace, MOGRIFY)
    for t in range(len(hs)):
        if packed:
            mogrify(packed, trace, parts, t)
        gates(weight, bias, trace, hs, t)
    return hs


def gates_back(
    packed: Sequence[Tensor], trace: Trace, grad: Tensor, found: Backward, work: Tensor | None, parts: Tensor,
    grad_memory: Tensor, t: int,
) -> None:  # fmt: skip
    """The way from the gradient of h' of position t, and what later ones add to it, to that at f, i, g and o.

    What they add is in `work`, h last, and with rounds in the parts of the product with B_0.
    """
    rows, units = grad.shape[1:]
    settings, carried = _settings(trace, GATES_BACK), grad[t] if work is None else work[:, -units:]
    rounds = bool(packed) and work is not None
    _gates_back[(triton.cdiv(rows, settings["ROWS"]), triton.cdiv(units, settings["BLOCK"]))](
        parts[0], packed[0] if rounds else parts, found.narrow[0, t + 1] if rounds else parts, grad[t],
        carried, grad_memory, trace.activations[t], trace.memory[t], trace.memory[t + 1], found.before[t],
        _blocks_back(trace), rows, units, carried.stride(0), CARRIED=work is not None, **settings,
    )  # fmt: skip


def _blocks_back(trace: Trace) -> int:
    """Parts of the product with B_0."""
    return triton.cdiv(trace.x.shape[2], _settings(trace, MOGRIFY_BACK)["BLOCK"])


def mogrify_back(
    packed: Sequence[Tensor], trace: Trace, work: Tensor, found: Backward, parts: Tensor, t: int
) -> None:
    """The way from the gradient of position t's operands, which is used up, to that of its x.

    That of its h is what is left in `work`, and what round 0 adds to it: its parts are in `parts`[0].
    """
    assert found.x is not None  # there are rounds
    rounds, (_, rows, x_width), blocks = len(trace.narrow), trace.x.shape, 0
    settings, pair = _settings(trace, MOGRIFY_BACK), (work[:, :x_width], work[:, x_width:])
    for i in reversed(range(rounds)):
        last, output = i + 1 == rounds, trace.output(i)[t]
        grad, before = pair[i % 2], pair[i % 2] if i else found.x[t]
        blocks_after, blocks = blocks, triton.cdiv(output.shape[1], settings["BLOCK"])
        _mogrify_back[(triton.cdiv(rows, settings["ROWS"]), blocks)](
            parts[(i + 1) % 2], parts[i % 2], packed[0 if last else 2 * i + 2], packed[2 * i + 1], grad,
            before, trace.opened(i)[t], output, found.wide[i][t], found.narrow[i if last else i + 1, t],
            blocks_after, rows, output.shape[1], grad.stride(0), before.stride(0), output.stride(0),
            LAST=last, **settings,
        )  # fmt: skip


def backward(weight: Tensor, packed: Sequence[Tensor], trace: Trace, grad: Tensor) -> Backward:
    """The gradients, from the last position to the first."""
    x_width, rounds = trace.x.shape[2], len(trace.narrow)
    before, grad_memory = torch.empty_like(trace.activations), torch.empty_like(grad[0])
    of_x, of_h = torch.empty_like(trace.x_open), torch.empty_like(trace.h_open)
    wide = [(of_h if i % 2 else of_x)[i // 2] for i in range(rounds)]
    grad_x = torch.empty_like(trace.x, dtype=grad.dtype) if rounds else None
    found = Backward(before, wide, torch.empty_like(trace.narrow), grad_x)
    work, parts = None, parts_of(trace, MOGRIFY_BACK)
    for t in reversed(range(len(grad))):
        gates_back(packed, trace, grad, found, work, parts, grad_memory, t)
        if rounds:
            work = _wide(before[t], weight)
            mogrify_back(packed, trace, work, found, parts, t)
        elif t:
            work = _wide(before[t], weight[:, x_width:])
    if rounds:  # what no position before adds up
        found.narrow[0, 0].copy_(parts[0, : _blocks_back(trace)].sum(0))
    return found


def _wide(a: Tensor, b: Tensor) -> Tensor:
    """a @ b in float32."""
    return torch.mm(a, b) if a.dtype == torch.float32 else torch.mm(a, b, out_dtype=torch.float32)
