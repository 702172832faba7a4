"""The scaling figure: perplexity against training tokens with the laws, and below it what the laws say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure
from matplotlib.lines import Line2D

from cvfp.records.arms import arm_kind
from cvfp.records.results import IntervalKind, PointRecord
from cvfp.records.texts import N_
from cvfp.report.figures.axes import Limits, grid_shape, label_outer, padded, panel_grid, set_log
from cvfp.report.figures.marks import ROW, Column, Mark, draw_column, mean_mark, name_rows, places
from cvfp.report.figures.style import (
    Style,
    Styles,
    _,
    arm_groups,
    documents,
    handle,
    house_style,
    legend_below,
    line_entries,
    named_groups,
    new_figure,
    short_label,
    styles_of,
)
from cvfp.report.lines import Line
from cvfp.report.standings import Headline, Standing, headline
from cvfp.scaling.draws import Law

# --- Perplexity against training tokens in log-log axes: points, fitted laws, prediction bands.


BAND_REACH = 2
"""A band is shown up to this factor beyond the points and the laws."""


def draw_line(axes: Axes, line: Line, style: Style) -> None:
    """Every scored point, hollow where it is in no fit; the law within the data; the forecast beyond them,
    dotted, with its 95% band, where there is one."""
    _draw_points(axes, line.excluded, style, "white")
    _draw_points(axes, [point for point in line.scored if point in line.fitted], style, style.color)
    if line.law is not None:
        _draw_fit(axes, line, line.law, style)


def set_law_axes(axes: Axes, lines: Sequence[Line]) -> None:
    """Round counts within `law_limits`."""
    across, up = law_limits(lines)
    set_log(axes.xaxis, across)
    set_log(axes.yaxis, up)


def law_limits(lines: Sequence[Line]) -> tuple[Limits, Limits]:
    """Limits of tokens and PPL: they hold every point, all laws, forecasts and bands; a far wider one is
    cut off."""
    points = [point for line in lines for point in line.scored]
    tokens = [point.tokens for point in points] + [end_tokens(line) for line in lines if line.law is not None]
    ppls = [*(point.ppl for point in points), *map(end_ppl, lines)]
    bands = [bound for line in lines for bound in _bounds(line)]
    seen = np.clip(bands, min(ppls) / BAND_REACH, BAND_REACH * max(ppls)).tolist()
    return padded(tokens, 0.04), padded([*ppls, *seen], 0.06)


def end_ppl(line: Line) -> float:
    """Perplexity where the drawn line ends."""
    if line.ahead:
        return line.ahead[-1].ppl
    if line.law is None:
        return max(line.scored, key=lambda point: point.tokens).ppl
    return float(line.law.predict(end_tokens(line)))


def _bounds(line: Line) -> list[float]:
    """The bounds of the drawn band at its ends, between which it goes no further; none without a band."""
    return [end for one in line.ahead for end in (one.low, one.high)]


def end_tokens(line: Line) -> float:
    """Where the drawn line ends: beyond the data only where there is a forecast."""
    return line.ahead[-1].tokens if line.ahead else float(line.analysis.points.tokens.max())


def _draw_points(axes: Axes, points: Sequence[PointRecord], style: Style, face: str) -> None:
    if not points:
        return
    filled = face == style.color
    axes.plot(
        [point.tokens for point in points],
        [point.ppl for point in points],
        linestyle="none",
        marker=style.marker,
        color=style.color,
        markerfacecolor=face,
        markeredgecolor="white" if filled else style.color,
        markeredgewidth=0.7 if filled else 1.3,
        markersize=style.size,
        zorder=style.zorder,
    )


def _draw_fit(axes: Axes, line: Line, law: Law, style: Style) -> None:
    tokens = np.array([point.train_tokens for point in line.fitted], dtype=np.float64)
    inside = np.geomspace(tokens.min(), tokens.max(), 50)
    axes.plot(inside, law.predict(inside), color=style.color, linestyle=style.dashes)
    if line.ahead:
        beyond = [one.tokens for one in line.ahead]
        low, high = ([getattr(one, end) for one in line.ahead] for end in ("low", "high"))
        axes.plot(beyond, [one.ppl for one in line.ahead], color=style.color, linestyle=":")
        axes.fill_between(beyond, low, high, color=style.color, alpha=0.12, linewidth=0, zorder=1)


# --- The figure: laws above, forests below.


ONE_PANEL, EACH_PANEL = 4.7, 2.7
"""Inches of height: of the only panel, of each row of several."""

INTERVALS: dict[IntervalKind, str] = {
    "draws": N_("95% intervals of α: across seeds"),
    "documents": N_("95% intervals of α: over test documents only"),
    "draws x documents": N_("95% intervals of α: over seeds and test documents"),
    "line": N_("95% intervals of α: deviation from a straight line, not run-to-run noise"),
}
"""What intervals are, by `interval_kind` of the records."""


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
    upper, lower = figure.subfigures(2, 1, squeeze=False, height_ratios=heights).flat
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
    label_outer(panels, _("training tokens"), _("test PPL"))
    if len(panels) > 1:
        legend_below(figure, line_entries(shown, lines))
    else:
        _draw_legend(figure, shown, lines)


def _draw_legend(figure: Figure | SubFigure, shown: Sequence[Line], lines: Sequence[Line]) -> None:
    """The legend stands beside the panel, in the order in which the lines end."""
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
        at = _("at {size}").format(size=documents(top.num_samples))
        standing = {one.line.label: one for one in top.standings}
        ordered = [standing[line.label] for line in shown]
        found += [
            Column(_("test PPL") + f"\n{at}", _marks(ordered, "val_ppl"), log=True),
            Column(_("train PPL") + f"\n{at}", _train_marks(ordered), log=True),
            Column(_("accuracy, %") + f"\n{at}", _marks(ordered, "val_acc")),
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


def _train_marks(standings: Sequence[Standing]) -> tuple[Mark | None, ...]:
    """The train PPL of the models that learn by gradients: the train PPL of one that counts is near 1 and
    says nothing."""
    marks = _marks(standings, "train_ppl")
    return tuple(
        mark if arm_kind(one.line.arm).neural else None for one, mark in zip(standings, marks, strict=True)
    )


def _scaled(value: float | None, perplexity: bool) -> float | None:
    return value if value is None or perplexity else 100 * value


def _note(shown: Sequence[Line], top: Headline | None) -> str:
    """What the light markers and the intervals are."""
    kinds: list[IntervalKind] = [kind for line in shown if (kind := line.summary.interval_kind) is not None]
    parts = [_(INTERVALS[kind]) for kind in dict.fromkeys(kinds)]
    if top is not None and len(top.draws) > 1:
        draws = ", ".join(map(str, top.draws))
        text = _("light markers: seeds {seeds}, of which PPL is the geometric mean")
        parts.append(text.format(seeds=draws))
    return _("; ").join(parts)
