"""What the documentation site generates when it is built, so that nothing is pasted: navigation, reference.

A line `<!-- generate: NAME -->` in a page becomes what `GENERATORS[NAME]` returns.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import inspect
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

MARKER = re.compile(r"^<!-- generate: (\w+) -->$", re.MULTILINE)
HELP_WIDTH = "82"
"""Columns of the help texts."""


def on_config(config: Any) -> Any:
    """Write out the `folder/*` of the navigation."""
    config.nav = list(_expanded(config.nav, Path(config.docs_dir)))
    return config


def _expanded(entries: list, docs: Path) -> Iterator[Any]:
    for entry in entries:
        if isinstance(entry, dict):
            yield {
                title: list(_expanded(inside, docs)) if isinstance(inside, list) else inside
                for title, inside in entry.items()
            }
        elif "*" in entry:
            pages = sorted(docs.glob(entry if entry.endswith(".md") else f"{entry}.md"))
            yield from (page.relative_to(docs).as_posix() for page in pages)
        else:
            yield entry


def on_page_markdown(markdown: str, **_context: Any) -> str:
    """Put what is generated where its marker stands."""
    return MARKER.sub(lambda found: GENERATORS[found[1]](), markdown)


def command_help() -> str:
    """`--help` of `cvfp` and of each of its commands."""
    from cvfp.cli.main import COMMANDS

    commands = ["", *(name for name in COMMANDS if name != "data"), "data stats", "data tokenize"]
    return "\n\n".join(
        f"## cvfp {command}".rstrip() + f"\n\n```text\n{_help(command.split())}\n```" for command in commands
    )


def _help(command: list[str]) -> str:
    from cvfp.cli.main import main

    printed, columns = io.StringIO(), os.environ.get("COLUMNS")
    os.environ["COLUMNS"] = HELP_WIDTH
    try:
        with contextlib.redirect_stdout(printed), contextlib.suppress(SystemExit):
            main([*command, "--help"])
    finally:
        if columns is None:
            del os.environ["COLUMNS"]
        else:
            os.environ["COLUMNS"] = columns
    return re.sub(r"\x1b\[[0-9;]*m", "", printed.getvalue()).strip()


def settings_tables() -> str:
    """Every config field by its dotted key: default and meaning."""
    from cvfp.records.config import RunConfig

    parts = [f"## the point\n\n{_settings_table(RunConfig, '', nested=False)}"]
    for name, field in RunConfig.model_fields.items():
        if inspect.isclass(field.annotation) and hasattr(field.annotation, "model_fields"):
            said = inspect.getdoc(field.annotation).replace("\n", " ")
            parts.append(f"## {name}\n\n{said}\n\n{_settings_table(field.annotation, f'{name}.')}")
    return "\n\n".join(parts)


def _settings_table(schema: type, prefix: str, nested: bool = True) -> str:
    texts = _attribute_docs(schema)
    rows = ["| key | default | meaning |", "| :--- | :--- | :--- |"]
    for name, field in schema.model_fields.items():
        if nested or not hasattr(field.annotation, "model_fields"):
            rows.append(f"| `{prefix}{name}` | {_default(field)} | {texts.get(name, '')} |")
    return "\n".join(rows)


def _default(field: Any) -> str:
    value = field.get_default(call_default_factory=True)
    return f"`{value}`".replace("|", "\\|")


def _attribute_docs(schema: type) -> dict[str, str]:
    """The text below each field of a class and of those it comes from."""
    found: dict[str, str] = {}
    for each in reversed([one for one in schema.__mro__ if one.__module__.startswith("cvfp.")]):
        (tree,) = ast.parse(inspect.getsource(each)).body
        for statement, following in zip(tree.body, [*tree.body[1:], None], strict=True):
            text = getattr(getattr(following, "value", None), "value", None)
            if isinstance(statement, ast.AnnAssign) and isinstance(text, str):
                found[statement.target.id] = " ".join(text.split()).replace("|", "\\|")
    return found


def public_names() -> str:
    """The docstrings of what `import cvfp` gives, and of `cvfp.scaling`."""
    parts = []
    for package in ("cvfp", "cvfp.scaling"):
        homes = importlib.import_module(package)._HOMES
        parts.append(f"## {package}")
        parts += [f"::: {homes[name]}.{name}" for name in sorted(homes, key=str.lower)]
    return "\n\n".join(parts)


GENERATORS: dict[str, Callable[[], str]] = {
    "command_help": command_help,
    "settings": settings_tables,
    "public_names": public_names,
}
