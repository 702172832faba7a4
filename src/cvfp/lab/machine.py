"""What a result was computed with: versions, commit, hardware."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

import torch

import cvfp
from cvfp.training import group
from cvfp.training.devices import describe_device

PACKAGES = ("torch", "numpy", "scipy", "tokenizers", "tiktoken", "chitchat-dataset")


def environment(device: torch.device) -> dict[str, Any]:
    """Versions, commit of the source tree (None when installed from a package), device and processor.

    The device of processes that train together has their number before it.
    """
    together = f"{group.size()} x " if group.size() > 1 else ""
    return {
        "cvfp": cvfp.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in PACKAGES},
        "device": together + describe_device(device),
        "cores": os.cpu_count(),
        "platform": f"{platform.system()} {platform.machine()}",
    }


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _commit() -> str | None:
    """Commit of the checkout that this file lies in; None when it is in none, or git is not there."""
    here = Path(__file__).parent
    if not any((parent / "src" / "cvfp").is_dir() and (parent / ".git").exists() for parent in here.parents):
        return None
    command = ["git", "-C", str(here), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
