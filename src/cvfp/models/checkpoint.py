"""Checkpoints: a directory with `model.safetensors` and `config.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from cvfp.models.cvfp import CVFPModel
from cvfp.models.tensor_file import read_tensors, write_tensors
from cvfp.records.config import LARGEST_VOCABULARY, ModelConfig
from cvfp.records.errors import InputError
from cvfp.records.files import read_json, write_json
from cvfp.records.schema import Schema

WEIGHTS, CONFIG = "model.safetensors", "config.json"


class CheckpointConfig(Schema):
    """`config.json`: enough to build the module that the weights belong to."""

    format: Literal[1]
    model: ModelConfig
    vocab_size: int = Field(ge=1, le=LARGEST_VOCABULARY)
    output_bias: bool
    use_context: bool


def save_checkpoint(model: CVFPModel, directory: Path) -> None:
    """Write the model; both embedding tables are kept (they differ once phase 2 has trained one)."""
    directory = Path(directory)
    write_tensors(directory / WEIGHTS, model.state_dict())
    config = CheckpointConfig(
        format=1,
        model=model.config,
        vocab_size=model.vocab_size,
        output_bias=model.output_bias is not None,
        use_context=model.context_block is not None,
    )
    write_json(directory / CONFIG, config.model_dump(mode="json"))


def load_checkpoint(directory: Path, device: str | torch.device = "cpu") -> CVFPModel:
    """Read a checkpoint.

    Raises:
        InputError: a file is missing or damaged, of another format version, or the weights do not fit.
    """
    directory = Path(directory)
    config = CheckpointConfig.parse_json(read_json(directory / CONFIG), str(directory / CONFIG))
    tensors = read_tensors(directory / WEIGHTS, device)
    _check_values(tensors, directory / WEIGHTS)
    with torch.device("meta"):
        table = torch.empty(config.vocab_size, config.model.embed_dim)
        bias = torch.empty(config.vocab_size) if config.output_bias else None
        model = CVFPModel(config.model, table, bias, config.use_context)
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise InputError(f"{directory}: weights do not fit the config: {first}") from error
    return model.eval()


def _check_values(tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Raises `InputError` unless all are finite numbers of one type, float32 or float64."""
    dtype = torch.float64 if all(each.dtype == torch.float64 for each in tensors.values()) else torch.float32
    for name, tensor in tensors.items():
        if tensor.dtype != dtype:
            raise InputError(f"{path}: {name} holds {str(tensor.dtype).removeprefix('torch.')}, not float32")
        if not tensor.isfinite().all():
            raise InputError(f"{path}: {name} holds values that are not finite")
