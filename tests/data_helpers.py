"""What the tests of the data layer share: tiny corpora, and a cache of their own."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from cvfp.data.corpora import open_corpus
from cvfp.data.dataset import open_dataset
from cvfp.records.config import DataConfig
from cvfp.records.errors import InputError

WORDS = (
    "the",
    "a",
    "cat",
    "dog",
    "sat",
    "ran",
    "on",
    "in",
    "mat",
    "and",
    "then",
    "saw",
    "big",
    "red",
    "very",
)


def sentences(count: int, seed: int = 0) -> list[str]:
    """`count` different random documents of 8 to 30 words."""
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(8, 31))) + f" {i}." for i in range(count)]


def write_jsonl(path: Path, records: list[dict]) -> Path:
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")
    return path


def chats(texts: list[str]) -> list[dict]:
    """Each text as a conversation of two messages."""
    return [
        {"prompt_id": str(i), "messages": [{"role": "user", "content": "Hi"}, {"role": "x", "content": text}]}
        for i, text in enumerate(texts)
    ]


def write_parquet(path: Path, records: list[dict]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(records), path)
    return path


def corpus_of(path: Path, **options):
    return open_corpus(DataConfig(corpus=str(path), **options))


def dataset_of(path: Path | str, **options):
    return open_dataset(DataConfig(corpus=str(path), **options), lambda line: None)


def refusal(call, *args, **kwargs) -> str:
    """The one line with which `call` refuses."""
    with pytest.raises(InputError) as caught:
        call(*args, **kwargs)
    line = str(caught.value)
    assert "\n" not in line
    return line
