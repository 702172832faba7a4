"""Token tables: random, GPT-2's, or a local file. Nothing stands in for a table that cannot be had."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cvfp.data.extras import require
from cvfp.data.hub import reach_hub
from cvfp.records.config import EmbeddingConfig
from cvfp.records.errors import InputError

GPT2 = "openai-community/gpt2"
GPT2_NAMES = ("wte.weight", "transformer.wte.weight")
OFFLINE = "offline there are a random table (embedding.source random) or a local .safetensors or .npy file"


def load_table(config: EmbeddingConfig, vocab_size: int, embed_dim: int, seed: int) -> np.ndarray:
    """The initial token table, (vocab_size, embed_dim) float32.

    `random` draws N(0, std^2) with `seed`; `gpt2` is `wte.weight` of openai-community/gpt2, (50257, 768); any
    other source is a path: a .npy or .safetensors file, or a folder with `model.safetensors`.

    Raises:
        InputError: the table cannot be had, is not of this shape, or holds anything but finite floats.
    """
    if config.source == "random":
        draws = np.random.default_rng(seed).standard_normal((vocab_size, embed_dim), dtype=np.float32)
        return draws * np.float32(config.std)
    path = _download() if config.source == "gpt2" else _local(Path(config.source))
    table = _npy(path) if path.suffix == ".npy" else _safetensors(path)
    return _checked(table, (vocab_size, embed_dim), f"embedding {config.source!r}")


def prior_of(config: EmbeddingConfig) -> str | None:
    """What data the table has seen, in a sentence; None for a random table."""
    if config.source == "random":
        return None
    if config.source == "gpt2":
        return "the embedding table is GPT-2's, trained on WebText (8 million web pages)"
    return f"the embedding table is {Path(config.source).name}, trained outside this project, on unknown data"


def _download() -> Path:
    with reach_hub(f"embedding 'gpt2' ({GPT2})", OFFLINE):
        return Path(require("huggingface_hub").hf_hub_download(GPT2, "model.safetensors"))


def _local(path: Path) -> Path:
    file = path / "model.safetensors" if path.is_dir() else path
    if not file.is_file():
        known = "there are random, gpt2, or a path to a .safetensors or .npy table"
        raise InputError(f"embedding {str(path)!r}: no such file {file}; {known}")
    if file.suffix not in (".npy", ".safetensors"):
        raise InputError(f"embedding {str(path)!r}: a .safetensors or .npy file is needed")
    return file


def _npy(path: Path) -> np.ndarray:
    try:
        with path.open("rb") as file:
            return np.lib.format.read_array(file, allow_pickle=False)
    except (ValueError, OSError) as error:
        raise InputError(f"{path}: not a readable .npy array: {error}") from error


def _safetensors(path: Path) -> np.ndarray:
    safetensors = require("safetensors")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            return file.get_tensor(_tensor_name(path, list(file.keys())))
    except (safetensors.SafetensorError, OSError, TypeError) as error:
        # numpy has no bfloat16: that dtype arrives here as a TypeError.
        raise InputError(f"{path}: not a readable .safetensors table: {error}") from error


def _tensor_name(path: Path, names: list[str]) -> str:
    """GPT-2's table where the file holds a model, else its only tensor."""
    known = [name for name in GPT2_NAMES if name in names]
    chosen = known if known else names
    if len(chosen) != 1:
        shown = ", ".join(sorted(names)[:5])
        raise InputError(
            f"{path}: needs one tensor, or one named {' or '.join(GPT2_NAMES)}; has {len(names)}: {shown}"
        )
    return chosen[0]


def _checked(table: np.ndarray, shape: tuple[int, int], where: str) -> np.ndarray:
    if not np.issubdtype(table.dtype, np.floating):
        raise InputError(f"{where}: holds {table.dtype}, floats are needed")
    if table.shape != shape:
        raise InputError(f"{where}: has shape {table.shape}, {shape} (V, d_e) is needed")
    # A float64 beyond float32's range becomes infinite and is refused with the rest.
    with np.errstate(over="ignore"):
        single = table.astype(np.float32)
    bad = int((~np.isfinite(single)).sum())
    if bad:
        raise InputError(f"{where}: {bad} of its values are not finite in float32")
    return single
