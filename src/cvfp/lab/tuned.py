"""What `cvfp tune recommended` chose for every arm, on the default corpus, one seed.

Every arm had 12 trials, the n-gram every order.

`cvfp-joint` was tuned at 50, 200 and 800 conversations, each with its own choice (the trials are in
`docs/results/tuning/by-size/`); the others at 100 and 800, with one choice for both, and fewer settings
(`docs/results/tuning/recommended/`). `LstmConfig` and `TransformerConfig` have the latter as their defaults.
"""

from __future__ import annotations

from cvfp.records.config import RunConfig
from cvfp.records.tuning import TunedArm, tuned_at

_WHERE = {"model.num_input_tokens": 2, "phase1.slice_length": 5000, "phase2.epochs": 60}
"""What the trials were run at, where it is not a default."""
_TOKEN_LAYERS = {"phase2.lr": 0.0016, "phase2.dropout": 0.15, "phase2.weight_decay": 0.54}

_JOINT = {
    "lr": (0.0032, 0.0032, 0.002),
    "dropout": (0.33, 0.33, 0.4),
    "word_dropout": (0.071, 0.071, 0.05),
    "weight_decay": (0.76, 0.76, 0.5),
    "averaging": (0.9918, 0.9918, 0.998),
    "chunks": (64, 64, 128),
}
"""At 50, 200 and 800 conversations."""

_CHOSEN: dict[str, TunedArm] = {
    "cvfp-joint": TunedArm(
        trials=12,
        settings={
            f"by_size.joint.{knob}.{size}": value
            for knob, values in _JOINT.items()
            for size, value in zip((50, 200, 800), values, strict=True)
        },
        dev_ppl=(225.81135737958138, 124.47494730152627, 69.9357997714241),
        untuned_dev_ppl=(234.95143246346177, 127.97480829504343, 69.9357997714241),
    ),
    "cvfp": TunedArm(
        trials=12,
        settings=_TOKEN_LAYERS,
        dev_ppl=(207.5313511095167, 99.08741382922682),
        untuned_dev_ppl=(205.32516351952813, 107.41759704111364),
    ),
    "random-context": TunedArm(
        trials=12,
        settings=_TOKEN_LAYERS,
        dev_ppl=(206.8729248234668, 99.74800692603147),
        untuned_dev_ppl=(205.04751287644942, 107.62917895322316),
    ),
    "no-context": TunedArm(
        trials=12,
        settings=_TOKEN_LAYERS,
        dev_ppl=(209.75745253090165, 102.79703603519708),
        untuned_dev_ppl=(206.5785089624503, 107.6075977530866),
    ),
    "lstm": TunedArm(
        trials=12,
        settings={"lstm.lr": 0.00087, "lstm.dropout": 0.21, "lstm.weight_decay": 0.41},
        dev_ppl=(175.37103178079244, 79.83540857343934),
        untuned_dev_ppl=(176.51065949374936, 95.94906930585155),
    ),
    "transformer": TunedArm(
        trials=12,
        settings={
            "transformer.lr": 0.00026,
            "transformer.dropout": 0.015,
            "transformer.weight_decay": 0.034,
        },
        dev_ppl=(213.63166505732102, 114.41872753186438),
        untuned_dev_ppl=(226.3715704465616, 124.50338473796546),
    ),
    "kneser-ney": TunedArm(
        trials=4,
        settings={"ngram.order": 5},
        dev_ppl=(192.48336089283754, 111.5716606925052),
        untuned_dev_ppl=(192.48336089283754, 111.5716606925052),
    ),
}


def _located(arm: str, tuned: TunedArm) -> TunedArm:
    config = RunConfig.from_settings(_WHERE | tuned.settings | {"arm": arm})
    return tuned.model_copy(update={"at": tuned_at(config)})


TUNED: dict[str, TunedArm] = {arm: _located(arm, tuned) for arm, tuned in _CHOSEN.items()}
