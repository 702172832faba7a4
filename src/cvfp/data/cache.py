"""Folders that are built once and kept: named by what determines them, whole or absent, checked when opened.

They lie in the folder of the environment variable `CVFP_CACHE`, else in the user's cache folder.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from cvfp.data.extras import require
from cvfp.records.errors import CvfpError, InputError
from cvfp.records.files import write_json
from cvfp.records.locks import NoLocksError, Note, held
from cvfp.records.schema import digest

# --- SHA-256 of files.


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


# --- The folders, named by what determines them.


SEAL = "seal.json"


def silent(line: str) -> None:
    """A `note` for callers that have nobody to tell."""


def cache_root() -> Path:
    """Where cached folders lie."""
    chosen = os.environ.get("CVFP_CACHE")
    return Path(chosen) if chosen else require("platformdirs").user_cache_path("cvfp")


def cached_folder(kind: str, key: Any, build: Callable[[Path], None], note: Note) -> Path:
    """The folder that `build` fills, built only when the cache has no whole copy for `key`.

    Args:
        kind: first part of the folder's name.
        key: plain data; everything that determines the content.
        build: writes plain files into the (empty, temporary) folder it is given.
        note: told when a damaged copy is replaced, and of waiting.

    A second process that asks for the same key waits for the first, and says so. A copy that is torn, edited
    or of another key is built again, never used.

    Raises:
        CvfpError: the cache cannot be read or written, or its file system has no locks.
    """
    root = cache_root()
    name = f"{kind}-{digest(key, 24)}"
    try:
        root.mkdir(parents=True, exist_ok=True)
        with held(root / f"{name}.lock", None, note, f"the cache's {name}"):
            return _whole_or_built(root / name, key, build, note)
    except NoLocksError as error:
        raise CvfpError(f"cannot use the cache {error}; CVFP_CACHE names another folder") from error
    except OSError as error:
        raise CvfpError(f"cannot use the cache {root}: {error}; CVFP_CACHE names another folder") from error


def _whole_or_built(folder: Path, key: Any, build: Callable[[Path], None], note: Note) -> Path:
    if folder.exists():
        damage = _damage(folder, key)
        if damage is None:
            return folder
        note(f"cache: {folder.name}: {damage}; building it again")
        shutil.rmtree(folder)
    # Under the lock nobody else uses this name; what a killed process left there goes first.
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        build(temporary)
        write_json(temporary / SEAL, {"key": key, "files": _contents(temporary)})
        temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


def _contents(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.iterdir() if path.name != SEAL)
    return {path.name: file_sha256(path) for path in files}


def _damage(folder: Path, key: Any) -> str | None:
    """What is wrong with a cached folder, in words; None when it is whole."""
    try:
        seal = json.loads((folder / SEAL).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return "has no readable seal"
    if not isinstance(seal, dict) or seal.get("key") != key:
        return "was made for another key"
    return None if seal.get("files") == _contents(folder) else "a file was changed or is missing"
