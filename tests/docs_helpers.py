"""Code blocks of the documentation, and a reader who carries them out.

Blocks run as they stand: shell blocks by bash with `cvfp` on the path (in this process, if there is nothing
but plain `cvfp` in them), Python blocks one after the other in one namespace, all of a page in one directory.
What cannot be (hours of training, a GPU, a cluster, a download) says so above it, with the reason:

    <!-- rehearse: needs a cluster -->

Such a block is rehearsed line by line, by `Rehearsal`: everything of a command is real but its long work.
"""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

import pytest
from lab_helpers import TINY_TWO_PHASES, write_corpus
from markdown_it import MarkdownIt

import cvfp
from cvfp.cli.main import main

ROOT = Path(__file__).parents[1]
SHELL = ("bash", "")
"""Languages of shell blocks: an indented block has none."""
NO_CODE = ("text",)
"""Formulas and output."""
MARK = re.compile(r"<!-- rehearse: (.+) -->\s*")
CHECKS_HEALTH = "diagnose"
"""The command whose exit code 1 is a finding: a tiny model is not healthy."""
COMMANDS = ("cvfp", "git", "hf", "make", "pip", "pipx", "python", "sbatch", "torchrun", "uv")
COMMAND_LINE = "an example of the command line"
LONG_WORK = ("quickstart", "run", "tune", "train")
TRAINS = re.compile(rf"cvfp ({'|'.join(LONG_WORK)})\b")
HERE_DOCUMENT = re.compile(r"^cat > (?P<name>\S+) <<'END'\n(?P<text>.*?)^END\n", re.MULTILINE | re.DOTALL)


def lines_of(script: str) -> list[str]:
    """A line per command."""
    return script.replace("\\\n", " ").splitlines()


@dataclass(frozen=True)
class Block:
    """Code, the line it begins at, and why it is only rehearsed (None: it is not)."""

    line: int
    language: str
    text: str
    reason: str | None = None


def blocks_of(markdown: str) -> list[Block]:
    """All code blocks of a page, in order."""
    found, reason = [], None
    for token in MarkdownIt("commonmark").parse(markdown):
        if token.type in ("fence", "code_block"):
            found.append(Block(token.map[0] + 1, token.info.strip(), token.content, reason))
        mark = MARK.fullmatch(token.content) if token.type == "html_block" else None
        reason = None if mark is None else mark[1]
    return found


def docstring_blocks(path: Path) -> Iterator[Block]:
    """The examples in the docstrings of a module: indented code, and commands, which are all rehearsed.

    Other indented blocks are formulas; code that hides among them is an error.
    """
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            continue
        text = ast.get_docstring(node) or ""
        assert ">>>" not in text, f"{path}: doctests are not run"
        for command in re.findall(r"^Example: (.+)$", text, re.MULTILINE):
            yield Block(getattr(node, "lineno", 1), "bash", command, COMMAND_LINE)
        for block in blocks_of(text):
            if block.text.split()[0] in COMMANDS:
                yield replace(block, language="bash", reason=block.reason or COMMAND_LINE)
            elif "import " in block.text:
                yield replace(block, language="python")
            else:
                assert "cvfp" not in block.text, f"{path}: {block.text}"


class Rehearsed(Exception):
    """Raised where the long work of a command would begin: all before it was fine."""


def _stop(*_arguments: Any, **_options: Any) -> NoReturn:
    raise Rehearsed


class Reader:
    """Works through one page in `directory`, which holds what a page says that its reader has."""

    def __init__(self, directory: Path, sweep: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.directory, self.sweep, self.model, self.patch = directory, sweep, model, monkeypatch
        self.namespace: dict[str, Any] = {}
        self.environment = os.environ | {"HF_HUB_OFFLINE": "1", "PATH": self._path(), "COLUMNS": "120"}
        monkeypatch.chdir(directory)

    def _path(self) -> str:
        tools = self.directory / ".tools"
        tools.mkdir()
        command = tools / "cvfp"
        source = Path(cvfp.__file__).parents[1]
        command.write_text(f'#!/bin/sh\nPYTHONPATH={source} exec {sys.executable} -m cvfp "$@"\n')
        command.chmod(0o755)
        return f"{tools}{os.pathsep}{os.environ['PATH']}"

    def set_stage(self, blocks: list[Block]) -> None:
        """Put there what pages take for given: texts, tables, sweeps that were run, their own TOML file."""
        for name in ("Makefile", "constraints.txt", "pyproject.toml", "examples"):
            (self.directory / name).symlink_to(ROOT / name)
        (self.directory / "my-folder").mkdir()
        write_corpus(self.directory / "my-folder", documents=120)
        for name in ("text.txt", "some-text.txt"):
            (self.directory / name).write_text("Good morning. How are you today? " * 40)
        for name in ("anybodys.csv", "results.csv"):
            rows = "".join(f"a,{1000 * 2**k},{round(400 * 0.8**k, 1)}\n" for k in range(6))
            (self.directory / name).write_text(f"config_name,tokens,val_ppl\n{rows}")
        code = "".join(block.text for block in blocks)
        for name in ("my-sweep", "sweep-1", "sweep-2", "cvfp-runs/v1", "cvfp-runs/v2", "cvfp-runs/v3"):
            if name in code:
                shutil.copytree(self.sweep, self.directory / name)
        if "my-model" in code and not re.search(r'(--out |train\(")my-model', code):
            shutil.copytree(self.model, self.directory / "my-model")
        shutil.copytree(ROOT / "docs" / "results" / "tuning" / "by-size", self.directory / "tuning")
        for block in blocks:
            if block.language == "toml":
                (self.directory / "my-sweep.toml").write_text(block.text, encoding="utf-8")

    def carry_out(self, block: Block) -> None:
        """Run one block, or rehearse it. Raises what goes wrong."""
        if block.language in SHELL:
            subprocess.run(["bash", "-n", "-c", block.text], check=True)
            if block.reason is None:
                self._shell(block.text)
            else:
                Rehearsal(self).script(block.text)
        elif block.language == "python":
            code = compile(block.text, f"line {block.line}", "exec")
            if block.reason is None:
                exec(code, self.namespace)
            else:
                _import_ours(block.text)
        elif block.language == "toml":
            Rehearsal(self).cvfp(["run", "my-sweep.toml"])
        else:
            assert block.language in NO_CODE, f"line {block.line}: no way to run {block.language!r}"
            assert block.text.split()[0] not in COMMANDS, f"line {block.line}: a command is no text"

    def plan(self, blocks: list[Block]) -> int:
        """Write the files of a page, and rehearse its commands that train; returns how many there are."""
        self.set_stage(blocks)
        planned = 0
        for block in blocks:
            if block.language == "python":
                if "mkdir" in block.text or "write" in block.text:
                    exec(compile(block.text, f"line {block.line}", "exec"), self.namespace)
                else:
                    _import_ours(block.text)
            elif block.language in SHELL:
                script = HERE_DOCUMENT.sub(self._write_down, block.text)
                trains = [line for line in lines_of(script) if TRAINS.match(line)]
                Rehearsal(self).script("\n".join(trains))
                planned += len(trains)
        return planned

    def _write_down(self, found: re.Match[str]) -> str:
        Path(found["name"]).write_text(found["text"], encoding="utf-8")
        return ""

    def _shell(self, text: str) -> None:
        """Nothing but plain commands of ours runs here, where all is imported; bash runs anything else."""
        lines = [shlex.split(line, comments=True) for line in lines_of(text)]
        commands = [words for words in lines if words]
        if any(words[0] != "cvfp" for words in commands) or re.search(r"[|<>&;$`*]", text):
            self._bash(text)
            return
        with self.patch.context() as patch:
            patch.setenv("HF_HUB_OFFLINE", "1")
            for words in commands:
                try:
                    code = main(words[1:])
                except SystemExit as leaving:  # as --help does
                    code = leaving.code
                assert code == 0, f"{shlex.join(words)} ended with {code}"

    def _bash(self, text: str) -> None:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", text],
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=600,
        )
        assert done.returncode == 0, f"{text}\n{done.stdout[-1000:]}\n{done.stderr[-3000:]}"


def _import_ours(text: str) -> None:
    """Look up every name of this package that the code imports."""
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("cvfp"):
            module = importlib.import_module(node.module)
            assert all(hasattr(module, alias.name) for alias in node.names)


def _and_then(words: list[str]) -> Iterator[list[str]]:
    """The commands of a line, which `&&` joins."""
    while "&&" in words:
        place = words.index("&&")
        yield words[:place]
        words = words[place + 1 :]
    if words:
        yield words


class Rehearsal:
    """Commands that a page may not be taken at its word for; a command that is not among them is an error."""

    def __init__(self, reader: Reader) -> None:
        self.reader = reader

    def script(self, text: str) -> None:
        for line in lines_of(text):
            for words in _and_then(shlex.split(line, comments=True)):
                self._command(line, words)

    def _command(self, line: str, words: list[str]) -> None:
        while words and re.fullmatch(r"\w+=.*|nice", words[0]):
            words = words[1:]
        if words:
            names = {".": "activate", "python3": "python"}
            command = names.get(words[0], Path(words[0]).name.replace("-", "_"))
            rehearse = getattr(self, command, None)
            assert rehearse is not None, f"no way to rehearse {line!r}"
            rehearse(words[1:])

    def git(self, words: list[str]) -> None:
        """A folder is made of a repository, and entered."""
        assert words[0] == "clone" and len(words) == 3

    def cd(self, words: list[str]) -> None:
        """The page's own files are where the reader is already."""

    def pre_commit(self, words: list[str]) -> None:
        assert words == ["install"] and (ROOT / ".pre-commit-config.yaml").is_file()

    def uv(self, words: list[str]) -> None:
        """A command out of the wheel that was built."""
        assert words[:4] == ["tool", "run", "--from", "dist/*.whl"] and words[4] == "cvfp"
        self.cvfp(words[5:])

    def pipx(self, words: list[str]) -> None:
        """A command out of the wheel that was built."""
        assert words[:3] == ["run", "--spec", "dist/*.whl"] and words[3] == "cvfp"
        self.cvfp(words[4:])

    def cvfp(self, words: list[str]) -> None:
        """All of it, on the CPU, up to where training or measuring the machine would begin."""
        words = [
            "cpu" if before == "--device" else word for before, word in zip(["", *words], words, strict=False)
        ]
        with self.reader.patch.context() as patch:
            for name in ("executors.run_on_devices", "executors.run_on_ray", "single.open_dataset"):
                patch.setattr(f"cvfp.lab.{name}", _stop)
            try:
                code = main(words)
            except Rehearsed:
                assert words[0] in LONG_WORK
                self._leave_behind(words)
            else:
                assert code == 0 or words[0] == CHECKS_HEALTH, f"cvfp {shlex.join(words)} ended with {code}"

    def _leave_behind(self, words: list[str]) -> None:
        """What a later line of the page reads: a finished sweep, a model."""
        if "--out" in words:
            out = Path(words[words.index("--out") + 1])
            if not out.is_absolute() and not out.exists():
                shutil.copytree(self.reader.model if words[0] == "train" else self.reader.sweep, out)

    def torchrun(self, words: list[str]) -> None:
        """Its options are parsed by torch's own parser."""
        from torch.distributed.run import get_args_parser

        found = get_args_parser().parse_args(words)
        assert found.module and found.training_script == "cvfp"
        self.cvfp(found.training_script_args)

    def sbatch(self, words: list[str]) -> None:
        """A job script with options for Slurm, whose lines are rehearsed in turn."""
        (name,) = words
        text = Path(name).read_text(encoding="utf-8")
        assert text.startswith("#!/bin/bash\n#SBATCH --")
        subprocess.run(["bash", "-n", name], check=True)
        self.script(text)

    def make(self, words: list[str]) -> None:
        """What it would do is printed."""
        subprocess.run(["make", "-n", *words], cwd=ROOT, check=True, capture_output=True)

    def pip(self, words: list[str]) -> None:
        """The files and the extras exist."""
        assert words.pop(0) == "install"
        if "-c" in words:
            constraints = words.pop(words.index("-c") + 1)
            assert Path(constraints).is_file()
        known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
        for word in words:
            requirement = re.fullmatch(r"(?:\.|cvfp)(?:\[([\w,]+)\])?", word)
            assert requirement or word in ("-c", "-e"), f"pip install {word}"
            if requirement and requirement[1]:
                assert set(requirement[1].split(",")) <= set(known)

    def python(self, words: list[str]) -> None:
        """There is such a module; and such tests, where it is pytest."""
        assert words[0] == "-m" and importlib.util.find_spec(words[1]) is not None
        assert words[1] != "pytest" or all((ROOT / path).exists() for path in words[2:])

    def hf(self, words: list[str]) -> None:
        """The hub's command line has such a command."""
        command = [Path(sys.executable).with_name("hf"), words[0], "--help"]
        subprocess.run(command, check=True, capture_output=True)

    def activate(self, words: list[str]) -> None:
        assert words == [".venv/bin/activate"]


def tiny_model(path: Path, corpus: Path) -> Path:
    """A checkpoint, trained in a second."""
    settings = TINY_TWO_PHASES | {"data.corpus": str(corpus)}
    cvfp.train(path, samples=8, settings=settings, device="cpu", arm="cvfp")
    return path
