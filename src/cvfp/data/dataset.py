"""One corpus, tokenized and split: what every arm trains on and is scored on."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from cvfp.data.cache import Note, cached_folder, silent
from cvfp.data.corpora import Corpus, open_corpus, read_texts
from cvfp.data.splits import (
    MIN_SOURCES,
    PUBLISHED,
    Split,
    has_whole_sources,
    split_distinct,
    training_documents,
)
from cvfp.data.stores import TokenStore, open_token_store
from cvfp.data.tokenizers import LONGEST_WORD, Tokenizer, bpe_size, load_tokenizer, saved_tokenizer
from cvfp.records.config import DataConfig
from cvfp.records.errors import InputError
from cvfp.records.schema import digest
from cvfp.records.texts import N_

# --- A stream: what a model is trained or scored on.


@dataclass(frozen=True, eq=False)
class Stream:
    """Tokens of documents put together with no separator."""

    tokens: np.ndarray
    """(T,) int64; all but the first are predicted."""
    offsets: np.ndarray
    """(D,) int64: position of the first token of every document."""
    num_bytes: int
    """UTF-8 bytes of the whole text."""
    target_bytes: int
    """UTF-8 bytes of the predicted tokens, `tokens[1:]`: what bits per byte divides by."""

    def __len__(self) -> int:
        return len(self.tokens)


def make_stream(tokens: np.ndarray, lengths: np.ndarray, num_bytes: int, tokenizer: Tokenizer) -> Stream:
    """A stream of documents with these `lengths` in tokens and `num_bytes` of text."""
    offsets = np.concatenate([[0], np.cumsum(lengths)[:-1]]).astype(np.int64)
    return Stream(tokens, offsets, num_bytes, num_bytes - int(tokenizer.token_bytes[tokens[0]]))


def first_tokens(stream: Stream, num_tokens: int, tokenizer: Tokenizer) -> Stream:
    """The stream cut after `num_tokens`. Raises `InputError` when it has fewer.

    Its bytes are those of its tokens, scaled by the text's bytes per byte of tokens (1 unless the tokenizer
    loses text).
    """
    if num_tokens > len(stream):
        raise InputError(f"data.test_tokens {num_tokens}: the test documents hold {len(stream)} tokens")
    tokens = stream.tokens[:num_tokens]
    sizes = tokenizer.token_bytes[tokens]
    text_share = stream.num_bytes / int(tokenizer.token_bytes[stream.tokens].sum())
    num_bytes = round(text_share * int(sizes.sum()))
    offsets = stream.offsets[stream.offsets < num_tokens]
    return Stream(tokens, offsets, num_bytes, num_bytes - int(sizes[0]))


# --- What a corpus holds, in numbers.


TOP = 20
LONGEST = 0.01


def part_stats(
    parts: Mapping[str, Mapping[str, Any]],
    numbers: np.ndarray,
    lengths: np.ndarray,
    sizes: np.ndarray,
    split: Split,
) -> dict[str, Any]:
    """Counts of each of several corpora, with facts of its files; `numbers` (N,) tells its documents."""
    found = {}
    for number, (name, facts) in enumerate(parts.items()):
        own = numbers == number
        found[name] = {
            "documents": int(own.sum()),
            "tokens": int(lengths[own].sum()),
            "bytes": int(sizes[own].sum()),
            "dev_documents": int(own[split.dev].sum()),
            "test_documents": int(own[split.test].sum()),
            **facts,
        }
    return found


def density(lengths: np.ndarray, sizes: np.ndarray, characters: np.ndarray) -> dict[str, float]:
    """How much text a token stands for, which tells whether the tokenizer suits the language.

    Args: tokens, UTF-8 bytes and characters of every document, (N,) each.
    """
    tokens = int(lengths.sum())
    return {
        "bytes_per_token": float(sizes.sum() / tokens) if tokens else 0.0,
        "tokens_per_character": float(tokens / characters.sum()),
    }


def corpus_stats(lengths: np.ndarray, sizes: np.ndarray) -> dict[str, Any]:
    """Counts of documents with these `lengths` (N,) in tokens and `sizes` (N,) in bytes."""
    total = int(lengths.sum())
    longest = np.sort(lengths)[::-1][: math.ceil(LONGEST * len(lengths))]
    return {
        "documents": len(lengths),
        "tokens": total,
        "bytes": int(sizes.sum()),
        "mean_tokens": float(lengths.mean()),
        "median_tokens": float(np.median(lengths)),
        "max_tokens": int(lengths.max()),
        "token_share_of_longest_1_percent": float(longest.sum() / total) if total else 0.0,
    }


def speaker_stats(speakers: list[frozenset[str]], lengths: np.ndarray, split: Split) -> dict[str, Any]:
    """How much of the text few people speak, and how many test documents have a speaker who also trains.

    The tokens of a document are shared evenly by its speakers; `token_share_of_top_20` is the share of the 20
    speakers with the most.
    """
    spoken: Counter[str] = Counter()
    for members, length in zip(speakers, lengths.tolist(), strict=True):
        spoken.update({name: length / len(members) for name in members})
    trained = set().union(*(speakers[i] for i in split.pool))
    seen = [bool(speakers[i] & trained) for i in split.test]
    top = sum(tokens for _, tokens in spoken.most_common(TOP))
    return {
        "speakers": len(spoken),
        "token_share_of_top_20": float(top / lengths.sum()),
        "test_documents_with_a_training_speaker": float(np.mean(seen)),
    }


# --- The data set: a corpus with its tokens and splits.


JOINT = "\n\n"
"""Between the conversations of the published validation text."""
LOSSY = 0.01
"""Share of bytes that a tokenizer may change before it is noted (a space before every text stays below)."""

DENSE = 2.0
"""Bytes per token below which gpt2 does not suit the text; Japanese has about 1.5, English 4."""
FOREIGN = 1.25
"""UTF-8 bytes per character above which a text is mostly in another script than the Latin one."""


@dataclass(frozen=True, eq=False)
class Dataset:
    """Training sets of any size, dev and test, as token streams."""

    config: DataConfig
    corpus: Corpus
    tokenizer: Tokenizer
    split: Split
    store: TokenStore
    """Tokens of every document of the corpus."""
    note: Note

    @property
    def vocab_size(self) -> int:
        """Number of token ids, V."""
        return self.tokenizer.vocab_size

    @cached_property
    def fingerprint(self) -> str:
        """SHA-256 of all that determines the streams except `num_samples` and the seed."""
        parts = [part.tolist() for part in (self.split.pool, self.split.dev, self.split.test)]
        options = [self.config.split == "published", self.config.test_tokens, self.config.order]
        return digest([self.corpus.fingerprint, self.tokenizer.fingerprint, parts, options], 64)

    def train(self, num_samples: int, seed: int) -> Stream:
        """The first `num_samples` documents of the pool's order; for one seed, sizes are nested.

        Raises:
            InputError: the pool has fewer documents.
        """
        chosen = training_documents(self.split.pool, self.config.order, seed, num_samples)
        return self._stream("training", chosen)

    @cached_property
    def dev(self) -> Stream:
        """What decides when training stops."""
        return self._joined() if self.config.split == "published" else self._stream("dev", self.split.dev)

    @cached_property
    def test(self) -> Stream:
        """What is reported; cut to `test_tokens` where that is set."""
        whole = self._joined() if self.config.split == "published" else self._stream("test", self.split.test)
        self._note_lossy(whole)
        limit = self.config.test_tokens
        return whole if limit is None else first_tokens(whole, limit, self.tokenizer)

    @property
    def prior(self) -> list[str]:
        """What the tokenizer has seen that a training set has not, in sentences."""
        if bpe_size(self.config.tokenizer) is not None:
            return [
                f"{self.tokenizer.name} was trained on the whole training pool of {len(self.split.pool)} "
                f"documents, more than the small points see"
            ]
        if self.tokenizer.name == "gpt2":
            return [N_("the gpt2 tokenizer was trained on WebText, outside this corpus")]
        return [f"the tokenizer {self.tokenizer.name} was trained outside this project, on unknown text"]

    def stats(self) -> dict[str, Any]:
        """What the corpus holds and how it is split, as plain data (`cvfp data stats`)."""
        parts = {"pool": self.split.pool, "dev": self.split.dev, "test": self.split.test}
        lengths, sizes = self.store.lengths, self.corpus.store.sizes
        facts = {
            "corpus": self.corpus.name,
            "tokenizer": self.tokenizer.name,
            "vocab_size": self.vocab_size,
            **corpus_stats(lengths, sizes),
            "characters": int(self.corpus.store.characters.sum()),
            **density(lengths, sizes, self.corpus.store.characters),
            "sources": int(self.corpus.sources[-1]) + 1,
            "empty_documents": self.corpus.store.dropped,
            **self._parts(),
            "split": self.config.split,
            "splits": {name: corpus_stats(lengths[part], sizes[part]) for name, part in parts.items()},
            "documents_in_no_split": self.split.dropped(len(self.corpus)),
            "copies_of_earlier_documents": self.split.copies,
        }
        speakers = self.corpus.speakers()
        return (
            facts if speakers is None else facts | {"speakers": speaker_stats(speakers, lengths, self.split)}
        )

    def _parts(self) -> dict[str, Any]:
        """What the files of the corpus are; of several corpora, what each of them is."""
        parts, store = self.corpus.parts, self.corpus.store
        if len(parts) == 1:
            return dict(*parts.values())
        return {"corpora": part_stats(parts, store.parts, self.store.lengths, store.sizes, self.split)}

    def _stream(self, name: str, documents: np.ndarray) -> Stream:
        tokens = self.store.concatenate(documents)
        num_bytes = int(self.corpus.store.sizes[documents].sum())
        return self._checked(
            name, make_stream(tokens, self.store.lengths[documents], num_bytes, self.tokenizer)
        )

    def _joined(self) -> Stream:
        """The test documents joined by blank lines and tokenized as one text."""
        documents = self.split.test

        def text() -> list[str]:
            return [JOINT.join(self.corpus.store.texts(documents))]

        key = [self.corpus.fingerprint, "joined", JOINT, documents.tolist()]
        store = open_token_store(self.tokenizer, key, text, self.note)
        num_bytes = int(self.corpus.store.sizes[documents].sum()) + len(JOINT) * (len(documents) - 1)
        return self._checked(
            "test",
            make_stream(store.concatenate(np.zeros(1, np.int64)), store.lengths, num_bytes, self.tokenizer),
        )

    def _note_lossy(self, stream: Stream) -> None:
        """Bits per byte divides by the bytes of the tokens: say so where they are not those of the text."""
        restored = int(self.tokenizer.token_bytes[stream.tokens].sum())
        if abs(restored - stream.num_bytes) > LOSSY * stream.num_bytes:
            self.note(
                f"tokenizer {self.tokenizer.name}: its test tokens stand for {restored} bytes, the text has "
                f"{stream.num_bytes}; bits per byte is per byte of the tokens"
            )

    def _checked(self, name: str, stream: Stream) -> Stream:
        if len(stream) < 2:
            raise InputError(
                f"{self.corpus.name}: the {name} documents hold {len(stream)} token; 2 are needed"
            )
        return stream


def open_dataset(config: DataConfig, note: Note) -> Dataset:
    """Open the corpus, split it and tokenize it; a second start finds all of it in the cache.

    Args:
        config: names corpus, tokenizer and split.
        note: told, in one line each, what takes time, was left out, or had to be built again.

    Raises:
        InputError: see `open_corpus`, `split_documents`, `load_tokenizer`.
        CvfpError: the cache cannot be used.
    """
    corpus = open_corpus(config, note)
    _note_separator(config, corpus, note)
    _note_copies(config, corpus, note)
    store = corpus.store
    split = split_distinct(config, store.parts, store.sources, store.speakers, store.digests)
    _note_pieces(config, corpus, split, note)
    dropped = split.dropped(len(corpus))
    if dropped:
        note(f"split {config.split}: {dropped} of {len(corpus)} documents are in no part")
    tokenizer = _tokenizer(config, corpus, split, note)

    def texts() -> Iterable[str]:
        return corpus.store.texts(np.arange(len(corpus)))

    store = open_token_store(tokenizer, [corpus.fingerprint, "documents"], texts, note)
    _note_dense(corpus, tokenizer, store, note)
    return Dataset(config, corpus, tokenizer, split, store, note)


def _note_copies(config: DataConfig, corpus: Corpus, note: Note) -> None:
    """Say how many documents are left out as copies; of the published split, how many of those held out are
    trained on."""
    digests = corpus.store.digests
    if config.split == "published":
        held = np.intersect1d(PUBLISHED, np.arange(len(digests)))
        leaked = int(np.isin(np.delete(digests, held), digests[held]).sum())
        if leaked:
            note(f"{corpus.name}: {leaked} training documents have the text of one that is held out")
        return
    copies = len(digests) - len(np.unique(digests))
    if copies:
        note(
            f"{corpus.name}: {copies} of {len(digests)} documents left out, because an earlier one has their "
            f"text (white space apart)"
        )


def _note_separator(config: DataConfig, corpus: Corpus, note: Note) -> None:
    """Say in how many text files of which corpora the separator is not found."""
    for number, (name, facts) in enumerate(corpus.parts.items()):
        files = facts.get("files", {}).get("text", 0)
        without = files - corpus.store.separated.get(number, 0)
        if config.document_separator is None or not without:
            continue
        where = "in it" if files == 1 else f"in {without} of its {files} text files"
        spelled = "\\" in config.document_separator
        hint = "; a line end is written \\n within quotes: '\"\\n\"'" if spelled else ""
        note(
            f"{name}: data.document_separator {config.document_separator!r} is not found {where}, and cuts "
            f"nothing there{hint}"
        )


def _note_pieces(config: DataConfig, corpus: Corpus, split: Split, note: Note) -> None:
    """Say of which corpora no whole files or records are held out, or nothing at all."""
    for number, name in enumerate(corpus.parts):
        own = corpus.store.parts == number
        sources = corpus.sources[own]
        if not has_whole_sources(config, sources - sources[0]):
            note(
                f"{name}: fewer than {MIN_SOURCES} files or records, too few to hold out whole ones: dev "
                f"and test are the last of the pieces they are cut into"
            )
        elif not own[split.test].any():
            note(f"{name}: none of its {own.sum()} documents are test documents")


def _note_dense(corpus: Corpus, tokenizer: Tokenizer, store: TokenStore, note: Note) -> None:
    """GPT-2's tokens are for English: of other scripts they are fragments of characters."""
    found = density(store.lengths, corpus.store.sizes, corpus.store.characters)
    sizes, characters = corpus.store.sizes.sum(), corpus.store.characters.sum()
    if tokenizer.name == "gpt2" and found["bytes_per_token"] < DENSE and sizes > FOREIGN * characters:
        note(
            f"{corpus.name}: gpt2 takes {found['tokens_per_character']:.1f} tokens per character here "
            f"({found['bytes_per_token']:.1f} bytes per token; English has 4); data.tokenizer=bpe:8192, a "
            f"tokenizer trained on the corpus, takes fewer"
        )


def _tokenizer(config: DataConfig, corpus: Corpus, split: Split, note: Note) -> Tokenizer:
    size = bpe_size(config.tokenizer)

    def pool() -> Iterable[str]:
        return corpus.store.texts(split.pool)

    if size is None:
        return load_tokenizer(config.tokenizer, pool)

    def build(folder: Path) -> None:
        note(f"training {config.tokenizer} on the training pool of {len(split.pool)} documents")
        load_tokenizer(config.tokenizer, pool).save(folder)

    key = [size, corpus.fingerprint, digest(split.pool.tolist(), 64), version("tokenizers"), LONGEST_WORD]
    tokenizer = saved_tokenizer(cached_folder("bpe", key, build, note))
    if tokenizer.vocab_size < size:
        note(f"{config.tokenizer}: the training pool yields only {tokenizer.vocab_size} tokens")
    return tokenizer


@dataclass(frozen=True)
class TextSize:
    """How long a text is: its documents together."""

    documents: int
    tokens: int
    num_bytes: int


def count_tokens(path: Path, tokenizer: str, text_field: str | None = None, note: Note = silent) -> TextSize:
    """Documents, tokens and UTF-8 bytes of a file or folder, read as a corpus is (`cvfp data tokenize`).

    Raises:
        InputError: as `read_texts`; a tokenizer that would have to be trained.
    """
    if bpe_size(tokenizer) is not None:
        raise InputError(f"{tokenizer} is trained on a corpus; name gpt2 or a tokenizer.json to count tokens")
    texts = read_texts(path, text_field, note)
    ids = load_tokenizer(tokenizer, list).encode_batch(texts)
    return TextSize(len(texts), sum(map(len, ids)), sum(len(text.encode()) for text in texts))
