"""From a spec to a plan: a pure function, so that a plan can be shown before anything runs."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from cvfp.lab.spec import OWN_SUFFIX, SweepSpec, set_over
from cvfp.records.arms import arm_kind
from cvfp.records.config import RunConfig, dotted
from cvfp.records.errors import InputError
from cvfp.records.files import read_text
from cvfp.records.plan import Plan, PlannedPoint
from cvfp.records.schema import digest
from cvfp.records.tuning import tuned_at

MIXTURE = "mixture"
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
    names = line_names(list(configs.values()))
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


def _mixing(config: RunConfig, others: dict[str, RunConfig], name: str) -> RunConfig:
    """A mixture with the lines that it is made of: the first one of each arm. Raises `InputError`."""
    lines = []
    for arm in config.mixture.arms:
        first = next((other for other in others.values() if other.arm == arm), None)
        at = (config.data.num_samples, config.seed)
        there = first is not None and any(
            other.config_hash == first.config_hash and (other.data.num_samples, other.seed) == at
            for other in others.values()
        )
        if not there:
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
    settings, where = set_over(spec.settings | tuned, variant), f"sweep {spec.name!r}"
    reserved = sorted({"arm", "data.num_samples", "data.draw_seed"} & settings.keys())
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


def base_name(config: RunConfig) -> str:
    """`{L}L_{d_c}d_{n}tok`, without contexts 0d; `{L}L_{d_e}d` of sequence arms; n-grams by their order,
    mixtures by what they mix."""
    kind = arm_kind(config.arm)
    if config.own is not None:
        return f"{config.model.embed_dim}d"
    if kind.neural and not kind.two_phase and not kind.has_context:
        return f"{config.token_training.num_layers}L_{config.model.embed_dim}d"
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
