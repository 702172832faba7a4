"""The file beside a saved model that names its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cvfp.records.errors import InputError
from cvfp.records.files import is_dir, is_file, read_json, write_json

NAME_FILE = "tokenizer_name.json"


def write_name(directory: Path, name: str, fingerprint: str) -> None:
    """Write the tokenizer's name and SHA-256 into an existing directory."""
    write_json(directory / NAME_FILE, {"name": name, "sha256": fingerprint})


def read_name(directory: Path) -> tuple[str, str]:
    """Name and SHA-256 that `write_name` wrote.

    Raises:
        InputError: the file is missing, or is not what `write_name` writes.
    """
    if is_dir(directory) and not is_file(directory / NAME_FILE):
        raise InputError(
            f"{directory / NAME_FILE}: no such file; copy tokenizer*.json from the checkpoint that cvfp wrote"
        )
    saved: Any = read_json(directory / NAME_FILE)
    values = [saved.get("name"), saved.get("sha256")] if isinstance(saved, dict) else []
    if len(values) != 2 or not all(isinstance(value, str) for value in values):
        raise InputError(f"{directory / NAME_FILE}: names no tokenizer; 'name' and 'sha256' are needed")
    name, fingerprint = values
    return name, fingerprint
