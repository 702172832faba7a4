"""The command line contract: exit codes, one readable line per error, no torch where none is needed."""

from __future__ import annotations

import errno
import json
import os
import signal
import subprocess
import sys

import pytest
from lab_helpers import TINY, write_corpus
from report_helpers import write_sweep

import cvfp
from cvfp.cli.commands import GROUPS, PLACES, command
from cvfp.cli.main import main
from cvfp.lab.plan import make_plan
from cvfp.lab.presets import PRESETS
from cvfp.records.config import RunConfig, dotted
from cvfp.records.errors import InputError
from cvfp.report.language import _ as translated
from cvfp.report.language import speaking

pytestmark = pytest.mark.usefixtures("undrawn")


def call(capsys, *arguments):
    """Exit code, standard output, standard error."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as leaving:
        code = leaving.code
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def assert_one_line(err, *words):
    line = err.strip().splitlines()[-1]
    assert line.startswith("cvfp: error: "), err
    assert "Traceback" not in err
    for word in words:
        assert word in line, line


def tiny_settings(**changes):
    """`--set` with small widths; a change is written phase2__lr=0.1."""
    changed = {key.replace("__", "."): value for key, value in changes.items()}
    return ["--set", *(f"{key}={value}" for key, value in (TINY | changed).items())]


def settings_read_by(*arms: str, **changes: object) -> list[str]:
    """The tiny settings that one of the arms reads."""
    read = {key for arm in arms for key in dotted(RunConfig(arm=arm).read())}
    flag, *settings = tiny_settings(**changes)
    return [flag, *(each for each in settings if each.partition("=")[0] in read)]


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


ALL = [name for name in PLACES if name != "data"] + ["data stats", "data tokenize"]


@pytest.mark.parametrize("command", ALL)
def test_every_command_has_help_with_an_example(capsys, command):
    code, out, _ = call(capsys, *command.split(), "--help")
    assert code == 0 and "Example: cvfp" in " ".join(out.split())


@pytest.mark.parametrize("name", PLACES)
def test_the_overview_says_what_a_command_says_of_itself(name):
    said = {name: said for commands in GROUPS.values() for name, (_, said) in commands.items()}
    assert (command(name).__doc__ or "").startswith(f"{said[name]}.")


def test_the_overview_imports_no_command():
    """Else it takes as long as pydantic, rich and tyro take to import."""
    code = "import sys; from cvfp.cli.main import main; main([]); print(sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    overview, _, modules = done.stdout.rpartition("\n['")
    assert "Start here" in overview
    assert not {"'pydantic'", "'rich'", "'tyro'", "'numpy'"} & {*modules.split(", ")}


def test_presets_lists_all_of_them(capsys):
    code, out, _ = call(capsys, "presets", "--json")
    assert code == 0
    names = {"v1", "v2", "v3", "matrix", "next", "one-factor", "recommended", "baselines", "quickstart"}
    assert set(json.loads(out)) == names | {"gradient-window", "cells", "attribution", "beyond"}


def test_run_report_status_work_together(capsys, tmp_path, corpus):
    out_dir = tmp_path / "sweep"
    samples = ["--samples", "4,8", "16"]
    run = ["run", "v3", "--corpus", corpus, *samples, "--out", out_dir, "--device", "cpu", "--json"]
    code, out, err = call(capsys, *run, *tiny_settings(phase2__epochs=40, phase2__lr=0.03))
    assert code == 0, err
    assert json.loads(out) == {"out": str(out_dir), "done": 15, "failed": 0, "diverged": 0}
    for name in (
        "report.md",
        "report.html",
        "figures/context_dim_scaling.png",
        "summary.json",
        "alpha_progression.json",
    ):
        assert (out_dir / name).stat().st_size > 0
    summary = json.loads((out_dir / "summary.json").read_text())
    assert {row["arm"] for row in summary} == {
        "cvfp",
        "cvfp-joint",
        "kneser-ney",
        "no-context",
        "random-context",
    }
    code, out, _ = call(capsys, "status", out_dir, "--json")
    assert code == 0 and json.loads(out)["done"] == 15
    (out_dir / "report.md").unlink()
    assert call(capsys, "report", out_dir)[0] == 0
    assert "kneser-ney" in (out_dir / "report.md").read_text()
    code, out, _ = call(capsys, "fit", out_dir / "detailed_results.json", "--json")
    fitted = {
        tuple(g["group"].split(" / ")) if " / " in g["group"] else g["group"]: g
        for g in json.loads(out)["groups"]
    }
    assert code == 0 and len(fitted) == 5


@pytest.mark.parametrize("arm", ["cvfp", "cvfp-joint"])
def test_train_eval_diagnose_one_model(capsys, tmp_path, corpus, arm):
    model, text = tmp_path / "model", tmp_path / "text.txt"
    train = ["train", "--out", model, "--corpus", corpus, "--samples", 8, "--device", "cpu", "--json"]
    code, out, err = call(capsys, *train, "--arm", arm, *settings_read_by(arm))
    assert code == 0, err
    made = json.loads((model / "training_record.json").read_text())
    assert json.loads(out) == made["record"] and made["config"]["arm"] == arm
    assert made["record"]["point"]["context_dim"] == {"cvfp": 8, "cvfp-joint": 10}[arm]
    text.write_text(" ".join(json.loads(line)["text"] for line in corpus.read_text().splitlines()[:3]))
    code, out, _ = call(capsys, "eval", model, text, "--device", "cpu", "--json")
    figures = json.loads(out)
    assert code == 0 and 1 < figures["ppl"] < 300 and 0 <= figures["accuracy"] <= 1
    code, out, err = call(capsys, "diagnose", model, text, "--json")
    health = json.loads(out)
    assert code in (0, 1), err
    assert (code == 1) == bool(health["failures"])
    assert health["solve_status"] == "converged" and 0 < health["identity_cosine"] < 1


def test_a_setting_that_the_trained_arm_does_not_read_is_refused_with_the_one_it_has(capsys, tmp_path):
    train = ["train", "--out", tmp_path / "model", "--device", "cpu", "--set", "model.context_dim=8"]
    code, _, err = call(capsys, *train)
    assert code == 2
    assert_one_line(err, "cvfp-joint would not read it; there is joint.context_dim")
    code, _, err = call(capsys, "train", "--out", tmp_path / "model", "--arm", "lstm")
    assert code == 2
    assert_one_line(err, "arm 'lstm' leaves no checkpoint; there are cvfp, cvfp-joint")


@pytest.mark.parametrize(
    "arguments",
    [
        ["generate", "model", "-hello"],
        ["data", "tokenize", "-a.txt"],
        ["data", "stats", "--corpus", "-a.txt"],
        ["run", "quickstart", "--out", "-x"],
    ],
)
def test_a_name_that_begins_with_a_dash_is_told_how_to_be_given(capsys, arguments):
    code, _, err = call(capsys, *arguments)
    assert code == 2 and f"'{arguments[-1]}' begins with a dash" in err and "behind -- it is a text" in err


def test_a_file_that_begins_with_a_dash_is_read_behind_two(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "-a.txt").write_text("Hello world")
    code, out, _ = call(capsys, "data", "tokenize", "--json", "--", "-a.txt")
    assert code == 0 and json.loads(out)["tokens"] == 2
    code, _, err = call(capsys, "generate", "model", "--", "-hello")
    assert code == 2
    assert_one_line(err, "model: no checkpoint here")
    code, _, err = call(capsys, "run", "nothing", "-h")
    assert code == 0 and "begins with a dash" not in err


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EROFS, errno.EDQUOT])
@pytest.mark.parametrize("command", [["train"], ["run", "recommended"], ["tune", "recommended"]])
def test_a_directory_that_cannot_be_written_is_told_before_any_work(
    capsys, tmp_path, monkeypatch, command, number
):
    def fsync(descriptor):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr("cvfp.lab.single.open_dataset", lambda *_: pytest.fail("the work has begun"))
    monkeypatch.setattr("cvfp.lab.point.open_dataset", lambda *_: pytest.fail("the work has begun"))
    out = tmp_path / "deep" / "out"
    code, _, err = call(capsys, *command, "--out", out, "--device", "cpu")
    assert code == 1
    assert_one_line(err, f"--out {out}: {tmp_path} cannot be written: {os.strerror(number)}; make room")
    assert not out.parent.exists()


def test_dry_run_writes_nothing(capsys, tmp_path, corpus, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, out, _ = call(
        capsys, "run", "v3", "--corpus", corpus, "--samples", 4, 8, "--dry-run", *tiny_settings()
    )
    assert code == 0 and "FLOPs" in out and list(tmp_path.iterdir()) == []


def test_tokenize_counts_a_file(capsys, tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("Hello world", encoding="utf-8")
    code, out, _ = call(capsys, "data", "tokenize", path, "--json")
    assert code == 0 and json.loads(out) == {"documents": 1, "tokens": 2, "num_bytes": 11}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "v9"], ["unknown preset 'v9'", "v1, v2, v3"]),
        (["run", "v3", "--arms", "cvfp,lstmm"], ["unknown arm 'lstmm'", "kneser-ney"]),
        (["run", "v3", "--samples", "ten"], ["--samples", "'ten'", "whole number"]),
        (["run", "v3", "--samples", "0"], ["samples", "greater than or equal to 1"]),
        (["run", "v3", "--set", "model.width=3"], ["unknown key 'model.width'"]),
        (["run", "v3", "--set", "model.context_dim"], ["--set", "KEY=VALUE"]),
        (
            ["run", "v3", "--set", "model.context_dim=0"],
            ["model.context_dim", "greater than or equal to 1", "0"],
        ),
        (
            ["run", "v3", "--set", "phase1.dist_reg_weight=1.2"],
            ["phase1.dist_reg_weight", "less than or equal to 1"],
        ),
        (["run", "v3", "--set", "phase1.dist_reg_weight=-0.1"], ["phase1.dist_reg_weight", "greater than"]),
        (["run", "v3", "--set", "model.context_dim=wide"], ["model.context_dim", "valid integer", "wide"]),
        (["run", "v3", "--corpus", "chitchatt"], ["chitchatt"]),
        (["run", "v3", "--seeds", "0"], ["seeds", "greater than or equal to 1"]),
        (["run", "nowhere.toml"], ["nowhere.toml", "no such file"]),
        (["run", "v3", "--samples", "10", "20", "10"], ["samples: 10 is given twice"]),
        (["run", "v3", "--arms", "cvfp,cvfp"], ["arms: cvfp is given twice"]),
        (["run", "v3", "--set", "seed=1", "seed=2"], ["--set: seed is given twice"]),
        (["run", "v3", "--out", "something/x"], ["--out something/x: something is a file", "directory"]),
        (["run", "v3", "--out", "something", "--dry-run"], ["--out something: something is a file"]),
        (["compare", "nowhere", "nowhere", "--out", "something"], ["--out something: something is a file"]),
        (["train", "--out", "something/x"], ["--out something/x: something is a file"]),
        (["status", "nowhere"], ["nowhere: no such directory; a sweep directory is needed"]),
        (["report", "nowhere"], ["nowhere: no such directory; a sweep directory is needed"]),
        (["report", "."], [".: no sweep here (there is no plan.json)"]),
        (["report", ""], ["argument 2 is empty"]),
        (["fit", "."], [".: is a directory", "detailed_results.json"]),
        (["published", "v3", "v3"], ["v3 is given twice"]),
        (["fit", "nowhere.csv"], ["nowhere.csv", "no such file"]),
        (["published", "v9"], ["v9", "v1, v2, v3"]),
        (["eval", "nowhere", "text.txt"], ["nowhere", "no checkpoint here"]),
        (["diagnose", "nowhere"], ["nowhere", "no checkpoint here"]),
        (["train", "--out", ".", "--samples", "5"], ["exists already"]),
        (["data", "tokenize", "nowhere.txt"], ["nowhere.txt", "no such file"]),
        (["data", "stats", "--tokenizer", "bpe:12"], ["data.tokenizer", "at least 257"]),
    ],
)
def test_wrong_usage_gives_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, arguments, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "something").touch()
    code, _, err = call(capsys, *arguments)
    assert code == 2
    assert_one_line(err, *words)
    assert [path.name for path in tmp_path.iterdir()] == ["something"]


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--difference", "lstm", "cvfp"], "no fitted group 'lstm' (did you mean 'LSTM'?) to compare"),
        (["--y", "loss"], "no column 'loss' (did you mean 'LOSS'?)"),
    ],
)
def test_the_near_name_is_found_whatever_its_case(capsys, tmp_path, options, words):
    path = tmp_path / "t.csv"
    path.write_text("line,tokens,ppl,LOSS\nLSTM,1,90,2\nLSTM,2,80,1\ncvfp,1,90,2\ncvfp,2,70,1\n")
    code, _, err = call(capsys, "fit", str(path), *options)
    assert code == 2
    assert_one_line(err, words)


@pytest.mark.parametrize("arguments", [["runn"], ["run"], ["run", "v3", "--nonsense"], ["fit", "--x", "a"]])
def test_a_mistyped_command_is_wrong_usage(capsys, arguments):
    assert call(capsys, *arguments)[0] == 2


def test_more_samples_than_documents_says_how_many_there_are(capsys, tmp_path, corpus):
    run = [
        "run",
        "v3",
        "--corpus",
        corpus,
        "--samples",
        4,
        400,
        "--out",
        tmp_path / "sweep",
        "--device",
        "cpu",
    ]
    code, _, err = call(capsys, *run, *tiny_settings())
    assert code == 2
    assert_one_line(err, "400", "33")


def test_another_plan_in_the_directory_is_refused(capsys, tmp_path, corpus):
    run = [
        "run",
        "v3",
        "--corpus",
        corpus,
        "--out",
        tmp_path / "sweep",
        "--device",
        "cpu",
        "--arms",
        "unigram",
    ]
    assert call(capsys, *run, "--samples", 4, 8, *settings_read_by("unigram"))[0] == 0
    refused = []
    for more in ((), ("--dry-run",)):
        code, out, err = call(capsys, *run, "--samples", 4, 16, *more, *settings_read_by("unigram"))
        assert (code, out) == (2, "")
        assert_one_line(err, "holds another plan")
        refused.append(err.strip())
    assert refused[0] == refused[1]


def test_an_embedding_of_the_wrong_shape_is_refused(capsys, tmp_path, corpus):
    import numpy as np

    np.save(tmp_path / "table.npy", np.zeros((300, 5), np.float32))
    run = ["run", "v3", "--corpus", corpus, "--samples", 4, 8, "--out", tmp_path / "sweep", "--device", "cpu"]
    code, _, err = call(capsys, *run, "--embedding", tmp_path / "table.npy", *tiny_settings())
    assert code == 2
    assert_one_line(err, "table.npy", "(300, 5)", "(300, 8)")


@pytest.mark.long
def test_in_the_quickstart_every_arm_beats_the_unigram_line(capsys, tmp_path):
    fewer = ["--set", "data.test_documents=10", "data.dev_documents=6", "phase2.epochs=4"]
    run = ["run", "quickstart", "--samples", 6, "--device", "cpu", "--out", tmp_path / "q"]
    code, _, err = call(capsys, *run, *fewer)
    assert code == 0, err
    rows = json.loads((tmp_path / "q" / "detailed_results.json").read_text())
    ppl = {row["arm"]: row["val_ppl"] for row in rows}
    arms = {"cvfp-joint", "cvfp", "no-context", "random-context", "lstm", "kneser-ney", "unigram"}
    assert set(ppl) == arms
    assert all(value < 0.85 * ppl["unigram"] for arm, value in ppl.items() if arm != "unigram"), ppl


def test_cuda_where_there_is_none_is_refused(capsys, tmp_path, corpus):
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has cuda")
    run = [
        "run",
        "v3",
        "--corpus",
        corpus,
        "--samples",
        4,
        8,
        "--out",
        tmp_path / "sweep",
        "--device",
        "cuda",
    ]
    code, _, err = call(capsys, *run, *tiny_settings())
    assert code == 2 and not (tmp_path / "sweep").exists()
    assert_one_line(err, "--device cuda", "not available")


def test_an_interrupt_is_exit_code_130(capsys, monkeypatch):
    import cvfp.lab.plan

    def interrupted(spec):
        raise KeyboardInterrupt

    monkeypatch.setattr(cvfp.lab.plan, "make_plan", interrupted)
    code, _, err = call(capsys, "run", "v3")
    assert code == 130 and "goes on from there" in err
    assert call(capsys, "presets") == (130, "", "cvfp: interrupted.\n")


def test_a_command_gives_the_answers_to_signals_back(capsys):
    numbers = (signal.SIGTERM, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    for arguments in (["presets"], ["report", "nowhere"], ["runn"]):
        call(capsys, *arguments)
        assert [signal.getsignal(number) for number in numbers] == before


EXEC = """
import signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)
from cvfp.cli import main, sweep

def interrupted() -> None:
    exec("import signal; signal.raise_signal(signal.SIGINT)")  # as a dataclass being imported does

sweep.run = interrupted
sys.exit(main.main(["run"]))
"""


def test_an_interrupt_within_an_exec_is_exit_code_130_too(tmp_path):
    (tmp_path / "exec.py").write_text(EXEC)
    done = subprocess.run([sys.executable, "-m", "exec"], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 130 and "goes on from there" in done.stderr


IMPORTING = """
import signal, sys
from cvfp.cli.main import main

class Interrupts:
    def find_spec(self, name, path=None, target=None):
        if name == "tyro":
            signal.raise_signal(signal.SIGINT)

assert "pydantic" not in sys.modules and "tyro" not in sys.modules
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.meta_path.insert(0, Interrupts())
sys.exit(main(["presets"]))
"""


def test_an_interrupt_while_commands_are_imported_is_one_line_and_130():
    done = subprocess.run([sys.executable, "-c", IMPORTING], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (130, "cvfp: interrupted.\n")


def test_a_wrong_word_is_told_the_right_ones(capsys):
    code, _, err = call(capsys, "fit", "t.csv", "--unit", "nat")
    assert code == 2 and "'nats', 'bits'" in err and "None" not in err


def test_a_failed_point_makes_the_run_exit_with_1(capsys, tmp_path, corpus):
    run = ["run", "v3", "--corpus", corpus, "--samples", 4, 8, "--out", tmp_path / "sweep", "--device", "cpu"]
    code, out, err = call(
        capsys, *run, "--arms", "cvfp", "unigram", *settings_read_by("cvfp", phase2__lr=1e30)
    )
    assert code == 1 and "2 of 4 runs done, 2 failed." in out
    assert "diverged" in err and "Traceback" not in err
    assert "diverged" in (tmp_path / "sweep" / "report.md").read_text()


BLOCK = """
import json, sys

class Blocked:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "datasets", "transformers", "tokenizers", "tiktoken"):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Blocked())
from cvfp.cli.main import main
for command in json.loads(sys.argv[1]):
    try:
        code = main(command)
    except SystemExit as leaving:
        code = leaving.code
    if code:
        sys.exit(code)
"""


def without_torch(*commands):
    """The commands one after the other, up to the first that fails."""
    told = json.dumps([[str(argument) for argument in command] for command in commands])
    return subprocess.run([sys.executable, "-c", BLOCK, told], capture_output=True, text=True)


def test_analysis_and_help_run_without_torch(tmp_path):
    table = tmp_path / "table.csv"
    table.write_text("tokens,val_ppl\n1000,300\n2000,250\n4000,200\n8000,170\n")
    write_sweep(tmp_path / "sweep")
    commands = (["--help"], ["fit", table], ["published"], ["presets"], ["report", tmp_path / "sweep"])
    done = without_torch(*commands)
    assert done.returncode == 0, done.stderr
    assert all(word in done.stdout for word in ("Start here", "alpha", "quickstart", "report.md"))


def test_a_missing_extra_is_named(tmp_path):
    done = without_torch(["run", "v3", "--out", tmp_path / "x"])
    assert done.returncode == 2
    assert_one_line(done.stderr, "torch", "cvfp[train]")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("preset = ['v1']", ["unknown preset ['v1']"]),
        ("samples = [4]\nname = '../evil'", ["name: allowed are letters, digits", "'../evil'"]),
        ("samples = [4]\n[settings]\nseed = 'x'", ["seed", "valid integer"]),
        (
            "samples = [4]\n[settings.data]\nsplit_seed = -1",
            ["data.split_seed", "equal to 0"],
        ),
    ],
)
def test_a_bad_sweep_file_is_one_line_on_the_command_line(capsys, tmp_path, monkeypatch, text, words):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine.toml").write_text(text)
    code, _, err = call(capsys, "run", "mine.toml")
    assert code == 2
    assert_one_line(err, "mine.toml" if "seed" not in text else "mine", *words)


def test_a_checkpoint_with_another_tokenizer_is_refused(capsys, tmp_path, corpus):
    for name, size in (("a", 300), ("b", 320)):
        train = ["train", "--out", tmp_path / name, "--corpus", corpus, "--samples", 4, "--device", "cpu"]
        settings = settings_read_by("cvfp-joint", data__tokenizer=f"bpe:{size}")
        assert call(capsys, *train, *settings)[0] == 0
    for path in (tmp_path / "b").glob("tokenizer*"):
        (tmp_path / "a" / path.name).write_bytes(path.read_bytes())
    code, _, err = call(capsys, "eval", tmp_path / "a", corpus)
    assert code == 2
    assert_one_line(err, "320 tokens", "300")


def test_brackets_in_names_are_printed_as_they_are(capsys, tmp_path, corpus):
    run = ["run", "v3", "--corpus", corpus, "--samples", 4, 8, "--arms", "unigram", "--device", "cpu"]
    assert call(capsys, *run, "--out", tmp_path / "[red]" / "x", *settings_read_by("unigram"))[0] == 0
    code, out, _ = call(capsys, "status", tmp_path / "[red]" / "x")
    assert code == 0 and "[red]" in out.replace("\n", "")


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_what_may_have_no_end_is_not_read(capsys, tmp_path, kind):
    path = tmp_path / "endless.csv"
    if kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to("/dev/zero")
    commands = (["fit", path], ["run", path], ["data", "tokenize", path], ["data", "stats", "--corpus", path])
    for arguments in commands:
        code, _, err = call(capsys, *arguments)
        assert code == 2, arguments
        assert_one_line(err, "endless.csv")


def test_a_reader_that_leaves_ends_the_command_quietly():
    command = [sys.executable, "-m", "cvfp", "published", "--quiet"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.close()
        assert (process.stderr.read(), process.wait()) == ("", 1)


@pytest.mark.parametrize(("language", "mark"), [("en", ""), ("ja", ".ja")])
def test_reports_speak_the_language_that_was_asked_for(capsys, tmp_path, language, mark):
    write_sweep(tmp_path / "sweep")
    assert call(capsys, "report", tmp_path / "sweep", "--lang", language)[0] == 0
    assert sorted(path.name for path in (tmp_path / "sweep").glob("report*")) == [
        f"report{mark}.html",
        f"report{mark}.md",
    ]
    with speaking(language):
        corpus, tokens = translated("corpus"), translated("training documents")
    text = (tmp_path / "sweep" / f"report{mark}.md").read_text(encoding="utf-8")
    assert f"| {corpus} | chitchat |" in text and f"| {tokens} | 50, 100, 200, 400 |" in text
    page = (tmp_path / "sweep" / f"report{mark}.html").read_text(encoding="utf-8")
    assert f'<html lang="{language}">' in page
    for words in (["compare", "published:v1", "published:v2"], ["published"]):
        code, out, _ = call(capsys, *words, "--lang", language)
        assert code == 0 and any(ord(letter) > 0x3000 for letter in out) == (language == "ja")


@pytest.mark.parametrize(
    ("arm", "setting"),
    [
        ("cvfp-joint", "joint.consistency=0.0"),
        ("cvfp", "phase2.averaging=0.0"),
        ("cvfp", "phase2.steps=none"),
    ],
)
def test_a_setting_of_train_may_be_a_neutral_one(capsys, tmp_path, corpus, arm, setting):
    train = ["train", "--out", tmp_path / "m", "--corpus", corpus, "--samples", 4, "--device", "cpu"]
    own = [one for one in settings_read_by(arm) if str(one).partition("=")[0] != setting.partition("=")[0]]
    assert call(capsys, *train, "--arm", arm, *own, setting)[0] == 0


# --- A sweep grows: `cvfp run DIR`.


def started(capsys, directory, corpus, *options) -> None:
    run = [
        "run",
        "v3",
        "--corpus",
        corpus,
        "--arms",
        "unigram",
        "kneser-ney",
        "--samples",
        4,
        8,
        "--device",
        "cpu",
    ]
    code, _, err = call(capsys, *run, "--out", directory, *options)
    assert code == 0, err


def planned(directory) -> set[tuple[str, int, int]]:
    points = json.loads((directory / "plan.json").read_text())["points"]
    configs = [point["config"] for point in points]
    return {(config["arm"], config["data"]["num_samples"], config["seed"]) for config in configs}


def test_a_sweep_grows_by_seeds_and_sizes_and_keeps_what_it_has(capsys, tmp_path, corpus):
    out = tmp_path / "sweep"
    started(capsys, out, corpus)
    records = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/record.json")}
    assert len(records) == 4
    code, text, err = call(capsys, "run", out, "--seeds", 2, "--samples", 16, "--device", "cpu", "--json")
    assert code == 0, err
    assert json.loads(text) == {"out": str(out), "done": 12, "failed": 0, "diverged": 0}
    arms, sizes, seeds = ("unigram", "kneser-ney"), (4, 8, 16), (42, 43)
    assert planned(out) == {(arm, size, seed) for arm in arms for size in sizes for seed in seeds}
    assert {path: path.stat().st_mtime_ns for path in records} == records
    report = (out / "report.md").read_text(encoding="utf-8")
    assert "| training documents | 4, 8, 16 |" in report and "| seeds | 42, 43 |" in report
    anew = tmp_path / "anew"
    started(capsys, anew, corpus, "--seeds", 2, "--samples", 4, 8, 16)
    assert planned(anew) == planned(out)
    names = [{path.name for path in one.glob("runs/*")} for one in (anew, out)]
    assert names[0] == names[1]


def test_a_directory_alone_is_gone_on_with(capsys, tmp_path, corpus):
    started(capsys, tmp_path / "sweep", corpus)
    code, out, err = call(capsys, "run", tmp_path / "sweep", "--device", "cpu", "--json")
    assert code == 0, err
    assert json.loads(out)["done"] == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--arms", "cvfp"], "--arms: the sweep in "),
        (["--set", "phase2.lr=1"], "--set: the sweep in "),
        (["--corpus", "other.txt"], "--corpus: the sweep in "),
        (["--out", "elsewhere"], "--out: the sweep in "),
        (["--published"], "--published: the sweep in "),
        (["--inits", "2"], "--inits: the sweep in "),
        (["--seeds", "0"], "--seeds"),
        (["--samples", "0"], "--samples"),
    ],
)
def test_what_does_not_add_to_a_sweep_is_refused(capsys, tmp_path, options, message):
    write_sweep(tmp_path / "sweep")
    before = (tmp_path / "sweep" / "plan.json").read_bytes()
    code, _, err = call(capsys, "run", tmp_path / "sweep", *options, "--device", "cpu")
    assert code == 2 and message in err and "Traceback" not in err
    assert (tmp_path / "sweep" / "plan.json").read_bytes() == before


def test_fewer_seeds_than_there_are_are_refused(capsys, tmp_path):
    write_sweep(tmp_path / "sweep", seeds=(1, 2, 3))
    code, _, err = call(capsys, "run", tmp_path / "sweep", "--seeds", 2, "--device", "cpu")
    assert code == 2 and "--seeds 2: the sweep has 3 already; give at least as many" in err


def test_a_directory_with_the_name_of_a_preset_is_resumed_as_it_was_started(
    capsys, tmp_path, corpus, monkeypatch
):
    """`cvfp run v3 --out v3`, again, goes on; the directory itself is told apart by `./`."""
    monkeypatch.chdir(tmp_path)
    for _ in range(2):
        started(capsys, "v3", corpus)
    before = planned(tmp_path / "v3")
    code, _, err = call(capsys, "run", "./v3", "--samples", 4, 8, 12, "--device", "cpu")
    assert code == 0, err
    assert planned(tmp_path / "v3") > before


# --- Settings that would change nothing, and those that take others away.


@pytest.mark.parametrize(
    ("arms", "setting", "words"),
    [
        (
            ("cvfp-joint", "kneser-ney"),
            "model.context_dim=9",
            "cvfp-joint, kneser-ney would not read it; there is joint",
        ),
        (("kneser-ney",), "joint.lr=0.5", "--set joint.lr: kneser-ney would not read it"),
    ],
)
def test_a_setting_that_no_model_of_a_sweep_reads_is_refused(capsys, tmp_path, corpus, arms, setting, words):
    run = [
        "run",
        "quickstart",
        "--corpus",
        corpus,
        "--samples",
        4,
        8,
        "--out",
        tmp_path / "x",
        "--arms",
        *arms,
    ]
    code, _, err = call(capsys, *run, "--set", setting)
    assert code == 2 and not (tmp_path / "x").exists()
    assert_one_line(err, words)
    with pytest.raises(InputError, match="would not read it"):
        key, _, value = setting.partition("=")
        cvfp.run(
            "quickstart", out=tmp_path / "x", arms=arms, samples=[4, 8], settings={key: json.loads(value)}
        )


def test_epochs_take_steps_away_that_they_would_have_no_say_against():
    spec = PRESETS["quickstart"].override(arms=("cvfp-joint", "cvfp"))
    by_steps = [p.config.resolved() for p in make_plan(spec).points if p.config.arm == "cvfp-joint"]
    assert any(config.joint.steps for config in by_steps)
    for point in make_plan(spec.with_settings({"joint.epochs": 1})).points:
        assert (point.config.resolved().joint.steps, point.config.joint.epochs) == (None, 1)
    kept = make_plan(spec.with_settings({"joint.epochs": 1, "joint.steps": 3})).points
    assert {point.config.resolved().joint.steps for point in kept} == {3}


def test_a_grid_with_a_value_twice_is_refused(capsys, tmp_path):
    code, _, err = call(
        capsys, "tune", "quickstart", "--out", tmp_path / "x", "--samples", 6, "--grid", "lr=0.1,0.1"
    )
    assert code == 2
    assert_one_line(err, "--grid lr: 0.1 is given twice")


@pytest.mark.parametrize("option", [{"arms": "cvfp-joint"}, {"samples": 6}])
def test_one_thing_where_a_list_is_needed_is_said(tmp_path, option):
    (name,) = option
    with pytest.raises(InputError, match=f"{name}: a list is needed"):
        cvfp.run("quickstart", out=tmp_path / "x", **option)


def test_an_unknown_section_is_told_with_the_near_one(capsys, tmp_path):
    code, _, err = call(capsys, "run", "quickstart", "--out", tmp_path / "x", "--set", "modl.context_dim=3")
    assert code == 2
    assert_one_line(err, "modl", "'model'")
