"""What to run next: the cheapest addition to a sweep that would change what may be said of it."""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from cvfp.report import numbers
from cvfp.report.language import _, listed
from cvfp.report.markdown import code, plain
from cvfp.report.standings import MIXTURE
from cvfp.report.view import View

SEEDS = 3
"""Of one more model or size an interval over seeds is of use from here on."""
MORE_SEEDS = 2


@dataclass(frozen=True)
class NextRun:
    """A command and what it would settle, as Markdown; `seconds` of this machine's past runs, if known."""

    command: str
    why: str
    seconds: float | None

    @property
    def text(self) -> str:
        """`cvfp run DIR --seeds 3`: why (about 4 min)."""
        if self.seconds is None:
            return _("{command}: {why}.").format(command=code(self.command), why=self.why)
        return _("{command}: {why} (about {time}).").format(
            command=code(self.command), why=self.why, time=numbers.duration(self.seconds)
        )


def next_run(view: View) -> NextRun | None:
    """The first of these that applies: what is missing; more seeds where a verdict lacks them; twice the
    data.

    None where nothing can be added: published tables, or no data left.
    """
    if view.sweep.files is None or view.reference is None:
        return None
    missing = len(view.sweep.missing())
    if missing:
        why = _("{count} planned runs have no record yet").format(count=missing)
        return NextRun(_run(view), why, None)
    seeds = {point.config.seed for point in view.sweep.plan.points}
    if len(seeds) < SEEDS:
        why = _("an interval over seeds for every difference")
        return NextRun(_more_seeds(view, SEEDS), why, _cost_of_seeds(view, SEEDS - len(seeds)))
    unclear = [
        plain(change.other.label)
        for change in view.changes
        if view.top is not None
        and (ppl := change.ppl_at(view.top.num_samples)) is not None
        and ppl.distinguishable is False
    ]
    if unclear:
        why = _("narrower intervals: at the largest size there is no clear difference from {models}")
        command = _more_seeds(view, len(seeds) + MORE_SEEDS)
        return NextRun(command, why.format(models=listed(unclear)), _cost_of_seeds(view, MORE_SEEDS))
    return _larger(view)


def _run(view: View) -> str:
    return f"cvfp run {shlex.quote(view.place)}"


def _more_seeds(view: View, count: int) -> str:
    return f"{_run(view)} --seeds {count}"


def _cost_of_seeds(view: View, count: int) -> float | None:
    """So many times what one seed took."""
    known = [point.wall_seconds for point in view.sweep.points if point.wall_seconds is not None]
    seeds = {point.seed for point in view.sweep.points}
    return count * sum(known) / len(seeds) if known else None


def _larger(view: View) -> NextRun | None:
    """Twice the largest size, as far as the corpus has so many documents."""
    sizes = sorted({point.config.data.num_samples for point in view.sweep.plan.points})
    size = 2 * sizes[-1]
    pool = [data.splits["pool"].documents for data in view.sweep.metadata.data if "pool" in data.splits]
    if len(sizes) < 2 or not pool or min(pool) < size:
        return None
    why = _("whether the order still holds at twice the data")
    all_sizes = " ".join(map(str, [*sizes, size]))
    return NextRun(f"{_run(view)} --samples {all_sizes}", why, _cost_of_size(view, sizes))


def _cost_of_size(view: View, sizes: Sequence[int]) -> float | None:
    """The largest size's seconds times the factor by which they grew over the last doubling."""
    at = [
        sum(
            point.wall_seconds or 0.0
            for point in view.sweep.points
            if point.num_samples == size and point.arm != MIXTURE
        )
        for size in sizes[-2:]
    ]
    if min(at) <= 0:
        return None
    return at[1] * (at[1] / at[0]) ** (1 / math.log2(sizes[-1] / sizes[-2]))
