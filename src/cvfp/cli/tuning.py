"""Tuning: the same number of trials for every arm."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import tyro

from cvfp.cli.options import (
    Devices,
    Executor,
    GpusPerPoint,
    Json,
    Set,
    Track,
    given,
    grid_of,
    print_json,
    settings_of,
    split_list,
    whole_numbers,
)
from cvfp.cli.sweep import Out
from cvfp.cli.tables import print_table
from cvfp.records.errors import InputError
from cvfp.records.tuning import FOLLOWED, Tuning


def tune(
    sweep: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="PRESET|FILE.toml")]] = "recommended",
    out: Out = None,
    arms: Annotated[tuple[str, ...] | None, tyro.conf.arg(help="cvfp lstm ...")] = None,
    samples: Annotated[
        tuple[str, ...], tyro.conf.arg(help="training documents at which settings are chosen")
    ] = ("50", "400", "1600"),
    trials: Annotated[int, tyro.conf.arg(help="settings that every arm may try")] = 12,
    grid: Annotated[
        tuple[str, ...],
        tyro.conf.arg(
            metavar="KNOB=VALUE,VALUE [KNOB=VALUE,VALUE ...]",
            help="try all combinations of these instead, around what every arm ships with",
        ),
    ] = (),
    seeds: Annotated[int | None, tyro.conf.arg(help="how many seeds each trial is run with")] = None,
    device: Devices = "auto",
    executor: Executor = "local",
    gpus_per_point: GpusPerPoint = None,
    set_: Set = (),
    track: Track = (),
    json: Json = False,
) -> int:
    """Give every arm the same trials; keep at each size the best one on dev.

    Learning rate, dropout, weight decay, consistency and batch are tried, or what --grid names; settings
    between sizes are interpolated. Running it again resumes. `cvfp run --tuned DIR` takes what was chosen.

    Example: cvfp tune v3 --arms cvfp lstm --trials 12 --out tuning
    """
    from cvfp.cli.progress import Bars
    from cvfp.lab.executors import make_executor
    from cvfp.lab.presets import find_spec
    from cvfp.lab.tracking.monitor import tracked
    from cvfp.lab.tuning import tune_sweep, tuning_plan
    from cvfp.training.group import not_launched

    not_launched("cvfp tune")
    if trials < 1:
        raise InputError(f"--trials {trials}: it must be at least 1")
    fields = given(arms=None if arms is None else split_list(arms), seeds=seeds)
    spec = find_spec(sweep).override(**fields).with_settings(settings_of(set_))
    plan = tuning_plan(spec, trials, whole_numbers(samples, "--samples"), grid_of(grid))
    out = out or Path("cvfp-runs") / plan.name
    execute = make_executor(executor, device, gpus_per_point)
    with Bars() as bars, tracked(track, out, bars) as monitor:
        found = tune_sweep(plan, out, execute, monitor, spec)
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        sizes = [f"dev PPL at {size}" for size in found.samples]
        print_table("Tuned", ("arm", "trials", "diverged", "chosen", *sizes, "before"), _rows(found))
        print(f"cvfp run {sweep} --tuned {out}")
    for arm in sorted(set(spec.arms) - set(found.arms)):
        print(f"failed: no trial of {arm} ran at every size", file=sys.stderr)
    return 1 if set(found.arms) < set(spec.arms) else 0


def _chosen(settings: dict[str, float | int | str]) -> str:
    """Each setting once, its values size by size."""
    values: dict[str, list[str]] = {}
    for key, value in settings.items():
        followed = key.startswith(FOLLOWED)
        name = key.removeprefix(FOLLOWED).rpartition(".")[0] if followed else key
        values.setdefault(name, []).append(value if isinstance(value, str) else f"{value:g}")
    return ", ".join(f"{name}={' / '.join(each)}" for name, each in values.items())


def _rows(found: Tuning) -> list[tuple[object, ...]]:
    return [
        (
            arm,
            tuned.trials,
            tuned.failed,
            _chosen(tuned.settings),
            *(f"{value:.1f}" for value in tuned.dev_ppl),
            ", ".join(f"{value:.1f}" for value in tuned.untuned_dev_ppl or ()),
        )
        for arm, tuned in found.arms.items()
    ]
