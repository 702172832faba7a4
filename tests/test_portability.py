"""Claims: what other systems would stumble over (names and bytes of files, encodings, types) is not there."""

from __future__ import annotations

import ast
import io
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
import yaml
from lab_helpers import tiny_plan
from test_cli import call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import cvfp
from cvfp.cli.main import main
from cvfp.data.corpora import open_corpus
from cvfp.lab.plan import DEVICES
from cvfp.lab.presets import PRESETS
from cvfp.lab.runner import run_sweep
from cvfp.models.checkpoint import load_checkpoint
from cvfp.models.generation import generate
from cvfp.models.parts import widest
from cvfp.records.config import DataConfig
from cvfp.records.errors import InputError
from cvfp.records.files import append_text, parts_of, write_text
from cvfp.report.write import write_report

ROOT = Path(__file__).parents[1]


class NoDoubles(TorchDispatchMode):
    """Refuses float64, as mps does; numbers may come as it."""

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        found = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(found):
            wide = isinstance(tensor, torch.Tensor) and tensor.dtype == torch.float64
            if wide and func is not torch.ops.aten.lift_fresh.default:
                raise TypeError(f"{func}: no float64 here")
        return found


def test_training_scoring_and_writing_need_no_float64(tmp_path, corpus, monkeypatch):
    assert (widest(torch.device("mps")), widest(torch.device("cuda"))) == (torch.float32, torch.float64)
    for module in ("training.evaluation", "training.phase2", "models.generation"):
        monkeypatch.setattr(f"cvfp.{module}.widest", lambda device: torch.float32)
    monkeypatch.setattr("cvfp.arms.cvfp.effective_rank", lambda rows: 1.0)  # which goes to the CPU by itself
    plan = tiny_plan(corpus, arms=("cvfp",), samples=(4,))
    with NoDoubles():
        assert run_sweep(plan, tmp_path, torch.device("cpu")).failed == ()
        model = load_checkpoint(tmp_path / "runs" / plan.points[0].config.run_hash / "checkpoint")
        assert len(list(generate(model, torch.tensor([1, 2]), 5, top_p=0.9))) == 5
        with pytest.raises(TypeError, match="no float64"):
            torch.zeros(3).double()


def test_a_line_ends_with_one_byte_on_every_system(tmp_path, monkeypatch):
    monkeypatch.setattr("os.linesep", "\r\n")
    write_text(tmp_path / "a", "x\ny\n")
    append_text(tmp_path / "a", "z\n")
    assert (tmp_path / "a").read_bytes() == b"x\ny\nz\n"


@pytest.mark.parametrize("name", ["con", "NUL", "aux.sizes", "Com1 .x", "lpt9", "sizes.", "sizes "])
def test_a_sweep_has_a_name_that_windows_can_have_too(name):
    with pytest.raises(InputError, match="Windows has no folder"):
        PRESETS["v3"].override(name=name)
    assert PRESETS["v3"].override(name=f"my {name.strip(' .')}").name.startswith("my ")


@pytest.mark.usefixtures("undrawn")
def test_every_file_of_a_sweep_has_a_name_that_every_system_can_have(whole, tmp_path):
    """No signs, no endings and no devices that Windows refuses; no two that differ by their case alone."""
    out = shutil.copytree(whole, tmp_path / "sweep")
    write_report(out)
    write_report(out, "ja")
    names = [path.relative_to(out).as_posix() for path in out.rglob("*")]
    assert len(names) > 20 and max(map(len, names)) < 120
    assert len({name.casefold() for name in names}) == len(names)
    for name in names:
        for part in name.split("/"):
            assert not re.search(r'[<>:"\\|?*\x00-\x1f]', part) and part[-1] not in " .", name
            assert part.partition(".")[0].upper() not in DEVICES, name


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("hub:owner/name:train", ["hub", "owner/name", "train"]),
        (r"hub:C:\texts:train", ["hub", r"C:\texts", "train"]),
        ("hub:d:/texts", ["hub", "d:/texts"]),
        (r"C:\texts", [r"C:\texts"]),
        ("gpt2:/tables/gpt2", ["gpt2", "/tables/gpt2"]),
        (r"gpt2:C:\tables", ["gpt2", r"C:\tables"]),
        ("hub:c:train", ["hub", "c", "train"]),
    ],
)
def test_the_colon_of_a_drive_is_part_of_its_path(spec, parts):
    assert parts_of(spec) == parts


def test_a_copy_of_hub_data_may_be_on_a_drive(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    folder = Path(r"C:\texts")
    folder.mkdir()
    pq.write_table(pa.table({"text": ["one", "two"]}), folder / "train-0.parquet")
    for spec in (r"hub:C:\texts:train", r"hub:C:\texts"):
        assert open_corpus(DataConfig(corpus=spec)).documents() == ["one", "two"]


@pytest.mark.parametrize(
    ("command", "shown"),
    [(["published", "v1", "--lang", "ja"], "????"), (["fit", "table.csv"], "?? ?"), (["presets"], "v3")],
)
def test_a_terminal_of_windows_shows_what_it_can(tmp_path, monkeypatch, command, shown):
    """Its encoding has no Japanese and few Greek letters: question marks stand for what it lacks."""
    rows = "".join(f"狭い α,{1000 * 2**k},{round(400 * 0.8**k, 1)}\n" for k in range(6))
    (tmp_path / "table.csv").write_text(f"config_name,tokens,val_ppl\n{rows}", encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    out, err = (io.TextIOWrapper(io.BytesIO(), encoding="cp1252") for _ in range(2))
    monkeypatch.setattr(sys, "stdout", out)
    monkeypatch.setattr(sys, "stderr", err)
    assert main(command) == 0
    out.flush()
    assert shown in out.buffer.getvalue().decode("cp1252")


def test_processes_are_spawned():
    """A fork copies the threads' locks without the threads, and Windows has none."""
    ways = []
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and node.module == "multiprocessing":
                assert {each.name for each in node.names} <= {"get_context", "parent_process"}, path
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "get_context":
                ways += [ast.unparse(each) for each in node.args] or ["the system's"]
    assert ways and set(ways) == {"'spawn'"}


def opened_as_text(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls of `.open("r")`, `.read_text()`, `.write_text()` and `open()`."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = getattr(node.func, "attr", "") or getattr(node.func, "id", "")
        modes = [str(each.value) for each in node.args if isinstance(each, ast.Constant)]
        opens = name == "open" and len(modes) == len(node.args) and "b" not in "".join(modes)
        if opens or (name in ("read_text", "write_text") and isinstance(node.func, ast.Attribute)):
            yield node


def test_texts_are_opened_with_their_encoding():
    """Else it is that of the user's language."""
    opened = [
        (f"{path}, line {node.lineno}", {each.arg for each in node.keywords})
        for path in (ROOT / "src").rglob("*.py")
        for node in opened_as_text(ast.parse(path.read_text(encoding="utf-8")))
    ]
    assert opened and [place for place, given in opened if "encoding" not in given] == []


VERSION = """
import runpy, sys
sys.argv = ["cvfp", "--version"]
try:
    runpy.run_module("cvfp", run_name="__main__")
finally:
    print(sorted({"torch", "numpy"} & sys.modules.keys()), file=sys.stderr)
"""


def test_the_version_is_told_without_torch():
    done = subprocess.run([sys.executable, "-c", VERSION], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, f"cvfp {cvfp.__version__}\n")
    assert "torch" not in done.stderr


def test_the_citation_and_the_changes_speak_of_this_version(capsys):
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert citation["cff-version"] == "1.2.0" and citation["version"] == cvfp.__version__
    needed = {"message", "title", "authors", "license", "abstract", "keywords", "type"}
    assert needed <= set(citation) and citation["license"] == "Apache-2.0"
    assert f"## [{cvfp.__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert call(capsys, "--version") == (0, f"cvfp {cvfp.__version__}\n", "")
