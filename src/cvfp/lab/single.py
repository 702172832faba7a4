"""One model outside a sweep: train it to a checkpoint, score a text with it, write text, check its health."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from cvfp.arms.base import Budget
from cvfp.data.cache import silent
from cvfp.data.corpora import open_corpus, read_texts
from cvfp.data.dataset import open_dataset
from cvfp.data.tokenizers import TextPieces, Tokenizer, saved_tokenizer
from cvfp.lab.checkpoint import save_point
from cvfp.lab.machine import environment
from cvfp.lab.messages import Note, PointFinished, PointStarted, Progress, SweepStarted, Tell, tell_nobody
from cvfp.lab.plan import make_plan, require_read
from cvfp.lab.point import run_point
from cvfp.lab.presets import find_spec
from cvfp.metrics.perplexity import bits_per_byte, perplexity
from cvfp.models.checkpoint import CONFIG, load_checkpoint
from cvfp.models.cvfp import CVFPModel
from cvfp.records.arms import ARM_KINDS
from cvfp.records.config import DataConfig, RunConfig
from cvfp.records.errors import InputError
from cvfp.records.files import check_out, is_file
from cvfp.records.plan import PlannedPoint
from cvfp.records.results import RunRecord
from cvfp.training.devices import pick_device
from cvfp.training.diagnosis import diagnose
from cvfp.training.evaluation import score
from cvfp.training.group import not_launched

WITH_CHECKPOINTS = tuple(arm for arm, kind in ARM_KINDS.items() if kind.has_checkpoint)
SAMPLE_DOCUMENTS = 20
"""Conversations that `diagnose_checkpoint` reads when no text is given."""


def train(
    out: Path | str,
    samples: int = 200,
    preset: str = "recommended",
    settings: dict[str, Any] | None = None,
    device: str = "auto",
    tell: Tell = tell_nobody,
    arm: str = "cvfp-joint",
) -> RunRecord:
    """Train one CVFP model with a preset's settings; write checkpoint, tokenizer, record and model card
    into `out`.

    Args:
        out: a new directory.
        samples: number of training documents.
        preset: a preset's name or a sweep file; its settings are the start.
        settings: config fields by dotted key that win over the preset's, e.g. {"model.context_dim": 256}.
        device: auto, cpu, cuda or mps.
        tell: told what happens.
        arm: `cvfp-joint`, `cvfp` (two phases), or one of its ablations.

    Raises:
        InputError: `out` is not empty, a bad setting, data that cannot serve it, or a launcher started this.
        CvfpError: training diverged; `out` cannot be written.
    """
    not_launched("cvfp train")
    out = Path(out)
    check_out(out)
    if out.exists() and any(out.iterdir()):
        raise InputError(f"--out {out}: exists already; give a new directory")
    point = PlannedPoint(config_name=out.name, config=_one_config(preset, samples, settings or {}, arm))
    budget = Budget(pick_device(device), lambda event: tell(Progress(event)))
    dataset = open_dataset(point.config.data, lambda text: tell(Note(text)))
    tell(SweepStarted(1, (point,)))
    tell(PointStarted(point))
    result = run_point(point, dataset, budget)
    save_point(result, point.config, dataset.tokenizer, environment(budget.device), out)
    tell(PointFinished(point, result.record))
    return result.record


def _one_config(preset: str, samples: int, settings: dict[str, Any], arm: str) -> RunConfig:
    """The config of the one line that a preset has of an arm under these settings."""
    if arm not in WITH_CHECKPOINTS:
        raise InputError(f"arm {arm!r} leaves no checkpoint; there are {', '.join(WITH_CHECKPOINTS)}")
    spec = find_spec(preset).with_settings(settings)
    spec = spec.override(arms=(arm,), samples=(samples,), largest_only=(), seeds=1, inits=1)
    plan = make_plan(spec)
    point, *others = plan.points
    if others:
        keys = set().union(*spec.variants)
        varies = ", ".join(sorted(key for key in keys if len({str(v.get(key)) for v in spec.variants}) > 1))
        raise InputError(f"preset {preset!r} has {len(spec.variants)} lines; choose one by setting {varies}")
    require_read(plan, settings)
    return point.config


def open_model(checkpoint: Path, device: torch.device) -> tuple[CVFPModel, Tokenizer]:
    """Model and tokenizer of a checkpoint directory. Raises `InputError`."""
    if is_file(checkpoint / "record.json"):
        inside = checkpoint / "checkpoint"
        told = f"its model is in {inside}" if is_file(inside / CONFIG) else "it has kept no model"
        raise InputError(f"{checkpoint}: this is a run of a sweep; {told}")
    if not is_file(checkpoint / CONFIG):
        raise InputError(f"{checkpoint}: no checkpoint here (there is no {CONFIG})")
    model, tokenizer = load_checkpoint(checkpoint, device), saved_tokenizer(checkpoint)
    if tokenizer.vocab_size != model.vocab_size:
        raise InputError(
            f"{checkpoint}: its tokenizer has {tokenizer.vocab_size} tokens, its model {model.vocab_size}"
        )
    return model, tokenizer


def score_file(
    checkpoint: Path | str,
    file: Path | str,
    device: str = "auto",
    text_field: str | None = None,
    note: Callable[[str], None] = silent,
) -> dict[str, Any]:
    """PPL, accuracy and bits per byte of a file or folder, which is read as a corpus is.

    Documents are scored as a test split is: one after the other, with nothing between them.

    Args:
        checkpoint: a directory that `train` or `cvfp run` wrote.
        file: text, JSON lines or Parquet, or a folder of these.
        device: auto, cpu, cuda or mps.
        text_field: of records; None: `text`, else `messages`.
        note: told what was left out, or is not UTF-8.

    Raises:
        InputError: no checkpoint there, a file that cannot be read, or under two tokens.
    """
    model, tokenizer = open_model(Path(checkpoint), pick_device(device))
    tokens = _encode(tokenizer, read_texts(Path(file), text_field, note), str(file))
    scores = score(model, torch.from_numpy(tokens).to(model.device))
    target_bytes = int(tokenizer.token_bytes[tokens[1:]].sum())
    return {
        "tokens": len(tokens),
        "ppl": perplexity(scores.nll),
        "accuracy": float(scores.correct.mean()),
        "bits_per_byte": bits_per_byte(scores.nll, target_bytes),
    }


def diagnose_checkpoint(
    checkpoint: Path | str,
    file: Path | str | None = None,
    device: str = "auto",
    text_field: str | None = None,
    note: Callable[[str], None] = silent,
) -> dict[str, Any]:
    """Health checks of a checkpoint's context block on a text (default: chitchat conversations).

    Args and errors are those of `score_file`.
    """
    model, tokenizer = open_model(Path(checkpoint), pick_device(device))
    if model.context_block is None:
        raise InputError(f"{checkpoint}: this model has no context block to diagnose")
    texts = (
        ["\n".join(open_corpus(DataConfig()).documents()[:SAMPLE_DOCUMENTS])]
        if file is None
        else read_texts(Path(file), text_field, note)
    )
    tokens = _encode(tokenizer, texts, str(file))
    return diagnose(model, torch.from_numpy(tokens).to(model.device)).model_dump()


def _encode(tokenizer: Tokenizer, texts: list[str], where: str) -> np.ndarray:
    ids = np.concatenate(tokenizer.encode_batch(texts))
    if len(ids) < 2:
        raise InputError(f"{where}: holds {len(ids)} token; 2 are needed")
    return ids


# --- Text written with a checkpoint, piece by piece.


WeightType = Literal["float32", "float16", "bfloat16"]
LARGEST_SEED = 2**63 - 1


class Writing(Iterator[str]):
    """Pieces of the text that follows a prompt, each given as soon as its characters are whole.

    `prompt_ids` are the tokens of the prompt, `ids` those written so far. Their text is the pieces joined,
    but for bytes at the very end that are no character.
    """

    def __init__(self, pieces: TextPieces, prompt_ids: list[int], tokens: Iterator[int]) -> None:
        self.prompt_ids, self.ids = prompt_ids, []
        self._pieces, self._tokens = pieces, tokens

    def __next__(self) -> str:
        for token in self._tokens:
            self.ids.append(token)
            piece = self._pieces.add(token)
            if piece:
                return piece
        raise StopIteration


def generate(
    checkpoint: Path | str,
    prompt: str,
    max_new_tokens: int = 200,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    seed: int = 0,
    device: str = "auto",
    weights: WeightType | None = None,
) -> Writing:
    """Text that follows a prompt, as an iterator over its pieces; the same seed writes the same.

    Args:
        checkpoint: a directory that `train` or `cvfp run` wrote.
        prompt: at least one token; its length costs no memory later (the state has constant size).
        max_new_tokens: how many tokens are written; models know no end of a text.
        temperature: 0 takes the likeliest token each time; above 0, logits are divided by it.
        top_k: draw from so many of the likeliest tokens.
        top_p: draw from the fewest likeliest tokens whose probabilities sum to at least this.
        seed: of the random numbers, the same on every device.
        device: auto, cpu, cuda or mps.
        weights: the type that matrix products read weights in; None: as they were saved. float16 is fastest.

    Raises:
        InputError: no checkpoint there, a prompt without a token, a number out of its range, no such device.
    """
    if not 0 <= seed <= LARGEST_SEED:
        raise InputError(f"seed is {seed}: it must be 0 to 2^63 - 1")
    if any("\ud800" <= sign <= "\udfff" for sign in prompt):
        raise InputError("the prompt holds bytes that are not UTF-8 text")
    model, tokenizer = open_model(Path(checkpoint), pick_device(device))
    (ids,) = tokenizer.encode_batch([prompt])
    dtype = None if weights is None else getattr(torch, weights)
    tokens = model.generate(torch.from_numpy(ids), max_new_tokens, temperature, top_k, top_p, seed, dtype)
    prompt_ids = ids.tolist()
    return Writing(TextPieces(tokenizer, prompt_ids), prompt_ids, tokens)
