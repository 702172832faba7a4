"""Writing text with a state of constant size: the cell's and the latest n tokens.

A step reads every weight once, so it takes as long as memory needs to deliver them. On a CPU a product with
one vector is cut into slices, because MKL gives a whole one to a single thread (half the speed on two), and
float16 weights are read in half the time; bfloat16 has no fast product with one vector there. On cuda the
step is recorded as a graph, and the host waits for tokens a block at a time.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from cvfp.models.cells import Cell, ContextBlock, ContextLayer
from cvfp.models.cvfp import BEFORE, CVFPModel
from cvfp.models.layers import TokenLayer, features_of
from cvfp.models.parts import widest
from cvfp.models.replay import Replayed
from cvfp.records.errors import InputError

BLOCK = 16
"""Random numbers drawn at once, from a generator on the CPU: a seed means the same ones on every device.
On cuda also the tokens that are handed out at once."""
SLICES = 16
"""Parts of a product with one vector on a CPU (measured: 2 to 64 are equally fast on two cores)."""


@dataclass(frozen=True)
class Sampling:
    """How a token is chosen: temperature 0 is the likeliest one; else of the `top_k` likeliest, of those the
    fewest whose probabilities sum to at least `top_p`, at the given temperature."""

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None

    def __post_init__(self) -> None:
        """Raises `InputError` for a value out of its range."""
        if not (math.isfinite(self.temperature) and self.temperature >= 0):
            raise InputError(f"temperature is {self.temperature}: it must be 0 or larger, and finite")
        if self.top_k is not None and self.top_k < 1:
            raise InputError(f"top_k is {self.top_k}: it must be at least 1")
        if self.top_p is not None and not 0 < self.top_p <= 1:
            raise InputError(f"top_p is {self.top_p}: it must be above 0 and at most 1")

    def choose(self, logits: Float[Tensor, " V"], uniform: Float[Tensor, " 1"]) -> Int[Tensor, " 1"]:
        """The token where the cumulative probability passes `uniform` in [0, 1); nothing waits for it."""
        if self.temperature < torch.finfo(torch.float32).tiny:
            return logits.argmax(dim=0, keepdim=True)
        ids = None
        if self.top_k is not None:
            logits, ids = logits.topk(min(self.top_k, len(logits)))
        elif self.top_p is not None:
            logits, ids = logits.sort(descending=True)
        # The maximum goes first: at any temperature the exponents are at most 0.
        chances = torch.softmax((logits - logits.max()) / self.temperature, dim=0)
        sums = chances.cumsum(0, dtype=uniform.dtype)
        total = sums[-1:]
        if self.top_p is not None:
            total = sums.gather(0, torch.searchsorted(sums, total * self.top_p))
        index = torch.searchsorted(sums, uniform * total, right=True).clamp(max=len(sums) - 1)
        return index if ids is None else ids.gather(0, index)


def generate(
    model: CVFPModel,
    prompt: Int[Tensor, " P"],
    max_new_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    dtype: torch.dtype | None = None,
) -> Iterator[int]:
    """Token ids that follow the prompt, one by one. The same seed gives the same ones; no global generator
    is touched.

    Args:
        prompt: (P,) token ids, at least one; its context is solved, not rolled out.
        temperature, top_k, top_p: as in `Sampling`.
        dtype: of the weights as matrix products read them (a copy is made), the model's own when None.
            float16 is the fastest; logits change by 0.2% of their spread (rms; 2.5% at most).

    Raises:
        InputError: an empty prompt, an id outside the vocabulary, or a number out of its range.
    """
    sampling = Sampling(temperature, top_k, top_p)
    if max_new_tokens < 1:
        raise InputError(f"max_new_tokens is {max_new_tokens}: it must be at least 1")
    if len(prompt) == 0:
        raise InputError("the prompt is empty: give at least one token to go on from")
    low, high = int(prompt.min()), int(prompt.max())
    if low < 0 or high >= model.vocab_size:
        wrong = low if low < 0 else high
        raise InputError(f"token {wrong} of the prompt is not in the vocabulary: 0 to {model.vocab_size - 1}")
    return _write(model, prompt, max_new_tokens, sampling, seed, dtype)


def _write(
    model: CVFPModel,
    prompt: Tensor,
    max_new_tokens: int,
    sampling: Sampling,
    seed: int,
    dtype: torch.dtype | None,
) -> Iterator[int]:
    with torch.inference_mode():
        writer = _Writer(model, prompt.to(model.device), sampling, dtype)
    generator = torch.Generator().manual_seed(seed)
    for first in range(0, max_new_tokens, BLOCK):
        count = min(BLOCK, max_new_tokens - first)
        at_once = count if writer.written.is_cuda else 1
        writer.load(torch.rand(BLOCK, generator=generator, dtype=writer.uniforms.dtype))
        for start in range(0, count, at_once):
            with torch.inference_mode():  # not around the yield: the reader's mode is its own
                for _ in range(at_once):
                    writer.step()
                tokens = writer.written[start : start + at_once].tolist()
            yield from tokens


class _Writer:
    """Writes a block of tokens into a tensor, one `step` each; the host need not see them in between."""

    def __init__(
        self, model: CVFPModel, prompt: Tensor, sampling: Sampling, dtype: torch.dtype | None
    ) -> None:
        self.stepper, self.sampling = Stepper(model, prompt, dtype), sampling
        # So wide that sums over a vocabulary keep its rare tokens.
        self.uniforms = torch.zeros(BLOCK, dtype=widest(model.device), device=model.device)
        self.written = torch.zeros(BLOCK, dtype=torch.long, device=model.device)
        self.position = torch.zeros(1, dtype=torch.long, device=model.device)
        self.step = self._step
        if model.device.type == "cuda":
            self.step = Replayed(self._step, model.device)

    def load(self, uniforms: Tensor) -> None:
        """Begin a block with its random numbers."""
        with torch.inference_mode():
            self.uniforms.copy_(uniforms)
            self.position.zero_()

    def _step(self) -> None:
        token = self.sampling.choose(self.stepper.logits(), self.uniforms.gather(0, self.position))
        self.stepper.append(token)
        self.written.index_copy_(0, self.position, token)
        self.position.add_(1)


class Stepper:
    """A model that has read a prompt: `logits` of the next token, then `append` it, and so on.

    `cell_state` (d_s,) is the state before the newest token and `window` (n,) the latest tokens: all that is
    kept, in tensors that stay where they are. Call it with gradients off.
    """

    def __init__(self, model: CVFPModel, prompt: Int[Tensor, " P"], dtype: torch.dtype | None = None) -> None:
        self.model, number = model, model.config.num_input_tokens
        self.cell_state = model.read_table.new_zeros(model.state_dim)
        for _, outputs in model.output_segments(prompt[:-1]):
            self.cell_state.copy_(outputs[-1, -1])
        self.window = F.pad(prompt[-number:].long(), (max(number - len(prompt), 0), 0), value=BEFORE)
        dtype = dtype or model.embedding.dtype
        self.cell = None if model.context_block is None else _reading(model.context_block, dtype)
        self.projection = None if model.projection is None else _Product(model.projection.weight, None, dtype)
        block = model.token_block
        self.token_layers = [_Layer(layer, dtype) for layer in ([] if block is None else block.layers)]
        self.head = _Product(model.embedding, model.output_bias, dtype)

    def logits(self) -> Float[Tensor, " V"]:
        """Logits of the next token, valid until the next call; the state moves on to the newest one."""
        ids, before = self.window.clamp(min=0), (self.window < 0)[None]
        contexts: Tensor | Sequence[Tensor] = [self.cell_state] * len(self.token_layers)
        if self.cell is not None:
            f = features_of(F.embedding(ids[None], self.model.read_table), before)
            outputs = self.cell(self.cell_state[None], f)[0]
            contexts = self.cell.contexts(outputs)
            self.cell_state.copy_(outputs[-1])
        if self.model.token_block is None:
            u = contexts[-1] if self.projection is None else self.projection(contexts[-1])
            return self.head(u)
        u = features_of(F.embedding(ids[None], self.model.embedding), before)[0]
        for layer, c in zip(self.token_layers, contexts, strict=True):
            u = layer(c, u, u)
        return self.head(u)

    def append(self, token: Int[Tensor, " 1"]) -> None:
        """The token becomes the newest of the window."""
        self.window.copy_(torch.cat([self.window[1:], token]))


class _Layer(nn.Module):
    """LN(R r + ReLU(W [c; x] + b)) for one vector; a layer of either block, r what it adds to."""

    def __init__(self, layer: ContextLayer | TokenLayer, dtype: torch.dtype) -> None:
        super().__init__()
        self.norm, residual = layer.norm, layer.residual if isinstance(layer, TokenLayer) else None
        self.product = _Product(layer.linear.weight, layer.linear.bias, dtype)
        self.residual = None
        if isinstance(residual, nn.Linear):
            self.residual = _Product(residual.weight, residual.bias, dtype)

    def forward(self, c: Tensor, x: Tensor, added: Tensor) -> Tensor:
        hidden = torch.relu_(self.product(torch.cat([c, x])))
        return self.norm(hidden.add_(added if self.residual is None else self.residual(added)))


class _ContextLayers(nn.Module):
    """The residual cell for one row."""

    def __init__(self, block: ContextBlock, dtype: torch.dtype) -> None:
        super().__init__()
        self.layers = [_Layer(layer, dtype) for layer in block.layers]
        self.contexts = block.contexts

    def forward(self, s: Float[Tensor, "1 d_c"], f: Float[Tensor, "1 d_f"]) -> Float[Tensor, "1 L d_c"]:
        c, outputs = s[0], []
        for layer in self.layers:
            c = layer(c, f[0], c)
            outputs.append(c)
        return torch.stack(outputs)[None]


class _LinearOfOne(nn.Module):
    """A linear map that is only ever given one row; a cell that takes its weights apart finds them."""

    def __init__(self, linear: nn.Linear, dtype: torch.dtype) -> None:
        super().__init__()
        self.weight, self.bias = linear.weight, linear.bias
        self.product = _Product(linear.weight, linear.bias, dtype)

    def forward(self, rows: Float[Tensor, "1 d_in"]) -> Float[Tensor, "1 d_out"]:
        return self.product(rows[0])[None]


def _reading(cell: Cell, dtype: torch.dtype) -> Cell | _ContextLayers:
    """The cell for one row, its matrices read in `dtype`."""
    if isinstance(cell, ContextBlock):
        return _ContextLayers(cell, dtype)
    copied = copy.deepcopy(cell)
    for module in list(copied.modules()):
        for name, child in module.named_children():
            if isinstance(child, nn.Linear):
                setattr(module, name, _LinearOfOne(child, dtype))
    return copied


class _Product:
    """W v + b for one vector v, weights read in `dtype`. A result may be overwritten by the next call."""

    def __init__(self, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> None:
        self.weight = weight.detach().to(dtype)
        self.bias = None if bias is None else bias.detach()
        self.sliced = weight.device.type == "cpu" and dtype == weight.dtype
        self.out = self.weight.new_empty(len(weight))
        self.even = len(weight) // SLICES * SLICES

    def __call__(self, v: Tensor) -> Tensor:
        if self.sliced:
            out = self._in_slices(v)
        elif self.weight.is_cuda and self.weight.dtype != v.dtype:
            # Here the result need not pass through the narrow type.
            out = torch.mm(self.weight, v.to(self.weight.dtype)[:, None], out_dtype=v.dtype)[:, 0]
        else:
            out = torch.mv(self.weight, v.to(self.weight.dtype)).to(v.dtype)
        return out if self.bias is None else out.add_(self.bias)

    def _in_slices(self, v: Tensor) -> Tensor:
        even, width = self.even, len(v)
        if even:
            slices = self.weight[:even].view(SLICES, -1, width).mT
            torch.bmm(v.expand(SLICES, 1, width), slices, out=self.out[:even].view(SLICES, 1, -1))
        if even < len(self.out):
            torch.mv(self.weight[even:], v, out=self.out[even:])
        return self.out
