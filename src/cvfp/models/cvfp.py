"""The CVFP language model: embedding, cell, token layers or none, tied head; one text or several at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from cvfp.models.cells import Cell, make_cell
from cvfp.models.fixed_point import START_CHUNK, FixedPoint, Tolerance, solve_blocks
from cvfp.models.layers import TokenBlock, features_of, token_features
from cvfp.models.parts import Parts
from cvfp.records.config import ModelConfig

SEGMENT = {"cpu": 32_768, "mps": 32_768, "cuda": 262_144}
"""Positions solved at once: bounds memory and fills a GPU; the result does not depend on it beyond the
tolerance."""


class CVFPModel(nn.Module):
    """Contexts by recurrence, logits from them through the embedding.

    Between contexts and head stand the published token layers, which read the token features too, or none:
    then u_t = P c_t, P the identity where d_c = d_e. The token features and the tied head read `embedding`.
    In two-phase training contexts are computed from `context_table`, a frozen copy of the initial embedding
    (equal to it as long as phase 2 does not train it); in joint training from `embedding` itself.

    Args:
        config: the shape; `context_dim` 0 is not legal there, `use_context=False` gives the ablation.
        table: (V, d_e) initial embedding.
        output_bias: (V,) initial output bias, or None for a model without one.
        use_context: False leaves the context block out: token layers see the token features alone.
        frozen_table: whether contexts are computed from a frozen copy of the table.
    """

    context_table: Tensor

    def __init__(
        self,
        config: ModelConfig,
        table: Float[Tensor, "V d_e"],
        output_bias: Float[Tensor, " V"] | None = None,
        use_context: bool = True,
        frozen_table: bool = True,
    ) -> None:
        super().__init__()
        self.config = config
        self.context_dim = config.context_dim if use_context else 0
        self.embedding = nn.Parameter(table.clone())
        self.frozen_table = frozen_table
        if frozen_table:
            self.register_buffer("context_table", table.clone())
        self.output_bias = None if output_bias is None else nn.Parameter(output_bias.clone())
        self.context_block = make_cell(config) if use_context else None
        self.state_dim = 0 if self.context_block is None else self.context_block.state_dim
        self.token_block = TokenBlock(config.token_widths, self.context_dim) if config.token_layers else None
        self.projection = None
        if not config.token_layers and config.context_dim != config.embed_dim:
            self.projection = nn.Linear(config.context_dim, config.embed_dim, bias=False)

    @property
    def read_table(self) -> Float[Tensor, "V d_e"]:
        """The table that contexts are computed from."""
        return self.context_table if self.frozen_table else self.embedding

    @property
    def vocab_size(self) -> int:
        return len(self.embedding)

    @property
    def device(self) -> torch.device:
        return self.embedding.device

    def context_features(
        self, tokens: Int[Tensor, " N"], positions: Int[Tensor, " B"]
    ) -> Float[Tensor, "B d_f"]:
        """What the cell reads: features from `read_table`."""
        return token_features(self.read_table, tokens, positions, self.config.num_input_tokens)

    def hidden(
        self,
        contexts: Float[Tensor, "B L d_c"],
        tokens: Int[Tensor, " N"],
        positions: Int[Tensor, " B"],
        dropout: float = 0.0,
    ) -> Float[Tensor, "B d_e"]:
        """u_t at the given positions. `dropout` zeroes elements of the features and of u_t."""
        f = token_features(self.embedding, tokens, positions, self.config.num_input_tokens)
        return self.hidden_from(contexts, f, dropout)

    def hidden_from(
        self, contexts: Float[Tensor, "B L d_c"], features: Float[Tensor, "B d_f"], dropout: float = 0.0
    ) -> Float[Tensor, "B d_e"]:
        """This is `hidden` from token features, which only token layers read."""
        if self.token_block is None:
            return self.projected(nn.functional.dropout(contexts[:, -1], dropout))
        u = self.token_block(contexts, nn.functional.dropout(features, dropout))
        return nn.functional.dropout(u, dropout)

    def projected(self, contexts: Float[Tensor, "... d_c"]) -> Float[Tensor, "... d_e"]:
        """P c of a model without token layers."""
        return contexts if self.projection is None else self.projection(contexts)

    def logits(self, hidden: Float[Tensor, "B d_e"]) -> Float[Tensor, "B V"]:
        """u_t E^T, plus the output bias if there is one."""
        return nn.functional.linear(hidden, self.embedding, self.output_bias)

    @torch.no_grad()
    def solve_contexts(
        self,
        tokens: Int[Tensor, " N"],
        positions: Int[Tensor, " B"],
        start: Float[Tensor, " d_s"],
        tolerance: Tolerance | None = None,
    ) -> FixedPoint:
        """The cell's outputs at consecutive `positions` by the block solve, from the state before them."""
        if self.context_block is None:
            raise ValueError("a model without a context block has no contexts to solve")
        # Chunks could not agree to the tolerance in the few bits of autocast.
        with torch.autocast(tokens.device.type, enabled=False):
            tolerance = tolerance or Tolerance.of(start.dtype, self.context_block.tolerance)
            inputs = self.context_block.token_parts(self.context_features(tokens, positions))
            return solve_blocks(self.context_block.step, inputs, start, tolerance)

    @torch.no_grad()
    def output_segments(
        self,
        tokens: Int[Tensor, " N"],
        segment: int | None = None,
        first: int = 0,
        last: int | None = None,
        start: Float[Tensor, " d_s"] | None = None,
    ) -> Iterator[tuple[Int[Tensor, " B"], Float[Tensor, "B L d_s"]]]:
        """(positions, outputs of the cell) of [first, last) of a stream, `SEGMENT` positions at a time.

        `start` is the state before `first`, by default zero; every segment goes on from the one before.
        """
        segment = SEGMENT[tokens.device.type] if segment is None else segment
        state = self.read_table.new_zeros(self.state_dim) if start is None else start
        end = len(tokens) if last is None else last

        def solve(begin: int, stop: int) -> tuple[Tensor, Tensor]:
            positions = torch.arange(begin, stop, device=tokens.device)
            if self.context_block is None:
                return positions, state.new_zeros(len(positions), self.config.num_layers, 0)
            return positions, self.solve_contexts(tokens, positions, state).states

        for positions, outputs in Parts(segment).over(first, end, solve):
            state = outputs[-1, -1]
            yield positions, outputs

    def context_segments(
        self,
        tokens: Int[Tensor, " N"],
        segment: int | None = None,
        first: int = 0,
        last: int | None = None,
        start: Float[Tensor, " d_s"] | None = None,
    ) -> Iterator[tuple[Int[Tensor, " B"], Float[Tensor, "B L d_c"]]]:
        """This is `output_segments` of the contexts alone."""
        for positions, outputs in self.output_segments(tokens, segment, first, last, start):
            yield positions, outputs if self.context_block is None else self.context_block.contexts(outputs)

    def contexts(self, tokens: Int[Tensor, " N"]) -> Float[Tensor, "N L d_c"]:
        """Contexts of a whole stream, equal to the roll-out from zero within the solver's tolerance."""
        parts = [contexts for _, contexts in self.context_segments(tokens)]
        if not parts:
            return self.read_table.new_zeros(0, self.config.num_layers, self.context_dim)
        return torch.cat(parts)

    def generate(
        self,
        prompt: Int[Tensor, " P"],
        max_new_tokens: int,
        temperature: float = 1.0,
        top_k: int | None = None,
        top_p: float | None = None,
        seed: int = 0,
        dtype: torch.dtype | None = None,
    ) -> Iterator[int]:
        """Token ids that follow a prompt, one by one: see `cvfp.models.generation.generate`."""
        from cvfp.models.generation import generate

        return generate(self, prompt, max_new_tokens, temperature, top_k, top_p, seed, dtype)

    def save_pretrained(self, directory: Path | str) -> None:
        """Write `model.safetensors` and `config.json` into a directory. Raises `CvfpError` if it cannot."""
        from cvfp.models.checkpoint import save_checkpoint

        save_checkpoint(self, Path(directory))

    @classmethod
    def from_pretrained(cls, directory: Path | str, device: str | torch.device = "cpu") -> CVFPModel:
        """Read what `save_pretrained` wrote. Raises `InputError` for missing or damaged files."""
        from cvfp.models.checkpoint import load_checkpoint

        return load_checkpoint(Path(directory), device)


# --- Several texts side by side, padded or not, each from a state of its own.


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
