"""Claim: a mixture has the best weights on dev, never sees the test text before, and trains nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from lab_helpers import tiny_spec
from scipy.optimize import minimize_scalar

from cvfp.arms.mixture import mixed_nll, mixture_weights
from cvfp.lab.plan import make_plan
from cvfp.lab.runner import run_sweep
from cvfp.records.errors import InputError

pytestmark = pytest.mark.usefixtures("undrawn")

CPU = torch.device("cpu")
ARMS = ("mixture", "no-context", "kneser-ney")
MIXED = {"mixture.arms": ("no-context", "kneser-ney")}


def drawn(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).gamma(3.0, 1.5, count)


def test_the_weights_are_the_minimum_that_a_search_finds():
    one, other = drawn(4000, 1), drawn(4000, 2)
    found = mixture_weights([one, other])
    best = minimize_scalar(
        lambda w: mixed_nll([one, other], np.array([w, 1 - w])).mean(), bounds=(0, 1), method="bounded"
    )
    assert found.sum() == pytest.approx(1) and found[0] == pytest.approx(best.x, abs=2e-3)
    assert mixed_nll([one, other], found).mean() <= min(one.mean(), other.mean())


def test_a_component_that_is_always_worse_gets_no_weight():
    one = drawn(500, 1)
    assert mixture_weights([one, one + 1.0])[1] < 1e-3
    assert mixed_nll([one], np.ones(1)) == pytest.approx(one)


def test_a_sweep_mixes_what_its_arms_have_stored(tmp_path, corpus):
    spec = tiny_spec(corpus, arms=ARMS, samples=(4, 8), seeds=2).with_settings(MIXED)
    plan = make_plan(spec)
    assert [point.config.arm for point in plan.points[-4:]] == ["mixture"] * 4
    outcome = run_sweep(plan, tmp_path, CPU)
    assert (outcome.done, outcome.failed) == (12, ())
    rows = json.loads((tmp_path / "detailed_results.json").read_text())
    ppl = {(row["arm"], row["num_samples"], row["seed"]): (row["val_ppl"], row["dev_ppl"]) for row in rows}
    for size in (4, 8):
        for seed in (42, 43):
            parts = [ppl[arm, size, seed] for arm in ARMS[1:]]
            test, dev = ppl["mixture", size, seed]
            assert dev <= min(part[1] for part in parts) * 1.001
            assert test < max(part[0] for part in parts)
    mixture = next(row for row in rows if row["arm"] == "mixture")
    assert (mixture["config_name"], mixture["val_acc"], mixture["steps"]) == (
        "no-context+kneser-ney",
        None,
        None,
    )
    assert len({row["config_hash"] for row in rows if row["arm"] == "mixture"}) == 1


def test_what_is_mixed_must_be_in_the_sweep(corpus):
    with pytest.raises(
        InputError, match="arm mixture mixes no-context and kneser-ney; 'no-context' is not among"
    ):
        make_plan(tiny_spec(corpus, arms=("mixture", "kneser-ney")).with_settings(MIXED))
