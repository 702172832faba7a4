"""Claims: what is built can be installed and used, with torch and without; what names versions agrees."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Iterable, Iterator, Set
from email import message_from_bytes
from email.message import Message
from functools import partial
from importlib.metadata import distribution
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType

import pytest
import yaml
from marks import one_quick
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import cvfp

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
SOURCE = ROOT / "src" / "cvfp"
TABLE = "tokens,val_ppl\n" + "".join(f"{1000 * 2**k},{round(400 * 0.8**k, 1)}\n" for k in range(6))


def carry_out(*command: object, folder: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """What a command printed, which must not fail."""
    words = [str(word) for word in command]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{words}\n{done.stdout[-1500:]}\n{done.stderr[-3000:]}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from the tree, by the build backend of this environment."""
    folder = tmp_path_factory.mktemp("dist")
    carry_out(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder, folder=ROOT)
    (path,) = folder.iterdir()
    return path


# --- The wheel and the sdist.


def test_the_wheel_has_all_of_the_package_and_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        found = set(archive.namelist())
    packed = {name for name in found if not name.startswith(f"cvfp-{cvfp.__version__}.dist-info/")}
    there = {
        path.relative_to(SOURCE.parent).as_posix()
        for path in SOURCE.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == there
    assert {"cvfp/py.typed", "cvfp/lab/schemas/sweep.schema.json", "cvfp/report/locale/ja.po"} <= packed


def metadata_of(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        return message_from_bytes(archive.read(f"cvfp-{cvfp.__version__}.dist-info/METADATA"))


def test_the_wheel_says_what_it_is(wheel: Path):
    info, told = f"cvfp-{cvfp.__version__}.dist-info", metadata_of(wheel)
    with zipfile.ZipFile(wheel) as archive:
        assert archive.read(f"{info}/licenses/LICENSE") == (ROOT / "LICENSE").read_bytes()
    assert (told["Name"], told["Version"]) == ("cvfp", cvfp.__version__)
    assert (told["License-Expression"], told["Requires-Python"]) == ("Apache-2.0", ">=3.11")
    assert "Typing :: Typed" in told.get_all("Classifier", [])
    needed = [each for each in told.get_all("Requires-Dist", []) if "extra ==" not in each]
    assert needed and not [each for each in needed if each.startswith(("torch", "datasets"))]


WITHOUT_TORCH = """
import sys
sys.path.insert(0, sys.argv[1])
class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {absent!r}:
            raise ModuleNotFoundError(name=name)
sys.meta_path.insert(0, Absent())
import cvfp
from cvfp.cli.main import main
assert cvfp.__file__.startswith(sys.argv[1])
sys.exit(main(sys.argv[2:]))
"""


@pytest.mark.parametrize("command", one_quick("fit table.csv --holdout 1", "schema sweep", "published v1"))
def test_what_needs_no_torch_runs_from_the_wheel(wheel: Path, tmp_path: Path, command: str):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "unpacked")
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8")
    absent = [re.match("[a-z]+", each)[0] for each in PROJECT["project"]["optional-dependencies"]["train"]]
    assert {"torch", "datasets", "tokenizers"} <= set(absent)
    code = WITHOUT_TORCH.format(absent=absent)
    out = carry_out(
        sys.executable, "-c", code, tmp_path / "unpacked", *command.split(), "--quiet", folder=tmp_path
    )
    assert len(out.splitlines()) > 5


@pytest.fixture(scope="module")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An environment with nothing in it; its folder of commands."""
    folder = tmp_path_factory.mktemp("environment")
    carry_out(sys.executable, "-m", "venv", folder)
    return folder / "bin"


def lend(to: Path, needed: Iterable[str], extras: Set[str], lent: set[tuple[str, str]]) -> None:
    """Link packages that are installed here, and all that their metadata asks for, into another environment.

    Args:
        to: its packages.
        needed: lines of metadata that say what is required.
        extras: whose lines count beside those of none.
        lent: names and extras of what has been lent.
    """
    for asked in map(Requirement, needed):
        if asked.marker is not None and not any(asked.marker.evaluate({"extra": each}) for each in extras):
            continue
        wanted = {(canonicalize_name(asked.name), extra) for extra in asked.extras | {""}}
        if wanted <= lent:
            continue
        lent |= wanted
        package = distribution(asked.name)
        assert package.version in asked.specifier, f"{asked}: {package.version} is installed"
        for name in {file.parts[0] for file in package.files or ()} - {"..", "__pycache__"}:
            if not (to / name).exists():
                (to / name).symlink_to(package.locate_file(name))
        lend(to, package.requires or (), asked.extras | {""}, lent)


@pytest.mark.long
def test_the_wheel_is_enough_for_a_fit_and_with_its_extra_for_a_sweep(
    wheel: Path, empty: Path, tmp_path: Path
):
    """An environment has what the wheel's metadata asks for, lent by this one, and nothing else."""
    clean = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = partial(carry_out, folder=tmp_path, environment=clean)
    (to,) = empty.parent.glob("lib/python*/site-packages")
    (tmp_path / "table.csv").write_text(TABLE, encoding="utf-8")
    run(empty / "python", "-m", "pip", "install", "-q", "--no-index", "--no-deps", wheel)
    lent: set[tuple[str, str]] = set()
    needed = metadata_of(wheel).get_all("Requires-Dist", [])
    lend(to, needed, {""}, lent)
    assert lent and ("torch", "") not in lent
    assert "PPL = A * tokens^alpha" in run(empty / "cvfp", "fit", "table.csv")
    lend(to, needed, {"train"}, lent)
    assert ("torch", "") in lent
    run(empty / "python", "-m", "pip", "check")
    small = ("--samples", 6, 12, "--arms", "cvfp-joint", "kneser-ney", "--set", "joint.epochs=1")
    run(empty / "cvfp", "run", "quickstart", "--out", "first", *small, "data.test_documents=10")
    assert (tmp_path / "first" / "report.html").is_file()


@pytest.mark.long
def test_the_sdist_makes_the_same_wheel(wheel: Path, tmp_path: Path):
    carry_out(sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", tmp_path, folder=ROOT)
    (sdist,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    tree = tmp_path / sdist.name.removesuffix(".tar.gz")
    assert all((tree / name).is_file() for name in ("Makefile", "constraints.txt", "tests/conftest.py"))
    build = (sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", tmp_path / "again")
    carry_out(*build, folder=tree)
    assert contents(tmp_path / "again" / wheel.name) == contents(wheel)


def contents(wheel: Path) -> dict[str, str]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist()}


# --- Versions that stand in several places.


def pinned() -> dict[str, str]:
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if not line.startswith("#")]
    return {plain(name): version for name, version in pairs}


def plain(name: str) -> str:
    """A package's name as an index compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def required() -> Iterator[str]:
    """Names of all that is asked for anywhere."""
    project, groups = PROJECT["project"], PROJECT["dependency-groups"]
    extras = project["optional-dependencies"].values()
    for each in (project["dependencies"], *extras, *groups.values(), PROJECT["build-system"]["requires"]):
        yield from (plain(re.match(r"[\w.-]+", one)[0]) for one in each if isinstance(one, str))


def test_every_package_that_is_asked_for_has_a_tested_version():
    assert set(required()) - set(pinned()) == {"cvfp"}


def test_all_extras_are_in_one():
    extras = PROJECT["project"]["optional-dependencies"]
    reached, to_do = set(), ["all"]
    while to_do:
        extra = to_do.pop()
        reached.add(extra)
        for one in extras[extra]:
            inside = re.fullmatch(r"cvfp\[([\w,]+)\]", one)
            to_do += [] if inside is None else [each for each in inside[1].split(",") if each not in reached]
    assert reached == set(extras)


def test_pythons_are_named_alike_everywhere():
    names = PROJECT["project"]["classifiers"]
    pythons = [
        found[1]
        for found in map(re.compile(r"Programming Language :: Python :: (3\.\d+)").fullmatch, names)
        if found
    ]
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    for job in ("test", "light"):
        assert workflow["jobs"][job]["strategy"]["matrix"]["python"] == pythons
    lowest = pythons[0]
    assert PROJECT["project"]["requires-python"] == f">={lowest}"
    assert PROJECT["tool"]["pyright"]["pythonVersion"] == lowest
    assert PROJECT["tool"]["ruff"]["target-version"] == f"py{lowest.replace('.', '')}"
    for page in ("README.md", "CONTRIBUTING.md"):
        assert f"Python {lowest}" in (ROOT / page).read_text(encoding="utf-8")


def test_hooks_before_a_commit_have_the_tested_versions():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))["repos"]
    found = [one.split("==") for hook in repository["hooks"] for one in hook["additional_dependencies"]]
    assert {name for name, _version in found} == {"ruff", "basedpyright"}
    assert [(name, version) for name, version in found if pinned()[name] != version] == []


def test_the_workflow_calls_targets_that_there_are():
    workflow = yaml.safe_load((ROOT / ".github/workflows/test.yml").read_text(encoding="utf-8"))
    commands = [step["run"] for job in workflow["jobs"].values() for step in job["steps"] if "run" in step]
    assert {"make test", "make test-light", "make docs", "make wheel", "make coverage"} <= set(commands)
    for command in commands:
        carry_out(*command.split(), "--dry-run", folder=ROOT)


def test_templates_of_issues_are_forms():
    forms = [path for path in (ROOT / ".github/ISSUE_TEMPLATE").glob("*.yml") if path.stem != "config"]
    assert len(forms) == 2
    for path in forms:
        form = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert {"name", "description", "body"} <= set(form)
        assert all(field["attributes"]["label"] for field in form["body"])


# --- A release.


@pytest.fixture
def release() -> ModuleType:
    spec = spec_from_file_location("release", ROOT / ".ci" / "release.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def ready(tmp_path: Path) -> Path:
    """A tree that is ready to be released."""
    texts = {
        "src/cvfp/__init__.py": '__version__ = "1.2.0"\n',
        "CHANGELOG.md": "# Changes\n\n## [1.2.0] - 2027-01-31\n\n- Better.\n\n## [1.1.0] - 2026-12-01\n",
        "CITATION.cff": "version: 1.2.0\ndate-released: 2027-01-31\n",
    }
    for name, text in texts.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    git = ("git", "-C", tmp_path, "-c", "user.name=a", "-c", "user.email=a@example.org")
    carry_out(*git, "init", "-q")
    commit(tmp_path)
    return tmp_path


def commit(tree: Path) -> None:
    git = (
        "git",
        "-C",
        tree,
        "-c",
        "user.name=a",
        "-c",
        "user.email=a@example.org",
        "-c",
        "commit.gpgsign=false",
    )
    carry_out(*git, "add", "-A")
    carry_out(*git, "commit", "-q", "-m", "All")
    carry_out(*git, "tag", "--force", "v1.2.0")


def test_a_tree_that_is_ready_misses_nothing(release: ModuleType, ready: Path):
    assert list(release.missing(ready)) == []


@pytest.mark.parametrize(
    ("file", "before", "after", "words"),
    [
        ("CHANGELOG.md", "## [1.2.0] - 2027-01-31", "## [1.2.0] - unreleased", "has no date"),
        ("CHANGELOG.md", "## [1.2.0] - 2027-01-31\n\n- Better.\n", "", "write the changes of 1.2.0"),
        ("CITATION.cff", "version: 1.2.0", "version: 1.1.0", "is of another version"),
        ("CITATION.cff", "2027-01-31", "2027-01-30", "date-released: 2027-01-31"),
        ("src/cvfp/__init__.py", "1.2.0", "1.3.0", "tag --annotate v1.3.0"),
    ],
)
def test_what_a_release_misses_is_said(
    release: ModuleType, ready: Path, file: str, before: str, after: str, words: str
):
    path = ready / file
    text = path.read_text(encoding="utf-8")
    assert before in text
    path.write_text(text.replace(before, after), encoding="utf-8")
    assert any("not committed" in line for line in release.missing(ready))
    commit(ready)
    assert any(words in line for line in release.missing(ready))
