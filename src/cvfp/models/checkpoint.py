"""Checkpoints: a directory with `model.safetensors` and `config.json`, read natively and by transformers.

Tensors have the names that `cvfp.hf.CvfpForCausalLM` gives them, and the config is its config: what either
side writes the other reads.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import ConfigDict, Field
from torch import Tensor

from cvfp.models.cvfp import CVFPModel
from cvfp.records.config import LARGEST_VOCABULARY, ModelConfig
from cvfp.records.errors import InputError, WriteError
from cvfp.records.files import atomic_path, is_file, read_json, write_json

# --- Tensors in safetensors files: written whole or not at all, read without running anything.


def write_tensors(path: Path, tensors: Mapping[str, Tensor], metadata: dict[str, str] | None = None) -> None:
    """Write tensors from any device. Raises `WriteError` when the file cannot be written."""
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    held = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        try:
            save_file(held, temporary, metadata={"format": "pt"} | (metadata or {}))
        except SafetensorError as error:
            raise WriteError(f"cannot write {path}: {error}") from error


def read_tensors(path: Path, device: str | torch.device = "cpu") -> dict[str, Tensor]:
    """The tensors of a file.

    Raises:
        InputError: there is no such file, or it is damaged.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not is_file(path):
        raise InputError(f"{path}: no such file")
    try:
        tensors = load_file(path, device=str(device))
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged safetensors file: {error}") from error
    # Copies are aligned as the saved tensors were (the file's are not), so results agree bit for bit.
    return {name: tensor.clone() for name, tensor in tensors.items()}


def read_metadata(path: Path) -> dict[str, str]:
    """What was written beside the tensors. Raises `InputError` as `read_tensors`."""
    from safetensors import SafetensorError, safe_open

    if not is_file(path):
        raise InputError(f"{path}: no such file")
    try:
        with safe_open(path, framework="pt") as file:
            return file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise InputError(f"{path}: damaged safetensors file: {error}") from error


# --- The directory of a checkpoint.


WEIGHTS, CONFIG = "model.safetensors", "config.json"
FORMAT = 3
READABLE = (2, 3)
"""Format 2 knows the residual cell with token layers alone."""
MODEL_TYPE, ARCHITECTURE = "cvfp", "CvfpForCausalLM"
PREFIX = "model."
"""Before the name of every tensor on disk: the attribute that holds the native model in transformers."""


class CheckpointConfig(ModelConfig):
    """`config.json`: enough to build the module of the weights. What transformers adds is not looked at."""

    model_config = ConfigDict(extra="ignore")

    model_type: Literal["cvfp"] = MODEL_TYPE
    format: Literal[2, 3] = FORMAT
    vocab_size: int = Field(ge=1, le=LARGEST_VOCABULARY)
    output_bias: bool
    use_context: bool
    frozen_table: bool = True
    """Whether contexts are computed from `context_table`, a table of their own; else from the embedding."""
    tie_word_embeddings: Literal[True] = True
    """The head is `embedding`; a `context_table` is tied to nothing."""

    @classmethod
    def of(cls, model: CVFPModel) -> CheckpointConfig:
        """The config of a model."""
        return cls(
            **model.config.model_dump(),
            vocab_size=model.vocab_size,
            output_bias=model.output_bias is not None,
            use_context=model.context_block is not None,
            frozen_table=model.frozen_table,
        )

    def build(self, table: torch.Tensor) -> CVFPModel:
        """A model of this shape on the (V, d_e) table, its output bias zero."""
        bias = table.new_zeros(self.vocab_size) if self.output_bias else None
        shape = ModelConfig(**{name: getattr(self, name) for name in ModelConfig.model_fields})
        return CVFPModel(shape, table, bias, self.use_context, self.frozen_table)


def save_checkpoint(model: CVFPModel, directory: Path) -> None:
    """Write the model; of two embedding tables both are kept (they differ once phase 2 has trained one)."""
    directory = Path(directory)
    write_tensors(directory / WEIGHTS, {PREFIX + name: tensor for name, tensor in model.state_dict().items()})
    dtype = str(model.embedding.dtype).removeprefix("torch.")
    config = {"architectures": [ARCHITECTURE], "dtype": dtype} | CheckpointConfig.of(model).model_dump()
    write_json(directory / CONFIG, config)


def load_checkpoint(directory: Path, device: str | torch.device = "cpu") -> CVFPModel:
    """Read a checkpoint that `save_checkpoint` or transformers wrote.

    Raises:
        InputError: a file is missing or damaged, of another format version, or the weights do not fit.
    """
    directory = Path(directory)
    config = read_config(directory / CONFIG)
    tensors = {}
    for name, tensor in read_tensors(directory / WEIGHTS, device).items():
        _check_values(name, tensor, directory / WEIGHTS)
        tensors[name.removeprefix(PREFIX)] = tensor
    if len({tensor.dtype for tensor in tensors.values()}) > 1:
        raise InputError(f"{directory / WEIGHTS}: holds both float32 and float64")
    with torch.device("meta"):
        model = config.build(torch.empty(config.vocab_size, config.embed_dim))
    try:
        model.load_state_dict(tensors, assign=True)
    except RuntimeError as error:
        first = str(error).splitlines()[-1].strip()
        raise InputError(f"{directory}: weights do not fit the config: {first}") from error
    return model.eval()


def read_config(path: Path) -> CheckpointConfig:
    """The config in a file. Raises `InputError` for one of another kind of model or format."""
    found = read_json(path)
    if isinstance(found, dict):
        check_format(found, str(path))
    return CheckpointConfig.parse_json(found, str(path))


def check_format(config: dict[str, Any], where: str) -> None:
    """Raises `InputError` for the config of another kind of model, or of another version of the format."""
    if config.get("format") not in READABLE or isinstance(config["format"], bool):
        found = (
            f"format {config['format']!r}"[:60] if "format" in config else "a file without a format number"
        )
        newer = isinstance(config.get("format"), int) and config["format"] > FORMAT
        way = "install a newer cvfp" if newer else "train it again"
        reads = f"this cvfp reads checkpoints of formats {' and '.join(map(str, READABLE))}"
        raise InputError(f"{where}: {found}, {reads}; {way}")
    if config.get("model_type") != MODEL_TYPE:
        found = repr(config.get("model_type"))[:60]
        raise InputError(f"{where}: model_type is {found}, a CVFP model has {MODEL_TYPE!r}")


def _check_values(name: str, tensor: torch.Tensor, path: Path) -> None:
    """Raises `InputError` unless all are finite numbers of float32 or float64."""
    if tensor.dtype not in (torch.float32, torch.float64):
        raise InputError(f"{path}: {name} holds {str(tensor.dtype).removeprefix('torch.')}, not float32")
    if not tensor.isfinite().all():
        raise InputError(f"{path}: {name} holds values that are not finite")
