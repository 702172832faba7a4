"""Claims: what the documentation tells its readers to type works, and the site can be built."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import nbformat
import pytest
from docs_helpers import NO_CODE, ROOT, Block, Reader, blocks_of, docstring_blocks, tiny_model
from lab_helpers import TINY
from nbclient import NotebookClient

import cvfp
from cvfp.lab.json_schema import SUFFIX, TITLES, shipped_schema

pytestmark = pytest.mark.usefixtures("undrawn")

DOCS = ROOT / "docs"
PAGES = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    DOCS / "index.md",
    DOCS / "tutorial.md",
    *sorted(DOCS.glob("how-to/*.md")),
    *sorted(DOCS.glob("explanation/*.md")),
    DOCS / "reference" / "schemas.md",
]
SOURCE = Path(cvfp.__file__).parents[1]


def quick_but(long: Sequence[str], pages: list[Path]) -> list:
    return [pytest.param(page, marks=[pytest.mark.long] * (page.name in long)) for page in pages]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, corpus: Path) -> Path:
    return tiny_model(tmp_path_factory.mktemp("model") / "m", corpus)


@pytest.fixture
def reader(
    tmp_path: Path, whole: Path, model: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> Reader:
    return Reader(tmp_path, whole, model, monkeypatch)


def work_through(reader: Reader, blocks: list[Block]) -> None:
    reader.set_stage(blocks)
    for block in blocks:
        reader.carry_out(block)


TRAINING_PAGES = ("tutorial.md", "own-model.md", "trackers.md")
"""They train for a while."""
LONG_PAGES = (*TRAINING_PAGES, "two-cores.md", "generate.md", "own-data.md", "transformers.md")


def blocks_on(page: Path) -> list[Block]:
    return blocks_of(page.read_text(encoding="utf-8"))


@pytest.mark.parametrize("page", quick_but(LONG_PAGES, PAGES), ids=lambda page: page.name)
def test_every_code_block_of_a_page_works(reader: Reader, page: Path):
    work_through(reader, blocks_on(page))


@pytest.mark.parametrize("name", TRAINING_PAGES)
def test_what_a_long_page_trains_is_planned(reader: Reader, name: str):
    """Its files are written, and each command that trains goes up to where it would begin."""
    (page,) = [page for page in PAGES if page.name == name]
    assert reader.plan(blocks_on(page)) >= 1


@pytest.mark.long
@pytest.mark.parametrize(("language", "least"), [("bash", 13), ("python", 1)])
def test_every_example_in_a_docstring_works(
    reader: Reader, language: str, least: int, monkeypatch: pytest.MonkeyPatch
):
    """What they train is made tiny."""
    joint = {
        key: value for key, value in TINY.items() if key.startswith("joint.") or key == "model.embed_dim"
    }
    run = partial(cvfp.run, arms=["cvfp-joint", "kneser-ney"], samples=[3, 6], settings=joint, device="cpu")
    monkeypatch.setattr(cvfp, "run", run)
    monkeypatch.setattr(cvfp, "train", partial(cvfp.train, settings=joint, device="cpu"))
    blocks = [block for path in sorted(SOURCE.rglob("cvfp/**/*.py")) for block in docstring_blocks(path)]
    chosen = [block for block in blocks if block.language == language]
    assert len(chosen) >= least
    work_through(reader, chosen)


@pytest.mark.parametrize(
    "command",
    [
        "cvfp run v3 --smaples 5",
        "cvfp run v9",
        "cvfp run v3 --executor slurm",
        "cvfp train --out m --set model.width=3",
        "pip install 'cvfp[tarin]'",
        "torchrun --nproc 2 -m cvfp run v3 --outt x",
        "make dmeo",
        "python -m cvfp.nothing",
        "uv tool run --from dist/*.whl cvfp fti anybodys.csv",
        "wget somewhere",
    ],
)
def test_a_command_that_does_not_work_is_found_in_a_rehearsal(reader: Reader, command: str):
    with pytest.raises((AssertionError, SystemExit, subprocess.CalledProcessError)):
        work_through(reader, [Block(1, "bash", command, "a reason")])


def test_a_block_that_fails_is_found(reader: Reader):
    for block in (
        Block(1, "bash", "cvfp fit none.csv\ntrue\n"),
        Block(1, "ruby", "puts 1"),
        Block(1, "text", "cvfp run"),
    ):
        with pytest.raises(AssertionError):
            reader.carry_out(block)


def test_blocks_that_are_not_run_as_they_stand_say_why():
    page = "<!-- rehearse: needs a cluster -->\n```bash\na\n```\n\n    b\n\n<!-- else -->\n\n    c\n"
    assert [(block.text, block.reason) for block in blocks_of(page)] == [
        ("a\n", "needs a cluster"),
        ("b\n", None),
        ("c\n", None),
    ]


def commands_of(readme: str) -> list[tuple[str, str]]:
    """Language and text of the code blocks, without comments, which are translated."""
    blocks = [block for block in blocks_of(readme) if block.language not in NO_CODE]
    return [(block.language, re.sub(r" *# .*$", "", block.text, flags=re.MULTILINE)) for block in blocks]


def test_the_japanese_readme_has_the_code_and_the_figure_of_the_english_one():
    english, japanese = ((ROOT / name).read_text(encoding="utf-8") for name in ("README.md", "README.ja.md"))
    assert len(commands_of(english)) > 10
    assert commands_of(japanese) == commands_of(english)
    figures, same = (re.findall(r'src="(docs/results/\S+\.png)"', text) for text in (english, japanese))
    assert len(figures) == 2 and [name.replace(".ja.png", ".png") for name in same] == figures
    assert all((ROOT / name).is_file() for name in (*figures, *same))


OUTSIDE_THE_SITE = ("README.md", "README.ja.md", "CONTRIBUTING.md", "CODE_OF_CONDUCT.md", "SECURITY.md")


def test_links_of_pages_outside_the_site_lead_somewhere():
    """Anchors too, of which the site's own are looked at when it is built."""
    local = []
    for name in OUTSIDE_THE_SITE:
        text = (ROOT / name).read_text(encoding="utf-8")
        links = [link.partition("#") for link in re.findall(r"\]\(([^)]+)\)", text)]
        local += [(name, path or name, anchor) for path, _, anchor in links if "://" not in path]
    assert len(local) > 30
    assert [link for link in local if not (ROOT / link[1]).exists()] == []
    for _, path, anchor in local:
        headings = re.findall(r"^#+ (.+)$", (ROOT / path).read_text("utf-8"), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"\W+", "-", heading.lower()) for heading in headings}, anchor


@pytest.mark.long
def test_the_notebook_runs_and_shows_its_figures():
    notebook = nbformat.read(DOCS / "notebooks" / "quickstart.ipynb", as_version=4)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", str(SOURCE))
        NotebookClient(notebook, timeout=600, kernel_name="python3").execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert "kneser-ney" in str(outputs)
    assert sum("image/png" in output.get("data", {}) for output in outputs) == 2


def test_the_notebook_is_kept_without_outputs_and_imports_what_there_is(reader: Reader):
    notebook = nbformat.read(DOCS / "notebooks" / "quickstart.ipynb", as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) > 3 and not any(cell.outputs for cell in cells)
    for cell in cells:
        reader.carry_out(Block(1, "python", cell.source, "trains"))


@pytest.mark.long
def test_the_site_builds_without_a_warning_and_asks_nothing_of_other_sites(tmp_path: Path):
    environment = os.environ | {"PYTHONPATH": str(SOURCE), "NO_MKDOCS_2_WARNING": "1"}
    build = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", tmp_path / "site"]
    done = subprocess.run(build, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    pages = {path: path.read_text(encoding="utf-8") for path in (tmp_path / "site").rglob("*.html")}
    assert not any(
        re.search(r"<(?:script|img|link)[^>]+(?:src|href)=\"?https?:", page) for page in pages.values()
    )
    reference = tmp_path / "site" / "reference"
    assert "--gpus-per-point" in pages[reference / "cli.html"]
    assert "phase1.dist_reg_weight" in pages[reference / "settings.html"]
    assert "fit_power_law" in pages[reference / "api.html"]
    for name in TITLES:
        assert f"schemas/{name}{SUFFIX}" in pages[reference / "schemas.html"]
        assert (reference / "schemas" / f"{name}{SUFFIX}").read_text("utf-8") == shipped_schema(name)
    assert not any("generate: " in page for page in pages.values())


HELP = """
import sys
from cvfp.cli.main import main
try:
    main(["--help"])
finally:
    print(sorted({"torch", "numpy", "scipy", "matplotlib", "plotly"} & sys.modules.keys()), file=sys.stderr)
"""


def test_help_imports_nothing_that_takes_long():
    done = subprocess.run([sys.executable, "-c", HELP], check=True, capture_output=True, text=True)
    assert "usage: cvfp" in done.stdout and done.stderr == "[]\n"
