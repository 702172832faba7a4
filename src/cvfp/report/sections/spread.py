"""Where the spread of results comes from: the initialisation, the draw of documents, the test documents."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.blocks import Block
from cvfp.report.language import _, listed, sentences
from cvfp.report.lines import Line
from cvfp.report.markdown import Column, plain, table
from cvfp.scaling.documents import Component, Losses, Source, Spread, spreads

NAMES: dict[Source, str] = {
    "initialisation": N_("the initialisation"),
    "draw": N_("the draw of training documents"),
    "draw and initialisation": N_("the draw and the initialisation together"),
    "test documents": N_("the choice of test documents"),
}

Found = list[tuple[Line, list[Spread]]]


def line_spreads(lines: Sequence[Line]) -> Found:
    """Spreads of every model with the losses of its test documents, by size; empty where no model has two
    runs of one.

    In file order all seeds have the same documents: they are initialisations of one draw.
    """
    found = [(line, spreads(losses)) for line in lines if (losses := _losses(line)) is not None]
    known = any(len(spread.components) > 1 for _line, sizes in found for spread in sizes)
    return found if known else []


def spread_blocks(lines: Sequence[Line]) -> tuple[Block, ...]:
    """What stands under the heading of the spread; nothing where no model has two runs of one size."""
    found = line_spreads(lines)
    if not found:
        return ()
    note = _(
        "Standard deviations of ln PPL of a single run, in nats, with their degrees of freedom: between "
        "initialisations of one draw of documents, between draws of as many training documents (moved along "
        "the exponent to equal tokens), and between sets of as many test documents. One run per draw has the "
        "initialisation within the draw, together; what has too few runs is not identifiable. What two "
        "models share, the draw and the test documents, drops out of their paired difference; an "
        "initialisation does not."
    )
    return spread_table(found), sentences(spread_text(found), note)


_Row = tuple[Line, Spread]


def spread_table(found: Found) -> str:
    """Two rows per model, its smallest and its largest size; empty where `found` is."""
    columns = [
        Column[_Row](_("model"), lambda row: plain(row[0].label), words=True),
        Column[_Row](_("documents"), lambda row: numbers.count(row[1].size)),
        Column[_Row](_("draws"), lambda row: numbers.count(row[1].draws)),
        Column[_Row](_("runs"), lambda row: numbers.count(row[1].runs)),
        Column[_Row](_("initialisation"), lambda row: _cell(row[1], "initialisation")),
        Column[_Row](_("draw"), lambda row: _cell(row[1], "draw")),
        Column[_Row](_("test documents"), lambda row: _cell(row[1], "test documents")),
        Column[_Row](
            _("largest"),
            lambda row: _(NAMES[row[1].largest]) if len(row[1].components) > 1 else numbers.ABSENT,
        ),
    ]
    rows = [
        (line, one) for line, sizes in found for one in (sizes if len(sizes) < 2 else (sizes[0], sizes[-1]))
    ]
    return table(columns, rows)


def spread_text(found: Found) -> str:
    """What makes the largest part of the spread of each model at its largest size."""
    by_source: dict[Source, list[str]] = {}
    for line, sizes in found:
        if len(sizes[-1].components) > 1:
            by_source.setdefault(sizes[-1].largest, []).append(plain(line.label))
    text = _("{source} makes the largest part of the spread of {models}")
    parts = [
        text.format(source=_(NAMES[source]), models=listed(labels)) for source, labels in by_source.items()
    ]
    return _("At the largest size {parts}.").format(parts=_("; ").join(parts)) if parts else ""


def _losses(line: Line) -> Losses | None:
    losses = line.losses(line.scored)
    if losses is None or line.config.data.order == "shuffled":
        return losses
    points = replace(losses.points, draws=(None,) * len(losses.points.draws))
    return replace(losses, points=points)


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
