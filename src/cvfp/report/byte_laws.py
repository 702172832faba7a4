"""The law of the loss per byte of text against bytes: what compares across tokenizers."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table
from cvfp.scaling.cells import cells
from cvfp.scaling.draws import Law, fit_draws


def byte_law(line: Line) -> Law | None:
    """exp(nats per byte) = A * bytes^alpha over the points of the line's fit; None where bytes are not known.

    By least squares of nats per byte on ln bytes, a law per draw, as the law of PPL.
    """
    if not line.fitted or not all(p.train_bytes and p.bits_per_byte is not None for p in line.fitted):
        return None
    known = cells(line.fitted)
    ppl = [math.exp(math.log(2) * cell.mean("bits_per_byte")) for cell in known]
    return fit_draws([cell.mean("train_bytes") for cell in known], ppl, [cell.draw for cell in known])


def byte_law_table(lines: Sequence[Line]) -> str:
    """The two laws of every line side by side; empty where no line has bytes."""
    header = (
        _("line"),
        _("α, nats per token"),
        _("95% interval"),
        _("R²"),
        _("α, nats per byte"),
        _("95% interval"),
        _("R²"),
    )
    laws = [(line, law) for line in lines if (law := byte_law(line)) is not None]
    rows = [[plain(line.label), *_cells(line.law), *_cells(law)] for line, law in laws]
    return table(header, rows) if rows else ""


def _cells(law: Law) -> list[str]:
    return [
        numbers.exponent(law.alpha),
        numbers.exponent_interval(law.alpha_ci95),
        numbers.r_squared(law.r_squared),
    ]
