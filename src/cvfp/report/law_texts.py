"""What `cvfp fit`, reports and comparisons say alike: verdicts that do not survive, where lines cross."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.scaling.crossover import Crossover
from cvfp.scaling.forms import FORMULAS
from cvfp.scaling.power_law import Number
from cvfp.scaling.robustness import Flip

WORDS = (
    N_("curvature"),
    N_("form"),
    N_("sign of the difference"),
    N_("curved"),
    N_("straight within error"),
    N_("not distinguishable"),
    N_("first falls faster"),
    N_("second falls faster"),
)
"""Words of `robustness.Flip`, for the catalogues."""


def flip_texts(name: str, found: Sequence[Flip]) -> list[str]:
    """One sentence per verdict on `name` and what it becomes."""
    sizes: dict[tuple[str, ...], list[str]] = {}
    for one in found:
        sizes.setdefault((one.verdict, one.given, one.becomes, one.by), []).append(_dropped(one.dropped))
    texts = {
        "dropping": _("{name}: {verdict} is '{given}', but '{becomes}' without size {sizes}."),
        "rounding": _("{name}: {verdict} is '{given}', but '{becomes}' with inputs that print the same."),
    }
    return [
        texts[by].format(
            name=name,
            verdict=_(verdict),
            given=_(FORMULAS.get(given, given)),
            becomes=_(FORMULAS.get(becomes, becomes)),
            sizes=_(" or ").join(left_out),
        )
        for (verdict, given, becomes, by), left_out in sizes.items()
    ]


def crossover_text(found: Crossover) -> str:
    """Where two lines cross, as far as that is known."""
    if found.status == "unbounded":
        return _("Where the lines cross, if they do, is not determined: the exponents may be equal.")
    if found.tokens is None:
        return _("The lines do not cross.")
    tokens = _amount(found.tokens)
    if found.interval is None:
        return _("The lines cross at {tokens} tokens; there is no interval of that.").format(tokens=tokens)
    text = _("The lines cross at {tokens} tokens (95% interval {interval}).")
    return text.format(tokens=tokens, interval=numbers.between(*map(_amount, found.interval)))


def probability(value: float) -> str:
    """With two decimals; in words where these would say never or always."""
    if 0 < value < 0.01:
        return _("below 0.01")
    return _("above 0.99") if 0.99 < value < 1 else f"{value:.2f}"


def _amount(tokens: float | None) -> str:
    if tokens is None:
        return "∞"
    return numbers.count(tokens) if 1 <= tokens < 1e15 else f"{tokens:.2g}"


def _dropped(sizes: tuple[Number, Number] | None) -> str:
    if sizes is None:
        return ""
    return numbers.count(sizes[0]) if sizes[0] == sizes[1] else numbers.count_range(sizes)
