"""Reports of sweeps with joint training, mixtures, and settings that follow the number of documents."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from figure_helpers import changed_point, drawn_sweep, legend_names, texts_of, titled
from report_helpers import DEFAULT_LINES, JOINT, MIXTURE, LineSpec, our_arms, write_sweep

from cvfp.records.arms import ARMS
from cvfp.records.config import LATER, RunConfig
from cvfp.records.sweep import load_sweep
from cvfp.report.changes import setting_changes
from cvfp.report.conclusions import conclusions
from cvfp.report.figures.analysis import analysis_figure
from cvfp.report.figures.phase1 import phase1_figure
from cvfp.report.figures.training import learning_figure
from cvfp.report.lines import report_lines
from cvfp.report.recommendations import recommendation_table
from cvfp.report.sections.contexts import health_table
from cvfp.report.sections.settings import setting_table
from cvfp.report.standings import comparisons, headline, reference_arm
from cvfp.report.write import write_report

pytestmark = pytest.mark.usefixtures("undrawn")

SEEDS = (1, 2, 3)
BOTH = (*DEFAULT_LINES, JOINT)
LSTM = LineSpec("lstm", "2L_768d")
NOT_CREDITED = (
    "The objective differs, and with it cell, output layer and recipe as far as their settings do: none of "
    "them can be credited."
)


def read_of(directory, **settings):
    sweep = load_sweep(write_sweep(directory, **settings))
    return sweep, report_lines(sweep)


def concluded(directory, **settings) -> list[str]:
    return conclusions(*read_of(directory, seeds=SEEDS, **settings))


def report(directory, language="en", **settings) -> str:
    first, *_others = write_report(write_sweep(directory, **settings), language)
    return first.read_text(encoding="utf-8")


def rows(sweep) -> dict[str, str]:
    """The table of settings: value by name."""
    cells = (row.strip("| ").split(" | ", 1) for row in setting_table(sweep).splitlines()[2:])
    return dict(cells)


def test_a_report_is_about_joint_training_where_it_has_a_score_else_about_cvfp(tmp_path):
    def unscored(run):
        return changed_point(run, status="failed", val_ppl=None) if run.point.arm == "cvfp-joint" else run

    for name, lines, change, arm in (
        ("both", BOTH, lambda run: run, "cvfp-joint"),
        ("without", DEFAULT_LINES, lambda run: run, "cvfp"),
        ("unscored", BOTH, unscored, "cvfp"),
    ):
        _sweep, found = read_of(tmp_path / name, lines=lines, change=change)
        assert reference_arm(found) == arm
        assert {one.reference.line.arm for one in comparisons(headline(found))} == {arm}


def test_joint_training_is_held_against_cvfp_and_every_rival_without_a_cause(tmp_path):
    texts = concluded(tmp_path, lines=(*BOTH, LSTM))
    against = [text for text in texts if " against " in text and "exponent" in text]
    assert [text.split(", PPL")[0] for text in against] == [
        "cvfp-joint against cvfp",
        "cvfp-joint against kneser-ney",
        "cvfp-joint against lstm",
    ]
    assert [NOT_CREDITED in text for text in against] == [True, False, False]


def test_ablations_stay_those_of_the_two_phase_model(tmp_path):
    texts = concluded(tmp_path, lines=BOTH)
    assert [text.split(", no other")[0] for text in texts if "no other setting" in text] == [
        "The context (cvfp instead of no-context",
        "Phase 1 (cvfp instead of random-context",
    ]
    assert any(text.startswith("Effective rank of cvfp against") for text in texts)


def test_settings_within_both_trainings_are_told(tmp_path):
    lines = (
        *DEFAULT_LINES[:1],
        JOINT,
        replace(JOINT, config_name="other", settings={"joint.refresh": False}),
    )
    texts = concluded(tmp_path, lines=lines)
    assert any(text.endswith("Only joint.refresh true → false differs.") for text in texts)


@pytest.mark.long
def test_no_arm_loses_to_a_mixture_of_itself(tmp_path):
    texts = concluded(tmp_path / "part", lines=(*BOTH, MIXTURE))
    assert not [text for text in texts if "loses to" in text]
    assert texts[0].startswith("At 400 documents mixture has the lowest test PPL")
    said = report(tmp_path / "said", lines=(*BOTH, MIXTURE), seeds=SEEDS)
    assert "> **Of single models cvfp-joint has the lowest test PPL at 400 training documents" in said
    lower = r" The mixture of cvfp-joint with kneser-ney is lower still, at -\d+\.\d% \(95% interval "
    assert re.search(lower, said)
    others = replace(MIXTURE, settings={"mixture.arms": ("cvfp", "kneser-ney")})
    texts = concluded(tmp_path / "others", lines=(*BOTH, others))
    assert [text for text in texts if "cvfp-joint loses to mixture" in text]


def test_what_a_mixture_is_made_of_is_told_and_what_it_lacks_is_a_dash(tmp_path):
    text = report(tmp_path, lines=(*BOTH, MIXTURE))
    assert "| mixture | cvfp-joint + kneser-ney, weights chosen on dev |" in text
    assert "| mixture | cvfp-joint | 50.0% |" in text and "| mixture | kneser-ney | 50.0% |" in text
    answer = text.split("\n## Answer\n")[1].split("\n## ")[0]
    (row,) = [row for row in answer.splitlines() if row.startswith("| mixture |")]
    assert row.split(" | ")[4] == "–"
    without = report(tmp_path / "without", lines=BOTH)
    assert "Weights of the mixtures" in text and "Weights of the mixtures" not in without


def test_a_mixture_is_not_the_shortest_run(tmp_path):
    def fast(run):
        return changed_point(run, wall_seconds=0.1) if run.point.arm == "mixture" else run

    _sweep, lines = read_of(tmp_path, lines=(*BOTH, MIXTURE), change=fast)
    (row,) = [row for row in recommendation_table(lines).splitlines() if "shortest" in row]
    assert "mixture" not in row


@pytest.mark.parametrize(
    ("arms", "pretrained"), [(("cvfp-joint", "lstm"), True), (("kneser-ney", "unigram"), False)]
)
def test_a_mixture_is_pretrained_where_one_that_it_mixes_is(tmp_path, arms, pretrained):
    settings = {"mixture.arms": arms, "embedding.source": "gpt2"}
    _sweep, lines = read_of(tmp_path, lines=(replace(MIXTURE, settings=settings),))
    assert lines[0].pretrained is pretrained


def test_the_setting_tells_the_joint_model_and_its_training(tmp_path):
    found = rows(read_of(tmp_path, lines=BOTH)[0])
    assert found["joint model"] == (
        "mogrified LSTM cell (4 rounds of rank 64), layers: 1, width 1024, input tokens: 1, "
        "without token layers"
    )
    assert found["joint training"] == (
        "at most 40 epochs, steps of 128 chunks of 16 tokens, contexts refreshed every epoch, learning rate "
        "0.002, dropout 0.4, weight decay 0.5, precision bf16; dev loss 2 times per epoch, patience 6; word "
        "dropout 0.05, average of the weights over the tail of training, two readings of every batch, "
        "consistency 1, beta2 0.99, dropout locked over a chunk"
    )
    plain = rows(read_of(tmp_path / "without", lines=DEFAULT_LINES)[0])
    assert not {"joint model", "joint training", "mixture", "context cell"} & set(plain)
    changed = {
        "joint.cell": "gated",
        "joint.token_layers": True,
        "joint.refresh": False,
        "joint.num_layers": 2,
    }
    found = rows(read_of(tmp_path / "changed", lines=(replace(JOINT, settings=changed),))[0])
    assert found["joint model"] == "gated cell, layers: 2, width 1024, input tokens: 1, with token layers"
    assert "contexts never refreshed" in found["joint training"]


PLAIN = {
    "cvfp": (
        "phase 2",
        "at most 20 epochs, batches of 2,048, learning rate 0.0003, dropout 0, weight decay 0, precision "
        "bf16; dev loss every 50 steps, patience 5",
    ),
    "lstm": (
        "LSTM",
        "layers: 2, at most 60 epochs, batches of 32 windows of 64 tokens, learning rate 0.00087, dropout "
        "0.4, weight decay 0.5, precision bf16; dev loss every 50 steps, patience 6",
    ),
    "transformer": (
        "Transformer",
        "layers: 2, at most 60 epochs, batches of 8 windows of 256 tokens, learning rate 0.0002, dropout "
        "0.11, weight decay 0.058, precision bf16; dev loss every 50 steps, patience 6",
    ),
}


@pytest.mark.parametrize("arm", PLAIN)
def test_options_of_a_training_are_told_where_they_are_set(tmp_path, arm):
    name, plain = PLAIN[arm]
    section = {"cvfp": "phase2"}.get(arm, arm)
    without = {f"{section}.{key}": value for key, value in LATER[section].items()}
    without |= {f"{section}.eval_every": 50}
    assert rows(read_of(tmp_path / "plain", lines=(LineSpec(arm, "a", without),))[0])[name] == plain
    options = {"word_dropout": 0.05, "averaging": 0.998, "consistency": 0.5, "beta2": 0.99}
    options |= {"eval_every": None}
    options |= {"evaluations_per_epoch": 2} | ({} if arm == "cvfp" else {"locked_dropout": True})
    settings = {f"{section}.{key}": value for key, value in options.items()}
    found = rows(read_of(tmp_path / "set", lines=(LineSpec(arm, "a", settings),))[0])[name]
    told = (
        "; word dropout 0.05, exponential moving average of the weights 0.998, "
        "two readings of every batch, consistency 0.5, beta2 0.99"
    )
    locked = "" if arm == "cvfp" else ", dropout locked over a window"
    assert found == plain.replace("every 50 steps", "2 times per epoch") + told + locked


def test_another_cell_of_the_two_phase_model_is_told(tmp_path):
    line = replace(DEFAULT_LINES[0], settings={"model.cell": "gated", "model.token_layers": False})
    found = rows(read_of(tmp_path, lines=(line,))[0])
    assert found["context cell"] == "gated cell, layers: 1, width 768, input tokens: 1, without token layers"


def test_settings_that_follow_the_number_of_documents_have_a_table(tmp_path):
    joint = {"by_size.joint.lr.50": 0.003, "by_size.joint.lr.1600": 0.002, "by_size.joint.chunks.400": 64}
    lines = (replace(JOINT, settings=joint), replace(LSTM, settings={"by_size.lstm.weight_decay.50": 0.25}))
    text = report(tmp_path, lines=lines)
    table = text.split("<summary>Settings by number of documents</summary>")[1].split("\n\n")[1].splitlines()
    assert table[0] == "| model | setting | 50 documents | 400 documents | 1,600 documents |"
    assert table[2:] == [
        "| cvfp-joint | learning rate | 0.003 | – | 0.002 |",
        "| cvfp-joint | chunks of a step | – | 64 | – |",
        "| lstm | weight decay | 0.25 | – | – |",
    ]
    assert "interpolated in ln(documents)" in text
    assert (
        "steps of (by size) chunks of 16 tokens, contexts refreshed every epoch, learning rate (by size)"
        in text
    )
    assert "dropout 0.4, weight decay (by size), precision bf16" in text
    assert "(by size)" not in report(tmp_path / "without", lines=BOTH)


def test_lines_of_one_arm_that_follow_the_size_differently_are_told_apart(tmp_path):
    lines = [
        LineSpec("cvfp-joint", f"w{window}", {"by_size.joint.lr.50": rate, "joint.window": window})
        for window, rate in ((8, 0.003), (16, 0.004))
    ]
    text = report(tmp_path, lines=lines)
    assert "| cvfp-joint w8 | learning rate | 0.003 |" in text
    assert "| cvfp-joint w16 | learning rate | 0.004 |" in text


def test_trials_are_told_of_the_joint_model_too(tmp_path):
    text = report(tmp_path, lines=BOTH, tuned={"cvfp-joint": 24})
    assert "| cvfp-joint | tuned, 24 trials | 1,024 |" in text
    assert "Not tuned, unlike the others: kneser-ney, cvfp." in text


@pytest.mark.long
@pytest.mark.parametrize("language", ["ja", "en"])
def test_a_report_of_all_arms_is_written_in_every_language(tmp_path, language):
    drawn_sweep(tmp_path, our_arms(), seeds=(1, 2))
    files = write_report(tmp_path, language)
    mark = "" if language == "en" else f".{language}"
    names = ("ppl", "ratio", "learning_curves", "compute", "context_dim_scaling", "phase1_convergence")
    assert {f"{name}{mark}.png" for name in names} <= {path.name for path in files}
    assert [path.name for path in files[:2]] == [f"report{mark}.md", f"report{mark}.html"]
    text = files[0].read_text(encoding="utf-8")
    assert all(f"| {arm} |" in text for arm in ARMS)
    assert ("has the lowest test PPL" in text) == (language == "en")
    assert "None" not in text and "nan" not in text.split()


def test_figures_of_contexts_and_of_learning_tokens_show_joint_training_that_of_phase_1_does_not(tmp_path):
    sweep, lines = drawn_sweep(tmp_path, BOTH)
    learning = {text.get_text() for text in texts_of(learning_figure(sweep, lines))}
    assert {"cvfp-joint", "cvfp", "no-context", "random-context"} <= learning and "kneser-ney" not in learning
    contexts = analysis_figure(lines)
    assert "cvfp-joint" in legend_names(contexts)
    widths = titled(contexts, "effective rank × width")
    assert [text.get_text() for text in widths.get_xticklabels()] == ["768", "1024"]
    assert "cvfp-joint" not in legend_names(phase1_figure(sweep, lines))
    assert sum(row.startswith("| cvfp-joint | ") for row in health_table(lines).splitlines()) == 4


def test_a_sweep_of_joint_training_alone_has_no_phase_1(tmp_path):
    sweep, lines = drawn_sweep(tmp_path, (JOINT,))
    assert phase1_figure(sweep, lines) is None and analysis_figure(lines) is not None
    write_report(tmp_path)
    text = (tmp_path / "report.md").read_text(encoding="utf-8")
    assert "P1 seconds" not in text and "phase1_convergence" not in text and "learning_curves.png" in text
    assert "| **chunks, refresh** |" in text


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ({"arm": "lstm"}, {"arm": "lstm", "lstm.word_dropout": 0.1}, ["lstm.word_dropout 0.05 → 0.1"]),
        ({"arm": "lstm", "lstm.steps": 5}, {"arm": "lstm"}, ["lstm.steps 5 → none"]),
        ({"phase1.slices_per_step": 3}, {}, ["phase1.slices_per_step 3 → none"]),
        (
            {"phase2.averaging": 0.9},
            {"arm": "random-context"},
            ["arm cvfp → random-context", "phase2.averaging 0.9 → 0.0"],
        ),
        ({"phase2.context_source": "one_step"}, {"arm": "random-context"}, ["arm cvfp → random-context"]),
        ({"model.cell": "gated"}, {"arm": "no-context"}, ["arm cvfp → no-context"]),
        ({}, {"arm": "cvfp-joint", "joint.averaging": 0.0}, ["arm cvfp → cvfp-joint"]),
        (
            {"by_size.phase2.lr.50": 0.003, "by_size.phase2.lr.400": 0.002},
            {},
            ["phase2.lr {50 = 0.003, 400 = 0.002} → 0.0003"],
        ),
        ({"data.draw_seed": 3}, {"seed": 3}, []),
    ],
)
def test_settings_that_differ_are_named_though_a_default_is_in_no_hash(before, after, said):
    changes = setting_changes(RunConfig.from_settings(before), RunConfig.from_settings(after))
    assert [str(change) for change in changes] == said


def test_a_fixed_number_of_steps_is_told_as_one(tmp_path):
    joint = replace(JOINT, settings={"by_size.joint.steps.50": 30})
    lstm = replace(LSTM, settings={"lstm.steps": 706})
    text = report(tmp_path, lines=(joint, lstm))
    assert "a fixed number of steps (by size), steps of 128 chunks of 16 tokens" in text
    assert "a fixed number of steps (706), batches of 32 windows" in text
    assert text.count("which stops nothing early") == 2 and "epochs, " not in text
