"""Checkpoints: a directory with `model.safetensors` and `config.json`."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch
from pydantic import Field

from cvfp.models.cvfp import CVFPModel
from cvfp.records.config import LARGEST_VOCABULARY, ModelConfig
from cvfp.records.errors import InputError
from cvfp.records.files import atomic_path, is_file, read_json, write_json
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
    from safetensors.torch import save_file

    directory = Path(directory)
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in model.state_dict().items()}
    with atomic_path(directory / WEIGHTS) as temporary:
        save_file(tensors, temporary, metadata={"format": "pt"})
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
    tensors = _read_tensors(directory / WEIGHTS, device)
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


def _read_tensors(path: Path, device: str | torch.device) -> dict[str, torch.Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not is_file(path):
        raise InputError(f"{path}: no such file")
    try:
        tensors = load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged safetensors file: {error}") from error
    dtype = torch.float64 if all(each.dtype == torch.float64 for each in tensors.values()) else torch.float32
    for name, tensor in tensors.items():
        if tensor.dtype != dtype:
            raise InputError(f"{path}: {name} holds {str(tensor.dtype).removeprefix('torch.')}, not float32")
        if not tensor.isfinite().all():
            raise InputError(f"{path}: {name} holds values that are not finite")
    # Copies are aligned as the saved tensors were (the file's are not), so results agree bit for bit.
    return {name: tensor.clone() for name, tensor in tensors.items()}
