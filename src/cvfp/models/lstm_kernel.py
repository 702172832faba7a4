"""Positions of a mogrified LSTM's roll-out on GPUs (Triton): two kernels forward, two and a product backward.

`cvfp.models.lstm_rollout` says what they compute and has it in torch's operations, to which the tests hold
them; `cvfp.models.lstm_launch` starts them. Names are those of `lstm_rollout.Trace`, pointers those of one
position; `total` = T*S rows lie between the rounds of a buffer, and `count` = S rows are there.
"""

from __future__ import annotations

import triton
import triton.language as tl

ROWS = tl.constexpr(16)
"""Rows of a program that goes through the rounds: the fewest that a matrix unit takes."""


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
def _reader(factors, columns, x_width, h_width, ROUND: tl.constexpr, RANK: tl.constexpr):
    """(features of a block, rank) of A^T of a round."""
    width = h_width if ROUND % 2 == 0 else x_width
    base = factors + ROUND * RANK * (x_width + h_width) + tl.arange(0, RANK) * width
    return tl.load(base[None, :] + columns[:, None], mask=(columns < width)[:, None], other=0.0)


@triton.jit
def _writer(factors, columns, x_width, h_width, ROUND: tl.constexpr, RANK: tl.constexpr):
    """(features of a block, rank) of B of a round."""
    width = x_width if ROUND % 2 == 0 else h_width
    base = factors + RANK * (ROUND * (x_width + h_width) + x_width + h_width - width) + tl.arange(0, RANK)
    return tl.load(base[None, :] + columns[:, None] * RANK, mask=(columns < width)[:, None], other=0.0)


@triton.jit
def _side(of_x, of_h, rows, x_width, h_width, total, ROUND: tl.constexpr):
    """Where the rows of a round are in (rounds, T*S, width) buffers of x's and of h's rounds."""
    if ROUND % 2 == 0:
        return of_x + (rows + ROUND // 2 * total) * x_width
    else:
        return of_h + (rows + ROUND // 2 * total) * h_width


@triton.jit
def _output(operands, of_x, of_h, rows, x_width, h_width, total, ROUND: tl.constexpr, ROUNDS: tl.constexpr):
    """Where the rows are that a round puts out: the last ones of x and h are operands of the cell."""
    if ROUND + 2 < ROUNDS:
        return _side(of_x, of_h, rows, x_width, h_width, total, ROUND)
    else:
        return operands + rows * (x_width + h_width) + (ROUND % 2) * x_width


@triton.jit
def mogrify(
    x, hidden, factors, operands, narrow, x_open, h_open, x_rounds, h_rounds,
    count, x_width, h_width, hidden_stride, total,
    ROUNDS: tl.constexpr, RANK: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < count
    ranks = tl.arange(0, RANK)
    lanes = tl.arange(0, BLOCK)
    kind: tl.constexpr = operands.dtype.element_ty
    product = tl.zeros((ROWS, RANK), tl.float32)
    for first in range(0, h_width, BLOCK):
        columns = first + lanes
        source = _tile(hidden + rows * hidden_stride, columns, h_width, inside).to(kind)
        across = _reader(factors, columns, x_width, h_width, 0, RANK)
        product = tl.dot(source, across, product, input_precision=PRECISION)
    for i in tl.static_range(ROUNDS):
        rounded = product.to(kind)
        _put(narrow + (rows + i * total) * RANK, ranks, RANK, inside, rounded)
        width = x_width if i % 2 == 0 else h_width
        if i == 0:
            target = x + rows * x_width
        elif i == 1:
            target = hidden + rows * hidden_stride
        else:
            target = _output(operands, x_rounds, h_rounds, rows, x_width, h_width, total, i - 2, ROUNDS)
        opened = _side(x_open, h_open, rows, x_width, h_width, total, i)
        found = _output(operands, x_rounds, h_rounds, rows, x_width, h_width, total, i, ROUNDS)
        product = tl.zeros((ROWS, RANK), tl.float32)
        for first in range(0, width, BLOCK):
            columns = first + lanes
            back = _writer(factors, columns, x_width, h_width, i, RANK)
            share = tl.sigmoid(tl.dot(rounded, tl.trans(back), input_precision=PRECISION))
            value = (2.0 * share * _tile(target, columns, width, inside)).to(kind)
            _put(opened, columns, width, inside, share)
            _put(found, columns, width, inside, value)
            # What a round puts out is what the next one reads: its product is summed on the way.
            if i + 1 < ROUNDS:
                across = _reader(factors, columns, x_width, h_width, i + 1, RANK)
                product = tl.dot(value, across, product, input_precision=PRECISION)
        tl.debug_barrier()


@triton.jit
def _close(
    grad, wide, target, opened, output, factors, product, columns, width, inside, x_width, h_width,
    ROUND: tl.constexpr, RANK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    """Back through a round's sigmoid, from the gradient at its output; the product with B is summed."""
    share = _tile(opened, columns, width, inside)
    slope = (grad * _tile(output, columns, width, inside) * (1.0 - share)).to(wide.dtype.element_ty)
    _put(wide, columns, width, inside, slope)
    _put(target, columns, width, inside, 2.0 * share * grad)
    back = _writer(factors, columns, x_width, h_width, ROUND, RANK)
    return tl.dot(slope, back, product, input_precision=PRECISION)


@triton.jit
def mogrify_back(
    grad, grad_x, grad_hidden, factors, operands, grad_narrow,
    x_open, h_open, x_rounds, h_rounds, x_wide, h_wide,
    count, x_width, h_width, total,
    ROUNDS: tl.constexpr, RANK: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < count
    ranks = tl.arange(0, RANK)
    lanes = tl.arange(0, BLOCK)
    kind: tl.constexpr = operands.dtype.element_ty
    product = tl.zeros((ROWS, RANK), tl.float32)
    # The gradient at what round i puts out is complete once round i + 1 has added its own; -1 is h itself.
    for i in tl.static_range(ROUNDS - 1, -2, -1):
        width = x_width if i % 2 == 0 else h_width
        at = grad + rows * (x_width + h_width) + (0 if i % 2 == 0 else x_width)
        rounded = product.to(kind)
        if i < ROUNDS - 1:
            _put(grad_narrow + (rows + (i + 1) * total) * RANK, ranks, RANK, inside, rounded)
        product = tl.zeros((ROWS, RANK), tl.float32)
        for first in range(0, width, BLOCK):
            columns = first + lanes
            value = _tile(at, columns, width, inside)
            if i < ROUNDS - 1:
                across = _reader(factors, columns, x_width, h_width, i + 1, RANK)
                value += tl.dot(rounded, tl.trans(across), input_precision=PRECISION)
            if i < 0:
                _put(grad_hidden + rows * h_width, columns, width, inside, value)
            else:
                opened = _side(x_open, h_open, rows, x_width, h_width, total, i)
                wide = _side(x_wide, h_wide, rows, x_width, h_width, total, i)
                output = _output(operands, x_rounds, h_rounds, rows, x_width, h_width, total, i, ROUNDS)
                target = at if i > 0 else grad_x + rows * x_width
                product = _close(
                    value, wide, target, opened, output, factors, product, columns, width, inside,
                    x_width, h_width, i, RANK, PRECISION,
                )  # fmt: skip
        tl.debug_barrier()


@triton.jit
def gates(
    operands, weight, bias, memory, new_memory, hs, hidden, activations,
    count, width, units, hidden_stride,
    ROWS: tl.constexpr, UNITS: tl.constexpr, BLOCK: tl.constexpr, PRECISION: tl.constexpr,
):  # fmt: skip
    rows = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    inside = rows < count
    # The four gates of a unit stand side by side: one product for all of them, taken apart at the end.
    lanes = tl.arange(0, 4 * UNITS)
    known = tl.program_id(1) * UNITS + lanes // 4 < units
    gates = (lanes % 4) * units + tl.program_id(1) * UNITS + lanes // 4
    total = tl.zeros((ROWS, 4 * UNITS), tl.float32)
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
def gates_back(
    grad, carried, grad_memory, activations, memory, new_memory, before,
    units, carried_stride, CARRIED: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    unit = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    known = unit < units
    f = tl.load(activations + row * 4 * units + unit, mask=known, other=0.0).to(tl.float32)
    i = tl.load(activations + row * 4 * units + units + unit, mask=known, other=0.0).to(tl.float32)
    g = tl.load(activations + row * 4 * units + 2 * units + unit, mask=known, other=0.0).to(tl.float32)
    o = tl.load(activations + row * 4 * units + 3 * units + unit, mask=known, other=0.0).to(tl.float32)
    m = tl.load(memory + row * units + unit, mask=known, other=0.0)
    squashed = _tanh(tl.load(new_memory + row * units + unit, mask=known, other=0.0))
    of_h = tl.load(grad + row * units + unit, mask=known, other=0.0)
    of_m = o * (1.0 - squashed * squashed)
    if CARRIED:
        of_h += tl.load(carried + row * carried_stride + unit, mask=known, other=0.0)
        of_m = of_h * of_m + tl.load(grad_memory + row * units + unit, mask=known, other=0.0)
    else:
        of_m = of_h * of_m
    tl.store(grad_memory + row * units + unit, of_m * f, mask=known)
    kind: tl.constexpr = before.dtype.element_ty
    before += row * 4 * units + unit
    tl.store(before, (of_m * m * f * (1.0 - f)).to(kind), mask=known)
    tl.store(before + units, (of_m * g * i * (1.0 - i)).to(kind), mask=known)
    tl.store(before + 2 * units, (of_m * i * (1.0 - g * g)).to(kind), mask=known)
    tl.store(before + 3 * units, (of_h * squashed * o * (1.0 - o)).to(kind), mask=known)
