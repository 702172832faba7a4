"""Claim: a checkpoint gives back the very same model, and a bad one a clear line."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import torch
from model_helpers import draw_tokens, make_model
from safetensors.torch import load_file, save_file

from cvfp.models.checkpoint import load_checkpoint, save_checkpoint
from cvfp.models.cvfp import CVFPModel
from cvfp.records.errors import InputError


@torch.no_grad()
def logits(model: CVFPModel) -> torch.Tensor:
    tokens = draw_tokens(80)
    return model.logits(model.hidden(model.contexts(tokens), tokens, torch.arange(80)))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("use_context", [True, False])
@pytest.mark.parametrize("output_bias", [True, False])
def test_round_trip_gives_the_same_logits_bit_for_bit(
    tmp_path: Path, output_bias: bool, use_context: bool, dtype: torch.dtype
):
    model = make_model(3, 2, output_bias=output_bias, use_context=use_context, dtype=dtype).eval()
    save_checkpoint(model, tmp_path / "new" / "folder")
    loaded = load_checkpoint(tmp_path / "new" / "folder")
    assert not loaded.training
    assert loaded.config == model.config
    assert torch.equal(logits(loaded), logits(model))


def test_what_transformers_adds_to_a_config_changes_nothing(tmp_path: Path):
    model = make_model().eval()
    save_checkpoint(model, tmp_path)
    damage_config(lambda c: c.update(transformers_version="5.24.0", id2label={"0": "a"}))(tmp_path)
    assert torch.equal(logits(load_checkpoint(tmp_path)), logits(model))


def test_the_head_is_tied_to_the_trained_table_alone(tmp_path: Path):
    save_checkpoint(make_model(), tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["tie_word_embeddings"] is True
    names = set(load_file(tmp_path / "model.safetensors"))
    assert {"model.embedding", "model.context_table"} <= names
    assert all(name.startswith("model.") and "head" not in name for name in names)


def test_both_tables_are_kept(tmp_path: Path):
    model = make_model()
    with torch.no_grad():
        model.embedding += 1
    save_checkpoint(model, tmp_path)
    loaded = load_checkpoint(tmp_path)
    assert torch.equal(loaded.embedding, model.embedding)
    assert torch.equal(loaded.context_table, model.context_table)
    assert not torch.equal(loaded.embedding, loaded.context_table)


def test_loading_and_saving_need_no_pickle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def refuse(*_args, **_options):
        raise AssertionError("pickle was used")

    for module, name in [
        (pickle, "load"),
        (pickle, "loads"),
        (pickle, "Unpickler"),
        (torch, "load"),
        (torch, "save"),
    ]:
        monkeypatch.setattr(module, name, refuse)
    save_checkpoint(make_model(), tmp_path)
    assert load_checkpoint(tmp_path).vocab_size == 40
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


def damage_config(change) -> object:
    def damage(folder: Path) -> None:
        config = json.loads((folder / "config.json").read_text())
        change(config)
        (folder / "config.json").write_text(json.dumps(config))

    return damage


def damage_weights(change) -> object:
    def damage(folder: Path) -> None:
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors")

    return damage


def cut(name: str, size: int):
    def damage(folder: Path) -> None:
        (folder / name).write_bytes((folder / name).read_bytes()[:size])

    return damage


DAMAGES = {
    "no config": (lambda folder: (folder / "config.json").unlink(), r"config\.json: no such file"),
    "no weights": (
        lambda folder: (folder / "model.safetensors").unlink(),
        r"model\.safetensors: no such file",
    ),
    "empty config": (cut("config.json", 0), r"config\.json: not JSON at line 1"),
    "half a config": (cut("config.json", 40), r"config\.json: not JSON"),
    "empty weights": (cut("model.safetensors", 0), "damaged safetensors file"),
    "half the weights": (cut("model.safetensors", 2000), "damaged safetensors file"),
    "pickled weights": (
        lambda folder: torch.save({"a": torch.zeros(2)}, folder / "model.safetensors"),
        "damaged safetensors file",
    ),
    "the first format": (
        damage_config(lambda c: c.update(format=1)),
        r"config\.json: format 1, this cvfp reads checkpoints of formats 2 and 3",
    ),
    "a later format": (
        damage_config(lambda c: c.update(format=4)),
        r"format 4, this cvfp reads .* formats 2 and 3",
    ),
    "no format": (
        damage_config(lambda c: c.pop("format")),
        r"config\.json: a file without a format number, this cvfp reads .* formats 2 and 3",
    ),
    "another model": (
        damage_config(lambda c: c.update(model_type="gpt2")),
        r"config\.json: model_type is 'gpt2', a CVFP model has 'cvfp'",
    ),
    "an untied head": (damage_config(lambda c: c.update(tie_word_embeddings=False)), "tie_word_embeddings: "),
    "missing key": (damage_config(lambda c: c.pop("vocab_size")), "vocab_size: required, but missing"),
    "text for a number": (damage_config(lambda c: c.update(vocab_size="40")), "vocab_size: .*'40'"),
    "context_dim 0": (
        damage_config(lambda c: c.update(context_dim=0)),
        r"context_dim: .*1.*got 0",
    ),
    "other width": (
        damage_config(lambda c: c.update(context_dim=32)),
        "weights do not fit the config",
    ),
    "other vocabulary": (damage_config(lambda c: c.update(vocab_size=41)), "weights do not fit the config"),
    "a list": (lambda folder: (folder / "config.json").write_text("[1]"), r"config\.json: "),
    "lost tensor": (damage_weights(lambda t: t.pop("model.context_table")), "weights do not fit the config"),
    "foreign tensor": (
        damage_weights(lambda t: t.update(more=torch.zeros(1))),
        "weights do not fit the config",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_bad_checkpoint_is_one_clear_line(tmp_path: Path, damage, message: str):
    save_checkpoint(make_model(), tmp_path)
    damage(tmp_path)
    with pytest.raises(InputError, match=message) as caught:
        load_checkpoint(tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path):
    with pytest.raises(InputError, match="no such file"):
        load_checkpoint(tmp_path / "nothing")
