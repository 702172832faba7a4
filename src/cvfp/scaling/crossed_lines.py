"""The mean power law of a line, or of a difference of two, with its errors over draws and test documents."""

from __future__ import annotations

import numpy as np

from cvfp.scaling.coefficients import top_weights
from cvfp.scaling.crossed import crossed, resampled
from cvfp.scaling.documents import height_weights, weighted_sums
from cvfp.scaling.losses import Losses
from cvfp.scaling.straight_line import StraightLine


def crossed_lines(losses: Losses) -> list[StraightLine]:
    """One line with the errors of each source: over test documents; where there are several draws also over
    draws, and over both, whose covariances add up.

    A 95% interval of anything on the line is the widest of theirs, as `Crossed.interval`. Degrees of freedom
    are those of the exponent. Raises as `documents.exponent`.
    """
    runs, units = weighted_sums(losses, lambda log_tokens: top_weights(log_tokens, 1))
    exponent = crossed(units, runs.tokens)
    centre = float(runs.points.log_tokens.mean())
    _runs, at_centre = weighted_sums(losses, lambda log_tokens: height_weights(log_tokens, centre))
    both, n = (at_centre, units), len(runs.tokens)
    by_draw = np.stack([values.sum(axis=1) for values in both]) / runs.tokens.sum()
    over_documents = np.stack([resampled(values, runs.tokens).mean(axis=1) for values in both])
    documents = np.cov(over_documents) * n / (n - 1)
    sources = [(documents, exponent.documents.dof)]
    if exponent.draws is not None:
        draws = np.cov(by_draw) / exponent.count
        sources += [(draws, exponent.draws.dof), (draws + documents, exponent.total.dof)]
    height, slope = (float(value) for value in by_draw.mean(axis=1))
    return [StraightLine(centre, height, slope, each, dof, exponent.kind) for each, dof in sources]
