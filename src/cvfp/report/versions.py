"""Sweeps (or published tables) as versions of one experiment, and which of their lines belong together."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from cvfp.records.errors import InputError
from cvfp.records.published import published_sweep
from cvfp.records.results import PointRecord
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
    """A name, the lines that stand under it, and the fingerprints of the data that they were run on."""

    name: str
    lines: tuple[Line, ...]
    datasets: dict[str, str]

    @property
    def points(self) -> list[PointRecord]:
        """The rows of all its lines."""
        return [point for line in self.lines for point in line.points]


@dataclass(frozen=True)
class Row:
    """One line per version, in the order of the versions; None where a version has none."""

    arm: str
    label: str
    versions: tuple[str, ...]
    lines: tuple[Line | None, ...]

    @property
    def name(self) -> str:
        """Arm and label, the name of the row."""
        return f"{self.arm} {self.label}"


def read_version(source: str) -> Version:
    """A sweep directory, or `published:v1`, as a version.

    Raises:
        InputError: as `load_sweep` and `published_sweep`; a sweep without any point.
    """
    if source.startswith(PUBLISHED):
        return published_version(source.removeprefix(PUBLISHED))
    sweep = load_sweep(Path(source))
    lines = tuple(report_lines(sweep))
    if not lines:
        raise InputError(f"{source}: no run has a record yet: there is nothing to compare")
    return Version(Path(source).resolve().name, lines, sweep.metadata.datasets)


def published_version(name: str) -> Version:
    """The published tables of an experiment. Raises `InputError` for a name that is none."""
    return Version(f"{name} (published)", tuple(report_lines(published_sweep(name))), {})


def rows_of(versions: Sequence[Version]) -> list[Row]:
    """The lines that belong together, in order of first appearance; arms of other shapes by their names."""
    numbers = [len(version.lines) for version in versions]
    tried = [(pattern, [_by_key(version, key) for version in versions]) for pattern, key in KEYS]
    pattern, by_key = next((one for one in tried if [*map(len, one[1])] == numbers), tried[-1])
    keys = dict.fromkeys(one for found in by_key for one in found)
    names = tuple(version.name for version in versions)
    return [_row(pattern, one, names, tuple(found.get(one) for found in by_key)) for one in keys]


def labelled(row: Row) -> list[Line]:
    """The lines of a row under the names of their versions."""
    return [
        replace(line, label=version)
        for version, line in zip(row.versions, row.lines, strict=True)
        if line is not None
    ]


def _by_key(version: Version, key: Key) -> dict[tuple[object, ...], Line]:
    return {_key(line, key): line for line in version.lines}


def _key(line: Line, key: Key) -> tuple[object, ...]:
    return key(line) if line.summary.context_dim is not None else (line.arm, line.config_name)


def _row(
    pattern: str, key: tuple[object, ...], versions: tuple[str, ...], lines: tuple[Line | None, ...]
) -> Row:
    arm, known = str(key[0]), next(line for line in lines if line is not None)
    label = known.config_name if known.summary.context_dim is None else pattern.format(*key)
    return Row(arm, label, versions, lines)
