"""No file is unpickled, and no code that came as data is run: the source says so."""

from __future__ import annotations

import ast
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted((ROOT / "src").rglob("*.py"))
PICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
RUNNERS = {"eval", "exec", "compile", "__import__"}
UNPICKLING = {"read_pickle", "to_pickle", "find_class", "Unpickler", "unsafe_load"}
NEEDED = {("torch", "load"): ("weights_only", True), ("np", "load"): ("allow_pickle", False)}
NEEDED[("numpy", "load")] = NEEDED[("np", "load")]
OWN_ARM = ROOT / "src" / "cvfp" / "arms" / "own.py"
"""Runs a file that the user named as an arm: the one exception."""


def dangers(tree: ast.AST) -> Iterator[str]:
    """What in a module could run code out of a file."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (name.name for name in node.names if name.name.split(".")[0] in PICKLERS)
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in PICKLERS:
            yield node.module or ""
        elif isinstance(node, ast.Call):
            yield from _dangers_of_call(node)


def _dangers_of_call(call: ast.Call) -> Iterator[str]:
    given = {each.arg: getattr(each.value, "value", None) for each in call.keywords}
    if given.get("allow_pickle", False) is not False:
        yield "allow_pickle"
    if given.get("trust_remote_code", False) is not False:
        yield "trust_remote_code"
    if given.get("shell", False) is not False:
        yield "shell"
    function = call.func
    if isinstance(function, ast.Name) and function.id in RUNNERS | UNPICKLING:
        yield function.id
    if isinstance(function, ast.Attribute):
        module = function.value.id if isinstance(function.value, ast.Name) else ""
        name, value = NEEDED.get((module, function.attr), ("", None))
        if name and given.get(name) is not value:
            yield f"{module}.{function.attr}"
        if function.attr in UNPICKLING | {"exec_module"} or (module, function.attr) == ("os", "system"):
            yield function.attr


def dangers_of(path: Path) -> set[str]:
    return set(dangers(ast.parse(path.read_text(encoding="utf-8"))))


def test_no_module_runs_code_out_of_a_file():
    assert len(SOURCES) > 100
    found = {path: dangers_of(path) for path in SOURCES}
    assert {path: names for path, names in found.items() if names} == {OWN_ARM: {"exec_module"}}


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("torch.load(path)", "torch.load"),
        ("torch.load(path, weights_only=False)", "torch.load"),
        ("np.load(path)", "np.load"),
        ("np.load(path, allow_pickle=True)", "allow_pickle"),
        ("read_array(file, allow_pickle=wanted)", "allow_pickle"),
        ("eval(text)", "eval"),
        ("exec(text)", "exec"),
        ("load_dataset(name, trust_remote_code=True)", "trust_remote_code"),
        ("spec.loader.exec_module(module)", "exec_module"),
        ("subprocess.run(text, shell=True)", "shell"),
    ],
)
def test_the_search_finds_what_it_looks_for(code, found):
    assert found in set(dangers(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["torch.load(p, weights_only=True)", "np.load(p, allow_pickle=False)", "re.compile(p)"]
)
def test_the_search_lets_safe_code_pass(code):
    assert set(dangers(ast.parse(code))) == set()


def test_the_hub_library_is_one_that_runs_no_code_of_a_data_set():
    """Scripts of data sets left `datasets` with version 4."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
        "optional-dependencies"
    ]
    (needed,) = [each for each in extras["train"] if each.startswith("datasets")]
    assert int(needed.partition(">=")[2].split(".")[0]) >= 4
