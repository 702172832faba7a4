"""Claims: line ends of every kind are one, for separators and for what is learned and scored; a separator
that is not found is said; what is scored or counted is read as what is trained on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from data_helpers import corpus_of, dataset_of, refusal, sentences, write_jsonl, write_parquet
from model_helpers import make_model
from test_cli import assert_one_line, call

from cvfp.data.corpora import open_corpus, read_texts
from cvfp.data.dataset import count_tokens, open_dataset
from cvfp.data.encodings import BLOCK
from cvfp.data.tokenizers import train_bpe
from cvfp.records.config import DataConfig

pytestmark = pytest.mark.usefixtures("own_cache")
ENDS = {"Unix": "\n", "Windows": "\r\n", "old Mac": "\r"}
ENCODINGS = ["utf-8", "utf-8-sig", "utf-16", "cp932"]
CHAPTERS = [f"第{n}章\n吾輩は猫である。名前はまだ無い。\n" + "どこで生れたか。" * n for n in range(1, 9)]


@pytest.fixture
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CVFP_CACHE", str(tmp_path_factory.mktemp("cache")))


def written(path: Path, text: str, end: str, encoding: str = "utf-8") -> Path:
    path.write_bytes(text.replace("\n", end).encode(encoding))
    return path


@pytest.mark.parametrize("typed", ENDS.values(), ids=[f"typed {name}" for name in ENDS])
@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_a_separator_matches_every_kind_of_line_end(tmp_path, end, encoding, typed):
    path = written(tmp_path / "a.txt", "\n* * *\n".join(CHAPTERS), end, encoding)
    separator = "\n* * *\n".replace("\n", typed)
    assert corpus_of(path, document_separator=separator).documents() == CHAPTERS


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
@pytest.mark.parametrize("before", [BLOCK - 2, BLOCK - 1, BLOCK, 2 * BLOCK - 1])
def test_line_ends_at_the_end_of_a_block_are_one(tmp_path, before, end):
    texts = ["x" * before, "second\n\nhalf"]
    path = written(tmp_path / "a.txt", "\n--\n".join(texts), end)
    assert corpus_of(path, document_separator="\n--\n").documents() == texts


def test_line_ends_change_nothing_but_are_told(tmp_path):
    (tmp_path / "unix").mkdir()
    (tmp_path / "windows").mkdir()
    for number, text in enumerate(sentences(30)):
        lines = text.replace(" ", "\n")
        written(tmp_path / "unix" / f"{number:02}.txt", lines, "\n")
        written(tmp_path / "windows" / f"{number:02}.txt", lines, "\r\n")
    notes: dict[str, list[str]] = {"unix": [], "windows": []}
    unix, windows = (
        open_dataset(DataConfig(corpus=str(tmp_path / name)), found.append) for name, found in notes.items()
    )
    assert windows.train(20, 0).tokens.tolist() == unix.train(20, 0).tokens.tolist()
    assert windows.test.tokens.tolist() == unix.test.tokens.tolist()
    assert not any("line ends" in note for note in notes["unix"])
    told = "windows: 30 files have line ends other than \\n, read as \\n: 00.txt, 01.txt, 02.txt and 27 more"
    assert told in notes["windows"]


def test_text_inside_records_stays_as_it_is(tmp_path):
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "one\r\ntwo"}])
    assert corpus_of(path).documents() == ["one\r\ntwo"]


# --- A separator that is not found.


def notes_of(corpus: Path | list[Path], separator: str | None) -> list[str]:
    notes: list[str] = []
    names = [str(path) for path in ([corpus] if isinstance(corpus, Path) else corpus)]
    config = DataConfig(corpus=names, document_separator=separator, dev_documents=1, test_documents=1)
    open_dataset(config, notes.append)
    return [note for note in notes if "document_separator" in note]


def test_a_separator_that_is_not_found_is_said(tmp_path):
    for number, text in enumerate(sentences(10)):
        (tmp_path / f"{number}.txt").write_text(("---\n" if number < 7 else "") + text)
    write_jsonl(tmp_path / "records.jsonl", [{"text": "without any"}])
    (said,) = notes_of(tmp_path, "---\n")
    assert said == (
        f"{tmp_path.name}: data.document_separator '---\\n' is not found in 3 of its 10 text files, and cuts "
        f"nothing there"
    )
    assert not notes_of(tmp_path, None)
    for number in range(7, 10):
        (tmp_path / f"{number}.txt").write_text(f"the end {number}---\n")
    assert not notes_of(tmp_path, "---\n"), "an empty piece is one too"


def test_a_separator_typed_without_quotes_is_explained(tmp_path):
    path, more = tmp_path / "a.txt", tmp_path / "b.jsonl"
    path.write_text("\n* * *\n".join(sentences(10)))
    write_jsonl(more, [{"text": text} for text in sentences(10, seed=1)])
    (said,) = notes_of([path, more], "\\n* * *\\n")
    assert "a.txt: data.document_separator" in said and "is not found in it" in said
    assert r"a line end is written \n within quotes" in said
    assert not notes_of([path, more], "\n* * *\n")


# --- What is scored or counted is read as what is trained on.


@pytest.fixture
def texts(tmp_path) -> dict[str, Path]:
    """The same three documents in all that is read, and their text in all line ends and encodings."""
    documents = CHAPTERS[:3]
    records = [{"text": text, "id": 1} for text in documents]
    (tmp_path / "folder").mkdir()
    for number, text in enumerate(documents):
        (tmp_path / "folder" / f"{number}.txt").write_text(text)
    whole = "".join(documents)
    made = {
        f"{name}, {encoding}": written(tmp_path / f"{name}-{encoding}.txt", whole, end, encoding)
        for name, end in ENDS.items()
        for encoding in ENCODINGS
    }
    return made | {
        "records": write_jsonl(tmp_path / "a.jsonl", records),
        "rows": write_parquet(tmp_path / "a.parquet", records),
        "folder": tmp_path / "folder",
    }


def test_tokens_are_counted_of_documents_in_every_format(texts):
    sizes = {name: count_tokens(path, "gpt2") for name, path in texts.items()}
    right = sum(len(text.encode()) for text in CHAPTERS[:3])
    assert {size.num_bytes for size in sizes.values()} == {right}
    assert {size.documents for name, size in sizes.items() if ", " in name} == {1}
    assert {size.documents for name, size in sizes.items() if ", " not in name} == {3}
    assert len({size.tokens for name, size in sizes.items() if ", " in name}) == 1
    trained = [dataset_of(texts["records"], dev_documents=1, test_documents=1).store.lengths.sum()]
    assert {size.tokens for name, size in sizes.items() if ", " not in name} == set(trained)


def test_what_is_read_to_be_scored_is_refused_as_what_is_trained_on(tmp_path):
    table = tmp_path / "a.csv"
    table.write_text("id,text\n1,one\n")
    records = write_jsonl(tmp_path / "a.jsonl", [{"body": "one"}])
    for read in (read_texts, corpus_of):
        assert "a.csv: a .csv file is no corpus" in refusal(read, table)
    assert "no field 'text' or 'messages'; there are 'body'" in refusal(read_texts, records)
    assert read_texts(records, "body") == ["one"]
    (tmp_path / "a.txt").write_text("one")
    assert "data.text_field does not apply" in refusal(read_texts, tmp_path / "a.txt", "body")
    assert "no such file" in refusal(read_texts, tmp_path / "b.txt")
    (tmp_path / "empty.txt").write_text(" \n")
    assert "no text in it" in refusal(read_texts, tmp_path / "empty.txt")


def test_a_text_has_one_score_whatever_it_is_written_in(capsys, tmp_path):
    model, tokenizer = tmp_path / "model", train_bpe(300, ["the café sat on the mat"])
    make_model(vocab_size=tokenizer.vocab_size, num_input_tokens=2).save_pretrained(model)
    tokenizer.save(model)
    documents = ["the café sat\non the mat\n", "a dog ran\n\nin the café\n"] * 2
    text = "".join(documents)
    files: dict[str, list] = {}
    for end in ("\n", "\r\n", "\r"):
        for encoding in ("utf-8", "utf-8-sig", "utf-16"):
            file = tmp_path / f"{len(files)}.txt"
            file.write_bytes(text.replace("\n", end).encode(encoding))
            files[f"{end!r} {encoding}"] = [file]
    records = [{"body": document} for document in documents]
    files["records"] = [write_jsonl(tmp_path / "a.jsonl", records), "--text-field", "body"]
    files["rows"] = [write_parquet(tmp_path / "a.parquet", records), "--text-field", "body"]
    figures, health = {}, {}
    for name, arguments in files.items():
        code, out, err = call(capsys, "eval", model, *arguments, "--device", "cpu", "--json")
        assert code == 0, err
        figures[name] = json.loads(out)
        assert ("read as \\n" in err) == (r"\r" in name)
        health[name] = call(capsys, "diagnose", model, *arguments, "--device", "cpu", "--json")[1]
    first = figures[repr("\n") + " utf-8"]
    assert all(found == first for found in figures.values()), figures
    assert len(set(health.values())) == 1
    (tmp_path / "a.csv").write_text("text\n" + text)
    code, _, err = call(capsys, "eval", model, tmp_path / "a.csv")
    assert code == 2
    assert_one_line(err, "a .csv file is no corpus")


# --- One bad file of a folder.


def test_a_bad_file_of_a_folder_is_named_and_the_others_are_read(tmp_path):
    good = sentences(5)
    write_jsonl(tmp_path / "good.jsonl", [{"text": text} for text in good])
    bad = '{"text": "fine"}\n' * 10
    (tmp_path / "torn.jsonl").write_text(bad + '{"text": "x"\n')
    (tmp_path / "other.jsonl").write_text(bad + '{"body": "x"}\n')
    (tmp_path / "half.jsonl").write_text(bad + '{"text": "\\ud800"}\n')
    rows = write_parquet(tmp_path / "rows.parquet", [{"text": "x" * 5000 + str(n)} for n in range(3000)])
    data = rows.read_bytes()
    rows.write_bytes(data[:2000] + bytes(8000) + data[10000:])
    notes: list[str] = []
    corpus = open_corpus(DataConfig(corpus=str(tmp_path)), notes.append)
    assert corpus.documents() == good
    (said,) = [note for note in notes if "left out" in note]
    assert "4 files left out, broken, or without the text field" in said
    assert "half.jsonl (line 11: character 0 is half of a surrogate pair)" in said
    assert "other.jsonl (line 11: no field 'text' or 'messages'; there are 'body')" in said
    assert "not a readable Parquet file" in said and "and 1 more" in said
    assert "torn.jsonl, line 11: not JSON at column 13" in refusal(
        lambda: corpus_of(tmp_path / "torn.jsonl").documents()
    )


def test_a_text_of_a_folder_that_is_too_long_is_named_and_the_others_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("cvfp.data.user_files.LARGEST_DOCUMENT", BLOCK)
    (tmp_path / "long.txt").write_text("word " * BLOCK)
    (tmp_path / "short.txt").write_text("short")
    notes: list[str] = []
    corpus = open_corpus(DataConfig(corpus=str(tmp_path)), notes.append)
    assert corpus.documents() == ["short"]
    assert any("1 file left out, with too long a document" in note and "long.txt" in note for note in notes)
    assert len(corpus_of(tmp_path, document_tokens=1000)) > 200
