"""What a chart says of what is under the pointer: names escaped, numbers as in the tables."""

from __future__ import annotations

import html
import math
import textwrap
from collections.abc import Iterable

from cvfp.records.results import PointRecord, RunRecord, WindowRecord
from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.report.lines import Line, capped, phase1_iterations
from cvfp.report.remarks import REASONS

ROW = 46
"""Characters of a row of a hover label, so that it fits on a telephone."""


def shown(text: str) -> str:
    """`text` as one line that plotly shows with exactly its characters: it reads some tags and entities."""
    return html.escape(" ".join(text.split()), quote=False)


def record_text(line: Line, point: PointRecord, run: RunRecord | None) -> str:
    """The whole record of a point; why no fit uses it, where none does."""
    facts = [
        (_("documents"), numbers.count(point.num_samples)),
        (_("tokens"), numbers.count(point.train_tokens)),
        (_("seed"), str(point.seed)),
        (_("val PPL"), numbers.ppl(point.val_ppl)),
        (_("train PPL"), numbers.ppl(point.train_ppl)),
        (_("dev PPL"), numbers.ppl(point.dev_ppl)),
        (_("val accuracy"), numbers.share(point.val_acc)),
        (_("bits per byte"), numbers.bits(point.bits_per_byte)),
        (_("ER"), numbers.share(point.val_er)),
        (_("P1 iterations"), phase1_iterations(point, run)),
        (_("steps"), numbers.count(point.steps)),
        (_("stopped by"), _stopped_by(point)),
        (_("seconds"), numbers.seconds(point.wall_seconds)),
    ]
    return _label(line.label, facts, _exclusions(line, point))


def law_text(line: Line, tokens: float, ppl: float, interval: tuple[float, float] | None) -> str:
    """What the law of a line says of a size."""
    low, high = (None, None) if interval is None else interval
    high = None if high is None or math.isinf(high) else high
    facts = [
        (_("tokens"), numbers.count(tokens)),
        (_("predicted PPL"), numbers.ppl(ppl)),
        (_("95% prediction interval"), numbers.ppl_interval(low, high)),
        (_("α"), numbers.exponent(line.summary.alpha)),
    ]
    return _label(line.label, facts)


def window_text(line: Line, window: WindowRecord) -> str:
    """The law of one window."""
    sizes = numbers.count_range(window.sample_range)
    if window.missing_sizes:
        sizes = f"{sizes}, {numbers.without(window.missing_sizes)}"
    facts = [
        (_("documents"), sizes),
        (_("training tokens"), numbers.count_range(window.token_range)),
        (_("α"), numbers.exponent(window.alpha)),
        (_("95% interval of α"), numbers.exponent_interval(window.alpha_ci95)),
        (_("A"), numbers.coefficient(window.A)),
        (_("R²"), numbers.r_squared(window.r_squared)),
    ]
    return _label(line.label, facts)


def mean_text(line: Line, points: list[PointRecord], rank: float) -> str:
    """The effective rank of a size as the mean over its seeds."""
    facts = [
        (_("documents"), numbers.count(points[0].num_samples)),
        (_("seeds"), ", ".join(str(point.seed) for point in points)),
        (_("mean ER"), numbers.share(rank)),
    ]
    return _label(line.label, facts)


def _label(name: str, facts: Iterable[tuple[str, str]], notes: Iterable[str] = ()) -> str:
    """The name in bold, a row per fact, the notes."""
    head = "<br>".join(f"<b>{shown(row)}</b>" for row in textwrap.wrap(name, ROW))
    rows = [shown(f"{what}: {value}") for what, value in facts]
    return "<br>".join([head, *rows, *(shown(row) for note in notes for row in textwrap.wrap(note, ROW))])


def _stopped_by(point: PointRecord) -> str:
    if point.stop_reason is None:
        return numbers.ABSENT
    return _(point.stop_reason.replace("_", " ")) + ("‡" if capped(point) else "")


def _exclusions(line: Line, point: PointRecord) -> list[str]:
    return [
        _("not in the fit: {reason}").format(reason=_(REASONS[why.reason]).format(seed=why.repeated_seed))
        for why in line.fit.excluded
        if (why.num_samples, why.seed) == (point.num_samples, point.seed)
    ]
