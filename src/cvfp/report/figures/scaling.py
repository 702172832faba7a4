"""The scaling figure: perplexity against training tokens with the laws, and below it what the laws say."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from cvfp.records.results import IntervalKind
from cvfp.report.figures.canvas import house_style, new_figure, save
from cvfp.report.figures.forest import ROW, Column, Mark, draw_column, mean_mark, name_rows, places
from cvfp.report.figures.laws import draw_line, end_ppl, set_law_axes
from cvfp.report.figures.panels import grid_shape, label_outer, panel_grid
from cvfp.report.figures.style import (
    Styles,
    arm_groups,
    documents,
    handle,
    legend_below,
    line_entries,
    named_groups,
    short_label,
    styles_of,
)
from cvfp.report.headline import Headline, Standing, headline
from cvfp.report.lines import Line

ONE_PANEL, EACH_PANEL = 4.7, 2.7
"""Inches of height: of the only panel, of each row of several."""

INTERVALS: dict[IntervalKind, str] = {
    "draws": "95% intervals of α: across draws",
    "documents": "95% intervals of α: over test documents only",
    "draws x documents": "95% intervals of α: over draws and test documents",
    "line": "95% intervals of α: deviation from a straight line, not run-to-run noise",
}
"""What intervals are, by `interval_kind` of the records."""


def write_scaling(path: Path, lines: Sequence[Line]) -> bool:
    """Draw the lines to a PNG. False, and no file is written, when no line has a point to show."""
    return save(scaling_figure(lines), path)


@house_style
def scaling_figure(lines: Sequence[Line]) -> Figure | None:
    """Points, fits and 95% prediction bands, over a forest plot of exponents, factors and perplexities.

    At most seven lines share a panel, more get one per arm. Points that are not in a fit are hollow, laws are
    dotted beyond the data. None without a scored point.
    """
    shown = [line for line in lines if line.scored]
    if not shown:
        return None
    top = headline(shown)
    columns = _columns(shown, top)
    rows, _columns_of_panels = grid_shape(len(arm_groups(shown, lines)))
    rows_below = places([line.arm for line in shown])[-1] + 1
    heights = [ONE_PANEL if rows == 1 else rows * EACH_PANEL, 1.25 + ROW * rows_below]
    figure = new_figure(sum(heights if columns else heights[:1]))
    if not columns:
        _draw_laws(figure, shown, lines)
        return figure
    upper, lower = figure.subfigures(2, 1, height_ratios=heights)
    _draw_laws(upper, shown, lines)
    _draw_forest(lower, shown, columns, styles_of(lines))
    lower.supxlabel(_note(shown, top), fontsize=8, color="#555555")
    return figure


def _draw_laws(figure: Figure | SubFigure, shown: Sequence[Line], lines: Sequence[Line]) -> None:
    groups, styles = arm_groups(shown, lines), styles_of(lines)
    panels = panel_grid(figure, list(groups))
    for axes, members in zip(panels, groups.values(), strict=True):
        for line in members:
            draw_line(axes, line, styles[line.label])
        set_law_axes(axes, shown)
    label_outer(panels, "training tokens", "validation perplexity")
    if len(panels) > 1:
        legend_below(figure, line_entries(shown, lines))
    else:
        _draw_legend(figure, shown, lines)


def _draw_legend(figure: Figure | SubFigure, shown: Sequence[Line], lines: Sequence[Line]) -> None:
    """Beside the panel, in the order in which the lines end."""
    groups = named_groups(sorted(shown, key=end_ppl, reverse=True), lines)
    handles = [_legend_handle(members, styles_of(lines)) for _name, members in groups]
    names = [short_label(name) for name, _members in groups]
    figure.legend(handles, names, loc="outside right upper")


def _legend_handle(members: Sequence[Line], styles: Styles) -> Line2D:
    """Marker and dashes, as far as the lines have points in a fit, and a law."""
    fitted, law = any(line.fitted for line in members), any(line.law is not None for line in members)
    return handle(styles[members[0].label], None if law else "none", None if fitted else "white")


def _draw_forest(figure: SubFigure, shown: Sequence[Line], columns: Sequence[Column], styles: Styles) -> None:
    panels = list(figure.subplots(1, len(columns), sharey=True, squeeze=False).flat)
    rows = places([line.arm for line in shown])
    for axes, column in zip(panels, columns, strict=True):
        draw_column(axes, column, rows, [styles[line.label] for line in shown])
        axes.tick_params(axis="y", length=0)
    name_rows(panels[0], rows, [short_label(line.label) for line in shown])


def _columns(shown: Sequence[Line], top: Headline | None) -> list[Column]:
    """Those that any line has a value of."""
    found = [
        Column("α", tuple(_alpha(line) for line in shown)),
        Column("A", tuple(_factor(line) for line in shown), log=True),
    ]
    if top is not None:
        at = f"at {documents(top.num_samples)}"
        standing = {one.line.label: one for one in top.standings}
        ordered = [standing[line.label] for line in shown]
        found += [
            Column(f"val PPL\n{at}", _marks(ordered, "val_ppl"), log=True),
            Column(f"train PPL\n{at}", _marks(ordered, "train_ppl"), log=True),
            Column(f"val accuracy, %\n{at}", _marks(ordered, "val_acc")),
        ]
    return [column for column in found if column.known]


def _alpha(line: Line) -> Mark | None:
    return None if line.summary.alpha is None else Mark(line.summary.alpha, line.summary.alpha_ci95)


def _factor(line: Line) -> Mark | None:
    return None if line.summary.A is None else Mark(line.summary.A)


def _marks(standings: Sequence[Standing], name: str) -> tuple[Mark | None, ...]:
    """Means over seeds: geometric of perplexities, of shares in percent."""
    perplexity = name.endswith("ppl")
    return tuple(
        mean_mark([_scaled(getattr(point, name), perplexity) for point in one.points], geometric=perplexity)
        for one in standings
    )


def _scaled(value: float | None, perplexity: bool) -> float | None:
    return value if value is None or perplexity else 100 * value


def _note(shown: Sequence[Line], top: Headline | None) -> str:
    """What the light markers and the intervals are."""
    parts = [INTERVALS[kind] for kind in dict.fromkeys(line.summary.interval_kind for line in shown) if kind]
    if top is not None and len(top.draws) > 1:
        draws = ", ".join(map(str, top.draws))
        parts.append(f"light markers: draws {draws}, of which PPL is the geometric mean")
    return "; ".join(parts)
