"""Parameters and arithmetic of a run, from its config alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from cvfp.records.arms import ARM_KINDS
from cvfp.records.config import ModelConfig, RunConfig


@dataclass(frozen=True)
class ModelCost:
    """Parameter counts, and multiply-adds per token of a forward pass (1 multiply-add = 2 FLOPs)."""

    context_block_params: int
    token_block_params: int
    head_params: int
    context_madds: int
    token_madds: int
    head_madds: int

    @property
    def total_params(self) -> int:
        return self.context_block_params + self.token_block_params + self.head_params


def model_cost(model: ModelConfig, vocab_size: int, output_bias: bool, use_context: bool = True) -> ModelCost:
    """Counts of a CVFP model; `use_context=False` is the one without a context block."""
    d_c = model.context_dim if use_context else 0
    d_f = model.num_input_tokens * model.embed_dim
    token_params = token_madds = 0
    for width_in, width_out in pairwise(model.token_widths):
        projection = width_in * width_out if width_in != width_out else 0
        weights = (d_c + width_in) * width_out + projection
        biases = width_out * (2 if projection else 1) + 2 * width_out
        token_madds += weights
        token_params += weights + biases
    return ModelCost(
        context_block_params=model.context_block_params if use_context else 0,
        token_block_params=token_params,
        head_params=vocab_size * (model.embed_dim + bool(output_bias)),
        context_madds=model.num_layers * (d_c + d_f) * d_c,
        token_madds=token_madds,
        head_madds=vocab_size * model.embed_dim,
    )


def phase1_flops(cost: ModelCost, tokens: int, steps: int) -> float:
    """3 * 2 FLOPs per weight, token and sweep: forward, gradient of inputs, gradient of weights.

    An upper bound: the first layer's inputs are detached, so their gradient is not computed.
    """
    return 6.0 * cost.context_madds * tokens * steps


def phase2_flops(cost: ModelCost, tokens_seen: int, embedding_trained: bool) -> float:
    """Token block 6, head 6 (4 when frozen: no gradient of its weights) FLOPs per weight and token seen."""
    head = 6.0 if embedding_trained else 4.0
    return tokens_seen * (6.0 * cost.token_madds + head * cost.head_madds)


def expected_flops(config: RunConfig, vocab_size: int, tokens: int) -> float:
    """Training FLOPs if both phases run to their caps (most stop earlier). 0 for arms without gradients."""
    kind = ARM_KINDS[config.arm]
    if not kind.neural:
        return 0.0
    cost = model_cost(config.model, vocab_size, config.embedding.output_bias, kind.has_context)
    sweeps = config.phase1.max_iterations - 1 if "phase1" in kind.sections else 0
    first = phase1_flops(cost, tokens, sweeps)
    return first + phase2_flops(cost, tokens * config.phase2.epochs, config.embedding.trained)
