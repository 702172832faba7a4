"""Several texts side by side, padded or not, each from a state of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cvfp.models.cvfp import SEGMENT, CVFPModel
from cvfp.models.fixed_point import START_CHUNK, solve_blocks
from cvfp.models.layers import ContextBlock, features_of

BEFORE = -1
"""Stands in a window for a token before the start."""


@torch.no_grad()
def contexts_of_rows(
    block: ContextBlock, features: Float[Tensor, "S T d_f"], starts: Float[Tensor, "S d_c"]
) -> Float[Tensor, "S T L d_c"]:
    """Contexts of S texts of T positions, by one block solve over all of them put together.

    Where a text begins the stream takes its start instead of the state before. Texts up to `START_CHUNK`
    positions are one chunk each and so are rolled out side by side; one position costs one step.
    """
    count, length = features.shape[:2]
    if length == 1:
        return block(starts, features[:, 0])[:, None]
    chunk = min(length, START_CHUNK)
    padded = -(-length // chunk) * chunk
    parts = block.token_parts(features.flatten(0, 1)).unflatten(0, (count, length))
    # Before the layers stands what the state is set to, NaN where it is not.
    inputs = F.pad(parts, (0, 0, 1, 0, 0, padded - length), value=torch.nan)
    inputs[:, 0, 0] = starts
    inputs[:, length:, 1:] = 0.0

    def step(c: Tensor, z: Tensor) -> Tensor:
        new = z[:, 0]
        return torch.cat([z[:, :1], block.step(torch.where(new.isnan(), c, new), z[:, 1:])], dim=1)

    solved = solve_blocks(step, inputs.flatten(0, 1), starts[0], chunk_length=chunk)
    return solved.states.unflatten(0, (count, padded))[:, :length, 1:]


def read_rows(
    model: CVFPModel,
    tokens: Int[Tensor, "S T"],
    held: Bool[Tensor, "S T"],
    context: Float[Tensor, "S d_c"],
    window: Int[Tensor, "S n"],
) -> tuple[Float[Tensor, "S T d_e"], Float[Tensor, "S d_c"], Int[Tensor, "S n"]]:
    """Hidden states u_t of texts side by side, and context and window after them.

    What is not `held` (padding, wherever it is) is taken out of its text: it changes nothing, and there u_t
    is that of the latest token before it. Gradients reach the token block and `embedding`, not the contexts.

    Args:
        tokens: ids; of what is not held they say nothing.
        held: which of them are the text; at least one in every row.
        context, window: the state before the first token; `BEFORE` in the window stands for no token.
    """
    count = held.sum(dim=1)
    # Held tokens go to the left, in their order: what is behind them cannot change anything before it.
    order = (~held).long().argsort(dim=1, stable=True)
    line = torch.cat([window, tokens.where(held, 0).gather(1, order)], dim=1)
    number, rows = window.shape[1], torch.arange(len(tokens), device=tokens.device)
    windows = line.unfold(1, number, 1)[:, 1:]
    last, parts = context, []
    for part in windows.split(max(SEGMENT[tokens.device.type] // len(tokens), 1), dim=1):
        contexts = _contexts(model, part, context)
        u = model.hidden_from(contexts.flatten(0, 1), _features(model.embedding, part).flatten(0, 1))
        parts.append(u.unflatten(0, part.shape[:2]))
        end = (count > 0) & (count <= part.shape[1])
        at_end = contexts[rows, (count - 1).clamp(0, part.shape[1] - 1), -1]
        last, context, count = (
            torch.where(end[:, None], at_end, last),
            contexts[:, -1, -1],
            count - part.shape[1],
        )
    place = (held.cumsum(dim=1) - 1).clamp(min=0)
    hidden = torch.cat(parts, dim=1).gather(1, place[..., None].expand(-1, -1, model.config.embed_dim))
    newest = held.sum(dim=1, keepdim=True) + torch.arange(number, device=tokens.device)
    return hidden, last, line.gather(1, newest)


def _contexts(
    model: CVFPModel, windows: Int[Tensor, "S T n"], starts: Float[Tensor, "S d_c"]
) -> Float[Tensor, "S T L d_c"]:
    if model.context_block is None:
        return starts.new_zeros(*windows.shape[:2], model.config.num_layers, 0)
    # Phase 2 reads exact contexts whatever precision it trains in.
    with torch.no_grad(), torch.autocast(windows.device.type, enabled=False):
        return contexts_of_rows(model.context_block, _features(model.context_table, windows), starts)


def _features(table: Float[Tensor, "V d_e"], windows: Int[Tensor, "S T n"]) -> Float[Tensor, "S T d_f"]:
    """Token features of windows of ids."""
    flat = windows.flatten(0, 1)
    return features_of(F.embedding(flat.clamp(min=0), table), flat < 0).unflatten(0, windows.shape[:2])
