"""One model: train to a checkpoint, score a text, check its health."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from cvfp.cli.options import Device, Json, Set, given, print_json, settings_of
from cvfp.cli.tables import print_table, value_text


def train(
    out: Annotated[Path, tyro.conf.arg(metavar="DIR", help="where the checkpoint goes")],
    preset: Annotated[str, tyro.conf.arg(help="settings to start from (cvfp presets)")] = "recommended",
    samples: Annotated[int, tyro.conf.arg(help="number of training documents")] = 200,
    corpus: Annotated[
        str | None, tyro.conf.arg(help="chitchat, ultrachat, hub:OWNER/NAME, or a path")
    ] = None,
    embedding: Annotated[str | None, tyro.conf.arg(help="random, gpt2, or a path to a table")] = None,
    device: Device = "auto",
    set_: Set = (),
    json: Json = False,
) -> int:
    """Train one CVFP model to a checkpoint, and score it on the held-out test documents.

    Example: cvfp train --out my-model --samples 100 --set model.context_dim=256 model.embed_dim=256
    """
    from cvfp.cli.progress import Bars
    from cvfp.lab import single

    settings = given(**{"data.corpus": corpus, "embedding.source": embedding}) | settings_of(set_)
    with Bars() as bars:
        record = single.train(out, samples, preset, settings, device, bars)
    if json:
        print_json(record.model_dump(mode="json"))
    else:
        print(f"checkpoint: {out}")
    return 0


def evaluate(
    checkpoint: tyro.conf.Positional[Path],
    file: tyro.conf.Positional[Path],
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Score a text file: perplexity, accuracy, bits per byte.

    Example: cvfp eval my-model some-text.txt
    """
    from cvfp.lab.single import score_file

    figures = score_file(checkpoint, file, device)
    if json:
        print_json(figures)
    else:
        print_table(f"{file} under {checkpoint}", ("figure", "value"), _rows(figures))
    return 0


def diagnose(
    checkpoint: tyro.conf.Positional[Path],
    file: tyro.conf.Positional[Path | None] = None,
    device: Device = "auto",
    json: Json = False,
) -> int:
    """Health of a model's contexts: identity, degenerate, expanding; memory length and contraction.

    Without a file, the first chitchat conversations are the text. Exit code 1 when a check fails.

    Example: cvfp diagnose my-model some-text.txt
    """
    from cvfp.lab.single import diagnose_checkpoint

    health = diagnose_checkpoint(checkpoint, file, device)
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
