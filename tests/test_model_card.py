"""Claim: every checkpoint, of a sweep too, says what it is, what was measured and what speaks against it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from huggingface_hub import ModelCard
from lab_helpers import TINY_TWO_PHASES, checkpoint_of

from cvfp.data.tokenizers import saved_tokenizer
from cvfp.lab.checkpoint import model_card
from cvfp.lab.single import train
from cvfp.models.cvfp import CVFPModel
from cvfp.records.config import RunConfig
from cvfp.records.results import RunRecord

FILES = {
    "README.md",
    "config.json",
    "model.safetensors",
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer_name.json",
    "training_record.json",
}


@pytest.fixture(scope="module")
def checkpoint(whole: Path) -> Path:
    return checkpoint_of(whole)


def test_every_point_of_a_sweep_keeps_a_whole_checkpoint(whole: Path):
    """Arms without a checkpoint keep none."""
    kept = 0
    for run in whole.glob("runs/*"):
        arm = json.loads((run / "config.json").read_text())["arm"]
        neural = arm in ("cvfp", "cvfp-joint", "random-context", "no-context")
        assert (run / "checkpoint").is_dir() == neural
        if neural:
            assert {path.name for path in (run / "checkpoint").iterdir()} == FILES
            kept += 1
    assert kept


def test_the_card_has_the_recorded_figures_where_the_hub_looks_for_them(checkpoint: Path):
    made = json.loads((checkpoint / "training_record.json").read_text())
    card, point = ModelCard.load(checkpoint / "README.md"), made["record"]["point"]
    figures = {result.metric_type: result.metric_value for result in card.data.eval_results}
    assert figures == {
        "perplexity": point["val_ppl"],
        "accuracy": point["val_acc"],
        "bits_per_byte": point["bits_per_byte"],
    }
    assert card.data.pipeline_tag == "text-generation" and "cvfp" in card.data.tags
    assert f"| {point['val_ppl']:.2f} |" in card.text and f"{point['train_tokens']:,} tokens" in card.text
    assert f"{point['val_er']:.3f}" in card.text


def test_the_configuration_of_the_card_is_all_that_can_change_the_result(checkpoint: Path):
    made = json.loads((checkpoint / "training_record.json").read_text())
    text = (checkpoint / "README.md").read_text()
    for section, values in made["config"].items():
        for key in values if isinstance(values, dict) else ():
            assert f"| `{section}.{key}` |" in text


@pytest.mark.parametrize("block", range(2), ids=["native", "transformers"])
def test_both_ways_to_load_that_the_card_shows_run(block, checkpoint: Path, monkeypatch, capsys):
    if block:
        pytest.importorskip("transformers")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.chdir(checkpoint)
    text = (checkpoint / "README.md").read_text().split("```python\n")[1 + block].partition("```")[0]
    exec(compile(text, "card", "exec"), {})
    assert capsys.readouterr().out


def test_a_checkpoint_loads_natively_with_its_tokenizer(checkpoint: Path):
    model, tokenizer = CVFPModel.from_pretrained(checkpoint), saved_tokenizer(checkpoint)
    (ids,) = tokenizer.encode_batch(["abc"])
    assert len(list(model.generate(torch.from_numpy(ids), 3))) == 3


def card_of(checkpoint: Path, settings: dict, **changes) -> str:
    """The card of the record with some of its values changed."""
    made = json.loads((checkpoint / "training_record.json").read_text())
    record = RunRecord.parse_json(made["record"], "record")
    point = record.point.model_copy(update=changes.pop("point", {}))
    config = RunConfig.from_settings({"arm": "cvfp"} | settings)
    return model_card(config, record.model_copy(update={"point": point} | changes), 300, {"cvfp": "1"})


def test_what_speaks_against_a_model_stands_in_its_card(checkpoint: Path):
    settings = {"data.split": "published", "data.test_tokens": 100}
    text = card_of(checkpoint, settings, point={"stop_reason": "cap"}, phase1_converged=False)
    for sentence in ("same text", "first 100 test tokens", "cap on epochs", "before it had converged"):
        assert sentence in text
    quiet = card_of(checkpoint, {}, point={"stop_reason": "dev_minimum"}, phase1_converged=True)
    assert "cap" not in quiet.partition("## Limits")[2].partition("## Configuration")[0]
    assert "untrained context block" in card_of(checkpoint, {"arm": "random-context"})


def test_a_users_words_end_neither_yaml_nor_table(checkpoint: Path):
    name = 'a|b`c"\n---\n# d: [x'
    text = card_of(checkpoint, {"data.corpus": name}, point={"config_name": name})
    card = ModelCard(text)
    assert card.data.model_name == name
    assert card.data.eval_results[0].dataset_name == name
    assert not any(line.startswith("# d") for line in card.text.splitlines())


def test_several_corpora_are_named_without_their_paths(checkpoint: Path, tmp_path: Path):
    (tmp_path / "mine.txt").touch()
    text = card_of(checkpoint, {"data.corpus": ["chitchat", str(tmp_path / "mine.txt")]})
    assert ModelCard(text).data.eval_results[0].dataset_name == "chitchat + mine.txt"


def test_what_is_given_away_names_local_files_without_their_paths(tmp_path: Path, corpus: Path):
    settings = TINY_TWO_PHASES | {"data.corpus": str(corpus)}
    train(tmp_path / "model", samples=10, settings=settings, device="cpu", arm="cvfp")
    for file in (tmp_path / "model").glob("*.*"):
        if file.suffix in (".md", ".json"):
            assert str(corpus.parent) not in file.read_text(), file.name
    assert f"`{corpus.name}`" in (tmp_path / "model" / "README.md").read_text()
