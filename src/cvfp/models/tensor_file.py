"""Tensors in safetensors files: written whole or not at all, read without running anything."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from cvfp.records.errors import InputError, WriteError
from cvfp.records.files import atomic_path, is_file


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
