"""Train context-vector fixed-point language models and measure how they scale with data.

    import cvfp
    sweep = cvfp.run("quickstart", progress=True)
    record = cvfp.train("my-model", samples=6, preset="quickstart")
    model = cvfp.CVFPModel.from_pretrained("my-model")
    law = cvfp.scaling.fit_power_law([50_000, 100_000, 200_000], [380.0, 270.0, 215.0])

Names are imported when first used, so that analysis works without torch installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # what editors and type checkers see
    from cvfp import scaling as scaling
    from cvfp.api import Results as Results
    from cvfp.api import fit as fit
    from cvfp.api import run as run
    from cvfp.lab.options import RunOptions as RunOptions
    from cvfp.lab.plan import SweepSpec as SweepSpec
    from cvfp.lab.plan import make_plan as make_plan
    from cvfp.lab.presets import PRESETS as PRESETS
    from cvfp.lab.runner import run_sweep as run_sweep
    from cvfp.lab.single import generate as generate
    from cvfp.lab.single import score_file as score_file
    from cvfp.lab.single import train as train
    from cvfp.lab.tracking import tracked as tracked
    from cvfp.models.cvfp import CVFPModel as CVFPModel
    from cvfp.records.config import RunConfig as RunConfig
    from cvfp.records.plan import Plan as Plan
    from cvfp.records.sweep import load_sweep as load_sweep
    from cvfp.report.write import write_report as write_report

__version__ = "0.1.0"

_HOMES = {
    "run": "cvfp.api",
    "fit": "cvfp.api",
    "Results": "cvfp.api",
    "RunConfig": "cvfp.records.config",
    "Plan": "cvfp.records.plan",
    "RunOptions": "cvfp.lab.options",
    "SweepSpec": "cvfp.lab.plan",
    "PRESETS": "cvfp.lab.presets",
    "make_plan": "cvfp.lab.plan",
    "run_sweep": "cvfp.lab.runner",
    "train": "cvfp.lab.single",
    "score_file": "cvfp.lab.single",
    "generate": "cvfp.lab.single",
    "tracked": "cvfp.lab.tracking",
    "CVFPModel": "cvfp.models.cvfp",
    "load_sweep": "cvfp.records.sweep",
    "write_report": "cvfp.report.write",
}

__all__ = ["__version__", "scaling", *sorted(_HOMES)]


def __getattr__(name: str) -> Any:
    if name == "scaling":
        return importlib.import_module("cvfp.scaling")
    if name in _HOMES:
        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'cvfp' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
