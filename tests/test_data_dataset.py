import numpy as np
import pytest
from data_helpers import chats, dataset_of, refusal, sentences, write_jsonl, write_parquet

from cvfp.data.dataset import open_dataset
from cvfp.data.tokenizers import gpt2_tokenizer
from cvfp.records.config import DataConfig

FIRST_TOKENS = {50: 55_016, 100: 105_404, 200: 232_050, 400: 471_480, 800: 877_284, 1600: 1_863_380}


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    path = tmp_path_factory.mktemp("corpus") / "corpus.jsonl"
    return write_jsonl(path, [{"text": text} for text in sentences(100)])


@pytest.fixture(scope="module")
def ultrachat(tmp_path_factory):
    """A local copy in the hub's layout with just enough conversations for the published split."""
    folder = tmp_path_factory.mktemp("ultrachat")
    write_parquet(folder / "data" / "train_sft-00000-of-00001.parquet", chats(sentences(1030)))
    return f"ultrachat:{folder}"


@pytest.mark.long
def test_chitchat_holds_the_reference_numbers_of_documents_and_tokens():
    dataset = dataset_of("chitchat")
    assert len(dataset.corpus) == 2607
    assert len(dataset.store.tokens) == 3_024_786
    assert {n: int(dataset.store.offsets[n]) for n in FIRST_TOKENS} == FIRST_TOKENS
    assert dataset.store.lengths.min() >= 200


def test_chitchat_in_file_order_trains_on_the_first_conversations():
    dataset = dataset_of("chitchat", split="tail", order="file", test_documents=60, test_tokens=31_024)
    for size in (50, 800):
        assert len(dataset.train(size, seed=7)) == FIRST_TOKENS[size]
    assert len(dataset.test) == 31_024


def test_chitchat_stats_state_its_skew():
    stats = dataset_of("chitchat").stats()
    assert stats["documents"] == 2607 and stats["tokens"] == 3_024_786
    assert round(stats["mean_tokens"]) == 1160
    assert 0.09 < stats["token_share_of_longest_1_percent"] < 0.12
    assert stats["speakers"]["speakers"] == 845
    assert 0.45 < stats["speakers"]["token_share_of_top_20"] < 0.55
    assert stats["speakers"]["test_documents_with_a_training_speaker"] > 0.95
    assert {name: part["documents"] for name, part in stats["splits"].items()} == {
        "pool": 2207,
        "dev": 100,
        "test": 300,
    }


def test_chitchat_speakers_can_be_held_out_and_few_documents_are_lost():
    notes = []
    dataset = open_dataset(DataConfig(split="speakers"), notes.append)
    stats = dataset.stats()
    assert stats["speakers"]["test_documents_with_a_training_speaker"] == 0
    assert stats["splits"]["test"]["documents"] == 300
    assert stats["documents_in_no_split"] < 0.15 * 2607
    assert any(str(stats["documents_in_no_split"]) in line for line in notes)


def test_a_stream_is_its_documents_put_together(small):
    dataset = dataset_of(small, order="file")
    stream = dataset.train(3, seed=0)
    texts = [dataset.corpus.documents()[i] for i in dataset.split.pool[:3]]
    parts = gpt2_tokenizer().encode_batch(texts)
    assert stream.tokens.dtype == np.int64
    assert stream.tokens.tolist() == np.concatenate(parts).tolist()
    assert stream.offsets.tolist() == [0, len(parts[0]), len(parts[0]) + len(parts[1])]
    assert stream.num_bytes == sum(len(text.encode()) for text in texts)
    first = dataset.tokenizer.token_bytes[stream.tokens[0]]
    assert stream.target_bytes == stream.num_bytes - first


def test_training_sets_are_nested_and_leave_dev_and_test_alone(small):
    dataset = dataset_of(small)
    whole = dataset.train(len(dataset.split.pool), seed=3)
    part = dataset.train(10, seed=3)
    assert whole.tokens[: len(part)].tolist() == part.tokens.tolist()
    assert dataset.train(10, seed=4).tokens.tolist() != part.tokens.tolist()
    total = len(whole) + len(dataset.dev) + len(dataset.test)
    assert total == len(dataset.store.tokens)


def test_dev_and_test_are_the_same_for_every_size_order_and_seed(small):
    one, other = dataset_of(small, num_samples=5), dataset_of(small, num_samples=50, order="file")
    assert one.dev.tokens.tolist() == other.dev.tokens.tolist()
    assert one.test.tokens.tolist() == other.test.tokens.tolist()


def test_test_tokens_cuts_the_test_stream_alone(small):
    whole, cut = dataset_of(small), dataset_of(small, test_tokens=25)
    assert cut.test.tokens.tolist() == whole.test.tokens[:25].tolist()
    assert cut.test.offsets.max() < 25
    assert cut.test.num_bytes == len(whole.tokenizer.decode(cut.test.tokens).encode())
    assert cut.dev.tokens.tolist() == whole.dev.tokens.tolist()
    assert cut.fingerprint != whole.fingerprint
    size = len(whole.test)
    assert str(size) in refusal(lambda: dataset_of(small, test_tokens=size + 1).test)


def test_what_is_cut_from_one_document_stays_on_one_side(tmp_path):
    texts = [" ".join(f"d{i}w{j}" for j in range(15)) for i in range(20)]
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in [texts[0], "", *texts[1:]]])
    dataset = dataset_of(path, document_tokens=10)
    documents = dataset.corpus.documents()
    assert len(documents) > 60 and dataset.stats()["sources"] == 20
    parts = [
        {texts[dataset.corpus.sources[i]] for i in part}
        for part in (dataset.split.pool, dataset.split.dev, dataset.split.test)
    ]
    assert [len(part) for part in parts] == [16, 1, 3]
    assert set.union(*parts) == set(texts)
    held = "".join(documents[i] for i in dataset.split.test)
    assert held == "".join(text for text in texts if text in parts[2])


def test_documents_separated_in_one_file_are_held_out_at_its_end_with_a_note(tmp_path):
    for files, noted in (("a.txt",), True), (("a.txt", "b.txt", "c.txt"), False):
        for name in files:
            (tmp_path / name).write_text(f"{name} " + "---\n".join(sentences(50)))
        notes = []
        config = DataConfig(corpus=str(tmp_path), document_separator="---\n")
        dataset = open_dataset(config, notes.append)
        assert any("hold out whole ones" in line for line in notes) == noted
        assert (dataset.split.test.tolist() == list(range(44, 50))) == noted
        assert len(dataset.split.test) == (6 if noted else 50)


def test_the_published_test_is_one_text_joined_by_blank_lines(ultrachat):
    dataset = dataset_of(ultrachat, split="published", order="file")
    joined = "\n\n".join(dataset.corpus.documents()[1000:1020])
    assert dataset.test.tokens.tolist() == gpt2_tokenizer().encode_batch([joined])[0].tolist()
    assert dataset.dev.tokens.tolist() == dataset.test.tokens.tolist()
    assert dataset.test.num_bytes == len(joined.encode())
    assert dataset.test.offsets.tolist() == [0]
    assert len(dataset.split.pool) == 1010


def test_every_byte_is_counted_once_whatever_the_tokenizer(small):
    for tokenizer in ("gpt2", "bpe:300"):
        dataset = dataset_of(small, tokenizer=tokenizer)
        sizes = dataset.tokenizer.token_bytes[dataset.test.tokens]
        assert sizes.sum() == dataset.test.num_bytes
        assert dataset.test.target_bytes == sizes[1:].sum()


def test_a_bpe_is_trained_on_the_training_pool_alone(tmp_path):
    texts = [f"{text} zebrazebrazebra" for text in sentences(50)]
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": t} for t in texts[:40] + ["qqxx " * 30] * 10])
    dataset = dataset_of(path, tokenizer="bpe:400", split="tail", test_documents=10, dev_documents=1)
    longest = {len(ids) for ids in dataset.tokenizer.encode_batch([" zebrazebrazebra", " qqxx"])}
    assert longest == {1, 5}


def test_a_tokenizer_that_loses_text_is_noted(small, tmp_path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    lossy = Tokenizer(models.WordLevel({"?": 0, "a": 1, "cat": 2}, unk_token="?"))
    lossy.pre_tokenizer = pre_tokenizers.Whitespace()
    lossy.save(str(tmp_path / "tokenizer.json"))
    for tokenizer, noted in (("gpt2", False), (str(tmp_path), True)):
        notes = []
        dataset = open_dataset(DataConfig(corpus=str(small), tokenizer=tokenizer), notes.append)
        assert len(dataset.test) > 0
        assert any("byte of the tokens" in line for line in notes) == noted


def test_prior_data_is_said(small):
    (line,) = dataset_of(small, tokenizer="bpe:300").prior
    assert "bpe:300" in line and "whole training pool of 84 documents" in line
    assert "gpt2" in dataset_of(small).prior[0]


def test_a_pool_too_small_for_the_bpe_is_noted(small):
    notes = []
    dataset = open_dataset(DataConfig(corpus=str(small), tokenizer="bpe:50000"), notes.append)
    assert dataset.vocab_size < 50000
    assert any(str(dataset.vocab_size) in line for line in notes)


def test_more_samples_than_the_pool_says_how_many_there_are(small):
    assert "84" in refusal(dataset_of(small).train, 85, 0)


def test_a_part_without_a_predicted_token_is_refused(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": letter} for letter in "abcde"])
    dataset = dataset_of(path, split="tail", test_documents=1, dev_documents=1)
    assert "2 are needed" in refusal(lambda: dataset.dev)
