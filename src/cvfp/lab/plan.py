"""From a spec, which says what an experiment varies, to a plan, which lists its points.

A pure function, so that a plan can be shown before anything runs.
"""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator

from cvfp.records.arms import ARM_KINDS, ARMS, DEFAULT_ARMS, arm_kind
from cvfp.records.config import RunConfig, dotted
from cvfp.records.errors import InputError, near
from cvfp.records.files import parse_toml, read_text
from cvfp.records.plan import Analysis, Plan, PlannedPoint, TunedArm, tuned_at, with_choice
from cvfp.records.published import PUBLISHED_PROTOCOL
from cvfp.records.schema import Schema, digest

# --- Sizes that grow by a constant factor: how an exponent's dependence on data is studied.


LARGEST = 10**9
"""More training documents than any corpus here holds."""


class Growth(Schema):
    """Sizes start, start * multiplier, ...: just enough of them for `num_windows` sliding windows.

    A window holds `window_size` consecutive sizes and moves on by one, so there are
    window_size + num_windows - 1 sizes, each rounded to a whole number of documents.
    """

    start: Annotated[int, Field(ge=1)]
    """The smallest size, in training documents."""
    multiplier: Annotated[float, Field(gt=1)]
    """From one size to the next."""
    window_size: Annotated[int, Field(ge=2, le=100)]
    """Consecutive sizes of a window."""
    num_windows: Annotated[int, Field(ge=1, le=100)] = 1
    """How many windows there are."""

    @model_validator(mode="after")
    def _sizes_grow(self) -> Growth:
        if math.log(self.start) + (self.num_sizes - 1) * math.log(self.multiplier) > math.log(LARGEST):
            raise ValueError(
                f"{self.num_sizes} sizes from {self.start} by {self.multiplier:g} pass {LARGEST}"
            )
        if any(after <= before for before, after in pairwise(self.sizes)):
            raise ValueError(f"multiplier: {self.multiplier:g} gives the same size twice: {self.sizes}")
        return self

    @property
    def num_sizes(self) -> int:
        return self.window_size + self.num_windows - 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of training documents, smallest first."""
        return tuple(round(self.start * self.multiplier**step) for step in range(self.num_sizes))


# --- What an experiment varies: a preset or a user's TOML file, before it becomes a plan.


OWN_SUFFIX = ".py"
"""What the name of an arm ends in that is a file of the user's."""
MOST_POINTS = 100_000
DEVICES = {
    "CON",
    "PRN",
    "AUX",
    "NUL",
    *(f"{port}{number}" for port in ("COM", "LPT") for number in range(10)),
}
"""Names that Windows keeps for devices, with any suffix; a sweep is to lie on every system."""
Settings = dict[str, Any]
"""Config fields by dotted key, e.g. {"model.context_dim": 256}."""


class SweepSpec(Schema):
    """Arms x variants x sizes x seeds, and the settings they share."""

    name: str
    """Names the default directory, so it is no path."""
    description: str = ""
    """What it asks, in a line."""
    arms: tuple[str, ...] = DEFAULT_ARMS
    """The models that are compared: names, or .py files of your own."""
    samples: Annotated[tuple[Annotated[int, Field(ge=1)], ...], Field(min_length=1)]
    """Numbers of training documents."""
    largest_only: tuple[str, ...] = ()
    """Arms that run at the largest size alone: too slow for all of them."""
    seeds: Annotated[int, Field(ge=1)] = 1
    """Number of draws of documents, by the seeds seed, seed + 1, ...; each drives an initialisation too."""
    inits: Annotated[int, Field(ge=1)] = 1
    """Initialisations per draw; the further ones have seeds of their own."""
    settings: Settings = {}
    variants: Annotated[tuple[Settings, ...], Field(min_length=1)] = ({},)
    """What tells the lines apart: one table of settings per line. `name`, or `name.ARM` for one arm, is what
    the line is called instead of by its settings; it is no setting."""
    tuned: dict[str, TunedArm] = {}
    """Settings of single arms that a tuning chose; those of a variant, or set by the user, win over them."""
    analysis: Analysis = Analysis()
    """What is computed of the results."""

    @field_validator("name")
    @classmethod
    def _no_path(cls, value: str) -> str:
        if not re.fullmatch(r"\w[\w .-]*", value):
            allowed = "letters, digits, spaces and _ . - after a letter, a digit or _"
            raise ValueError(f"allowed are {allowed}, got {value!r}")
        if value[-1] in " ." or value.partition(".")[0].rstrip().upper() in DEVICES:
            raise ValueError(f"Windows has no folder {value!r}; give another name")
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
            meant = near(unknown[0], ARMS) if unknown else ""
            raise ValueError(f"unknown arm {', '.join(unknown) or '(none)'!r}{meant}; there are {known}")
        names = [Path(arm).stem for arm in value if arm.endswith(OWN_SUFFIX)]
        for name in names:
            if names.count(name) > 1:
                raise ValueError(f"two files are named {name}{OWN_SUFFIX}: an arm goes by its file's name")
        return value

    @model_validator(mode="after")
    def _not_too_many(self) -> SweepSpec:
        points = len(self.arms) * len(self.variants) * len(self.samples) * self.seeds * self.inits
        if points > MOST_POINTS:
            raise ValueError(f"arms x variants x samples x seeds x inits: {points} runs pass {MOST_POINTS}")
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


COUNTED_IN_STEPS = frozenset(kind.training_section for kind in ARM_KINDS.values()) - {None}
"""Sections whose training is as long as its epochs say, or its steps where they are set."""


def set_over(settings: Mapping[str, Any], further: Mapping[str, Any]) -> Settings:
    """Settings with others that win: a value for all sizes takes those for single sizes away, and a number of
    epochs takes away a number of steps, under which it would have no say."""
    steps = [
        f"{section}.steps"
        for section, _dot, field in (key.rpartition(".") for key in further)
        if field == "epochs" and section in COUNTED_IN_STEPS
    ]
    gone = tuple(f"by_size.{key}." for key in (*further, *steps))
    kept = {key: value for key, value in settings.items() if key not in steps and not key.startswith(gone)}
    return kept | dict(further)


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
        raise InputError(
            f"{path}: unknown preset {preset!r}{near(str(preset), presets)}; there are {', '.join(presets)}"
        )
    return presets[preset].model_dump(exclude={"name"})


def _table(value: Any, key: str, path: Path) -> Settings:
    if not isinstance(value, dict):
        raise InputError(f"{path}: {key} must be a table of settings, got {value!r}")
    return dotted(value)


def _list(value: Any, path: Path) -> list[Any]:
    if not isinstance(value, list):
        raise InputError(f"{path}: variants must be an array of tables ([[variants]]), got {value!r}")
    return value


# --- From a spec to a plan.


MIXTURE = "mixture"
RESERVED = frozenset({"arm", "data.num_samples", "data.draw_seed"})
"""Fields of a run's config that are no settings: the sweep varies them."""
LINE_VARIES = ("data.num_samples", "data.draw_seed", "seed")
"""What differs between the points of one line."""
HELD_OUT = tuple(
    f"data.{field}"
    for field in (
        "corpus",
        "text_field",
        "document_separator",
        "document_tokens",
        "split",
        "split_seed",
        "dev_documents",
        "test_documents",
        "test_tokens",
    )
)
"""What decides the dev and test texts: one for all lines, or their scores would not compare."""


def make_plan(spec: SweepSpec) -> Plan:
    """Every point of the sweep, each once, line after line and small sizes first.

    Variants that an arm cannot tell apart (an n-gram has no context_dim) are one line of it.

    Raises:
        InputError: a setting that does not exist or is outside its range; lines with other test texts.
    """
    configs: dict[str, RunConfig] = {}
    for arm in sorted(spec.arms, key=lambda arm: arm == MIXTURE):  # what is mixed comes first
        for variant in spec.variants:
            for config in _line(spec, arm, variant):
                config = _mixing(config, configs, spec.name) if arm == MIXTURE else config
                configs.setdefault(config.run_hash, config)
    _check_one_test_text(spec.name, list(configs.values()))
    names = line_names(list(configs.values())) | _given_names(spec)
    points = tuple(
        PlannedPoint(config_name=names[c.config_hash], config=c, tuned_trials=_tuned_trials(spec, c))
        for c in configs.values()
    )
    return Plan(
        name=spec.name,
        description=spec.description,
        protocol="published" if spec.is_published else "standard",
        points=points,
        analysis=spec.analysis,
    )


def require_read(plan: Plan, settings: Mapping[str, Any]) -> None:
    """Raise `InputError` for a setting that no model of the plan reads: it would change nothing."""
    arms = list(dict.fromkeys(point.config.arm for point in plan.points))
    read = {key for config in _firsts(plan) for key in dotted(config.read())}
    for key in settings:
        if key not in read and not any(other.startswith(f"{key}.") for other in read):
            near = sorted(other for other in read if other.rpartition(".")[2] == key.rpartition(".")[2])
            told = f"; there is {near[0]}" if near else ""
            raise InputError(f"--set {key}: {', '.join(arms)} would not read it{told}")


def _firsts(plan: Plan) -> list[RunConfig]:
    """A config of every line."""
    return list({point.config.config_hash: point.config for point in plan.points}.values())


def extended(plan: Plan, samples: Sequence[int] | None, seeds: int | None) -> Plan:
    """The plan with more seeds, or more sizes: every line at each of its sizes and the new, with each seed.

    Args:
        plan: of a sweep that is there; all of its points stay.
        samples: numbers of training documents, in addition to those it has.
        seeds: how many there are to be; new ones follow the largest.

    Raises:
        InputError: fewer seeds than there are; more of a plan with several initialisations of a draw; a size
            below 1.
    """
    if samples and min(samples) < 1:
        raise InputError(f"--samples {min(samples)}: must be at least 1 document")
    draws = list(dict.fromkeys((point.config.seed, point.config.data.draw_seed) for point in plan.points))
    if seeds is not None:
        if any(draw is not None for _seed, draw in draws):
            raise InputError("--seeds: this sweep has several initialisations of a draw; run its preset anew")
        if seeds < len(draws):
            raise InputError(f"--seeds {seeds}: the sweep has {len(draws)} already; give at least as many")
        largest = max(seed for seed, _draw in draws)
        draws += [(largest + number, None) for number in range(1, seeds - len(draws) + 1)]
    lines = {point.config.config_hash: point for point in reversed(plan.points)}
    own: dict[str, set[int]] = {}
    for point in plan.points:
        own.setdefault(point.config.config_hash, set(samples or ())).add(point.config.data.num_samples)
    found = {point.config.run_hash: point for point in plan.points}
    for line in reversed(lines.values()):
        for size in sorted(own[line.config.config_hash]):
            for seed, draw in draws:
                data = line.config.data.model_copy(update={"num_samples": size, "draw_seed": draw})
                config = line.config.model_copy(update={"data": data, "seed": seed})
                found.setdefault(config.run_hash, line.model_copy(update={"config": config}))
    return plan.model_copy(update={"points": tuple(found.values())})


def _mixing(config: RunConfig, others: dict[str, RunConfig], name: str) -> RunConfig:
    """A mixture with the lines that it is made of: the first one of each arm. Raises `InputError`."""
    lines = []
    at = (config.data.num_samples, config.seed)
    there = {(other.config_hash, other.data.num_samples, other.seed) for other in others.values()}
    for arm in config.mixture.arms:
        first = next((other for other in others.values() if other.arm == arm), None)
        if first is None or (first.config_hash, *at) not in there:
            missing = (
                f"{arm!r} is not among its arms" if first is None else f"{arm!r} does not run at {at[0]}"
            )
            raise InputError(
                f"sweep {name!r}: arm mixture mixes {' and '.join(config.mixture.arms)}; {missing}"
            )
        lines.append(first.config_hash)
    return config.model_copy(update={"mixture": config.mixture.model_copy(update={"lines": tuple(lines)})})


def _check_one_test_text(name: str, configs: Sequence[RunConfig]) -> None:
    first = dotted(configs[0].model_dump())
    for config in configs[1:]:
        now = dotted(config.model_dump())
        for key in HELD_OUT:
            if now[key] != first[key]:
                raise InputError(
                    f"sweep {name!r}: {key} differs between lines ({first[key]!r}, {now[key]!r}), but lines "
                    "of a sweep share one test text; run a sweep for each and compare their exponents"
                )


def _line(spec: SweepSpec, arm: str, variant: dict[str, Any]) -> list[RunConfig]:
    tuned = spec.tuned[arm].settings if arm in spec.tuned else {}
    variant = {key: value for key, value in variant.items() if not _is_name(key)}
    settings, where = set_over(with_choice(spec.settings, tuned), variant), f"sweep {spec.name!r}"
    reserved = sorted(RESERVED & settings.keys())
    if reserved:
        raise InputError(f"{where}: {reserved[0]!r} is what the sweep varies; use arms, samples and inits")
    settings = _of_arm(arm, spec.arms, settings, where)
    first_seed, configs = RunConfig.from_settings(settings, where).seed, []
    for num_samples in sorted(spec.samples)[-1 if arm in spec.largest_only else 0 :]:
        for draw, seed in _seeds(spec, first_seed):
            point = {"data.num_samples": num_samples, "seed": seed, "data.draw_seed": draw}
            configs.append(RunConfig.from_settings(settings | point, where))
    return configs


def _seeds(spec: SweepSpec, first: int) -> Iterator[tuple[int | None, int]]:
    """Draw and seed of the runs of a size: of each draw first the run whose seed drives both."""
    for draw in range(first, first + spec.seeds):
        yield None, draw
        yield from ((draw, draw + spec.seeds * init) for init in range(1, spec.inits))


def _of_arm(arm: str, arms: Sequence[str], settings: dict[str, Any], where: str) -> dict[str, Any]:
    """The settings with the arm's name; those that begin with `own.` are for a user's own arm alone."""
    if arm.endswith(OWN_SUFFIX):
        return settings | {"arm": Path(arm).stem} | own_arm(arm)
    own = sorted(key for key in settings if key.startswith("own."))
    if own and not any(other.endswith(OWN_SUFFIX) for other in arms):
        raise InputError(f"{where}: {own[0]} is for an arm of your own, and none of the arms is a .py file")
    return {key: value for key, value in settings.items() if key not in own} | {"arm": arm}


def own_arm(file: str) -> dict[str, Any]:
    """The settings that name an arm in a file. Raises `InputError` when it cannot be read."""
    return {"own.file": file, "own.code": digest(read_text(Path(file)))}


def _tuned_trials(spec: SweepSpec, config: RunConfig) -> int | None:
    """Trials that chose the settings of a point; None where they were made at other settings."""
    tuned = spec.tuned.get(config.arm)
    return tuned.trials if tuned is not None and tuned.at == tuned_at(config) else None


def _is_name(key: str) -> bool:
    return key == "name" or key.startswith("name.")


def _given_names(spec: SweepSpec) -> dict[str, str]:
    """By `config_hash`, what variants call their lines, of arms that have several; the first one that names a
    line does.

    Raises:
        InputError: two lines of an arm have one name.
    """
    found: dict[str, str] = {}
    for arm in spec.arms:
        if arm == MIXTURE:
            continue
        lines = {_line(spec, arm, variant)[0].config_hash for variant in spec.variants}
        names: dict[str, str] = {}
        for variant in spec.variants:
            name = variant.get(f"name.{arm}", variant.get("name"))
            if name is not None and len(lines) > 1:
                names.setdefault(_line(spec, arm, variant)[0].config_hash, str(name))
        for name, count in Counter(names.values()).items():
            if count > 1:
                raise InputError(f"sweep {spec.name!r}: two lines of {arm} are called {name!r}")
        found |= names
    return found


def base_name(config: RunConfig) -> str:
    """`{L}L_{d_c}d_{n}tok`, without contexts 0d; `{L}L_{d_e}d` of sequence arms; n-grams by their order,
    mixtures by what they mix."""
    kind = arm_kind(config.arm)
    if config.own is not None:
        return f"{config.model.embed_dim}d"
    if kind.neural and not kind.two_phase and not kind.has_context:
        return f"{config.sequence_training.num_layers}L_{config.model.embed_dim}d"
    if kind.neural:
        context_dim = config.shape.context_dim if kind.has_context else 0
        return f"{config.shape.num_layers}L_{context_dim}d_{config.shape.num_input_tokens}tok"
    if config.arm == MIXTURE:
        return "+".join(config.mixture.arms)
    return f"{config.ngram.order}gram" if config.arm == "kneser-ney" else "1gram"


def line_names(configs: list[RunConfig]) -> dict[str, str]:
    """Name of each line by `config_hash`: the base name, with what differs from the first line sharing it."""
    sharing: dict[tuple[str, str], dict[str, RunConfig]] = defaultdict(dict)
    for config in configs:
        sharing[config.arm, base_name(config)].setdefault(config.config_hash, config)
    names = {}
    for (_, name), lines in sharing.items():
        first = next(iter(lines.values()))
        for config_hash, config in lines.items():
            names[config_hash] = " ".join([name, *_differences(first, config)])
    return names


def _differences(first: RunConfig, other: RunConfig) -> list[str]:
    """`key=value` of each field in which `other` differs; the whole key where its end is not unique."""
    before, now = dotted(first.relevant()), dotted(other.relevant())
    ends = Counter(key.split(".")[-1] for key in now)
    parts = []
    for key, value in now.items():
        if key not in LINE_VARIES and before.get(key) != value:
            end = key.split(".")[-1]
            shown = "+".join(value) if isinstance(value, tuple) else value
            parts.append(f"{end if ends[end] == 1 else key}={shown}")
    return parts
