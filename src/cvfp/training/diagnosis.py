"""All health checks of a model's context block on a text, with their verdicts."""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from cvfp.metrics import context_health as health
from cvfp.models.cvfp import CVFPModel
from cvfp.models.replay import ReplayedFunction
from cvfp.records.results import Health
from cvfp.records.texts import N_

TEXT_POSITIONS = 4096
"""Positions of the text that are looked at."""
PLACES = 64
"""Random states, and places of the text, at which the block is probed."""
MEMORY_BOUND = 1024
"""Longest memory that is looked for, in positions."""

UNSETTLED = {
    "diverging": N_("diverging under repeated roll-outs"),
    "unstable": N_("unstable under repeated roll-outs"),
}


@torch.no_grad()
def diagnose(model: CVFPModel, tokens: Int[Tensor, " N"], seed: int = 0) -> Health:
    """Probe the block on the first positions of a text and on random inputs (drawn with `seed`)."""
    block = model.context_block
    assert block is not None
    tokens = tokens[:TEXT_POSITIONS]
    features = model.context_features(tokens, torch.arange(len(tokens), device=tokens.device))
    parts = block.token_parts(features)
    zero = parts.new_zeros(block.state_dim)
    solved = model.solve_contexts(tokens, torch.arange(len(tokens), device=tokens.device), zero)
    states = solved.states[:, -1]

    def step(c: Tensor, z: Tensor) -> Tensor:
        return block.step(c, z)[:, -1]

    def roll(start: Tensor) -> Tensor:
        positions = torch.arange(len(tokens), device=tokens.device)
        return model.solve_contexts(tokens, positions, start).states[:, -1]

    random_states, random_parts = _random_inputs(model, seed)
    places = _places(len(tokens), seed).to(tokens.device)
    norm, deviation = health.spread(block.contexts(solved.states)[:, -1])
    trend, errors = health.trial_convergence(roll, states)
    values = {
        "identity_cosine": health.identity_cosine(step, random_states, random_parts),
        "mean_norm": norm,
        "mean_deviation": deviation,
        "trial_trend": trend,
        "trial_mse": tuple(errors),
        "lipschitz": health.local_lipschitz(step, states[places], parts[places + 1], seed),
        "memory_length": _memory(step, states, parts),
        "solve_passes": solved.passes,
        "solve_chunks": solved.chunks,
        "solve_status": solved.status,
        "solve_contraction": solved.contraction,
    }
    return Health.parse(values | {"failures": _failures(values, len(tokens))}, "health of the contexts")


def _random_inputs(model: CVFPModel, seed: int) -> tuple[Tensor, Tensor]:
    """Normal states and normal token features: what the block does away from any text."""
    block, config = model.context_block, model.config
    assert block is not None
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(PLACES, block.state_dim, generator=generator).to(model.read_table)
    width = config.num_input_tokens * config.embed_dim
    features = torch.randn(PLACES, width, generator=generator).to(model.read_table)
    return states, block.token_parts(features)


def _places(num_tokens: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, max(num_tokens - 1, 1), (PLACES,), generator=generator)


def _memory(step: health.Step, states: Tensor, parts: Tensor) -> int | None:
    """Memory length at evenly spaced places that leave room for the longest memory looked for."""
    bound = min(MEMORY_BOUND, len(parts) // 2)
    places = torch.linspace(0, len(parts) - bound - 1, PLACES, device=parts.device).long()
    following = places[:, None] + torch.arange(1, bound + 1, device=parts.device)
    if parts.is_cuda:
        step = ReplayedFunction(step, states[places].repeat(2, 1), parts[places].repeat(2, 1, 1))
    return health.memory_length(step, states[places], parts[following])


def _failures(values: dict[str, Any], num_tokens: int) -> tuple[str, ...]:
    found = []
    if values["identity_cosine"] > health.IDENTITY_COSINE:
        found.append(N_("identity mapping: the block returns nearly its input"))
    if min(values["mean_norm"], values["mean_deviation"]) < health.DEGENERATE:
        found.append(N_("degenerate contexts: they hardly differ between positions"))
    if values["trial_trend"] in UNSETTLED:
        found.append(UNSETTLED[values["trial_trend"]])
    if values["memory_length"] is None and num_tokens >= 2 * MEMORY_BOUND:
        found.append(N_("expanding: a wrong start is not forgotten"))
    return tuple(found)
