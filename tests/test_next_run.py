"""Claims: the expected intervals and times of what could be added are as defined; the choice by narrowing per
second reaches a given width in less time than others; `cvfp next` and the report say so."""

from __future__ import annotations

import json
import math
import shlex
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from figure_helpers import RESULTS, changed_point, read
from report_helpers import DEFAULT_LINES, METADATA, LineSpec, write_sweep
from scipy import stats

from cvfp.cli.main import main
from cvfp.records.results import RunRecord
from cvfp.report.changes import LineChange
from cvfp.report.next_run import NextRun, additions_to, claim_of, next_run
from cvfp.report.view import View
from cvfp.scaling.next_run import Addition, Design, Known, LineCost, additions, known_of, leverage
from cvfp.scaling.points import Points, points_of

pytestmark = pytest.mark.usefixtures("undrawn")

SIZES, SEEDS = (50, 100, 200, 400), (1, 2, 3)
TWO = (DEFAULT_LINES[0], LineSpec("lstm", "2L_768d"))


def planted(difference: float, scatter: float = 0.02) -> Callable[[RunRecord], RunRecord]:
    """ln PPL of lstm is so much above that of cvfp, with noise of every run; a run takes size^1.5 seconds."""

    def change(run: RunRecord) -> RunRecord:
        point = run.point
        place = [point.seed, point.num_samples, point.arm == "lstm"]
        noise = scatter * np.random.default_rng(place).normal()
        ln_ppl = math.log(9000) - 0.3 * math.log(point.tokens) + difference * (point.arm == "lstm") + noise
        return changed_point(run, val_ppl=math.exp(ln_ppl), wall_seconds=0.5 * point.num_samples**1.5)

    return change


def view_of(directory: Path, place: str = "runs/demo", **settings) -> View:
    alone = METADATA | {"wall_seconds": None}
    chosen = {"lines": TWO, "sizes": SIZES, "seeds": SEEDS, "change": planted(0.01), "metadata": alone}
    return View(*read(write_sweep(directory, **(chosen | settings))), place)


def ratios_of(values: Mapping[tuple[int, int], float]) -> Points:
    """ln(PPL_2 / PPL_1) by seed and size, 1000 tokens a document."""
    seeds, sizes = zip(*values, strict=True)
    tokens = [1000 * size for size in sizes]
    return points_of(tokens, np.exp(list(values.values())), list(seeds), list(sizes))


def half(value: float, reach: float) -> float:
    """Half of the interval value -+ reach of a logarithm, in percent."""
    return 50 * (math.exp(value + reach) - math.exp(value - reach))


def t(dof: float) -> float:
    return float(stats.t.ppf(0.975, dof))


# --- Expected intervals.


def test_at_a_size_that_has_run_seeds_narrow_by_student_and_sizes_do_nothing():
    values = {(1, 200): 0.10, (2, 200): 0.13, (3, 200): 0.07, (1, 100): 0.5, (2, 100): -0.5, (3, 100): 0.2}
    known = known_of(ratios_of(values), 200)
    assert (known.seeds, known.value, known.sizes) == (3, pytest.approx(0.1), (100, 200))
    # s = 0.03: 4.303 * 0.03 / sqrt(3) now; 3.182 * 0.03 / 2 with four seeds.
    assert known.half_width() == pytest.approx(half(0.1, 4.302653 * 0.03 / math.sqrt(3)), rel=1e-6)
    assert known.half_width(more_seeds=1) == pytest.approx(half(0.1, 3.182446 * 0.03 / 2), rel=1e-6)
    assert known.half_width(more_sizes=(400, 141)) == known.half_width()


@pytest.mark.parametrize("documents", [0, 40])
def test_the_interval_now_is_that_of_the_report(tmp_path, documents):
    view = view_of(tmp_path, documents=documents)
    claim = claim_of(view)
    assert claim is not None and claim.other is not None
    ppl = LineChange(claim.line, claim.other).ppl_at(400)
    assert ppl is not None and claim.known.interval() == pytest.approx(ppl.interval)
    assert claim.known.percent(claim.known.value) == pytest.approx(ppl.value)


def test_the_leverage_of_a_size_is_that_of_a_straight_line():
    # In doublings from the middle one the claim is 2: 1 / 3 + 4 / 2; with it run 1.5: 1 / 4 + 2.25 / 5.
    assert leverage((50, 100, 200), 400) == pytest.approx(7 / 3)
    assert leverage((50, 100, 200, 400), 400) == pytest.approx(0.25 + 2.25 / 5)


OFF = {(1, 50): 0.02, (1, 100): 0.04, (1, 200): 0.09, (2, 50): 0.03, (2, 100): 0.06, (2, 200): 0.08}


def test_off_the_data_the_widest_of_seeds_and_line_counts():
    known = known_of(ratios_of(OFF), 400)
    # Heights of least squares at x = 2 from x = -1, 0, 1: mean + 2 * (z(1) - z(-1)) / 2.
    heights = [0.05 + 0.07, 0.17 / 3 + 0.05]
    assert known.value == pytest.approx(np.mean(heights))
    seeds = t(1) * np.std(heights, ddof=1) / math.sqrt(2)
    # Means 0.025, 0.05, 0.085 lie off their line by -1, 2, -1 times 0.01 / 6.
    off = math.sqrt(6) * 0.01 / 6
    line = t(1) * off * math.sqrt(1 + 7 / 3)
    assert line > seeds
    together = (seeds / t(1)) ** 2 + (line / t(1)) ** 2
    shares = np.array([(seeds / t(1)) ** 2, (line / t(1)) ** 2]) / together
    both = t(1 / float(np.sum(shares**2))) * math.sqrt(together)
    assert known.half_width() == pytest.approx(half(known.value, max(seeds, line, both)))
    # With 400 run, what two seeds tell of 200 today: 0.09 and 0.08.
    measured = half(0.085, t(1) * 0.01 / math.sqrt(2) / math.sqrt(2))
    assert known.half_width(more_sizes=(400,)) == pytest.approx(measured)


def test_more_sizes_lessen_what_is_scatter_and_the_error_of_the_line():
    known = known_of(ratios_of(OFF), 400)
    draws, line = known.draws, known.line
    assert draws is not None and line is not None and 0 < known.scatter <= 1
    wide = replace(known, line=replace(line, error=1e-9), scatter=0.5)
    then = leverage((50, 100, 141, 200), 400) / (7 / 3)
    expected = t(1) * draws.error * math.sqrt(0.5 + 0.5 * then)
    assert wide.half_width(more_sizes=(141,)) == pytest.approx(half(known.value, expected), rel=1e-6)
    only = replace(known, draws=replace(draws, error=1e-9))
    error = line.error * math.sqrt((1 + leverage((50, 100, 141, 200), 400)) / (1 + 7 / 3))
    assert only.half_width(more_sizes=(141,)) == pytest.approx(half(known.value, t(2) * error), rel=1e-6)


def test_scatter_is_the_share_of_a_seeds_height_that_its_runs_make():
    rng = np.random.default_rng(0)
    seeds, sizes = range(400), (50, 100, 200, 400)
    own = rng.normal(0, 0.02, len(seeds))
    values = {(s, size): 0.1 + own[s] + rng.normal(0, 0.02) for s in seeds for size in sizes}
    H = leverage(sizes, 800)
    assert known_of(ratios_of(values), 800).scatter == pytest.approx(H / (1 + H), abs=0.1)
    exact = {(s, size): 0.1 + own[s] * math.log(size) for s in range(5) for size in sizes}
    assert known_of(ratios_of(exact), 800).scatter == pytest.approx(0, abs=1e-6)


def test_what_few_results_do_not_tell_has_no_interval():
    one = known_of(ratios_of({(1, size): 0.1 for size in SIZES}), 400)
    assert one.half_width() is None and one.half_width(more_seeds=2) is None
    two_sizes = {key: value for key, value in OFF.items() if key[1] > 50}
    assert known_of(ratios_of(two_sizes), 400).half_width() is None
    copies = known_of(ratios_of({(seed, 100): 0.1 for seed in SEEDS}), 100)
    assert (copies.seeds, copies.half_width()) == (1, None)


# --- Times.


def test_seconds_are_measured_ones_or_the_power_law_through_the_nearest_two():
    line = LineCost((100, 200), {50: 8.0, 100: 10.0, 200: 40.0})
    assert [line.at(size) for size in (100, 400, 800)] == pytest.approx([10, 160, 640])
    assert line.at(141) == pytest.approx(10 * 1.41**2)
    assert line.at(25) == pytest.approx(8 / 1.25)
    assert LineCost((400,), {400: 20.0}).at(800) == pytest.approx(40)
    assert LineCost((400,), {}).at(400) is None


DESIGN = Design(
    (LineCost((100, 200), {100: 10.0, 200: 40.0}), LineCost((200, 400), {200: 1.0, 400: 2.0})), 3, True, 800
)


def test_the_time_of_an_addition_is_that_of_every_line_that_runs_it():
    assert DESIGN.seconds_of_seeds(2) == pytest.approx(2 * (10 + 40 + 1 + 2))
    assert DESIGN.seconds_of_size(800) == pytest.approx(3 * (640 + 4))
    assert DESIGN.seconds_of_size(400) == pytest.approx(3 * 160)
    unknown = replace(DESIGN, lines=(*DESIGN.lines, LineCost((100,), {})))
    assert unknown.seconds_of_seeds(1) is None and unknown.seconds_of_size(800) is None


# --- What is proposed, in which order.


def test_the_first_narrows_most_per_second():
    known = known_of(ratios_of(OFF), 400)
    design = Design((LineCost((50, 100, 200), {50: 1.0, 100: 2.0, 200: 4.0}),), 2, True, 400)
    found = additions(known, design)
    assert {one.options for one in found} == {"--seeds 3", "--seeds 4", "--samples 141", "--samples 400"}
    rates = [math.log(one.now / one.then) / one.seconds for one in found if one.now and one.then]
    assert [one.rate for one in found] == pytest.approx(rates)
    assert found[0].what == "beyond" and found[-1].what == "between"
    assert rates[:-1] == sorted(rates[:-1], reverse=True)
    assert {one.options: one.seconds for one in found} == pytest.approx(
        {"--seeds 3": 7, "--seeds 4": 14, "--samples 141": 2 * 2.82, "--samples 400": 16}
    )
    untimed = replace(design, lines=(LineCost((50, 100, 200), {}),))
    widths = [one.then for one in additions(known, untimed)][:-1]
    assert widths == sorted(widths)


def test_without_an_interval_only_seeds_are_proposed_three_in_all_first():
    known = known_of(ratios_of({(1, size): 0.1 for size in SIZES}), 400)
    found = additions(known, replace(DESIGN, runs=1))
    assert [one.options for one in found] == ["--seeds 3", "--seeds 2"]


def test_what_the_lab_cannot_run_is_not_proposed():
    known = known_of(ratios_of(OFF), 200)
    fixed = additions(known, replace(DESIGN, seeds_can_grow=False, documents=None))
    assert [one.what for one in fixed] == ["between"]
    assert [one.what for one in additions(known, replace(DESIGN, documents=799))][-1] == "between"


def test_the_order_of_results_does_not_matter(tmp_path):
    values = list(OFF.items())
    for size in (200, 400):
        there = [known_of(ratios_of(dict(rows)), size).half_width() for rows in (values, values[::-1])]
        assert there[0] == pytest.approx(there[1])
    view = view_of(tmp_path)
    sweep = replace(view.sweep, runs=dict(reversed(view.sweep.runs.items())))
    one, other = additions_to(view, claim_of(view)), additions_to(replace(view, sweep=sweep), claim_of(view))
    assert [a.options for a in one] == [b.options for b in other]
    assert [(a.then, a.seconds) for a in one] == [pytest.approx((b.then, b.seconds)) for b in other]


# --- The choice against others, simulated.


@dataclass
class Simulated:
    """A sweep of two models whose differences are a line, a little bent, with seeds and scatter about it.

    Every policy gets the same result and time of the same run.
    """

    number: int

    def __post_init__(self) -> None:
        rng = np.random.default_rng([2026, self.number])
        self.sizes = [50 * 2**power for power in range(int(rng.integers(3, 6)))]
        self.seeds = int(rng.integers(2, 5))
        self.documents = 8 * self.sizes[-1]
        self.slope, self.growth = rng.normal(0, 0.02), rng.uniform(0.8, 1.5)
        self.own, self.scatter, self.bend = rng.uniform([0.003, 0.003, 0.0], [0.03, 0.03, 0.01])
        self.claim = self.sizes[-1] * (1 if self.number % 2 else 2)
        # What twice the seeds, three at least, would show at a size that has been run.
        aim = max(2 * self.seeds, 3)
        reach = t(aim - 1) * math.hypot(self.own, self.scatter) / math.sqrt(aim)
        self.goal, self.spent = half(0.0, reach), 0.0

    def _noise(self, *place: int) -> float:
        return float(np.random.default_rng([2026, self.number, *place]).normal())

    def _ratio(self, seed: int, size: int) -> float:
        law = 0.05 + self.slope * math.log(size / self.claim) + self.bend * self._noise(0, size)
        return law + self.own * self._noise(seed) + self.scatter * self._noise(seed, size)

    def known(self) -> Known:
        """What the sweep tells of its claim so far."""
        seeds = range(1, self.seeds + 1)
        return known_of(ratios_of({(d, n): self._ratio(d, n) for d in seeds for n in self.sizes}), self.claim)

    def design(self) -> Design:
        """What it runs, and what that took."""
        line = LineCost(tuple(self.sizes), {size: size**self.growth for size in self.sizes})
        return Design((line, line), self.seeds, True, self.documents)

    def run(self, addition: Addition) -> None:
        """Add it, and pay for it."""
        assert addition.seconds is not None
        self.spent += addition.seconds
        if addition.what == "seeds":
            self.seeds += addition.count
        else:
            self.sizes = sorted([*self.sizes, addition.count])


Policy = Callable[[list[Addition], np.random.Generator], Addition]
POLICIES: dict[str, Policy] = {
    "the first": lambda found, rng: found[0],
    "a size between too": lambda found, rng: max(found, key=lambda one: one.rate or 0.0),
    "random": lambda found, rng: found[rng.integers(len(found))],
    "largest first": lambda found, rng: min(
        found, key=lambda one: (["beyond", "seeds", "between"].index(one.what), one.count)
    ),
}
MOST_STEPS = 100


def spent_by(policy: Policy, number: int) -> float:
    """Seconds until the claim of a simulated sweep is as narrow as asked."""
    sweep, rng = Simulated(number), np.random.default_rng(number)
    for _step in range(MOST_STEPS):
        known = sweep.known()
        width = known.half_width()
        if width is not None and width <= sweep.goal:
            return sweep.spent
        sweep.run(policy(additions(known, sweep.design()), rng))
    return sweep.spent


def shares_of(numbers: Iterable[int]) -> dict[str, float]:
    """Geometric mean of what the first proposal spends over what others spend, where more is to be run."""
    spent = {name: np.array([spent_by(policy, n) for n in numbers]) for name, policy in POLICIES.items()}
    some = spent["the first"] > 0
    return {name: float(stats.gmean(spent["the first"][some] / each[some])) for name, each in spent.items()}


@pytest.mark.parametrize(("claim", "first"), [("beyond the data", 0), ("at the largest size", 1)])
@pytest.mark.long
def test_the_choice_reaches_a_width_for_less_time_than_random_or_largest_first(claim, first):
    shares = shares_of(range(first, 60, 2))
    print(f"claim {claim}:", {name: round(share, 2) for name, share in shares.items()})
    assert shares["random"] < 0.7 and shares["largest first"] < 0.5 and shares["a size between too"] <= 1


# --- The command, and the first screen of the report.


def following(view: View) -> NextRun:
    found = next_run(view)
    assert found is not None
    return found


def test_what_is_missing_comes_first_with_its_time(tmp_path):
    def partial(run: RunRecord) -> RunRecord | None:
        return None if run.point.arm == "lstm" and run.point.num_samples == 400 else planted(0.1)(run)

    found = following(view_of(tmp_path, seeds=(1,), change=partial))
    # The time follows from that at 100 and 200: 0.5 * 400^1.5 = 4000 s.
    assert found.text == "`cvfp run runs/demo` (about 1 h 7 min): one planned run has no record yet."


def test_one_seed_is_to_become_three(tmp_path):
    found = following(view_of(tmp_path, seeds=(1,)))
    assert found.command == "cvfp run runs/demo --seeds 3"
    assert found.why == "an interval over seeds for every difference"
    assert found.seconds == pytest.approx(2 * 2 * sum(0.5 * size**1.5 for size in SIZES))


@pytest.mark.parametrize(
    ("device", "at_work", "share"),
    [("NVIDIA H100", 0.25, 0.25), ("NVIDIA H100", 1.0, 1.0), ("NVIDIA H100", 1.7, 1.0), ("cpu", 0.5, 1.0)],
)
def test_runs_that_went_on_side_by_side_share_their_time(tmp_path, device, at_work, share):
    """Pauses between runs do not make them longer."""
    runs = 2 * sum(0.5 * size**1.5 for size in SIZES)
    made = [METADATA["environments"][0] | {"device": device}]
    metadata = METADATA | {"environments": made, "wall_seconds": at_work * runs}
    found = following(view_of(tmp_path, seeds=(1,), metadata=metadata))
    assert found.seconds == pytest.approx(share * 2 * runs)


def test_an_unclear_difference_gets_seeds_and_the_interval_that_they_are_to_give(tmp_path):
    view = view_of(tmp_path)
    claim, found = claim_of(view), following(view)
    assert claim is not None and found.command == "cvfp run runs/demo --seeds 4"
    now, then = claim.known.half_width(), claim.known.half_width(more_seeds=1)
    expected = f"at 400 documents then has a 95% interval of about ±{then:.1f}% instead of ±{now:.1f}%"
    assert expected in found.text and "): one more seed; the difference" in found.text
    assert "between cvfp and lstm" in found.text or "between lstm and cvfp" in found.text


def test_a_clear_difference_is_asked_for_at_twice_the_data_as_far_as_the_corpus_reaches(tmp_path):
    clear = planted(0.5)
    claim = claim_of(view_of(tmp_path / "pool", change=clear))
    assert claim is not None and claim.known.size == 800 and claim.known.measured is not None
    assert following(view_of(tmp_path / "pool2", change=clear)).command == "cvfp run runs/demo --samples 800"
    (data,) = METADATA["data"]
    pool = data["splits"] | {"pool": {"documents": 799, "tokens": 1, "bytes": 1}}
    for name, metadata in (("small", METADATA | {"data": [data | {"splits": pool}]}), ("unknown", {})):
        view = view_of(tmp_path / name, change=clear, metadata=metadata)
        claim = claim_of(view)
        assert claim is not None and claim.known.size == 400
        assert following(view).command == "cvfp run runs/demo --seeds 4"


def test_a_lone_model_is_asked_for_its_own_perplexity(tmp_path):
    view = view_of(tmp_path, lines=TWO[:1])
    claim, found = claim_of(view), following(view)
    assert claim is not None and claim.other is None and "; test PPL of" in found.text
    values = [math.log(p.val_ppl) for p in view.lines[0].points if p.num_samples == 400]
    reach = stats.t.interval(0.95, 2, 0, stats.sem(values))[1]
    assert claim.known.half_width() == pytest.approx(half(0, reach))


def test_tables_without_a_directory_have_no_next_run_and_kept_sweeps_have_one(tmp_path):
    view = view_of(tmp_path, seeds=(1,))
    assert next_run(replace(view, sweep=replace(view.sweep, files=None))) is None
    kept = View(*read(RESULTS / "baselines"), "docs/results/baselines")
    assert following(kept).command == "cvfp run docs/results/baselines --seeds 4"


def test_several_initialisations_of_a_seed_get_no_seeds(tmp_path):
    view = view_of(tmp_path, inits=2)
    found = additions_to(view, claim_of(view))
    assert {one.what for one in found} == {"between", "beyond"} and next_run(view) is None


def call(capsys, *arguments: str) -> tuple[int, str, str]:
    code = main([*arguments])
    return (code, *capsys.readouterr())


def test_the_command_prints_the_best_first_and_its_command_last(tmp_path, capsys):
    directory = tmp_path / "my runs"
    view = view_of(directory, str(directory))
    code, out, _err = call(capsys, "next", str(directory))
    lines = out.strip().splitlines()
    assert code == 0 and "at 400 documents:" in lines[0] and "95% interval" in lines[0]
    found = additions_to(view, claim_of(view))
    assert lines[-1] == following(view).command == f"cvfp run {shlex.quote(str(directory))} --seeds 4"
    code, out, _err = call(capsys, "next", str(directory), "--json")
    told = json.loads(out)
    assert [one["options"] for one in told["additions"]] == [one.options for one in found]
    assert told["additions"][0]["command"] == lines[-1]
    assert told["additions"][0]["then"] == pytest.approx(found[0].then)
    assert (told["claim"]["num_samples"], told["claim"]["has_run"], told["claim"]["seeds"]) == (400, True, 3)


def test_every_command_plans_what_it_says(tmp_path, capsys):
    directory = tmp_path / "my `runs`"
    view = view_of(directory, str(directory), seeds=(42, 43))
    assert following(view).text.startswith("`` cvfp run ")
    planned = {"--seeds 3": 24, "--seeds 4": 32, "--samples 283": 20, "--samples 800": 20}
    _code, out, _err = call(capsys, "next", str(directory), "--json")
    for one in json.loads(out)["additions"]:
        words = shlex.split(one["command"])
        assert words[:3] == ["cvfp", "run", str(directory)]
        code, out, _err = call(capsys, *words[1:], "--dry-run", "--device", "cpu", "--json")
        assert code == 0 and len(json.loads(out)["points"]) == planned.pop(one["options"])
    assert planned == {}


def test_a_directory_without_a_sweep_is_refused(tmp_path, capsys):
    code, out, err = call(capsys, "next", str(tmp_path))
    assert (code, out) == (2, "") and "no sweep here (there is no plan.json)" in err
    code, _out, err = call(capsys, "next", str(tmp_path / "nowhere"))
    assert code == 2 and "no such directory" in err
