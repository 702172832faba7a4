"""Parameters and arithmetic of a run, from its config alone."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

from cvfp.records.arms import arm_kind
from cvfp.records.config import ModelConfig, RunConfig
from cvfp.records.training_config import TokenTraining


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
    """Counts of a CVFP model; `use_context=False` is the one without a context block.

    Without token layers the token block is the projection of contexts to the table's width, if there is one.
    """
    d_c = model.context_dim if use_context else 0
    token_params = token_madds = 0
    if not model.token_layers and d_c != model.embed_dim:
        token_params = token_madds = d_c * model.embed_dim
    for width_in, width_out in pairwise(model.token_widths) if model.token_layers else ():
        projection = width_in * width_out if width_in != width_out else 0
        weights = (d_c + width_in) * width_out + projection
        biases = width_out * (2 if projection else 1) + 2 * width_out
        token_madds += weights
        token_params += weights + biases
    return ModelCost(
        context_block_params=model.context_block_params if use_context else 0,
        token_block_params=token_params,
        head_params=vocab_size * (model.embed_dim + bool(output_bias)),
        context_madds=model.context_block_madds if use_context else 0,
        token_madds=token_madds,
        head_madds=vocab_size * model.embed_dim,
    )


def phase1_flops(cost: ModelCost, tokens: int, steps: int) -> float:
    """3 * 2 FLOPs per weight, token and sweep: forward, gradient of inputs, gradient of weights.

    An upper bound: the first layer's inputs are detached, so their gradient is not computed.
    """
    return 6.0 * cost.context_madds * tokens * steps


def training_flops(core_madds: int, head_madds: int, tokens_seen: int, embedding_trained: bool) -> float:
    """Layers 6, head 6 (4 when frozen: no gradient of its weights) FLOPs per weight and token seen."""
    return tokens_seen * (6.0 * core_madds + (6.0 if embedding_trained else 4.0) * head_madds)


def phase2_flops(cost: ModelCost, tokens_seen: int, embedding_trained: bool) -> float:
    """FLOPs of the token block and the head."""
    return training_flops(cost.token_madds, cost.head_madds, tokens_seen, embedding_trained)


@dataclass(frozen=True)
class RunCost:
    """What a run's config says of its cost: parameters, multiply-adds per scored token, FLOPs to the caps."""

    total_params: int
    scored_madds: int
    flops: float


def run_cost(config: RunConfig, vocab_size: int, tokens: int) -> RunCost | None:
    """The cost of training on so many tokens up to all caps (most runs stop earlier).

    None for arms that count, and for one of the user's own.
    """
    config, kind = config.resolved(), arm_kind(config.arm)
    training = config.token_training
    if training is None:
        return None
    bias, trained = config.embedding.output_bias, config.embedding.trained
    if kind.two_phase:
        cost = model_cost(config.model, vocab_size, bias, kind.has_context)
        sweeps = config.phase1.max_iterations - 1 if "phase1" in kind.sections else 0
        flops = phase1_flops(cost, tokens, sweeps)
        flops += phase2_flops(cost, _most_read(config.phase2, tokens), trained)
        scored = cost.context_madds + cost.token_madds + cost.head_madds
        return RunCost(cost.total_params, scored, flops)
    if kind.has_context:
        cost = model_cost(config.shape, vocab_size, bias)
        core = cost.context_madds + cost.token_madds
        flops = training_flops(core, cost.head_madds, _most_read(config.joint, tokens), trained)
        flops *= 1 + config.joint.teachers
        return RunCost(cost.total_params, core + cost.head_madds, flops)
    params, madds = _sequence_core(config)
    head = vocab_size * config.model.embed_dim
    flops = training_flops(madds, head, _most_read(training, tokens), trained)
    return RunCost(params + head + vocab_size * bool(bias), madds + head, flops)


TOKENS_PER_DOCUMENT, VOCABULARY = 1000, 20_000
"""Of a run whose data is not looked at."""


def relative_cost(config: RunConfig) -> float:
    """FLOPs of a run whose data is not looked at, of which only ratios mean something; 0 where `run_cost` is
    None."""
    cost = run_cost(config, VOCABULARY, TOKENS_PER_DOCUMENT * config.data.num_samples)
    return 0.0 if cost is None else cost.flops


def _most_read(settings: TokenTraining, tokens: int) -> int:
    """Tokens that steps read if training on so many runs to its end."""
    return settings.most_tokens(tokens) * settings.readings


def _sequence_core(config: RunConfig) -> tuple[int, int]:
    """(parameters, multiply-adds per token) of an LSTM's or Transformer's layers."""
    width = config.model.embed_dim
    if config.arm == "lstm":
        return config.lstm.num_layers * 8 * (width**2 + width), config.lstm.num_layers * 8 * width**2
    settings = config.transformer
    params = settings.num_layers * (12 * width**2 + 13 * width) + (settings.window + 2) * width
    return params, settings.num_layers * (12 * width**2 + settings.window * width)
