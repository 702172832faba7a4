"""The dev loss that decides when training stops, against plain cross-entropy in float32."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F

from benchmarks.inputs import corpus_tokens, make_model
from benchmarks.limits import Limits, usable_precisions
from benchmarks.table import Row, checked, median_seconds, row_per_token
from cvfp.metrics.cost import model_cost
from cvfp.records.schema import Precision
from cvfp.training.evaluation import mean_nats

TOKENS = {"cpu": 4097, "cuda": 65_537}
NAIVE_ROWS = 2048
BOUNDS: dict[Precision, float] = {"float32": 1e-5, "tf32": 1e-3, "bf16": 1e-3}
"""Difference in nats."""


def rows(device: torch.device, limits: Limits) -> Iterator[Row]:
    model, tokens = make_model(768, 2, True, device), corpus_tokens(TOKENS[device.type], device)
    segments = list(model.context_segments(tokens))
    contexts = torch.cat([part for _, part in segments])
    cost, predicted = model_cost(model.config, model.vocab_size, True), len(tokens) - 1
    flops = 2 * (cost.token_madds + cost.head_madds) * predicted

    @torch.no_grad()
    def by_definition() -> float:
        total = 0.0
        for positions in torch.arange(predicted, device=device).split(NAIVE_ROWS):
            logits = model.logits(model.hidden(contexts[positions], tokens, positions))
            total += float(F.cross_entropy(logits, tokens[positions + 1], reduction="sum"))
        return total / predicted

    expected, naive = by_definition(), median_seconds(by_definition, device)
    for precision in usable_precisions(device):
        what = f"dev loss of {predicted:,} tokens from given contexts, V 50,257, {precision}"
        check = checked(
            what, abs(mean_nats(model, tokens, segments, precision) - expected), BOUNDS[precision]
        )
        ours = median_seconds(lambda name=precision: mean_nats(model, tokens, segments, name), device)
        share = flops / ours / limits.flops[precision]
        yield row_per_token(what, predicted, naive, ours, share, check)
