"""What a tuning found: per arm, the settings of the best of so many trials, on dev."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from pydantic import Field

from cvfp.records.errors import InputError
from cvfp.records.files import read_json
from cvfp.records.schema import Schema
from cvfp.records.values import Perplexity, Positive

TUNING = "tuning.json"


class TunedArm(Schema):
    """The choice for one arm: the trial with the lowest mean ln dev PPL over `samples`."""

    trials: Positive
    """Settings that were tried, the untuned ones among them."""
    failed: Annotated[int, Field(ge=0)] = 0
    """Of them, those that diverged at some size."""
    settings: dict[str, float | int]
    """The chosen ones, by dotted key."""
    dev_ppl: tuple[Perplexity, ...]
    """At each size, of the choice."""
    untuned_dev_ppl: tuple[Perplexity, ...] | None = None
    """At each size, of the settings that were there before; None where they diverged."""


class Tuning(Schema):
    """`tuning.json`: what every arm was given, and what it chose."""

    preset: str
    samples: tuple[Positive, ...]
    """Training documents at which every trial was run."""
    seeds: Positive
    arms: dict[str, TunedArm]


def read_tuning(directory: Path) -> Tuning:
    """The tuning in a directory that `cvfp tune` wrote. Raises `InputError`."""
    path = Path(directory) / TUNING
    if not path.is_file():
        raise InputError(
            f"{directory}: no finished tuning here (there is no {TUNING}); make one with cvfp tune"
        )
    return Tuning.parse_json(read_json(path), str(path))
