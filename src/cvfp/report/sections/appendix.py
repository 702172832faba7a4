"""The appendix, folded: every sentence that the rules produced, every run, forms, windows, spread, files."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.records.results import DIVERGED, PointRecord, RunRecord
from cvfp.records.sweep import Sweep
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.blocks import Block, Fold, Section, present
from cvfp.report.conclusions import conclusions
from cvfp.report.language import _, in_language, spoken
from cvfp.report.lines import (
    Line,
    capped,
    diverged_runs,
    exclusion_text,
    phase1_iterations,
    place_text,
    several_seeds,
)
from cvfp.report.markdown import Column, bold, bullets, plain, table
from cvfp.report.recommendations import recommendation_table
from cvfp.report.sections.forms import form_blocks, window_blocks
from cvfp.report.sections.spread import spread_blocks
from cvfp.report.standings import MIXTURE
from cvfp.report.view import View


def section(view: View) -> Section:
    """What a reader looks up."""
    return Section(
        _("Appendix"),
        present(
            [
                Fold(_("Every sentence that the rules produced"), _sentences(view)),
                Fold(_("Best choice by goal"), _goals(view)),
                Fold(_("Every run"), _runs(view)),
                Fold(_("Form of the law"), form_blocks(view.lines)),
                Fold(_("Sliding windows"), window_blocks(view)),
                Fold(_("Where the spread comes from"), spread_blocks(view.lines)),
                Fold(_("Weights of the mixtures"), (mixture_table(view),)),
                Fold(_("Failed, missing, and left out of the fits"), (bullets(_lacking(view)),)),
                Fold(_("What the columns mean"), (glossary(view.sweep),)),
                Fold(_("Files"), (bullets(file_list(view.sweep)),)),
            ]
        ),
    )


# --- Sentences and goals.


def _sentences(view: View) -> tuple[Block, ...]:
    found = conclusions(view.sweep, view.lines)
    note = _(
        "Each sentence follows by a fixed rule from the numbers in it. A verdict (lower, higher, steeper, "
        "flatter) is given only where the 95% interval of a difference over several seeds, paired at equal "
        "training tokens, excludes 0; where the losses of the test documents were kept, it is over them too. "
        "With one seed the interval says nothing of another, and there is no verdict. The intervals are not "
        "corrected for their number. A cause is named only where a single setting, or the model alone, "
        "differs."
    )
    return (bullets(found), note) if found else ()


def _goals(view: View) -> tuple[Block, ...]:
    found = recommendation_table(view.lines)
    if not found or view.top is None:
        return ()
    note = _(
        "Values at {documents} documents, the largest common size. Models that are not told apart from the "
        "leading one are as good a choice for that goal as far as these runs can tell."
    ).format(documents=numbers.count(view.top.num_samples))
    return found, note


# --- Every run.


_Run = tuple[PointRecord, RunRecord | None]


def _runs(view: View) -> tuple[Block, ...]:
    found: list[Block] = []
    for line in view.lines:
        named = line.label != line.config_name and not line.label.endswith(line.config_name)
        title = plain(line.label) + (f" ({plain(line.config_name)})" if named else "")
        found += [f"### {title}", details_table(line)]
    if any(capped(point) for point in view.sweep.points):
        found.append(_("‡ training stopped at its cap."))
    if any(point.status == DIVERGED for point in view.sweep.points):
        found.append(_("∞: the model diverged."))
    return tuple(found)


def details_table(line: Line) -> str:
    """A row per run, in order of size."""
    columns = [
        Column[_Run](_("documents"), lambda row: numbers.count(row[0].num_samples)),
        Column[_Run](_("seed"), lambda row: str(row[0].seed)),
        Column[_Run](_("tokens"), lambda row: numbers.count(row[0].train_tokens)),
        Column[_Run](_("steps"), lambda row: numbers.count(row[0].steps)),
        Column[_Run](_("stopped by"), lambda row: _stopped_by(row[0])),
        Column[_Run](_("train PPL"), lambda row: numbers.ppl(row[0].train_ppl)),
        Column[_Run](_("dev PPL"), lambda row: numbers.ppl(row[0].dev_ppl)),
        Column[_Run](_("test PPL"), lambda row: _test_ppl(row[0])),
        Column[_Run](_("test accuracy"), lambda row: numbers.share(row[0].val_acc)),
        Column[_Run](_("train ER"), lambda row: numbers.share(row[0].train_er)),
        Column[_Run](_("test ER"), lambda row: numbers.share(row[0].val_er)),
        Column[_Run](_("bits per byte"), lambda row: numbers.bits(row[0].bits_per_byte)),
        Column[_Run](_("P1 iterations"), lambda row: phase1_iterations(*row)),
        Column[_Run](_("seconds"), lambda row: numbers.seconds(row[0].wall_seconds)),
    ]
    if not several_seeds(line.points):
        columns = [column for column in columns if column.title != _("seed")]
    runs = zip(line.points, line.runs, strict=True)
    return table(columns, sorted(runs, key=lambda row: (row[0].num_samples, row[0].seed)))


STOP_REASONS = (N_("dev minimum"), N_("fixed steps"), N_("closed form"), N_("cap"), N_("diverged"))
"""Stop reasons as they are shown, for the catalogues."""


def _test_ppl(point: PointRecord) -> str:
    return "∞" if point.status == DIVERGED else numbers.ppl(point.val_ppl)


def _stopped_by(point: PointRecord) -> str:
    if point.status == "failed":
        return _("failed")
    if point.stop_reason is None:
        return numbers.ABSENT
    return plain(_(point.stop_reason.replace("_", " "))) + ("‡" if capped(point) else "")


# --- Mixtures.


_Share = tuple[Line, str, float]


def mixture_table(view: View) -> str:
    """The share of every model that a mixture is made of, means over its runs at the common size."""
    columns = [
        Column[_Share](_("mixture"), lambda row: plain(row[0].label), words=True),
        Column[_Share](_("model"), lambda row: plain(row[1]), words=True),
        Column[_Share](_("weight"), lambda row: numbers.share(row[2])),
    ]
    return table(columns, [row for line in view.lines if line.arm == MIXTURE for row in _shares(view, line)])


def _shares(view: View, line: Line) -> list[_Share]:
    size = None if view.top is None else view.top.num_samples
    runs = [run for run in line.runs if run is not None and run.point.num_samples == size]
    told = [getattr(run.facts, "weights", None) for run in runs]
    known = [weights for weights in told if isinstance(weights, dict)]
    return [
        (line, arm, sum(weights[arm] for weights in known) / len(known))
        for arm in (line.config.mixture.arms if known else ())
        if all(isinstance(weights.get(arm), int | float) for weights in known)
    ]


# --- What failed, what is missing, what no fit uses.


def _lacking(view: View) -> list[str]:
    return [
        *failures(view.sweep),
        *(_("diverged: {run}").format(run=run) for run in diverged_runs(view.sweep.points)),
        *missing(view.sweep),
        *exclusions(view.lines),
    ]


def failures(sweep: Sweep) -> list[str]:
    """A sentence per failed run, with its error."""
    return [
        _(": ").join(
            [
                _("{model}, {why}").format(
                    model=f"{plain(point.arm)} {plain(point.config_name)}",
                    why=place_text(point.num_samples, point.seed),
                ),
                _error(sweep.run_of(point)),
            ]
        )
        for point in sweep.points
        if point.status == "failed"
    ]


def missing(sweep: Sweep) -> list[str]:
    """A sentence per model that has planned runs without a record."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for point in sweep.missing():
        place = place_text(point.config.data.num_samples, point.config.seed)
        lacking.setdefault((point.config.arm, point.config_name), []).append(place)
    text = _("{model}: no record yet of {places}")
    return [
        text.format(model=f"{plain(arm)} {plain(name)}", places=_("; ").join(places))
        for (arm, name), places in lacking.items()
    ]


def exclusions(lines: Sequence[Line]) -> list[str]:
    """A sentence per run that is not in its curve's fit, with the reason; those that failed or diverged are
    told with their error or loss."""
    return [
        _("{model}, {why}").format(model=plain(line.label), why=exclusion_text(why))
        for line in lines
        for why in line.fit.excluded
        if why.reason not in ("failed", "diverged")
    ]


def _error(run: RunRecord | None) -> str:
    if run is None or run.error is None:
        return _("its run record is missing, so the error is not known")
    return plain(run.error)


# --- What the columns mean, and the files.


def glossary(sweep: Sweep) -> str:
    """The columns of the tables with their meanings."""
    joint = any("joint" in point.config.relevant() for point in sweep.plan.points)
    rows = [
        (_("documents, tokens"), _("what a run trains on: so many documents, and their tokens")),
        (
            _("train / dev / test PPL"),
            _(
                "exp of the mean nats per predicted token: running over the best epoch, on the split that "
                "stops training, on the held-out test split (val_ppl in the files)"
            ),
        ),
        (_("test accuracy"), _("share of test tokens whose most probable prediction is right")),
        (
            _("bits per byte"),
            _("bits to encode a byte of the test text: compares across tokenizers"),
        ),
        (
            _("ER"),
            _(
                "effective rank of the contexts (Roy and Vetterli 2007) as a share of the width; of the test "
                "text unless it says train"
            ),
        ),
        (
            _("seed"),
            _(
                "picks the training documents and the initial weights; initialisations of one draw are "
                "averaged"
            ),
        ),
        (
            _("dispersion weight, slices, patience"),
            _(
                "weight of the loss that spreads the contexts of phase 1; tokens over which it is taken; "
                "evaluations without a better dev loss before training stops"
            ),
        ),
        *(
            [
                (
                    _("chunks, refresh"),
                    _(
                        "pieces of text that joint training rolls out from a stored context each, gradients "
                        "flowing through them and no further; contexts of the whole text computed again "
                        "under the weights as they are"
                    ),
                )
            ]
            if joint
            else []
        ),
        (
            _("word dropout, averaging, consistency"),
            _(
                "share of input tokens that are zeroed whole while training; how the weights that are "
                "evaluated "
                "and kept are averaged over steps; weight of the disagreement of two readings of a batch"
            ),
        ),
        (
            _("precision"),
            _("the lowest that matrix products of training may take; every score is computed in float32"),
        ),
        (
            _("interval over"),
            _(
                "what the interval of α measures: sizes, deviation from a straight line; seeds, variation "
                "across draws and initialisations"
            ),
        ),
        (
            _("α, A, R²"),
            _("the fitted power law and its share of explained variance; a lower α falls faster"),
        ),
        (
            _("P1 iterations"),
            _(
                "iterations of phase 1, the random start being the first; ≥ N: its cap of N stopped it "
                "before it had converged"
            ),
        ),
        (
            _("steps, stopped by"),
            _("optimiser steps that learned to predict tokens, and what ended them"),
        ),
        (
            _("P1 convergence rate"),
            _("share of positions whose context had come to rest when phase 1 ended"),
        ),
        (
            _("solve contraction, passes"),
            _(
                "factor per token at which the solve of the contexts forgot a wrong start, and its passes "
                "over the text"
            ),
        ),
        (
            _("memory length"),
            _("tokens until a context started from zero is within 0.001 of the true one everywhere"),
        ),
        (
            _("Lipschitz estimate"),
            _(
                "largest local stretch of the context step at the places looked at; below 1 it contracts "
                "there"
            ),
        ),
        (
            _("identity cosine"),
            _(
                "mean cosine between a random state and what the block makes of it; above 0.95 the block "
                "hardly computes"
            ),
        ),
        (
            _("roll-out trials"),
            _("what the difference between repeated roll-outs of one text does"),
        ),
        (
            _("seconds"),
            _("wall time of the run: training, solving and scoring contexts, health checks"),
        ),
    ]
    columns = [
        Column[tuple[str, str]](_("column"), lambda row: bold(row[0]), words=True),
        Column[tuple[str, str]](_("meaning"), lambda row: row[1], words=True),
    ]
    return table(columns, rows)


def file_list(sweep: Sweep) -> list[str]:
    """The files of a sweep directory and what each holds; none of published tables."""
    files = sweep.files
    if files is None:
        return []
    described = {
        files.output: _("the log of the run"),
        files.points: _("one row per run"),
        files.summary: _("one row per curve"),
        files.progressions: _("the exponents of sliding windows"),
        files.plan: _("every planned run with all its settings, and the analysis"),
        files.metadata: _("software, hardware, data and times"),
    }
    found = [f"`{path.name}`: {what}" for path, what in described.items() if path.exists()]
    if sweep.runs:
        text = _("a directory for each of {count} runs").format(count=len(sweep.runs))
        found.append(f"`{files.runs.name}/`: {text}")
    figures, page = _("the figures"), _("this report as a page")
    return [
        *found,
        f"`{files.figures.name}/`: {figures}",
        f"`{in_language(files.page, spoken()).name}`: {page}",
    ]
