"""Tokenizers by name: `gpt2`, `bpe:SIZE`, or a path to a `tokenizer.json`."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from cvfp.data.gpt2_tokenizer import gpt2_tokenizer
from cvfp.data.json_tokenizer import read_tokenizer, train_bpe
from cvfp.data.tokenizer_name import read_name
from cvfp.records.errors import InputError
from cvfp.records.files import is_dir, is_file


@runtime_checkable
class Tokenizer(Protocol):
    """Text to ids and back."""

    name: str
    vocab_size: int
    fingerprint: str
    """SHA-256 of what defines the tokenizer."""

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """The ids (int64) of every text, computed on all cores. Special tokens never arise from text."""
        ...

    def decode(self, ids: np.ndarray | Sequence[int]) -> str:
        """The text of the ids."""
        ...

    @property
    def token_bytes(self) -> np.ndarray:
        """(V,) UTF-8 bytes of every id."""
        ...

    def save(self, directory: Path) -> None:
        """Write what `saved_tokenizer` needs into an existing directory."""
        ...


def bpe_size(spec: str) -> int | None:
    """SIZE of `bpe:SIZE`; None for any other tokenizer."""
    return int(spec.removeprefix("bpe:")) if spec.startswith("bpe:") else None


def load_tokenizer(spec: str, pool: Callable[[], Iterable[str]]) -> Tokenizer:
    """The tokenizer that `spec` names; `pool` gives the training texts if it has to be trained.

    Raises:
        InputError: an unknown name, or a file that is missing or broken.
    """
    size = bpe_size(spec)
    if size is not None:
        return train_bpe(size, pool())
    if spec == "gpt2":
        return gpt2_tokenizer()
    path = Path(spec, "tokenizer.json") if is_dir(Path(spec)) else Path(spec)
    if not is_file(path):
        raise InputError(
            f"tokenizer {spec!r}: no such file; there are gpt2, bpe:SIZE, or a path to a tokenizer.json"
        )
    return read_tokenizer(path, Path(spec).resolve().name)


def saved_tokenizer(directory: Path | str) -> Tokenizer:
    """The tokenizer that `Tokenizer.save` wrote into `directory`.

    Raises:
        InputError: a file is missing or broken, or is not what was saved.
    """
    directory = Path(directory)
    name, fingerprint = read_name(directory)
    tokenizer = gpt2_tokenizer() if name == "gpt2" else read_tokenizer(directory / "tokenizer.json", name)
    if tokenizer.fingerprint != fingerprint:
        raise InputError(f"{directory}: its tokenizer is not the one that was saved there")
    return tokenizer
