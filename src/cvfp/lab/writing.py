"""Text written with a checkpoint, piece by piece."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import torch

from cvfp.data.text_pieces import TextPieces
from cvfp.lab.single import open_model
from cvfp.records.errors import InputError
from cvfp.training.devices import pick_device

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
