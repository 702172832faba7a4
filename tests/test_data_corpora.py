import hashlib
import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from data_helpers import chats, corpus_of, refusal, sentences, write_jsonl, write_parquet

from cvfp.data import corpora
from cvfp.data.corpora import open_corpus
from cvfp.data.documents import Document, cut_documents
from cvfp.data.tokenizers import gpt2_tokenizer
from cvfp.records.config import DataConfig


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CVFP_CACHE", str(tmp_path_factory.mktemp("cache")))


def documents(path, **options):
    return corpus_of(path, **options).documents()


def trouble(path, **options):
    return refusal(documents, path, **options)


def test_a_text_file_is_a_document_unchanged_to_the_byte(tmp_path):
    text = "ünï 🙂\nline\n\n  end \n"
    (tmp_path / "a.txt").write_bytes(text.encode())
    assert documents(tmp_path / "a.txt") == [text]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbfhello")
    assert documents(tmp_path / "a.txt") == ["hello"]


def test_a_separator_cuts_a_text_file_and_empty_pieces_are_counted(tmp_path):
    (tmp_path / "a.txt").write_text("one\n---\n\n---\ntwo\n---\n")
    notes = []
    config = DataConfig(corpus=str(tmp_path / "a.txt"), document_separator="---\n")
    assert open_corpus(config, notes.append).documents() == ["one\n", "two\n"]
    assert any("2 empty documents" in line for line in notes)
    again = []
    assert len(open_corpus(config, again.append)) == 2
    assert any("2 empty documents" in line for line in again)


def test_a_folder_is_searched_in_sorted_order_without_hidden_files(tmp_path):
    for name in ("b.txt", "a/z.md", "a/c.txt", ".git/x.txt", "a/.hidden.txt", "a/notes.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    assert documents(tmp_path) == ["a/c.txt", "a/z.md", "b.txt"]


def test_json_lines_hold_a_text_field_or_messages(tmp_path):
    texts = sentences(3)
    plain = write_jsonl(tmp_path / "plain.jsonl", [{"id": i, "text": t} for i, t in enumerate(texts)])
    named = write_jsonl(tmp_path / "named.jsonl", [{"text": "no", "body": t} for t in texts])
    chat = write_jsonl(tmp_path / "chat.jsonl", chats(texts))
    assert documents(plain) == texts
    assert documents(named, text_field="body") == texts
    assert documents(chat) == documents(chat, text_field="messages") == ["Hi\n" + t for t in texts]


def test_parquet_holds_a_text_field_or_messages(tmp_path):
    texts = sentences(3)
    plain = write_parquet(tmp_path / "plain.parquet", [{"id": i, "text": t} for i, t in enumerate(texts)])
    chat = write_parquet(tmp_path / "chat.parquet", chats(texts))
    assert documents(plain) == texts
    assert documents(chat) == ["Hi\n" + t for t in texts]


def test_a_null_text_is_an_empty_document(tmp_path):
    assert documents(write_parquet(tmp_path / "a.parquet", [{"text": None}, {"text": "x"}])) == ["x"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"text": "broken', "not JSON"),
        (b'{"text": "\xe3\x81\xe3\x81\x82"}', "not UTF-8"),
        (b'["text"]', "list"),
        (b'{"body": "x", "title": "y"}', "'body', 'title'"),
        (b'{"text": 3}', "int"),
        (b'{"messages": [{"role": "user"}]}', "content"),
        (b"[" * 100_000, "nested"),
    ],
)
def test_a_broken_line_is_named_by_its_number(tmp_path, line, said):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"text": "fine"}\n\n' + line + b'\n{"text": "fine"}\n')
    message = trouble(path)
    assert "line 3" in message and said in message


def test_half_a_surrogate_pair_is_refused(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "\\ud83d"}\n')
    assert "surrogate" in trouble(tmp_path / "a.jsonl")


def test_a_wrong_field_names_those_there_are(tmp_path):
    path = write_parquet(tmp_path / "a.parquet", [{"body": "x", "title": "y"}])
    assert "'body', 'title'" in trouble(path)
    assert "no field 'txt'" in trouble(path, text_field="txt")


def test_a_file_that_is_not_parquet_is_refused(tmp_path):
    (tmp_path / "a.parquet").write_bytes(b"PAR1 nothing PAR1")
    assert "not a readable Parquet file" in trouble(tmp_path / "a.parquet")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "no text"),
        (b" \n \n", "no text"),
        (b"abc\0def", "NUL byte at 3"),
        ("é".encode("latin-1"), "byte 0"),
        ("hello".encode("utf-16-le"), "UTF-16 without"),
        ("hello".encode("utf-16")[:-1], "not whole UTF-16"),
        (b"12345\xff", "byte 5"),
    ],
)
def test_a_file_without_readable_text_is_refused(tmp_path, content, said):
    (tmp_path / "a.txt").write_bytes(content)
    message = trouble(tmp_path / "a.txt")
    assert said in message and "a.txt" in message


def test_an_unknown_corpus_names_those_there_are(tmp_path):
    for spec in ("shakespeare", str(tmp_path / "missing.txt")):
        line = trouble(spec)
        assert spec in line and "chitchat" in line and "ultrachat" in line


def test_a_folder_without_text_is_refused(tmp_path):
    (tmp_path / "a.pdf").write_text("x")
    assert "no .txt" in trouble(tmp_path)


def test_an_option_that_does_not_apply_is_refused_not_ignored(tmp_path):
    (tmp_path / "a.txt").write_text("x")
    path = write_jsonl(tmp_path / "a.jsonl", [{"text": "y"}])
    assert "text_field" in trouble(tmp_path / "a.txt", text_field="text")
    assert "document_separator" in trouble(path, document_separator="--")
    assert "text_field" in trouble("chitchat", text_field="text")
    assert "empty" in trouble(tmp_path / "a.txt", document_separator="")


def test_the_fingerprint_follows_content_and_options_not_the_name(tmp_path):
    for name, text in (("a.txt", "x--y"), ("b.txt", "x--y"), ("c.txt", "x--z")):
        (tmp_path / name).write_text(text)
    a, b, c = (corpus_of(tmp_path / f"{name}.txt").fingerprint for name in "abc")
    assert a == b != c
    assert a != corpus_of(tmp_path / "a.txt", document_separator="--").fingerprint
    assert a != corpus_of(tmp_path / "a.txt", document_tokens=5).fingerprint


def test_cut_pieces_restore_the_text_and_none_is_longer_than_asked():
    text = "日本語🙂 and some plain words; " * 40
    pieces = [piece.text for piece in cut_documents([Document(text)], 16)]
    assert "".join(pieces) == text
    lengths = [len(ids) for ids in gpt2_tokenizer().encode_batch(pieces)]
    assert max(lengths) <= 17 and min(lengths[:-1]) > 8


def test_pieces_keep_the_number_of_what_they_are_cut_from(tmp_path):
    for name, text in (("a.txt", "--one--two"), ("b.txt", " "), ("c.txt", "three words in a row--four")):
        (tmp_path / name).write_text(text)
    corpus = corpus_of(tmp_path, document_separator="--", document_tokens=3)
    assert "".join(corpus.documents()) == "onetwothree words in a rowfour"
    assert corpus.sources.tolist() == [0, 0, 1, 1, 1]


def test_a_document_that_is_short_enough_stays_whole(tmp_path):
    (tmp_path / "a.txt").write_text("only a few words")
    assert documents(tmp_path / "a.txt", document_tokens=100) == ["only a few words"]


def conversation(sentence: str, repeats: int) -> dict:
    turn = [{"text": sentence, "timestamp": "", "sender": "ann"}, {"text": "ok", "sender": "ann"}]
    return {"messages": [turn, [{"text": sentence, "sender": "bob"}]] * repeats}


def test_chitchat_joins_utterances_and_leaves_short_conversations_out(tmp_path, monkeypatch):
    path = tmp_path / "dataset.json"
    path.write_text(json.dumps({"a": conversation("hello there friend", 40), "b": conversation("hi", 2)}))
    monkeypatch.setattr(corpora, "package_file", lambda package, relative: path)
    assert "sha256" in refusal(corpora.open_chitchat)
    monkeypatch.setattr(corpora, "CHITCHAT_SHA256", hashlib.sha256(path.read_bytes()).hexdigest())
    (kept,) = corpora.open_chitchat().read()
    assert kept.text.startswith("hello there friend\nok\nhello there friend\nhello there friend\nok\n")
    assert kept.speakers == {"ann", "bob"}


def hub_copy(folder, texts):
    """A tiny copy with the file layout of HuggingFaceH4/ultrachat_200k."""
    cut = len(texts) // 2
    write_parquet(folder / "data" / "train_sft-00000-of-00002.parquet", chats(texts[:cut]))
    write_parquet(folder / "data" / "train_sft-00001-of-00002.parquet", chats(texts[cut:]))
    write_parquet(folder / "data" / "test_sft-00000-of-00001.parquet", chats(["held back"]))
    (folder / "README.md").write_text("a card")
    return folder


def test_a_local_copy_of_ultrachat_is_read_like_the_hub(tmp_path):
    texts = sentences(9)
    folder = hub_copy(tmp_path / "copy", texts)
    wanted = ["Hi\n" + text for text in texts]
    assert documents(f"ultrachat:{folder}") == wanted
    assert documents(f"hub:{folder}:train_sft") == wanted
    assert documents(f"hub:{folder}:test_sft") == ["Hi\nheld back"]


def test_the_hub_s_own_loader_gives_the_same_documents(tmp_path, monkeypatch):
    import datasets

    texts = sentences(9)
    folder = hub_copy(tmp_path / "copy", texts)
    load, asked = datasets.load_dataset, []

    def load_local(name, **options):
        asked.append((name, options["split"]))
        return load(str(folder), cache_dir=str(tmp_path / "arrow"), **options)

    monkeypatch.setattr(datasets, "load_dataset", load_local)
    assert documents("ultrachat") == ["Hi\n" + text for text in texts]
    assert documents("hub:someone/chats:train_sft[:2]") == ["Hi\n" + text for text in texts[:2]]
    assert asked == [
        ("HuggingFaceH4/ultrachat_200k", "train_sft"),
        ("someone/chats", "train_sft[:2]"),
    ]
    assert "nonsense" in trouble("hub:someone/chats:nonsense")


@pytest.mark.parametrize("spec", ["ultrachat", "hub:someone/something:train"])
def test_an_unreachable_hub_names_the_offline_choices(monkeypatch, tmp_path, spec):
    import datasets
    import huggingface_hub.constants

    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path)
    line = trouble(spec)
    assert spec in line and "--corpus chitchat" in line and "FOLDER" in line


def test_a_missing_split_of_a_copy_names_those_there_are(tmp_path):
    folder = hub_copy(tmp_path / "copy", sentences(4))
    assert "test_sft, train_sft" in trouble(f"hub:{folder}:train")
    assert "not a folder" in trouble(f"ultrachat:{tmp_path / 'nowhere'}")
    assert "OWNER/NAME" in trouble("hub:")


def test_large_parquet_text_columns_are_read(tmp_path):
    table = pa.table({"text": pa.array(["x y", "z"], pa.large_string())})
    pq.write_table(table, tmp_path / "a.parquet")
    assert documents(tmp_path / "a.parquet") == ["x y", "z"]
