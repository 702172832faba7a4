"""The embedded corpus: real conversations of the Chit-Chat Challenge, in the package `chitchat-dataset`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

from cvfp.data.documents import Document, Source
from cvfp.data.extras import package_file
from cvfp.data.gpt2_tokenizer import ENCODER_SHA256, gpt2_tokenizer
from cvfp.data.hashing import check_sha256
from cvfp.records.schema import digest

VERSION = "0.9.0"
SHA256 = "d2a5d0bf6acf354fef51f3af39cbece2220d3b8f6086b658c3d335105798312a"
MIN_TOKENS = 200
"""Shorter conversations (in GPT-2 tokens) are left out: 2,607 of 7,168 remain, 3,024,786 tokens."""


def open_chitchat() -> Source:
    """Conversations of at least 200 GPT-2 tokens, utterances joined by "\\n", in file order, with speakers.

    Raises:
        InputError: the package is missing or its data file is not that of version 0.9.0.
    """
    path = package_file("chitchat_dataset", "dataset.json")
    check_sha256(path, SHA256, f"pip install --force-reinstall chitchat-dataset=={VERSION}")
    fingerprint = digest([SHA256, MIN_TOKENS, ENCODER_SHA256], 64)
    return Source("chitchat", fingerprint, lambda: _read(path), frozenset({"chitchat"}))


def _read(path: Path) -> Iterator[Document]:
    conversations = [_document(value) for value in json.loads(path.read_bytes()).values()]
    lengths = map(len, gpt2_tokenizer().encode_batch([document.text for document in conversations]))
    return (document for document, length in zip(conversations, lengths, strict=True) if length >= MIN_TOKENS)


def _document(conversation: dict) -> Document:
    utterances = [utterance for turn in conversation["messages"] for utterance in turn]
    speakers = frozenset(utterance["sender"] for utterance in utterances)
    return Document("\n".join(utterance["text"] for utterance in utterances), speakers)
