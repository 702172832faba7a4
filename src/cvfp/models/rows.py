"""Several texts side by side, padded or not, each from a state of its own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from cvfp.models.cells import Cell
from cvfp.models.cvfp import SEGMENT, CVFPModel
from cvfp.models.fixed_point import START_CHUNK, solve_blocks
from cvfp.models.layers import features_of

BEFORE = -1
"""Stands in a window for a token before the start."""


@torch.no_grad()
def outputs_of_rows(
    cell: Cell, features: Float[Tensor, "S T d_f"], starts: Float[Tensor, "S d_s"]
) -> Float[Tensor, "S T L d_s"]:
    """A cell's outputs on S texts of T positions, by one block solve over all of them put together.

    Where a text begins the stream takes its start instead of the state before. Texts up to `START_CHUNK`
    positions are one chunk each and so are rolled out side by side; one position costs one step.
    """
    count, length = features.shape[:2]
    if length == 1:
        return cell(starts, features[:, 0])[:, None]
    chunk = min(length, START_CHUNK)
    padded = -(-length // chunk) * chunk
    parts = cell.token_parts(features.flatten(0, 1))
    shape, width = parts.shape[1:], starts.shape[1]
    # Beside the token parts stands what the state is set to, NaN where it is not.
    inputs = F.pad(parts.flatten(1).unflatten(0, (count, length)), (0, 0, 0, padded - length))
    inputs = F.pad(inputs, (0, width), value=torch.nan)
    inputs[:, 0, -width:] = starts

    def step(s: Tensor, z: Tensor) -> Tensor:
        new = z[:, -width:]
        return cell.step(torch.where(new.isnan(), s, new), z[:, :-width].unflatten(1, shape))

    solved = solve_blocks(step, inputs.flatten(0, 1), starts[0], chunk_length=chunk)
    return solved.states.unflatten(0, (count, padded))[:, :length]


def read_rows(
    model: CVFPModel,
    tokens: Int[Tensor, "S T"],
    held: Bool[Tensor, "S T"],
    state: Float[Tensor, "S d_s"],
    window: Int[Tensor, "S n"],
) -> tuple[Float[Tensor, "S T d_e"], Float[Tensor, "S d_s"], Int[Tensor, "S n"]]:
    """Hidden states u_t of texts side by side, and state and window after them.

    What is not `held` (padding, wherever it is) is taken out of its text: it changes nothing, and there u_t
    is that of the latest token before it. Gradients reach what reads the contexts, not the contexts.

    Args:
        tokens: ids; of what is not held they say nothing.
        held: which of them are the text; at least one in every row.
        state, window: the state before the first token; `BEFORE` in the window stands for no token.
    """
    count = held.sum(dim=1)
    # Held tokens go to the left, in their order: what is behind them cannot change anything before it.
    order = (~held).long().argsort(dim=1, stable=True)
    line = torch.cat([window, tokens.where(held, 0).gather(1, order)], dim=1)
    number, rows = window.shape[1], torch.arange(len(tokens), device=tokens.device)
    windows = line.unfold(1, number, 1)[:, 1:]
    last, parts = state, []
    for part in windows.split(max(SEGMENT[tokens.device.type] // len(tokens), 1), dim=1):
        outputs, contexts = _outputs(model, part, state)
        u = model.hidden_from(contexts.flatten(0, 1), _features(model.embedding, part).flatten(0, 1))
        parts.append(u.unflatten(0, part.shape[:2]))
        end = (count > 0) & (count <= part.shape[1])
        at_end = outputs[rows, (count - 1).clamp(0, part.shape[1] - 1), -1]
        last, state, count = (
            torch.where(end[:, None], at_end, last),
            outputs[:, -1, -1],
            count - part.shape[1],
        )
    place = (held.cumsum(dim=1) - 1).clamp(min=0)
    hidden = torch.cat(parts, dim=1).gather(1, place[..., None].expand(-1, -1, model.config.embed_dim))
    newest = held.sum(dim=1, keepdim=True) + torch.arange(number, device=tokens.device)
    return hidden, last, line.gather(1, newest)


def _outputs(
    model: CVFPModel, windows: Int[Tensor, "S T n"], starts: Float[Tensor, "S d_s"]
) -> tuple[Float[Tensor, "S T L d_s"], Float[Tensor, "S T L d_c"]]:
    """Outputs of the cell, and the contexts in them."""
    if model.context_block is None:
        nothing = starts.new_zeros(*windows.shape[:2], model.config.num_layers, 0)
        return nothing, nothing
    # Contexts are exact, whatever precision is trained in.
    with torch.no_grad(), torch.autocast(windows.device.type, enabled=False):
        outputs = outputs_of_rows(model.context_block, _features(model.read_table, windows), starts)
    return outputs, model.context_block.contexts(outputs)


def _features(table: Float[Tensor, "V d_e"], windows: Int[Tensor, "S T n"]) -> Float[Tensor, "S T d_f"]:
    """Token features of windows of ids."""
    flat = windows.flatten(0, 1)
    return features_of(F.embedding(flat.clamp(min=0), table), flat < 0).unflatten(0, windows.shape[:2])
