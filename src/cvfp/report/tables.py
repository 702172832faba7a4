"""The tables of lines and of their points, and the sentences beside them. Records in, Markdown out."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence

from cvfp.records.results import Exclusion, Health, Phase1Facts, PointRecord, RunRecord
from cvfp.records.schema import N_
from cvfp.records.sweep import Sweep
from cvfp.report import numbers
from cvfp.report.language import _
from cvfp.report.lines import Line, capped, phase1_iterations, several_seeds, tuned_text
from cvfp.report.markdown import plain, table
from cvfp.scaling.points import Cell, cells, mean_over

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


# --- Tables of a row per line and size or a column per size: means over draws of the means of their runs.


Runs = dict[PointRecord, RunRecord | None]


def gap_table(lines: Sequence[Line]) -> str:
    """ln(val PPL / train PPL) in nats by line and size; empty where no line knows its training PPL."""
    shown = [line for line in lines if any(p.train_ppl is not None for p in line.scored)]
    if not shown:
        return ""
    sizes = sorted({point.num_samples for line in shown for point in line.scored})
    rows = [
        [plain(line.label), *(numbers.decimals(_mean_gap(line, size), 2) for size in sizes)] for line in shown
    ]
    return table((_("line"), *map(numbers.count, sizes)), rows)


def dimension_table(lines: Sequence[Line]) -> str:
    """Effective dimensions of the contexts, ER * d_c, at each line's largest size; empty without contexts."""
    header = (
        _("line"),
        _("documents"),
        _("train ER"),
        _("val ER"),
        _("effective dimensions, val"),
        _("dimensions not used"),
    )
    rows = [row for line in lines if (row := _dimension_row(line)) is not None]
    return table(header, rows) if rows else ""


def phase1_table(lines: Sequence[Line]) -> str:
    """Iterations of phase 1 beside the wall time of both phases; empty where no arm has a phase 1."""
    header = (
        _("line"),
        _("documents"),
        _("P1 iterations"),
        _("P1 seconds"),
        _("seconds per iteration"),
        _("P2 steps"),
        _("P2 seconds"),
        _("seconds in all"),
    )
    rows = [
        _phase1_row(line, size, found)
        for line in lines
        for size, found in _by_size(line).items()
        if any(point.phase1_iter is not None for cell in found for point in cell.runs)
    ]
    return table(header, rows) if rows else ""


def time_table(lines: Sequence[Line]) -> str:
    """Wall time of every line: of all its points, and of one at its largest size."""
    header = (_("line"), _("points"), _("seconds in all"), _("at documents"), _("seconds of one point"))
    rows = []
    for line in lines:
        known = [point for point in line.points if point.wall_seconds is not None]
        if known:
            size = max(point.num_samples for point in known)
            largest = [point.wall_seconds for point in known if point.num_samples == size]
            seconds = sum(point.wall_seconds for point in known)
            rows.append(
                [
                    plain(line.label),
                    numbers.count(len(known)),
                    numbers.seconds(seconds),
                    numbers.count(size),
                    numbers.seconds(statistics.fmean(largest)),
                ]
            )
    return table(header, rows) if rows else ""


def _by_size(line: Line) -> dict[int, list[Cell]]:
    """The finished points by number of documents, smallest first."""
    found: dict[int, list[Cell]] = {}
    for cell in sorted(cells(line.points), key=lambda cell: (cell.num_samples, cell.draw)):
        found.setdefault(cell.num_samples, []).append(cell)
    return found


def _mean(group: Sequence[Cell], measure: Callable[[PointRecord], numbers.Number | None]) -> float | None:
    """Over draws, of means over their runs; None when there is none, or one is not known."""
    found = [[measure(point) for point in cell.runs] for cell in group]
    if not found or any(None in values for values in found):
        return None
    return statistics.fmean(map(statistics.fmean, found))


def _mean_gap(line: Line, size: int) -> float | None:
    known = [p for p in line.scored if p.num_samples == size and p.train_ppl is not None]
    return _mean(cells(known), lambda point: math.log(point.val_ppl / point.train_ppl))


def _dimension_row(line: Line) -> list[str] | None:
    by_size = _by_size(line)
    if not by_size or not line.summary.context_dim:
        return None
    size, found = max(by_size.items())
    train, val = (mean_over(found, name) for name in ("train_er", "val_er"))
    if val is None:
        return None
    width = line.summary.context_dim
    return [
        plain(line.label),
        numbers.count(size),
        numbers.share(train),
        numbers.share(val),
        f"{val * width:.0f}/{width}",
        f"{(1 - val) * width:.0f}",
    ]


def _phase1_row(line: Line, size: int, found: Sequence[Cell]) -> list[str]:
    runs = dict(zip(line.points, line.runs, strict=True))
    first, second = (_mean_seconds(found, runs, phase) for phase in ("phase1", "phase2"))
    iterations = mean_over(found, "phase1_iter")
    ended = [runs[point] for cell in found for point in cell.runs]
    censored = any(run is not None and run.phase1_converged is False for run in ended)
    shown = numbers.average(iterations)
    # Iteration 1 is the random start: it costs no sweep.
    each = None if first is None or iterations < 2 else first / (iterations - 1)
    return [
        plain(line.label),
        numbers.count(size),
        f"≥ {shown}" if censored else shown,
        numbers.seconds(first),
        numbers.decimals(each, 3),
        numbers.count(mean_over(found, "steps")),
        numbers.seconds(second),
        numbers.seconds(mean_over(found, "wall_seconds")),
    ]


def _mean_seconds(found: Sequence[Cell], runs: Runs, phase: str) -> float | None:
    def seconds(point: PointRecord) -> float | None:
        facts = None if runs[point] is None else getattr(runs[point].facts, phase)
        return None if facts is None else facts.seconds

    return _mean(found, seconds)


# --- The health of the contexts, as the run records tell it.


TRENDS = (N_("converged"), N_("converging"), N_("diverging"), N_("unstable"), N_("bound"))
"""Words of the records on roll-outs and solves, for the catalogues."""


def health_table(lines: Sequence[Line]) -> str:
    """One row per run with a context block; empty where no run record says anything of health."""
    rows = [
        _row(line, run, run.facts.health)
        for line in lines
        for run in line.runs
        if run is not None and run.facts.health is not None
    ]
    header = (
        _("line"),
        _("documents"),
        _("seed"),
        _("P1 convergence rate"),
        _("memory length"),
        _("Lipschitz estimate"),
        _("solve contraction"),
        _("solve passes"),
        _("identity cosine"),
        _("roll-out trials"),
        _("failures"),
    )
    return table(header, rows) if rows else ""


def _row(line: Line, run: RunRecord, health: Health) -> list[str]:
    length = health.memory_length
    return [
        plain(line.label),
        numbers.count(run.point.num_samples),
        str(run.point.seed),
        _convergence(run.facts.phase1),
        _("not reached") if length is None else numbers.count(length),
        numbers.decimals(health.lipschitz, 2),
        numbers.decimals(health.solve_contraction),
        str(health.solve_passes)
        + ("" if health.solve_status == "converged" else f" ({plain(_(health.solve_status))})"),
        numbers.decimals(health.identity_cosine),
        plain(_(health.trial_trend)),
        _("; ").join(plain(_(failure)) for failure in health.failures) or _("none"),
    ]


def _convergence(phase1: Phase1Facts | None) -> str:
    return numbers.ABSENT if phase1 is None else numbers.share(phase1.convergence_rate)


# --- Sentences beside the tables: what failed, what is missing, what no fit uses, and prior data.


REASONS = {
    "failed": N_("failed"),
    "no_result": N_("has no perplexity or no number of tokens"),
    "cap": N_("stopped at its cap"),
    "repeated": N_("the same result as seed {seed}"),
    "lone_seed": N_("the only size of its draw, and a fit needs two"),
    "lone_size": N_("the only size left, and a fit needs two"),
}


def priors(lines: Sequence[Line]) -> list[str]:
    """One sentence per kind of data, other than the training documents, that lines profited from."""
    users: dict[str, list[str]] = {}
    for line in lines:
        for prior in line.prior:
            users.setdefault(prior, []).append(plain(line.label))
    everyone = _("all lines")
    return [
        f"{everyone if len(labels) == len(lines) else ', '.join(labels)}: {plain(_(prior))}"
        for prior, labels in users.items()
    ]


def failures(sweep: Sweep) -> list[str]:
    """One sentence per failed point, with its error."""
    return [
        f"{plain(point.arm)} {plain(point.config_name)}, {_place(point.num_samples, point.seed)}: "
        f"{_error(sweep.run_of(point))}"
        for point in sweep.points
        if point.status == "failed"
    ]


def missing(sweep: Sweep) -> list[str]:
    """One sentence per line that has planned points without a record."""
    lacking: dict[tuple[str, str], list[str]] = {}
    for point in sweep.missing():
        place = _place(point.config.data.num_samples, point.config.seed)
        lacking.setdefault((point.config.arm, point.config_name), []).append(place)
    return [f"{plain(arm)} {plain(name)}: {'; '.join(places)}" for (arm, name), places in lacking.items()]


def exclusions(lines: Sequence[Line]) -> list[str]:
    """One sentence per point that is not in its line's fit, with the reason."""
    return [f"{plain(line.label)}, {exclusion_text(why)}" for line in lines for why in line.fit.excluded]


def exclusion_text(why: Exclusion) -> str:
    """Which point is in no fit, and why."""
    reason = _(REASONS[why.reason]).format(seed=why.repeated_seed)
    return f"{_place(why.num_samples, why.seed)}: {reason}"


def _place(num_samples: int, seed: int) -> str:
    return _("{documents} documents, seed {seed}").format(documents=numbers.count(num_samples), seed=seed)


def _error(run: RunRecord | None) -> str:
    if run is None or run.error is None:
        return _("its run record is missing, so the error is not known")
    return plain(run.error)
