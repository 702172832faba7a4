"""What `cvfp tune recommended` chose for every arm, on the default corpus, one seed.

Every arm had 12 trials at 50, 200 and 800 conversations, over the same ranges of the same settings
(`docs/results/tuning/by-size/`), and around its choice at each three more: weights averaged over the tail of
training, and every batch read twice at consistency 0.5 and 1 or once (`docs/results/tuning/recipe/`). The
n-gram has every order, and one for all sizes. The ablations of `cvfp` have its settings: all else is to be
equal.
"""

from __future__ import annotations

from typing import Any

from cvfp.records.arms import arm_kind
from cvfp.records.config import RunConfig
from cvfp.records.tuning import TunedArm, tuned_at

SIZES = (50, 200, 800)
_WHERE = {"model.num_input_tokens": 2, "phase1.slice_length": 5000, "phase2.epochs": 60}
"""What the trials were run at, where it is not a default."""
_BEFORE = {"phase2.lr": 0.0016, "phase2.dropout": 0.15, "phase2.weight_decay": 0.54}

_CHOSEN: dict[str, dict[str, tuple]] = {
    "cvfp-joint": {
        "lr": (0.0032, 0.0032, 0.002),
        "dropout": (0.33, 0.33, 0.4),
        "word_dropout": (0.071, 0.071, 0.05),
        "weight_decay": (0.76, 0.76, 0.5),
        "averaging": ("two-tailed", "two-tailed", "two-tailed"),
        "consistency": (0.5, 0.5, 1.0),
        "chunks": (64, 64, 128),
    },
    "lstm": {
        "lr": (0.0024, 0.0006, 0.00087),
        "dropout": (0.17, 0.56, 0.4),
        "word_dropout": (0.041, 0.047, 0.05),
        "weight_decay": (0.21, 0.71, 0.5),
        "averaging": ("two-tailed", 0.9988, "two-tailed"),
        "consistency": (1.0, 0.0, 0.5),
        "sequences": (16, 16, 32),
    },
    "transformer": {
        "lr": (0.0005, 0.00069, 0.0002),
        "dropout": (0.2, 0.22, 0.11),
        "word_dropout": (0.05, 0.14, 0.077),
        "weight_decay": (0.3, 0.3, 0.058),
        "averaging": ("two-tailed", "two-tailed", "two-tailed"),
        "consistency": (1.0, 0.5, 1.0),
        "sequences": (8, 4, 8),
    },
    "cvfp": {
        "lr": (0.00064, 0.0025, 0.0016),
        "dropout": (0.11, 0.33, 0.15),
        "word_dropout": (0.077, 0.071, 0.0),
        "weight_decay": (0.058, 0.76, 0.54),
        "averaging": ("two-tailed", "two-tailed", "two-tailed"),
        "consistency": (1.0, 1.0, 1.0),
        "batch_size": (2048, 1024, 2048),
    },
}
"""At each of `SIZES`."""
_DEV_PPL = {
    "cvfp-joint": (
        (201.58409246228962, 117.33996426930257, 63.746546611034965),
        (234.95143246346177, 127.97480829504343, 69.9357997714241),
    ),
    "lstm": (
        (231.33080239980478, 131.08981365784183, 70.99791769800771),
        (252.72629205953038, 141.4858639450268, 72.02713739439245),
    ),
    "transformer": (
        (269.8436583400978, 168.45738963028782, 107.6924331091565),
        (289.41967867510675, 175.80005048132614, 113.73303262853949),
    ),
    "cvfp": (
        (266.136099485047, 144.90806617114183, 97.06036129239787),
        (288.1325999809595, 163.8865013633842, 102.19600956556722),
    ),
    "kneser-ney": (
        (251.098125700032, 160.19662527527748, 111.5716606925052),
        (251.098125700032, 160.19662527527748, 111.5716606925052),
    ),
}
"""At each of `SIZES`: of what was chosen, and of what was there before."""


def _tuned(arm: str) -> TunedArm:
    section = arm_kind(arm).training_section
    settings: dict[str, Any] = {"ngram.order": 5}
    if section is not None:
        settings = {
            f"by_size.{section}.{knob}.{size}": value
            for knob, values in _CHOSEN[arm].items()
            for size, value in zip(SIZES, values, strict=True)
        }
    (dev_ppl, before), trials = _DEV_PPL[arm], 4 if section is None else 12 + 3
    config = RunConfig.from_settings(_WHERE | _BEFORE | settings | {"arm": arm})
    return TunedArm(
        trials=trials, settings=settings, at=tuned_at(config), dev_ppl=dev_ppl, untuned_dev_ppl=before
    )


TUNED: dict[str, TunedArm] = {arm: _tuned(arm) for arm in _DEV_PPL}
