"""A corpus and a sweep so small that a test can run it in a second."""

from __future__ import annotations

import json
import signal
from pathlib import Path

import numpy as np

from cvfp.lab.plan import SweepSpec, make_plan
from cvfp.records.plan import Plan

TINY = {
    "data.tokenizer": "bpe:300",
    "data.dev_documents": 3,
    "data.test_documents": 4,
    "model.context_dim": 8,
    "model.embed_dim": 8,
    "phase1.max_iterations": 6,
    "phase1.slice_length": 200,
    "phase2.batch_size": 64,
    "phase2.lr": 3e-3,
    "phase2.epochs": 4,
    "phase2.eval_every": 5,
    "joint.rounds": 2,
    "joint.rank": 4,
    "joint.window": 4,
    "joint.chunks": 32,
    "joint.epochs": 2,
    "joint.lr": 0.01,
    "joint.consistency": 0.0,
}


TINY_TWO_PHASES = {key: value for key, value in TINY.items() if not key.startswith("joint.")}
"""For one model of arm `cvfp`."""


def write_corpus(folder: Path, documents: int = 40, seed: int = 0, words_each: int = 25) -> Path:
    """A .jsonl of short documents from a seeded Markov chain over words: there is something to learn."""
    rng = np.random.default_rng(seed)
    words = ["".join(rng.choice(list("abcdefgh"), size=rng.integers(2, 6))) for _ in range(40)]
    follow = rng.integers(0, 40, size=(40, 3))
    lines = []
    for _ in range(documents):
        word, text = int(rng.integers(40)), []
        for _ in range(words_each):
            text.append(words[word])
            word = int(follow[word, rng.integers(3)])
        lines.append(json.dumps({"text": " ".join(text)}))
    path = folder / "corpus.jsonl"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def tiny_spec(corpus: Path, **changes) -> SweepSpec:
    spec = SweepSpec(name="tiny", samples=(4, 8, 16), settings=TINY | {"data.corpus": str(corpus)})
    return spec.override(**changes)


def tiny_plan(corpus: Path, **changes) -> Plan:
    return make_plan(tiny_spec(corpus, **changes))


def toml_of(spec: SweepSpec) -> str:
    """The spec as a file that `cvfp run` reads."""
    settings = "".join(f"{json.dumps(key)} = {json.dumps(value)}\n" for key, value in spec.settings.items())
    head = {"name": spec.name, "samples": list(spec.samples), "arms": list(spec.arms)}
    top = "".join(f"{key} = {json.dumps(value)}\n" for key, value in head.items())
    return f"{top}\n[settings]\n{settings}"


def rows_of(path: Path) -> list[dict]:
    """The rows of a sweep without the time they took."""
    rows = json.loads((path / "detailed_results.json").read_text())
    return [{key: value for key, value in row.items() if key != "wall_seconds"} for row in rows]


def checkpoint_of(sweep: Path) -> Path:
    """The checkpoint of the CVFP point of a tiny sweep that was trained on most documents."""
    for run in sweep.glob("runs/*"):
        config = json.loads((run / "config.json").read_text())
        if config["arm"] == "cvfp" and config["data"]["num_samples"] == 16:
            return run / "checkpoint"
    raise AssertionError(f"{sweep} has no such point")


def listen_to_sigint():
    """What a shell starts in the background is deaf to SIGINT, and so is what that starts."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
