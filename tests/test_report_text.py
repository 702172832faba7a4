"""What a report says, from invented records whose truth is known."""

import re
from dataclasses import replace

import pytest
from report_helpers import DEFAULT_LINES, ENVIRONMENT, METADATA, LineSpec, every_arm, nine_lines, write_sweep

from cvfp.records.files import read_json, write_json
from cvfp.records.plan import Analysis
from cvfp.records.results import PointRecord, RunRecord
from cvfp.records.sweep import load_sweep
from cvfp.report.lines import line_labels, report_lines
from cvfp.report.sections.scaling import held_text
from cvfp.report.write import write_report

pytestmark = pytest.mark.usefixtures("undrawn")


def report(directory, **settings) -> str:
    write_report(write_sweep(directory, **settings))
    return (directory / "report.md").read_text(encoding="utf-8")


def section(text: str, title: str) -> str:
    return text.split(f"\n## {title}\n", 1)[1].split("\n## ", 1)[0]


def folded(text: str, title: str) -> str:
    """What is folded away under this title."""
    return text.split(f"\n<details><summary>{title}</summary>\n", 1)[1].split("\n</details>", 1)[0]


def with_point(run, **changes):
    return run.model_copy(update={"point": run.point.model_copy(update=changes)})


def fixed_ppl(values):
    """A change that sets val_ppl by arm (and seed, where the value is a mapping)."""

    def change(run):
        value = values[run.point.arm]
        return with_point(run, val_ppl=value[run.point.seed] if isinstance(value, dict) else value)

    return change


TWO = DEFAULT_LINES[:2]


def test_the_setting_names_data_protocol_and_machine(tmp_path):
    text = report(tmp_path)
    setting = section(text, "Settings and data")
    for row in (
        "| corpus | chitchat |",
        "| tokenizer | gpt2 |",
        "| training documents | 50, 100, 200, 400 |",
        "| protocol | standard |",
        "| seeds | 42 |",
        "| embedding | random, trained, with output bias |",
        "| hardware | cpu, 2 cores |",
        "| software | cvfp 0.1.0, commit abcdef123456, python 3.11.7, torch 2.9.0 |",
        "| run time | 3 min 38 s |",
        "| time of all runs | 3 min 20 s for 16 runs |",
        "| chitchat | gpt2 | test | 300 | 345,000 | 1,450,000 |",
    ):
        assert row in setting


def test_the_setting_says_how_arms_trained_through_time_were_trained(tmp_path):
    text = section(report(tmp_path, lines=every_arm()), "Settings and data")
    ends = "weight decay 0.5, precision bf16; dev loss 2 times per epoch, patience 6; word dropout 0.05, "
    lstm = "layers: 2, at most 60 epochs, batches of 32 windows of 64 tokens, learning rate 0.00087"
    assert f"| LSTM | {lstm}, dropout 0.4, {ends}" in text
    assert "| Transformer | layers: 2, at most 60 epochs, batches of 8 windows of 256 tokens, " in text
    assert "| LSTM |" not in report(tmp_path / "without")


def test_a_report_can_be_written_without_any_metadata(tmp_path):
    text = report(tmp_path, metadata={})
    assert "| corpus | chitchat |" in section(text, "Settings and data")
    assert "| hardware |" not in text


def test_machines_that_took_turns_are_all_named(tmp_path):
    other = ENVIRONMENT | {"device": "NVIDIA L4", "cores": 12}
    text = report(tmp_path, metadata=METADATA | {"environments": [ENVIRONMENT, other]})
    machine = section(text, "Settings and data")
    assert "| hardware | cpu, 2 cores; NVIDIA L4, 12 cores |" in machine
    assert "| software | cvfp 0.1.0, commit abcdef123456, python 3.11.7, torch 2.9.0 |" in machine


def test_one_seed_gives_the_numbers_plainly_and_no_verdict(tmp_path):
    change = fixed_ppl({"cvfp": 151.2, "kneser-ney": 123.0})
    text = section(report(tmp_path, lines=TWO, change=change), "Answer")
    assert "**kneser-ney has the lowest test PPL at 400 training documents (480,000 tokens): 123.0.**" in text
    assert "cvfp, the model in question, is at +22.9% (1 seed) against it." in text
    assert "no clear difference." not in text.split(">\n")[0] and "**1 seed: indicative only.**" in text
    assert "| kneser-ney | **123.0** | -18.7% |" in text
    assert "| cvfp | **151.2** | reference |" in text


def test_winning_against_an_ngram_is_said_without_praise(tmp_path):
    text = report(tmp_path, lines=TWO, change=fixed_ppl({"cvfp": 100.0, "kneser-ney": 125.0}))
    assert "The closest rival, kneser-ney, is at +25.0% (1 seed) against it." in text
    assert "| kneser-ney | **125.0** | +25.0% |" in text
    assert not any(word in text for word in ("loses to", "wins", "beats"))


def test_three_seeds_give_a_paired_interval(tmp_path):
    values = {"cvfp": {1: 100.0, 2: 110.0, 3: 121.0}, "kneser-ney": {1: 90.0, 2: 100.1, 3: 107.69}}
    text = report(tmp_path, lines=TWO, seeds=(1, 2, 3), change=fixed_ppl(values))
    # ln ratios: ln 0.90, ln 0.91, ln 0.89; t(2) = 4.3027
    assert "| kneser-ney | **99.0** | -10.0% (-12.5% to -7.5%) ▼ |" in text
    assert "**kneser-ney has the lowest test PPL at 400 training documents (480,000 tokens): 99.0.**" in text
    # The other way round: 1 / 0.900 - 1, from 1 / 0.925 - 1 to 1 / 0.875 - 1
    assert "cvfp, the model in question, is at +11.1% (95% interval +8.1% to +14.2%) against it." in text
    assert "kneser-ney is lower with 3 of 3 seeds there." in text
    assert "Seeds vary the draw of training documents and the initialisation" in text


def test_several_seeds_give_intervals_across_seeds(tmp_path):
    text = report(tmp_path, seeds=(1, 2, 3))
    row = read_json(tmp_path / "summary.json")[0]
    low, high = row["alpha_ci95"]
    assert row["interval_kind"] == "draws"
    assert f"| {low:.4f} to {high:.4f} |" in section(text, "Scaling")
    assert "one law per seed" in section(text, "Scaling")
    assert "95% interval of the law" in section(text, "Scaling")
    assert "over sizes, not run-to-run noise" not in text


def test_under_file_order_seeds_are_not_said_to_vary_the_documents(tmp_path):
    lines = tuple(replace(line, settings={"data.order": "file"}) for line in TWO)
    change = fixed_ppl({"cvfp": {1: 100.0, 2: 101.0}, "kneser-ney": 90.0})
    text = report(tmp_path, lines=lines, seeds=(1, 2), change=change)
    assert "Seeds vary the initialisation only" in text
    assert "the draw of training documents and" not in text


def test_seeds_that_change_nothing_give_no_verdict(tmp_path):
    change = fixed_ppl({"cvfp": 100.0, "kneser-ney": 90.0})
    text = report(tmp_path, lines=TWO, seeds=(1, 2), change=change)
    assert "cvfp, the model in question, is at +11.1% (1 seed) against it." in text
    assert "| kneser-ney | **90.0** | -10.0% |" in text
    assert not any(mark in section(text, "Scaling").split("First row")[0] for mark in "▲▼≈")
    assert "50 documents, seed 2: the same result as seed 1" in text


@pytest.mark.parametrize("split", ["published", "documents"])
def test_the_flattering_split_is_known_by_the_settings_not_by_a_label(tmp_path, split):
    lines = tuple(replace(line, settings={"data.split": split}) for line in TWO)
    text = report(tmp_path, lines=lines)
    assert ("so its perplexities are flattered" in text) == (split == "published")
    assert ("training stops on the dev split, which is another" in text) == (split == "documents")


def test_a_sweep_with_both_kinds_of_split_says_so(tmp_path):
    lines = (replace(TWO[0], settings={"data.split": "published"}), TWO[1])
    assert "but not at the runs of the published split" in report(tmp_path, lines=lines)


def test_a_window_that_bridges_a_size_says_so(tmp_path):
    def change(run):
        is_100 = run.point.arm == "cvfp" and run.point.num_samples == 100
        return with_point(run, stop_reason="cap") if is_100 else run

    analysis = Analysis(window_size=2)
    text = folded(report(tmp_path, lines=TWO, analysis=analysis, change=change), "Sliding windows")
    assert "| cvfp | 50 to 200, without 100 |" in text
    assert "bridges it" in text
    assert "| kneser-ney | 50 to 100 |" in text


def test_a_paired_interval_that_covers_zero_is_not_called_a_difference(tmp_path):
    values = {"cvfp": {1: 100.0, 2: 100.0, 3: 100.0}, "kneser-ney": {1: 90.0, 2: 108.0, 3: 95.0}}
    text = report(tmp_path, lines=TWO, seeds=(1, 2, 3), change=fixed_ppl(values))
    assert "That is no clear difference." in text
    assert "kneser-ney is lower with 2 of 3 seeds there." in text
    assert re.search(r"\| kneser-ney \| \*\*97\.4\*\* \| -2\.6% \(-\d+\.\d% to \+\d+\.\d%\) ≈ \|", text)


def test_lines_trained_on_other_tokens_are_not_compared(tmp_path):
    def change(run):
        return with_point(run, train_tokens=99_000) if run.point.arm == "kneser-ney" else run

    text = report(tmp_path, lines=TWO, sizes=(50,), change=change)
    answer = section(text, "Answer")
    assert "cvfp was trained on other tokens, or scored on other texts: not compared." in answer
    assert "**How sure:** There is no other model to compare." in answer
    assert re.search(r"\| cvfp \| \*\*[\d.]+\*\* \| reference \|", answer)
    assert re.search(r"\| kneser-ney \| \*\*[\d.]+\*\* \| – \|", answer) and "%" not in answer.split(">")[1]


def test_models_of_other_tokens_with_several_seeds_are_not_compared_either(tmp_path):
    def change(run):
        return with_point(run, train_tokens=99_000) if run.point.arm == "kneser-ney" else run

    text = report(tmp_path, lines=TWO, sizes=(50, 100), seeds=(1, 2, 3), change=change)
    assert "not compared." in text and "**How sure:** There is no other model to compare." in text


def test_pretrained_tables_are_marked_and_ranked_apart(tmp_path):
    lines = (LineSpec("cvfp", "1L_768d_1tok", {"embedding.source": "gpt2"}), *DEFAULT_LINES[1:2])
    change = fixed_ppl({"cvfp": 90.0, "kneser-ney": 123.0})
    text = report(tmp_path, lines=lines, change=change)
    assert "| cvfp† | **90.0** | reference |" in text
    assert "**kneser-ney has test PPL 123.0 at 400 training documents (480,000 tokens).**" in text
    assert "Not on equal terms, with a token table that was trained on other data: cvfp 90.0." in text
    assert "† uses a token table that was trained on other data." in text
    assert "| embedding | gpt2, frozen, without output bias |" in text


def test_the_laws_are_the_recorded_fits(tmp_path):
    text = section(report(tmp_path), "Scaling")
    row = read_json(tmp_path / "summary.json")[0]
    low, high = row["alpha_ci95"]
    law = f"{row['alpha']:.4f} | {low:.4f} to {high:.4f} | {row['A']:,.0f} | {row['r_squared']:.4f}"
    line = report_lines(load_sweep(tmp_path))[0]
    assert float(f"{row['A']:.4g}") == round(row["A"], 0)
    fitted = f"4 of 4 | 20.0 | {held_text(line)} | {row['best_ppl']:.1f} |"
    assert f"| cvfp | not tuned | 768 | 1,181,952 | {law} | {fitted}" in text


def test_iterations_stopped_by_their_cap_are_a_lower_bound(tmp_path):
    def change(run):
        return run.model_copy(update={"phase1_converged": False}) if run.point.arm == "cvfp" else run

    text = report(tmp_path, change=change)
    assert section(text, "Contexts").count("| ≥ 23 |") == 4
    assert folded(text, "Every run").count("| ≥ 23 |") == 4
    converged = report(tmp_path / "converged")
    assert "≥ 23" not in converged and section(converged, "Contexts").count("| 23 |") == 4


def test_capped_points_are_flagged_and_their_exclusion_explained(tmp_path):
    def change(run):
        is_small = run.point.arm == "cvfp" and run.point.num_samples == 50
        return with_point(run, stop_reason="cap") if is_small else run

    text = report(tmp_path, change=change)
    left_out = folded(text, "Failed, missing, and left out of the fits")
    assert "- cvfp, 50 documents, seed 42: stopped at its cap" in left_out
    assert "| 3 of 4 |" in section(text, "Scaling")
    assert "| cap‡ |" in folded(text, "Every run")


def failing_at_100(run):
    point = run.point
    if point.arm != "cvfp" or point.num_samples != 100:
        return run
    names = ("arm", "config_name", "config_hash", "num_samples", "seed")
    row = PointRecord(**{name: getattr(point, name) for name in names}, status="failed")
    return RunRecord(run_hash=run.run_hash, point=row, error="CvfpError: loss is not finite\n| at step 3 |")


def test_failed_points_are_listed_with_their_error_on_one_line(tmp_path):
    text = report(tmp_path, change=failing_at_100)
    assert "15 of 16 planned runs are done, 1 failed" in text
    assert (
        "- cvfp 1L_768d_1tok, 100 documents, seed 42: CvfpError: loss is not finite \\| at step 3 \\|\n"
        in text
    )
    assert "| 100 | – | – | failed |" in folded(text, "Every run")


def test_a_partial_sweep_says_what_is_missing(tmp_path):
    def change(run):
        return run if run.point.arm != "cvfp" or run.point.num_samples < 200 else None

    text = report(tmp_path, change=change)
    assert "14 of 16 planned runs are done, 0 failed, 2 without a record" in text
    assert "- cvfp 1L_768d_1tok: no record yet of 200 documents, seed 42; 400 documents, seed 42" in text
    assert "At 100 documents, the largest size that all of them have; seed 42." in text


def test_a_whole_sweep_is_not_called_partial(tmp_path):
    text = report(tmp_path)
    assert "partial" not in text
    assert "Failed, missing" not in text


@pytest.mark.parametrize("keep", [0, 1])
def test_a_sweep_that_has_hardly_begun_gets_a_report(tmp_path, keep):
    def change(run):
        return run if keep and run.point.arm == "cvfp" and run.point.num_samples == 50 else None

    text = report(tmp_path, change=change)
    assert "Can it predict?" not in text and "least squares" not in text and "is a fitted" not in text
    assert ("**No run has a record yet: there is nothing to report.**" in text) == (keep == 0)
    assert ("\n## Answer\n" in text) == (keep == 1) == ("has test PPL" in text)
    assert ("This report is of a partial sweep." in text) == (keep == 1)
    assert (tmp_path / "figures" / "context_dim_scaling.png").exists() == (keep == 1)


def test_predictions_are_at_four_and_ten_times_the_largest_size_with_their_label(tmp_path):
    sizes = (50, 100, 200, 400, 800)
    text = section(report(tmp_path, lines=DEFAULT_LINES[:1], sizes=sizes), "Can it predict?")
    one = report_lines(load_sweep(tmp_path))[0].forecasts[1]
    ends = f"{one.low:.1f} to {one.high:.1f} | {one.run_low:.1f} to {one.run_high:.1f}"
    assert f"| 1L_768d_1tok | 9,600,000 | 10 | {one.ppl:.1f} | {ends} |" in text
    assert "| 1L_768d_1tok | 3,840,000 | 4 |" in text


def test_two_sizes_predict_nothing_and_the_reason_is_told(tmp_path):
    text = section(report(tmp_path, lines=DEFAULT_LINES[:1], sizes=(50, 100)), "Can it predict?")
    assert "No forecast of 1L_768d_1tok: fewer than four sizes." in text and "predicted PPL |" not in text


def test_windows_show_exponents_change_and_trend(tmp_path):
    text = folded(report(tmp_path, analysis=Analysis(window_size=3)), "Sliding windows")
    row = read_json(tmp_path / "alpha_progression.json")[0]
    first, last = row["windows"]
    assert f"| cvfp | 50 to 200 | 60,000 to 240,000 | {first['alpha']:.4f} |" in text
    low, high = row["alpha_change_ci95"]
    excludes = "no" if low <= 0 <= high else "yes"
    change = (
        f"| {row['alpha_change']:+.4f} | {low:+.4f} to {high:+.4f} | {excludes} "
        f"| {row['alpha_change_percent']:+.1f}% | {row['trend']} |"
    )
    assert f"| cvfp | {first['alpha']:.4f} | {last['alpha']:.4f} {change}" in text


def test_windows_are_absent_unless_asked_for(tmp_path):
    assert "Sliding windows" not in report(tmp_path)


def test_details_show_every_point_in_order_of_size(tmp_path):
    text = folded(report(tmp_path, lines=DEFAULT_LINES[:1]), "Every run")
    points = read_json(tmp_path / "detailed_results.json")
    rows = [line for line in text.splitlines() if re.match(r"\| \d", line)]
    assert [row.split(" | ")[0] for row in rows] == ["| 50", "| 100", "| 200", "| 400"]
    assert f"| {points[0]['val_ppl']:.1f} | {100 * points[0]['val_acc']:.1f}% | 79.7% | 79.3% |" in rows[0]


def test_health_and_prior_data_come_from_the_run_records(tmp_path):
    def change(run):
        if run.point.arm != "cvfp":
            return run
        failures = ("expanding: a wrong start is not forgotten",)
        health = run.facts.health.model_copy(update={"memory_length": None, "failures": failures})
        facts = run.facts.model_copy(update={"health": health, "prior": ["GPT-2's table"]})
        return run.model_copy(update={"facts": facts})

    text = report(tmp_path, change=change)
    assert (
        "| cvfp | 50 | 42 | 99.4% | not reached | 0.83 | 0.839 | 2 | 0.412 | converged | "
        "expanding: a wrong start is not forgotten |" in text
    )
    assert "| random-context | 50 | 42 | – | 37 | 0.83 | 0.839 | 2 | 0.412 | converged | none |" in text
    assert "- cvfp: GPT-2's table" in section(text, "Settings and data")


def test_lines_with_one_name_in_several_arms_are_told_apart():
    names = [("cvfp", "a"), ("cvfp", "b"), ("random-context", "a")]
    assert line_labels(names) == ["cvfp a", "cvfp b", "random-context"]
    assert line_labels(names[:2]) == ["a", "b"]


def test_of_several_lines_of_an_arm_the_best_stands_for_it(tmp_path):
    text = section(report(tmp_path, lines=nine_lines()), "Answer")
    ppl = {}
    for line in report_lines(load_sweep(tmp_path)):
        ppl[line.label] = line.points[-1].val_ppl
    best = min((label for label in ppl if label.startswith("cvfp ")), key=ppl.get)
    assert f"| {best} | **{ppl[best]:.1f}** | reference |" in text
    rows = [row for row in text.splitlines() if re.match(r"\| (cvfp|random|kneser)", row)]
    assert [row.split(" | ")[0].strip("| ") for row in rows] == sorted(ppl, key=ppl.get)


HOSTILE = "x|y *b* <script>alert(1)</script> ![i](http://example.org/i.png)\n# head `code` $a$ &lt;"


def test_a_hostile_corpus_name_is_shown_literally(tmp_path):
    text = report(tmp_path, corpus=HOSTILE)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "<script>alert" not in page and "http://example.org/i.png)" in page
    shown = "x|y *b* &lt;script&gt;alert(1)&lt;/script&gt; "
    shown += "![i](http://example.org/i.png) # head `code` $a$ &amp;lt;"
    assert f">{shown}</td>" in page
    assert "\n# head" not in text


def test_a_hostile_line_name_breaks_neither_tables_nor_figure(tmp_path):
    lines = (LineSpec("cvfp", "a|b $x_{$ <i>"), LineSpec("cvfp", "other", {"model.context_dim": 10}))
    text = report(tmp_path, lines=lines)
    assert "| a\\|b $x\\_{$ \\<i\\> | not tuned | 768 |" in text
    assert "a|b $x_{$ &lt;i&gt;" in (tmp_path / "report.html").read_text(encoding="utf-8")


def test_a_stale_summary_does_not_reach_the_report(tmp_path):
    path = write_sweep(tmp_path, analysis=Analysis(window_size=3)) / "summary.json"
    write_report(tmp_path)
    before = (tmp_path / "report.md").read_text(encoding="utf-8")
    write_json(path, [row | {"alpha": -9.0} for row in read_json(path)[1:]])
    write_json(tmp_path / "alpha_progression.json", [])
    write_report(tmp_path)
    assert (tmp_path / "report.md").read_text(encoding="utf-8") == before


@pytest.mark.long
def test_a_report_written_twice_is_the_same(tmp_path):
    written = write_report(write_sweep(tmp_path))
    before = [path.read_bytes() for path in written]
    assert write_report(tmp_path) == written
    assert [path.read_bytes() for path in written] == before
