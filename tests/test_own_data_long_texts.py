"""Claims: long texts are read in blocks, in bounded memory, and give the documents of the whole text."""

import json
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from data_helpers import corpus_of, dataset_of, refusal, sentences
from fuzz_helpers import tried
from hypothesis import given
from hypothesis import strategies as st

from cvfp.data import documents, encodings, user_files
from cvfp.data.documents import Document, cut_documents
from cvfp.data.tokenizers import gpt2_tokenizer
from cvfp.data.user_files import read_text_file

MEGABYTES = 20


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CVFP_CACHE", str(tmp_path_factory.mktemp("cache")))


def blocks_of(patch, size):
    for module in (encodings, user_files, documents):
        patch.setattr(module, "BLOCK", size)


def joined(parts):
    """The texts of documents whose parts follow each other."""
    texts = [""]
    for part in parts:
        texts[-1] += part.text
        if not part.unfinished:
            texts.append("")
    return texts[:-1]


@given(st.text("ab-\né", max_size=60), st.sampled_from(["-", "--", "-a-", "\n\n"]), st.integers(1, 9))
@tried(150)
def test_a_text_read_in_blocks_has_the_pieces_of_the_whole(tmp_path_factory, text, separator, size):
    path = tmp_path_factory.getbasetemp() / "blocks.txt"
    path.write_bytes(text.encode())
    with pytest.MonkeyPatch.context() as patch:
        blocks_of(patch, size)
        parts = list(read_text_file(path, "utf-8", separator, True))
    assert joined(parts) == text.split(separator)
    assert not parts[0].continues and not parts[-1].unfinished


def cut_at_once(text, max_tokens):
    """The definition: every `max_tokens`-th token of the whole text ends a piece."""
    tokenizer = gpt2_tokenizer()
    data, (ids,) = text.encode(), tokenizer.encode_batch([text])
    ends = np.cumsum(tokenizer.token_bytes[ids])[max_tokens - 1 :: max_tokens].tolist()
    while any(inside := [end < len(data) and data[end] & 0xC0 == 0x80 for end in ends]):
        ends = [end - back for end, back in zip(ends, inside, strict=True)]
    bounds = sorted({0, *ends, len(data)})
    return [data[start:end].decode() for start, end in pairwise(bounds)]


WORDS = [
    "it's",
    "don't",
    " ",
    "  ",
    "\n\n",
    "。",
    "猫である",
    "🙂",
    "12.5",
    "a_b--c",
    "\u3000",
    "é",
    "\x1c",
    "'s",
]


@given(st.lists(st.sampled_from(WORDS), min_size=1, max_size=60), st.integers(1, 9), st.integers(1, 40))
@tried(150)
def test_a_text_cut_in_blocks_has_the_pieces_of_the_whole(words, max_tokens, size):
    text = "".join(words)
    parts = [text[start : start + size] for start in range(0, len(text), size)]
    last = len(parts) - 1
    read = [Document(part, unfinished=number < last) for number, part in enumerate(parts)]
    with pytest.MonkeyPatch.context() as patch:
        blocks_of(patch, size)
        patch.setattr(documents, "LONGEST_WITHOUT_BORDER", 10**6)
        assert [piece.text for piece in cut_documents(read, max_tokens)] == cut_at_once(text, max_tokens)


def test_a_run_without_borders_is_cut_all_the_same(monkeypatch):
    blocks_of(monkeypatch, 50)
    monkeypatch.setattr(documents, "LONGEST_WITHOUT_BORDER", 100)
    read = [Document("ACGT" * 20, unfinished=number < 9) for number in range(10)]
    pieces = [piece.text for piece in cut_documents(read, 7)]
    assert "".join(pieces) == "ACGT" * 200 and len(pieces) > 50


def test_pieces_of_a_cut_file_keep_their_source_where_it_begins_with_a_separator(tmp_path):
    for name, text in (("a.txt", "x"), ("b.txt", "--one--two")):
        (tmp_path / name).write_text(text)
    corpus = corpus_of(tmp_path, document_separator="--", document_tokens=3)
    assert corpus.sources.tolist() == [0, 1, 1] and corpus.store.dropped == 1


@pytest.fixture(scope="module")
def long(tmp_path_factory):
    """One long text file and its paragraphs as records."""
    folder, paragraphs = tmp_path_factory.mktemp("long"), sentences(2000)
    paragraph = " ".join(paragraphs)[:200_000]
    with (folder / "long.txt").open("w") as text, (folder / "long.jsonl").open("w") as records:
        for start in range(0, MEGABYTES * 1_000_000, 2000):
            piece = paragraph[start % 190_000 :][:2000]
            text.write(piece + "\n---\n")
            records.write(json.dumps({"text": piece}) + "\n")
    return folder


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("long.txt", {"document_separator": "\n---\n"}),
        pytest.param("long.txt", {"document_tokens": 5000}, marks=pytest.mark.long),
        pytest.param("long.jsonl", {}, marks=pytest.mark.long),
    ],
)
def test_a_long_file_is_read_in_a_fraction_of_its_size(long, name, options):
    assert gpt2_tokenizer().token_bytes.any()  # computed once, and kept
    tracemalloc.start()
    try:
        assert len(corpus_of(long / name, **options)) > 800
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < MEGABYTES * 1_000_000 / 1.6, f"{peak / 1e6:.1f} MB"


def test_a_document_that_is_too_long_says_what_cuts_it(tmp_path, monkeypatch):
    for module in (documents, user_files):
        monkeypatch.setattr(module, "LARGEST_DOCUMENT", 1000)
    blocks_of(monkeypatch, 100)
    (tmp_path / "a.txt").write_text("word " * 400 + "--" + "word " * 4)
    assert "data.document_separator or data.document_tokens" in refusal(len, corpus_of(tmp_path / "a.txt"))
    line = refusal(len, corpus_of(tmp_path / "a.txt", document_separator="--"))
    assert "a document in it" in line and "data.document_tokens" in line
    assert len(corpus_of(tmp_path / "a.txt", document_tokens=50)) > 4
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "word " * 400}) + "\n")
    assert "line 1: longer than" in refusal(len, corpus_of(tmp_path / "a.jsonl"))


def test_one_file_that_is_one_document_says_what_cuts_it(tmp_path):
    (tmp_path / "a.txt").write_text("one document of words")
    line = refusal(dataset_of, tmp_path / "a.txt")
    assert "the corpus has 1" in line and "data.document_separator" in line and "data.document_tokens" in line
