"""One model: train to a checkpoint, score a text, write one, check its health."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from cvfp.cli.options import (
    Device,
    Embedding,
    Json,
    OtherCorpora,
    Set,
    TextField,
    Track,
    corpus_and_table,
    one_of,
    optional,
    print_json,
    print_note,
    print_table,
    settings_of,
    value_text,
)
from cvfp.records.errors import InputError

if TYPE_CHECKING:
    from cvfp.lab.single import Writing


def train(
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="where the checkpoint goes")],
    preset: Annotated[str, tyro.conf.arg(help="settings to start from (cvfp presets)")] = "recommended",
    samples: Annotated[int, tyro.conf.arg(help="number of training documents")] = 200,
    arm: Annotated[str, tyro.conf.arg(help="cvfp-joint, or cvfp for the two-phase model")] = "cvfp-joint",
    corpus: OtherCorpora = None,
    embedding: Embedding = None,
    device: Device = "auto",
    set_: Set = (),
    track: Track = (),
    json: Json = False,
) -> int:
    """Train one CVFP model to a checkpoint, and score it.

    Scores are of the held-out test documents.

    Example: cvfp train --out my-model --samples 100 --set joint.context_dim=256 model.embed_dim=256
    """
    from cvfp.cli.progress import Bars
    from cvfp.lab import single
    from cvfp.lab.tracking import tracked

    settings = corpus_and_table(corpus, embedding) | settings_of(set_)
    with Bars() as bars, tracked(track, out, bars) as tell:
        record = single.train(out, samples, preset, settings, device, tell, arm)
    if json:
        print_json(record.model_dump(mode="json"))
    else:
        print(f"checkpoint: {out}")
    return 0


def evaluate(
    checkpoint: tyro.conf.Positional[Path],
    file: tyro.conf.Positional[Path],
    text_field: TextField = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Score a text: perplexity, accuracy, bits per byte.

    A file of text, JSON lines or Parquet, or a folder of these.

    Example: cvfp eval my-model some-text.txt
    """
    from cvfp.lab.single import score_file

    figures = score_file(checkpoint, file, device, text_field, print_note)
    if json:
        print_json(figures)
    else:
        print_table(f"{file} under {checkpoint}", ("figure", "value"), _rows(figures))
    return 0


def generate(
    checkpoint: tyro.conf.Positional[Path],
    prompt: tyro.conf.Positional[
        Annotated[
            str,
            tyro.conf.arg(help="how the text begins; - reads standard input (default: a new line)"),
        ]
    ] = "\n",
    max_new_tokens: Annotated[int, tyro.conf.arg(help="how many tokens are written")] = 200,
    temperature: Annotated[float, tyro.conf.arg(help="0 takes the likeliest token each time")] = 1.0,
    top_k: Annotated[int | None, optional("N", "draw from so many of the likeliest tokens")] = None,
    top_p: Annotated[
        float | None, optional("P", "draw from the likeliest tokens that have this probability together")
    ] = None,
    seed: Annotated[int, tyro.conf.arg(help="the same seed writes the same text")] = 0,
    device: Device = "auto",
    weights: Annotated[
        Literal["float32", "float16", "bfloat16"] | None,
        one_of("float32", "float16", "bfloat16"),
        optional("float32|float16|bfloat16", "type that weights are read in; float16 is fastest"),
    ] = None,
    json: Json = False,
) -> int:
    """Write text that follows a prompt, each character as soon as it is whole.

    Example: cvfp generate my-model "The weather today" --temperature 0.8 --top-p 0.95 --seed 1
    """
    from cvfp.lab.single import generate

    text = _standard_input() if prompt == "-" else prompt
    settings = {"max_new_tokens": max_new_tokens, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    settings |= {"seed": seed, "device": device, "weights": weights}
    writing = generate(checkpoint, text, **settings)
    written: list[str] = []
    try:
        if not json:
            print(text, end="", flush=True)
        for piece in writing:
            written.append(piece)
            if not json:
                print(piece, end="", flush=True)
    except KeyboardInterrupt:
        _end_of_text(json, writing, text, written, settings)
        raise
    _end_of_text(json, writing, text, written, settings)
    return 0


def _standard_input() -> str:
    """The prompt from a pipe, without the line break at its end. Raises `InputError`."""
    if sys.stdin is None:
        raise InputError("standard input is closed: there is no prompt to read")
    try:
        text = sys.stdin.buffer.read().decode()
    except UnicodeDecodeError as error:
        raise InputError(f"standard input: not UTF-8 text (byte {error.start})") from error
    return text.removesuffix("\n").removesuffix("\r")


def _end_of_text(
    json: bool, writing: Writing, prompt: str, written: list[str], settings: dict[str, Any]
) -> None:
    """The line break behind a text; or the whole answer."""
    if not json:
        print(flush=True)
        return
    tokens = {"prompt_tokens": writing.prompt_ids, "tokens": writing.ids}
    print_json({"prompt": prompt, "text": "".join(written), **settings, **tokens})


def diagnose(
    checkpoint: tyro.conf.Positional[Path],
    file: tyro.conf.Positional[Path | None] = None,
    text_field: TextField = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Check the health of a model's contexts.

    Identity, degenerate, expanding; memory length and contraction.

    Without a file, the first chitchat conversations are the text. Exit code 1 when a check fails.

    Example: cvfp diagnose my-model some-text.txt
    """
    from cvfp.lab.single import diagnose_checkpoint

    health = diagnose_checkpoint(checkpoint, file, device, text_field, print_note)
    if json:
        print_json(health)
    else:
        figures = {key: value for key, value in health.items() if key != "failures"}
        print_table(f"Context health of {checkpoint}", ("check", "value"), _rows(figures))
        for failure in health["failures"] or ("healthy: no check failed",):
            print(failure)
    return 1 if health["failures"] else 0


def _rows(figures: dict) -> list[tuple[str, str]]:
    return [(name.replace("_", " "), value_text(value)) for name, value in figures.items()]
