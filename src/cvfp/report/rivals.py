"""The model in question beside every arm that is none of its ablations, in words."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.report import numbers
from cvfp.report.changes import LineChange
from cvfp.report.headline import JOINT, TWO_PHASE, reference_arm
from cvfp.report.language import _, sentences
from cvfp.report.lines import Line
from cvfp.report.markdown import plain
from cvfp.report.verdicts import alpha_text, ppl_text

ABLATIONS = ("random-context", "no-context")
"""Of the two-phase model."""


def against_rivals(lines: Sequence[Line]) -> list[str]:
    """The best line of the reference arm beside each that is no ablation: at both ends, and the exponent."""
    reference = reference_arm(lines)
    ours = [line for line in lines if line.arm == reference and line.scored]
    if not ours:
        return []
    best = min(ours, key=lambda line: min(point.val_ppl for point in line.scored))
    changes = [LineChange(line, best) for line in lines if line.arm not in (reference, *ABLATIONS)]
    return [_rival_change_text(change) for change in changes if change.pairs]


def _rival_change_text(change: LineChange) -> str:
    """Between the two trainings of the model too much differs for a cause to be named."""
    text = _both_ends_text(change)
    if change.reference.arm != TWO_PHASE or change.other.arm != JOINT:
        return text
    differs = _(
        "The objective differs, and with it cell, output layer and recipe as far as their settings do: none "
        "of them can be credited."
    )
    return sentences(text, differs)


def _both_ends_text(change: LineChange) -> str:
    first, last = change.pairs[0][0].num_samples, change.num_samples
    sizes = [first] if first == last else [first, last]
    ends = _("; ").join(
        _("{ppl} at {documents} documents").format(
            ppl=ppl_text(change.ppl_at(size)), documents=numbers.count(size)
        )
        for size in sizes
    )
    return _("{line} against {other}, PPL: {ends}; exponent {alpha}.").format(
        line=plain(change.other.label),
        other=plain(change.reference.label),
        ends=ends,
        alpha=alpha_text(change.alpha),
    )
