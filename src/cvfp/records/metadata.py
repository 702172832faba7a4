"""Where, when and on what data a sweep ran: `metadata.json`."""

from __future__ import annotations

from typing import Annotated

from pydantic import ConfigDict, Field

from cvfp.records.schema import Schema


class Environment(Schema):
    """Software and machine. None: not known there (a commit, of an installed package)."""

    cvfp: str
    commit: str | None
    python: str
    packages: dict[str, str | None]
    """Versions by name; None: not installed."""
    device: str
    cores: int | None
    platform: str


class TextSize(Schema):
    """How much text; figures beyond these three are kept, and not read."""

    model_config = ConfigDict(extra="allow")

    documents: Annotated[int, Field(ge=0)]
    tokens: Annotated[int, Field(ge=0)]
    bytes: Annotated[int, Field(ge=0)]


class DataStats(Schema):
    """What a data set holds; figures beyond these are kept, and not read."""

    model_config = ConfigDict(extra="allow")

    corpus: str
    tokenizer: str
    splits: dict[str, TextSize]


class Metadata(Schema):
    """`metadata.json`; a sweep that has not begun knows nothing yet."""

    environments: tuple[Environment, ...] = ()
    """One for each distinct machine and software that took part."""
    started: str | None = None
    wall_seconds: Annotated[float, Field(ge=0)] | None = None
    """While a process was at work on it: the length of `busy`."""
    busy: tuple[tuple[float, float], ...] = ()
    """From when to when that was, in seconds since the epoch; short breaks are left out."""
    datasets: dict[str, str] = {}
    """Fingerprints by name: a resumed sweep must find the same."""
    data: tuple[DataStats, ...] = ()
    notes: tuple[str, ...] = ()
    """What the data layer noted: documents left out, a tokenizer that loses text."""
