"""Laws, fits, intervals and windows, from arrays and records alone: numpy and scipy only."""

from __future__ import annotations

import importlib
from typing import Any

_HOMES = {
    "PowerLaw": "cvfp.scaling.power_law",
    "fit_power_law": "cvfp.scaling.power_law",
    "sliding_windows": "cvfp.scaling.local_exponent",
    "fit_table": "cvfp.scaling.table",
    "points_of": "cvfp.scaling.points",
    "fit_forms": "cvfp.scaling.forms",
    "compare_forms": "cvfp.scaling.forms",
    "local_exponents": "cvfp.scaling.local_exponent",
    "flips": "cvfp.scaling.robustness",
    "losses_of": "cvfp.scaling.documents",
    "paired_losses": "cvfp.scaling.documents",
    "log_ppl_at": "cvfp.scaling.documents",
    "exponent": "cvfp.scaling.documents",
    "law_at": "cvfp.scaling.documents",
    "crossed_lines": "cvfp.scaling.documents",
    "spreads": "cvfp.scaling.documents",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cvfp.scaling' has no attribute {name!r}")
