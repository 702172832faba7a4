"""The lines of a sweep, each with all that a report says of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np

from cvfp.records.arms import arm_kind
from cvfp.records.config import RunConfig
from cvfp.records.errors import InputError
from cvfp.records.results import (
    CAP,
    DIVERGED,
    Exclusion,
    PointRecord,
    ProgressionRecord,
    RunRecord,
    SummaryRecord,
    WindowRecord,
)
from cvfp.records.sweep import Sweep, key_of, planned_key
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.report.markdown import plain
from cvfp.scaling.documents import Losses, losses_of
from cvfp.scaling.draws import Law
from cvfp.scaling.forecast import Backtest, Holdout
from cvfp.scaling.line import LineAnalysis
from cvfp.scaling.local_exponent import bend
from cvfp.scaling.outlook import ADEQUATE, Extrapolated
from cvfp.scaling.points import Change, range_of_passes
from cvfp.scaling.summary import LineFit, fit_lines, progressions, summarise

Name = tuple[str, str]
"""(arm, config_name): what names a line in the files."""


REACH, PLACES = 10, 8
"""Figures go on to this multiple of the largest fitted size, by so many places."""
LEAST_SIZES = 3
"""That a law can be held against."""
Rejection = Literal["sizes", "form", "fit", "curvature", "windows", "largest size"]


@dataclass(frozen=True)
class Line:
    """One line of a fit: its points and law, and what was computed from them.

    `label` is the shortest name that no other line of the sweep has.
    """

    label: str
    config: RunConfig
    """Settings of its first point."""
    fit: LineFit
    summary: SummaryRecord
    progression: ProgressionRecord | None
    asked: tuple[float, ...]
    """Token counts to forecast at; empty: multiples of the largest size."""
    runs: tuple[RunRecord | None, ...]
    """The run behind each point, where it was kept."""
    tuned_trials: int | None
    """Trials that its settings are the best of; None where they were not tuned."""

    @property
    def points(self) -> tuple[PointRecord, ...]:
        return self.fit.points

    @property
    def fitted(self) -> tuple[PointRecord, ...]:
        return self.fit.fitted

    @property
    def law(self) -> Law | None:
        return self.fit.law

    def losses(self, points: Collection[PointRecord]) -> Losses | None:
        """Losses of these of its points on each test document; None where one of them does not have them.

        None also with fewer than two test documents, or where they are not the same for all.
        """
        chosen = set(points)
        runs = [run for point, run in zip(self.points, self.runs, strict=True) if point in chosen]
        known = [run for run in runs if run is not None and run.test_documents is not None]
        if not known or len(known) < len(runs):
            return None
        try:
            return losses_of(known)
        except InputError:
            return None

    @property
    def analysis(self) -> LineAnalysis:
        """What the points of the fit say, of a line that has a law."""
        assert self.fit.analysis is not None
        return self.fit.analysis

    @property
    def windows(self) -> tuple[WindowRecord, ...]:
        """Those of its local exponent; empty where it has none."""
        return () if self.progression is None else self.progression.windows

    @property
    def passes(self) -> tuple[float, float] | None:
        """Fewest and most times that the runs of its fit read a token; None where none reads one twice."""
        return range_of_passes(point.passes for point in self.fitted)

    @cached_property
    def forecasts(self) -> list[Extrapolated]:
        """What is forecast at the sizes that the plan asks for; none without a forecast."""
        return [] if self.law is None else self.analysis.forecasts(self.asked)

    @cached_property
    def holdouts(self) -> list[Holdout]:
        """Hold-outs with the largest size hidden, and with the two largest where three are left; none
        without a law."""
        sizes = {point.num_samples for point in self.fitted}
        try:
            found = [self.analysis.holdout(hide) for hide in (1, 2) if len(sizes) - hide > max(hide, 1)]
        except InputError:  # a law that predicts no finite number
            return []
        return [one for one in found if one is not None]

    @property
    def backtest(self) -> Backtest | None:
        """The power law of all sizes but the largest, read at the largest; None where it has no interval."""
        known = [form for found in self.holdouts[:1] for form in found.forms if form.form == "ppl_power"]
        return next((one for form in known for one in form.predictions), None)

    @cached_property
    def rejections(self) -> tuple[Rejection, ...]:
        """What speaks against the power law of PPL of a line that has one.

        `sizes`: it has two sizes, through which any law goes. `form`: another form of the law predicts
        left-out sizes better. `fit`: it misses sizes by more than their error explains. `curvature`: the
        line bends beyond error. `windows`: so does the exponent of its windows. `largest size`: the law of
        the smaller sizes misses it.
        """
        if self.law is None:
            return ()
        verdicts: dict[Rejection, bool] = {
            "sizes": len(self.analysis.points.distinct_sizes) < LEAST_SIZES,
            "form": any(
                one.verdict == "preferred" and one.fit.form != "ppl_power" for one in self.analysis.forms
            ),
            "fit": self.analysis.outlook.tried.get("ppl_power", 1.0) < ADEQUATE,
            "curvature": bend(self.analysis.curvature) == "curved",
            "windows": self.progression is not None and bool(window_change(self).distinguishable),
            "largest size": self.backtest is not None and not self.backtest.held,
        }
        return tuple(name for name, found in verdicts.items() if found)

    @property
    def extrapolates(self) -> bool:
        """Whether there is a forecast beyond its data (`cvfp.scaling.outlook`)."""
        return self.law is not None and self.analysis.outlook.refused is None

    @cached_property
    def ahead(self) -> tuple[Extrapolated, ...]:
        """The forecast from its largest size to `REACH` times that, for figures; empty without one."""
        if not self.extrapolates:
            return ()
        largest = float(self.analysis.points.tokens.max())
        found = self.analysis.forecasts(np.geomspace(largest, REACH * largest, PLACES).tolist())
        return tuple(found)

    @property
    def arm(self) -> str:
        return self.points[0].arm

    @property
    def config_name(self) -> str:
        return self.points[0].config_name

    @property
    def scored(self) -> tuple[PointRecord, ...]:
        """Points with a perplexity and a size: those that a figure can show."""
        return tuple(p for p in self.points if p.val_ppl is not None and p.train_tokens is not None)

    @property
    def excluded(self) -> tuple[PointRecord, ...]:
        """Points that were scored but take no part in the fit."""
        return tuple(point for point in self.scored if point not in self.fitted)

    @property
    def pretrained(self) -> bool:
        """Whether the arm, or one that it mixes, uses a token table that was trained on other data."""
        arms = self.config.mixture.arms if self.arm == "mixture" else (self.arm,)
        return any(arm_kind(arm).neural for arm in arms) and self.config.embedding.source != "random"

    @property
    def prior(self) -> tuple[str, ...]:
        """Data other than the training documents that its runs profited from, each once."""
        named = (prior for run in self.runs if run is not None for prior in run.facts.prior)
        return tuple(dict.fromkeys(named))


def report_lines(sweep: Sweep) -> list[Line]:
    """The lines that have at least one point, in order of first appearance, computed from the points."""
    analysis = sweep.plan.analysis
    fits = fit_lines(sweep.points, analysis)
    summaries = summarise(fits)
    labels = line_labels([(row.arm, row.config_name) for row in summaries])
    windows = {(row.arm, row.config_name): row for row in progressions(fits, analysis.window_size)}
    planned = {planned_key(point): point for point in sweep.plan.points}
    return [
        Line(
            label=label,
            config=planned[key_of(fit.points[0])].config,
            tuned_trials=planned[key_of(fit.points[0])].tuned_trials,
            fit=fit,
            summary=summary,
            asked=analysis.extrapolate,
            runs=tuple(sweep.run_of(point) for point in fit.points),
            progression=windows.get((summary.arm, summary.config_name)),
        )
        for fit, summary, label in zip(fits, summaries, labels, strict=True)
    ]


def window_change(line: Line) -> Change:
    """Change of the exponent of a line that has windows, from the first to the last."""
    found = line.progression
    assert found is not None
    kind = found.windows[0].interval_kind or "line"
    return Change(found.alpha_change, found.alpha_change_ci95, len(line.fitted), kind)


def line_labels(names: Sequence[Name]) -> list[str]:
    """The arm where it has one line, the config name where there is one arm, both where neither is enough."""
    arms = Counter(arm for arm, _ in names)
    if len(arms) == 1:
        return [config for _, config in names]
    return [arm if arms[arm] == 1 else f"{arm} {config}" for arm, config in names]


def several_seeds(points: Sequence[PointRecord]) -> bool:
    return len({point.seed for point in points}) > 1


def phase1_iterations(point: PointRecord, run: RunRecord | None) -> str:
    """Iterations of phase 1; `≥ 40` when its cap stopped it; a dash for an arm without phase 1."""
    if point.phase1_iter is None:
        return numbers.ABSENT
    censored = run is not None and run.phase1_converged is False
    return f"≥ {point.phase1_iter}" if censored else str(point.phase1_iter)


def tuned_text(line: Line) -> str:
    """Whether the settings of a line were tuned, and how much; a mixture has none of its own."""
    if line.arm == "mixture":
        return numbers.ABSENT
    if line.tuned_trials is None:
        return _("not tuned")
    return _("tuned, {trials} trials").format(trials=line.tuned_trials)


def capped(point: PointRecord) -> bool:
    """Whether training ended at its cap, so perhaps not at the minimum of its dev loss."""
    return point.stop_reason == CAP


REASONS = {
    "failed": N_("failed"),
    "diverged": N_("diverged"),
    "no_result": N_("has no perplexity or no number of tokens"),
    "cap": N_("stopped at its cap"),
    "repeated": N_("the same result as seed {seed}"),
    "lone_seed": N_("the only size of its seed, and a fit needs two"),
    "lone_size": N_("the only size left, and a fit needs two"),
}
"""Why a run is in no fit."""


def exclusion_text(why: Exclusion) -> str:
    """Which run is in no fit, and why."""
    reason = _(REASONS[why.reason]).format(seed=why.repeated_seed)
    return _(": ").join([place_text(why.num_samples, why.seed), reason])


def place_text(num_samples: int, seed: int) -> str:
    """Which run of a line."""
    return _("{documents} documents, seed {seed}").format(documents=numbers.count(num_samples), seed=seed)


# --- Runs that diverged: nothing uses them, so they are named where they lack.


def diverged_runs(points: Sequence[PointRecord]) -> list[str]:
    """Every run that diverged, with the loss of what it has left."""
    text = _("{run} ({nats} nats per token)")
    return [
        text.format(
            run=_("{model}, {why}").format(
                model=plain(f"{point.arm} {point.config_name}"),
                why=place_text(point.num_samples, point.seed),
            ),
            nats=numbers.nats(point.nats),
        )
        for point in points
        if point.status == DIVERGED
    ]


def diverged_text(points: Sequence[PointRecord]) -> str:
    """What is in no fit and no comparison since it diverged; empty where nothing did."""
    found = diverged_runs(points)
    if not found:
        return ""
    text = _("Diverged, and in no fit, forecast or comparison, {count} of {total} runs: {runs}.")
    return text.format(count=len(found), total=len(points), runs=_("; ").join(found))
