"""The chart of the effective rank of contexts over training tokens."""

from __future__ import annotations

from collections.abc import Sequence

import plotly.graph_objects as go

from cvfp.report.figures.axes import padded, widened
from cvfp.report.figures.marks import by_size, mean_of
from cvfp.report.figures.ranks import ranked
from cvfp.report.figures.style import Style
from cvfp.report.interactive.compose import compose
from cvfp.report.interactive.hover import mean_text
from cvfp.report.interactive.laws import records
from cvfp.report.interactive.look import hover, marker, stroke
from cvfp.report.interactive.panels import Axis
from cvfp.report.language import _
from cvfp.report.lines import Line, several_seeds


def rank_chart(lines: Sequence[Line]) -> go.Figure | None:
    """Effective rank as a share of the width: every record, the means over seeds; None without contexts."""
    shown = [line for line in lines if ranked(line)]
    return compose(shown, lines, _axes(shown), (_means, _records)) if shown else None


def _axes(shown: Sequence[Line]) -> tuple[Axis, Axis]:
    points = [point for line in shown for point in ranked(line)]
    return (
        Axis(_("training tokens"), padded([p.train_tokens for p in points], 0.06), log=True, tickformat="~s"),
        Axis(
            _("effective rank, share of the width"),
            widened([p.val_er for p in points], 0.10),
            tickformat="~%",
        ),
    )


def _records(line: Line, style: Style) -> list[go.Scatter]:
    """Light beside means; without them joined."""
    points = sorted(ranked(line), key=lambda point: point.train_tokens)
    shown = records(line, points, "val_er", style)
    if several_seeds(points):
        return [go.Scatter(shown, mode="markers", marker=marker(style, size=7, opacity=0.5))]
    return [go.Scatter(shown, mode="lines+markers", marker=marker(style), line=stroke(style))]


def _means(line: Line, style: Style) -> list[go.Scatter]:
    """The means of every size over its seeds, joined; nothing where there is one seed."""
    if not several_seeds(ranked(line)):
        return []
    sizes = list(by_size(ranked(line)).values())
    ranks = [mean_of(points, "val_er") for points in sizes]
    texts = [mean_text(line, points, rank) for points, rank in zip(sizes, ranks, strict=True)]
    return [
        go.Scatter(
            hover(texts, style),
            x=[mean_of(points, "train_tokens") for points in sizes],
            y=ranks,
            mode="lines+markers",
            marker=marker(style),
            line=stroke(style),
        )
    ]
