"""What the documentation site generates when it is built, so that nothing is pasted: navigation, reference.

A line `<!-- generate: NAME -->` in a page becomes what `GENERATORS[NAME]` returns.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from mkdocs.structure.files import File, Files

SCHEMAS = "reference/schemas"
"""Where the site has the JSON Schemas."""
MARKER = re.compile(r"^<!-- generate: (\w+) -->$", re.MULTILINE)
HELP_WIDTH = "82"
"""Columns of the help texts."""


def on_config(config: Any) -> Any:
    """Write out the `folder/*` of the navigation."""
    config.nav = list(_expanded(config.nav, Path(config.docs_dir)))
    return config


def on_files(files: Files, config: Any) -> Files:
    """Add the JSON Schemas, which the reference links to."""
    from cvfp.lab.json_schema import SUFFIX, TITLES, shipped_schema

    for name in TITLES:
        path = f"{SCHEMAS}/{name}{SUFFIX}"
        files.append(File.generated(config, path, content=shipped_schema(name)))
    return files


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
    from cvfp.cli.commands import PLACES

    commands = ["", *(name for name in PLACES if name != "data"), "data stats", "data tokenize"]
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
    from cvfp.records.settings import all_settings, section_meaning

    sections: dict[str, list[str]] = {}
    for one in all_settings():
        row = f"| `{one.key}` | `{_escaped(one.default)}` | {_escaped(one.meaning)} |"
        sections.setdefault(one.section, []).append(row)
    header = ["| key | default | meaning |", "| :--- | :--- | :--- |"]
    return "\n\n".join(
        "\n".join([f"## {name}\n\n{section_meaning(name)}\n" if name else "## the point\n", *header, *rows])
        for name, rows in sections.items()
    )


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")


def public_names() -> str:
    """The docstrings of what `import cvfp` gives, and of `cvfp.scaling`."""
    parts = []
    for package in ("cvfp", "cvfp.scaling"):
        homes = importlib.import_module(package)._HOMES
        parts.append(f"## {package}")
        parts += [f"::: {homes[name]}.{name}" for name in sorted(homes, key=str.lower)]
    return "\n\n".join(parts)


def schemas_table() -> str:
    """A row per JSON Schema: its file, and what it describes."""
    from cvfp.lab.json_schema import SUFFIX, TITLES

    rows = [
        f"| [{name}{SUFFIX}]({SCHEMAS.rpartition('/')[2]}/{name}{SUFFIX}) | {title} | `cvfp schema {name}` |"
        for name, title in TITLES.items()
    ]
    return "\n".join(["| file | of what | printed by |", "| :--- | :--- | :--- |", *rows])


GENERATORS: dict[str, Callable[[], str]] = {
    "command_help": command_help,
    "settings": settings_tables,
    "public_names": public_names,
    "schemas": schemas_table,
}
