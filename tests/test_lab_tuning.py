"""Tuning: every arm has the same trials, dev decides, and what was chosen is what runs."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from lab_helpers import TINY, tiny_spec

from cvfp.lab.executors import make_executor
from cvfp.lab.messages import tell_nobody
from cvfp.lab.plan import make_plan, read_spec
from cvfp.lab.presets import PRESETS, TUNED, find_spec
from cvfp.lab.sweep_directory import SweepDirectory
from cvfp.lab.tuning import (
    CONSISTENCY,
    DROPOUT,
    LR,
    WEIGHT_DECAY,
    WORD_DROPOUT,
    choose,
    trials,
    tune_sweep,
    tuning_plan,
    tuning_spec,
)
from cvfp.records.config import RunConfig, dotted
from cvfp.records.errors import InputError
from cvfp.records.plan import KNOBS, Tuning, read_tuning, tuned_at
from cvfp.records.results import PointRecord, RunRecord
from cvfp.records.sweep import SweepFiles, load_sweep, read_plan, read_records
from cvfp.records.training_config import JointConfig, LstmConfig, Phase2Config

CPU = torch.device("cpu")
ROUNDS = Path(__file__).parents[1] / "docs" / "results" / "tuning"


def test_the_first_trial_is_what_was_there_and_the_others_fill_the_ranges():
    sections = {"phase2": Phase2Config(lr=1e-3), "lstm": LstmConfig(lr=2e-3), "joint": JointConfig(chunks=9)}
    found = trials(40, sections)
    assert found[0] == {} and len(found) == 40
    ranges = {"lr": LR, "dropout": DROPOUT, "word_dropout": WORD_DROPOUT, "weight_decay": WEIGHT_DECAY}
    for key, (low, high) in (ranges | {"consistency": CONSISTENCY}).items():
        values = [trial[f"lstm.{key}"] for trial in found[1:]]
        if key == "lr":  # of every arm around its own
            assert values == pytest.approx([2 * trial[f"phase2.{key}"] for trial in found[1:]], rel=0.05)
            values = [value / 2e-3 for value in values]
        else:
            assert values == [trial[f"phase2.{key}"] for trial in found[1:]]
        scale = (lambda value: value) if "dropout" in key or key == "consistency" else math.log
        places = [(scale(value) - scale(low)) / (scale(high) - scale(low)) for value in values]
        quarters = [sum(quarter / 4 <= place < (quarter + 1) / 4 for place in places) for quarter in range(4)]
        assert min(places) >= -0.03 and max(places) <= 1.03 and min(quarters) >= 7
    assert {trial["joint.chunks"] for trial in found[1:]} == {9, 4}
    assert found == trials(40, sections)
    assert found[:5] == trials(5, sections)


def test_every_arm_gets_as_many_trials_and_sees_one_token_of_the_test_text(corpus):
    spec = tuning_spec(tiny_spec(corpus, arms=("cvfp", "no-context", "lstm")), 4, (4, 8))
    plan = make_plan(spec)
    for arm in spec.arms:
        lines = {point.config.config_hash for point in plan.points if point.config.arm == arm}
        assert len(lines) == 4
    assert {point.config.data.test_tokens for point in plan.points} == {2}


def record(point, dev_ppl: float | None) -> RunRecord:
    config = point.config
    row = PointRecord(
        arm=config.arm,
        config_name=point.config_name,
        config_hash=config.config_hash,
        status="done" if dev_ppl else "failed",
        num_samples=config.data.num_samples,
        seed=config.seed,
        train_tokens=100,
        val_ppl=9.0,
        dev_ppl=dev_ppl,
    )
    return RunRecord(run_hash=config.run_hash, point=row)


def test_the_lowest_loss_of_each_size_wins_and_a_trial_that_diverged_there_cannot(corpus):
    plan = make_plan(tuning_spec(tiny_spec(corpus, arms=("no-context",)), 4, (4, 8)))
    lines = list(dict.fromkeys(point.config.config_hash for point in plan.points))
    ppl = {
        (lines[0], 4): 30.0,
        (lines[0], 8): 20.0,
        (lines[1], 4): 10.0,
        (lines[1], 8): 50.0,
        (lines[2], 4): 24.0,
        (lines[2], 8): 20.0,
        (lines[3], 4): 12.0,
        (lines[3], 8): None,
    }
    records = {
        point.config.run_hash: record(point, ppl[point.config.config_hash, point.config.data.num_samples])
        for point in plan.points
    }
    found = choose(plan, records, "tiny", 1)
    tuned = found.arms["no-context"]
    by_line = {point.config.config_hash: point.config.phase2 for point in plan.points}
    for size, line in (("4", lines[1]), ("8", lines[0])):
        for knob in (*KNOBS, "batch_size"):
            assert tuned.settings[f"by_size.phase2.{knob}.{size}"] == getattr(by_line[line], knob)
    assert len(tuned.settings) == 14
    assert (tuned.trials, tuned.failed) == (4, 1)
    assert tuned.dev_ppl == pytest.approx((10.0, 20.0))
    assert tuned.untuned_dev_ppl == pytest.approx((30.0, 20.0))


def test_a_tuning_resumes_and_its_choice_is_what_runs(tmp_path, corpus):
    small = {f"lstm.{key}": value for key, value in {"epochs": 3, "window": 8, "sequences": 4}.items()}
    spec = tiny_spec(
        corpus,
        arms=("no-context", "lstm", "kneser-ney"),
        settings=TINY | small | {"data.corpus": str(corpus)},
    )
    plan = tuning_plan(spec, 3, (4, 8))
    run = make_executor("local", "cpu", None)
    directory = SweepDirectory(tmp_path / "tuning", plan)
    found = tune_sweep(directory, spec, run, tell_nobody)
    assert found == tune_sweep(directory, spec, run, tell_nobody)
    assert found == read_tuning(tmp_path / "tuning")
    with pytest.raises(InputError, match="holds a tuning, whose trials have no test scores"):
        load_sweep(tmp_path / "tuning")
    assert found.samples == (4, 8) and set(found.arms) == set(spec.arms)
    for tuned in found.arms.values():
        assert all(now <= before for now, before in zip(tuned.dev_ppl, tuned.untuned_dev_ppl, strict=True))
    points = make_plan(spec.override(tuned=found.arms)).points
    for point in points:
        tuned = found.arms[point.config.arm]
        assert point.tuned_trials == tuned.trials
        if point.config.token_training is not None:
            section = "lstm" if point.config.arm == "lstm" else "phase2"
            size = point.config.data.num_samples
            if size in found.samples:
                chosen = tuned.settings[f"by_size.{section}.lr.{size}"]
                assert getattr(point.config.resolved(), section).lr == chosen


def test_what_the_user_sets_wins_and_is_no_longer_called_tuned(corpus):
    found = {"no-context": {"trials": 7, "settings": {"phase2.lr": 0.004}, "dev_ppl": (9.0,)}}
    spec = tiny_spec(corpus, arms=("no-context", "cvfp"), samples=(4,), tuned=found)
    found["no-context"]["at"] = tuned_at(make_plan(spec).points[0].config)
    spec = spec.override(tuned=found)
    points = {point.config.arm: point for point in make_plan(spec).points}
    assert points["no-context"].config.phase2.lr == 0.004 and points["no-context"].tuned_trials == 7
    assert points["cvfp"].config.phase2.lr == TINY["phase2.lr"] and points["cvfp"].tuned_trials is None
    changed = make_plan(spec.with_settings({"phase2.lr": 0.001})).points[0]
    assert changed.config.phase2.lr == 0.001 and changed.tuned_trials is None
    found["no-context"]["settings"] = {"by_size.phase2.lr.4": 0.004, "by_size.phase2.lr.8": 0.002}
    followed = spec.override(tuned=found)
    assert make_plan(followed).points[0].config.resolved().phase2.lr == 0.004
    point = make_plan(followed.with_settings({"phase2.lr": 0.001})).points[0]
    assert point.config.resolved().phase2.lr == 0.001 and point.config.by_size == {}


@pytest.mark.parametrize(
    ("changed", "trials"),
    [
        ({"data.corpus": "my-folder"}, None),
        ({"data.corpus": ["chitchat", "my-folder"]}, None),
        ({"data.tokenizer": "bpe:400"}, None),
        ({"data.split": "tail"}, None),
        ({"model.embed_dim": 64}, None),
        ({"embedding.std": 0.1}, None),
        ({"lstm.epochs": 3}, None),
        ({"lstm.steps": 100}, None),
        ({"lstm.lr": 0.5}, None),
        ({"data.test_tokens": 500, "data.split_seed": 3, "data.order": "file", "seed": 7}, 15),
        ({"model.context_dim": 32, "phase1.lr": 1.0}, 15),
    ],
)
def test_settings_count_as_tuned_only_where_they_were_tuned(changed: dict, trials: int | None):
    """What an LSTM does not read changes nothing for it."""
    spec = find_spec("recommended").override(arms=("lstm",), samples=(10, 20)).with_settings(changed)
    assert {point.tuned_trials for point in make_plan(spec).points} == {trials}


def test_a_tuning_that_does_not_say_where_it_was_made_is_not_taken_for_one_here():
    found = {"lstm": TUNED["lstm"].model_dump() | {"at": {}}}
    spec = find_spec("recommended").override(arms=("lstm",), tuned=found)
    assert {point.tuned_trials for point in make_plan(spec).points} == {None}


def test_a_choice_takes_the_place_of_all_that_a_preset_has_for_single_sizes():
    """The preset has learning rates at 50, 200 and 800; a choice at other sizes leaves none of them."""
    chosen = {"by_size.phase2.lr.50": 1e-4, "by_size.phase2.lr.400": 1e-4}
    found = {"cvfp": {"trials": 3, "settings": chosen, "dev_ppl": (9.0, 9.0)}}
    spec = find_spec("recommended").override(arms=("cvfp",), samples=(50, 100, 200, 400, 800), tuned=found)
    assert {p.config.resolved().phase2.lr for p in make_plan(spec).points} == {1e-4}


@pytest.mark.parametrize("name", ["recommended", "quickstart"])
def test_trials_lie_around_what_an_arm_ships_with(name: str):
    spec = find_spec(name).override(arms=("cvfp", "cvfp-joint", "lstm"))
    sizes = (12, 24, 48) if name == "quickstart" else (50, 200, 800)
    tried = make_plan(tuning_spec(spec, 12, sizes)).points
    for point in make_plan(spec.override(samples=sizes[1:2])).points:
        shipped = point.config.resolved().token_training
        others = [p.config.resolved() for p in tried if p.config.arm == point.config.arm]
        assert len({p.config_hash for p in others}) > 1 and shipped is not None
        rates = [other.token_training.lr for other in others if other.data.num_samples == sizes[1]]
        assert len(rates) == 12 and shipped.lr in rates
        assert min(rates) < shipped.lr < max(rates) <= 3.1 * shipped.lr and min(rates) >= 0.3 * shipped.lr


def test_a_run_of_the_choice_counts_as_tuned_where_other_settings_follow_the_size_too():
    """The joint model of the quickstart has a number of steps for each size, which is not tuned."""
    spec = find_spec("quickstart").override(arms=("cvfp-joint",), samples=(6, 24))
    plan = make_plan(tuning_spec(spec, 3, (6, 24)))
    records = {p.config.run_hash: record(p, 9.0) for p in plan.points}
    found = choose(plan, records, "quickstart", 1)
    points = make_plan(spec.override(tuned=found.arms)).points
    assert [point.tuned_trials for point in points] == [3, 3]


def test_an_arm_of_which_no_trial_ran_at_every_size_has_no_choice(corpus):
    plan = make_plan(tuning_spec(tiny_spec(corpus, arms=("kneser-ney",)), 2, (4, 8)))
    sizes = dict(zip(dict.fromkeys(p.config.config_hash for p in plan.points), (4, 8), strict=True))
    records = {
        p.config.run_hash: record(
            p, 9.0 if p.config.data.num_samples == sizes[p.config.config_hash] else None
        )
        for p in plan.points
    }
    assert choose(plan, records, "tiny", 1).arms == {}


def test_a_directory_without_a_tuning_is_named(tmp_path):
    with pytest.raises(InputError, match="no finished tuning here"):
        read_tuning(tmp_path)
    (tmp_path / "tuning.json").write_text(json.dumps({"preset": "v3"}))
    with pytest.raises(InputError, match=r"tuning\.json: samples, seeds, arms: required, but missing"):
        read_tuning(tmp_path)


@pytest.mark.parametrize(
    ("arm", "settings", "message"),
    [
        ("kneser-ney", {"seed": 7}, "kneser-ney: seed is not tuned; allowed: ngram.order"),
        (
            "lstm",
            {"phase2.lr": 1.0},
            "lstm: phase2.lr is not tuned; allowed: lstm.averaging, lstm.consistency",
        ),
        ("unigram", {"ngram.order": 2}, "unigram: ngram.order is not tuned"),
        ("gru", {}, "unknown arm 'gru'"),
    ],
)
def test_a_tuning_sets_nothing_but_what_is_tuned(tmp_path, arm: str, settings: dict, message: str):
    tuned = {"trials": 3, "settings": settings, "dev_ppl": [9.0]}
    text = {"preset": "v3", "samples": [4], "seeds": 1, "arms": {arm: tuned}}
    (tmp_path / "tuning.json").write_text(json.dumps(text))
    with pytest.raises(InputError, match=message):
        read_tuning(tmp_path)
    with pytest.raises(InputError, match="is a file; give the directory"):
        read_tuning(tmp_path / "tuning.json")


def test_a_users_own_arm_and_more_of_the_test_text_are_not_for_a_tuning(corpus):
    with pytest.raises(InputError, match="tune: arm mixture has nothing to tune"):
        tuning_spec(tiny_spec(corpus, arms=("unigram", "mixture")), 2, (4,))
    with pytest.raises(InputError, match=r"tune: mine\.py is a file of yours"):
        tuning_spec(tiny_spec(corpus, arms=("unigram", "mine.py")), 2, (4,))
    spec = tiny_spec(corpus, arms=("unigram",)).with_settings({"data.test_tokens": 500})
    assert {p.config.data.test_tokens for p in tuning_plan(spec, 2, (4,)).points} == {2}


def test_the_settings_of_a_sweep_file_win_over_a_tuning(tmp_path):
    found = {"kneser-ney": {"trials": 4, "settings": {"ngram.order": 5}, "dev_ppl": (9.0,)}}
    for head in ("", 'preset = "quickstart"\n'):
        path = tmp_path / "mine.toml"
        path.write_text(f'{head}arms = ["kneser-ney"]\nsamples = [4]\n[settings]\nngram.order = 2\n')
        (point,) = make_plan(read_spec(path, PRESETS).override(tuned=found)).points
        assert point.config.ngram.order == 2 and point.tuned_trials is None


def test_the_shipped_settings_are_the_choices_of_the_two_rounds_that_are_kept():
    first, second = (chosen_in(ROUNDS / name) for name in ("by-size", "recipe"))
    for arm, shipped in TUNED.items():
        before, after = first.arms[arm], second.arms.get(arm, first.arms[arm])
        assert (shipped.settings, shipped.at, shipped.dev_ppl) == (after.settings, after.at, after.dev_ppl)
        assert shipped.untuned_dev_ppl == before.untuned_dev_ppl
        # The second round goes on from the choice of the first, which is its first trial.
        assert shipped.trials == before.trials + (after.trials - 1 if arm in second.arms else 0)
        for knob in (set(before.settings) & set(after.settings)) if arm in second.arms else ():
            tried = knob.split(".")[2] in ("averaging", "consistency")
            assert tried or before.settings[knob] == after.settings[knob]
    for name in ("recommended", "baselines"):
        assert find_spec(name).tuned == TUNED
    trials = {point.config.arm: point.tuned_trials for point in make_plan(find_spec("baselines")).points}
    not_tuned = dict.fromkeys(("random-context", "no-context", "mixture"))
    assert trials == {arm: tuned.trials for arm, tuned in TUNED.items()} | not_tuned
    assert {tuned.trials for tuned in TUNED.values()} == {4, 15}


def chosen_in(directory: Path) -> Tuning:
    """What the kept trials choose, which is what is written beside them."""
    plan = read_plan(directory)
    found = choose(plan, read_records(SweepFiles(directory), plan), "recommended", 1)
    assert read_tuning(directory) == found
    return found


def test_a_grid_is_every_combination_around_what_an_arm_ships_with(corpus):
    spec = tiny_spec(corpus, arms=("cvfp", "lstm"), settings={"by_size.lstm.dropout.4": 0.3})
    plan = tuning_plan(spec, 12, (4, 8), {"averaging": ("two-tailed", 0.9), "consistency": (0.25,)})
    tried = {arm: [] for arm in spec.arms}
    for point in plan.points:
        if point.config.data.num_samples == 4:
            training = point.config.resolved().token_training
            tried[point.config.arm].append((training.averaging, training.consistency, training.dropout))
    assert [trial[:2] for trial in tried["cvfp"]] == [(0.0, 0.0), ("two-tailed", 0.25), (0.9, 0.25)]
    assert [trial[2] for trial in tried["lstm"]] == [0.3, 0.3, 0.3]
    with pytest.raises(InputError, match="--grid speed: there is no such knob; there are lr, dropout"):
        tuning_plan(spec, 12, (4,), {"speed": (1,)})


def test_what_follows_the_size_is_chosen_as_it_was_at_each_size(corpus):
    spec = tiny_spec(corpus, arms=("lstm",), settings={"by_size.lstm.lr.4": 4e-3, "by_size.lstm.lr.8": 1e-3})
    plan = tuning_plan(spec, 12, (4, 8), {"consistency": (0.5,)})
    records = {p.config.run_hash: record(p, 10.0 - p.config.resolved().lstm.consistency) for p in plan.points}
    chosen = choose(plan, records, "tiny", 1).arms["lstm"].settings
    assert [chosen[f"by_size.lstm.lr.{size}"] for size in (4, 8)] == [4e-3, 1e-3]
    assert [chosen[f"by_size.lstm.consistency.{size}"] for size in (4, 8)] == [0.5, 0.5]


def test_the_defaults_are_what_was_chosen_at_the_largest_size_and_ablations_have_their_models_settings():
    defaults = dotted(RunConfig.from_settings({}).model_dump())
    for arm in ("cvfp-joint", "lstm", "transformer"):
        largest = {key: value for key, value in TUNED[arm].settings.items() if key.endswith(".800")}
        assert len(largest) == 7
        for key, value in largest.items():
            assert defaults[key.removeprefix("by_size.").removesuffix(".800")] == value, key
    points = {
        p.config.arm: p.config for p in make_plan(find_spec("baselines").override(samples=(200,))).points
    }
    for arm in ("random-context", "no-context"):
        assert points[arm].resolved().phase2 == points["cvfp"].resolved().phase2
