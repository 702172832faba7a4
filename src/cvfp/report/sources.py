"""Where the spread of results comes from: the initialisation, the draw of documents, the test documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cvfp.records.schema import N_
from cvfp.report import numbers
from cvfp.report.language import _, listed
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table
from cvfp.scaling.documents import Component, Losses, Source, Spread, spreads

NAMES: dict[Source, str] = {
    "initialisation": N_("the initialisation"),
    "draw": N_("the draw of training documents"),
    "draw and initialisation": N_("the draw and the initialisation together"),
    "test documents": N_("the choice of test documents"),
}

Found = list[tuple[Line, list[Spread]]]


def line_spreads(lines: Sequence[Line]) -> Found:
    """Of every line with the losses of its test documents, by size; empty where no line has two runs of one.

    In file order all seeds have the same documents: they are initialisations of one draw.
    """
    found = [(line, spreads(losses)) for line in lines if (losses := _losses(line)) is not None]
    known = any(len(spread.components) > 1 for _line, sizes in found for spread in sizes)
    return found if known else []


def spread_table(found: Found) -> str:
    """Two rows per line, its smallest and its largest size; empty where `found` is."""
    header = (
        _("line"),
        _("documents"),
        _("draws"),
        _("runs"),
        _("initialisation"),
        _("draw"),
        _("test documents"),
        _("largest"),
    )
    rows = [
        _row(line, one)
        for line, sizes in found
        for one in (sizes if len(sizes) < 2 else (sizes[0], sizes[-1]))
    ]
    return table(header, rows) if rows else ""


def spread_text(found: Found) -> str:
    """What makes the largest part of the spread of each line at its largest size."""
    by_source: dict[Source, list[str]] = {}
    for line, sizes in found:
        if len(sizes[-1].components) > 1:
            by_source.setdefault(sizes[-1].largest, []).append(plain(line.label))
    text = _("{source} makes the largest part of the spread of {lines}")
    parts = [
        text.format(source=_(NAMES[source]), lines=listed(labels)) for source, labels in by_source.items()
    ]
    return _("At the largest size {parts}.").format(parts=_("; ").join(parts)) if parts else ""


def _losses(line: Line) -> Losses | None:
    losses = line.losses(line.scored)
    if losses is None or line.config.data.order == "shuffled":
        return losses
    points = replace(losses.points, draws=(None,) * len(losses.points.draws))
    return replace(losses, points=points)


def _row(line: Line, one: Spread) -> list[str]:
    return [
        plain(line.label),
        numbers.count(one.size),
        numbers.count(one.draws),
        numbers.count(one.runs),
        _cell(one, "initialisation"),
        _cell(one, "draw"),
        _cell(one, "test documents"),
        _(NAMES[one.largest]) if len(one.components) > 1 else numbers.ABSENT,
    ]


def _cell(one: Spread, source: Source) -> str:
    """A standard deviation with its degrees of freedom, in words where these runs do not identify it."""
    found, together = one.components.get(source), one.components.get("draw and initialisation")
    if found is not None:
        return _shown(found)
    if together is None:
        return _("not identifiable")
    return _("together: {value}").format(value=_shown(together)) if source == "draw" else _("in the draw's")


def _shown(component: Component) -> str:
    return f"{numbers.decimals(component.deviation, 4)} ({numbers.count(component.dof)})"
