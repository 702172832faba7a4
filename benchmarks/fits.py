"""Many refits of a power law, against one call of `fit_power_law` each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from benchmarks.limits import Limits
from benchmarks.table import Row, checked, median_seconds
from cvfp.scaling.power_law import fit_power_law, refit_power_laws

REFITS = 10_000
TOKENS = 62_362.0 * 2.0 ** np.arange(5)
BOUND = 1e-12
CPU = torch.device("cpu")


def rows(device: torch.device, limits: Limits) -> Iterator[Row]:
    """Computed on the CPU, whatever the device."""
    what = f"{REFITS:,} refits of a power law to {len(TOKENS)} points (CPU)"
    noise = np.random.default_rng(0).normal(scale=0.05, size=(REFITS, len(TOKENS)))
    ppl = 13_251 * TOKENS**-0.3362 * np.exp(noise)

    def by_definition() -> np.ndarray:
        laws = [fit_power_law(TOKENS, row) for row in ppl]
        return np.array([[law.alpha for law in laws], [law.log_A for law in laws]])

    error = float(np.abs(np.array(refit_power_laws(TOKENS, ppl)) - by_definition()).max())
    check = checked(what, error, BOUND)
    naive = median_seconds(by_definition, CPU)
    ours = median_seconds(lambda: refit_power_laws(TOKENS, ppl), CPU)
    yield Row(what, f"{naive:.2f} s", f"{ours:.4f} s", naive / ours, None, check)
