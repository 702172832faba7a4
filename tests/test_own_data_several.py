"""Claims: several corpora are one pool of documents with a known source; one alone is what it was."""

import json

import numpy as np
import pytest
import torch
from data_helpers import corpus_of, refusal, sentences, write_jsonl
from fuzz_helpers import tried
from hypothesis import given
from hypothesis import strategies as st
from lab_helpers import TINY, write_corpus

from cvfp.cli.main import main
from cvfp.data.corpora import open_corpus
from cvfp.data.dataset import open_dataset
from cvfp.data.splits import split_documents, split_parts
from cvfp.lab.plan import SweepSpec, make_plan
from cvfp.lab.runner import run_sweep
from cvfp.records.config import DataConfig, RunConfig
from cvfp.records.sweep import load_sweep

pytestmark = pytest.mark.usefixtures("undrawn")


@pytest.fixture
def three(tmp_path):
    """A folder, a file of records and a text that a separator cuts: 20, 30 and 10 documents."""
    texts = sentences(60)
    (tmp_path / "folder").mkdir()
    for number, text in enumerate(texts[:20]):
        (tmp_path / "folder" / f"{number:02}.txt").write_text(text)
    write_jsonl(tmp_path / "records.jsonl", [{"text": text} for text in texts[20:50]])
    (tmp_path / "cut.txt").write_text("\n--\n".join(texts[50:]))
    return texts, [str(tmp_path / name) for name in ("folder", "records.jsonl", "cut.txt")]


def test_documents_follow_in_the_order_of_the_corpora_and_know_theirs(three):
    texts, names = three
    corpus = open_corpus(DataConfig(corpus=names, document_separator="\n--\n"))
    assert corpus.documents() == texts
    assert corpus.name == "folder + records.jsonl + cut.txt"
    assert corpus.store.parts.tolist() == [0] * 20 + [1] * 30 + [2] * 10
    assert corpus.sources.tolist() == [*range(50), *[50] * 10]


def test_each_corpus_is_counted_and_held_out_in_proportion(three):
    _texts, names = three
    notes = []
    dataset = open_dataset(
        DataConfig(corpus=names, document_separator="\n--\n", test_documents=12, dev_documents=6),
        notes.append,
    )
    facts = dataset.stats()
    counts = [
        (each["documents"], each["dev_documents"], each["test_documents"])
        for each in facts["corpora"].values()
    ]
    assert counts == [(20, 2, 4), (30, 3, 6), (10, 1, 2)]
    assert sum(each["tokens"] for each in facts["corpora"].values()) == facts["tokens"]
    assert facts["corpora"]["folder"]["files"] == {"text": 20}
    assert any("cut.txt: fewer than 3 files" in line for line in notes)


@given(st.lists(st.integers(1, 300), min_size=2, max_size=5), st.sampled_from(["documents", "tail"]))
@tried(80)
def test_parts_are_disjoint_complete_and_within_one_of_their_share(sizes, mode):
    if max(sizes) < 3:
        return
    numbers = np.repeat(np.arange(len(sizes)), sizes)
    config, count = DataConfig(split=mode), len(numbers)
    split = split_parts(config, numbers, np.arange(count), None)
    together = np.concatenate([split.pool, split.dev, split.test])
    assert sorted(together.tolist()) == list(range(count))
    assert np.all(np.diff(split.test) > 0)
    total = sum(size for size in sizes if size >= 3)
    for number, size in enumerate(sizes):
        wanted = len(split.test) * size / total if size >= 3 else 0
        assert abs(int((numbers[split.test] == number).sum()) - wanted) < 1
        assert (numbers[split.pool] == number).any()


def test_one_corpus_is_split_as_ever():
    config, count = DataConfig(), 500
    one = split_parts(config, np.zeros(count, int), np.arange(count), None)
    before = split_documents(config, np.arange(count), None)
    assert one.test.tolist() == before.test.tolist() and one.pool.tolist() == before.pool.tolist()


def test_a_corpus_too_small_to_be_split_is_trained_on_with_a_note(three, tmp_path):
    (tmp_path / "lone.txt").write_text("one more document of words")
    notes = []
    dataset = open_dataset(DataConfig(corpus=[*three[1][:2], str(tmp_path / "lone.txt")]), notes.append)
    assert dataset.stats()["corpora"]["lone.txt"]["test_documents"] == 0
    assert any(line.startswith("lone.txt: none of its 1 documents are test") for line in notes)


@pytest.mark.parametrize(
    ("mode", "said"), [("published", "of one corpus"), ("speakers", "not every document says who speaks")]
)
def test_a_split_that_several_corpora_cannot_have_is_refused(mode, said):
    numbers = np.repeat([0, 1], 600)
    assert said in refusal(split_parts, DataConfig(split=mode), numbers, np.arange(1200), None)


def test_speakers_are_held_out_from_all_corpora_together():
    numbers = np.repeat([0, 1], 40)
    speakers = [frozenset([f"p{index % 10}"]) for index in range(80)]
    split = split_parts(DataConfig(split="speakers"), numbers, np.arange(80), speakers)
    trained = set().union(*(speakers[index] for index in split.pool))
    assert not any(speakers[index] & trained for index in split.test)


def test_a_list_of_one_is_that_one_and_has_its_hash():
    one, listed = (RunConfig(data=DataConfig(corpus=name)) for name in ("a.txt", ["a.txt"]))
    assert one == listed and one.config_hash == listed.config_hash
    assert RunConfig().config_hash == RunConfig(data=DataConfig(corpus=("chitchat",))).config_hash


def test_the_order_of_corpora_is_part_of_the_hash():
    assert len({RunConfig(data=DataConfig(corpus=names)).run_hash for names in (["a", "b"], ["b", "a"])}) == 2


@pytest.mark.parametrize("wrong", [[], "", 3, ["a", 3], ["a", ""], ["a", "a"], None])
def test_what_names_no_corpora_is_refused(wrong):
    line = refusal(RunConfig.from_settings, {"data.corpus": wrong}, "--set")
    assert "data.corpus" in line and ("needed" in line or "twice" in line)


def test_the_same_text_twice_is_refused(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("the same")
    config = DataConfig(corpus=[str(tmp_path / "a.txt"), str(tmp_path / "b.txt")])
    assert "a.txt and b.txt: they hold the same text" in refusal(open_corpus, config)


def test_corpora_of_one_name_are_called_by_their_paths(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.txt").write_text(name)
    names = [str(tmp_path / name / "a.txt") for name in ("one", "two")]
    assert list(open_corpus(DataConfig(corpus=names)).parts) == names


def test_an_option_that_no_corpus_uses_is_refused(three):
    names = three[1][1:2]
    assert "document_separator does not apply" in refusal(
        open_corpus, DataConfig(corpus=names, document_separator="--")
    )
    assert corpus_of(names[0]).fingerprint


def test_the_command_line_takes_several(three, capsys):
    _texts, names = three
    assert main(["data", "stats", "--corpus", *names[:2], "--tokenizer", "bpe:300", "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)["corpora"]) == ["folder", "records.jsonl"]
    listed = "data.corpus=" + json.dumps(names[:2])
    plan = ["run", "v3", "--arms", "unigram", "--samples", "10", "--dry-run"]
    assert main([*plan, "--set", listed]) == main([*plan, "--corpus", *names[:2]]) == 0


def test_a_sweep_of_several_corpora_records_the_scores_of_each(tmp_path):
    names = []
    for number in range(2):
        (tmp_path / f"c{number}").mkdir()
        names.append(str(write_corpus(tmp_path / f"c{number}", 30, number)))
    spec = SweepSpec(name="two", samples=(8,), arms=("unigram",), settings=TINY)
    runs = []
    for number, chosen in enumerate((names[0], names)):
        out = tmp_path / f"out{number}"
        run_sweep(make_plan(spec.with_settings({"data.corpus": chosen})), out, torch.device("cpu"))
        runs.extend(load_sweep(out).runs.values())
    one, both = runs
    assert one.facts.test_corpora == {}
    parts = both.facts.test_corpora
    assert list(parts) == names
    assert sum(part.tokens for part in parts.values()) == sum(both.test_documents.tokens)
    nats = sum(part.tokens * np.log(part.ppl) for part in parts.values())
    assert nats == pytest.approx(sum(both.test_documents.nats), rel=1e-4)
