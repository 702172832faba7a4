"""Sweeps (or published tables) as versions of one experiment, and which of their lines belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from cvfp.records.errors import InputError
from cvfp.records.published import published_sweep
from cvfp.records.sweep import load_sweep
from cvfp.report.lines import Line, report_lines

PUBLISHED = "published:"
"""Before the name of a published version where a sweep directory could stand."""

Key = Callable[[Line], tuple[object, ...]]
KEYS: tuple[tuple[str, Key], ...] = (
    ("{1}L_{2}d", lambda line: (line.arm, line.summary.num_layers, line.summary.context_dim)),
    (
        "{1}L_{2}d_{3}tok",
        lambda line: (
            line.arm,
            line.summary.num_layers,
            line.summary.context_dim,
            line.summary.num_input_tokens,
        ),
    ),
    ("{1}", lambda line: (line.arm, line.config_name)),
)
"""What lines of two versions must have in common to be set side by side, coarse to fine, and how that is
written. The coarsest that tells the lines of every version apart is taken: v1's and v3's width of 768 belong
together although one reads two tokens and the other one."""


@dataclass(frozen=True)
class Version:
    """A name and the lines that stand under it."""

    name: str
    lines: tuple[Line, ...]


@dataclass(frozen=True)
class Row:
    """One line per version, in the order of the versions; None where a version has none."""

    arm: str
    label: str
    lines: tuple[Line | None, ...]


def read_version(source: str) -> Version:
    """A sweep directory, or `published:v1`, as a version.

    Raises:
        InputError: as `load_sweep` and `published_sweep`; a sweep without any point.
    """
    if source.startswith(PUBLISHED):
        name = source.removeprefix(PUBLISHED)
        return Version(f"{name} (published)", tuple(report_lines(published_sweep(name))))
    lines = tuple(report_lines(load_sweep(Path(source))))
    if not lines:
        raise InputError(f"{source}: no point has a record yet: there is nothing to compare")
    return Version(Path(source).resolve().name, lines)


def rows_of(versions: Sequence[Version]) -> list[Row]:
    """The lines that belong together, in order of first appearance; arms without layers by their names."""
    for pattern, key in KEYS:  # noqa: B007 (the one that the loop ends at)
        by_key = [_by_key(version, key) for version in versions]
        if all(len(found) == len(version.lines) for found, version in zip(by_key, versions, strict=True)):
            break
    keys = dict.fromkeys(one for found in by_key for one in found)
    return [_row(pattern, one, tuple(found.get(one) for found in by_key)) for one in keys]


def _by_key(version: Version, key: Key) -> dict[tuple[object, ...], Line]:
    return {_key(line, key): line for line in version.lines}


def _key(line: Line, key: Key) -> tuple[object, ...]:
    return key(line) if line.summary.num_layers is not None else (line.arm, line.config_name)


def _row(pattern: str, key: tuple[object, ...], lines: tuple[Line | None, ...]) -> Row:
    arm, known = str(key[0]), next(line for line in lines if line is not None)
    label = known.config_name if known.summary.num_layers is None else pattern.format(*key)
    return Row(arm, label, lines)
