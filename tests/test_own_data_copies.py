"""Claims: a file is read once, 7-bit Japanese is text, and names and mistakes are told in one clean line."""

import json
from pathlib import Path

import numpy as np
import pytest
from data_helpers import corpus_of, refusal, sentences, write_jsonl, write_parquet
from marks import one_quick

from cvfp.data.corpora import open_corpus
from cvfp.data.dataset import open_dataset
from cvfp.data.encodings import BLOCK
from cvfp.data.splits import split_distinct
from cvfp.data.user_files import list_folder, shown_name
from cvfp.records.config import DataConfig

JAPANESE = "吾輩は猫である。名前はまだ無い。\nどこで生れたかとんと見当がつかぬ。\n"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CVFP_CACHE", str(tmp_path_factory.mktemp("cache")))


def opened(path):
    notes = []
    corpus = open_corpus(DataConfig(corpus=str(path)), notes.append)
    return corpus.documents(), notes, next(iter(corpus.parts.values()))


@pytest.fixture
def letters(tmp_path):
    folder = tmp_path / "letters"
    folder.mkdir()
    for number, text in enumerate(sentences(4)):
        (folder / f"{number}.txt").write_text(text)
    return folder


def test_copies_of_a_file_and_links_to_it_are_read_once_and_named(letters):
    before = corpus_of(letters)
    (letters / "copy.txt").write_bytes((letters / "0.txt").read_bytes())
    (letters / "link.md").symlink_to("1.txt")
    documents, notes, facts = opened(letters)
    assert documents == sentences(4) and facts["left_out"] == {"same": 2}
    assert "letters: 2 files left out, the same as another file: copy.txt, link.md" in notes
    assert corpus_of(letters).fingerprint == before.fingerprint


def test_the_same_bytes_as_text_and_as_records_are_two_files(tmp_path):
    write_jsonl(tmp_path / "a.jsonl", [{"text": "one"}])
    (tmp_path / "b.txt").write_bytes((tmp_path / "a.jsonl").read_bytes())
    assert len(opened(tmp_path)[0]) == 2


def test_two_corpora_with_a_file_in_common_are_refused(letters, tmp_path):
    (tmp_path / "more.txt").write_bytes((letters / "2.txt").read_bytes())
    line = refusal(open_corpus, DataConfig(corpus=[str(letters), str(tmp_path / "more.txt")]))
    assert "corpus more.txt" in line and f"more.txt too, as {letters}/2.txt" in line


@pytest.mark.parametrize("before", ["", "x" * (BLOCK - 1)])
def test_seven_bit_japanese_is_read_and_reported(tmp_path, before):
    (tmp_path / "mail.txt").write_bytes((before + JAPANESE).encode("iso2022_jp"))
    write_jsonl(tmp_path / "plain.jsonl", [{"text": "plain"}])
    documents, notes, facts = opened(tmp_path)
    assert documents == [before + JAPANESE, "plain"]
    assert facts["encodings"] == {"iso2022_jp": 1, "utf-8": 1}
    assert f"{tmp_path.name}: 1 file read as iso2022_jp, not UTF-8: mail.txt" in notes
    assert opened(tmp_path / "mail.txt")[0] == [before + JAPANESE]


def test_records_may_be_seven_bit_japanese(tmp_path):
    record = json.dumps({"text": JAPANESE}, ensure_ascii=False) + "\n"
    (tmp_path / "mail.jsonl").write_bytes((record * 2).encode("iso2022_jp"))
    assert opened(tmp_path / "mail.jsonl")[0] == [JAPANESE] * 2


def test_broken_seven_bit_japanese_is_left_out_and_terminal_colours_are_plain_text(tmp_path):
    (tmp_path / "bad.txt").write_bytes(b"mail \x1b$B\x7f\x7f!\x1b(B")
    (tmp_path / "log.txt").write_bytes(b"\x1b[31mred\x1b[0m")
    documents, _notes, facts = opened(tmp_path)
    assert documents == ["\x1b[31mred\x1b[0m"] and facts["left_out"] == {"undecodable": 1}
    assert "bad.txt: has the escape codes of ISO-2022-JP" in refusal(corpus_of, tmp_path / "bad.txt")


def test_control_characters_of_names_are_spelled_out(tmp_path):
    assert shown_name(Path("小説 一\u3000二.txt")) == "小説 一\u3000二.txt"
    assert shown_name(Path("a\nb\x1b[31m\u202e.txt")) == r"a\nb\x1b[31m\u202e.txt"
    folder = tmp_path / "red\x1b[31m"
    folder.mkdir()
    (folder / "a.txt").write_text("good")
    for name in ("b\nc.txt", "d.p\x1bng"):
        (folder / name).touch()
    assert all(line.isprintable() for line in opened(folder)[1])
    assert r"other kinds: .p\x1bng 1" in list_folder(folder).notes()[0]


@pytest.mark.parametrize("name", ["all.json", "all.csv", "ALL.TSV"])
def test_a_table_is_no_corpus_and_in_a_folder_of_another_kind(letters, name):
    (letters / name).write_text('[{"text": "one"}]')
    suffix = Path(name).suffix.lower()
    assert f"{name}: a {suffix} file is no corpus: write one record" in refusal(corpus_of, letters / name)
    assert opened(letters)[2]["left_out"] == {"other_kinds": 1}


@pytest.mark.parametrize(("broken", "column"), [('{"text": nothing}', 10), ('{"text": "x"', 13)])
def test_a_broken_record_is_placed_by_one_line_and_one_column(tmp_path, broken, column):
    path = tmp_path / "mid.jsonl"
    path.write_text('{"text": "fine"}\n' * 10 + broken + "\n")
    line = refusal(lambda: corpus_of(path).documents())
    assert f"mid.jsonl, line 11: not JSON at column {column}: " in line


# --- A text counts once, wherever its copies are: none is both trained on and tested on.


def doubled(folder: Path, how: str) -> DataConfig:
    """A corpus in which 60 texts are there twice, not byte for byte."""
    texts = sentences(60)
    if how == "records":
        records = [{"text": text} for text in texts] + [{"text": text + "\n"} for text in texts]
        return DataConfig(corpus=str(write_jsonl(folder / "a.jsonl", records)))
    if how == "rows":
        return DataConfig(corpus=str(write_parquet(folder / "a.parquet", [{"text": t} for t in 2 * texts])))
    if how == "pieces":
        (folder / "a.txt").write_text("\n---\n".join(2 * texts))
        return DataConfig(corpus=str(folder / "a.txt"), document_separator="---")
    for number, text in enumerate(texts):
        (folder / f"{number}.txt").write_text(text)
        if how == "white space":
            (folder / f"{number}-again.txt").write_text(("\ufeff" if number % 2 else "") + text + "\n\n")
    if how == "records beside files":
        write_jsonl(folder / "again.jsonl", [{"text": text} for text in texts])
    return DataConfig(corpus=str(folder))


@pytest.mark.parametrize("split", one_quick("documents", "tail"))
@pytest.mark.parametrize("how", ["records", "rows", "pieces", "white space", "records beside files"])
def test_a_text_counts_once(tmp_path, how, split):
    config, notes = doubled(tmp_path, how), []
    config = config.model_copy(update={"split": split, "dev_documents": 8, "test_documents": 16})
    dataset = open_dataset(config, notes.append)
    texts = [text.strip("\ufeff\n -") for text in dataset.corpus.documents()]
    parts = dataset.split.pool, dataset.split.dev, dataset.split.test
    assert [len(part) for part in parts] == [36, 8, 16]
    assert sorted(texts[i] for part in parts for i in part) == sorted(sentences(60))
    facts = dataset.stats()
    assert facts["copies_of_earlier_documents"] == 60 and facts["documents_in_no_split"] == 0
    assert [note for note in notes if "an earlier one has their text" in note] == [
        f"{dataset.corpus.name}: 60 of 120 documents left out, because an earlier one has their text (white "
        f"space apart)"
    ]


def test_a_text_of_two_corpora_counts_once(tmp_path):
    texts = sentences(40)
    for name, own in (("a", texts[:30]), ("b", texts[10:])):
        write_jsonl(tmp_path / f"{name}.jsonl", [{"text": text} for text in own])
    names = [str(tmp_path / f"{name}.jsonl") for name in "ab"]
    dataset = open_dataset(DataConfig(corpus=names, dev_documents=4, test_documents=4), print)
    parts = dataset.split.pool, dataset.split.dev, dataset.split.test
    documents = dataset.corpus.documents()
    assert sorted(documents[i] for part in parts for i in part) == sorted(texts)


def test_copies_of_other_speakers_are_one_document():
    speakers = [frozenset({name}) for name in "abcdef"] * 2
    digests = np.arange(12) % 8  # the last four are copies of the first
    config = DataConfig(split="speakers", dev_documents=1, test_documents=1)
    split = split_distinct(config, np.zeros(12, int), np.arange(12), speakers, digests)
    assert split.copies == 4 and not np.isin([8, 9, 10, 11], np.concatenate([split.pool, split.dev])).any()
    assert split.dropped(12) == 8 - len(split.pool) - 2


def test_the_published_split_keeps_its_numbers_and_says_what_it_trains_on(tmp_path):
    texts = sentences(1040)
    texts[3] = texts[1007]
    path, notes = write_jsonl(tmp_path / "a.jsonl", [{"text": text} for text in texts]), []
    dataset = open_dataset(DataConfig(corpus=str(path), split="published"), notes.append)
    assert dataset.split.test.tolist() == list(range(1000, 1020)) and len(dataset.split.pool) == 1020
    assert "a.jsonl: 1 training documents have the text of one that is held out" in notes


def test_a_corpus_of_one_text_is_refused(tmp_path):
    path, notes = write_jsonl(tmp_path / "a.jsonl", [{"text": "the same"}] * 40), []
    line = refusal(open_dataset, DataConfig(corpus=str(path)), notes.append)
    assert "leave none to train on: the corpus has 1 " in line
    assert "data.dev_documents" in line and "data.test_documents" in line
    assert any("39 of 40 documents left out" in note for note in notes)
