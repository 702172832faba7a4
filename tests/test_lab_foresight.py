"""Forecasts are made before their size runs, from smaller sizes alone, and cannot be changed unnoticed."""

from __future__ import annotations

import json

import pytest
import torch
from lab_helpers import tiny_plan

from cvfp.lab import runner
from cvfp.lab.runner import run_sweep
from cvfp.records.errors import InputError
from cvfp.records.sweep import read_forecasts
from cvfp.scaling.forecast import last_slope
from cvfp.scaling.outlook import outlook
from cvfp.scaling.points import points_of

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")
ARMS = ("unigram", "kneser-ney")
SIZES = (4, 6, 8, 11, 14, 18)


def test_a_forecast_is_that_of_the_smaller_sizes(tmp_path, corpus):
    """The last slope from three sizes on; the gated forecast where there are enough, and a form fits them."""
    run_sweep(tiny_plan(corpus, arms=ARMS, samples=SIZES), tmp_path, CPU)
    found = read_forecasts(tmp_path / "forecasts.json")
    rows = json.loads((tmp_path / "detailed_results.json").read_text())
    rules: dict[str, int] = {}
    for one in found:
        assert one.known_samples == tuple(size for size in SIZES if size < one.num_samples)
        assert one.seeds == (42,)
        line = [row for row in rows if row["arm"] == one.arm]
        known = [row for row in line if row["num_samples"] in one.known_samples]
        points = points_of([row["train_tokens"] for row in known], [row["val_ppl"] for row in known])
        assert one.tokens == line[SIZES.index(one.num_samples)]["train_tokens"]
        rule = outlook(points) if one.rule == "outlook" else last_slope(points)
        assert one.ppl == pytest.approx(float(rule.predict(one.tokens)))
        assert (one.low, one.high) == pytest.approx(tuple(map(float, rule.prediction_interval(one.tokens))))
        assert one.low <= one.ppl <= one.high
        rules[one.rule] = rules.get(one.rule, 0) + 1
    assert rules["last_slope"] == 3 * len(ARMS) and rules["outlook"] >= 1
    log = (tmp_path / "output.txt").read_text().splitlines()
    told = [index for index, line in enumerate(log) if "forecast of" in line]
    assert len(told) == len(found)
    for one in found:
        size = f"{one.num_samples} samples"
        made = next(index for index in told if one.digest in log[index])
        assert made < next(index for index, line in enumerate(log) if size in line and index not in told)


def test_a_forecast_of_several_initialisations_is_across_their_draws(tmp_path, corpus):
    plan = tiny_plan(corpus, arms=("unigram",), samples=(4, 6, 9, 16), seeds=2, inits=2)
    run_sweep(plan, tmp_path, CPU)
    found = read_forecasts(tmp_path / "forecasts.json")
    (law,) = [one for one in found if (one.num_samples, one.rule) == (16, "last_slope")]
    rows = json.loads((tmp_path / "detailed_results.json").read_text())
    largest = {row["seed"]: row["train_tokens"] for row in rows if row["num_samples"] == 16}
    assert (law.seeds, sorted(largest)) == ((42, 43), [42, 43, 44, 45])
    assert law.tokens == (largest[42] + largest[43]) / 2


def test_no_forecast_is_made_once_a_point_of_its_size_is_there(tmp_path, corpus, monkeypatch):
    """The sweep is cut after the first seed's largest point; what is then known is no forecast."""
    plan = tiny_plan(corpus, arms=("kneser-ney",), samples=(4, 6, 9, 16), seeds=2)
    real, calls, cut = runner.run_point, [], []

    def counted(point, dataset, budget):
        calls.append(point.config.data.num_samples)
        if calls.count(16) == 2 and not cut:
            cut.append(True)
            raise KeyboardInterrupt
        return real(point, dataset, budget)

    monkeypatch.setattr(runner, "run_point", counted)
    with pytest.raises(KeyboardInterrupt):
        run_sweep(plan, tmp_path, CPU)
    (tmp_path / "forecasts.json").unlink()
    run_sweep(plan, tmp_path, CPU)
    assert read_forecasts(tmp_path / "forecasts.json") == []


def test_a_resumed_sweep_keeps_the_forecasts_it_had(tmp_path, corpus, monkeypatch):
    plan = tiny_plan(corpus, arms=ARMS, samples=(4, 6, 9, 16))
    real = runner.run_point

    def cut(point, dataset, budget):
        if point.config.data.num_samples == 16:
            raise KeyboardInterrupt
        return real(point, dataset, budget)

    with monkeypatch.context() as patch:
        patch.setattr(runner, "run_point", cut)
        with pytest.raises(KeyboardInterrupt):
            run_sweep(plan, tmp_path, CPU)
    before = (tmp_path / "forecasts.json").read_text()
    run_sweep(plan, tmp_path, CPU)
    assert (tmp_path / "forecasts.json").read_text() == before


def test_a_forecast_that_was_changed_afterwards_is_an_error(tmp_path, corpus):
    run_sweep(tiny_plan(corpus, arms=("unigram",), samples=(4, 6, 9, 16)), tmp_path, CPU)
    path = tmp_path / "forecasts.json"
    entries = json.loads(path.read_text())
    entries[0]["forecast"]["high"] *= 2
    path.write_text(json.dumps(entries))
    with pytest.raises(InputError, match=r"forecasts.json: the forecast of unigram 1gram at 16 was changed"):
        read_forecasts(path)


@pytest.mark.parametrize("text", ["{}", "[1]", '[{"forecast": {}, "digest": "x"}]', "["])
def test_a_damaged_file_is_an_error_that_names_it(tmp_path, text: str):
    path = tmp_path / "forecasts.json"
    path.write_text(text)
    with pytest.raises(InputError, match=r"forecasts\.json"):
        read_forecasts(path)
