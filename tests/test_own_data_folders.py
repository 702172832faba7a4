"""Claims: a messy folder is read as far as it can be, and all that is not read is counted and named."""

import os
import random
import socket
from pathlib import Path

import pytest
from data_helpers import corpus_of, dataset_of, refusal, sentences, write_jsonl, write_parquet

from cvfp.data import encodings
from cvfp.data.corpora import open_corpus
from cvfp.data.encodings import scan_file
from cvfp.records.config import DataConfig

JAPANESE = "吾輩は猫である。名前はまだ無い。どこで生れたかとんと見当がつかぬ。"
VENDOR = "①日本語㈱の文章です。髙橋さんは﨑という字を書いた。"
FRENCH = "Le garçon a mangé des pâtes à l'école, où l'été fut très chaud. " * 3
RUSSIAN = "Однажды весною, в час небывало жаркого заката, в городе появились два гражданина."
GERMAN = "Die Straße führt über die Brücke; größere Häuser stehen dort, wo früher Äcker waren."


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CVFP_CACHE", str(tmp_path_factory.mktemp("cache")))


def opened(path, **options):
    notes = []
    corpus = open_corpus(DataConfig(corpus=str(path), **options), notes.append)
    documents = corpus.documents()
    return documents, notes, next(iter(corpus.parts.values()))


def test_a_folder_may_hold_files_of_all_kinds(tmp_path):
    one, two, three, four = sentences(4)
    (tmp_path / "a.txt").write_text(one)
    (tmp_path / "b.markdown").write_text(two)
    write_jsonl(tmp_path / "c.ndjson", [{"text": three}])
    write_parquet(tmp_path / "sub" / "d.parquet", [{"text": four}])
    documents, notes, facts = opened(tmp_path)
    assert documents == [one, two, three, four]
    assert facts["files"] == {"jsonl": 1, "parquet": 1, "text": 2} and "left_out" not in facts
    assert [line for line in notes if "left out" in line] == []


def test_options_apply_to_the_files_that_they_are_for(tmp_path):
    (tmp_path / "a.txt").write_text("one--two")
    write_jsonl(tmp_path / "b.jsonl", [{"text": "no", "body": "three--four"}])
    assert opened(tmp_path, document_separator="--", text_field="body")[0] == ["one", "two", "three--four"]


@pytest.mark.parametrize(
    ("text", "written", "read"),
    [
        (JAPANESE, "cp932", "cp932"),
        (VENDOR, "cp932", "cp932"),
        (JAPANESE, "euc_jp", "euc_jp"),
        (FRENCH, "latin-1", "cp1252"),
        (GERMAN, "cp1252", "cp1252"),
        (RUSSIAN, "cp1251", "cp1251"),
        (RUSSIAN, "koi8-r", "koi8-r"),
        (JAPANESE, "utf-16", "utf-16"),
        (JAPANESE, "utf-32", "utf-32"),
    ],
)
def test_an_encoding_is_found_and_reported(tmp_path, text, written, read):
    (tmp_path / "a.txt").write_bytes(text.encode(written))
    (tmp_path / "b.txt").write_text("plain", encoding="utf-8")
    documents, notes, facts = opened(tmp_path)
    assert documents == [text, "plain"]
    assert f"{tmp_path.name}: 1 file read as {read}, not UTF-8: a.txt" in notes
    assert facts["encodings"] == {read: 1, "utf-8": 1}
    assert opened(tmp_path / "a.txt")[0] == [text]


def test_an_encoding_is_found_behind_much_ascii(tmp_path):
    text = "plain words\n" * 200_000 + JAPANESE * 3
    (tmp_path / "a.txt").write_bytes(text.encode("cp932"))
    assert opened(tmp_path / "a.txt")[0] == [text]


def test_records_may_be_in_another_encoding(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_bytes(f'{{"text": "{JAPANESE}"}}\n{{"text": "{VENDOR}"}}\n'.encode("cp932"))
    assert opened(path)[0] == [JAPANESE, VENDOR]


def test_the_encoding_is_looked_for_once(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_bytes(FRENCH.encode("latin-1"))
    first = corpus_of(tmp_path)
    monkeypatch.setattr(encodings, "detect_encoding", None)
    monkeypatch.setattr(encodings, "require", None)
    assert corpus_of(tmp_path).fingerprint == first.fingerprint


def test_the_encoding_is_part_of_the_fingerprint(tmp_path):
    (tmp_path / "a.txt").write_bytes(JAPANESE.encode("cp932"))
    (tmp_path / "b.txt").write_text(JAPANESE, encoding="utf-8")
    assert corpus_of(tmp_path / "a.txt").fingerprint != corpus_of(tmp_path / "b.txt").fingerprint


BROKEN = {
    "damaged UTF-8": JAPANESE.encode()[:40] + b"\xff" + JAPANESE.encode()[42:],
    "noise": random.Random(0).randbytes(3000).replace(b"\0", b""),
    "one byte": b"\xe9",
}


@pytest.mark.parametrize("name", BROKEN)
def test_bytes_of_no_certain_encoding_are_refused_by_name_and_left_out_of_a_folder(tmp_path, name):
    (tmp_path / "bad.txt").write_bytes(BROKEN[name])
    line = refusal(corpus_of, tmp_path / "bad.txt")
    assert "bad.txt: not UTF-8 text (line 1, byte " in line
    (tmp_path / "good.txt").write_text("good")
    documents, notes, facts = opened(tmp_path)
    assert documents == ["good"] and facts["left_out"] == {"undecodable": 1}
    assert any("1 file left out, of no known encoding: bad.txt" in line for line in notes)


def test_the_place_of_the_first_wrong_byte_is_named(tmp_path):
    start = ("あ" * 700_000 + "\n") * 2
    (tmp_path / "a.txt").write_bytes(start.encode() + "いい".encode() + b"\xff" + "うう".encode())
    assert f"(line 3, byte {len(start.encode()) + 6})" in refusal(corpus_of, tmp_path / "a.txt")


def messy(folder):
    """A folder with one good file and everything that can go wrong; the socket is to be closed."""
    (folder / "sub").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / ".git" / "x.txt").write_text("hidden")
    (folder / "good.txt").write_text("good")
    (folder / "empty.txt").touch()
    (folder / "blank.md").write_text(" \n\u3000\t\n")
    (folder / "mark.txt").write_bytes(b"\xef\xbb\xbf")
    (folder / "none.jsonl").touch()
    (folder / "binary.txt").write_bytes(bytes(range(256)))
    (folder / "torn.txt").write_bytes("hello".encode("utf-16")[:-1])
    (folder / "sub" / "broken.parquet").write_bytes(b"not parquet")
    (folder / "sub" / "log.jsonl").write_text('{"step": 1}\n')
    (folder / "sub" / "bad.jsonl").write_text("not json\n")
    for name in ("x.pdf", "y.PDF", "z.png", "Makefile"):
        (folder / name).write_bytes(b"\0")
    (folder / "dangling.txt").symlink_to("nowhere.txt")
    (folder / "loop.txt").symlink_to("loop.txt")
    (folder / "sub" / "up").symlink_to("..")
    os.mkfifo(folder / "pipe.txt")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(str(folder / "socket.txt"))
    return listening


def test_what_cannot_be_read_is_counted_and_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of a socket must be short
    with messy(Path("my")):
        documents, notes, facts = opened("my")
    assert documents == ["good"]
    assert facts["left_out"] == {
        "empty": 4,
        "binary": 1,
        "undecodable": 1,
        "no_records": 3,
        "broken_links": 2,
        "linked_folders": 1,
        "special": 2,
        "hidden": 1,
        "other_kinds": 4,
    }
    told = "\n".join(notes)
    assert "my: 4 files left out, empty: blank.md, empty.txt, mark.txt and 1 more" in told
    assert "other kinds: .pdf 2, .png 1, no suffix 1" in told
    named = ("binary.txt", "torn.txt", "sub/log.jsonl", "dangling.txt", "sub/up", "pipe.txt", ".git")
    assert all(name in told for name in named)


def test_names_in_an_old_encoding_are_noted_as_text_that_can_be_written(tmp_path):
    names = ["猫.txt".encode("cp932"), "空.txt".encode("cp932"), b"bad\xff.txt"]
    contents = [JAPANESE.encode("cp932"), b"", b"\xe9"]
    try:
        for name, content in zip(names, contents, strict=True):
            Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)).write_bytes(content)
    except OSError:
        pytest.skip("this file system has names in UTF-8 only")
    documents, notes, _facts = opened(tmp_path)
    assert documents == [JAPANESE] and len(notes) == 4
    assert "\n".join(notes).encode() and any(r"empty: \x8b\xf3.txt" in line for line in notes)


def test_notes_and_figures_are_in_the_data_stats(tmp_path):
    for number, text in enumerate(sentences(12)):
        (tmp_path / f"{number}.txt").write_text(text)
    (tmp_path / "empty.txt").touch()
    facts = dataset_of(tmp_path, tokenizer="bpe:300").stats()
    assert facts["files"] == {"text": 12} and facts["left_out"] == {"empty": 1}
    assert facts["characters"] == facts["bytes"] and facts["bytes_per_token"] > 1


def test_a_folder_with_nothing_to_read_is_one_error_that_says_why(tmp_path):
    (tmp_path / "a.txt").touch()
    (tmp_path / "b.pdf").touch()
    line = refusal(corpus_of, tmp_path)
    assert "no .txt" in line and "empty: a.txt" in line and ".pdf 1" in line


def test_a_file_that_cannot_be_opened_is_a_flaw_and_no_traceback(tmp_path):
    for kind in ("text", "parquet"):
        scan = scan_file(tmp_path / "gone.txt", kind)
        assert scan.flaw == "unreadable" and "No such file" in scan.problem


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_left_out(tmp_path):
    (tmp_path / "good.txt").write_text("good")
    (tmp_path / "secret.txt").write_text("x")
    (tmp_path / "secret.txt").chmod(0)
    (tmp_path / "closed").mkdir(mode=0)
    assert opened(tmp_path)[2]["left_out"] == {"unreadable": 2}


def test_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe.txt")
    assert "pipe or a device" in refusal(corpus_of, tmp_path / "pipe.txt")
