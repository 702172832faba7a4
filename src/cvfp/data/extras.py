"""Libraries that only some corpora, tables and executors need, imported when they are."""

from __future__ import annotations

import importlib
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

from cvfp.records.errors import InputError

TRAIN = "train"


def require(module: str, extra: str = TRAIN) -> ModuleType:
    """Import `module`. Raises `InputError` that names the extra when it is not installed."""
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        raise InputError(f"{module} is needed here and not installed: {_how(extra)}") from error


def package_file(package: str, relative: str) -> Path:
    """The path of a file inside an installed package, found without importing the package.

    Raises:
        InputError: the package is not installed, or has no such file.
    """
    spec: ModuleSpec | None = find_spec(package)
    if spec is None or not spec.submodule_search_locations:
        raise InputError(f"the package {package.replace('_', '-')} is not installed: {_how(TRAIN)}")
    path = Path(spec.submodule_search_locations[0], relative)
    if not path.is_file():
        raise InputError(f"{path}: missing from the installed {package.replace('_', '-')}; install it again")
    return path


def _how(extra: str) -> str:
    return f"pip install 'cvfp[{extra}]'"
