"""Sweeps: quickstart, presets, run, status, next, report; and tune, as many trials for every arm."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from cvfp.cli.options import (
    Devices,
    Embedding,
    Executor,
    GpusPerPoint,
    Growing,
    Json,
    Lang,
    OtherCorpora,
    Retry,
    SaveEvery,
    Set,
    Track,
    corpus_and_table,
    given,
    grid_of,
    optional,
    print_json,
    print_markdown,
    print_note,
    print_table,
    settings_of,
    split_list,
    whole_numbers,
)
from cvfp.lab.options import RunOptions
from cvfp.records.arms import ARMS
from cvfp.records.errors import InputError
from cvfp.records.plan import Plan, Tuning, plain_key, read_tuning
from cvfp.records.results import DIVERGED, PointRecord

if TYPE_CHECKING:
    from cvfp.lab.executors import Execute
    from cvfp.lab.plan import SweepSpec


ARMS_HELP = f"of {', '.join(ARMS)}, or a .py file of your own"
OURS = ("cvfp", "cvfp-joint")
"""The two trainings of the model: their lines are what tells presets apart."""
Out = Annotated[Path | None, optional("DIR", "sweep directory; running again resumes")]


def quickstart(out: Out = None, device: Devices = "cpu,cpu", track: Track = (), json: Json = False) -> int:
    """The whole story on two cores in a few minutes: who wins, by how much.

    Two processes share the CPU: small models take less of its time alone on a core than with two threads.

    Example: cvfp quickstart --out my-first-sweep
    """
    return run("quickstart", out=out, device=device, track=track, json=json)


def presets(json: Json = False) -> int:
    """List the presets with their grids.

    Example: cvfp presets
    """
    from cvfp.lab.plan import make_plan
    from cvfp.lab.presets import PRESETS

    plans = {name: make_plan(spec) for name, spec in PRESETS.items()}
    if json:
        print_json({name: spec.model_dump(mode="json") for name, spec in PRESETS.items()})
        return 0
    rows = []
    for name, spec in PRESETS.items():
        lines = dict.fromkeys(p.config_name for p in plans[name].points if p.config.arm in OURS)
        samples = ", ".join(str(size) for size in spec.samples)
        rows.append((name, spec.description, ", ".join(lines), samples, len(plans[name].points)))
    print_table("Presets", ("name", "what", "CVFP curves", "samples", "runs with the default arms"), rows)
    return 0


def settings(
    matching: Annotated[
        str,
        tyro.conf.arg(metavar="TEXT", help="only those whose key or meaning has it", help_behavior_hint=""),
    ] = "",
    json: Json = False,
) -> int:
    """List every setting with its default and its meaning.

    These are the keys that --set and sweep files take.

    Example: cvfp settings --matching dropout
    """
    from cvfp.records.settings import all_settings

    found = [one for one in all_settings() if matching.lower() in f"{one.key} {one.meaning}".lower()]
    if not found:
        raise InputError(f"no setting has {matching!r} in its key or its meaning; cvfp settings lists all")
    if json:
        print_json([asdict(one) for one in found])
        return 0
    print_table("Settings", ("key", "default", "meaning"), [(s.key, s.default, s.meaning) for s in found])
    return 0


def run(
    sweep: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="PRESET|FILE.toml|DIR")]],
    out: Out = None,
    arms: Annotated[tuple[str, ...] | None, optional("MODEL [MODEL ...]", ARMS_HELP)] = None,
    samples: Annotated[tuple[str, ...] | None, optional("N [N ...]", "numbers of training documents")] = None,
    growth: Growing = None,
    seeds: Annotated[int | None, optional("N", "how many seeds, each with its own documents")] = None,
    inits: Annotated[int | None, optional("N", "how many initialisations of each seed's documents")] = None,
    corpus: OtherCorpora = None,
    embedding: Embedding = None,
    tuned: Annotated[Path | None, optional("DIR", "settings per model that cvfp tune chose there")] = None,
    published: Annotated[bool, tyro.conf.arg(help="the published protocol (UltraChat, GPT-2 table)")] = False,
    device: Devices = "auto",
    executor: Executor = "local",
    gpus_per_point: GpusPerPoint = None,
    set_: Set = (),
    include_capped: Annotated[bool, tyro.conf.arg(help="let runs that ended at their cap into fits")] = False,
    checkpoints: Annotated[
        bool, tyro.conf.arg(help="keep the trained weights of every run")
    ] = RunOptions.checkpoints,
    save_every: SaveEvery = RunOptions.save_every,
    track: Track = (),
    dry_run: Annotated[bool, tyro.conf.arg(help="print the plan with its cost; run nothing")] = False,
    retry: Retry = RunOptions.retry,
    json: Json = False,
) -> int:
    """Run a sweep: a preset, or a file of your own; again, and it resumes.

    Running the same command again goes on where it stopped.

    With the directory of a sweep it goes on with that; --seeds and --samples then add to what it has.

    Example: cvfp run v3 --samples 50 100 200 --arms cvfp kneser-ney --set model.context_dim=256
    """
    from cvfp.lab.executors import make_executor
    from cvfp.lab.plan import extended, make_plan, require_read
    from cvfp.lab.presets import PRESETS, find_spec
    from cvfp.records.sweep import SweepFiles, read_plan

    if growth is not None and samples is not None:
        raise InputError("--samples and --growth both give the sizes; keep one of them")
    sizes = None if samples is None else whole_numbers(samples, "--samples")
    options = RunOptions(checkpoints, retry, save_every)
    execute = partial(make_executor(executor, device, gpus_per_point), options=options)
    if sweep not in PRESETS and SweepFiles(Path(sweep)).plan.is_file():
        asked = given(out=out, arms=arms, growth=growth, inits=inits, corpus=corpus, embedding=embedding)
        asked |= given(tuned=tuned, published=published or None, set=set_ or None)
        if asked:
            raise InputError(
                f"--{next(iter(asked))}: the sweep in {sweep} has its settings; only --samples and --seeds "
                "add to it"
            )
        plan = extended(read_plan(Path(sweep)), sizes, seeds)
        if dry_run:
            return _show_plan(plan, Path(sweep), device, json)
        return _run_plan(plan, Path(sweep), execute, track, json)
    spec = _in_shape(find_spec(sweep), growth, published, include_capped)
    fields = given(
        arms=None if arms is None else split_list(arms),
        largest_only=None if arms is None else (),
        samples=sizes,
        seeds=seeds,
        inits=inits,
    )
    settings = corpus_and_table(corpus, embedding) | settings_of(set_)
    spec = _with_tuned(spec.override(**fields), tuned)
    plan = make_plan(spec.with_settings(settings))
    require_read(plan, settings_of(set_))
    out = out or Path("cvfp-runs") / plan.name
    if dry_run:
        return _show_plan(plan, out, device, json)
    return _run_plan(plan, out, execute, track, json)


def print_ending(out: Path, first: str) -> None:
    """What a sweep that has ended says: the answer, the ranking, and where the report is."""
    from cvfp.records.sweep import SweepFiles, load_sweep
    from cvfp.report.lines import report_lines
    from cvfp.report.sections.answer import answer_texts, ranking_table
    from cvfp.report.view import View

    swept = load_sweep(out)
    view = View(swept, report_lines(swept), str(out))
    print(first)
    if view.reference is not None:
        ranking = "" if view.top is None else ranking_table(view)
        print_markdown("\n\n".join([*answer_texts(view), ranking]))
    print(f"Report: {SweepFiles(out).page.resolve().as_uri()}")


def _in_shape(
    spec: SweepSpec, growth: tuple[str, ...] | None, published: bool, include_capped: bool
) -> SweepSpec:
    """The spec with the sizes, the protocol and the fits that were asked for."""
    from cvfp.lab.plan import Growth

    if growth is not None:
        spec = spec.growing(Growth.parse(settings_of(growth, "--growth"), "--growth"))
    spec = spec.as_published() if published else spec
    return spec.including_capped() if include_capped else spec


def _with_tuned(spec: SweepSpec, directory: Path | None) -> SweepSpec:
    """The spec with what was tuned in the directory; an arm that was not is named."""
    if directory is None:
        return spec
    found = read_tuning(directory).arms
    for arm in sorted(set(spec.arms) - set(found)):
        print_note(f"{arm} was not tuned in {directory}: it keeps its settings")
    return spec.override(tuned=found)


def _run_plan(plan: Plan, out: Path, execute: Execute, track: Track, json: bool) -> int:
    from cvfp.cli.progress import Bars
    from cvfp.lab.tracking import tracked
    from cvfp.report.write import write_report

    with Bars() as bars, tracked(track, out, bars) as tell:
        outcome = execute(plan, out, tell=tell)
    if outcome is None:
        return 0
    write_report(out, note=print_note)
    counts = {"failed": len(outcome.failed), "diverged": len(outcome.diverged)}
    if json:
        print_json({"out": str(out), "done": outcome.done, **counts})
    else:
        bad = [f"{number} {what}" for what, number in counts.items() if number]
        print_ending(out, ", ".join([f"{outcome.done} of {len(plan.points)} runs done", *bad]) + ".")
    for record in outcome.failed:
        print(f"failed: {record.point.arm} {record.point.config_name}: {record.error}", file=sys.stderr)
    _print_diverged([record.point for record in outcome.diverged])
    if outcome.failed:
        print("The same command with --retry runs what failed again.", file=sys.stderr)
    return 1 if outcome.failed else 0


def _print_diverged(points: Iterable[PointRecord]) -> None:
    """Name the runs that no fit, forecast or comparison uses."""
    for point in points:
        where = f"{point.arm} {point.config_name}, {point.num_samples} samples, seed {point.seed}"
        print_note(f"{where} diverged ({point.nats:.4g} nats per token): nothing uses it")


def _show_plan(plan: Plan, out: Path, device: str, json: bool) -> int:
    from cvfp.lab.machine import estimate_plan
    from cvfp.lab.sweep_directory import SweepDirectory
    from cvfp.training.devices import pick_devices

    SweepDirectory(out, plan).check()
    estimate = estimate_plan(plan, pick_devices(device)[0])
    if json:
        print_json(estimate.as_dict())
        return 0
    header = ("model", "curve", "runs", "documents", "parameters", "FLOPs at most", "time, about")
    print_table(f"{plan.name}: {plan.description}", header, estimate.rows())
    print(estimate.verdict())
    return 0


def status(directory: tyro.conf.Positional[Path], json: Json = False) -> int:
    """How far a sweep is: models by sizes, and what failed or diverged.

    Example: cvfp status cvfp-runs/v3
    """
    from cvfp.lab.sweep_directory import sweep_status

    state = sweep_status(directory)
    if json:
        print_json(state.as_dict())
        return 0
    sizes = [f"{size:,}" for size in state.sizes]
    print_table(f"{directory}: {state.name}", ("model", "curve", *sizes), state.grid())
    for line in state.troubles():
        print(line)
    print(state.line())
    return 0


def report(directory: tyro.conf.Positional[Path], lang: Lang = "en") -> int:
    """(Re)write the report of a sweep from its records alone.

    That is report.md, report.html and the figures; in another language report.ja.md and so on.

    Example: cvfp report cvfp-runs/v3 --lang ja
    """
    from cvfp.report.write import write_report

    for path in write_report(directory, lang, print_note):
        print(path)
    return 0


def next_(directory: tyro.conf.Positional[Path], json: Json = False) -> int:
    """What to run next: which seed or size narrows the difference most.

    The difference in question is the one that the report begins with. For each addition its 95% interval now
    and as expected then, and the time by that of the runs so far. The best is first, and the last line is its
    command.

    Example: cvfp next cvfp-runs/v3
    """
    from cvfp.records.sweep import load_sweep
    from cvfp.report.lines import report_lines
    from cvfp.report.next_run import additions_to, claim_of, command_of, what_text
    from cvfp.report.numbers import duration, percent_reach
    from cvfp.report.view import View

    swept = load_sweep(directory)
    view = View(swept, report_lines(swept), str(directory))
    _print_diverged(point for point in swept.points if point.status == DIVERGED)
    claim = claim_of(view)
    found = additions_to(view, claim)
    commands = [command_of(view, one) for one in found]
    if json:
        values = [
            {**asdict(one), "gain_per_second": one.rate, "command": command}
            for one, command in zip(found, commands, strict=True)
        ]
        print_json({"claim": None if claim is None else claim.values(), "additions": values})
        return 0
    if not found:
        print("Nothing can be added: no size has a result of every model, or seeds cannot grow.")
        return 0
    header = ("what", "95% interval now", "then, about", "time, about", "command")
    rows = [
        (
            what_text(one),
            "none" if one.now is None else percent_reach(one.now),
            "unknown" if one.then is None else percent_reach(one.then),
            "unknown" if one.seconds is None else duration(one.seconds),
            command,
        )
        for one, command in zip(found, commands, strict=True)
    ]
    print_table(
        "No size has a result of every model yet" if claim is None else claim.value_text(), header, rows
    )
    if found[0].now and found[0].then and not found[0].narrower:
        print("None of these narrows it.")
    else:
        print(commands[0])
    return 0


# --- Tuning: the same number of trials for every arm.


def tune(
    sweep: tyro.conf.Positional[Annotated[str, tyro.conf.arg(metavar="PRESET|FILE.toml")]] = "recommended",
    out: Out = None,
    arms: Annotated[tuple[str, ...] | None, optional("MODEL [MODEL ...]", ARMS_HELP)] = None,
    samples: Annotated[
        tuple[str, ...],
        tyro.conf.arg(metavar="N [N ...]", help="training documents at which settings are chosen"),
    ] = ("50", "400", "1600"),
    trials: Annotated[int, tyro.conf.arg(metavar="N", help="settings that every model may try")] = 12,
    grid: Annotated[
        tuple[str, ...],
        optional(
            "KNOB=VALUE,VALUE [KNOB=VALUE,VALUE ...]",
            "try all combinations of these instead, around what every model ships with",
        ),
    ] = (),
    seeds: Annotated[int | None, optional("N", "how many seeds each trial is run with")] = None,
    device: Devices = "auto",
    executor: Executor = "local",
    gpus_per_point: GpusPerPoint = None,
    set_: Set = (),
    track: Track = (),
    retry: Retry = RunOptions.retry,
    json: Json = False,
) -> int:
    """Give every model the same trials; keep the best one on dev.

    Learning rate, dropout, weight decay, consistency and batch are tried, or what --grid names; settings
    between sizes are interpolated. Running it again resumes. `cvfp run --tuned DIR` takes what was chosen.

    Example: cvfp tune v3 --arms cvfp lstm --trials 12 --out tuning
    """
    from cvfp.cli.progress import Bars
    from cvfp.lab.executors import make_executor
    from cvfp.lab.plan import make_plan, require_read
    from cvfp.lab.presets import find_spec
    from cvfp.lab.sweep_directory import SweepDirectory
    from cvfp.lab.tracking import tracked
    from cvfp.lab.tuning import tune_sweep, tuning_plan
    from cvfp.training.group import not_launched

    not_launched("cvfp tune")
    if trials < 1:
        raise InputError(f"--trials {trials}: it must be at least 1")
    fields = given(arms=None if arms is None else split_list(arms), seeds=seeds)
    spec = find_spec(sweep).override(**fields).with_settings(settings_of(set_))
    require_read(make_plan(spec), settings_of(set_))
    plan = tuning_plan(spec, trials, whole_numbers(samples, "--samples"), grid_of(grid))
    out = out or Path("cvfp-runs") / plan.name
    execute = make_executor(executor, device, gpus_per_point)
    with Bars() as bars, tracked(track, out, bars) as tell:
        found = tune_sweep(SweepDirectory(out, plan), spec, execute, tell, retry)
    if json:
        print_json(found.model_dump(mode="json"))
    else:
        sizes = [f"dev PPL at {size}" for size in found.samples]
        print_table(
            "Tuned", ("arm", "trials", "failed or diverged", "chosen", *sizes, "before"), _rows(found)
        )
        print(f"cvfp run {sweep} --tuned {out}")
    for arm in sorted(set(spec.arms) - set(found.arms)):
        print(f"failed: no trial of {arm} ran at every size; --retry runs again what failed", file=sys.stderr)
    return 1 if set(found.arms) < set(spec.arms) else 0


def _chosen(settings: dict[str, float | int | str]) -> str:
    """Each setting once, its values size by size."""
    values: dict[str, list[str]] = {}
    for key, value in settings.items():
        values.setdefault(plain_key(key), []).append(value if isinstance(value, str) else f"{value:g}")
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
