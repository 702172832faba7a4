"""What parts of a model are worth: every difference of the table, its correction, and the questions."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from figure_helpers import changed_point, read
from report_helpers import DEFAULT_LINES, JOINT, LineSpec, write_sweep
from scipy import stats

from cvfp.records.results import RunRecord
from cvfp.report.blocks import Fold
from cvfp.report.sections.ablations import Family, compared, family_table, question_texts, section
from cvfp.report.view import View

SIZES, SEEDS = (50, 100, 200, 400), (1, 2, 3)
CVFP, _NGRAM, WITHOUT_CONTEXT, WITHOUT_PHASE1 = DEFAULT_LINES
PARTS = (CVFP, WITHOUT_CONTEXT, WITHOUT_PHASE1)
Effects = dict[str, dict[int, tuple[float, float]]]
"""Of an ablation at a size: ln PPL above the model's, and how far seeds are apart in it."""


def planted(effects: Effects):
    """A change that plants them exactly: three seeds whose differences have this mean and this deviation."""

    def change(run: RunRecord) -> RunRecord:
        point = run.point
        mean, deviation = effects.get(point.arm, {}).get(point.num_samples, (0.0, 0.0))
        ln_ppl = math.log(9000) - 0.3 * math.log(point.train_tokens) + 0.02 * point.seed
        ln_ppl += mean + deviation * (point.seed - 2)
        return changed_point(run, val_ppl=math.exp(ln_ppl))

    return change


def view_of(directory: Path, **settings) -> View:
    settings = {"lines": PARTS, "sizes": SIZES, "seeds": SEEDS} | settings
    return View(*read(write_sweep(directory, **settings)), "runs/demo")


def table_of(text: str) -> list[list[str]]:
    return [row.strip("| ").split(" | ") for row in text.splitlines()]


CLEAR, WEAK, NONE = (0.05, 0.0005), (0.02, 0.006), (0.001, 0.004)
"""p is about 3e-5, 0.03 and 0.7."""
EFFECTS: Effects = {
    "no-context": dict(zip(SIZES, (WEAK, CLEAR, CLEAR, NONE), strict=True)),
    "random-context": dict(zip(SIZES, (NONE, NONE, WEAK, (-0.05, 0.0005)), strict=True)),
}


def test_marks_are_hollow_where_the_correction_for_the_whole_table_takes_a_difference_back(tmp_path):
    view = view_of(tmp_path, change=planted(EFFECTS))
    p_values = {}
    for arm, effects in EFFECTS.items():
        for size, (mean, deviation) in effects.items():
            changes = [-(mean + deviation * (seed - 2)) for seed in SEEDS]
            p_values[arm, size] = (float(stats.ttest_1samp(changes, 0).pvalue), changes)
    # Holm: of m differences in order of p, the k-th stays while all before it are at most 5% / (m - k + 1).
    ranked = sorted(p_values, key=lambda place: p_values[place][0])
    limits = [0.05 / (len(ranked) - rank) for rank in range(len(ranked))]
    kept = [p_values[place][0] <= limit for place, limit in zip(ranked, limits, strict=True)]
    told = dict(zip(ranked, np.logical_and.accumulate(kept), strict=True))
    assert sum(told.values()) == 3 and sum(p < 0.05 for p, _changes in p_values.values()) == 5
    rows = table_of(family_table(Family(tuple(compared(view.lines)))))
    assert rows[0] == ["what", "model", "reference / documents", "50", "100", "200", "400"]
    assert [row[:3] for row in rows[2:]] == [
        ["the context", "cvfp", "no-context"],
        ["phase 1", "cvfp", "random-context"],
    ]
    for row, arm in zip(rows[2:], EFFECTS, strict=True):
        for cell, size in zip(row[3:], SIZES, strict=True):
            p, changes = p_values[arm, size]
            ends = stats.t.interval(0.95, 2, np.mean(changes), stats.sem(changes))
            value, low, high = (100 * math.expm1(each) for each in (np.mean(changes), *ends))
            solid, hollow = ("▲", "△") if value > 0 else ("▼", "▽")
            mark = "≈" if p > 0.05 else solid if told[arm, size] else hollow
            assert cell == f"{value:+.1f}% ({low:+.1f}% to {high:+.1f}%) {mark}"


def test_a_larger_table_corrects_for_more(tmp_path):
    """What is told from none among the four differences of one row is not among those of four rows."""
    effects: Effects = {"no-context": dict.fromkeys(SIZES, NONE) | {400: (0.02, 0.0031)}}
    p = stats.ttest_1samp([0.0169, 0.02, 0.0231], 0).pvalue
    wide = replace(CVFP, config_name="wide", settings={"model.context_dim": 900})
    cells, counts = [], []
    for name, lines in (("one", PARTS[:2]), ("many", (*PARTS, wide))):
        view = view_of(tmp_path / name, lines=lines, change=planted(effects))
        family = Family(tuple(compared(view.lines)))
        counts.append(len(family.clear))
        cells.append(family.cell(family.changes[0], 400))
    assert 0.05 / counts[1] < p < 0.05 / counts[0]
    assert [cell[-1] for cell in cells] == ["▼", "▽"] and cells[0][:-1] == cells[1][:-1]


def test_a_family_of_one_seed_has_no_marks_and_corrects_nothing(tmp_path):
    view = view_of(tmp_path, seeds=(2,), change=planted(EFFECTS))
    family = Family(tuple(compared(view.lines)))
    assert family.clear == {} and not any(mark in family_table(family) for mark in "▼▽▲△≈")


def test_settings_of_a_model_stand_in_the_table_and_several_are_named_together(tmp_path):
    wide = LineSpec("cvfp", "wide", {"model.context_dim": 1200})
    both = LineSpec("cvfp", "both", {"model.num_layers": 2, "phase1.context_noise": 0.1})
    joint = replace(JOINT, config_name="stale", settings={"joint.refresh": False})
    view = view_of(tmp_path, lines=(CVFP, wide, both, JOINT, joint))
    rows = table_of(family_table(Family(tuple(compared(view.lines)))))[2:]
    assert [row[0] for row in rows] == [
        "model.context_dim 768 → 1200",
        "model.num_layers 1 → 2, phase1.context_noise 0.0 → 0.1",
        "joint.refresh true → false",
    ]
    found = section(view)
    assert found is not None and any("none of them can be credited" in str(block) for block in found.blocks)
    (fold,) = [block for block in found.blocks if isinstance(block, Fold)]
    assert fold.title == "Exponents and ranks by setting" and "change of α" in str(fold.blocks[0])


def test_models_alone_have_no_such_section(tmp_path):
    view = view_of(tmp_path, lines=(CVFP, LineSpec("lstm", "2L_768d")))
    assert section(view) is None and question_texts(view) == []


# --- The questions of the first screen.


def test_each_question_is_answered_from_its_own_sizes(tmp_path):
    context, phase1 = question_texts(view_of(tmp_path, change=planted(EFFECTS)))
    low, high = (f"{100 * math.expm1(-0.05):+.1f}%", f"{100 * math.expm1(0.05):+.1f}%")
    assert context == (
        f"**Does the context help cvfp?** Yes at 2 of 4 sizes: {low} to {low} at 100, 200 documents. "
        "Elsewhere there is no clear difference. Uncorrected, 3 of 4 intervals exclude 0."
    )
    assert phase1.startswith(f"**Does phase 1 help cvfp?** It hurts at 1 of 4 sizes: {high} (95% interval ")
    assert "at 400 documents." in phase1 and phase1.endswith("Uncorrected, 2 of 4 intervals exclude 0.")


def test_an_answer_is_corrected_for_all_differences_of_the_table(tmp_path):
    """What has a hollow mark there is not counted here."""
    effects: Effects = {"no-context": dict.fromkeys(SIZES, NONE) | {400: (0.02, 0.0031)}}
    wide = replace(CVFP, config_name="wide", settings={"model.context_dim": 900})
    alone = question_texts(view_of(tmp_path / "one", lines=PARTS[:2], change=planted(effects)))
    many = question_texts(view_of(tmp_path / "many", lines=(*PARTS, wide), change=planted(effects)))
    assert "Yes at 1 of 4 sizes: -2.0% (95% interval " in alone[0]
    assert "No clear difference at any of 4 sizes" in many[0]
    assert many[0].endswith("Uncorrected, 1 of 4 intervals exclude 0.")


def test_no_clear_difference_anywhere_is_the_answer_too(tmp_path):
    effects: Effects = {"no-context": dict.fromkeys(SIZES, NONE), "random-context": {}}
    context, phase1 = question_texts(view_of(tmp_path, change=planted(effects)))
    assert (
        context == "**Does the context help cvfp?** No clear difference at any of 4 sizes (-0.1% to -0.1%)."
    )
    assert "phase 1" in phase1


@pytest.mark.parametrize("documents", [0, 40])
def test_one_seed_answers_indicatively(tmp_path, documents):
    view = view_of(tmp_path, seeds=(2,), documents=documents, change=planted(EFFECTS))
    context, _phase1 = question_texts(view)
    value = f"{100 * math.expm1(-0.001):+.1f}%"
    assert context == f"**Does the context help cvfp?** 1 seed, indicative only: {value} at 400 documents."


def test_an_ablation_with_other_settings_answers_no_question(tmp_path):
    lines = (CVFP, replace(WITHOUT_PHASE1, settings={"phase2.lr": 0.1}))
    assert question_texts(view_of(tmp_path, lines=lines)) == []
