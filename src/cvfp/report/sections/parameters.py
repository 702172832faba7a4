"""Do more parameters lower the loss, or only more data? The law of both, of models in several sizes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cvfp.report import numbers
from cvfp.report.blocks import Picture, Section, present
from cvfp.report.figures.isoflops import isoflop_figure
from cvfp.report.joint_laws import COUNTS, ArmLaw
from cvfp.report.language import _, sentences
from cvfp.report.markdown import Column, plain, table
from cvfp.report.view import View
from cvfp.scaling.joint_law import REASONS, JointFit


def section(view: View) -> Section | None:
    """None where no model was run in three sizes on three amounts of data."""
    laws = view.joint_laws
    if not laws:
        return None
    figure = isoflop_figure(_shown(laws))
    picture = None
    if figure is not None:
        text = _("Test PPL against parameters, a curve per budget of training FLOPs, and its best size")
        picture = Picture("isoflops.png", text, figure)
    return Section(
        _("Parameters and data"), present([law_table(laws), _law_note(laws), picture, _figure_note(picture)])
    )


def _shown(laws: Sequence[ArmLaw]) -> dict[str, JointFit]:
    """One converged law of every arm, by the first count that gives one; named with the count if another."""
    found: dict[str, ArmLaw] = {}
    for law in laws:
        if law.converged:
            found.setdefault(law.arm, law)
    return {
        arm if law.count == next(iter(COUNTS)) else f"{arm}, {_(COUNTS[law.count])}": law.fit
        for arm, law in found.items()
    }


def _law_note(laws: Sequence[ArmLaw]) -> str:
    texts = [_("L(N, D) = E + A / N^a + B / D^b: N parameters, D training tokens, L in nats per token.")]
    if any(law.converged for law in laws):
        texts += [
            _("Of a budget C the best N grows as C^(b / (a + b))."),
            _("Intervals are 95% profile likelihood; errors that runs of one seed share are not in them."),
        ]
    if not all(law.converged for law in laws):
        texts.append(_("Where a law cannot be told, nothing is said of the best division of a budget."))
    return sentences(*texts)


def _figure_note(picture: Picture | None) -> str:
    if picture is None:
        return ""
    return sentences(
        _("A curve is the law at equal compute, C = 6 · N · D FLOPs, within what was measured."),
        _("Dots are runs, a diamond the best size with its 95% interval."),
    )


def law_table(laws: Sequence[ArmLaw]) -> str:
    """A row per model and count of its parameters."""
    columns = [
        Column[ArmLaw](_("model"), lambda law: plain(law.arm), words=True),
        Column[ArmLaw](_("parameters counted"), lambda law: _(COUNTS[law.count]), words=True),
        Column[ArmLaw](_("sizes N × D"), _sizes),
        *(_numbers() if any(law.converged for law in laws) else ()),
        Column[ArmLaw](_("can it be told?"), _status, words=True),
    ]
    return table(columns, laws)


def _numbers() -> tuple[Column[ArmLaw], ...]:
    return (
        Column(_("floor E (95% interval)"), lambda law: _parameter(law, "E")),
        Column(_("a (95% interval)"), lambda law: _parameter(law, "a")),
        Column(_("b (95% interval)"), lambda law: _parameter(law, "b")),
        Column(_("b / (a + b)"), lambda law: _parameter(law, "share")),
    )


def _sizes(law: ArmLaw) -> str:
    cells = law.fit.cells
    return f"{len(np.unique(cells.params))} × {len(np.unique(cells.sizes))}"


def _parameter(law: ArmLaw, name: str) -> str:
    value = law.fit.parameters.get(name) if law.converged else None
    interval = law.fit.intervals.get(name)
    shown = numbers.exponent(value)
    return shown if interval is None else f"{shown} ({numbers.exponent_interval(interval)})"


def _status(law: ArmLaw) -> str:
    if law.fit.reason is None:
        return _("yes")
    return _("no: {reasons}").format(reasons=_(REASONS[law.fit.reason]))
