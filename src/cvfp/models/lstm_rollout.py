"""The roll-out of a mogrified LSTM cell (Melis et al. 2020) over a window of positions, its gradient by hand.

Every position writes into buffers of the window, and each weight has its gradient from one product over all
rows of all positions. The definition, token by token under autograd, is in the tests.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from cvfp.models.threads import threads_for


def roll_positions(
    x: Float[Tensor, "T S d_x"],
    h: Float[Tensor, "S d_h"],
    m: Float[Tensor, "S d_h"],
    weight: Float[Tensor, "4*d_h d_x+d_h"],
    bias: Float[Tensor, " 4*d_h"],
    gates: tuple[tuple[Float[Tensor, "rank _"], Float[Tensor, "_ rank"]], ...],
    dtype: torch.dtype,
) -> tuple[Float[Tensor, "T S d_h"], Float[Tensor, "S d_h"]]:
    """(h' at every position, m' at the last one), in float32 or what is wider of the inputs' types.

        for the i-th pair (A, B) of `gates`:
            i even:  x <- 2 sigmoid(h A^T B^T) * x        i odd:  h <- 2 sigmoid(x A^T B^T) * h
        f, i, g, o = split([x; h] W^T + b)
        m' = sigmoid(f) * m + sigmoid(i) * tanh(g),   h' = sigmoid(o) * tanh(m')

    of each position; h' and m' are h and m of the next one. Without `gates` this is the LSTM.

    Args:
        x: the inputs of T positions of S rows.
        h, m: hidden and memory vectors before the first position: constants, which no gradient reaches; nor
            does any come from the m' that is returned.
        weight, bias: of the four gates, in the order f, i, g, o.
        gates: pairs (A, B), all of one rank; A reads h in even rounds and x in odd ones.
        dtype: of the operands of matrix products and of what is kept for the gradient. Sums of products are
            float32, and so is the memory.
    """
    return _RollOut.apply(x, h, m, weight, bias, dtype, *(matrix for pair in gates for matrix in pair))


class Trace(NamedTuple):
    """What the positions of a window read and write, in the operands' type but for the memory.

    `operands` are [x; h] after the rounds; `activations` sigmoid(f), sigmoid(i), tanh(g) and sigmoid(o);
    `squashed` is tanh(m'), which the kernels compute again and leave empty; `narrow` are the products with A;
    `x_open` and `h_open` the sigmoids of the rounds that change x and of those that change h, `x_rounds` and
    `h_rounds` what these put out, but for the last one of each, whose output is in `operands`.
    """

    x: Tensor  # (T, S, d_x)
    operands: Tensor  # (T+1, S, d_x+d_h); at T there is only h, and this only if no round changes h
    hidden: Tensor  # (T+1, S, d_h): before every position and after the last; or else a part of `operands`
    memory: Tensor  # (T+1, S, d_h): likewise, in float32 or wider
    activations: Tensor  # (T, S, 4*d_h)
    squashed: Tensor  # (T, S, d_h)
    narrow: Tensor  # (r, T, S, rank)
    x_open: Tensor  # (rounds of x, T, S, d_x)
    h_open: Tensor  # (rounds of h, T, S, d_h)
    x_rounds: Tensor  # (rounds of x but one, T, S, d_x)
    h_rounds: Tensor  # (rounds of h but one, T, S, d_h)

    def opened(self, i: int) -> Tensor:
        """(T, S, width): the sigmoid of round i."""
        return (self.h_open if i % 2 else self.x_open)[i // 2]

    def output(self, i: int) -> Tensor:
        """(T, S, width): what round i makes of its target."""
        width = self.x.shape[2]
        if i + 2 >= len(self.narrow):
            return self.operands[:-1, :, width:] if i % 2 else self.operands[:-1, :, :width]
        return (self.h_rounds if i % 2 else self.x_rounds)[i // 2]

    def target(self, i: int) -> Tensor:
        """(T, S, width): what round i multiplies."""
        return self.output(i - 2) if i > 1 else self.hidden[:-1] if i else self.x

    def source(self, i: int) -> Tensor:
        """(T, S, width): what round i computes its sigmoid from."""
        return self.output(i - 1) if i else self.hidden[:-1]


class Backward(NamedTuple):
    """Gradients of a window from which those of the weights are products over all rows."""

    before: Tensor  # (T, S, 4*d_h): at f, i, g, o, in the operands' type
    wide: list[Tensor]  # (T, S, width) of every round: at its sigmoid's argument
    narrow: Tensor  # (r, T, S, rank): at the products with A
    x: Tensor | None  # (T, S, d_x): at the inputs; None without rounds, where `before` @ weight gives it


@dataclass(frozen=True)
class Backend:
    """One way to go through the positions, which fills and reads a `Trace`."""

    pack: Callable[[Sequence[Tensor], torch.dtype], tuple[Tensor, ...]]  # what it reads the matrices from
    rank: Callable[[int], int]  # the one it computes with
    keeps_squashed: bool
    forward: Callable[..., Tensor]  # (weight, bias, packed, trace) to h'
    backward: Callable[..., Backward]  # (weight, packed, trace, gradient of h')


class _RollOut(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, h, m, weight, bias, dtype, *matrices):
        backend = _backend(x.device.type, torch.promote_types(x.dtype, dtype))
        with torch.autocast(x.device.type, enabled=False):
            packed = backend.pack(matrices, dtype)
            cast = weight.to(dtype).contiguous()
            rank = backend.rank(len(matrices[0])) if matrices else 0
            trace = _start(x, h, m, dtype, len(matrices) // 2, rank, backend.keeps_squashed)
            with threads_for(h), torch.cuda.device_of(x):  # kernels are launched on the current card
                hs = backend.forward(cast, bias, packed, trace)
        ctx.backend, ctx.count = backend, len(trace)
        ctx.ranks = [matrix.shape[0] for matrix in matrices[::2]]
        ctx.save_for_backward(*trace, cast, *packed)
        last = trace.memory[-1].clone()
        ctx.mark_non_differentiable(last)
        ctx.set_materialize_grads(False)
        return hs, last

    @staticmethod
    @once_differentiable
    def backward(ctx, grad, _):  # pyright: ignore[reportIncompatibleMethodOverride] (the decorator hides `ctx`)
        saved = ctx.saved_tensors
        trace, weight, packed = Trace(*saved[: ctx.count]), saved[ctx.count], saved[ctx.count + 1 :]
        with torch.autocast(grad.device.type, enabled=False):
            with threads_for(grad[0]), torch.cuda.device_of(grad):
                found = ctx.backend.backward(weight, packed, trace, grad.contiguous())
            wide, rows, width = trace.memory.dtype, found.before.flatten(0, 1), trace.x.shape[2]
            grad_x = found.x
            if grad_x is None and ctx.needs_input_grad[0]:
                grad_x = _product(rows, weight[:, :width], wide).view(trace.x.shape)
            grad_weight = _product(rows.T, trace.operands[:-1].flatten(0, 1), wide)
            grad_matrices = []
            for i, rank in enumerate(ctx.ranks):
                # The ranks past the matrices' own are an alignment of the kernels.
                narrow, opening = found.narrow[i].flatten(0, 1)[:, :rank], found.wide[i].flatten(0, 1)
                grad_matrices.append(_product(narrow.T, trace.source(i).flatten(0, 1), wide))
                grad_matrices.append(_product(opening.T, trace.narrow[i].flatten(0, 1)[:, :rank], wide))
            grad_bias = rows.sum(0, dtype=wide)
        return grad_x, None, None, grad_weight, grad_bias, None, *grad_matrices


def _start(
    x: Tensor, h: Tensor, m: Tensor, dtype: torch.dtype, rounds: int, rank: int, keeps_squashed: bool
) -> Trace:
    """The buffers of a window; what is known before the first position is in them."""
    (positions, rows, x_width), h_width = x.shape, h.shape[1]
    wide = torch.promote_types(x.dtype, torch.float32)
    of_x, of_h = -(-rounds // 2), rounds // 2

    def empty(*shape: int) -> Tensor:
        return x.new_empty(shape, dtype=dtype)

    operands = empty(positions + 1, rows, x_width + h_width)
    trace = Trace(
        x=x.to(dtype).contiguous(),
        operands=operands,
        hidden=empty(positions + 1, rows, h_width) if of_h else operands[..., x_width:],
        memory=x.new_empty(positions + 1, rows, h_width, dtype=wide),
        activations=empty(positions, rows, 4 * h_width),
        squashed=empty(positions if keeps_squashed else 0, rows, h_width),
        narrow=empty(rounds, positions, rows, rank),
        x_open=empty(of_x, positions, rows, x_width),
        h_open=empty(of_h, positions, rows, h_width),
        x_rounds=empty(max(of_x - 1, 0), positions, rows, x_width),
        h_rounds=empty(max(of_h - 1, 0), positions, rows, h_width),
    )
    trace.hidden[0].copy_(h)
    trace.memory[0].copy_(m)
    if not rounds:
        trace.operands[:-1, :, :x_width].copy_(trace.x)
    return trace


def _product(a: Tensor, b: Tensor, dtype: torch.dtype) -> Tensor:
    """a @ b in `dtype`; on a CPU narrow operands have it rounded to their type on the way."""
    if a.is_cuda and a.dtype != dtype:
        return torch.mm(a, b, out_dtype=dtype)
    return torch.mm(a, b).to(dtype)


def _forward(weight: Tensor, bias: Tensor, packed: Sequence[Tensor], trace: Trace) -> Tensor:
    """(T, S, d_h): h' by torch's operations, as few as possible: on a CPU each costs microseconds."""
    units, zero = trace.memory.shape[2], trace.operands.new_zeros(())
    hidden, memory, squashed = trace.hidden.unbind(), trace.memory.unbind(), trace.squashed.unbind()
    outputs, rounds = [trace.x.unbind(), hidden], []
    for i, (a, b) in enumerate(zip(packed[::2], packed[1::2], strict=True)):
        outputs.append(trace.output(i).unbind())
        kept = trace.narrow[i].unbind(), trace.opened(i).unbind()
        rounds.append((a.T, b.T, outputs[i + 1], *kept, outputs[i], outputs[i + 2]))
    forget, take, new, show = (gate.unbind() for gate in trace.activations.split(units, dim=2))
    before, operands = trace.activations.unbind(), trace.operands.unbind()
    across, bias, minus_one = weight.T, bias.to(weight.dtype), zero - 1
    for t in range(len(before)):
        for a, b, sources, narrow, opened, targets, found in rounds:
            torch.mm(torch.mm(sources[t], a, out=narrow[t]), b, out=opened[t]).sigmoid_()
            torch.addcmul(zero, opened[t], targets[t], value=2, out=found[t])
        torch.addmm(bias, operands[t], across, out=before[t])
        # tanh(g) = 2 sigmoid(2g) - 1: on a CPU a fifth of the time of tanh over a part of each row.
        new[t].mul_(2)
        before[t].sigmoid_()
        torch.add(minus_one, new[t], alpha=2, out=new[t])
        torch.mul(forget[t], memory[t], out=memory[t + 1]).addcmul_(take[t], new[t])
        torch.tanh(memory[t + 1], out=squashed[t])
        torch.mul(show[t], squashed[t], out=hidden[t + 1])
    return trace.hidden[1:].to(trace.memory.dtype).contiguous()


def _slopes(trace: Trace) -> tuple[Tensor, Tensor]:
    """((T, S, 4, d_h) slopes of m' at f, i, g and of h' at o; (T, S, d_h) slope of h' at m')."""
    activations = trace.activations.unflatten(2, (4, -1))
    _, take, new, show = activations.unbind(2)
    slopes = torch.addcmul(activations, activations, activations, value=-1)
    slopes[:, :, 0].mul_(trace.memory[:-1])
    slopes[:, :, 1].mul_(new)
    torch.addcmul(take, take * new, new, value=-1, out=slopes[:, :, 2])
    slopes[:, :, 3].mul_(trace.squashed)
    return slopes, torch.addcmul(show, trace.hidden[1:], trace.squashed, value=-1)


def _backward(weight: Tensor, packed: Sequence[Tensor], trace: Trace, grad: Tensor) -> Backward:
    """The gradients by torch's operations; what needs no later position is computed for all at once."""
    (positions, rows, x_width), units = trace.x.shape, trace.memory.shape[2]
    slopes, slope = _slopes(trace)
    through, outward = slopes[:, :, :3].unbind(), slopes[:, :, 3].unbind()
    before, slope = slopes.flatten(2).unbind(), slope.unbind()
    kept = trace.activations[..., :units].unbind()
    grads, zero = grad.to(trace.operands.dtype).unbind(), trace.operands.new_zeros(())
    grad_memory = torch.zeros_like(trace.memory[0])
    narrow, of_rounds = torch.empty_like(trace.narrow), []
    for i, (a, b) in enumerate(zip(packed[::2], packed[1::2], strict=True)):
        output, opened = trace.output(i), trace.opened(i)
        # The slope at the sigmoid's argument, 2 * target * sigmoid', is replaced by the gradient there.
        wide = torch.addcmul(output, output, opened, value=-1)
        of_rounds.append((i, a, b, wide, wide.unbind(), opened.unbind(), narrow[i].unbind()))
    grad_x = torch.empty_like(trace.x) if of_rounds else None
    of_x: tuple[Tensor, ...] = () if grad_x is None else grad_x.unbind()
    # Without rounds the inputs' gradient is one product after the loop.
    inward = weight if of_rounds else weight[:, x_width:]
    work = trace.x.new_empty(rows, inward.shape[1])
    pair = (work[:, :-units], work[:, -units:])
    grad_hidden = grads[-1]
    for t in reversed(range(positions)):
        outward[t].mul_(grad_hidden)
        grad_memory.addcmul_(grad_hidden, slope[t])
        through[t].mul_(grad_memory[:, None])
        grad_memory.mul_(kept[t])
        earlier = grads[t - 1] if t else zero
        if t or of_rounds:
            torch.mm(before[t], inward, out=work)
        for i, a, b, _, wide, opened, products in reversed(of_rounds):
            target, source = pair[i % 2], pair[1 - i % 2]
            torch.mul(target, wide[t], out=wide[t])
            # The gradient of the position before joins that of h where h is multiplied for the last time.
            added, found = (earlier if i == 1 else zero), (target if i else of_x[t])
            torch.addcmul(added, target, opened[t], value=2, out=found)
            source.addmm_(torch.mm(wide[t], b, out=products[t]), a)
        grad_hidden = pair[1] if len(of_rounds) > 1 else pair[1].add_(earlier)
    return Backward(slopes.flatten(2), [one[3] for one in of_rounds], narrow, grad_x)


_TORCH = Backend(
    pack=lambda matrices, dtype: tuple(matrix.to(dtype) for matrix in matrices),
    rank=lambda rank: rank,
    keeps_squashed=True,
    forward=_forward,
    backward=_backward,
)


def _backend(device_type: str, dtype: torch.dtype) -> Backend:
    """`dtype` is the widest one there is: the kernels know no float64."""
    kernels = _kernels() if device_type == "cuda" and dtype != torch.float64 else None
    return _TORCH if kernels is None else kernels


@functools.cache
def _kernels() -> Backend | None:
    """Triton's kernels, if there is a Triton."""
    try:
        from cvfp.models import lstm_kernel as kernel
    except ImportError:
        warnings.warn("no triton: the mogrified LSTM takes many small operations, slower", stacklevel=2)
        return None
    return Backend(kernel.pack, kernel.padded_rank, False, kernel.forward, kernel.backward)
