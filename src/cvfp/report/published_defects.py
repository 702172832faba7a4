"""What the published tables do not support, shown with the figures that they do support.

Every figure is computed from the printed perplexities, tokens and hyperparameters alone.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from cvfp.report import numbers
from cvfp.report.changes import LineChange
from cvfp.report.language import _
from cvfp.report.lines import Line
from cvfp.report.markdown import bullets, plain, table
from cvfp.report.verdicts import alpha_text
from cvfp.report.versions import Row, Version, labelled, rows_of
from cvfp.scaling.line_fit import law_of
from cvfp.scaling.pairs import ppl_change

Section = tuple[str, str, str]
"""Title, table, and what it shows in words."""


def defects(versions: Sequence[Version]) -> str:
    """Sections of Markdown, those that the given versions have anything to say to."""
    found = [
        *([] if len(versions) < 2 else [_unequal_data(versions), _many_settings(versions)]),
        _undertrained(versions),
        _unsupported_rankings(versions),
        _capped_iterations(versions),
        _parameter_efficiency(versions),
    ]
    parts = [f"### {title}\n\n{body}\n\n{text}" for title, body, text in found if body]
    title = _("What the tables do not support")
    return "\n\n".join([f"## {title}", *parts, _unseen()])


def _unequal_data(versions: Sequence[Version]) -> Section:
    """Best perplexities of versions with other largest sizes, beside the change at equal tokens."""
    header = (
        _("line"),
        _("versions"),
        _("best PPL before"),
        _("at tokens"),
        _("best PPL after"),
        _("at tokens"),
        _("as compared"),
        _("at equal tokens"),
        _("law of the earlier at the later's tokens"),
    )
    rows = [
        row
        for line_row in rows_of(versions)
        for pair in itertools.combinations(labelled(line_row), 2)
        if (row := _unequal_row(line_row, LineChange(*pair))) is not None
    ]
    text = _(
        "Best perplexities at different sizes mix what more data does with what the version does. The change "
        "at equal tokens is given for every common size, smallest first."
    )
    return _("Versions compared at unequal data"), table(header, rows, left=2) if rows else "", text


def _unequal_row(row: Row, change: LineChange) -> list[str] | None:
    before, after = (
        min(line.scored, key=lambda point: point.val_ppl) for line in (change.reference, change.other)
    )
    if before.train_tokens == after.train_tokens:
        return None
    equal = [numbers.signed_percent(ppl_change([pair]).value) for pair in change.pairs]
    law = change.reference.law
    return [
        plain(row.name),
        f"{plain(change.reference.label)} → {plain(change.other.label)}",
        numbers.ppl(before.val_ppl),
        numbers.count(before.train_tokens),
        numbers.ppl(after.val_ppl),
        numbers.count(after.train_tokens),
        numbers.signed_percent(100 * (after.val_ppl / before.val_ppl - 1)),
        ", ".join(equal),
        numbers.ABSENT if law is None else numbers.ppl(float(law.predict(after.train_tokens))),
    ]


def _many_settings(versions: Sequence[Version]) -> Section:
    """Versions that differ in several settings, of which none can be credited."""
    steps: dict[tuple[str, str], list[str]] = {}
    for row in rows_of(versions):
        for before, after in itertools.combinations(labelled(row), 2):
            names = [str(setting) for setting in LineChange(before, after).settings]
            steps.setdefault((before.label, after.label), names)
    rows = [
        [f"{plain(before)} → {plain(after)}", numbers.count(len(names)), plain(", ".join(names))]
        for (before, after), names in steps.items()
        if len(names) > 1
    ]
    header = (_("versions"), _("settings"), _("what differs"))
    text = _("Sentences that give one of these settings the credit for a change do not follow from the runs.")
    return _("Several settings changed at once"), table(header, rows, left=3) if rows else "", text


def _undertrained(versions: Sequence[Version]) -> Section:
    """The exponent with and without the smallest size, and how long that one could train at most."""
    header = (
        _("version"),
        _("line"),
        _("smallest size"),
        _("steps at most"),
        _("train PPL there"),
        _("train PPL at the largest"),
        _("α"),
        _("α without it"),
        _("change"),
    )
    rows = [_undertrained_row(version, line) for version in versions for line in version.lines]
    text = _(
        "Steps at most: the cap on epochs times the batches of an epoch. Where a version with a higher cap "
        "has a much lower train PPL at the same smallest size, the other was stopped before it was trained "
        "to the end, and that point makes its line look steeper."
    )
    return _("Small points that were not trained to the end"), table(header, rows, left=2), text


def _undertrained_row(version: Version, line: Line) -> list[str]:
    first, *rest = sorted(line.scored, key=lambda point: point.num_samples)
    config = line.config.phase2
    steps = config.epochs * math.ceil((first.train_tokens - 1) / config.batch_size)
    without = law_of(rest).alpha
    return [
        plain(version.name),
        plain(line.config_name),
        numbers.count(first.num_samples),
        numbers.count(steps),
        numbers.ppl(first.train_ppl),
        numbers.ppl(rest[-1].train_ppl),
        numbers.exponent(line.summary.alpha),
        numbers.exponent(without),
        numbers.signed_exponent(without - line.summary.alpha),
    ]


def _unsupported_rankings(versions: Sequence[Version]) -> Section:
    """Differences of exponents within a version, paired at equal tokens."""
    rows = [
        [plain(version.name), f"{plain(b.label)} − {plain(a.label)}", alpha_text(LineChange(a, b).alpha)]
        for version in versions
        for a, b in itertools.combinations(version.lines, 2)
    ]
    header = (_("version"), _("difference of α"), _("value"))
    text = _(
        "One seed: the interval is over sizes, the deviation of the ratio of two lines from a straight line. "
        "What is not distinguishable cannot be ranked."
    )
    return _("Rankings by α"), table(header, rows, left=3) if rows else "", text


def _capped_iterations(versions: Sequence[Version]) -> Section:
    """Lines whose phase 1 ended at its cap: no percentage can be taken from them."""
    rows = [
        [plain(version.name), plain(line.config_name), f"≥ {line.runs[0].point.phase1_iter}"]
        for version in versions
        for line in version.lines
        if any(run is not None and run.phase1_converged is False for run in line.runs)
    ]
    text = _(
        "Phase 1 ended at its cap, not because it had converged: the number of iterations is a lower bound, "
        "and so is every saving in percent that is computed from it."
    )
    header = (_("version"), _("line"), _("iterations"))
    return _("Iterations that are a cap"), table(header, rows, left=2) if rows else "", text


def _parameter_efficiency(versions: Sequence[Version]) -> Section:
    """PPL per million parameters, with the reason why it says nothing; effective dimensions."""
    header = (
        _("version"),
        _("line"),
        _("context-block params"),
        _("best PPL"),
        _("PPL per million params"),
        _("val ER"),
        _("effective dimensions"),
    )
    rows = [_efficiency_row(version, line) for version in versions for line in version.lines]
    text = _(
        "PPL per million parameters falls as parameters grow whatever a model does (a lower figure would "
        "even be the better one): it says nothing about efficiency. Parameters are exact counts."
    )
    return _("PPL per million parameters"), table(header, rows, left=2), text


def _efficiency_row(version: Version, line: Line) -> list[str]:
    row = line.summary
    rank = row.best_val_er * row.context_dim
    return [
        plain(version.name),
        plain(line.config_name),
        numbers.count(row.context_block_params),
        numbers.ppl(row.best_ppl),
        numbers.decimals(row.best_ppl / (row.context_block_params / 1e6), 1),
        numbers.share(row.best_val_er),
        f"{rank:.0f}/{row.context_dim}",
    ]


def _unseen() -> str:
    title = _("What tables cannot show")
    items = (
        _("The epoch was chosen on the validation text that is reported: its perplexities are flattered."),
        _("The batch size followed from the free memory of the card: another card, another perplexity."),
        _("Position 0 of every sweep of phase 1 received the last token's context: causality leaked."),
        _("Beyond 1,000 training conversations the validation conversations are among them."),
        _("The causes named for the flattening exponent were not tested: they are hypotheses."),
    )
    return f"### {title}\n\n{bullets(items)}"
