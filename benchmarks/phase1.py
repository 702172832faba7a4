"""One sweep of phase 1 (gradient, clip, Adam step), against plain PyTorch in float32."""

from __future__ import annotations

import copy
import statistics
import time
from collections.abc import Iterator
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.inputs import SEED, corpus_tokens, make_model
from benchmarks.limits import Limits, usable_precisions
from benchmarks.table import Row, checked, median_seconds, relative_error, row_per_token
from cvfp.metrics.cost import model_cost
from cvfp.models.cells import ContextBlock
from cvfp.models.cvfp import CVFPModel
from cvfp.records.schema import Precision
from cvfp.records.training_config import Phase1Config
from cvfp.training.contexts import slice_bounds
from cvfp.training.phase1 import START_STD, NormalRows, contexts_of, learn_contexts, start_at_random
from cvfp.training.stepper import ADAM_EPS, BETA1

TOKENS = {"cpu": 16_000, "cuda": 948_000}
SWEEPS = 4
USEFUL_FLOPS = 4
"""Per weight and token: forward, and the gradient of the weights. The only layer's inputs need none."""
CHECKED_TOKENS, CHECKED_SLICE = 4096, 1000
BOUNDS: dict[Precision, float] = {"float32": 1e-5, "tf32": 2e-2, "bf16": 4e-2}
"""Relative error of the first sweep's gradient, of every parameter, against float64. tf32 and bf16 put some
inputs of the ReLU on its other side, whose whole gradient is then wrong (measured: 1.2e-2 and 2.0e-2)."""


def rows(device: torch.device, limits: Limits) -> Iterator[Row]:
    model, tokens = make_model(768, 2, False, device), corpus_tokens(TOKENS[device.type], device)
    naive = _naive_seconds(copy.deepcopy(model), tokens)
    cost = model_cost(model.config, model.vocab_size, False)
    flops = USEFUL_FLOPS * cost.context_madds * len(tokens)
    for precision in usable_precisions(device):
        what = f"phase 1: a sweep of {len(tokens):,} tokens, d_c 768, n 2, {precision}"
        check = checked(what, _gradient_error(model, tokens, precision), BOUNDS[precision])
        ours = _seconds(copy.deepcopy(model), tokens, precision)
        yield row_per_token(what, len(tokens), naive, ours, flops / ours / limits.flops[precision], check)


def _seconds(model: CVFPModel, tokens: Tensor, precision: Precision) -> float:
    """Median of the sweeps after the first; each ends with a report of its losses."""
    ends: list[float] = []
    config = Phase1Config(max_iterations=SWEEPS + 2, min_iterations=SWEEPS + 2, precision=precision)
    learn_contexts(model, tokens, config, seed=SEED, listen=lambda event: ends.append(time.perf_counter()))
    return statistics.median(last - first for first, last in pairwise(ends))


def _naive_seconds(model: CVFPModel, tokens: Tensor) -> float:
    block, config = model.context_block, Phase1Config()
    optimizer = torch.optim.AdamW(
        block.parameters(), lr=config.lr, betas=(BETA1, 0.999), eps=ADAM_EPS, weight_decay=0.0
    )
    contexts = START_STD * torch.randn(len(tokens), block.context_dim, device=tokens.device)

    def sweep() -> None:
        optimizer.zero_grad()
        contexts.copy_(_sweep_by_definition(model, block, tokens, contexts, config))
        nn.utils.clip_grad_norm_(block.parameters(), config.grad_clip)
        optimizer.step()

    return median_seconds(sweep, tokens.device)


def _sweep_by_definition(
    model: CVFPModel, block: ContextBlock, tokens: Tensor, old: Tensor, config: Phase1Config
) -> Tensor:
    """C^k of all positions; leaves the gradient of the mean of the slices' losses in the block."""
    bounds, swept = slice_bounds(len(tokens), config.slice_length), []
    inputs = F.pad(old[:-1], (0, 0, 1, 0))
    for first, last in bounds:
        positions = torch.arange(first, last, device=tokens.device)
        features, new = model.context_features(tokens, positions).to(old), inputs[first:last]
        for layer in block.layers:
            new = layer.norm(new + torch.relu(layer.linear(torch.cat([new, features], dim=1))))
        convergence = F.mse_loss(new, old[first:last])
        dispersion = -torch.linalg.matrix_norm(new - new.mean(dim=0)) / len(new)
        weight = config.dist_reg_weight
        (((1 - weight) * convergence + weight * dispersion) / len(bounds)).backward()
        swept.append(new.detach())
    return torch.cat(swept)


def _gradient_error(model: CVFPModel, tokens: Tensor, precision: Precision) -> float:
    """Largest relative error of a parameter's gradient in the first sweep of a short text."""
    model, tokens = copy.deepcopy(model), tokens[:CHECKED_TOKENS]
    block = model.context_block
    config = Phase1Config(slice_length=CHECKED_SLICE, max_iterations=2, grad_clip=1e9, precision=precision)
    exact = copy.deepcopy(block).double()
    start = contexts_of(model, tokens, config)
    start_at_random(start, NormalRows(SEED, block.context_dim, tokens.device, model.read_table.dtype))
    _sweep_by_definition(model, exact, tokens, start.read().double(), config)
    learn_contexts(model, tokens, config, seed=SEED)
    pairs = zip(block.parameters(), exact.parameters(), strict=True)
    return max(relative_error(found.grad, expected.grad) for found, expected in pairs)
