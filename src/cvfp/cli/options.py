"""What several commands share: options, reading what was typed into them, and printing tables."""

from __future__ import annotations

import json
import re
import sys
import tomllib
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Literal

import tyro
from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table
from rich.text import Text

from cvfp.records.errors import InputError
from cvfp.records.files import parse_toml


def optional(metavar: str, meaning: str) -> Any:
    """An option that need not be given: its help says neither None nor a default."""
    return tyro.conf.arg(metavar=metavar, help=meaning, help_behavior_hint="")


def one_of(*values: str) -> Any:
    """One of these words for an option that need not be given: an error lists them alone."""
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="|".join(values),
        instance_from_str=lambda words: words[0],
        is_instance=lambda value: value is None or value in values,
        str_from_instance=lambda value: [str(value)],
        choices=values,
    )


CORPORA = optional(
    "CORPUS [CORPUS ...]", "chitchat, ultrachat, hub:OWNER/NAME, or a path; several are read as one"
)
Corpora = Annotated[tuple[str, ...], CORPORA]
OtherCorpora = Annotated[tuple[str, ...] | None, CORPORA]
"""Instead of those of a preset."""
Embedding = Annotated[str | None, optional("random|gpt2|PATH", "the token table")]
Device = Annotated[str, tyro.conf.arg(metavar="auto|cpu|cuda|cuda:N|mps", help="where to compute")]
Devices = Annotated[
    str,
    tyro.conf.arg(
        metavar="auto|cpu|cuda|cuda:N|mps[,...]",
        help="where to compute: a process for each, more on a GPU that idles; auto and cuda take every GPU",
    ),
]
Executor = Annotated[
    Literal["local", "ray"],
    tyro.conf.arg(help="this machine, or the Ray cluster it is in (or RAY_ADDRESS names)"),
]
GpusPerPoint = Annotated[float | None, optional("SHARE", "on Ray: 0.5 lets two runs share a GPU, else 1")]
Growing = Annotated[
    tuple[str, ...] | None,
    optional(
        "start=N multiplier=X window_size=W num_windows=K",
        "sizes that grow by a factor, instead of --samples",
    ),
]
Retry = Annotated[bool, tyro.conf.arg(help="run again what failed")]
Json = Annotated[bool, tyro.conf.arg(name="json", help="print the answer as JSON")]
Lang = Annotated[Literal["en", "ja"], tyro.conf.arg(help="language of the report")]
SaveEvery = Annotated[
    float, tyro.conf.arg(metavar="SECONDS", help="between two savepoints inside a run, at least")
]
Set = Annotated[
    tuple[str, ...],
    tyro.conf.arg(
        name="set",
        metavar="KEY=VALUE [KEY=VALUE ...]",
        help="settings, by dotted key (cvfp settings lists them)",
        help_behavior_hint="",
    ),
]
TextField = Annotated[
    str | None, optional("NAME", "the field of records that holds the text (default: text or messages)")
]
Track = Annotated[
    tuple[Literal["tensorboard", "wandb", "trackio"], ...],
    tyro.conf.arg(
        metavar="tensorboard|wandb|trackio [...]",
        help="also show metrics and results there, as they come",
        help_behavior_hint="",
    ),
]


def split_list(values: Sequence[str]) -> tuple[str, ...]:
    """`("a,b", "c")` as `("a", "b", "c")`: lists may be typed with commas or spaces."""
    return tuple(part for value in values for part in value.split(",") if part)


def whole_numbers(values: Sequence[str], option: str) -> tuple[int, ...]:
    """The listed whole numbers. Raises `InputError` that names the option."""
    parts = split_list(values)
    for part in parts:
        if not re.fullmatch("[0-9]{1,18}", part):
            raise InputError(f"{option}: {part!r} is not a whole number of at most 18 digits")
    return tuple(int(part) for part in parts)


def given(**options: Any) -> dict[str, Any]:
    """The options that were given: those that are not None (a 0 was given)."""
    return {name: value for name, value in options.items() if value is not None}


def corpus_and_table(corpus: tuple[str, ...] | None, embedding: str | None) -> dict[str, Any]:
    """The settings of these two options; one corpus is a name, several are a list."""
    several = None if corpus is None else list(corpus)
    named = several[0] if several is not None and len(several) == 1 else several
    return given(**{"data.corpus": named, "embedding.source": embedding})


def settings_of(assignments: Sequence[str], option: str = "--set") -> dict[str, Any]:
    """`("model.context_dim=256",)` as `{"model.context_dim": 256}`. Values are TOML; bare words are text.

    Raises:
        InputError: an assignment without `=`, a key given twice; names the option.
    """
    settings = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals or not key:
            raise InputError(f"{option} {assignment!r}: write KEY=VALUE")
        if key.strip() in settings:
            raise InputError(f"{option}: {key.strip()} is given twice")
        settings[key.strip()] = _value(value.strip(), f"{option} {key.strip()}")
    return settings


def grid_of(assignments: Sequence[str], option: str = "--grid") -> dict[str, tuple[Any, ...]]:
    """`("dropout=0.2,0.4",)` as `{"dropout": (0.2, 0.4)}`. Raises `InputError` as `settings_of`."""
    found: dict[str, tuple[Any, ...]] = {}
    for assignment in assignments:
        key, equals, values = (part.strip() for part in assignment.partition("="))
        if not (key and equals and values):
            raise InputError(f"{option} {assignment!r}: write KEY=VALUE,VALUE,...")
        if key in found:
            raise InputError(f"{option}: {key} is given twice")
        found[key] = tuple(_value(part.strip(), f"{option} {key}") for part in values.split(","))
        for value in found[key]:
            if found[key].count(value) > 1:
                raise InputError(f"{option} {key}: {value} is given twice")
    return found


def _value(text: str, where: str) -> Any:
    if text.lower() in ("none", "null"):
        return None
    try:
        table = parse_toml(f"value = {text}", where)
    except InputError as error:
        if isinstance(error.__cause__, tomllib.TOMLDecodeError):
            return text
        raise
    return table["value"] if len(table) == 1 else text


def print_note(line: str) -> None:
    """Say something beside the answer."""
    print(f"cvfp: note: {line}", file=sys.stderr)


def print_json(value: Any) -> None:
    """Print JSON in ASCII: the same bytes whatever the encoding of the output is."""
    print(json.dumps(value, indent=1, allow_nan=False))


# --- Printing tables to a terminal or a pipe.


PIPE_WIDTH = 200
"""Columns to use where there is no terminal to ask."""


def print_table(
    title: str, header: Sequence[str], rows: Iterable[Sequence[object]], most: int | None = None
) -> None:
    """Print rows under a header; numbers are given as text, already rounded. Of more rows than `most` the
    first are printed, and how many are left."""
    rows = list(rows)
    left = 0 if most is None else max(0, len(rows) - most)
    rows = rows[: len(rows) - left]
    table = Table(title=Text(title), title_justify="left", header_style="bold")
    for name in header:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*(Text(str(cell)) for cell in row))
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(table)
    if left:
        print(f"... and {left} more rows; --json has all")


def print_markdown(text: str) -> None:
    """Print Markdown as a terminal shows it; as it is, but for its signs, where there is none."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PIPE_WIDTH)
    console.print(Markdown(text))


def value_text(value: object) -> str:
    """A figure as a person reads it: five digits of a float, thousands separated, lists with commas."""
    if isinstance(value, float):
        return f"{value:.5g}"
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    if isinstance(value, list | tuple):
        return ", ".join(value_text(part) for part in value)
    return str(value)
