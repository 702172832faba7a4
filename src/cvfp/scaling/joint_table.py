"""What `cvfp fit --params` says of one group of a table: its joint law by each count of parameters."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cvfp.records.errors import InputError
from cvfp.scaling.columns import Columns
from cvfp.scaling.group_points import read_points
from cvfp.scaling.joint_law import (
    REASONS,
    JointCells,
    JointFit,
    JointHoldout,
    differing,
    fit_joint_law,
    hold_out_params,
    hold_out_tokens,
    joint_cells,
)
from cvfp.scaling.power_law import Number
from cvfp.scaling.rows import Row


@dataclass(frozen=True, eq=False)
class JointGroup:
    """The cells of one group of rows, by the column that its parameters are counted in."""

    name: str
    cells: dict[str, JointCells]
    passes: tuple[float, float] | None = None
    """How often its data were read (`group_points.passes_of`)."""

    @cached_property
    def fits(self) -> dict[str, JointFit]:
        """The law by each column."""
        return {column: fit_joint_law(cells) for column, cells in self.cells.items()}

    def values(self, budget: Number | None, holdout: int | None) -> dict[str, Any]:
        """The law as JSON values; keys as `table.fit_joint_table`. Raises as `optimum` and
        `hold_out_tokens`."""
        first, *others = self.fits
        return {
            "group": self.name,
            "passes": self.passes,
            "laws": [_law_values(column, fit, budget, holdout) for column, fit in self.fits.items()],
            "differing": {other: differing(self.fits[first], self.fits[other], budget) for other in others},
        }


def read_cells(rows: Sequence[Row], params: str, columns: Columns) -> JointCells:
    """The cells of the rows of a group: runs of one model size and data size, whatever their seeds, are one.

    Raises:
        InputError: a number of parameters that is not positive, a perplexity of 1, and as
        `group_points.read_points`.
    """
    models: dict[float, list[Row]] = {}
    for row in rows:
        models.setdefault(row.positive(params), []).append(row)
    groups = {number: read_points(of_model, columns) for number, of_model in models.items()}
    for group in groups.values():
        lowest = int(group.points.ppl.argmin())
        if group.points.ppl[lowest] <= 1:
            raise InputError(
                f"{group.rows[lowest].where}: column {columns.y!r}: a law of the loss needs a perplexity "
                f"above 1, got {group.points.ppl[lowest]:g}"
            )
    counts = np.repeat(list(groups), [len(group.points.tokens) for group in groups.values()])
    tokens, ppl, sizes = (
        np.concatenate([getattr(group.points, name) for group in groups.values()])
        for name in ("tokens", "ppl", "sizes")
    )
    in_samples = all(group.sizes_are_samples for group in groups.values())
    return joint_cells(counts, tokens, ppl, sizes if in_samples else None)


def _law_values(column: str, fit: JointFit, budget: Number | None, holdout: int | None) -> dict[str, Any]:
    cells, best = fit.cells, None if budget is None else fit.optimum(budget)
    hidden = {}
    if holdout is not None and fit.law is not None:
        hidden = {"tokens": hold_out_tokens(cells, holdout), "params": hold_out_params(cells)}
    return {
        "params": column,
        "n": len(cells.loss),
        "num_model_sizes": len(np.unique(cells.params)),
        "num_data_sizes": len(np.unique(cells.sizes)),
        "status": fit.status,
        "reason": None if fit.reason is None else REASONS[fit.reason],
        "parameters": fit.parameters,
        "ci95": fit.intervals,
        "scale": fit.scale,
        "optimum": None if best is None else asdict(best),
        "holdouts": [_holdout_values(what, one) for what, one in hidden.items() if one is not None],
    }


def _holdout_values(what: str, found: JointHoldout) -> dict[str, Any]:
    reason = found.fit.reason
    return {
        "hidden": what,
        "sizes": np.unique(found.hidden.params if what == "params" else found.hidden.sizes).tolist(),
        "n": len(found.hidden.loss),
        "status": found.fit.status,
        "reason": None if reason is None else REASONS[reason],
        "rms": found.rms,
        "bias": found.bias,
        "held": found.held,
    }
