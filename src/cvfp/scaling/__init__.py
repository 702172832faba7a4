"""Laws, fits, intervals and windows, from arrays and records alone: numpy and scipy only."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what editors and type checkers see
    from cvfp.scaling.data_efficiency import data_ratios as data_ratios
    from cvfp.scaling.documents import crossed_lines as crossed_lines
    from cvfp.scaling.documents import exponent as exponent
    from cvfp.scaling.documents import law_at as law_at
    from cvfp.scaling.documents import log_ppl_at as log_ppl_at
    from cvfp.scaling.documents import losses_of as losses_of
    from cvfp.scaling.documents import paired_losses as paired_losses
    from cvfp.scaling.documents import spreads as spreads
    from cvfp.scaling.forms import compare_forms as compare_forms
    from cvfp.scaling.forms import fit_forms as fit_forms
    from cvfp.scaling.local_exponent import local_exponents as local_exponents
    from cvfp.scaling.local_exponent import sliding_windows as sliding_windows
    from cvfp.scaling.points import points_of as points_of
    from cvfp.scaling.power_law import PowerLaw as PowerLaw
    from cvfp.scaling.power_law import fit_power_law as fit_power_law
    from cvfp.scaling.robustness import flips as flips
    from cvfp.scaling.table import TableOptions as TableOptions
    from cvfp.scaling.table import fit_table as fit_table

_HOMES = {
    "PowerLaw": "cvfp.scaling.power_law",
    "fit_power_law": "cvfp.scaling.power_law",
    "sliding_windows": "cvfp.scaling.local_exponent",
    "fit_table": "cvfp.scaling.table",
    "TableOptions": "cvfp.scaling.table",
    "data_ratios": "cvfp.scaling.data_efficiency",
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
