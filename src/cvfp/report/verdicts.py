"""A change in words: its value, its interval, and what the interval says."""

from __future__ import annotations

from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.scaling.pairs import Change


def verdict(change: Change | None) -> str:
    """What an interval of a change says, in words."""
    if change is None or change.distinguishable is None:
        return _("no verdict")
    if not change.distinguishable:
        return _("not distinguishable")
    return _("higher") if change.value > 0 else _("lower")


def alpha_verdict(change: Change | None) -> str:
    """What an interval of a change of the exponent says, in words."""
    if change is None or not change.distinguishable:
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


def points_text(change: Change) -> str:
    """A change of a share in percentage points."""
    interval = numbers.signed_points_interval(change.interval)
    return _with_interval(change, numbers.signed_points(change.value), interval, verdict(change))


def _with_interval(change: Change, value: str, interval: str, said: str) -> str:
    """Of one draw with what its interval is over: it says nothing of arms in general."""
    if change.interval is None:
        return _("{change} (no interval: no verdict)").format(change=value)
    text = _("{change} (95% interval {interval}: {verdict})")
    if change.one_draw:
        text = _("{change} (one draw: 95% interval over {what} {interval}, {verdict})")
    what = numbers.interval_over(change.kind)
    return text.format(change=value, what=what, interval=interval, verdict=said)
