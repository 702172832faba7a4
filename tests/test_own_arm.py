"""A user's own file as an arm: it runs like ours, its code is part of the result, its faults are named."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from lab_helpers import TINY, tiny_plan, tiny_spec, write_corpus

from cvfp.lab.plan import make_plan
from cvfp.lab.runner import run_sweep
from cvfp.records.config import RunConfig
from cvfp.records.errors import InputError
from cvfp.report.write import write_report

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")
GRU = Path(__file__).parents[1] / "examples" / "gru.py"
CONSTANT = """
import numpy as np
from cvfp.arms.base import Arm, Facts, Fitted
from cvfp.training.evaluation import Scores

class Uniform(Arm, Fitted):
    def __init__(self, vocab_size, shift):
        self.nats = np.log(vocab_size) + shift
        self.facts = Facts("closed_form", 0, 0)

    def fit(self, train, dev, budget, seed):
        return self

    def score(self, tokens):
        count = len(tokens) - 1
        return Scores(np.full(count, self.nats), np.zeros(count, bool))

def make_arm(config, vocab_size):
    return Uniform(vocab_size, config.own.settings.get("shift", 0.0))
"""


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


def write(folder: Path, text: str = CONSTANT, name: str = "uniform.py") -> str:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


def rows_of(directory: Path) -> list[dict]:
    return json.loads((directory / "detailed_results.json").read_text())


def test_the_gru_of_the_examples_runs_beside_the_arms_that_are_there_and_is_reported(tmp_path, corpus):
    small = {"epochs": 20, "window": 8, "sequences": 4, "lr": 0.01}
    settings = TINY | {f"own.settings.{key}": value for key, value in small.items()}
    spec = tiny_spec(
        corpus, arms=("no-context", str(GRU), "unigram"), settings=settings | {"data.corpus": str(corpus)}
    )
    out = tmp_path / "sweep"
    assert run_sweep(make_plan(spec), out, CPU).failed == ()
    rows = {(row["arm"], row["num_samples"]): row for row in rows_of(out)}
    assert rows["gru", 16]["val_ppl"] < rows["unigram", 16]["val_ppl"]
    assert rows["gru", 16]["config_name"] == "8d" and rows["gru", 16]["steps"] > 0
    write_report(out)
    assert "gru" in (out / "report.md").read_text(encoding="utf-8")


def test_settings_reach_the_file_and_tell_lines_apart(tmp_path, corpus):
    file = write(tmp_path)
    spec = tiny_spec(corpus, arms=(file,), samples=(4,), variants=({}, {"own.settings.shift": -1.0}))
    run_sweep(make_plan(spec), tmp_path / "sweep", CPU)
    first, second = rows_of(tmp_path / "sweep")
    assert second["val_ppl"] == pytest.approx(first["val_ppl"] / 2.718281828, rel=1e-6)
    assert (first["config_name"], second["config_name"]) == ("8d", "8d shift=-1.0")


def test_other_code_is_another_run_and_another_place_is_not(tmp_path, corpus):
    hashes = []
    for name, text in (("a", CONSTANT), ("b", CONSTANT), ("c", CONSTANT + "\n# changed\n")):
        (tmp_path / name).mkdir()
        file = write(tmp_path / name, text)
        hashes.append(tiny_plan(corpus, arms=(file,), samples=(4,)).points[0].config.run_hash)
    assert hashes[0] == hashes[1] != hashes[2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("x = 1\n", r"defines no make_arm\(config, vocab_size\)"),
        ("import nothing_of_that_name\n", "does not run: ModuleNotFoundError"),
        (
            "def make_arm(config, vocab_size):\n    return 3\n",
            "make_arm returned int, not a cvfp.arms.base.Arm",
        ),
        ("def make_arm(:\n", "does not run: SyntaxError"),
        ("import sys\nsys.exit(0)\n", "does not run: SystemExit: 0"),
        ("def make_arm(config, size):\n    raise OSError('no\\nway')\n", "make_arm: OSError: no$"),
        ("def make_arm(config):\n    pass\n", "make_arm: TypeError"),
    ],
)
def test_a_bad_file_is_named_before_anything_runs(tmp_path, corpus, text: str, message: str):
    plan = tiny_plan(corpus, arms=("unigram", write(tmp_path, text, "bad.py")), samples=(4,))
    with pytest.raises(InputError, match=f"bad.py: {message}"):
        run_sweep(plan, tmp_path / "sweep", CPU)
    assert not (tmp_path / "sweep").exists()


def test_a_file_that_changes_after_the_plan_is_refused(tmp_path, corpus):
    plan = tiny_plan(corpus, arms=(write(tmp_path),), samples=(4,))
    write(tmp_path, CONSTANT + "\nLATER = 1\n")
    with pytest.raises(InputError, match="has changed since this sweep was planned"):
        run_sweep(plan, tmp_path / "sweep", CPU)


def test_a_file_cannot_take_the_name_of_an_arm_of_ours(tmp_path, corpus):
    with pytest.raises(InputError, match="cannot be named 'lstm': there is such an arm"):
        tiny_plan(corpus, arms=(write(tmp_path, name="lstm.py"),), samples=(4,))


def test_a_missing_file_and_settings_for_no_file_are_named(tmp_path, corpus):
    with pytest.raises(InputError, match=r"gone\.py"):
        tiny_plan(corpus, arms=(str(tmp_path / "gone.py"),), samples=(4,))
    with pytest.raises(InputError, match=r"own.settings.a is for an arm of your own"):
        make_plan(tiny_spec(corpus).with_settings({"own.settings.a": 1}))
    with pytest.raises(InputError, match="unknown arm 'gru'"):
        RunConfig.from_settings({"arm": "gru"})


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("return self\n", "raise ValueError('boom\\nsecond')\n", "uniform.py: fit: ValueError: boom"),
        ("return self\n", "raise SystemExit(0)\n", "uniform.py: fit: SystemExit: 0"),
        ("return self\n", "return None\n", "uniform.py: fit returned NoneType, not a cvfp.arms.base.Fitted"),
        ("self.facts =", "self.fact =", "uniform.py: facts is NoneType, not a cvfp.arms.base.Facts"),
        ("return Scores(", "return (", "uniform.py: score"),
        ("len(tokens) - 1", "len(tokens) - 2", "uniform.py: score: nll has shape"),
        ("np.full(count, self.nats)", "np.full(count, -1.0)", "uniform.py: score: nll must be finite"),
        ("np.full(count, self.nats)", "np.full(count, np.nan)", "uniform.py: score: nll must be finite"),
    ],
)
def test_a_fault_in_a_file_fails_its_points_and_the_others_go_on(
    tmp_path, corpus, old: str, new: str, message: str
):
    assert old in CONSTANT
    plan = tiny_plan(corpus, arms=(write(tmp_path, CONSTANT.replace(old, new, 1)), "unigram"), samples=(4, 8))
    outcome = run_sweep(plan, tmp_path / "sweep", CPU)
    assert outcome.done == 2 and len(outcome.failed) == 2
    for record in outcome.failed:
        assert message in record.error and "\n" not in record.error


def test_an_arm_goes_by_its_files_name_so_two_files_need_two(tmp_path, corpus):
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    files = [write(tmp_path / folder, name="m.py") for folder in ("a", "b")]
    with pytest.raises(InputError, match=r"two files are named m\.py"):
        tiny_plan(corpus, arms=tuple(files), samples=(4,))
