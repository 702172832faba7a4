"""Bad input, what a user writes and types: sweep files, --set, names; and no name leaves its directory."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from fuzz_helpers import damaged, judged, refused, tried, written
from hypothesis import given
from hypothesis import strategies as st
from lab_helpers import TINY

from cvfp.cli.main import main
from cvfp.cli.options import settings_of, whole_numbers
from cvfp.lab.plan import MOST_POINTS, SweepSpec, make_plan, read_spec
from cvfp.lab.presets import PRESETS, find_spec
from cvfp.records.config import RunConfig, dotted
from cvfp.records.errors import InputError
from cvfp.records.plan import Plan
from cvfp.records.sweep import SweepFiles
from cvfp.training.devices import pick_device

SWEEP = """name = "mine"
preset = "v3"
arms = ["cvfp", "lstm"]
samples = [4, 8]
seeds = 2
[settings]
seed = 7
model = { context_dim = 8, num_layers = 1 }
"data.tokenizer" = "bpe:300"
[[variants]]
phase2.lr = 1e-3
[analysis]
window_size = 2
extrapolate = [1e6]
"""
ODD = [
    '""',
    "nan",
    "inf",
    "-1",
    "1" * 5000,
    "[" * 2000,
    "{}",
    "[[]]",
    "2020-01-01",
    "07:32:00",
    "true",
    "1e400",
]
ODD += [
    '"../../x"',
    '"/x"',
    '"' + "x" * 5000 + '"',
    '"a\\u0000b"',
    '"\\n"',
    '"bpe:²"',
    f'"bpe:{10**30}"',
    "0",
]
ODD += ["a." * 500 + "b = 1", "[{a.b.c.d=1}]", '["../x.py"]', '["\\u0000.py"]', "10000000000", str(2**63)]
KEYS = ["name", "description", "arms", "samples", "seeds", "inits", "settings", "variants", "tuned", "x"]
KEYS += ["analysis", "preset", "growth", "largest_only", '"a.b"', "growth.start", "analysis.window_size"]
FIELDS = [*dotted(RunConfig().model_dump()), "own", "own.settings.x", "model", "seed.x.y", "", ".", "a..b"]
NAMES = ["../../x", "/x", "..", ".", "", "a/b", "a\\b", "CON", "a\n"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings")


def planned(path: Path) -> Plan:
    return make_plan(read_spec(path, PRESETS))


def named(folder: Path, text: str | bytes) -> None:
    judged(lambda: planned(written(folder, "s.toml", text)), "s.toml", "sweep '", ".py")


@given(damaged(SWEEP.encode()))
@tried(150)
def test_a_damaged_sweep_file_is_planned_or_refused(folder, content):
    named(folder, content)


@given(st.sampled_from(KEYS), st.sampled_from(ODD))
@tried(150)
def test_odd_values_of_a_sweep_are_planned_or_refused(folder, key, value):
    kept = [line for line in SWEEP.splitlines()[:5] if not line.startswith(key)]
    named(folder, "\n".join([*kept, f"{key} = {value}"]))


@given(st.sampled_from(FIELDS), st.sampled_from(ODD))
@tried(150)
def test_odd_settings_are_planned_or_refused(folder, key, value):
    named(folder, f"samples = [4]\n[settings]\n{json.dumps(key)} = {value}")


@given(st.sampled_from(FIELDS), st.one_of(st.sampled_from(ODD), st.text(max_size=30)))
@tried(150)
def test_odd_assignments_are_taken_or_refused(key, value):
    spec = SweepSpec(name="x", samples=(4,))
    judged(
        lambda: make_plan(spec.with_settings(settings_of([f"{key}={value}"]))), "--set", "sweep 'x'", ".py"
    )


@given(st.text(max_size=40))
@tried(100)
def test_any_text_is_a_name_a_number_a_device_or_refused(text):
    judged(lambda: find_spec(text), "preset", ".toml")
    judged(lambda: whole_numbers([text], "--samples"), "--samples")
    judged(lambda: pick_device(text), "--device")


@pytest.mark.parametrize("name", ["gpu", "GPU", "gpu:0"])
def test_who_asks_for_a_gpu_is_told_its_name_and_not_the_nearest_one(name):
    with pytest.raises(InputError, match="a GPU is 'cuda'"):
        pick_device(name)


@given(st.one_of(st.text(max_size=30), st.sampled_from(NAMES)))
@tried(150)
def test_no_name_of_a_sweep_is_a_path(text):
    spec = judged(lambda: SweepSpec.parse({"name": text, "samples": (4,)}, "sweep"), "name")
    if isinstance(spec, SweepSpec):
        out = Path("cvfp-runs") / make_plan(spec).name
        assert out.parts == ("cvfp-runs", text) and text not in (".", "..")


@pytest.mark.parametrize("arm", ["../../x.py", "/tmp/../x.py", "..py", ".py", "a\\..\\b.py", "x\ny.py"])
def test_no_arm_leaves_the_directory_of_its_sweep(tmp_path, monkeypatch, arm):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("cvfp.lab.plan.read_text", lambda path: "code")
    plan = make_plan(SweepSpec(name="x", arms=(arm,), samples=(4,), settings=TINY))
    files = SweepFiles(Path("out"))
    for point in plan.points:
        run = point.config.run_hash
        assert set(run) <= set("0123456789abcdef")
        for path in (files.run_record(run), files.run_metrics(run)):
            assert path.resolve().is_relative_to((tmp_path / "out").resolve())


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("samples = [" + "9" * 5000 + "]", "too many digits"),
        ("samples = " + "[" * 3000 + "]" * 3000, "nested too deeply"),
        ("samples = [4]\n[settings]\n" + ".".join("a" * 3000) + " = 1", "nested too deeply"),
        ('samples = [4]\n[settings]\n"a" = 1\n"a.b.c" = 2', "'a.b.c' is both a section and a value"),
        ("samples = [4]\nseeds = 1000000000", f"pass {MOST_POINTS}"),
        ("samples = [4]\nseeds = 50000\ninits = 50000", f"pass {MOST_POINTS}"),
        ("samples = [4]\nsettings.model.num_layers = 1000000000", "model.num_layers"),
        ("samples = [4]\nsettings.model.context_dim = 1000000000", "model.context_dim"),
        ('samples = [4]\nsettings.data.tokenizer = "bpe:1000000000"', "data.tokenizer"),
        ('samples = [4]\nsettings.data.tokenizer = "bpe:²"', "a BPE is written bpe:SIZE"),
        ('samples = [4]\nsettings.data.corpus = ""', "data.corpus"),
        ('samples = [4]\narms = ["\\u0000.py"]', "cannot be read"),
    ],
    ids=range(12),
)
def test_what_would_raise_hang_or_fill_the_memory_is_refused(tmp_path, text, said):
    assert said in refused(lambda: planned(written(tmp_path, "s.toml", text)))


def test_an_assignment_is_one_value():
    assert settings_of(["data.document_separator=1\nx=2"]) == {"data.document_separator": "1\nx=2"}
    for value in ("9" * 5000, "[" * 5000):
        refused(lambda value=value: settings_of([f"seed={value}"]), "--set seed")
    refused(lambda: whole_numbers(["9" * 5000], "--samples"), "--samples")


@pytest.mark.parametrize(
    "arguments",
    [
        ["run", "v3", "--samples", "9" * 5000],
        ["run", "v3", "--set", "seed=" + "9" * 5000],
        ["run", "v3", "--dry-run", "--out", "x" * 5000],
        ["run", "quickstart", "--out", "x" * 5000],
        ["status", "x" * 5000],
        ["report", "x" * 5000],
        ["compare", "x" * 5000, "published:v1"],
        ["fit", "x" * 5000 + ".csv"],
        ["eval", "x" * 5000, "y" * 5000],
    ],
    ids=range(9),
)
def test_the_command_line_answers_in_one_line(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    code = main(arguments)
    said = capsys.readouterr().err.strip()  # a progress bar ends its line
    assert (code == 2 and said.startswith("cvfp: error: ") and "\n" not in said) or "--dry-run" in arguments
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        (
            "joint.averaging",
            "x",
            "joint.averaging: input should be a valid number or 'two-tailed', got 'x'",
        ),
        ("lstm.averaging", 1.5, "lstm.averaging: input should be less than 1 or 'two-tailed', got 1.5"),
    ],
)
def test_a_value_of_no_allowed_type_is_refused_with_all_of_them(key, value, said):
    with pytest.raises(InputError) as caught:
        RunConfig.from_settings({key: value})
    assert said in str(caught.value) and "more" not in str(caught.value)
