"""A plan: the points of an experiment and the analysis to make of them; and the settings that a tuning found.

Pure data, no side effects.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, field_validator, model_validator

from cvfp.records.arms import ARM_KINDS, arm_kind
from cvfp.records.config import LATER, RunConfig, dotted
from cvfp.records.errors import InputError, near
from cvfp.records.files import is_file, read_json
from cvfp.records.schema import Perplexity, Positive, Schema


class Analysis(Schema):
    """What is computed from the records once points are there."""

    window_size: Annotated[int, Field(ge=2)] | None = None
    """Consecutive sizes per sliding window; None: no windows."""
    extrapolate: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Token counts to predict at; empty: 4 and 10 times the largest size."""
    include_capped: bool = False
    """Whether points whose training ended at its cap take part in fits."""


class PlannedPoint(Schema):
    """One run to make, with the name of its line as shown in tables."""

    config_name: str
    config: RunConfig
    tuned_trials: Positive | None = None
    """The settings are the best of so many trials (`cvfp tune`); None: they were not tuned."""

    @model_validator(mode="before")
    @classmethod
    def _as_it_was_run(cls, value: Any) -> Any:
        """A config that was written before a field joined was run without it, whatever is the default now."""
        config = value.get("config") if isinstance(value, dict) else None
        if not isinstance(config, dict):
            return value
        known = {
            name: before | config[name]
            for name, before in LATER.items()
            if isinstance(config.get(name), dict)
        }
        return value | {"config": config | known}


class Plan(Schema):
    """Every point of a sweep, each with all its settings."""

    name: str
    description: str
    protocol: Literal["standard", "published", "tuning"] = "standard"
    """`tuning`: trials of settings, of which the test text is not scored."""
    points: tuple[PlannedPoint, ...]
    analysis: Analysis = Analysis()

    def extends(self, other: Plan) -> bool:
        """Whether it has all points of the other, of the same names."""
        names = {point.config.run_hash: point.config_name for point in self.points}
        return all(names.get(point.config.run_hash) == point.config_name for point in other.points)


# --- What a tuning found: per arm, the settings of the best of so many trials, on dev.


TUNING = "tuning.json"
KNOBS = ("lr", "dropout", "word_dropout", "weight_decay", "averaging", "consistency")
"""Of the section that says how an arm learns tokens."""
BATCH = {"phase2": "batch_size", "lstm": "sequences", "transformer": "sequences", "joint": "chunks"}
"""What makes a step larger; a trial takes what the arm ships with, or half of it."""
FOLLOWED = "by_size."
"""Before the key of a setting that has a value for each number of documents, which stands behind it."""
ORDER = "ngram.order"
"""Of n-grams."""
_FREE = frozenset(
    f"data.{field}"
    for field in ("num_samples", "draw_seed", "order", "split_seed", "test_documents", "test_tokens")
) | {"seed"}
"""Sizes, seeds, draws, and how much test text is scored: a choice made at one holds at another."""


def tunable(arm: str) -> set[str]:
    """The keys that a tuning may set for an arm."""
    kind = arm_kind(arm)
    if kind.training_section is not None:
        knobs = (*KNOBS, BATCH[kind.training_section])
        return {f"{kind.training_section}.{knob}" for knob in knobs}
    return {ORDER} if "ngram" in kind.sections else set()


def tuned_at(config: RunConfig) -> dict[str, Any]:
    """The settings, by dotted key, that a run must share with a tuning for its own to count as tuned.

    All that can change the arm's result: text, splits, tokenizer, model, token table, training. Sizes, seeds,
    draws and the amount of test text are not among them.
    """
    fields = dotted(config.relevant()).items()
    return {
        key: list(value) if isinstance(value, tuple) else value for key, value in fields if key not in _FREE
    }


def plain_key(key: str) -> str:
    """`joint.lr` of `by_size.joint.lr.50`."""
    return key.removeprefix(FOLLOWED).rpartition(".")[0] if key.startswith(FOLLOWED) else key


class TunedArm(Schema):
    """The choice for one arm: at each of `samples` the trial with the lowest mean ln dev PPL over seeds.

    An n-gram has one order for all sizes. Between sizes settings are interpolated (`RunConfig.resolved`).
    """

    trials: Positive
    """Settings that were tried, the untuned ones among them."""
    failed: Annotated[int, Field(ge=0)] = 0
    """Of them, those that failed or diverged at some size."""
    settings: dict[str, float | int | str]
    """The chosen ones, by dotted key, such as `by_size.joint.lr.50`."""
    at: dict[str, Any] = {}
    """Where they were chosen (`tuned_at`); empty where that is not known: then nothing counts as tuned."""
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

    @field_validator("arms")
    @classmethod
    def _knobs_alone(cls, value: dict[str, TunedArm]) -> dict[str, TunedArm]:
        for arm, tuned in value.items():
            if arm not in ARM_KINDS:
                raise ValueError(
                    f"unknown arm {arm!r}{near(arm, ARM_KINDS)}; there are {', '.join(ARM_KINDS)}"
                )
            other = sorted({plain_key(key) for key in tuned.settings} - tunable(arm))
            if other:
                raise ValueError(
                    f"{arm}: {other[0]} is not tuned; allowed: {', '.join(sorted(tunable(arm)))}"
                )
        return value


def with_choice(settings: Mapping[str, Any], chosen: Mapping[str, Any]) -> dict[str, Any]:
    """Settings, by dotted key, with what a tuning chose in place of all values for single sizes of it."""
    gone = tuple(f"{FOLLOWED}{plain_key(key)}." for key in chosen)
    return {key: value for key, value in settings.items() if not key.startswith(gone)} | dict(chosen)


def read_tuning(directory: Path) -> Tuning:
    """The tuning in a directory that `cvfp tune` wrote. Raises `InputError`."""
    if is_file(Path(directory)):
        raise InputError(f"{directory}: is a file; give the directory that cvfp tune wrote")
    path = Path(directory) / TUNING
    if not is_file(path):
        raise InputError(
            f"{directory}: no finished tuning here (there is no {TUNING}); make one with cvfp tune"
        )
    return Tuning.parse_json(read_json(path), str(path))
