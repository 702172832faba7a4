"""Two lines as power laws: whose exponent is steeper, which is ahead with more data, where they cross."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.report import numbers
from cvfp.report.compare_tables import Step
from cvfp.report.language import _
from cvfp.report.law_texts import crossover_text, flip_texts, probability
from cvfp.report.markdown import plain, table
from cvfp.scaling.difference import Difference, difference

Compared = tuple[Step, Difference]


def differences(steps: Sequence[Step]) -> list[Compared]:
    """The later line of every step against the earlier one, where both have a law."""
    found = []
    for step in steps:
        before, after = step.change.reference, step.change.other
        if before.law is not None and after.law is not None:
            half_units = [numbers.PPL_HALF_UNIT / line.data.ppl for line in (before, after)]
            losses = step.change.fitted_losses
            found.append((step, difference(before.data, after.data, (half_units[0], half_units[1]), losses)))
    return found


def difference_table(found: Sequence[Compared]) -> str:
    """One row per two lines; empty where there are none."""
    header = (
        _("line"),
        _("versions"),
        _("difference of α"),
        _("95% interval"),
        _("verdict"),
        _("probability that the earlier is ahead"),
        _("there, in tokens"),
        _("where the laws cross"),
    )
    return table(header, [_row(*each) for each in found], left=2) if found else ""


def fragile_texts(found: Sequence[Compared]) -> list[str]:
    """Signs of differences that another choice of sizes, or of unprinted digits, turns over."""
    return [plain(text) for step, each in found for text in flip_texts(_name(step), each.flips)]


def _row(step: Step, found: Difference) -> list[str]:
    return [
        *step.cells,
        numbers.signed_exponent(found.exponent.value),
        numbers.signed_exponent_interval(found.exponent.interval),
        _verdict(step, found),
        numbers.ABSENT if found.first_ahead is None else probability(found.first_ahead),
        numbers.count(found.ahead_tokens),
        crossover_text(found.crossover),
    ]


def _verdict(step: Step, found: Difference) -> str:
    faster = {"first falls faster": step.change.reference, "second falls faster": step.change.other}
    if found.verdict not in faster:
        return _(found.verdict)
    return _("{line} falls faster").format(line=plain(faster[found.verdict].label))


def _name(step: Step) -> str:
    return f"{step.name}, {step.change.reference.label} → {step.change.other.label}"
