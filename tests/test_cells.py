"""Claim: every cell is its sequential definition, however it is computed."""

from __future__ import annotations

from typing import get_args

import pytest
import torch
from model_helpers import VOCABULARY, draw_tokens
from torch import Tensor
from torch.testing import assert_close

from cvfp.models.cells import Cell, HighwayCell, make_cell
from cvfp.models.checkpoint import load_checkpoint, save_checkpoint
from cvfp.models.cvfp import CVFPModel, outputs_of_rows
from cvfp.models.fixed_point import solve_blocks, solve_tokens
from cvfp.models.generation import Stepper
from cvfp.models.recurrence import roll_out
from cvfp.records.config import ModelConfig
from cvfp.records.training_config import Cell as CellName
from cvfp.training.diagnosis import diagnose
from cvfp.training.evaluation import score

CELLS: tuple[str, ...] = get_args(CellName)
SHAPES = [(cell, layers) for cell in CELLS for layers in (1, 2, 3)]
EXACT = {"atol": 1e-10, "rtol": 1e-10}


def config_of(cell: str, layers: int = 1, **changes) -> ModelConfig:
    shape = {"context_dim": 12, "embed_dim": 8, "num_input_tokens": 2, "rounds": 3, "rank": 5}
    return ModelConfig(cell=cell, num_layers=layers, **(shape | {"token_layers": False} | changes))


def cell_of(cell: str, layers: int) -> Cell:
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return make_cell(config_of(cell, layers)).double()


def model_of(cell: str, layers: int = 1, frozen_table: bool = False, **changes) -> CVFPModel:
    config = config_of(cell, layers, **changes)
    with torch.random.fork_rng():
        torch.manual_seed(4)
        table = torch.randn(VOCABULARY, config.embed_dim)
        bias = torch.randn(VOCABULARY)
        return CVFPModel(config, table, bias, frozen_table=frozen_table).double().eval()


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize(("cell", "layers"), SHAPES)
@torch.no_grad()
def test_the_block_solve_and_the_jacobi_sweep_are_the_roll_out(cell: str, layers: int):
    block, features, start = cell_of(cell, layers), drawn(150, 16), drawn(cell_of(cell, layers).state_dim)
    expected, parts = roll_out(block, features, start), block.token_parts(features)
    assert expected.shape[-1] == block.state_dim
    assert_close(solve_blocks(block.step, parts, start, chunk_length=16).states, expected, **EXACT)
    assert_close(solve_tokens(block.step, parts, start).states, expected, **EXACT)
    assert block.contexts(expected).shape == (150, layers, 12)
    assert_close(block(start[None], features[:1])[0], expected[0], **EXACT)


@pytest.mark.parametrize(("cell", "layers"), SHAPES)
def test_what_is_rolled_for_training_is_the_roll_out_with_its_gradients(cell: str, layers: int):
    block, features, starts = cell_of(cell, layers), drawn(6, 3, 16).requires_grad_(), drawn(3, 100)
    starts = starts[:, : block.state_dim]
    contexts, ends = block.roll(features, starts)
    expected = torch.stack([roll_out(block, features[:, row], starts[row]) for row in range(3)], dim=1)
    assert_close(contexts, block.contexts(expected), **EXACT)
    assert_close(ends, expected[-1, :, -1], **EXACT)
    assert not ends.requires_grad
    weights = drawn(*contexts.shape, seed=1)
    inputs = [features, *block.parameters()]
    found = torch.autograd.grad((contexts * weights).sum(), inputs)
    wanted = torch.autograd.grad((block.contexts(expected) * weights).sum(), inputs)
    for one, other in zip(found, wanted, strict=True):
        assert_close(one, other, **EXACT)


@pytest.mark.parametrize(("cell", "layers"), SHAPES)
@torch.no_grad()
def test_rows_side_by_side_are_each_its_own_roll_out(cell: str, layers: int):
    block, features = cell_of(cell, layers), drawn(3, 140, 16)
    starts = drawn(3, 100)[:, : block.state_dim]
    found = outputs_of_rows(block, features, starts)
    for row in range(3):
        assert_close(found[row], roll_out(block, features[row], starts[row]), **EXACT)


@pytest.mark.parametrize(("cell", "layers"), SHAPES)
def test_a_cell_has_as_many_parameters_as_its_config_says(cell: str, layers: int):
    config = config_of(cell, layers)
    assert sum(p.numel() for p in make_cell(config).parameters()) == config.context_block_params
    matrices = [p for name, p in make_cell(config).named_parameters() if p.dim() > 1]
    assert sum(p.numel() for p in matrices) == config.context_block_madds


def test_the_prototypes_core_parameters_are_counted_as_in_its_description():
    def core(width: int) -> int:
        config = ModelConfig(cell="mogrified", context_dim=width, token_layers=False)
        return config.context_block_params + (0 if width == 768 else width * 768)

    assert [round(core(width) / 1e6, 1) for width in (768, 1024, 1536)] == [5.1, 8.6, 15.9]


@pytest.mark.parametrize("token_layers", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_changing_a_token_changes_nothing_before_it(cell: str, token_layers: bool):
    model, tokens = model_of(cell, 2, token_layers=token_layers), draw_tokens(300)
    changed = tokens.clone()
    changed[200] = (changed[200] + 1) % VOCABULARY
    before, after = score(model, tokens).nll, score(model, changed).nll
    assert_close(torch.from_numpy(before[:199]), torch.from_numpy(after[:199]), atol=1e-9, rtol=1e-9)
    assert abs(before[199:] - after[199:]).max() > 1e-3


@pytest.mark.parametrize("frozen_table", [True, False])
@pytest.mark.parametrize("cell", CELLS)
def test_a_checkpoint_gives_back_the_very_same_model(tmp_path, cell: str, frozen_table: bool):
    model, tokens = model_of(cell, 2, frozen_table), draw_tokens(60)
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert (loaded.config, loaded.frozen_table) == (model.config, frozen_table)
    assert (score(loaded, tokens).nll == score(model, tokens).nll).all()


@pytest.mark.parametrize(("cell", "layers"), SHAPES)
@pytest.mark.parametrize("context_dim", [8, 12])
@torch.no_grad()
def test_writing_goes_on_from_the_context_of_what_was_read(cell: str, layers: int, context_dim: int):
    model, tokens = model_of(cell, layers, context_dim=context_dim), draw_tokens(40)
    stepper = Stepper(model, tokens[:30])
    for position in range(29, 39):
        seen = tokens[: position + 1]
        hidden = model.hidden(model.contexts(seen), seen, torch.arange(len(seen)))
        assert_close(stepper.logits(), model.logits(hidden)[-1], atol=1e-8, rtol=1e-8)
        stepper.append(tokens[position + 1 : position + 2])


@pytest.mark.parametrize("cell", CELLS)
def test_every_cell_has_its_health_checked(cell: str):
    found = diagnose(model_of(cell, 2), draw_tokens(400))
    assert found.solve_status == "converged"
    assert found.lipschitz > 0
    assert found.mean_norm > 0


class WithoutForward(HighwayCell):
    """A cell whose weights are only ever taken apart, as one is that was just written."""

    forward = Cell.forward


@torch.no_grad()
def test_a_cell_without_a_forward_of_its_own_writes_the_same_text():
    model, tokens = model_of("highway", 2), torch.arange(30) % VOCABULARY
    expected = Stepper(model, tokens).logits().clone()
    assert isinstance(model.context_block, HighwayCell)
    model.context_block.__class__ = WithoutForward
    assert torch.allclose(Stepper(model, tokens).logits(), expected, rtol=1e-12, atol=1e-12)


def test_every_name_of_a_cell_makes_one_with_as_many_parameters_as_are_counted():
    """A name that is new in the records has to be known wherever cells are told apart."""
    for name in CELLS:
        config = config_of(name, 2)
        cell = make_cell(config)
        assert sum(p.numel() for p in cell.parameters()) == config.context_block_params
