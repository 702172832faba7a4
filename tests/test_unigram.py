"""The unigram arm: discounted frequencies, the same at every position."""

import numpy as np
import pytest
import torch

from cvfp.arms.base import Budget, make_arm
from cvfp.arms.kneser_ney import UnigramArm
from cvfp.records.config import RunConfig

BUDGET = Budget(device=torch.device("cpu"))
TRAIN = np.array([3, 1, 3, 2, 3, 1, 5, 3, 3])  # counts 0 2 1 5 0 1 in ids 1..5 of 8


def test_probabilities_by_hand():
    # n1 = 2, n2 = 1, n3 = 0: D1 = 1 - 2 * (1/2) * (1/2) = 1/2; D2 = 1 and D3 = 3/2 by the rule for gaps.
    fitted = UnigramArm(8).fit(TRAIN, TRAIN, BUDGET, seed=0)
    freed = (1 + 0.5 + 1.5 + 0.5) / 9 / 8
    heads = np.array([0, 1, 0.5, 3.5, 0, 0.5, 0, 0]) / 9
    nll = fitted.nll(np.arange(-1, 8).clip(0))
    np.testing.assert_allclose(np.exp(-nll), heads + freed, rtol=1e-14)
    assert np.exp(-nll).sum() == pytest.approx(1, abs=1e-14)


def test_context_changes_nothing():
    fitted = UnigramArm(8).fit(TRAIN, TRAIN, BUDGET, seed=0)
    text = np.random.default_rng(0).integers(0, 8, 50)
    forwards, backwards = fitted.nll(text), fitted.nll(text[::-1])[::-1]  # tokens 1..49 and 0..48
    np.testing.assert_array_equal(forwards[:-1], backwards[1:])


def test_top_1_is_always_the_most_frequent_token():
    fitted = UnigramArm(8).fit(TRAIN, TRAIN, BUDGET, seed=0)
    text = np.array([3, 3, 1, 0, 3])
    assert fitted.score(text).correct.tolist() == [True, False, False, True]


def test_registry_builds_it():
    arm = make_arm(RunConfig(arm="unigram"), 8)
    assert isinstance(arm, UnigramArm)
    assert (arm.order, arm.vocab_size) == (1, 8)
