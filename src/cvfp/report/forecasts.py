"""What the fitted laws say of sizes that were not run."""

from __future__ import annotations

import statistics
from collections.abc import Sequence

from cvfp.report import numbers
from cvfp.report.language import _, listed, sentences
from cvfp.report.law_choice import doubted
from cvfp.report.lines import Line
from cvfp.report.markdown import plain, table
from cvfp.report.windows import curved
from cvfp.scaling.forecast import Forecast


def forecast_table(lines: Sequence[Line]) -> str:
    """One row per line and predicted size; empty when no line has a law."""
    header = (
        _("line"),
        _("training tokens"),
        _("times the largest fitted"),
        _("predicted PPL"),
        _("95% prediction interval"),
    )
    rows = [row for line in lines for row in _rows(line)]
    return table(header, rows) if rows else ""


def _rows(line: Line) -> list[list[str]]:
    if not line.fitted:
        return []
    largest = max(point.train_tokens for point in line.fitted)
    return [
        [
            plain(line.label),
            numbers.count(one.tokens),
            f"{one.tokens / largest:.3g}",
            numbers.ppl(one.ppl),
            numbers.ppl_interval(one.low, one.high),
        ]
        for one in line.forecasts
    ]


def forecast_conclusions(lines: Sequence[Line]) -> list[str]:
    """What the laws say of the farthest size that most lines are predicted at, and whether it orders them.

    A law that misses its own largest size is not asked, and none of a line that it does not describe.
    """
    missed = [line for line in lines if line.backtest is not None and not line.backtest.held]
    fit = [line for line in lines if line not in missed and not curved(line) and not doubted(line)]
    asked = [line for line in fit if line.forecasts]
    known = [(line, line.forecasts[-1]) for line in asked]
    known = [(line, one) for line, one in known if one.low is not None]
    found = [_missed_text(missed)] if missed else []
    if not known:
        return found
    tokens = statistics.mode(one.tokens for _line, one in known)
    return [*found, _lowest_text([(line, one) for line, one in known if one.tokens == tokens])]


def _missed_text(lines: Sequence[Line]) -> str:
    text = _("Laws that miss their own largest size, so that no prediction is taken from them: {lines}.")
    one = _("{line} (predicted {ppl} from the smaller sizes, 95% interval {interval}; measured {measured})")
    shown = [
        one.format(
            line=plain(line.label),
            ppl=numbers.ppl(line.backtest.predicted),
            interval=numbers.ppl_interval(line.backtest.low, line.backtest.high),
            measured=numbers.ppl(line.backtest.measured),
        )
        for line in lines
    ]
    return text.format(lines=_("; ").join(shown))


def _lowest_text(known: Sequence[tuple[Line, Forecast]]) -> str:
    line, lowest = min(known, key=lambda pair: pair[1].ppl)
    text = _("If the power laws go on, {line} is lowest at {tokens} tokens, {ppl} ({kind} {interval}).")
    sentence = text.format(
        tokens=numbers.count(lowest.tokens),
        line=plain(line.label),
        ppl=numbers.ppl(lowest.ppl),
        kind=numbers.interval_name(line.law.interval_kind),
        interval=numbers.ppl_interval(lowest.low, lowest.high),
    )
    reach = lowest.high if lowest.high is not None else float("inf")
    close = [plain(other.label) for other, one in known if other is not line and one.low <= reach]
    if not close:
        return sentence
    overlap = _("The intervals of {lines} overlap it: the order is not supported.")
    return sentences(sentence, overlap.format(lines=listed(close)))
