"""Conclusions follow from the numbers by rule: verdicts need intervals, causes need a single difference."""

import math
from dataclasses import replace

import pytest
from report_helpers import DEFAULT_LINES, OWN_ARM, LineSpec, write_sweep

from cvfp.records.plan import Analysis
from cvfp.records.sweep import load_sweep
from cvfp.report.changes import LineChange, changes_within_arms
from cvfp.report.conclusions import conclusions
from cvfp.report.lines import report_lines
from cvfp.report.recommendations import recommendation_table

SEEDS = (1, 2, 3)
WOBBLE = {1: 0.001, 2: -0.001, 3: 0.0005}
"""ln PPL of a seed apart from its line: small, so that planted differences are told apart."""


def planted(factors: dict[tuple[str, str], float], seeds=SEEDS):
    """A change that sets PPL to factor * tokens^-0.3 by (arm, config), with a little noise per seed."""

    def change(run):
        point = run.point
        sign = 1 if point.arm == "cvfp" else -1
        noise = math.exp(sign * WOBBLE[point.seed]) if seeds != (1,) else 1.0
        ppl = factors[point.arm, point.config_name] * point.train_tokens**-0.3 * noise
        return run.model_copy(update={"point": point.model_copy(update={"val_ppl": ppl})})

    return change


def found(directory, **settings):
    sweep = load_sweep(write_sweep(directory, **settings))
    lines = report_lines(sweep)
    return conclusions(sweep, lines), lines


FACTORS = {
    ("cvfp", "1L_768d_1tok"): 9000.0,
    ("kneser-ney", "5gram"): 10000.0,
    ("no-context", "1L_0d_1tok"): 9900.0,
    ("random-context", "1L_768d_1tok"): 9005.0,
}


def test_the_lowest_line_is_named_with_those_that_are_not_told_apart(tmp_path):
    texts, _ = found(tmp_path, seeds=SEEDS, change=planted(FACTORS))
    best = texts[0]
    assert best.startswith("At 400 documents cvfp has the lowest test PPL, ")
    assert "No clear difference from it: random-context +0.02% (95% interval" in best
    assert "kneser-ney" not in best and "no-context" not in best


def test_phase_1_and_the_context_are_judged_by_arms_that_differ_in_nothing_else(tmp_path):
    texts, _ = found(tmp_path, seeds=SEEDS, change=planted(FACTORS))
    (phase1,) = [text for text in texts if text.startswith("Phase 1 (")]
    (context,) = [text for text in texts if text.startswith("The context (")]
    assert "cvfp instead of random-context" in phase1 and "no clear difference) at 400 documents" in phase1
    assert "PPL -9.1% (95% interval -9.5% to -8.6%" in context and ": lower) at 400 documents" in context


def test_an_ablation_with_other_settings_is_no_ablation(tmp_path):
    lines = (DEFAULT_LINES[0], replace(DEFAULT_LINES[3], settings={"phase2.lr": 0.1}))
    texts, _ = found(tmp_path, lines=lines, seeds=SEEDS, change=planted(FACTORS))
    assert not [text for text in texts if text.startswith("Phase 1 (")]


def test_one_seed_gives_no_verdict_on_any_perplexity(tmp_path):
    texts, _ = found(tmp_path, change=planted(FACTORS, (1,)), seeds=(1,))
    told = [text for text in texts if "PPL" in text and "%" in text]
    assert told and not [text for text in told if "lower)" in text.split("exponent")[0]]
    assert any("no interval: no verdict" in text for text in told)


def test_the_ngram_is_compared_at_both_ends_and_may_win(tmp_path):
    worse = FACTORS | {("cvfp", "1L_768d_1tok"): 11000.0}
    texts, _ = found(tmp_path, seeds=SEEDS, change=planted(worse))
    (text,) = [text for text in texts if text.startswith("cvfp against kneser-ney")]
    assert text.count("+10.0% (95% interval") == 2
    assert "at 50 documents; " in text and "at 400 documents; exponent" in text
    assert text.count(": higher)") == 2


RIVALS = (
    LineSpec("lstm", "2L_768d"),
    LineSpec("transformer", "2L_768d"),
    LineSpec("blend", "768d", OWN_ARM),
)


@pytest.mark.long
@pytest.mark.parametrize("rival", RIVALS, ids=lambda spec: spec.arm)
def test_an_arm_that_beats_cvfp_is_named_as_the_winner_whatever_it_is(tmp_path, rival):
    lines = (*DEFAULT_LINES, rival)
    factors = FACTORS | {(rival.arm, rival.config_name): 8000.0}
    texts, _ = found(tmp_path / "three", lines=lines, seeds=SEEDS, change=planted(factors))
    assert f"At 400 documents cvfp loses to {rival.arm} (-11.1%)." in texts
    assert any(text.startswith(f"cvfp against {rival.arm}, PPL: +12.5% (95% interval") for text in texts)
    texts, _ = found(tmp_path / "one", lines=lines, seeds=(1,), change=planted(factors, (1,)))
    said = f"At 400 documents cvfp is higher than {rival.arm} (-11.1%); one seed each: no verdict."
    assert said in texts and not [text for text in texts if "loses" in text]


def test_no_loss_is_told_where_cvfp_leads_or_only_a_pretrained_table_is_ahead(tmp_path):
    texts, _ = found(tmp_path / "leads", seeds=SEEDS, change=planted(FACTORS))
    assert not [text for text in texts if "loses" in text]
    rival = LineSpec("lstm", "2L_768d", {"embedding.source": "gpt2"})
    factors = FACTORS | {("lstm", "2L_768d"): 8000.0}
    texts, _ = found(tmp_path / "table", lines=(*DEFAULT_LINES, rival), seeds=SEEDS, change=planted(factors))
    assert not [text for text in texts if "loses" in text]


def lines_of(*settings: dict) -> tuple[LineSpec, ...]:
    return tuple(LineSpec("cvfp", f"line{number}", each) for number, each in enumerate(settings))


def test_a_single_setting_is_named_as_the_only_one_that_differs(tmp_path):
    specs = lines_of({}, {"model.context_dim": 1200})
    factors = {("cvfp", "line0"): 9000.0, ("cvfp", "line1"): 8000.0}
    texts, _ = found(tmp_path, lines=specs, seeds=SEEDS, change=planted(factors))
    (text,) = [text for text in texts if text.startswith("line1 against line0")]
    assert "PPL -11.1% (95% interval" in text
    assert text.endswith(" Only model.context_dim 768 → 1200 differs.")


def test_several_settings_are_named_and_none_is_credited(tmp_path):
    specs = lines_of({}, {"model.context_dim": 1200, "phase1.context_noise": 0.1})
    factors = {("cvfp", "line0"): 9000.0, ("cvfp", "line1"): 8000.0}
    texts, _ = found(tmp_path, lines=specs, seeds=SEEDS, change=planted(factors))
    (text,) = [text for text in texts if text.startswith("line1 against line0")]
    assert "2 settings differ" in text and text.endswith("none of them can be credited.")
    assert "Only" not in text


def test_a_changing_exponent_is_a_conclusion_only_when_its_interval_excludes_zero(tmp_path):
    def curved(run):
        x = math.log(run.point.train_tokens)
        ppl = math.exp(20 - 2.0 * x + 0.06 * x * x + WOBBLE[run.point.seed])
        return run.model_copy(update={"point": run.point.model_copy(update={"val_ppl": ppl})})

    window = Analysis(window_size=2)
    bent, _ = found(tmp_path / "bent", lines=DEFAULT_LINES[:1], seeds=SEEDS, change=curved, analysis=window)
    straight, _ = found(
        tmp_path / "straight",
        lines=DEFAULT_LINES[:1],
        seeds=SEEDS,
        change=planted(FACTORS),
        analysis=window,
    )
    said = "So one power law does not describe this curve, and no prediction is taken from it."
    assert any(said in text and ": flatter)" in text for text in bent)
    assert not any(said in text for text in straight)
    going_on = "The forecast of "
    assert not any(text.startswith(going_on) for text in bent)
    assert any(text.startswith(going_on) for text in straight)


def test_a_law_that_misses_its_own_largest_size_predicts_nothing(tmp_path):
    def broken(run):
        point = run.point
        factor = 1.5 if point.num_samples == 400 and point.arm == "cvfp" else 1.0
        ppl = FACTORS[point.arm, point.config_name] * point.train_tokens**-0.3 * factor
        ppl *= math.exp(0.001 * (point.seed - 42) * (1 + math.log(point.train_tokens)))
        return run.model_copy(update={"point": point.model_copy(update={"val_ppl": ppl})})

    texts, lines = found(tmp_path, seeds=SEEDS, change=broken)
    rejected = {line.label: "largest size" in line.rejections for line in lines}
    assert rejected["cvfp"] and not rejected["kneser-ney"]
    test = {line.label: line.backtest for line in lines}
    assert not test["cvfp"].held and test["kneser-ney"].held
    assert test["cvfp"].measured / test["cvfp"].predicted == pytest.approx(1.5, rel=0.01)
    assert not any(text.startswith("The forecast of cvfp is lowest") for text in texts)


def test_phase_1_that_ended_at_its_cap_gives_lower_bounds(tmp_path):
    def capped(run):
        return run.model_copy(update={"phase1_converged": False}) if run.point.arm == "cvfp" else run

    texts, _ = found(tmp_path, change=capped)
    assert "Phase 1 of cvfp ended at its cap in 4 of 4 runs: lower bounds only." in texts
    texts, _ = found(tmp_path / "converged")
    assert "Phase 1 of cvfp converged in all 4 runs, in 23 iterations." in texts


def test_flagged_points_are_counted(tmp_path):
    def change(run):
        small = run.point.num_samples == 50 and run.point.arm == "cvfp"
        if run.point.num_samples == 100 and run.point.arm == "cvfp":
            return None
        stop = "cap" if small else run.point.stop_reason
        return run.model_copy(update={"point": run.point.model_copy(update={"stop_reason": stop})})

    texts, _ = found(tmp_path, change=change)
    assert texts[-1] == (
        "Of 16 runs 1 ended training at their cap, 1 have no record yet, 1 are left out of the fits."
    )


@pytest.mark.parametrize(("other", "overlap"), [(9005.0, True), (20000.0, False)])
def test_forecasts_that_overlap_support_no_order(other: float, overlap: bool, tmp_path):
    factors = {("cvfp", "line0"): 9000.0, ("cvfp", "line1"): other}
    specs = lines_of({}, {"model.context_dim": 1200})
    texts, _ = found(tmp_path, lines=specs, seeds=SEEDS, change=planted(factors))
    (text,) = [text for text in texts if text.startswith("The forecast of line0 is lowest")]
    assert text.endswith("The intervals of line1 overlap it: the order is not supported.") == overlap


def test_one_size_of_several_draws_is_no_law_to_hold_against_the_next(tmp_path):
    def own_tokens(run):
        point = run.point
        tokens = point.train_tokens + 1000 * (point.seed - 42)
        return run.model_copy(update={"point": point.model_copy(update={"train_tokens": tokens})})

    _, lines = found(tmp_path, seeds=SEEDS, sizes=(50, 100), change=own_tokens)
    assert all(line.law is not None and line.backtest is None for line in lines)


def test_a_forecast_carries_its_interval(tmp_path):
    texts, lines = found(tmp_path, lines=DEFAULT_LINES[:2], sizes=(50, 100, 200, 400, 800))
    (text,) = [text for text in texts if text.startswith("The forecast of ")]
    lowest = min((line.forecasts[-1] for line in lines if line.forecasts), key=lambda one: one.ppl)
    assert f"{lowest.ppl:.1f} (95% interval of the law {lowest.low:.1f} to {lowest.high:.1f})" in text


def test_pretrained_tables_are_ranked_among_themselves(tmp_path):
    lines = (LineSpec("cvfp", "1L_768d_1tok", {"embedding.source": "gpt2"}), *DEFAULT_LINES[1:3])
    texts, found_lines = found(tmp_path, lines=lines, seeds=SEEDS, change=planted(FACTORS))
    assert texts[0].startswith("At 400 documents no-context has the lowest test PPL")
    assert texts[1].startswith("At 400 documents cvfp is lowest of those with a pretrained token table")
    table = recommendation_table(found_lines)
    assert "| lowest perplexity | no-context |" in table and "| lowest perplexity | cvfp† |" in table


def test_recommendations_name_what_is_not_told_apart(tmp_path):
    _, lines = found(tmp_path, seeds=SEEDS, change=planted(FACTORS))
    rows = {row.split(" | ")[0].strip("| "): row for row in recommendation_table(lines).splitlines()[2:]}
    assert rows["lowest perplexity"].endswith("| random-context |")
    assert "| cvfp |" in rows["lowest perplexity"]
    assert rows["fewest parameters"].split(" | ")[1:3] == ["cvfp", "40.96M"]
    shares = {line.label: [p.val_acc for p in line.points if p.num_samples == 400] for line in lines}
    best = max(shares, key=lambda label: sum(shares[label]))
    assert rows["highest accuracy"].split(" | ")[1:3] == [best, f"{100 * sum(shares[best]) / 3:.1f}%"]
    assert not any(gone in row for gone in ("iterations", "rank", "steepest") for row in rows)


def test_changes_are_taken_at_equal_tokens_only(tmp_path):
    specs = lines_of({}, {"model.context_dim": 1200})

    def change(run):
        point = run.point
        tokens = point.train_tokens + (1 if point.config_name == "line1" and point.num_samples == 400 else 0)
        return run.model_copy(update={"point": point.model_copy(update={"train_tokens": tokens})})

    _, lines = found(tmp_path, lines=specs, change=change)
    (step,) = changes_within_arms(lines)
    assert step.num_samples == 200
    assert len(step.pairs) == 3


def test_a_line_is_held_against_the_nearest_before_it(tmp_path):
    """Variants of one line against that line, steps against the step before."""
    wide, deep = {"model.context_dim": 1200}, {"model.num_layers": 2}
    for third, reference in ((deep, 0), (wide | deep, 1), ({"model.context_dim": 900}, 0)):
        _, lines = found(tmp_path / str(reference + len(third)), lines=lines_of({}, wide, third))
        first, second = changes_within_arms(lines)
        assert first.reference is lines[0] and second.reference is lines[reference]
        assert [len(change.settings) for change in (first, second)] == [1, 1]


def test_lines_scored_on_other_texts_are_not_compared(tmp_path):
    specs = lines_of({}, {"data.split_seed": 1})
    _, lines = found(tmp_path, lines=specs)
    step = LineChange(*lines)
    assert (step.pairs, step.ppl, step.alpha) == ([], None, None)
