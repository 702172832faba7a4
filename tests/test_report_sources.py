"""Where the spread comes from: what a design can tell, in a table and in words."""

import math
import re
from dataclasses import replace

import numpy as np
import pytest
from report_helpers import DEFAULT_LINES, write_sweep

from cvfp.records.results import RunRecord
from cvfp.records.sweep import load_sweep
from cvfp.report.lines import report_lines
from cvfp.report.write import write_report

pytestmark = pytest.mark.usefixtures("undrawn")

CVFP, FILE_ORDER = DEFAULT_LINES[:1], (replace(DEFAULT_LINES[0], settings={"data.order": "file"}),)


def section(tmp_path, **settings) -> str:
    """The section of the report of an invented sweep; empty where there is none."""
    settings = {"lines": CVFP, "sizes": (50, 100, 200), "documents": 30} | settings
    write_report(write_sweep(tmp_path / "sweep", **settings))
    text = (tmp_path / "sweep" / "report.md").read_text(encoding="utf-8")
    title = re.escape("<details><summary>Where the spread comes from</summary>")
    found = re.search(rf"\n{title}\n(.*?)\n</details>", text, re.DOTALL)
    return "" if found is None else found.group(1)


def shaken(draw: float, init: float):
    """Results with planted effects of a run's draw and of its initialisation."""

    def change(run: RunRecord) -> RunRecord:
        point = run.point
        effects = [
            size * np.random.default_rng([point.num_samples, seed]).normal()
            for size, seed in ((draw, point.draw), (init, point.seed + 10_000))
        ]
        return run.model_copy(
            update={"point": point.model_copy(update={"val_ppl": 300 * math.exp(sum(effects))})}
        )

    return change


def cells(text: str, documents: int) -> list[str]:
    (row,) = [line for line in text.splitlines() if line.startswith("|") and f"| {documents} |" in line]
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_several_initialisations_tell_all_three_sources_at_both_ends(tmp_path):
    change = shaken(draw=0.5, init=0.01)
    text = section(tmp_path, seeds=(1, 2, 3, 4), inits=3, change=change)
    row = cells(text, 200)
    assert row[2:4] == ["4", "12"]
    assert row[4].endswith("(8)") and 0.004 < float(row[4].split()[0]) < 0.02
    assert row[5].endswith("(3)") and 0.1 < float(row[5].split()[0]) < 1.5
    assert "not identifiable" not in text.split("Standard deviations")[0]
    assert "At the largest size the draw of training documents makes the largest part of the spread" in text
    assert "| 100 |" not in text


def test_one_run_per_draw_has_draw_and_initialisation_together(tmp_path):
    row = cells(section(tmp_path, seeds=(1, 2, 3)), 50)
    assert row[4] == "in the draw's"
    assert re.fullmatch(r"together: 0\.\d{4} \(2\)", row[5])


def test_several_initialisations_of_one_draw_tell_nothing_of_draws(tmp_path):
    row = cells(section(tmp_path, seeds=(1,), inits=2), 50)
    assert row[4].endswith("(1)")
    assert row[5] == "not identifiable"


def test_under_file_order_seeds_are_initialisations_of_one_draw(tmp_path):
    row = cells(section(tmp_path, lines=FILE_ORDER, seeds=(1, 2, 3)), 50)
    assert row[2:4] == ["1", "3"]
    assert row[4].endswith("(2)")
    assert row[5] == "not identifiable"


@pytest.mark.parametrize("settings", [{"seeds": (1,)}, {"seeds": (1, 2), "documents": 0}])
def test_without_two_runs_of_one_size_or_their_test_losses_there_is_no_such_section(tmp_path, settings):
    assert section(tmp_path, **settings) == ""


@pytest.mark.parametrize("documents", [0, 1])
def test_a_line_without_the_losses_of_its_test_documents_has_none(tmp_path, documents):
    write_sweep(tmp_path, lines=CVFP, documents=documents)
    (line,) = report_lines(load_sweep(tmp_path))
    assert line.losses(line.scored) is None


def test_the_losses_of_a_line_are_those_of_the_points_asked_for(tmp_path):
    write_sweep(tmp_path, lines=CVFP, documents=5)
    (line,) = report_lines(load_sweep(tmp_path))
    losses = line.losses(line.scored[1:3])
    assert losses.points.sizes.tolist() == [100, 200]
    assert losses.points.ppl == pytest.approx([point.val_ppl for point in line.scored[1:3]])
