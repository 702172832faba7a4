"""Contexts of a text by the block solve, against the roll-out."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from benchmarks.inputs import SEED, corpus_tokens, make_model
from benchmarks.limits import Limits
from benchmarks.table import Row, checked, median_seconds, row_per_token, timed
from cvfp.metrics.cost import model_cost
from cvfp.models.recurrence import roll_out
from cvfp.records.training_config import Phase1Config
from cvfp.training.phase1 import learn_contexts

TOKENS = 31_024
TRAINING_TOKENS = 8000
ITERATIONS = 10
"""Of phase 1 beforehand, so that the block is one that training makes."""
SHAPES = ((256, 1), (256, 2), (768, 1), (768, 2))
"""(d_c, input tokens)."""
BOUND = 2e-5
"""Largest difference of any element: two roll-outs with products of other shapes are 1e-5 apart."""


def rows(device: torch.device, limits: Limits) -> Iterator[Row]:
    for context_dim, num_input_tokens in SHAPES:
        yield _row(context_dim, num_input_tokens, device, limits)


def _row(context_dim: int, num_input_tokens: int, device: torch.device, limits: Limits) -> Row:
    what = f"contexts of {TOKENS:,} tokens, d_c {context_dim}, n {num_input_tokens}, float32"
    model = make_model(context_dim, num_input_tokens, False, device)
    config = Phase1Config(max_iterations=ITERATIONS, min_iterations=ITERATIONS)
    learn_contexts(model, corpus_tokens(TRAINING_TOKENS, device), config, seed=SEED)
    tokens = corpus_tokens(TOKENS, device)

    @torch.no_grad()
    def by_definition() -> torch.Tensor:
        positions = torch.arange(TOKENS, device=device)
        return roll_out(model.context_block, model.context_features(tokens, positions))

    expected, naive = timed(by_definition, device)
    check = checked(what, float((model.contexts(tokens) - expected).abs().max()), BOUND)
    ours = median_seconds(lambda: model.contexts(tokens), device)
    flops = 2 * model_cost(model.config, model.vocab_size, False).context_madds * TOKENS
    return row_per_token(what, TOKENS, naive, ours, flops / ours / limits.flops["float32"], check)
