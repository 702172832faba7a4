"""SHA-256 of files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from cvfp.records.errors import InputError


def file_sha256(path: Path) -> str:
    """Hexadecimal SHA-256 of a file's bytes. Raises `InputError` when the file cannot be read."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error


def check_sha256(path: Path, expected: str, remedy: str) -> None:
    """Raise `InputError` with the `remedy` unless the file has the `expected` hash."""
    found = file_sha256(path)
    if found != expected:
        raise InputError(f"{path}: sha256 {found[:12]}..., expected {expected[:12]}...; {remedy}")
