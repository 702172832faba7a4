"""What changes from one line to another, at equal tokens, and which settings differ between them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from cvfp.records.arms import arm_kind
from cvfp.records.config import LATER, RunConfig, dotted
from cvfp.records.errors import InputError
from cvfp.records.results import PointRecord
from cvfp.report.lines import Line
from cvfp.scaling.data_efficiency import DataRatio, data_ratios
from cvfp.scaling.documents import Losses, exponent, log_ppl_at, paired_losses
from cvfp.scaling.draws import Law
from cvfp.scaling.points import (
    Change,
    Pair,
    at_largest_size,
    distinct,
    field_change,
    law_of_ratio,
    log_ratio,
    paired,
    ppl_change,
)
from cvfp.scaling.summary import line_points

VARIES_ALONG_A_LINE = ("data.num_samples", "data.draw_seed", "seed")
CONTEXTS = {"model.context_dim", "model.cell", "model.rounds", "model.rank"}
"""What an arm without contexts does not have."""


@dataclass(frozen=True)
class SettingChange:
    """A config field (dotted) with its value in the reference line and in the other."""

    key: str
    before: Any
    after: Any

    def __str__(self) -> str:
        return f"{self.key} {shown_value(self.before)} → {shown_value(self.after)}"


def shown_value(value: Any) -> str:
    """A config value as a sweep file writes it; what is not set as `none`."""
    if isinstance(value, tuple):
        return " + ".join(value)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key} = {shown_value(each)}' for key, each in value.items())}}}"
    words = {True: "true", False: "false", None: "none"}
    return words[value] if value is None or isinstance(value, bool) else str(value)


@dataclass(frozen=True)
class LineChange:
    """One line beside a reference line. Only the same draws of as many documents are compared."""

    reference: Line
    other: Line

    @cached_property
    def settings(self) -> tuple[SettingChange, ...]:
        """Every setting in which the two differ; between arms, of the settings that both have."""
        return setting_changes(self.reference.config, self.other.config)

    @cached_property
    def same_test(self) -> bool:
        """Whether both were scored on the same text in the same tokens: otherwise PPL does not compare."""
        return not any(change.key.startswith("data.") for change in self.settings)

    @cached_property
    def pairs(self) -> list[Pair]:
        """Scored cells of both at equal tokens, in the fits or not."""
        return paired(self.reference.points, self.other.points) if self.same_test else []

    @cached_property
    def losses(self) -> Losses | None:
        """The difference on each test document, over `pairs`; None where losses were not kept."""
        return self._losses(self.reference.scored, self.other.scored)

    @cached_property
    def fitted_losses(self) -> Losses | None:
        """The same over `fitted_pairs`."""
        return self._losses(self.reference.fitted, self.other.fitted)

    @cached_property
    def top(self) -> list[Pair]:
        """The pairs at the largest common size."""
        return at_largest_size(self.pairs)

    @property
    def num_samples(self) -> int | None:
        """The largest common size in documents."""
        return self.top[0][0].num_samples if self.top else None

    @cached_property
    def ppl(self) -> Change | None:
        """Percent, at the largest common size."""
        return self.ppl_at(self.top[0][0].num_samples) if self.top else None

    @property
    def percent(self) -> Change:
        """`ppl` of two lines that share tokens."""
        assert self.ppl is not None
        return self.ppl

    def ppl_at(self, num_samples: int) -> Change | None:
        """Percent, at any size: over draws and test documents where losses were kept, else over draws.

        None where the two have no pair of that size.
        """
        pairs = [pair for pair in self.pairs if pair[0].num_samples == num_samples]
        if not pairs:
            return None
        return (
            ppl_change(pairs) if self.losses is None else log_ppl_at(self.losses, num_samples).percent_change
        )

    @cached_property
    def data_ratios(self) -> dict[int, DataRatio]:
        """With how many times its data the reference reaches the other's PPL, by the other's documents.

        Empty where PPL does not compare.
        """
        if not self.same_test or not self.reference.scored or not self.other.scored:
            return {}
        found = data_ratios(line_points(self.reference.scored), line_points(self.other.scored))
        return {int(one.size): one for one in found}

    def p_value_at(self, num_samples: int) -> float | None:
        """The p-value of no difference of PPL at a size, of the interval of `ppl_at`.

        None where several seeds do not speak: they are what a verdict takes.
        """
        pairs = [pair for pair in self.pairs if pair[0].num_samples == num_samples]
        if not pairs:
            return None
        found = log_ratio(pairs) if self.losses is None else log_ppl_at(self.losses, num_samples).widest
        one_seed = found.error is None or (self.losses is not None and len(distinct(pairs)) < 2)
        return None if one_seed else found.p_value

    def field(self, name: str) -> Change | None:
        """Change of another field of the records at the largest common size."""
        return field_change(self.top, name)

    @cached_property
    def fitted_pairs(self) -> list[Pair]:
        """The pairs of points that are both in the fits of their lines."""
        return paired(self.reference.fitted, self.other.fitted) if self.same_test else []

    @cached_property
    def ratio(self) -> Law | None:
        """The law of the ratio of the two perplexities over the common sizes of both fits."""
        return law_of_ratio(self.fitted_pairs)

    @cached_property
    def alpha(self) -> Change | None:
        """Difference of the exponents over the common sizes; above 0 the other line falls less steeply.

        Its interval is over draws and test documents where losses were kept, else over draws; with one draw
        over test documents alone, else over sizes.
        """
        if self.ratio is None:
            return None
        if self.fitted_losses is not None:
            return exponent(self.fitted_losses).change
        return Change(self.ratio.alpha, self.ratio.alpha_ci95, self.ratio.n, self.ratio.interval_kind)

    def _losses(self, before: Sequence[PointRecord], after: Sequence[PointRecord]) -> Losses | None:
        first, second = self.reference.losses(before), self.other.losses(after)
        if not self.same_test or first is None or second is None:
            return None
        try:
            return paired_losses(first, second)
        except InputError:  # no pair, or other test documents
            return None


def setting_changes(reference: RunConfig, other: RunConfig) -> tuple[SettingChange, ...]:
    """The fields that differ and can change a result. What an arm has or lacks by its nature is the arm.

    A field that is in one hash alone, because it is at its default in the other run, is that default there;
    one that follows the number of documents has the values for each number.
    """
    before, after = _settings(reference), _settings(other)
    if reference.arm == other.arm:
        keys = [*before, *(key for key in after if key not in before)]
    else:
        keys = [key for key in before if key in after or _at_default(key, other)]
        keys += [key for key in after if key not in before and _at_default(key, reference)]
    skipped: set[str] = set(VARIES_ALONG_A_LINE)
    if arm_kind(reference.arm).has_context != arm_kind(other.arm).has_context:
        skipped |= CONTEXTS
    if before.get("mixture.arms") != after.get("mixture.arms"):
        skipped.add("mixture.lines")
    pairs = ((key, _value(before, reference, key), _value(after, other, key)) for key in keys)
    return tuple(SettingChange(*pair) for pair in pairs if pair[0] not in skipped and pair[1] != pair[2])


def _settings(config: RunConfig) -> dict[str, Any]:
    """The fields that can change a result, dotted; of one that follows the size its values by number."""
    relevant = config.relevant()
    followed = relevant.pop("by_size", {})
    flat = dotted(relevant)
    return flat | {
        f"{name}.{field}": values for name, fields in followed.items() for field, values in fields.items()
    }


def _at_default(key: str, config: RunConfig) -> bool:
    """Whether an arm reads a field that is not in its hash because it is at its default."""
    section, _dot, field = key.partition(".")
    added = (*LATER.get(section, ()), "steps")
    return (
        section in arm_kind(config.arm).sections
        and section in config.relevant()
        and field in added
        and (section != "model" or arm_kind(config.arm).two_phase)
    )


def _value(settings: dict[str, Any], config: RunConfig, key: str) -> Any:
    """A field's value in settings, or where it is not among them, the run's own."""
    return settings[key] if key in settings else dotted(config.model_dump()).get(key)


def changes_within_arms(lines: Sequence[Line]) -> list[LineChange]:
    """Every line but an arm's first against the nearest before it: the one that fewest settings set apart.

    Of several the first. So variants of one line are held against it, and steps against the step before.
    """
    found, before = [], dict[str, list[Line]]()
    for line in lines:
        earlier = before.setdefault(line.arm, [])
        changes = [LineChange(other, line) for other in earlier]
        found += [min(changes, key=lambda change: len(change.settings))] if changes else []
        earlier.append(line)
    return found
