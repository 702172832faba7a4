"""The presets: the source report's experiments, its next steps, and what this project recommends."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path
from typing import Any

from cvfp.lab.plan import Growth, Settings, SweepSpec, product, read_spec
from cvfp.records.arms import DEFAULT_ARMS, arm_kind
from cvfp.records.config import RunConfig
from cvfp.records.errors import InputError, near
from cvfp.records.plan import Analysis, TunedArm, tuned_at
from cvfp.records.texts import N_
from cvfp.records.training_config import JointConfig

# --- What `cvfp tune recommended` chose for every arm, on the default corpus, one seed.
#
# Every arm had 12 trials at 50, 200 and 800 conversations, over the same ranges of the same settings
# (`docs/results/tuning/by-size/`), and around its choice at each three more: weights averaged over the tail
# of training, and every batch read twice at consistency 0.5 and 1 or once (`docs/results/tuning/recipe/`).
# The n-gram has every order, and one for all sizes. The ablations of `cvfp` have its settings: all else is to
# be equal.


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


# --- The presets, by name.


V1: Settings = {
    "phase1.dist_reg_weight": 0.8,
    "phase1.max_iterations": 40,
    "phase1.context_noise": 0.1,
    "phase1.slice_length": 8000,
    "phase2.epochs": 10,
}
V2: Settings = {
    "phase1.dist_reg_weight": 0.9,
    "phase1.max_iterations": 60,
    "phase1.context_noise": 0.0,
    "phase1.slice_length": 8000,
    "phase2.epochs": 20,
}
V3: Settings = V2 | {"phase1.slice_length": 5000}
TWO_TOKENS: Settings = V3 | {"model.num_input_tokens": 2, "phase2.epochs": 60}
RECOMMENDED: Settings = TWO_TOKENS | TUNED["cvfp"].settings
"""For the ablations of `cvfp` too, which have its settings."""

PLAIN_LSTM: Settings = {
    "lstm.epochs": 200,
    "lstm.dropout": 0.21,
    "lstm.locked_dropout": False,
    "lstm.word_dropout": 0.0,
    "lstm.weight_decay": 0.41,
    "lstm.averaging": 0.0,
    "lstm.consistency": 0.0,
    "lstm.beta2": 0.999,
    "lstm.eval_every": 50,
    "lstm.patience": 5,
}
"""An LSTM without the joint model's recipe, tuned: dropout between its layers, weight decay."""
_PLAIN: Settings = {
    "joint.lr": 1.6e-3,
    "joint.dropout": 0.15,
    "joint.weight_decay": 0.54,
    "joint.word_dropout": 0.0,
    "joint.averaging": 0.0,
    "joint.consistency": 0.0,
    "joint.beta2": 0.999,
    "joint.eval_every": 50,
    "joint.patience": 5,
}
"""How the token layers of the two-phase model learn, for the joint model."""
_PUBLISHED_SHAPE: Settings = {
    "joint.cell": "residual",
    "joint.context_dim": 768,
    "joint.num_input_tokens": 2,
    "joint.token_layers": True,
}


LEAN: Settings = {"joint.averaging": 0.998, "joint.consistency": 0.0}
"""A recipe whose runs take a fifth of the time, for questions about everything else: an exponential average,
every batch read once."""


def _window(length: int) -> Settings:
    """Chunks of so many positions, 2,048 in a step."""
    return {"joint.window": length, "joint.chunks": 2048 // length}


def _named(name: str, settings: Settings, lstm: str | None = None) -> Settings:
    """A variant with what its line of the joint model is called, and one of the LSTM."""
    names = {"name.cvfp-joint": name}
    return settings | names if lstm is None else settings | names | {"name.lstm": lstm}


def _steps(*changes: Settings) -> tuple[Settings, ...]:
    """The first settings, and with each further change added to those before."""
    found: list[Settings] = [{}]
    for change in changes:
        found.append(found[-1] | change)
    return tuple(found[1:])


FROM_TWO_PHASES = _steps(
    _named("token loss, T = 1", _PUBLISHED_SHAPE | _PLAIN | _window(1)),
    _named("T = 16", _window(16), lstm="recipe"),
    _named("mogrified cell", {"joint.cell": "mogrified"}),
    _named("no token layers", {"joint.token_layers": False, "joint.num_input_tokens": 1}),
    _named(
        "recipe",
        {key: JointConfig.model_fields[key.removeprefix("joint.")].default for key in _PLAIN} | LEAN,
    ),
)
"""From the two-phase model to the joint one at width 768, one change at a time."""
FROM_LSTM = _steps(
    _named(
        "LSTM cell in the store, T = 64",
        {"joint.cell": "lstm", "joint.context_dim": 768, "joint.num_layers": 2} | _window(64),
    ),
    _named("LSTM cell in the store, T = 16", _window(16)),
    _named("two mogrified layers", {"joint.cell": "mogrified"}),
    _named("recipe", {"joint.num_layers": 1}),
    _named("width 1024", {"joint.context_dim": 1024}),
)
"""From an LSTM with the joint model's recipe to the joint model, one change at a time."""
FULL_RECIPE: tuple[Settings, ...] = _steps(
    _named(
        "tail average",
        {"lstm.averaging": "two-tailed", "joint.averaging": "two-tailed"},
        lstm="recipe, tail average",
    ),
    _named(
        "two readings",
        {f"{arm}.consistency": 1.0 for arm in ("lstm", "joint")},
        lstm="recipe, tail average, two readings",
    ),
)
"""What both then get: an average over the tail of training, two readings of every batch."""
EQUAL_CELLS: tuple[Settings, ...] = (
    _named("mogrified", {"joint.cell": "mogrified"}),
    _named("LSTM", {"joint.cell": "lstm", "joint.context_dim": 1063}),
    _named("gated", {"joint.cell": "gated", "joint.context_dim": 1257}),
    _named("highway", {"joint.cell": "highway", "joint.context_dim": 1206, "joint.num_layers": 2}),
    _named("residual", {"joint.cell": "residual", "joint.context_dim": 2263}),
)
"""Every cell with 8.6 million core parameters at tables of 768."""
TWO_LAYERS: Settings = {"joint.context_dim": 664, "joint.num_layers": 2}
"""With as many core parameters as one layer of 1,024 has."""
JOINT_SHAPES: tuple[Settings, ...] = (
    {"joint.context_dim": 768},
    {"joint.context_dim": 768, "joint.num_layers": 2},
    {"joint.context_dim": 768, "joint.num_layers": 3},
    {"joint.context_dim": 768, "joint.num_input_tokens": 2},
    {"joint.context_dim": 768, "joint.num_input_tokens": 3},
    {"joint.context_dim": 1200},
    {"joint.context_dim": 1537},
)
REPORT_SIZES = (50, 100, 200, 500)
DOUBLING = Growth(start=50, multiplier=2, window_size=4, num_windows=2)
"""50 to 800 documents, two windows of four sizes."""
DOUBLING_FURTHER = DOUBLING.model_copy(update={"num_windows": 3})
"""50 to 1600 documents, three windows of four sizes."""
WIDTHS = product(context_dim=(768, 1200, 1537))


QUICKSTART: dict[int, Settings] = {
    6: {"joint.chunks": 32, "joint.steps": 58, "lstm.sequences": 8, "lstm.steps": 28},
    12: {"joint.chunks": 64, "joint.steps": 72, "lstm.sequences": 16, "lstm.steps": 72},
    24: {"joint.chunks": 64, "joint.steps": 273, "lstm.sequences": 16, "lstm.steps": 170},
    48: {"joint.chunks": 64, "joint.steps": 706, "lstm.sequences": 16, "lstm.steps": 353},
}
"""Its sizes: two to five epochs of the joint model and the LSTM, by what a few tries found on dev."""


def _quickstart() -> SweepSpec:
    """Sized for two cores: a small vocabulary and width, so that four sizes over a factor of eight fit.

    Chosen by trial: widths of 192 instead of 128 lower the two-phase model's PPL by 1% and take 1.4 times as
    long; a learning rate of 3e-3 instead of 2e-3 raises it. The joint model and the LSTM learn for a few
    epochs, a fixed number of steps: their dev losses still fall slowly when time is up.
    """
    settings: Settings = {
        "data.tokenizer": "bpe:2048",
        "data.dev_documents": 12,
        "data.test_documents": 60,
        "model.num_input_tokens": 2,
        "model.context_dim": 128,
        "model.embed_dim": 128,
        "phase1.slice_length": 5000,
        "phase2.batch_size": 512,
        "phase2.lr": 2e-3,
        "phase2.epochs": 12,
        "phase2.eval_every": 30,
        "joint.context_dim": 192,
        "joint.rounds": 2,
        "joint.rank": 32,
        "joint.window": 8,
        "joint.lr": 0.008,
        "joint.dropout": 0.1,
        "joint.word_dropout": 0.0,
        "joint.weight_decay": 0.1,
        "joint.averaging": 0.98,
        "joint.consistency": 0.0,
        "joint.evaluations_per_epoch": 1,
        "lstm.num_layers": 1,
        "lstm.lr": 0.01,
        "lstm.dropout": 0.1,
        "lstm.weight_decay": 0.3,
        "lstm.word_dropout": 0.0,
        "lstm.averaging": 0.98,
        "lstm.consistency": 0.0,
        "lstm.evaluations_per_epoch": 1,
    }
    for size, chosen in QUICKSTART.items():
        settings |= {f"by_size.{key}.{size}": value for key, value in chosen.items()}
    return SweepSpec(
        name="quickstart",
        description=N_("The whole story on two cores in a few minutes: small vocabulary, small widths"),
        arms=(*DEFAULT_ARMS, "lstm", "unigram"),
        samples=tuple(QUICKSTART),
        settings=settings,
    )


PRESETS: dict[str, SweepSpec] = {
    spec.name: spec
    for spec in (
        SweepSpec(
            name="v1",
            description=N_("Does a wider context scale better? (source report, first experiment)"),
            samples=REPORT_SIZES,
            settings=V1,
            variants=WIDTHS,
        ),
        SweepSpec(
            name="v2",
            description=N_("v1 with more dispersion, more iterations, no noise, more epochs"),
            samples=REPORT_SIZES,
            settings=V2,
            variants=WIDTHS,
        ),
        SweepSpec(
            name="v3",
            description=N_("Two input tokens, and whether the exponent changes with data"),
            samples=DOUBLING.sizes,
            settings=V3 | {"model.num_input_tokens": 2},
            analysis=Analysis(window_size=DOUBLING.window_size),
        ),
        SweepSpec(
            name="matrix",
            description=N_("Layers times input tokens"),
            samples=REPORT_SIZES,
            settings=V1,
            variants=product(num_layers=(1, 2, 3), num_input_tokens=(1, 2, 3)),
        ),
        SweepSpec(
            name="next",
            description=N_(
                "The source report's next steps: more layers, 1600 conversations, three input tokens"
            ),
            samples=DOUBLING_FURTHER.sizes,
            settings=V3 | LEAN,
            variants=tuple(
                model | joint
                for model, joint in zip_longest(
                    (
                        *product(num_layers=(1, 2, 3), num_input_tokens=(2,)),
                        *product(num_layers=(1,), num_input_tokens=(3,)),
                        *product(num_layers=(1,), num_input_tokens=(2,), context_dim=(1200,)),
                    ),
                    JOINT_SHAPES,
                    fillvalue={"model.num_input_tokens": 2},
                )
            ),
            analysis=Analysis(window_size=DOUBLING_FURTHER.window_size),
        ),
        SweepSpec(
            name="one-factor",
            description=N_("v1 with each of v2's four changes alone: which of them did what"),
            samples=REPORT_SIZES,
            settings=V1,
            variants=({}, *({key: V2[key]} for key in V1 if V1[key] != V2[key])),
        ),
        SweepSpec(
            name="recommended",
            description=N_("What this project found best so far, for those who just want a good model"),
            samples=DOUBLING.sizes,
            settings=RECOMMENDED,
            tuned=TUNED,
        ),
        SweepSpec(
            name="baselines",
            description=N_("CVFP and its ablations beside an n-gram, an LSTM and a Transformer, three seeds"),
            arms=(*DEFAULT_ARMS, "lstm", "transformer", "mixture"),
            samples=DOUBLING_FURTHER.sizes,
            seeds=3,
            settings=RECOMMENDED,
            tuned=TUNED,
            analysis=Analysis(window_size=DOUBLING_FURTHER.window_size),
        ),
        SweepSpec(
            name="gradient-window",
            description=N_("Through how many positions must the gradient of joint training flow?"),
            arms=("cvfp-joint",),
            samples=(100, 800),
            seeds=3,
            settings=LEAN,
            variants=tuple(_named(f"T = {length}", _window(length)) for length in (1, 2, 4, 8, 16, 32, 64)),
        ),
        SweepSpec(
            name="cells",
            description=N_("Which cell learns best, at equal core parameters?"),
            arms=("cvfp-joint",),
            samples=(100, 800),
            seeds=3,
            settings=LEAN,
            variants=EQUAL_CELLS,
        ),
        SweepSpec(
            name="attribution",
            description=N_("What makes the joint model better: two roads to it, one change at a time"),
            arms=("cvfp", "lstm", "cvfp-joint"),
            samples=(100, 800),
            seeds=3,
            settings=TWO_TOKENS
            | LEAN
            | {"phase2.lr": 1.6e-3, "phase2.dropout": 0.15, "phase2.weight_decay": 0.54}
            | {"lstm.averaging": 0.998, "lstm.consistency": 0.0},
            variants=(
                PLAIN_LSTM | FROM_TWO_PHASES[0] | {"name.lstm": "plain"},
                *FROM_TWO_PHASES[1:],
                *FROM_LSTM,
                *FULL_RECIPE,
            ),
        ),
        SweepSpec(
            name="beyond",
            description=N_("What goes beyond the default joint model: teachers, a wider context, two layers"),
            arms=("cvfp-joint",),
            samples=(800, 1600),
            settings=RECOMMENDED,
            tuned=TUNED,
            variants=(
                {},
                _named("four distilled", {"joint.teachers": 4}),
                _named("width 1537", {"joint.context_dim": 1537}),
                _named("two layers of 664", TWO_LAYERS),
            ),
        ),
        _quickstart(),
    )
}


def find_spec(name: str) -> SweepSpec:
    """The preset of that name, or the sweep in that `.toml` file.

    Raises:
        InputError: no such preset (lists what there is), or a bad file.
    """
    if name.endswith(".toml"):
        return read_spec(Path(name), PRESETS)
    if name not in PRESETS:
        known = f"there are {', '.join(PRESETS)} (or give a .toml file, or a sweep's directory)"
        raise InputError(f"unknown preset {name!r}{near(name, PRESETS)}; {known}")
    return PRESETS[name]
