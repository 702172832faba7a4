"""Claim: imports point down only, and the analysis runs without torch."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from types import ModuleType

import pytest

import cvfp

ROOT = Path(__file__).parents[1] / "src"
MODULES = sorted((ROOT / "cvfp").rglob("*.py"))
ORDER = ["records", "scaling", "metrics", "data", "models", "training", "arms hf", "report lab", "cli"]
"""From the bottom to the top; names that share a place are neighbours that do not know each other."""
LEVELS = {layer: level for level, names in enumerate(ORDER) for layer in names.split()}
HEAVY = {"torch", "datasets", "transformers", "lm_eval", "ray"}
LIGHT = ("records", "scaling", "report", "cli")
LIGHT_MODULES = {f"cvfp.{name}" for name in ("lab.presets", "lab.plan", "lab.json_schema")}


def dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def layer_of(module: str) -> str | None:
    """`records` of `cvfp.records.files`; None for the package itself."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 and parts[1] in LEVELS else None


def is_light(module: str) -> bool:
    return layer_of(module) in LIGHT or module in LIGHT_MODULES


def imports_of(nodes: Iterator[ast.AST]) -> Iterator[tuple[str, int]]:
    """(module, line) of every import; `from cvfp import data` imports `cvfp.data`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"relative import at line {node.lineno}"
            yield node.module, node.lineno
            if node.module == "cvfp":
                yield from ((f"cvfp.{alias.name}", node.lineno) for alias in node.names)


def at_import_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node that runs when the module is imported: no bodies of functions, nothing for type checkers."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            yield node
            yield from at_import_time(node)


def tree_of(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"))


def wrong_arrows(module: str, tree: ast.Module) -> list[str]:
    """Imports of a layer that is not below, anywhere in the module. `cvfp` itself may import any layer."""
    own, found = layer_of(module), []
    if own is None:
        return found
    for target, line in imports_of(ast.walk(tree)):
        layer = layer_of(target) if target.startswith("cvfp.") else None
        if layer is not None and layer != own and LEVELS[layer] >= LEVELS[own]:
            found.append(f"line {line}: {own} imports {layer}")
    return found


def circle(graph: Mapping[str, set[str]]) -> list[str]:
    """Modules that import each other in a ring, the first one again at the end; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def needed_by(tree: ast.Module, names: set[str]) -> set[str]:
    """The modules among `names` that a module imports when it is imported."""
    found = set()
    for node in at_import_time(tree):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            found |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found & names


def test_imports_point_down_only():
    wrong = {dotted(path): wrong_arrows(dotted(path), tree_of(path)) for path in MODULES}
    assert {module: arrows for module, arrows in wrong.items() if arrows} == {}


def test_no_modules_import_each_other_in_a_circle():
    names = {dotted(path) for path in MODULES if path.name != "__init__.py"}
    graph = {dotted(path): needed_by(tree_of(path), names) for path in MODULES if dotted(path) in names}
    assert circle(graph) == []


def test_a_circle_is_found():
    trees = {"a": "import b", "b": "if True:\n    from c import d", "c": "from a import x", "e": "import a"}
    graph = {name: needed_by(ast.parse(line), set(trees)) for name, line in trees.items()}
    assert set(circle(graph)) == {"a", "b", "c"}
    assert circle(graph | {"c": needed_by(ast.parse("def f():\n    import a"), set(trees))}) == []


def test_every_layer_is_known():
    folders = {path.name for path in (ROOT / "cvfp").iterdir() if (path / "__init__.py").is_file()}
    assert folders <= set(LEVELS)


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("cvfp.records.files", "from cvfp.scaling import rows"),
        ("cvfp.models.layers", "def f():\n    import cvfp.training.loop"),
        ("cvfp.report.page", "from cvfp.lab.plan import Plan"),
        ("cvfp.lab.plan", "from cvfp import report"),
        ("cvfp.arms.base", "from cvfp.cli.main import main"),
    ],
)
def test_an_arrow_up_or_sideways_is_found(module: str, line: str):
    assert len(wrong_arrows(module, ast.parse(line))) == 1
    assert wrong_arrows("cvfp.cli.main", ast.parse("from cvfp.lab.plan import Plan")) == []


def test_light_layers_import_nothing_heavy_when_they_are_imported():
    light = [path for path in MODULES if is_light(dotted(path))]
    names = {dotted(path): [name for name, _ in imports_of(at_import_time(tree_of(path)))] for path in light}
    heavy = {module: {name.split(".")[0] for name in found} & HEAVY for module, found in names.items()}
    assert {module: found for module, found in heavy.items() if found} == {}


def test_packages_import_none_of_their_modules():
    """Importing a package costs nothing; the names of `cvfp` itself are found when they are asked for.

    `cvfp.hf` is imported for what it does: it makes the models known to transformers.
    """
    for path in MODULES:
        if path.name == "__init__.py" and dotted(path) != "cvfp.hf":
            names = [name for name, _ in imports_of(at_import_time(tree_of(path)))]
            assert [name for name in names if name.startswith("cvfp")] == [], dotted(path)


@pytest.mark.parametrize("package", [cvfp, cvfp.scaling])
def test_editors_see_every_public_name(package: ModuleType):
    """What is imported for type checkers is what the package gives."""
    tree = tree_of(Path(package.__file__))
    (block,) = [
        node for node in ast.walk(tree) if isinstance(node, ast.If) and "TYPE" in ast.unparse(node.test)
    ]
    seen = {alias.name: node.module for node in block.body for alias in node.names}
    assert seen == package._HOMES | ({"scaling": "cvfp"} if package is cvfp else {})
    assert (ROOT / "cvfp" / "py.typed").is_file()


def test_analysis_and_command_line_run_without_torch():
    light = [dotted(path) for path in MODULES if is_light(dotted(path))]
    assert {"cvfp.cli.main", "cvfp.records.config", "cvfp.scaling.power_law"} <= set(light)
    code = f"""
import importlib, sys
for name in {["cvfp", *light]!r}:
    importlib.import_module(name)
print(sorted({HEAVY!r} & sys.modules.keys()))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")
