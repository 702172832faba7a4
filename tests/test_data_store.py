import json
import multiprocessing
import shutil
from pathlib import Path

import numpy as np
import pytest
from data_helpers import dataset_of, sentences, write_jsonl

from cvfp.data import cache, stores, tokenizers
from cvfp.data.cache import SEAL, cached_folder
from cvfp.data.dataset import open_dataset
from cvfp.data.tokenizers import Gpt2Tokenizer, JsonTokenizer
from cvfp.records.config import DataConfig
from cvfp.records.errors import CvfpError, InputError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    root = tmp_path / "cache"
    monkeypatch.setenv("CVFP_CACHE", str(root))
    return root


@pytest.fixture
def corpus(tmp_path):
    return write_jsonl(tmp_path / "corpus.jsonl", [{"text": text} for text in sentences(60)])


def forbidden(*args, **kwargs):
    raise AssertionError("done a second time")


@pytest.mark.parametrize("tokenizer", ["gpt2", "bpe:300"])
def test_a_second_start_neither_reads_nor_trains_nor_tokenizes(corpus, monkeypatch, tokenizer):
    first = dataset_of(corpus, tokenizer=tokenizer)
    monkeypatch.setattr(Gpt2Tokenizer, "encode_batch", forbidden)
    monkeypatch.setattr(JsonTokenizer, "encode_batch", forbidden)
    monkeypatch.setattr(tokenizers, "train_bpe", forbidden)
    monkeypatch.setattr(stores, "_write_texts", forbidden)
    notes = []
    second = open_dataset(DataConfig(corpus=str(corpus), tokenizer=tokenizer), notes.append)
    assert second.train(20, 1).tokens.tolist() == first.train(20, 1).tokens.tolist()
    assert second.test.tokens.tolist() == first.test.tokens.tolist()
    assert second.fingerprint == first.fingerprint
    assert notes == []


def test_a_second_tokenizer_reads_the_documents_from_the_cache(corpus, monkeypatch):
    dataset_of(corpus)
    monkeypatch.setattr(stores, "_write_texts", forbidden)
    assert len(dataset_of(corpus, tokenizer="bpe:300").train(5, 0)) > 0


def test_tokens_are_memory_mapped_in_the_smallest_type(corpus):
    store = dataset_of(corpus).store
    assert isinstance(store.tokens, np.memmap) and store.tokens.dtype == np.uint16
    assert store.offsets[-1] == len(store.tokens) and len(store.lengths) == 60


def test_everything_that_determines_the_tokens_is_in_the_key(corpus, tmp_path, own_cache):
    def stored() -> set[str]:
        return {path.name for path in own_cache.glob("tokens-*") if path.is_dir()}

    other = write_jsonl(tmp_path / "other.jsonl", [{"text": text} for text in sentences(60, seed=1)])
    starts = [
        (corpus, {}),
        (other, {}),
        (corpus, {"tokenizer": "bpe:270"}),
        (corpus, {"tokenizer": "bpe:280"}),
        (corpus, {"tokenizer": "bpe:270", "split_seed": 1}),
        (corpus, {"document_tokens": 10}),
    ]
    for number, (path, options) in enumerate(starts, start=1):
        dataset_of(path, **options)
        assert len(stored()) == number
    dataset_of(corpus, split="tail", order="file", num_samples=3, test_tokens=20)
    assert len(stored()) == len(starts)


def tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-2])


def edit(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("harm", [tear, edit, Path.unlink])
@pytest.mark.parametrize("name", ["tokens.bin", "offsets.npy", "text.bin", "documents.json", SEAL])
def test_a_torn_edited_or_missing_file_is_built_again_with_a_note(corpus, own_cache, harm, name):
    wanted = dataset_of(corpus).test.tokens.tolist()
    for path in own_cache.glob(f"*/{name}"):
        harm(path)
    notes = []
    dataset = open_dataset(DataConfig(corpus=str(corpus)), notes.append)
    assert dataset.test.tokens.tolist() == wanted
    assert any("building it again" in line for line in notes)


def test_an_added_file_is_damage_too(corpus, own_cache):
    dataset_of(corpus)
    (folder,) = own_cache.glob("tokens-*[!k]")
    (folder / "extra").write_text("x")
    notes = []
    open_dataset(DataConfig(corpus=str(corpus)), notes.append)
    assert any("building it again" in line for line in notes) and not (folder / "extra").exists()


def test_an_interrupted_build_leaves_nothing_that_is_used(own_cache):
    def interrupted(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_folder("thing", ["key"], interrupted, cache.silent)
    assert not [path for path in own_cache.iterdir() if path.is_dir()]


def test_what_a_killed_build_left_is_cleared(own_cache):
    folder = cached_folder("thing", ["key"], lambda path: None, cache.silent)
    shutil.move(folder, folder.with_name(f".{folder.name}.tmp"))
    (folder.with_name(f".{folder.name}.tmp") / "half").write_text("x")
    again = cached_folder("thing", ["key"], lambda path: None, cache.silent)
    assert [path.name for path in again.iterdir()] == [SEAL]


def _build_slowly(root: str, ready, built) -> None:
    def build(folder: Path) -> None:
        built.put(1)
        (folder / "value").write_text("x")

    ready.wait()
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CVFP_CACHE", root)
        cached_folder("thing", ["key"], build, cache.silent)


def test_two_processes_at_once_build_once(own_cache):
    context = multiprocessing.get_context("spawn")
    ready, built = context.Barrier(2), context.Queue()
    workers = [context.Process(target=_build_slowly, args=(str(own_cache), ready, built)) for _ in range(2)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    assert built.get() == 1 and built.empty()
    assert [path.name for path in own_cache.iterdir() if path.is_dir()] == [
        cached_folder("thing", ["key"], forbidden, cache.silent).name
    ]


def test_a_seal_of_another_key_is_not_trusted():
    folder = cached_folder("thing", ["key"], lambda path: None, cache.silent)
    seal = json.loads((folder / SEAL).read_text())
    (folder / SEAL).write_text(json.dumps(seal | {"key": ["other"]}))
    notes = []
    cached_folder("thing", ["key"], lambda path: None, notes.append)
    assert "another key" in notes[0]


def test_a_cache_that_cannot_be_used_says_how_to_name_another(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("CVFP_CACHE", str(tmp_path / "file" / "below"))
    with pytest.raises(CvfpError, match="CVFP_CACHE") as caught:
        cached_folder("thing", ["key"], lambda path: None, cache.silent)
    assert not isinstance(caught.value, InputError)
