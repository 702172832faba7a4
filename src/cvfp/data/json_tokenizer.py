"""Tokenizers of the `tokenizers` library: a local `tokenizer.json`, or a byte-level BPE trained here."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cvfp.data.extras import require
from cvfp.data.hub_tokenizer import DEFINITION, plain_definition, write_settings
from cvfp.data.tokenizer_name import write_name
from cvfp.records.config import LARGEST_VOCABULARY
from cvfp.records.errors import InputError
from cvfp.records.files import parse_json, read_text, write_text

if TYPE_CHECKING:
    import tokenizers

MIN_FREQUENCY = 2
_BYTE_TOKEN = re.compile(r"<0x[0-9A-F]{2}>")


class JsonTokenizer:
    """A tokenizer that its `tokenizer.json` defines. Nothing is cut, padded or added to a text."""

    def __init__(self, name: str, definition: str) -> None:
        self.name = name
        self.fingerprint = _fingerprint(definition)
        self._definition = definition
        self._tokenizer = _parse(definition, name)
        self.vocab_size = 1 + max(self._tokenizer.get_vocab().values())

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """The ids (int64) of every text; special tokens spelled in a text are ordinary text.

        Raises `InputError` for text that the vocabulary has no ids for.
        """
        with _told(f"tokenizer {self.name!r} cannot encode this text"):
            encodings = self._tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def decode(self, ids: np.ndarray | Sequence[int]) -> str:
        """The text of the ids; bytes that are not UTF-8 become U+FFFD."""
        return self._tokenizer.decode(np.asarray(ids).tolist(), skip_special_tokens=False)

    @cached_property
    def token_bytes(self) -> np.ndarray:
        """(V,) UTF-8 bytes of every id; 0 for an id without a token."""
        definition = parse_json(self._definition, f"tokenizer {self.name!r}")
        added = {token["id"]: token["content"] for token in definition.get("added_tokens") or ()}
        size = self._byte_level_size if _is_byte_level(definition.get("decoder")) else self._decoded_size
        sizes = [len(added[i].encode()) if i in added else size(i) for i in range(self.vocab_size)]
        return np.array(sizes, dtype=np.int64)

    def _byte_level_size(self, index: int) -> int:
        # A byte-level token is spelled with one sign per byte.
        token = self._tokenizer.id_to_token(index)
        return 0 if token is None else len(token)

    def _decoded_size(self, index: int) -> int:
        token = self._tokenizer.id_to_token(index)
        if token is None or _BYTE_TOKEN.fullmatch(token):
            return 0 if token is None else 1
        # Decoders drop white space at the start of a text, so every id is measured behind another one.
        together = self.decode(np.array([self._anchor, index]))
        return len(together.encode()) - len(self.decode(np.array([self._anchor])).encode())

    @cached_property
    def _anchor(self) -> int:
        ids = self.encode_batch(["a"])[0]
        return int(ids[0]) if len(ids) else min(self._tokenizer.get_vocab().values())

    def save(self, directory: Path) -> None:
        """Write `tokenizer.json`, without what would cut a text or add to it, and the tokenizer's name."""
        definition = plain_definition(self._definition, f"tokenizer {self.name!r}")
        write_text(directory / DEFINITION, definition)
        write_settings(directory, {})
        write_name(directory, self.name, _fingerprint(definition))


def read_tokenizer(path: Path, name: str) -> JsonTokenizer:
    """The tokenizer of a local `tokenizer.json`.

    Raises:
        InputError: no such file, or not a tokenizer.
    """
    try:
        return JsonTokenizer(name, read_text(path))
    except InputError as error:
        raise InputError(str(error) if str(path) in str(error) else f"{path}: {error}") from error


def train_bpe(size: int, texts: Iterable[str]) -> JsonTokenizer:
    """A byte-level BPE (Sennrich et al. 2016, on bytes) of at most `size` ids trained on `texts`.

    All 256 bytes are ids, so every text can be written; pairs seen once are not merged.
    """
    tokenizers = require("tokenizers")
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=MIN_FREQUENCY,
        show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )
    tokenizer.train_from_iterator(texts, trainer)
    return JsonTokenizer(f"bpe:{size}", tokenizer.to_str(pretty=True))


@contextmanager
def _told(what: str) -> Iterator[None]:
    """The library's errors in ours: it raises bare `Exception`; anything more precise is a bug."""
    try:
        yield
    except Exception as error:
        if type(error) is not Exception:
            raise
        raise InputError(f"{what}: {str(error).partition(chr(10))[0]}") from error


def _parse(definition: str, name: str) -> tokenizers.Tokenizer:
    with _told(f"tokenizer {name!r} is not a valid tokenizer.json"):
        tokenizer = require("tokenizers").Tokenizer.from_str(definition)
    vocabulary = tokenizer.get_vocab()
    if not vocabulary:
        raise InputError(f"tokenizer {name!r} has no tokens")
    largest = max(vocabulary.values())
    if largest >= LARGEST_VOCABULARY:
        raise InputError(f"tokenizer {name!r} has the id {largest}; at most {LARGEST_VOCABULARY} can be")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    tokenizer.encode_special_tokens = True
    return tokenizer


def _fingerprint(definition: str) -> str:
    return hashlib.sha256(definition.encode()).hexdigest()


def _is_byte_level(decoder: Any) -> bool:
    if not isinstance(decoder, dict):
        return False
    parts = decoder.get("decoders", [])
    return decoder.get("type") == "ByteLevel" or any(_is_byte_level(part) for part in parts)
