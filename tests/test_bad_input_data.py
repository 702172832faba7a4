"""Bad input, data: corpora, tokenizers, embedding tables and checkpoints of any bytes."""

from __future__ import annotations

import io
import json
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from fuzz_helpers import damaged, damaged_json, judged, refused, swapped, tried, written
from hypothesis import given
from hypothesis import strategies as st
from safetensors.numpy import save
from safetensors.torch import save as save_torch

from cvfp.data.corpora import open_corpus
from cvfp.data.embeddings import load_table, read_npy
from cvfp.data.tokenizer_files import NAME_FILE, read_name
from cvfp.data.tokenizers import load_tokenizer, train_bpe
from cvfp.models.checkpoint import CONFIG, WEIGHTS, load_checkpoint, save_checkpoint
from cvfp.models.cvfp import CVFPModel
from cvfp.records.config import LARGEST_VOCABULARY, DataConfig, EmbeddingConfig, ModelConfig

SHAPE = (4, 3)
IMPOSSIBLE = ["a\0b", "x" * 5000, "\ud800", "x" * 300 + "/y"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("data")


def documents(path: Path | str, **options: Any) -> list[str]:
    return open_corpus(DataConfig.parse({"corpus": str(path)} | options, "data")).documents()


LINES = [{"text": "some words"}, {"messages": [{"role": "user", "content": "é"}]}]


@given(st.data())
@tried(80)
def test_a_damaged_jsonl_corpus_is_read_or_refused(folder, data):
    line = data.draw(damaged_json(data.draw(st.sampled_from(LINES))))
    path = written(folder, "c.jsonl", json.dumps(LINES[0]).encode() + b"\n" + line)
    judged(lambda: documents(path), "c.jsonl")


@given(damaged("Ein Satz.\nNoch einer: é.\n".encode()))
@tried(60)
def test_a_damaged_text_corpus_is_read_or_refused(folder, content):
    judged(lambda: documents(written(folder, "c.txt", content), document_separator="\n"), "c.txt")


@pytest.fixture(scope="module")
def parquet(folder) -> bytes:
    pyarrow = pytest.importorskip("pyarrow")
    from pyarrow.parquet import write_table

    when = pyarrow.array([2**40] * 3, pyarrow.timestamp("s"))  # a year that Python's dates have not
    chat = [[{"content": "a"}]] * 3
    write_table(pyarrow.table({"text": ["a", "é", None], "when": when, "chat": chat}), folder / "c.parquet")
    return (folder / "c.parquet").read_bytes()


@given(st.data())
@tried(80)
def test_a_damaged_parquet_corpus_is_read_or_refused(folder, parquet, data):
    path = written(folder, "d.parquet", data.draw(damaged(parquet)))
    judged(lambda: documents(path, text_field=data.draw(st.sampled_from([None, "chat"]))), "d.parquet")


def test_values_that_python_has_not_are_refused(folder, parquet):
    path = written(folder, "e.parquet", parquet)
    assert documents(path) == ["a", "é"]
    assert "date value out of range" in refused(lambda: documents(path, text_field="when"), "e.parquet")
    assert "'when', 'chat'" in refused(lambda: documents(path, text_field="no"), "e.parquet")


BPE = json.loads(train_bpe(260, ["hello hello"])._definition)
KINDS = [
    {"type": "WordLevel", "vocab": {"a": 0, "b": 1}, "unk_token": "[UNK]"},
    {"type": "WordPiece", "vocab": {"a": 0}, "unk_token": "b", "continuing_subword_prefix": "##"}
    | {"max_input_chars_per_word": 100},
    {"type": "Unigram", "vocab": [["a", -1.0], ["b", -2.0]], "unk_id": None, "byte_fallback": False},
]
TOKENIZERS = [BPE, *({"version": "1.0", "added_tokens": [], "model": kind} for kind in KINDS)]


def used(path: Path) -> int:
    """Everything that a tokenizer is asked for; its bytes."""
    tokenizer = load_tokenizer(str(path), list)
    tokenizer.encode_batch(["ab hello", ""])
    tokenizer.decode(np.arange(tokenizer.vocab_size))
    return int(tokenizer.token_bytes.sum())


@given(st.data())
@tried(120)
def test_a_damaged_tokenizer_is_used_or_refused(folder, data):
    definition = data.draw(st.sampled_from(TOKENIZERS))
    content = data.draw(swapped(definition).map(json.dumps) | damaged_json(definition))
    judged(lambda: used(written(folder, "tok.json", content)), "tok.json")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({}, "cannot encode this text"),
        ({"vocab": {"a": 0, "[UNK]": 4_000_000_000}}, f"at most {LARGEST_VOCABULARY}"),
        ({"vocab": {}}, "has no tokens"),
        ({"unk_token": 3}, "not a valid tokenizer.json"),
    ],
    ids=range(4),
)
def test_a_tokenizer_that_would_raise_or_fill_the_memory_is_refused(tmp_path, change, said):
    path = written(tmp_path, "tok.json", json.dumps(TOKENIZERS[1] | {"model": KINDS[0] | change}))
    assert said in refused(lambda: used(path), "tok.json")


def test_a_tokenizer_without_an_a_measures_its_tokens_all_the_same(tmp_path):
    model = KINDS[2] | {"vocab": [["éé", -1.0]], "unk_id": 0}
    assert used(written(tmp_path, "tok.json", json.dumps(TOKENIZERS[1] | {"model": model}))) > 0


@given(damaged_json({"name": "gpt2", "sha256": "ab"}))
@tried(60)
def test_a_damaged_tokenizer_name_is_read_or_refused(folder, content):
    written(folder, NAME_FILE, content)
    judged(lambda: read_name(folder), NAME_FILE)


def npy(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def table(path: Path | str) -> np.ndarray:
    return load_table(EmbeddingConfig.parse({"source": str(path)}, "embedding"), *SHAPE, 0)


VALUES = np.arange(12, dtype=np.float32).reshape(SHAPE)


@given(damaged(npy(VALUES)))
@tried(150)
def test_a_damaged_npy_table_is_read_or_refused(folder, content):
    judged(lambda: table(written(folder, "t.npy", content)), "t.npy")


DESCR = [
    "'<f4'",
    "'V0'",
    "'|O'",
    "[('a', '<f4')]",
    "()",
    "1",
    "'zz'",
    "'<U999999999'",
    "-" * 3000 + "1",
    "'<f4,<f4'",
]
SHAPES = [
    "(4, 3)",
    "(12,)",
    "()",
    "(-1,)",
    "(10000000000, 10000000000)",
    "(99999999999999999999,)",
    "(0, 7)",
    "4",
]
SHAPES += ["(" * 100 + ")" * 100, "(" + "9" * 5000 + ",)", "(True,)", "(4, 3", "__import__('os')", "(4,\n3)"]


@given(st.sampled_from(DESCR), st.sampled_from(["True", "False", "0", "'"]), st.sampled_from(SHAPES))
@tried(150)
def test_a_false_npy_header_is_refused(folder, descr, order, shape):
    header = f"{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}, }}\n".encode()
    content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + VALUES.tobytes()
    result = judged(lambda: table(written(folder, "h.npy", content)), "h.npy")
    good = (descr, "".join(shape.split())) == ("'<f4'", "(4,3)") and order in ("True", "False")
    assert isinstance(result, np.ndarray) == good


@pytest.mark.parametrize("dtype", ["<f2", "<f4", ">f4", "<f8"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_an_npy_table_is_what_numpy_reads(tmp_path, dtype, order):
    array = np.asarray(VALUES, dtype=dtype, order=order)
    path = written(tmp_path, "t.npy", npy(array))
    assert np.array_equal(read_npy(path), np.load(path, allow_pickle=False))


@given(damaged(save({"wte.weight": VALUES})))
@tried(100)
def test_a_damaged_safetensors_table_is_read_or_refused(folder, content):
    judged(lambda: table(written(folder, "t.safetensors", content)), "t.safetensors")


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float8_e4m3fn, torch.int8, torch.bool])
def test_a_table_of_other_numbers_is_refused(tmp_path, dtype):
    content = save_torch({"w": torch.zeros(SHAPE).to(dtype)})
    assert "floats are needed" in refused(lambda: table(written(tmp_path, "t.safetensors", content)))


@pytest.fixture
def checkpoint(tmp_path) -> Path:
    save_checkpoint(CVFPModel(ModelConfig(context_dim=3, embed_dim=2), torch.zeros(5, 2), None), tmp_path)
    return tmp_path


@given(st.data())
@tried(60)
def test_a_damaged_checkpoint_is_loaded_or_refused(checkpoint, data):
    files = {name: (checkpoint / name).read_bytes() for name in (CONFIG, WEIGHTS)}
    name = data.draw(st.sampled_from(list(files)))
    config = damaged_json(json.loads(files[CONFIG]))
    try:
        written(checkpoint, name, data.draw(config if name == CONFIG else damaged(files[WEIGHTS])))
        judged(lambda: load_checkpoint(checkpoint), str(checkpoint))
    finally:
        (checkpoint / name).write_bytes(files[name])


@pytest.mark.parametrize("key", ["num_layers", "num_input_tokens", "context_dim", "embed_dim", "vocab_size"])
@pytest.mark.parametrize("size", [10**9, 10**18, 10**30])
def test_a_checkpoint_that_declares_too_much_allocates_nothing(checkpoint, key, size):
    config = json.loads((checkpoint / CONFIG).read_text())
    config[key] = size
    written(checkpoint, CONFIG, json.dumps(config))
    assert key in refused(lambda: load_checkpoint(checkpoint), CONFIG)


@pytest.mark.parametrize("weights", [torch.full((5, 2), torch.nan), torch.zeros(5, 2, dtype=torch.int32)])
def test_weights_that_are_no_numbers_are_refused(checkpoint, weights):
    tensors = CVFPModel(ModelConfig(context_dim=3, embed_dim=2), torch.zeros(5, 2), None).state_dict()
    written(
        checkpoint,
        WEIGHTS,
        save_torch(
            {f"model.{name}": each.clone() for name, each in tensors.items()} | {"model.embedding": weights}
        ),
    )
    assert "embedding holds" in refused(lambda: load_checkpoint(checkpoint), WEIGHTS)


@pytest.mark.parametrize("name", [*IMPOSSIBLE, ""], ids=range(5))
def test_a_path_that_can_be_none_is_refused(name):
    for read in (documents, table, lambda name: load_tokenizer(name or "no", list)):
        refused(lambda read=read: read(name))
    refused(lambda: documents(f"ultrachat:{name or 'no'}"))


@pytest.mark.parametrize("split", ["**x", "/x", "[", "../x", "*"])
def test_a_split_is_no_pattern_and_no_path(tmp_path, split):
    written(tmp_path, "train.parquet", b"")
    assert "splits there: train" in refused(lambda: documents(f"hub:{tmp_path}:{split}"))


@pytest.mark.parametrize("options", [{}, {"document_tokens": 3}])
def test_half_a_surrogate_pair_is_refused_however_the_text_is_cut(tmp_path, options):
    path = written(tmp_path, "c.jsonl", '{"text": "a\\ud800"}\n')
    assert "surrogate" in refused(lambda: documents(path, **options), "c.jsonl, line 1")
