"""What an experiment varies: a preset or a user's TOML file, before it becomes a plan."""

from __future__ import annotations

import itertools
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from cvfp.lab.growth import Growth
from cvfp.records.arms import ARMS, DEFAULT_ARMS
from cvfp.records.config import dotted
from cvfp.records.errors import InputError
from cvfp.records.files import parse_toml, read_text
from cvfp.records.plan import Analysis
from cvfp.records.published import PUBLISHED_PROTOCOL
from cvfp.records.schema import Schema
from cvfp.records.tuning import TunedArm

OWN_SUFFIX = ".py"
"""What the name of an arm ends in that is a file of the user's."""
MOST_POINTS = 100_000
Settings = dict[str, Any]
"""Config fields by dotted key, e.g. {"model.context_dim": 256}."""


class SweepSpec(Schema):
    """Arms x variants x sizes x seeds, and the settings they share."""

    name: str
    """Names the default directory, so it is no path."""
    description: str = ""
    arms: tuple[str, ...] = DEFAULT_ARMS
    samples: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    largest_only: tuple[str, ...] = ()
    """Arms that run at the largest size alone: too slow for all of them."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """Number of draws of documents, by the seeds seed, seed + 1, ...; each drives an initialisation too."""
    inits: Annotated[int, Field(ge=1)] = 1
    """Initialisations per draw; the further ones have seeds of their own."""
    settings: Settings = {}
    variants: Annotated[tuple[Settings, ...], Field(min_length=1)] = ({},)
    """What tells the lines apart: one table of settings per line."""
    tuned: dict[str, TunedArm] = {}
    """Settings of single arms that a tuning chose; those of a variant, or set by the user, win over them."""
    analysis: Analysis = Analysis()

    @field_validator("name")
    @classmethod
    def _no_path(cls, value: str) -> str:
        if not re.fullmatch(r"\w[\w .-]*", value):
            allowed = "letters, digits, spaces and _ . - after a letter, a digit or _"
            raise ValueError(f"allowed are {allowed}, got {value!r}")
        return value

    @field_validator("arms", "samples")
    @classmethod
    def _each_once(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        for one, count in Counter(value).items():
            if count > 1:
                raise ValueError(f"{one} is given twice")
        return value

    @field_validator("arms")
    @classmethod
    def _known_arms(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        unknown = [arm for arm in value if arm not in ARMS and not arm.endswith(OWN_SUFFIX)]
        if unknown or not value:
            known = f"{', '.join(ARMS)}, or a .py file of your own"
            raise ValueError(f"unknown arm {', '.join(unknown) or '(none)'!r}; there are {known}")
        names = [Path(arm).stem for arm in value if arm.endswith(OWN_SUFFIX)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two files are named {name}{OWN_SUFFIX}: an arm goes by its file's name")
        return value

    @model_validator(mode="after")
    def _not_too_many(self) -> SweepSpec:
        points = len(self.arms) * len(self.variants) * len(self.samples) * self.seeds * self.inits
        if points > MOST_POINTS:
            raise ValueError(f"arms x variants x samples x seeds x inits: {points} points pass {MOST_POINTS}")
        return self

    def override(self, **changes: Any) -> SweepSpec:
        """A copy with the given fields replaced, validated. Raises `InputError`."""
        return SweepSpec.parse(self.model_dump() | changes, f"sweep {self.name!r}")

    def growing(self, growth: Growth) -> SweepSpec:
        """A copy with the sizes and the sliding windows of `growth`."""
        analysis = self.analysis.model_copy(update={"window_size": growth.window_size})
        return self.override(samples=growth.sizes, analysis=analysis)

    def with_settings(self, settings: Mapping[str, Any]) -> SweepSpec:
        """A copy in which `settings` win over the shared ones and over those of every variant."""
        variants = tuple(set_over(variant, settings) for variant in self.variants)
        unique = [v for index, v in enumerate(variants) if v not in variants[:index]]
        return self.override(settings=set_over(self.settings, settings), variants=tuple(unique))

    def as_published(self) -> SweepSpec:
        """A copy under the published protocol; capped points are part of its fits, as published."""
        return self.override(settings=self.settings | PUBLISHED_PROTOCOL).including_capped()

    @property
    def is_published(self) -> bool:
        """Whether the settings are the published protocol, on whatever corpus and embedding."""
        chosen = ("data.corpus", "embedding.source")
        return all(
            self.settings.get(key, "unset") == value
            for key, value in PUBLISHED_PROTOCOL.items()
            if key not in chosen
        )

    def including_capped(self) -> SweepSpec:
        """A copy whose fits use points that ended at their cap."""
        analysis = self.analysis.model_copy(update={"include_capped": True})
        return self.model_copy(update={"analysis": analysis})


def set_over(settings: Mapping[str, Any], further: Mapping[str, Any]) -> Settings:
    """Settings with others that win: a value for all sizes takes those for single sizes away."""
    gone = tuple(f"by_size.{key}." for key in further)
    return {key: value for key, value in settings.items() if not key.startswith(gone)} | dict(further)


def product(**axes: tuple[Any, ...]) -> tuple[Settings, ...]:
    """All combinations of model settings: `product(context_dim=(768, 1200))`."""
    keys = [f"model.{key}" for key in axes]
    return tuple(dict(zip(keys, values, strict=True)) for values in itertools.product(*axes.values()))


def read_spec(path: Path, presets: Mapping[str, SweepSpec]) -> SweepSpec:
    """A sweep from a TOML file; `preset = "v3"` takes that preset and changes what the file names.

    Keys are those of `SweepSpec`; `[settings]` and `[[variants]]` hold config sections, nested or dotted;
    `[growth]` holds the fields of `Growth` and stands in place of `samples`.

    Raises:
        InputError: not TOML (with the line), an unknown key or preset, or a value outside its range.
    """
    table = parse_toml(read_text(path), str(path))
    base = _base(table.pop("preset", None), presets, path)
    settings = _table(table.get("settings", {}), "settings", path)
    table["settings"] = set_over(base.get("settings", {}), settings)
    if "variants" in table:
        given = [_table(each, "variants", path) for each in _list(table["variants"], path)]
        table["variants"] = [set_over(settings, each) for each in given]
    else:
        table["variants"] = [set_over(variant, settings) for variant in base.get("variants", [{}])]
    growth = table.pop("growth", None)
    if growth is None:
        return SweepSpec.parse_json({"name": Path(path).stem} | base | table, str(path))
    if "samples" in table:
        raise InputError(f"{path}: samples and growth both give the sizes; keep one of them")
    grown = Growth.parse_json(growth, f"{path}, growth")
    table["samples"] = grown.sizes
    return SweepSpec.parse_json({"name": Path(path).stem} | base | table, str(path)).growing(grown)


def _base(preset: Any, presets: Mapping[str, SweepSpec], path: Path) -> dict[str, Any]:
    if preset is None:
        return {}
    if not isinstance(preset, str) or preset not in presets:
        raise InputError(f"{path}: unknown preset {preset!r}; there are {', '.join(presets)}")
    return presets[preset].model_dump(exclude={"name"})


def _table(value: Any, key: str, path: Path) -> Settings:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {key} must be a table of settings, got {value!r}")
    return dotted(value)


def _list(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{path}: variants must be an array of tables ([[variants]]), got {value!r}")
    return value
