"""What a notebook does in a few words: run a sweep, look at its results, fit a table.

sweep = cvfp.run("quickstart", progress=True)
sweep                                          # who wins, how sure, what next
sweep.table(); sweep.plot(); sweep.plot("ratio")
sweep.compare("lstm", "cvfp-joint")
cvfp.fit("results.csv").plot()
"""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from cvfp.records.errors import InputError, near
from cvfp.records.sweep import Sweep, SweepFiles, load_sweep, read_plan
from cvfp.report import numbers
from cvfp.report.blocks import page_of
from cvfp.report.changes import LineChange
from cvfp.report.figures.answer import ppl_figure, ratio_figure
from cvfp.report.figures.fit import fit_figure
from cvfp.report.fit_cells import fit_tables, fit_texts
from cvfp.report.language import sentences
from cvfp.report.lines import Line, diverged_text, report_lines
from cvfp.report.markdown import Column, plain, table, text_table
from cvfp.report.sections import answer
from cvfp.report.verdicts import change_cell, data_ratio_cell, marks_text
from cvfp.report.view import View
from cvfp.scaling.points import cells, mean_over
from cvfp.scaling.rows import Table, read_table, read_tables, table_of
from cvfp.scaling.table import TableFit, TableOptions, analyse_table
from cvfp.scaling.units import Unit

if TYPE_CHECKING:
    import pandas
    from matplotlib.figure import Figure


# --- What shows itself: in a terminal as text, in a notebook as HTML or as a picture.


class Shown:
    """Markdown that a terminal prints as text and a notebook as HTML."""

    def __init__(self, markdown: str) -> None:
        self.markdown = markdown

    def __repr__(self) -> str:
        from rich.console import Console
        from rich.markdown import Markdown

        console = Console(file=io.StringIO(), width=110)
        with console.capture() as captured:
            console.print(Markdown(self.markdown))
        return captured.get().rstrip()

    def _repr_html_(self) -> str:
        from markdown_it import MarkdownIt

        return MarkdownIt("commonmark", {"html": False}).enable("table").render(self.markdown)


@dataclass(frozen=True, eq=False)
class Plot:
    """A figure that a notebook shows; `figure` is matplotlib's, to change or to save."""

    figure: Figure

    def save(self, path: Path | str) -> None:
        """Write it, in the format that the suffix of the path says."""
        self.figure.savefig(path)

    def _repr_png_(self) -> bytes:
        file = io.BytesIO()
        self.figure.savefig(file, format="png", dpi=150)
        return file.getvalue()


# --- Sweeps.


def run(
    sweep: str | Path,
    out: str | Path | None = None,
    *,
    progress: bool = False,
    arms: Sequence[str] | None = None,
    samples: Sequence[int] | None = None,
    seeds: int | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "auto",
    checkpoints: bool = True,
) -> Results:
    """Run a sweep and write its report; what is done already is not run again.

    Args:
        sweep: a preset (`cvfp presets`), a sweep file, or the directory of a sweep, to which `samples` and
            `seeds` then add.
        out: the sweep directory; None: `cvfp-runs/NAME`.
        progress: show bars, or plain lines where there is no terminal.
        arms: which models run, instead of those of the preset.
        samples: sizes in training documents.
        seeds: how many.
        settings: by dotted key, over those of the preset.
        device: as `--device`.
        checkpoints: keep the trained weights of every run.

    Raises:
        InputError: as `cvfp run`. CvfpError: no run could be done.
    """
    from cvfp.cli.progress import Bars
    from cvfp.lab.executors import make_executor
    from cvfp.lab.messages import tell_nobody
    from cvfp.lab.options import RunOptions
    from cvfp.lab.plan import extended, make_plan, require_read
    from cvfp.lab.presets import find_spec
    from cvfp.report.write import write_report

    directory = Path(sweep)
    if SweepFiles(directory).plan.is_file():
        if out is not None or arms is not None or settings:
            raise InputError(f"{sweep}: this sweep has its settings; only samples and seeds add to it")
        plan = extended(read_plan(directory), samples, seeds)
    else:
        for name, value in (("arms", arms), ("samples", samples)):
            if isinstance(value, str | int):
                raise InputError(f"{name}: a list is needed, got {value!r}; give [{value!r}]")
        asked = {"arms": arms, "samples": samples, "seeds": seeds}
        fields = {
            name: tuple(value) if isinstance(value, Sequence) else value
            for name, value in asked.items()
            if value is not None
        }
        spec = find_spec(str(sweep)).override(**fields, **({} if arms is None else {"largest_only": ()}))
        plan = make_plan(spec.with_settings(settings or {}))
        require_read(plan, settings or {})
        directory = Path("cvfp-runs") / plan.name if out is None else Path(out)
    execute, options = make_executor("local", device, None), RunOptions(checkpoints=checkpoints)
    with Bars() as bars:
        execute(plan, directory, tell=bars if progress else tell_nobody, options=options)
    write_report(directory)
    return Results(directory)


class Results:
    """What a sweep directory holds, whoever ran it. Raises `InputError` where there is no sweep.

    Shows itself as the answer and the ranking.
    """

    def __init__(self, directory: Path | str) -> None:
        self.directory = Path(directory)
        self.sweep: Sweep = load_sweep(self.directory)
        self.lines: list[Line] = report_lines(self.sweep)
        self.view = View(self.sweep, self.lines, str(self.directory))

    @property
    def report(self) -> Path:
        """The page with everything."""
        return SweepFiles(self.directory).page

    def table(self) -> Shown:
        """The ranking at the largest size that all models have."""
        if self.view.top is None:
            return Shown("There is no size yet at which every model has a result.")
        return Shown(f"{answer.ranking_table(self.view)}\n\n{answer.ranking_note(self.view)}")

    def to_frame(self) -> pandas.DataFrame:
        """A row per run with all that its record says. Raises `InputError` without pandas."""
        try:
            import pandas
        except ModuleNotFoundError as error:
            raise InputError("to_frame needs pandas: pip install pandas") from error
        return pandas.DataFrame([point.model_dump(mode="json") for point in self.sweep.points])

    def plot(self, what: Literal["ppl", "ratio"] = "ppl") -> Plot:
        """Test PPL against data, or PPL against the reference model, size by size.

        Raises:
            InputError: there are no two sizes yet; another word.
        """
        if what not in ("ppl", "ratio"):
            raise InputError(f"plot: there is 'ppl' or 'ratio', got {what!r}")
        if what == "ratio" and self.view.reference is not None:
            figure = ratio_figure(self.view.reference, self.view.changes, self.lines)
        else:
            figure = ppl_figure(self.lines)
        if figure is None:
            raise InputError(f"{self.directory}: a figure needs results at two sizes")
        return Plot(figure)

    def compare(self, reference: str, other: str) -> Shown:
        """One model against another at every size that both have: PPL(other) / PPL(reference) - 1, paired,
        and the data that the reference needs for the other's PPL.

        Raises:
            InputError: no such model, or nothing in common.
        """
        change = LineChange(self._line(reference), self._line(other))
        sizes = sorted({a.num_samples for a, _b in change.pairs})
        if not sizes:
            raise InputError(f"{reference} and {other} have no results on the same tokens")

        def mean(line: Line, size: int) -> str:
            return numbers.ppl(mean_over([c for c in cells(line.scored) if c.num_samples == size], "val_ppl"))

        columns = [
            Column[int]("documents", numbers.count),
            Column[int](plain(reference), lambda size: mean(change.reference, size)),
            Column[int](plain(other), lambda size: mean(change.other, size)),
            Column[int]("change", lambda size: change_cell(change.ppl_at(size))),
            Column[int]("data", lambda size: data_ratio_cell(change.data_ratios.get(size))),
        ]
        data = f"data: that which {plain(reference)} needs for the same PPL, over that of {plain(other)}"
        lost = diverged_text([*change.reference.points, *change.other.points])
        return Shown("\n\n".join(part for part in (table(columns, sizes), marks_text(), data, lost) if part))

    def _line(self, name: str) -> Line:
        known = {line.label: line for line in self.lines}
        if name not in known:
            raise InputError(f"no model {name!r}{near(name, known)}; there are {', '.join(known)}")
        return known[name]

    @cached_property
    def _shown(self) -> Shown:
        section, lost = answer.section(self.view), diverged_text(self.sweep.points)
        if section is None:
            return Shown(sentences(f"{plain(self.sweep.plan.name)}: no run has a result yet.", lost))
        return Shown(page_of(plain(self.sweep.plan.name), [section], None, lost))

    def __repr__(self) -> str:
        return repr(self._shown)

    def _repr_html_(self) -> str:
        return self._shown._repr_html_()


# --- Tables of any tool.


def fit(
    data: Path
    | str
    | Sequence[Path | str]
    | pandas.DataFrame
    | Mapping[str, Any]
    | Iterable[Mapping[str, Any]],
    x: str | None = None,
    y: str | None = None,
    by: str | None = None,
    extrapolate: Sequence[float] = (),
    unit: Unit | None = None,
    tokens_per_step: float | None = None,
) -> Fit:
    """The scaling analysis of a table: a file or several, a data frame, rows or columns as dictionaries.

    Args:
        data: see `cvfp fit` for files.
        x: the column of token counts.
        y: the column of perplexities or losses.
        by: the columns that tell curves apart, comma separated; "none": one curve.
        extrapolate: token counts to predict at; empty: 4 and 10 times the largest.
        unit: of y: "ppl", "nats" or "bits"; None: what its name says, where its values can be that.
        tokens_per_step: x counts steps of so many tokens each.

    Raises:
        InputError: as `cvfp fit`.
    """
    for name, value in (("x", x), ("y", y), ("by", by)):
        if value is not None and not isinstance(value, str):
            raise InputError(f"fit: {name} is a text (columns, comma separated), got {value!r}")
    if isinstance(extrapolate, str) or not isinstance(extrapolate, Iterable):
        raise InputError(f"fit: extrapolate is a list of token counts, got {extrapolate!r}")
    notes: list[str] = []
    source = _as_table(data)
    options = TableOptions(x, y, by, unit, tokens_per_step, extrapolate=tuple(extrapolate))
    found = analyse_table(source, options, notes.append)
    return Fit(found, tuple(notes))


def _as_table(data: Any) -> Table:
    if isinstance(data, str | Path):
        return read_table(Path(data))
    if isinstance(data, list | tuple) and data and all(isinstance(one, str | Path) for one in data):
        return read_tables([Path(one) for one in data])
    if not isinstance(data, Iterable) or hasattr(data, "dtype"):
        raise InputError(
            f"fit: a file, a data frame or rows as dictionaries are needed, got {type(data).__name__}"
        )
    return table_of(data)


@dataclass(frozen=True, eq=False)
class Fit:
    """The laws of the groups of a table; `notes` say what was left out. Shows itself as tables."""

    table: TableFit
    notes: tuple[str, ...]

    @cached_property
    def values(self) -> dict[str, Any]:
        """All figures as JSON values, as `cvfp fit --json` prints them."""
        return self.table.values()

    def plot(self) -> Plot:
        """The points of every group with its power law."""
        return Plot(fit_figure(self.table))

    @cached_property
    def _shown(self) -> Shown:
        tables = [
            f"**{plain(title)}**\n\n"
            + text_table([*map(plain, header)], [[*map(plain, row)] for row in rows])
            for title, header, rows in fit_tables(self.values)
        ]
        return Shown("\n\n".join([*tables, *map(plain, fit_texts(self.values)), *map(plain, self.notes)]))

    def __repr__(self) -> str:
        return repr(self._shown)

    def _repr_html_(self) -> str:
        return self._shown._repr_html_()
