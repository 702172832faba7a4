"""The published tables that ship with the package."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any


def load_published() -> dict[str, Any]:
    """The experiments v1, v2 and v3 as printed: under `experiments`, each with `results` and `summary`."""
    file = resources.files("cvfp.records").joinpath("published_results.json")
    return json.loads(file.read_text(encoding="utf-8"))
