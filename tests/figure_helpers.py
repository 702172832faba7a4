"""What figures are asked: whether their texts touch, what they show, in which styles; and sweeps to draw."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.legend import Legend
from matplotlib.lines import Line2D
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from report_helpers import LAWS, LineSpec, write_sweep

from cvfp.records.arms import arm_kind
from cvfp.records.results import RunRecord
from cvfp.records.sweep import Sweep, load_sweep
from cvfp.report.lines import Line, report_lines

RESULTS = Path(__file__).parents[1] / "docs" / "results"
SHAPES = tuple(itertools.product((1, 2, 3), (1, 2, 3)))
"""(num_layers, num_input_tokens) of the matrix preset."""
TOUCH = 0.5
"""Pixels by which two boxes may meet."""


def four_arms(configs: int) -> list[LineSpec]:
    """Lines of four arms with so many configs each, of the n-grams one; 9 are those of the matrix preset."""
    found = []
    for arm in ("cvfp", "kneser-ney", "no-context", "random-context"):
        if arm == "kneser-ney":
            found.append(LineSpec(arm, "5gram"))
            continue
        for index, (layers, tokens) in enumerate(SHAPES[:configs]):
            width = 0 if arm == "no-context" else 768
            settings = {"model.num_layers": layers, "model.num_input_tokens": tokens}
            alpha, A = LAWS[arm]
            law = alpha - 0.003 * index, A * (1 + 0.05 * (index % 4))
            found.append(LineSpec(arm, f"{layers}L_{width}d_{tokens}tok", settings, law))
    return found


def with_contexts(run: RunRecord) -> RunRecord:
    """The run with ranks and parameters that vary as those of real ones."""
    point = run.point
    if not point.context_dim:
        return run
    layers, tokens = int(point.config_name[0]), int(point.config_name.split("_")[2][0])
    width = int(point.config_name.split("_")[1][:-1])
    rank = 0.8 - 1e-4 * (width - 768) + 0.02 * tokens - 0.01 * layers + 0.002 * (point.seed % 3)
    params = layers * ((width + 768 * tokens) * width + 3 * width)
    update = {"val_er": rank + 0.02 * (point.arm != "cvfp"), "context_block_params": params}
    return run.model_copy(update={"point": point.model_copy(update=update)})


def changed_point(run: RunRecord, **update: object) -> RunRecord:
    """The run with other values in its row."""
    return run.model_copy(update={"point": run.point.model_copy(update=update)})


def drawn_sweep(directory: Path, lines: Sequence[LineSpec], **settings: object) -> tuple[Sweep, list[Line]]:
    """An invented sweep with metrics files, and its lines."""
    write_sweep(directory, lines=lines, **{"change": with_contexts} | settings)
    write_metrics(load_sweep(directory))
    return read(directory)


def read(directory: Path) -> tuple[Sweep, list[Line]]:
    sweep = load_sweep(directory)
    return sweep, report_lines(sweep)


def write_metrics(sweep: Sweep) -> None:
    """What runs tell: phase 1 converges, learning tokens has its best evaluation at step 300."""
    for run in sweep.runs.values():
        rows = []
        if run.point.arm == "cvfp":
            rows += [phase1_row(step) for step in range(2, run.point.phase1_iter + 1)]
        if run.point.num_layers is not None:
            kind = arm_kind(run.point.arm)
            phase = {"phase2": "phase 2", "joint": "joint"}.get(kind.training_section, "training")
            rows += [learning_row(phase, step, run.point.dev_ppl) for step in range(50, 501, 50)]
        if rows:
            text = "".join(json.dumps(row) + "\n" for row in rows)
            sweep.files.run_metrics(run.run_hash).write_text(text)


def phase1_row(step: int) -> dict[str, object]:
    return {
        "phase": "phase 1",
        "step": step,
        "convergence_rate": 1 / (1 + math.exp(12 - step)),
        "convergence_loss": math.exp(-0.3 * step),
        "dispersion_loss": -0.3 - 0.002 * step,
    }


def learning_row(phase: str, step: int, dev_ppl: float) -> dict[str, object]:
    dev = dev_ppl * (1 + ((step - 300) / 300) ** 2)
    return {"phase": phase, "step": step, "dev_ppl": dev, "train_ppl": 3e4 / step, "lr": 3e-4}


def assert_readable(figure: Figure) -> None:
    """No text touches another, leaves the figure, or lies in a panel that is not its own; no empty panel."""
    figure.canvas.draw()
    boxes = [(text, _box(text)) for text in texts_of(figure)]
    for (one, a), (other, b) in itertools.combinations(boxes, 2):
        assert not a.overlaps(b), f"{one.get_text()!r} touches {other.get_text()!r}"
    frame = figure.bbox.padded(1)
    for text, box in boxes:
        assert frame.x0 <= box.x0 and box.x1 <= frame.x1, text.get_text()
        assert frame.y0 <= box.y0 and box.y1 <= frame.y1, text.get_text()
        for axes in figure.axes:
            assert text.axes is axes or not box.overlaps(axes.patch.get_window_extent()), text.get_text()
    for legend in legends_of(figure):
        inside = [axes for axes in figure.axes if legend.get_window_extent().overlaps(axes.bbox)]
        assert inside == []
    assert figure.axes and all(axes.has_data() for axes in figure.axes)


def texts_of(figure: Figure) -> list[Text]:
    """All texts that show."""
    return [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]


def legends_of(figure: Figure) -> list[Legend]:
    return figure.findobj(Legend)


def legend_names(figure: Figure) -> list[str]:
    (legend,) = legends_of(figure)
    return [text.get_text() for text in legend.get_texts()]


def titled(figure: Figure, start: str) -> Axes:
    """The panel whose title starts so."""
    found = [
        axes for axes in figure.axes if (axes.get_title() or axes.get_title(loc="left")).startswith(start)
    ]
    assert len(found) == 1, [axes.get_title() for axes in figure.axes]
    return found[0]


def xy(line: Line2D) -> list[tuple[float, float]]:
    """What a drawn line joins."""
    return [(float(x), float(y)) for x, y in zip(line.get_xdata(), line.get_ydata(), strict=True)]


def _box(text: Text) -> Bbox:
    box = Text.get_window_extent(text)  # of an annotation without what leads from it
    return Bbox.from_extents(box.x0 + TOUCH, box.y0 + TOUCH, box.x1 - TOUCH, box.y1 - TOUCH)
