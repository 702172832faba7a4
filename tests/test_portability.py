"""Claims: files are the same bytes on every system, sums need no type that mps lacks; versions agree."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml
from lab_helpers import tiny_plan
from test_cli import call
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import cvfp
from cvfp.lab.runner import run_sweep
from cvfp.models.checkpoint import load_checkpoint
from cvfp.models.generation import generate
from cvfp.models.parts import widest
from cvfp.records.files import append_text, write_text

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
