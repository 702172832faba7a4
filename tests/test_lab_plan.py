"""Plans are pure functions of specs: every point once, explicit settings win, names tell lines apart."""

from __future__ import annotations

import pytest

from cvfp.lab.plan import SweepSpec, extended, make_plan
from cvfp.lab.presets import PRESETS, find_spec
from cvfp.records.arms import DEFAULT_ARMS
from cvfp.records.config import RunConfig
from cvfp.records.errors import InputError


def configs(spec):
    return [point.config for point in make_plan(spec).points]


def lines(spec, arm):
    return list(dict.fromkeys(p.config_name for p in make_plan(spec).points if p.config.arm == arm))


@pytest.mark.parametrize(
    ("preset", "layers", "inputs", "widths", "samples", "weight", "cap", "noise", "epochs", "slice_length"),
    [
        ("v1", {1}, {1}, {768, 1200, 1537}, {50, 100, 200, 500}, 0.8, 40, 0.1, 10, 8000),
        ("v2", {1}, {1}, {768, 1200, 1537}, {50, 100, 200, 500}, 0.9, 60, 0.0, 20, 8000),
        ("v3", {1}, {2}, {768}, {50, 100, 200, 400, 800}, 0.9, 60, 0.0, 20, 5000),
        ("matrix", {1, 2, 3}, {1, 2, 3}, {768}, {50, 100, 200, 500}, 0.8, 40, 0.1, 10, 8000),
    ],
)
def test_presets_are_the_table_of_the_report(
    preset, layers, inputs, widths, samples, weight, cap, noise, epochs, slice_length
):
    made = [config for config in configs(PRESETS[preset]) if config.arm == "cvfp"]
    assert {c.model.num_layers for c in made} == layers
    assert {c.model.num_input_tokens for c in made} == inputs
    assert {c.model.context_dim for c in made} == widths
    assert {c.data.num_samples for c in made} == samples
    assert {c.phase1.dist_reg_weight for c in made} == {weight}
    assert {c.phase1.max_iterations for c in made} == {cap}
    assert {c.phase1.context_noise for c in made} == {noise}
    assert {c.phase1.slice_length for c in made} == {slice_length}
    assert {c.phase2.epochs for c in made} == {epochs}
    assert {(c.model.embed_dim, c.seed) for c in made} == {(768, 42)}
    assert len(made) == len(layers) * len(inputs) * len(widths) * len(samples)


def test_next_has_the_shapes_of_the_reports_next_steps():
    made = [config for config in configs(PRESETS["next"]) if config.arm == "cvfp"]
    shapes = {(c.model.num_layers, c.model.num_input_tokens, c.model.context_dim) for c in made}
    assert shapes == {(1, 2, 768), (2, 2, 768), (3, 2, 768), (1, 3, 768), (1, 2, 1200)}
    assert {c.data.num_samples for c in made} == {50, 100, 200, 400, 800, 1600}


def test_one_factor_changes_one_setting_per_line():
    made = [config for config in configs(PRESETS["one-factor"]) if config.arm == "cvfp"]
    v1 = configs(PRESETS["v1"])[0]
    changes = set()
    for config in made:
        different = [
            name
            for section in ("phase1", "phase2")
            for name, value in getattr(config, section).model_dump().items()
            if getattr(v1, section).model_dump()[name] != value
        ]
        assert len(different) <= 1
        changes |= set(different)
    assert changes == {"dist_reg_weight", "max_iterations", "context_noise", "epochs"}
    names = lines(PRESETS["one-factor"], "cvfp")
    assert names[0] == "1L_768d_1tok"
    assert "1L_768d_1tok context_noise=0.0" in names and len(set(names)) == 5


def test_every_sweep_has_the_default_arms_but_those_about_joint_training_itself():
    for name in PRESETS.keys() - {"gradient-window", "cells", "attribution", "beyond"}:
        spec = PRESETS[name]
        assert spec.arms[: len(DEFAULT_ARMS)] == DEFAULT_ARMS


def test_an_arm_that_cannot_tell_variants_apart_runs_once():
    assert lines(PRESETS["v1"], "kneser-ney") == ["5gram"]
    assert lines(PRESETS["v1"], "no-context") == ["1L_0d_1tok"]
    assert lines(PRESETS["v1"], "cvfp") == ["1L_768d_1tok", "1L_1200d_1tok", "1L_1537d_1tok"]
    assert len(lines(PRESETS["v1"], "random-context")) == 3


def test_an_explicit_zero_is_never_replaced_by_a_default():
    zeros = {"phase1.context_noise": 0.0, "phase1.dist_reg_weight": 0.0, "phase2.dropout": 0.0, "seed": 0}
    for config in configs(PRESETS["v1"].with_settings(zeros)):
        assert (config.phase1.context_noise, config.phase1.dist_reg_weight) == (0.0, 0.0)
        assert config.seed == 0


def test_seeds_draw_from_the_first_on():
    spec = PRESETS["v3"].override(seeds=3, samples=(50,), arms=("cvfp",))
    assert [config.seed for config in configs(spec)] == [42, 43, 44]


def test_embedding_settings_follow_the_source_unless_set():
    rows = {
        "random": (True, True, 3e-4),
        "gpt2": (False, False, 1e-3),
        "some/table.npy": (False, True, 1e-3),
    }
    for source, (trained, bias, lr) in rows.items():
        config = RunConfig.from_settings({"embedding.source": source})
        assert (config.embedding.trained, config.embedding.output_bias, config.phase2.lr) == (
            trained,
            bias,
            lr,
        )
    explicit = RunConfig.from_settings(
        {
            "embedding.source": "gpt2",
            "embedding.trained": True,
            "embedding.output_bias": True,
            "phase2.lr": 0.5,
        }
    )
    assert (explicit.embedding.trained, explicit.embedding.output_bias, explicit.phase2.lr) == (
        True,
        True,
        0.5,
    )


def test_published_is_the_published_protocol_and_explicit_settings_still_win():
    spec = PRESETS["v2"].as_published()
    first = configs(spec)[0]
    assert (first.data.corpus, first.data.split, first.data.order) == ("ultrachat", "published", "file")
    assert (first.embedding.source, first.embedding.trained, first.embedding.output_bias) == (
        "gpt2",
        False,
        False,
    )
    assert (first.phase2.batch_size, first.phase2.shuffle, first.phase2.patience) == (8192, False, 1)
    assert (first.phase2.eval_every, first.phase2.context_source) == (None, "one_step")
    assert make_plan(spec).protocol == "published" and spec.analysis.include_capped
    mine = configs(spec.with_settings({"data.corpus": "chitchat", "embedding.source": "random"}))[0]
    assert (mine.data.corpus, mine.embedding.source, mine.embedding.trained) == ("chitchat", "random", True)


def test_hashes_see_what_can_change_a_result_and_nothing_else():
    base = RunConfig()
    other_size = RunConfig.from_settings({"data.num_samples": 100})
    other_seed = RunConfig.from_settings({"seed": 1})
    assert base.config_hash == other_size.config_hash == other_seed.config_hash
    assert len({base.run_hash, other_size.run_hash, other_seed.run_hash}) == 3
    wider = RunConfig.from_settings({"arm": "no-context", "model.context_dim": 99})
    assert wider.run_hash == RunConfig.from_settings({"arm": "no-context"}).run_hash
    noisy = RunConfig.from_settings({"arm": "random-context", "phase1.context_noise": 0.3})
    assert noisy.run_hash == RunConfig.from_settings({"arm": "random-context"}).run_hash
    joint = {"arm": "cvfp-joint"}
    taught = joint | {"joint.teachers": 2}
    for setting in ({"joint.distillation": 0.3}, {"joint.student_dropout": 0.3}):  # of those with teachers
        assert RunConfig.from_settings(joint | setting).run_hash == RunConfig.from_settings(joint).run_hash
        assert RunConfig.from_settings(taught | setting).run_hash != RunConfig.from_settings(taught).run_hash


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("preset = 'v9'", ["unknown preset 'v9'", "v1"]),
        ("samples = [50]\nname = 'x'\nwindow = 4", ["unknown key 'window'"]),
        ("samples = []", ["samples"]),
        ("samples = [0, 50]", ["samples.0", "greater than or equal to 1", "0"]),
        ("samples = [50]\narms = ['lstmm']", ["unknown arm 'lstmm'", "kneser-ney"]),
        ("samples = [50]\nsamples = 3\n", ["not TOML", "line 2"]),
        ("samples = [50\n", ["not TOML"]),
        ("samples = [50]\n[settings]\nmodel = 3", ["model", "3"]),
        (
            "samples = [50]\n[settings.model]\ncontext_dim = 0",
            ["model.context_dim", "greater than or equal to 1"],
        ),
        (
            "samples = [50]\n[settings.data]\nnum_samples = 7",
            ["data.num_samples", "use arms, samples and inits"],
        ),
        ("samples = [50]\nvariants = 3", ["variants", "array of tables"]),
        ("arms = ['cvfp']", ["samples: required"]),
    ],
)
def test_a_bad_sweep_file_gives_one_line_that_says_where(tmp_path, text, words):
    path = tmp_path / "mine.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError) as caught:
        make_plan(find_spec(str(path)))
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_sweep_file_changes_what_it_names_of_its_preset(tmp_path):
    path = tmp_path / "wide.toml"
    path.write_text(
        "preset = 'v3'\nname = 'wide'\nsamples = [50, 100]\n"
        "[settings.phase1]\ncontext_noise = 0.0\n"
        "[[variants]]\nmodel.context_dim = 64\n[[variants]]\nmodel.context_dim = 128\n",
        encoding="utf-8",
    )
    spec = find_spec(str(path))
    made = [config for config in configs(spec) if config.arm == "cvfp"]
    assert {c.model.context_dim for c in made} == {64, 128}
    assert {c.model.num_input_tokens for c in made} == {2}
    assert {c.data.num_samples for c in made} == {50, 100}
    assert spec.name == "wide" and spec.analysis.window_size == 4


def test_lines_that_differ_in_fields_of_one_name_have_different_names():
    variants = ({}, {"phase1.lr": 0.001}, {"phase2.lr": 0.001})
    names = lines(PRESETS["v3"].override(variants=variants, arms=("cvfp",)), "cvfp")
    assert names == ["1L_768d_2tok", "1L_768d_2tok phase1.lr=0.001", "1L_768d_2tok phase2.lr=0.001"]


def test_a_protocol_is_what_the_settings_say():
    assert make_plan(PRESETS["v2"].as_published()).protocol == "published"
    altered = PRESETS["v2"].as_published().with_settings({"phase2.patience": 5})
    assert make_plan(altered).protocol == "standard"


def test_another_analysis_is_the_same_plan():
    spec = PRESETS["v3"]
    small = make_plan(spec.override(samples=spec.samples[:1]))
    whole, capped = make_plan(spec), make_plan(spec.including_capped())
    assert whole.extends(capped) and capped.extends(whole)
    assert whole.extends(small) and not small.extends(whole)


def named(plan) -> dict[str, str]:
    """The names of the runs of a plan by what can change their result."""
    return {point.config.run_hash: point.config_name for point in plan.points}


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_plan_that_has_grown_is_the_one_that_its_preset_makes_with_as_much(name):
    spec = PRESETS[name].override(largest_only=())
    small, seeds = make_plan(spec), spec.seeds + 2
    samples = (*spec.samples, 2 * max(spec.samples))
    whole = make_plan(spec.override(samples=samples, seeds=seeds))
    grown = extended(small, samples, seeds)
    assert named(grown) == named(whole)
    assert grown.points[: len(small.points)] == small.points
    assert len(grown.points) == len(whole.points) == len(named(whole))
    assert grown.extends(small) and not small.extends(grown)
    assert extended(grown, samples, seeds) == grown == extended(grown, None, None)


def test_either_seeds_or_sizes_can_grow_alone():
    spec = PRESETS["v3"]
    small = make_plan(spec)
    assert named(extended(small, None, 3)) == named(make_plan(spec.override(seeds=3)))
    wider = make_plan(spec.override(samples=(*spec.samples, 1600)))
    assert named(extended(small, (1600,), None)) == named(wider)


def test_a_curve_that_was_run_at_the_largest_size_alone_gets_seeds_there_alone():
    spec = PRESETS["quickstart"].override(largest_only=("cvfp",))
    grown = extended(make_plan(spec), None, 3)
    assert named(grown) == named(make_plan(spec.override(seeds=3)))


def test_what_a_plan_cannot_become_is_refused():
    plan = make_plan(PRESETS["v3"].override(seeds=3))
    with pytest.raises(InputError, match="--seeds 2: the sweep has 3 already; give at least as many"):
        extended(plan, None, 2)
    with pytest.raises(InputError, match="--samples 0: must be at least 1 document"):
        extended(plan, (100, 0), None)
    several = make_plan(SweepSpec(name="s", arms=("cvfp",), samples=(50,), seeds=2, inits=3))
    with pytest.raises(InputError, match="several initialisations of a draw"):
        extended(several, None, 4)
    assert len(extended(several, (100,), None).points) == 2 * len(several.points)


def test_a_plan_extends_another_that_has_no_other_runs_nor_other_names():
    plan = make_plan(PRESETS["v3"])
    first, *rest = plan.points
    renamed = plan.model_copy(update={"points": (first.model_copy(update={"config_name": "x"}), *rest)})
    fewer = plan.model_copy(update={"points": tuple(rest)})
    assert plan.extends(plan) and plan.extends(fewer) and not fewer.extends(plan)
    assert not plan.extends(renamed) and not renamed.extends(plan)


def test_an_arm_that_is_too_slow_runs_at_the_largest_size_alone():
    spec = PRESETS["quickstart"].override(largest_only=("cvfp",), seeds=2)
    sizes = {
        arm: [p.config.data.num_samples for p in make_plan(spec).points if p.config.arm == arm]
        for arm in spec.arms
    }
    assert sizes["cvfp"] == [48, 48]
    assert sizes["unigram"] == [6, 6, 12, 12, 24, 24, 48, 48]


def test_initialisations_of_a_draw_share_its_documents_and_its_line():
    plan = make_plan(SweepSpec(name="s", arms=("cvfp",), samples=(50,), seeds=2, inits=3))
    assert [(p.config.draw, p.config.seed) for p in plan.points] == [
        (42, 42), (42, 44), (42, 46), (43, 43), (43, 45), (43, 47)
    ]  # fmt: skip
    assert len({p.config.config_hash for p in plan.points}) == 1
    assert len({p.config.run_hash for p in plan.points}) == 6


def test_a_draw_of_the_seed_itself_is_the_run_without_one():
    alone = RunConfig(seed=7)
    assert RunConfig.from_settings({"seed": 7, "data.draw_seed": 7}).run_hash == alone.run_hash
    assert RunConfig.from_settings({"seed": 7, "data.draw_seed": 8}).run_hash != alone.run_hash


@pytest.mark.parametrize(
    ("key", "values"),
    [
        ("data.corpus", ("books.txt", ["books.txt", "messy"])),
        ("data.split", ("documents", "tail")),
        ("data.split_seed", (0, 1)),
        ("data.test_documents", (None, 5)),
        ("data.dev_documents", (4, 5)),
        ("data.test_tokens", (None, 100)),
        ("data.document_tokens", (None, 100)),
        ("data.document_separator", (None, "--")),
        ("data.text_field", (None, "body")),
    ],
)
def test_lines_with_other_test_texts_are_refused(key, values):
    spec = SweepSpec(name="texts", samples=(10,), variants=tuple({key: value} for value in values))
    with pytest.raises(InputError, match=rf"'texts': {key} differs .*share one test text; run a sweep for"):
        make_plan(spec)


def test_lines_may_differ_in_tokenizer_and_order():
    variants = ({}, {"data.tokenizer": "bpe:400"}, {"data.order": "file"})
    spec = SweepSpec(name="tokens", samples=(10,), arms=("unigram",), variants=variants)
    assert len(make_plan(spec).points) == 3
