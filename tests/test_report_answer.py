"""The first screen: who is best and by how much, how sure that is, what to run next; and its two figures."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from figure_helpers import RESULTS, assert_readable, changed_point, four_arms, read, texts_of, xy
from marks import one_quick
from report_helpers import (
    DEFAULT_LINES,
    JOINT,
    MIXTURE,
    LineSpec,
    every_arm,
    nine_lines,
    our_arms,
    write_sweep,
)
from scipy import stats

from cvfp.records.results import RunRecord
from cvfp.report.figures.answer import MOST_NAMES, ppl_figure, ratio_figure
from cvfp.report.figures.style import styles_of
from cvfp.report.sections.answer import answer_texts, ranking_note, ranking_table
from cvfp.report.view import View

SIZES, SEEDS = (50, 100, 200, 400), (1, 2, 3)
TWO = (DEFAULT_LINES[0], LineSpec("lstm", "2L_768d"))
NGRAM = DEFAULT_LINES[1]
WOBBLE = {1: 0.004, 2: -0.005, 3: 0.001, 4: 0.002, 5: -0.002}
"""ln PPL of a seed apart from its curve, alike at all sizes."""
Ratios = dict[str, Callable[[int], float]]
"""ln PPL of a model against the first one, by the number of documents."""


def planted(ratios: Ratios, noise: float = 1.0):
    """A change that plants the ratios; those of a seed differ by its wobble, not that of the first model."""

    def change(run: RunRecord) -> RunRecord:
        point = run.point
        ln_ppl = math.log(9000) - 0.3 * math.log(point.train_tokens) + 0.03 * point.seed
        if point.arm in ratios:
            ln_ppl += ratios[point.arm](point.num_samples) + noise * WOBBLE.get(point.seed, 0.0)
        return changed_point(run, val_ppl=math.exp(ln_ppl))

    return change


def view_of(directory: Path, place: str = "runs/demo", **settings) -> View:
    settings = {"sizes": SIZES, "seeds": SEEDS} | settings
    return View(*read(write_sweep(directory, **settings)), place)


def ln_ratios(view: View, label: str, reference: str, size: int) -> list[float]:
    """Of every seed, from the records."""
    ppl = {
        (line.label, point.seed): math.log(point.val_ppl)
        for line in view.lines
        for point in line.points
        if point.num_samples == size
    }
    return [ppl[label, seed] - ppl[reference, seed] for name, seed in ppl if name == label]


def percent(values: list[float]) -> tuple[float, float, float]:
    """The mean of such logarithms and its 95% interval, as percentages."""
    mean, low, high = (
        np.mean(values),
        *stats.t.interval(0.95, len(values) - 1, np.mean(values), stats.sem(values)),
    )
    return tuple(100 * math.expm1(each) for each in (mean, low, high))


def shown(value: float) -> str:
    return f"{value:+.1f}%" if abs(value) >= 0.05 else f"{value:+.2f}%"


def with_interval(values: list[float]) -> str:
    value, low, high = percent(values)
    return f"{shown(value)} (95% interval {shown(low)} to {shown(high)})"


# --- Who is best, and by how much.


@pytest.mark.parametrize(
    ("slope", "trend"),
    [
        (0.02, "The gap grows with data."),
        (-0.02, "The gap shrinks with data."),
        (0.0, "With more data the gap neither clearly grows nor shrinks."),
    ],
)
def test_the_best_model_is_named_with_its_closest_rival_the_interval_and_the_trend(tmp_path, slope, trend):
    def turned(run: RunRecord) -> RunRecord:
        """The trend of a seed is its own too: an interval of 0 width would tell any from none."""
        shift = 0.002 * WOBBLE.get(run.point.seed, 0.0) * 1000 * math.log(run.point.num_samples / 141)
        run = planted({"lstm": lambda size: 0.1 + slope * math.log2(size / 400)})(run)
        factor = math.exp(shift * 0.05) if run.point.arm == "lstm" else 1.0
        return changed_point(run, val_ppl=run.point.val_ppl * factor)

    view = view_of(tmp_path, lines=(*TWO, NGRAM), change=turned)
    ppl = math.exp(np.mean([math.log(p.val_ppl) for p in view.lines[0].points if p.num_samples == 400]))
    # kneser-ney is as good as cvfp in every run: they are equal, and cvfp comes first.
    view = replace(view, lines=view.lines[:2])
    first, *_rest = answer_texts(view)
    best = f"**cvfp has the lowest test PPL at 400 training documents (480,000 tokens): {ppl:.1f}.**"
    against = with_interval(ln_ratios(view, "lstm", "cvfp", 400))
    ratio = view.changes[0].data_ratios[400]
    low, high = ratio.interval
    assert ratio.ratio == pytest.approx(math.exp(np.mean([math.log(one) for one in lstm_data(view)])))
    data = (
        "cvfp reaches the PPL that lstm has there with "
        f"{ratio.ratio:.2f} times the data (95% interval over seeds {low:.2f} to {high:.2f})."
    )
    assert first == f"{best} The closest rival, lstm, is at {against} against it. {data} {trend}"


def lstm_data(view: View) -> list[float]:
    """With how many times the LSTM's 400 documents cvfp has its PPL, of each seed: read off by numpy."""
    cvfp, lstm = ({(p.seed, p.num_samples): p for p in line.points} for line in view.lines)
    found = []
    for seed in SEEDS:
        own = sorted((p for p in cvfp.values() if p.seed == seed), key=lambda p: p.val_ppl)
        target = math.log(lstm[seed, 400].val_ppl)
        at = np.interp(target, np.log([p.val_ppl for p in own]), np.log([p.train_tokens for p in own]))
        found.append(math.exp(at) / lstm[seed, 400].train_tokens)
    return found


def test_the_model_in_question_is_told_where_another_is_best(tmp_path):
    lines = (*TWO, NGRAM)
    view = view_of(
        tmp_path, lines=lines, change=planted({"lstm": lambda _: -0.1, "kneser-ney": lambda _: -0.05})
    )
    first, sure, _following = answer_texts(view)
    assert first.startswith("**lstm has the lowest test PPL at 400 training documents")
    against = with_interval(ln_ratios(view, "cvfp", "lstm", 400))
    assert f"cvfp, the model in question, is at {against} against it." in first
    assert "kneser-ney" not in first and "no clear difference" not in first
    assert sure.startswith("**How sure:** lstm is lower with 3 of 3 seeds there.")


def test_a_difference_that_seeds_do_not_tell_from_none_is_called_unclear(tmp_path):
    view = view_of(tmp_path, lines=TWO, change=planted({"lstm": lambda _: 0.002}))
    first, sure, following = answer_texts(view)
    _value, low, high = percent(ln_ratios(view, "lstm", "cvfp", 400))
    assert low < 0 < high and "That is no clear difference." in first
    ahead = sum(ratio > 0 for ratio in ln_ratios(view, "lstm", "cvfp", 400))
    assert 0 < ahead < 3 and f"cvfp is lower with {ahead} of 3 seeds there." in sure
    assert "excludes 0 at 0 of 4 sizes (50 to 400 documents)." in sure
    assert "--seeds 4" in following


def test_how_sure_counts_the_sizes_whose_interval_excludes_none(tmp_path):
    def change(run: RunRecord) -> RunRecord:
        return planted({"lstm": lambda size: 0.002 if size <= 100 else 0.05})(run)

    view = view_of(tmp_path, lines=TWO, change=change)
    clear = [size for size in SIZES if percent(ln_ratios(view, "lstm", "cvfp", size))[1] > 0]
    assert clear == [200, 400]
    _first, sure, _following = answer_texts(view)
    assert sure == (
        "**How sure:** cvfp is lower with 3 of 3 seeds there. The 95% interval of the difference to lstm, "
        "over seeds, excludes 0 at 2 of 4 sizes (50 to 400 documents)."
    )


@pytest.mark.parametrize("documents", [0, 40])
def test_one_seed_is_called_indicative_whether_or_not_test_losses_were_kept(tmp_path, documents):
    change = planted({"lstm": lambda _: 0.1})
    view = view_of(tmp_path, lines=TWO, seeds=(1,), documents=documents, change=change)
    first, sure, following = answer_texts(view)
    (ratio,) = ln_ratios(view, "lstm", "cvfp", 400)
    assert f"The closest rival, lstm, is at {shown(100 * math.expm1(ratio))} (1 seed) against it." in first
    assert "95% interval" not in first + sure and "gap" not in first
    assert sure.startswith("**How sure:** **1 seed: indicative only.** Another seed may turn the order")
    assert following.startswith("**Next:** `cvfp run runs/demo --seeds 3` (about ")


def test_a_mixture_is_no_rival_but_is_told_where_it_is_better(tmp_path):
    ratios: Ratios = {"mixture": lambda _: -0.08, "kneser-ney": lambda _: 0.2, "cvfp": lambda _: 0.3}
    lines = (JOINT, NGRAM, DEFAULT_LINES[0], MIXTURE)
    view = view_of(tmp_path / "better", lines=lines, change=planted(ratios))
    first, *_rest = answer_texts(view)
    assert first.startswith("**Of single models cvfp-joint has the lowest test PPL")
    assert "The closest rival, kneser-ney" in first
    mixed = with_interval(ln_ratios(view, "mixture", "cvfp-joint", 400))
    end = "The mixture of cvfp-joint with kneser-ney is lower still, at"
    assert first.endswith(f"{end} {mixed} against it.")
    worse = planted(ratios | {"mixture": lambda _: 0.08})
    first, *_rest = answer_texts(view_of(tmp_path / "worse", lines=lines, change=worse))
    assert "ixture" not in first and first.startswith("**cvfp-joint has")
    others = replace(MIXTURE, settings={"mixture.arms": ("cvfp", "kneser-ney")})
    view = view_of(tmp_path / "others", lines=(*lines[:3], others), change=planted(ratios))
    assert "ixture" not in answer_texts(view)[0]


def test_models_without_a_common_size_cannot_be_ranked(tmp_path):
    def apart(run: RunRecord) -> RunRecord | None:
        return run if (run.point.arm == "cvfp") == (run.point.num_samples <= 100) else None

    first, sure, _following = answer_texts(view_of(tmp_path, lines=TWO, change=apart))
    assert first == "There is no size yet at which every model has a result: nothing can be ranked."
    assert sure == "", "there are other models"


def test_one_model_alone_is_told_without_a_rank(tmp_path):
    first, sure, _following = answer_texts(view_of(tmp_path, lines=TWO[:1], seeds=(1,)))
    assert first.startswith("**1L_768d_1tok has test PPL ") and "lowest" not in first
    assert sure.endswith("There is no other model to compare.")


def test_the_ranking_is_by_ppl_with_paired_percentages_and_means_of_every_column(tmp_path):
    ratios: Ratios = {"lstm": lambda _: -0.03, "kneser-ney": lambda _: 0.1}
    view = view_of(tmp_path, lines=(*TWO, NGRAM), change=planted(ratios))
    rows = [row.strip("| ").split(" | ") for row in ranking_table(view).splitlines()]
    heads = ["model", "test PPL", "against cvfp", "bits per byte", "accuracy", "parameters", "seconds"]
    assert rows[0] == heads and [row[0] for row in rows[2:]] == ["lstm", "cvfp", "kneser-ney"]
    at = {line.label: [p for p in line.points if p.num_samples == 400] for line in view.lines}
    for name, ppl, against, bits, accuracy, parameters, seconds in rows[2:]:
        assert ppl == f"**{stats.gmean([p.val_ppl for p in at[name]]):.1f}**"
        if name == "cvfp":
            assert against == "reference"
        else:
            value, low, high = map(shown, percent(ln_ratios(view, name, "cvfp", 400)))
            assert against == f"{value} ({low} to {high}) {'▼' if name == 'lstm' else '▲'}"
        assert bits == f"{np.mean([p.bits_per_byte for p in at[name]]):.3f}"
        assert accuracy == f"{100 * np.mean([p.val_acc for p in at[name]]):.1f}%"
        assert (parameters, seconds) == ("40.96M", "12.5")
    note = ranking_note(view)
    assert note.startswith(
        "At 400 documents, the largest size that all of them have; means over seeds 1, 2, 3."
    )


# --- What to run next; `test_next_run.py` has the rest.


def test_names_in_the_next_run_are_no_markup(tmp_path):
    lines = (DEFAULT_LINES[0], LineSpec("cvfp", "<b>*x*", {"model.context_dim": 10}))
    view = view_of(
        tmp_path, lines=lines, change=lambda run: changed_point(run, val_ppl=100.0 + run.point.seed % 2)
    )
    text = answer_texts(view)[-1]
    assert "<b>*x*" not in text


# --- The two figures.


LINES = one_quick(nine_lines(), DEFAULT_LINES, four_arms(3), four_arms(9), our_arms(), every_arm())


@pytest.mark.parametrize("lines", LINES, ids=["nine", "four", "3x4", "9x4", "ours", "every"])
def test_no_labels_touch_in_the_figures_of_the_answer(tmp_path, lines):
    view = view_of(tmp_path, lines=lines, seeds=(42, 43))
    assert_readable(ppl_figure(view.lines))
    assert_readable(ratio_figure(view.reference, view.changes, view.lines))


@pytest.mark.parametrize("name", one_quick("baselines", "v1", "v3", "next"))
def test_no_labels_touch_in_the_figures_of_the_answer_of_real_sweeps(name):
    view = View(*read(RESULTS / name), name)
    assert_readable(ppl_figure(view.lines))
    assert_readable(ratio_figure(view.reference, view.changes, view.lines))


def test_the_figure_of_ppl_shows_every_seed_and_joins_their_means(tmp_path):
    view = view_of(tmp_path, lines=(*TWO, NGRAM))
    figure = ppl_figure(view.lines)
    drawn = [xy(one) for one in figure.axes[0].lines]
    for line in view.lines:
        assert [(p.train_tokens, p.val_ppl) for p in line.points] in drawn
        means = [
            (1200 * size, stats.gmean([p.val_ppl for p in line.points if p.num_samples == size]))
            for size in SIZES
        ]
        assert [pytest.approx(place) for place in means] in drawn
    assert len(drawn) == 2 * len(view.lines)  # no fitted law
    assert {"cvfp", "lstm", "kneser-ney"} <= {text.get_text() for text in texts_of(figure)}


def test_the_figure_against_the_reference_shows_paired_ratios_with_their_intervals(tmp_path):
    lines = (*TWO, NGRAM)
    ratios: Ratios = {"lstm": lambda size: 0.03 - size / 9000, "kneser-ney": lambda _: 0.05}
    view = view_of(tmp_path, lines=lines, change=planted(ratios))
    figure = ratio_figure(view.reference, view.changes, view.lines)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_xticklabels()] == ["50", "100", "200", "400"]
    styles = styles_of(view.lines)
    for line in view.lines[1:]:
        own = [one for one in axes.lines if one.get_color() == styles[line.label].color]
        (joined,) = [one for one in own if len(one.get_xdata()) == len(SIZES)]
        bars = [xy(one) for one in own if len(set(one.get_xdata())) == 1]
        for place, (size, (x, y)) in enumerate(zip(SIZES, xy(joined), strict=True)):
            value, low, high = percent(ln_ratios(view, line.label, "cvfp", size))
            assert y == pytest.approx(value) and abs(x - place) < 0.2
            assert [(x, pytest.approx(low)), (x, pytest.approx(high))] in bars
        assert len(bars) == len(SIZES)
    levels = [one for one in axes.lines if set(one.get_ydata()) == {0}]
    assert [one.get_color() for one in levels] == [styles["cvfp"].color]
    assert axes.get_title(loc="left") == "PPL against cvfp, % (bars: 95% intervals)"
    low, high = axes.get_ylim()
    assert low < 0 < high


def test_a_line_far_off_leaves_the_panel_and_is_named_with_its_value(tmp_path):
    lines = (*TWO, NGRAM)
    view = view_of(
        tmp_path, lines=lines, change=planted({"lstm": lambda _: 0.03, "kneser-ney": lambda _: math.log(5)})
    )
    (axes,) = ratio_figure(view.reference, view.changes, view.lines).axes
    assert axes.get_ylim()[1] < 50
    (name,) = [text for text in axes.texts if "kneser-ney" in text.get_text()]
    ((change, top),) = [(c, view.top) for c in view.changes if c.other.label == "kneser-ney"]
    assert name.get_text() == f"kneser-ney +{change.ppl_at(top.num_samples).value:.1f}%"
    assert any(text.get_text() == "lstm" for text in axes.texts)


@pytest.mark.parametrize(("seeds", "look"), [((1,), ":"), (SEEDS, "-")])
def test_bars_of_one_seed_are_dotted(tmp_path, seeds, look):
    view = view_of(tmp_path, lines=TWO, seeds=seeds, documents=30)
    axes = ratio_figure(view.reference, view.changes, view.lines).axes[0]
    bars = [one for one in axes.lines if len(set(one.get_xdata())) == 1 and len(one.get_xdata()) == 2]
    assert len(bars) == len(SIZES) and {one.get_linestyle() for one in bars} == {look}


def test_one_size_is_a_table_and_one_model_stands_beside_nothing(tmp_path):
    view = view_of(tmp_path / "size", lines=TWO, sizes=(50,))
    assert ppl_figure(view.lines) is None
    assert ratio_figure(view.reference, view.changes, view.lines) is None
    view = view_of(tmp_path / "model", lines=TWO[:1])
    assert ppl_figure(view.lines) is not None
    assert ratio_figure(view.reference, view.changes, view.lines) is None


def test_of_very_many_models_the_best_of_each_arm_is_named(tmp_path):
    view = view_of(tmp_path, lines=four_arms(9), seeds=(42,))
    assert len(view.lines) > MOST_NAMES
    named = {text.get_text() for text in texts_of(ppl_figure(view.lines))} & {
        line.label for line in view.lines
    }
    best = {
        arm: min(
            (line for line in view.lines if line.arm == arm),
            key=lambda line: min(p.val_ppl for p in line.points),
        )
        for arm in {line.arm for line in view.lines}
    }
    assert named == {line.label for line in best.values()}
