"""What a tuning found: per arm, the settings of the best of so many trials, on dev."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, field_validator

from cvfp.records.arms import ARM_KINDS, arm_kind
from cvfp.records.config import RunConfig, dotted
from cvfp.records.errors import InputError
from cvfp.records.files import is_file, read_json
from cvfp.records.schema import Schema
from cvfp.records.values import Perplexity, Positive

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


def _plain(key: str) -> str:
    """`joint.lr` of `by_size.joint.lr.50`."""
    return key.removeprefix(FOLLOWED).rpartition(".")[0] if key.startswith(FOLLOWED) else key


class TunedArm(Schema):
    """The choice for one arm: at each of `samples` the trial with the lowest mean ln dev PPL over seeds.

    An n-gram has one order for all sizes. Between sizes settings are interpolated (`RunConfig.resolved`).
    """

    trials: Positive
    """Settings that were tried, the untuned ones among them."""
    failed: Annotated[int, Field(ge=0)] = 0
    """Of them, those that diverged at some size."""
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
                raise ValueError(f"unknown arm {arm!r}; there are {', '.join(ARM_KINDS)}")
            other = sorted({_plain(key) for key in tuned.settings} - tunable(arm))
            if other:
                raise ValueError(
                    f"{arm}: {other[0]} is not tuned; allowed: {', '.join(sorted(tunable(arm)))}"
                )
        return value


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
