"""The tables of lines and of their points. Each function: records in, Markdown out."""

from __future__ import annotations

from collections.abc import Sequence

from cvfp.records.results import PointRecord, RunRecord
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.report.lines import Line, capped, phase1_iterations, several_seeds, tuned_text
from cvfp.report.markdown import plain, table

STOP_REASONS = (N_("dev minimum"), N_("fixed steps"), N_("closed form"), N_("cap"))
"""Stop reasons of the arms as they are shown, for the catalogues."""


def summary_table(lines: Sequence[Line]) -> str:
    """One row per line: its shape, its power law, its best point."""
    header = (
        _("arm"),
        _("config"),
        _("settings"),
        _("context_dim"),
        _("context-block params"),
        _("α"),
        _("95% interval of α"),
        _("interval over"),
        _("A"),
        _("R²"),
        _("points in fit"),
        _("best val PPL"),
        _("its train PPL"),
        _("val accuracy"),
        _("ER"),
        _("P1 iterations"),
    )
    return table(header, [_summary_row(line) for line in lines], left=3)


def details_table(line: Line) -> str:
    """One row per point, in order of size."""
    seeds = several_seeds(line.points)
    header = [
        _("documents"),
        *([_("seed")] if seeds else []),
        _("tokens"),
        _("steps"),
        _("stopped by"),
        _("train PPL"),
        _("dev PPL"),
        _("val PPL"),
        _("val accuracy"),
        _("train ER"),
        _("val ER"),
        _("bits per byte"),
        _("P1 iterations"),
        _("seconds"),
    ]
    pairs = sorted(
        zip(line.points, line.runs, strict=True), key=lambda pair: (pair[0].num_samples, pair[0].seed)
    )
    return table(header, [_details_row(point, run, seeds) for point, run in pairs])


def _summary_row(line: Line) -> list[str]:
    row = line.summary
    return [
        plain(line.arm),
        plain(line.config_name),
        tuned_text(line),
        numbers.count(row.context_dim),
        numbers.count(row.context_block_params),
        numbers.exponent(row.alpha),
        numbers.exponent_interval(row.alpha_ci95),
        numbers.interval_over(row.interval_kind),
        numbers.coefficient(row.A),
        numbers.r_squared(row.r_squared),
        _("{used} of {all}").format(used=row.fitted_points, all=len(line.points)),
        numbers.ppl(row.best_ppl),
        numbers.ppl(row.best_train_ppl),
        numbers.share(row.best_acc),
        numbers.share(row.best_val_er),
        _best_iterations(line),
    ]


def _best_iterations(line: Line) -> str:
    """Phase-1 iterations of the point with the lowest perplexity."""
    for point, run in zip(line.points, line.runs, strict=True):
        if point.val_ppl is not None and point.val_ppl == line.summary.best_ppl:
            return phase1_iterations(point, run)
    return numbers.ABSENT


def _details_row(point: PointRecord, run: RunRecord | None, seeds: bool) -> list[str]:
    return [
        numbers.count(point.num_samples),
        *([str(point.seed)] if seeds else []),
        numbers.count(point.train_tokens),
        numbers.count(point.steps),
        _stopped_by(point),
        numbers.ppl(point.train_ppl),
        numbers.ppl(point.dev_ppl),
        numbers.ppl(point.val_ppl),
        numbers.share(point.val_acc),
        numbers.share(point.train_er),
        numbers.share(point.val_er),
        numbers.bits(point.bits_per_byte),
        phase1_iterations(point, run),
        numbers.seconds(point.wall_seconds),
    ]


def _stopped_by(point: PointRecord) -> str:
    if point.status == "failed":
        return _("failed")
    if point.stop_reason is None:
        return numbers.ABSENT
    return plain(_(point.stop_reason.replace("_", " "))) + ("‡" if capped(point) else "")
