"""What the contexts are: effective rank and dimensions, how phase 1 came to rest, and their health."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cvfp.records.results import Health, Phase1Facts, PointRecord, RunRecord
from cvfp.records.texts import N_
from cvfp.report import numbers
from cvfp.report.blocks import Fold, Picture, Section, present
from cvfp.report.figures.analysis import analysis_figure
from cvfp.report.figures.phase1 import phase1_figure
from cvfp.report.interactive.charts import rank_chart
from cvfp.report.language import _
from cvfp.report.lines import Line
from cvfp.report.markdown import Column, plain, table
from cvfp.report.sections.training import mean_of_cells
from cvfp.report.view import View
from cvfp.scaling.points import Cell, cells, mean_over


def section(view: View) -> Section | None:
    """None where no model has contexts."""
    lines = view.lines
    dimensions, phase1, health = dimension_table(lines), phase1_table(lines), health_table(lines)
    ranks, course = analysis_figure(lines), phase1_figure(view.sweep, lines)
    if not (dimensions or phase1 or health):
        return None
    text = _("Effective rank of the contexts, and what more parameters of the context block bring")
    rate = _("Convergence rate and the two loss terms of phase 1, by iteration")
    return Section(
        _("Contexts"),
        present(
            [
                ranks and Picture("context_dim_analysis.png", text, ranks, rank_chart(lines)),
                dimensions,
                _(
                    "The effective rank (Roy and Vetterli 2007) times the width: how many dimensions the "
                    "contexts use, as if all were used equally."
                )
                if dimensions
                else "",
                course and Picture("phase1_convergence.png", rate, course),
                phase1,
                _(
                    "Means over seeds. Iteration 1 is the random start, so there is one optimiser step less "
                    "than iterations. ≥ N: a run ended at its cap of N before it had converged, so N is a "
                    "lower bound."
                )
                if phase1
                else "",
                Fold(_("Health of the contexts, run by run"), (health,)),
            ]
        ),
    )


# --- Effective dimensions.


@dataclass(frozen=True)
class _Dimensions:
    """Dimensions at the largest size of a model."""

    line: Line
    size: int
    train: float | None
    test: float
    width: int


def dimension_table(lines: Sequence[Line]) -> str:
    """Effective dimensions of the contexts, ER * d_c, at each model's largest size; empty without
    contexts."""
    columns = [
        Column[_Dimensions](_("model"), lambda row: plain(row.line.label), words=True),
        Column[_Dimensions](_("documents"), lambda row: numbers.count(row.size)),
        Column[_Dimensions](_("train ER"), lambda row: numbers.share(row.train)),
        Column[_Dimensions](_("test ER"), lambda row: numbers.share(row.test)),
        Column[_Dimensions](
            _("effective dimensions, test"), lambda row: f"{row.test * row.width:.0f}/{row.width}"
        ),
        Column[_Dimensions](_("dimensions not used"), lambda row: f"{(1 - row.test) * row.width:.0f}"),
    ]
    return table(columns, [row for line in lines if (row := _dimensions(line)) is not None])


def _dimensions(line: Line) -> _Dimensions | None:
    by_size = cells_by_size(line)
    if not by_size or not line.summary.context_dim:
        return None
    size, found = max(by_size.items())
    train, test = (mean_over(found, name) for name in ("train_er", "val_er"))
    return None if test is None else _Dimensions(line, size, train, test, line.summary.context_dim)


def cells_by_size(line: Line) -> dict[int, list[Cell]]:
    """The finished runs by number of documents, smallest first."""
    found: dict[int, list[Cell]] = {}
    for cell in sorted(cells(line.points), key=lambda cell: (cell.num_samples, cell.draw)):
        found.setdefault(cell.num_samples, []).append(cell)
    return found


# --- Phase 1.


@dataclass(frozen=True)
class _Phase1:
    """One model at one size: means over seeds."""

    line: Line
    size: int
    cells: Sequence[Cell]

    def mean(self, name: str) -> float | None:
        return mean_over(self.cells, name)

    def seconds(self, phase: str) -> float | None:
        """Seconds of `phase1` or `phase2`."""
        runs = dict(zip(self.line.points, self.line.runs, strict=True))

        def of(point: PointRecord) -> float | None:
            run = runs[point]
            facts = None if run is None else getattr(run.facts, phase)
            return None if facts is None else facts.seconds

        return mean_of_cells(self.cells, of)

    @property
    def iterations(self) -> str:
        """`≥ 40` where the cap ended a run."""
        ended = {run.point: run.phase1_converged for run in self.line.runs if run is not None}
        censored = any(ended.get(point) is False for cell in self.cells for point in cell.runs)
        shown = numbers.average(self.mean("phase1_iter"))
        return f"≥ {shown}" if censored else shown

    @property
    def each(self) -> float | None:
        """Seconds of an iteration; the first is the random start and costs no sweep."""
        seconds, iterations = self.seconds("phase1"), self.mean("phase1_iter")
        if seconds is None or iterations is None or iterations < 2:
            return None
        return seconds / (iterations - 1)


def phase1_table(lines: Sequence[Line]) -> str:
    """Iterations of phase 1 beside the wall time of both phases; empty where no model has a phase 1."""
    columns = [
        Column[_Phase1](_("model"), lambda row: plain(row.line.label), words=True),
        Column[_Phase1](_("documents"), lambda row: numbers.count(row.size)),
        Column[_Phase1](_("P1 iterations"), lambda row: row.iterations),
        Column[_Phase1](_("P1 seconds"), lambda row: numbers.seconds(row.seconds("phase1"))),
        Column[_Phase1](_("seconds per iteration"), lambda row: numbers.decimals(row.each, 3)),
        Column[_Phase1](_("P2 steps"), lambda row: numbers.count(row.mean("steps"))),
        Column[_Phase1](_("P2 seconds"), lambda row: numbers.seconds(row.seconds("phase2"))),
        Column[_Phase1](_("seconds in all"), lambda row: numbers.seconds(row.mean("wall_seconds"))),
    ]
    rows = [
        _Phase1(line, size, found)
        for line in lines
        for size, found in cells_by_size(line).items()
        if any(point.phase1_iter is not None for cell in found for point in cell.runs)
    ]
    return table(columns, rows)


# --- Health, as the run records tell it.


TRENDS = (N_("converged"), N_("converging"), N_("diverging"), N_("unstable"), N_("bound"))
"""Words of the records on roll-outs and solves, for the catalogues."""

_Checked = tuple[Line, RunRecord, Health]


def health_table(lines: Sequence[Line]) -> str:
    """A row per run with a context block; empty where no run record says anything of health."""
    columns = [
        Column[_Checked](_("model"), lambda row: plain(row[0].label), words=True),
        Column[_Checked](_("documents"), lambda row: numbers.count(row[1].point.num_samples)),
        Column[_Checked](_("seed"), lambda row: str(row[1].point.seed)),
        Column[_Checked](_("P1 convergence rate"), lambda row: _convergence(row[1].facts.phase1)),
        Column[_Checked](_("memory length"), lambda row: _memory(row[2])),
        Column[_Checked](_("Lipschitz estimate"), lambda row: numbers.decimals(row[2].lipschitz, 2)),
        Column[_Checked](_("solve contraction"), lambda row: numbers.decimals(row[2].solve_contraction)),
        Column[_Checked](_("solve passes"), lambda row: _passes(row[2])),
        Column[_Checked](_("identity cosine"), lambda row: numbers.decimals(row[2].identity_cosine)),
        Column[_Checked](_("roll-out trials"), lambda row: plain(_(row[2].trial_trend))),
        Column[_Checked](_("failures"), lambda row: _failures(row[2])),
    ]
    rows = [
        (line, run, run.facts.health)
        for line in lines
        for run in line.runs
        if run is not None and run.facts.health is not None
    ]
    return table(columns, rows)


def _convergence(phase1: Phase1Facts | None) -> str:
    return numbers.ABSENT if phase1 is None else numbers.share(phase1.convergence_rate)


def _memory(health: Health) -> str:
    return _("not reached") if health.memory_length is None else numbers.count(health.memory_length)


def _passes(health: Health) -> str:
    ended = "" if health.solve_status == "converged" else f" ({plain(_(health.solve_status))})"
    return f"{health.solve_passes}{ended}"


def _failures(health: Health) -> str:
    return _("; ").join(plain(_(failure)) for failure in health.failures) or _("none")
