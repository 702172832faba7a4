"""A change in words: its value, its interval, what the interval says and what it measures."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from cvfp.records.results import OF_ONE_DRAW
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.language import _, sentences
from cvfp.scaling.data_efficiency import DataRatio
from cvfp.scaling.difference import Crossover
from cvfp.scaling.forms import FORMULAS
from cvfp.scaling.points import Change
from cvfp.scaling.robustness import Flip


def verdict(change: Change | None) -> str:
    """What an interval of a change says, in words."""
    if change is None or change.distinguishable is None or change.one_draw:
        return _("no verdict")
    if not change.distinguishable:
        return _("no clear difference")
    return _("higher") if change.value > 0 else _("lower")


def alpha_verdict(change: Change | None) -> str:
    """What an interval of a change of the exponent says, in words."""
    if change is None or not change.distinguishable or change.one_draw:
        return verdict(change)
    return _("flatter") if change.value > 0 else _("steeper")


def ppl_text(change: Change) -> str:
    """A change of perplexity with its interval and what that says: `-2.0% (95% interval ...: lower)`."""
    interval = numbers.signed_percent_interval(change.interval)
    return _with_interval(change, numbers.signed_percent(change.value), interval, verdict(change))


def alpha_text(change: Change | None) -> str:
    """A change of the exponent; None where the two lines have no two sizes in common."""
    if change is None:
        return _("not compared")
    interval = numbers.signed_exponent_interval(change.interval)
    return _with_interval(change, numbers.signed_exponent(change.value), interval, alpha_verdict(change))


def interval_text(change: Change) -> str:
    """A change of perplexity with its interval: `+9.5% (95% interval +5.9% to +13.3%)`."""
    if change.interval is None or change.one_draw:
        return _("{change} (1 seed)").format(change=numbers.signed_percent(change.value))
    interval = numbers.signed_percent_interval(change.interval)
    return _("{change} (95% interval {interval})").format(
        change=numbers.signed_percent(change.value), interval=interval
    )


LOWER, HIGHER, UNCLEAR = ("▼", "▽"), ("▲", "△"), "≈"
"""Behind a change of PPL that is told from none, and behind one that is not. Hollow: its interval excludes
0, but not when it is corrected for the number of differences beside it."""


def change_cell(change: Change | None, clear: bool | None = None) -> str:
    """`+3.1% (+1.0% to +5.2%) ▲`; a dash without a change, no mark with one seed.

    `clear` says whether it is still told from none when it is corrected for the number of differences; None:
    there is no correction.
    """
    if change is None:
        return numbers.ABSENT
    if change.value == 0 and change.interval in (None, (0.0, 0.0)):
        return _("the same")
    told = change.distinguishable
    parts = [numbers.signed_percent(change.value)]
    if change.interval is not None:
        parts.append(f"({numbers.signed_percent_interval(change.interval)})")
    if told is not None and not change.one_draw:
        solid, hollow = HIGHER if change.value > 0 else LOWER
        parts.append((solid if clear is None or clear else hollow) if told else UNCLEAR)
    return " ".join(parts)


def marks_text() -> str:
    """What the marks behind percentages say."""
    return _(
        "▼ lower (better), ▲ higher (worse), ≈ no clear difference, no mark: one seed, "
        "and its interval says nothing of another"
    )


def data_ratio_cell(found: DataRatio | None) -> str:
    """`0.62 (0.55 to 0.70)`; `< 0.06` or `> 1.00` where the sizes of the line end before; else a dash."""
    if found is None:
        return numbers.ABSENT
    if found.ratio is not None:
        shown = numbers.decimals(found.ratio, 2)
        return shown if found.interval is None else f"{shown} ({_ends(found.interval)})"
    signs = {"before": "<", "never": ">"}
    sign = signs.get(found.reached)
    return numbers.ABSENT if sign is None else f"{sign} {numbers.decimals(found.bound, 2)}"


def data_ratio_text(found: DataRatio) -> str:
    """`0.62 times the data (95% interval 0.55 to 0.70)`, of a ratio that was measured."""
    times = _("{ratio} times the data").format(ratio=numbers.decimals(found.ratio, 2))
    if found.interval is None:
        return _("{change} (1 seed)").format(change=times)
    text = _("{change} (95% interval over seeds {interval})")
    return text.format(change=times, interval=_ends(found.interval))


def _ends(interval: tuple[float, float]) -> str:
    return numbers.between(*(numbers.decimals(end, 2) for end in interval))


def points_text(change: Change) -> str:
    """A change of a share in percentage points."""
    interval = numbers.signed_points_interval(change.interval)
    return _with_interval(change, numbers.signed_points(change.value), interval, verdict(change))


def _with_interval(change: Change, value: str, interval: str, said: str) -> str:
    """A change with its interval; of one seed with what that is over: it says nothing of models in
    general."""
    if change.interval is None:
        return _("{change} (no interval: no verdict)").format(change=value)
    text = _("{change} (95% interval {interval}: {verdict})")
    if change.one_draw:
        text = _("{change} (1 seed: 95% interval over {what} {interval}, {verdict})")
    what = numbers.interval_over(change.kind)
    return text.format(change=value, what=what, interval=interval, verdict=said)


# --- What `cvfp fit`, reports and comparisons say alike: verdicts that do not survive, where lines cross.


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
    formulas: dict[str, str] = {**FORMULAS}
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
            given=_(formulas.get(given, given)),
            becomes=_(formulas.get(becomes, becomes)),
            sizes=_(" or ").join(left_out),
        )
        for (verdict, given, becomes, by), left_out in sizes.items()
    ]


def crossover_text(found: Crossover, kind: str | None) -> str:
    """Where two lines cross, as far as that is known; `kind` is that of the interval of their difference."""
    if found.status == "not said":
        return _(
            "Nothing is said beyond the data: that takes a power law that could be tested and fits both."
        )
    if found.status == "unbounded":
        return _("Where the lines cross, if they do, is not determined: the exponents may be equal.")
    if found.tokens is None:
        return _("The lines do not cross.")
    tokens = _amount(found.tokens)
    if found.interval is None:
        return _("The lines cross at {tokens} tokens; there is no interval of that.").format(tokens=tokens)
    text = _("The lines cross at {tokens} tokens (95% interval {interval}).")
    if kind in OF_ONE_DRAW:
        text = _("The lines cross at {tokens} tokens (95% interval {interval}), as far as one seed tells.")
    return text.format(tokens=tokens, interval=numbers.between(*map(_amount, found.interval)))


def probability(value: float) -> str:
    """A probability with two decimals; in words where these would say never or always."""
    if 0 < value < 0.01:
        return _("below 0.01")
    return _("above 0.99") if 0.99 < value < 1 else f"{value:.2f}"


def _amount(tokens: float | None) -> str:
    if tokens is None:
        return "∞"
    return numbers.count(tokens) if 1 <= tokens < 1e15 else f"{tokens:.2g}"


def _dropped(sizes: tuple[int | float, int | float] | None) -> str:
    if sizes is None:
        return ""
    return numbers.count(sizes[0]) if sizes[0] == sizes[1] else numbers.count_range(sizes)


# --- What the intervals of a report measure, in words, for the kinds that it holds.


def alpha_note(kinds: Collection[str | None], seeds_vary: str) -> str:
    """A note on the intervals of exponents."""
    texts = {
        "line": _(
            "An interval over sizes is Student's t over the points of one fit: deviation from a straight "
            "line over sizes, not run-to-run noise."
        ),
        "draws": _(
            "An interval over seeds is Student's t over the exponents of one law per seed, of which α and "
            "ln A are the means: the sizes of a seed are nested, so the seed and not the run is the unit. "
            "Seeds vary {what}."
        ).format(what=seeds_vary),
        "documents": _("An interval over test documents only is of one seed, and says nothing of another."),
        "draws x documents": _("An interval over seeds and test documents is for new ones of both."),
    }
    return _joined(texts, kinds)


def _joined(texts: dict[str, str], kinds: Collection[str | None]) -> str:
    return sentences(*(text for kind, text in texts.items() if kind in kinds))
