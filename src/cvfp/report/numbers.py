"""How numbers are written in reports: one rounding rule per quantity, and a dash for what is not known."""

from __future__ import annotations

import math
from collections.abc import Sequence

from cvfp.records.results import OF_ONE_DRAW, IntervalKind
from cvfp.records.texts import N_
from cvfp.records.texts import duration as duration
from cvfp.report.language import _
from cvfp.scaling.units import NATS_IN, Unit

Number = int | float
ABSENT = "–"

INTERVAL_KINDS: dict[IntervalKind, str] = {
    "line": N_("Along the line: deviation from a straight line over sizes, not run-to-run noise."),
    "draws": N_("Across seeds: Student's t over one law per seed."),
    "documents": N_("Over test documents only: of one seed, it says nothing of another."),
    "draws x documents": N_("Over seeds and test documents: for new ones of both."),
}
"""What an interval is, by `interval_kind` of the records."""
OVER: dict[IntervalKind, str] = {
    "line": N_("sizes"),
    "draws": N_("seeds"),
    "documents": N_("test documents only"),
    "draws x documents": N_("seeds and test documents"),
}
"""What an interval is over, in a word or two."""


def interval_over(kind: IntervalKind | None) -> str:
    """What an interval is over; a dash where there is none."""
    return ABSENT if kind is None else _(OVER[kind])


def interval_name(kind: IntervalKind) -> str:
    """`95% interval`, of one draw with what it is over."""
    if kind in OF_ONE_DRAW:
        return _("1 seed: 95% interval over {what}").format(what=interval_over(kind))
    return _("95% interval")


def between(low: str, high: str) -> str:
    """The range from one written number to another."""
    return _("{low} to {high}").format(low=low, high=high)


def ppl(value: Number | None) -> str:
    """A perplexity with one decimal, below ten with three, from a billion with four digits."""
    if value is None:
        return ABSENT
    if value < 10:
        return f"{value:.3f}"
    return f"{value:,.1f}" if value < 1e9 else f"{value:.4g}"


def ppl_interval(low: Number | None, high: Number | None) -> str:
    """An interval of a perplexity; without a lower bound there is none, without an upper one it is open."""
    endless = high is None or math.isinf(high)
    return ABSENT if low is None else between(ppl(low), "∞" if endless else ppl(high))


def result(value: Number | None, unit: Unit) -> str:
    """A perplexity in the unit that it was measured in: losses with three decimals."""
    return ppl(value) if value is None or unit == "ppl" else decimals(math.log(value) / NATS_IN[unit])


def result_interval(low: Number | None, high: Number | None, unit: Unit) -> str:
    """An interval of a perplexity, in that unit; as `ppl_interval`."""
    if low is None or unit == "ppl":
        return ppl_interval(low, high)
    return between(result(low, unit), "∞" if high is None or math.isinf(high) else result(high, unit))


def exponent(value: Number | None) -> str:
    """An exponent with four decimals."""
    return ABSENT if value is None else f"{value:.4f}"


def exponent_interval(bounds: tuple[float, float] | None) -> str:
    """An interval of an exponent."""
    return ABSENT if bounds is None else between(exponent(bounds[0]), exponent(bounds[1]))


def signed_exponent(value: Number) -> str:
    """A change of an exponent."""
    return f"{value:+.4f}"


def signed_exponent_interval(bounds: tuple[float, float] | None) -> str:
    """An interval of a change of an exponent."""
    return ABSENT if bounds is None else between(signed_exponent(bounds[0]), signed_exponent(bounds[1]))


def coefficient(value: Number | None) -> str:
    """The factor A of a power law with four significant digits."""
    if value is None:
        return ABSENT
    return f"{float(f'{value:.4g}'):,.0f}" if 1e3 <= value < 1e9 else f"{value:.4g}"


def r_squared(value: Number | None) -> str:
    """R² with four decimals."""
    return ABSENT if value is None else f"{value:.4f}"


def share(value: Number | None) -> str:
    """A share (0.226) as a percentage with one decimal (22.6%)."""
    return ABSENT if value is None else f"{100 * value:.1f}%"


def signed_percent(value: Number) -> str:
    """A percentage with its sign and one decimal, two where one would show nothing of it."""
    return f"{value:+z.{2 if 0 < abs(value) < 0.05 else 1}f}%"


def signed_percent_interval(bounds: tuple[float, float] | None) -> str:
    """An interval of a change in percent."""
    return ABSENT if bounds is None else between(signed_percent(bounds[0]), signed_percent(bounds[1]))


def percent_reach(value: Number) -> str:
    """Half of an interval of a percentage, `±3.6%`: one decimal, two below 1%."""
    return f"±{value:,.{2 if value < 0.995 else 1}f}%"


def signed_points(value: Number | None) -> str:
    """A change of a share, in percentage points."""
    return ABSENT if value is None else _("{change} points").format(change=signed_decimals(100 * value, 1))


def signed_points_interval(bounds: tuple[float, float] | None) -> str:
    """An interval of a change of a share, in percentage points."""
    return ABSENT if bounds is None else between(*(signed_decimals(100 * bound, 1) for bound in bounds))


def times_read(passes: tuple[float, float]) -> str:
    """How often data were read, `5.0 to 16.0`, or one number where that is the same."""
    low, high = (decimals(each, 1) for each in passes)
    return low if low == high else between(low, high)


def about(seconds: float) -> str:
    """A time that is not known to the second: `42 s`, `3 min 20 s`, `20 min`, `2 h 5 min`."""
    step = 1 if seconds < 60 else 10 if seconds < 600 else 60
    return duration(step * round(seconds / step)).removesuffix(" 0 s")


def bits(value: Number | None) -> str:
    """Bits per byte with three decimals."""
    return ABSENT if value is None else f"{value:.3f}"


def nats(value: Number) -> str:
    """A loss of any size: four digits."""
    return f"{value:.4g}"


def decimals(value: Number | None, places: int = 3) -> str:
    """Any other real number."""
    return ABSENT if value is None else f"{value:.{places}f}"


def average(value: Number | None) -> str:
    """A mean of whole numbers: one decimal, and none where it is whole."""
    return ABSENT if value is None else f"{value:.1f}".removesuffix(".0")


def signed_decimals(value: Number, places: int) -> str:
    """A change of any other real number."""
    return f"{value:+z.{places}f}"


def count(value: Number | None) -> str:
    """A whole number with thousands separators."""
    return ABSENT if value is None else f"{value:,.0f}"


def count_range(ends: Sequence[Number]) -> str:
    """The range from the first to the last of two whole numbers."""
    return between(count(ends[0]), count(ends[1]))


def without(sizes: Sequence[Number]) -> str:
    """Sizes that a window bridges."""
    return _("without {sizes}").format(sizes=", ".join(count(size) for size in sizes))


def seconds(value: Number | None) -> str:
    """A duration in seconds: one decimal below 100 s."""
    if value is None:
        return ABSENT
    return f"{value:.1f}" if value < 100 else f"{value:,.0f}"


def tokens(value: Number) -> str:
    """This is `count`; four significant digits where that would be 0, or show digits that no float has."""
    return count(value) if 0.5 <= value < 1e15 else f"{value:.4g}"


def short_count(value: Number | None) -> str:
    """A count in few characters, as on an axis: `500`, `50k`, `1.5M`."""
    if value is None:
        return ABSENT
    for size, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if size <= value < 1e21:
            return f"{value / size:.4g}{letter}"
    return f"{value:.4g}"
