import hashlib

import numpy as np
import pytest
from data_helpers import refusal
from safetensors.numpy import save_file

from cvfp.data.embeddings import load_table, prior_of, table_fingerprint
from cvfp.records.config import EmbeddingConfig

SHAPE = (7, 5)


def table(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=SHAPE).astype(np.float32)


def load(source, shape=SHAPE) -> np.ndarray:
    return load_table(EmbeddingConfig(source=str(source)), *shape, seed=0)


def test_a_random_table_has_the_asked_deviation_and_follows_the_seed():
    config = EmbeddingConfig(std=0.05)
    first = load_table(config, 400, 300, seed=1)
    assert first.dtype == np.float32 and first.shape == (400, 300)
    assert abs(first.std() - 0.05) < 5e-4 and abs(first.mean()) < 5e-4
    others = [load_table(config, 400, 300, seed=seed) for seed in range(2, 9)]  # more than are kept
    again = load_table(config, 400, 300, seed=1)
    assert again is not first and np.array_equal(first, again)
    assert not any(np.array_equal(first, other) for other in others)


def test_a_random_table_is_finite_at_the_gpt2_shape():
    drawn = load_table(EmbeddingConfig(), 50257, 64, seed=42)
    assert np.isfinite(drawn).all() and abs(drawn.std() - 0.02) < 1e-4


@pytest.mark.parametrize("name", ["wte.weight", "transformer.wte.weight", "anything"])
def test_a_safetensors_file_or_its_folder_gives_the_table(tmp_path, name):
    path = tmp_path / "model.safetensors"
    others = {} if name == "anything" else {"wpe.weight": np.zeros((2, 5), np.float32)}
    save_file({name: table(), **others}, str(path))
    assert np.array_equal(load(path), table())
    assert np.array_equal(load(tmp_path), table())


def test_a_npy_table_of_any_float_type_becomes_float32(tmp_path):
    for dtype in (np.float16, np.float32, np.float64):
        np.save(tmp_path / "table.npy", table().astype(dtype))
        assert load(tmp_path / "table.npy").dtype == np.float32
        assert np.array_equal(load(tmp_path / "table.npy"), table().astype(dtype).astype(np.float32))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (np.zeros((5, 7), np.float32), "(5, 7)"),
        (np.zeros(35, np.float32), "(35,)"),
        (np.zeros(SHAPE, np.int64), "<i8"),
        (np.full(SHAPE, np.nan, np.float32), "35 of its values are not finite"),
        (np.full(SHAPE, 1e300), "not finite in float32"),
    ],
)
def test_a_wrong_table_is_refused_in_one_line(tmp_path, value, said):
    np.save(tmp_path / "table.npy", value)
    line = refusal(load, tmp_path / "table.npy")
    assert said in line and "table.npy" in line


def test_a_table_that_would_run_code_is_refused(tmp_path):
    np.save(tmp_path / "table.npy", np.array([None, {}], dtype=object), allow_pickle=True)
    assert "holds |O, floats are needed" in refusal(load, tmp_path / "table.npy")


@pytest.mark.parametrize("name", ["table.npy", "table.safetensors"])
@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04" * 20])
def test_a_broken_file_is_refused(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert "not a readable" in refusal(load, tmp_path / name)


def test_a_file_with_several_tensors_names_some(tmp_path):
    save_file({"b": table(), "a": table()}, str(tmp_path / "t.safetensors"))
    assert "a, b" in refusal(load, tmp_path / "t.safetensors")


def test_a_missing_or_unknown_table_names_what_there_is(tmp_path):
    (tmp_path / "t.bin").write_bytes(b"x")
    assert "random, gpt2" in refusal(load, tmp_path / "none.npy")
    assert "random, gpt2" in refusal(load, "glove")
    assert ".npy" in refusal(load, tmp_path / "t.bin")


def test_gpt2_comes_from_the_hub_file(tmp_path, monkeypatch):
    import huggingface_hub

    def download(repository, name, revision):
        assert (repository, name) == ("openai-community/gpt2", "model.safetensors")
        assert len(revision) == 40 and set(revision) <= set("0123456789abcdef")
        save_file({"wte.weight": table(), "wpe.weight": table()}, str(tmp_path / name))
        return str(tmp_path / name)

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    assert np.array_equal(load("gpt2"), table())
    assert "(7, 5)" in refusal(load, "gpt2", (50257, 768))


@pytest.mark.parametrize("name", ["wte.weight", "transformer.wte.weight"])
def test_a_local_copy_of_gpt2_gives_its_token_table(tmp_path, name):
    path = tmp_path / "model.safetensors"
    save_file({name: table(), "wpe.weight": table(1)}, str(path))
    assert np.array_equal(load(f"gpt2:{path}"), table())
    assert np.array_equal(load(f"gpt2:{tmp_path}"), table())
    assert "none.npy" in refusal(load, f"gpt2:{tmp_path / 'none.npy'}")


def test_the_fingerprint_of_a_table_is_that_of_its_file(tmp_path):
    def fingerprint(source) -> str | None:
        return table_fingerprint(EmbeddingConfig(source=str(source)))

    path = tmp_path / "model.safetensors"
    save_file({"wte.weight": table()}, str(path))
    first = fingerprint(path)
    assert first == hashlib.sha256(path.read_bytes()).hexdigest()
    assert first == fingerprint(tmp_path) == fingerprint(f"gpt2:{path}")
    save_file({"wte.weight": table(1)}, str(path))
    assert fingerprint(path) != first
    assert fingerprint("random") is None
    assert "random, gpt2" in refusal(fingerprint, tmp_path / "none.npy")


def test_an_unreachable_hub_is_an_error_that_names_the_offline_choices(tmp_path, monkeypatch):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    line = refusal(load, "gpt2", (50257, 768))
    assert "gpt2" in line and "random" in line and ".npy" in line


def test_prior_data_of_a_table_is_said():
    assert prior_of(EmbeddingConfig()) is None
    assert "WebText" in prior_of(EmbeddingConfig(source="gpt2"))
    assert prior_of(EmbeddingConfig(source="gpt2:copy/model.safetensors")) == prior_of(
        EmbeddingConfig(source="gpt2")
    )
    assert "mine.npy" in prior_of(EmbeddingConfig(source="some/mine.npy"))
