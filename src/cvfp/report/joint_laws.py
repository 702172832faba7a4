"""The laws of parameters and data together, of the models of a sweep that were run in several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from cvfp.records.texts import N_
from cvfp.report.changes import setting_changes
from cvfp.report.lines import Line
from cvfp.scaling.joint_law import FEWEST, JointFit, fit_joint_law, joint_cells

SHAPE = {"context_dim", "num_layers", "num_input_tokens", "embed_dim", "head_dim"}
"""The settings that models of one law may differ in."""
COUNTS = {"total_params": N_("all"), "context_block_params": N_("context block alone")}
"""The fields that count parameters: with token table and output layer, and without."""


@dataclass(frozen=True, eq=False)
class ArmLaw:
    """The law of the lines of one arm, by one count of their parameters."""

    arm: str
    count: str
    fit: JointFit

    @property
    def converged(self) -> bool:
        return self.fit.status == "converged"


def arm_laws(lines: Sequence[Line]) -> list[ArmLaw]:
    """The laws of every arm that was run in `FEWEST` sizes on as many amounts of data, by each count."""
    found = []
    for arm in dict.fromkeys(line.arm for line in lines):
        sizes = _sizes_of([line for line in lines if line.arm == arm and line.fitted])
        points = [point for line in sizes for point in line.fitted]
        documents = [point.num_samples for point in points]
        for count in COUNTS:
            params = [getattr(point, count) for point in points]
            if None in params or not all(params) or any(point.ppl <= 1 for point in points):
                continue
            if min(len(np.unique(params)), len(np.unique(documents))) < FEWEST:
                continue
            tokens, ppl = [point.tokens for point in points], [point.ppl for point in points]
            found.append(ArmLaw(arm, count, fit_joint_law(joint_cells(params, tokens, ppl, documents))))
    return found


def _sizes_of(lines: Sequence[Line]) -> list[Line]:
    """The lines that differ from the first in their shape alone, and have as many parameters whatever the
    data: those of an n-gram grow with them."""
    return [
        line
        for line in lines
        if len({point.total_params for point in line.fitted}) == 1
        and all(
            change.key.rpartition(".")[2] in SHAPE for change in setting_changes(lines[0].config, line.config)
        )
    ]
