"""Do forecasts hold? Sweeps are simulated, and forecast at 4 and 10 times their largest size.

python -m benchmarks.forecasts --trials 60
python -m benchmarks.forecasts --sweeps docs/results/*/   # hidden sizes of sweeps, beside the last slope
python -m benchmarks.forecasts --table anybodys.csv --x tokens --y loss --by model --unit nats

Of several sources (sweeps, tables of the same columns) each is told, and all together.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.arguments import positive
from cvfp.records.sweep import load_sweep
from cvfp.report.lines import report_lines
from cvfp.scaling.forecast import LAST_SLOPE, OUTLOOK, Holdout, interval_score
from cvfp.scaling.outlook import outlook
from cvfp.scaling.points import Points, points_of
from cvfp.scaling.rows import read_table
from cvfp.scaling.table import TableOptions, analyse_table
from cvfp.scaling.units import UNITS, Unit

SMALLEST, RANGE = 5e4, 32
SPREAD = (0.06, 0.01)
"""Standard deviation of ln PPL across seeds at the smallest and the largest size."""
SHARED = 0.6
"""Correlation of the errors of neighbouring sizes of a seed."""
FAR = (4, 10)
BEND = 0.55
"""Where a knee lies, as a share of the range of ln D."""

Truth = Callable[[np.ndarray], np.ndarray]
"""ln PPL at x = ln(D / smallest)."""


def knee(before: float, after: float) -> Truth:
    """A power law of PPL whose exponent changes within the sizes: no form of the law has it."""
    bend = BEND * np.log(RANGE)
    return lambda x: 6 - before * np.minimum(x, bend) - after * np.maximum(x - bend, 0)


TRUTHS: dict[str, Truth] = {
    "power law of PPL": lambda x: 6 - 0.38 * x,
    "power law of the loss": lambda x: 6 * np.exp(-0.08 * x),
    "loss with a floor": lambda x: 1.8 + 4.2 * np.exp(-0.25 * x),
    "knee, flattens": knee(0.40, 0.20),
    "knee, steepens": knee(0.25, 0.45),
}


@dataclass(frozen=True)
class Told:
    """Of simulated sweeps: the share with a forecast, and of these forecasts what is true of them."""

    given: float
    held: tuple[float, ...]
    """The share whose interval of the law holds the truth, at each of `FAR`."""
    width: tuple[float, ...]
    """Mean of ln(high / low), at each of `FAR`."""


def simulated(truth: Truth, seeds: int, sizes: int, rng: np.random.Generator) -> Points:
    """A sweep whose errors are nested within seeds and fall with size."""
    x = np.linspace(0, np.log(RANGE), sizes)
    noise = rng.normal(size=(seeds, sizes))
    for size in range(1, sizes):
        noise[:, size] = SHARED * noise[:, size - 1] + np.sqrt(1 - SHARED**2) * noise[:, size]
    losses = truth(x) + noise * np.geomspace(*SPREAD, sizes)
    tokens = np.tile(SMALLEST * np.exp(x), seeds)
    return points_of(tokens, np.exp(losses.ravel()), np.repeat(np.arange(seeds), sizes).tolist())


def told(truth: Truth, trials: int, seeds: int = 3, sizes: int = 5) -> Told:
    """What the forecasts of so many simulated sweeps are worth."""
    rng, held, widths = np.random.default_rng(5), [], []
    for _ in range(trials):
        found = outlook(simulated(truth, seeds, sizes, rng))
        if found.refused is not None:
            continue
        far = [(found.at(SMALLEST * RANGE * times), truth(np.log(RANGE * times))) for times in FAR]
        held.append([one.low <= np.exp(true) <= one.high for one, true in far if one is not None])
        widths.append([np.log(one.high / one.low) for one, _true in far if one is not None])
    if not held:
        return Told(0.0, (), ())
    return Told(len(held) / trials, tuple(np.mean(held, axis=0)), tuple(np.mean(widths, axis=0)))


def simulations(trials: int) -> None:
    """Print what forecasts of simulated sweeps are worth."""
    print("| seeds | sizes | truth | forecast given | held at 4x | at 10x | width at 4x | at 10x |")
    print("|---:|---:|:---|---:|---:|---:|---:|---:|")
    for seeds, sizes in ((3, 5), (3, 6), (5, 5), (1, 6)):
        total = np.zeros(3)
        for name, truth in TRUTHS.items():
            one = told(truth, trials, seeds, sizes)
            shown = [f"{100 * value:.0f}%" for value in one.held] + [f"{value:.3f}" for value in one.width]
            cells = [str(seeds), str(sizes), name, f"{100 * one.given:.0f}%", *(shown or ["–"] * 4)]
            print(f"| {' | '.join(cells)} |", flush=True)
            total += one.given * np.array([1, *(one.held or (0, 0))])
        held = [f"{100 * value / total[0]:.0f}%" for value in total[1:]]
        given = f"{100 * total[0] / len(TRUTHS):.0f}%"
        print(f"| {seeds} | {sizes} | all | {given} | {held[0]} | {held[1]} | | |", flush=True)


def holdouts_of_sweeps(sweeps: Sequence[Path]) -> list[Holdout]:
    """The one and the two largest sizes of every line hidden."""
    lines = [line for sweep in sweeps for line in report_lines(load_sweep(sweep))]
    return [found for line in lines if line.law is not None for found in line.holdouts]


def holdouts_of_table(path: Path, x: str, y: str, by: str, unit: Unit) -> list[Holdout]:
    """The same of every group of a table that has five sizes or more."""
    groups = analyse_table(read_table(path), TableOptions(x, y, by, unit)).groups
    lines = [group.line for group in groups if group.line is not None]
    found = [line.holdout(hide) for line in lines for hide in (1, 2) if len(line.points.distinct_sizes) > 4]
    return [one for one in found if one is not None]


def hidden_sizes(name: str, holdouts: Sequence[Holdout]) -> None:
    """Print how hidden sizes were forecast from the rest, and by the last slope."""
    print(f"# {name}")
    pairs = []
    for found in holdouts:
        forms = {form.form: form for form in found.forms}
        pairs += list(zip(forms[OUTLOOK].predictions, forms[LAST_SLOPE].predictions, strict=False))
    print(f"{len(pairs)} of {sum(len(found.hidden) for found in holdouts)} hidden sizes have a forecast")
    for rule, known in zip(("forecast", "last slope"), zip(*pairs, strict=True), strict=True):
        errors = [abs(np.log(one.predicted / one.measured)) for one in known]
        scores = [interval_score(np.log(one.low), np.log(one.high), np.log(one.measured)) for one in known]
        print(
            f"{rule}: median error {np.median(errors):.3f}, {sum(one.held for one in known)} held, "
            f"interval score {np.mean(scores):.3f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.forecasts", description=__doc__)
    parser.add_argument("--trials", type=positive, default=60)
    parser.add_argument("--sweeps", type=Path, nargs="+", default=[], metavar="DIR")
    parser.add_argument("--table", type=Path, nargs="+", default=[], metavar="FILE")
    for name, default in (("--x", "tokens"), ("--y", "val_ppl"), ("--by", "config_name")):
        parser.add_argument(name, default=default, metavar="COLUMN")
    parser.add_argument("--unit", choices=UNITS, default="ppl")
    arguments = parser.parse_args()
    found: dict[str, list[Holdout]] = {}
    if arguments.sweeps:
        sweeps = [sweep for sweep in arguments.sweeps if (sweep / "plan.json").exists()]
        found["sweeps"] = holdouts_of_sweeps(sweeps)
    for path in arguments.table:
        found[path.name] = holdouts_of_table(path, arguments.x, arguments.y, arguments.by, arguments.unit)
    for name, holdouts in found.items():
        hidden_sizes(name, holdouts)
    if len(found) > 1:
        hidden_sizes("together", [one for holdouts in found.values() for one in holdouts])
    if not found:
        simulations(arguments.trials)


if __name__ == "__main__":
    main()
