"""Token tables: random, GPT-2's, or a local file. Nothing stands in for a table that cannot be had."""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from cvfp.data.cache import file_sha256
from cvfp.data.corpora import reach_hub
from cvfp.data.extras import require
from cvfp.records.config import EmbeddingConfig, derived_seed
from cvfp.records.errors import InputError
from cvfp.records.files import is_dir, is_file, reason
from cvfp.records.texts import N_

GPT2 = "openai-community/gpt2"
GPT2_COMMIT = "607a30d783dfa663caf39e06633721c8d4cfcd7e"
"""The revision of the hub's repository, so that the table cannot change under a finished sweep."""
GPT2_NAMES = ("wte.weight", "transformer.wte.weight")
FLOATS = ("F16", "F32", "F64")
"""Of a .safetensors file."""
LOCAL_GPT2 = "gpt2:"
OFFLINE = (
    "offline there are a random table (embedding.source random), a local copy (gpt2:PATH), or another "
    ".safetensors or .npy file"
)


def load_table(config: EmbeddingConfig, vocab_size: int, embed_dim: int, seed: int) -> np.ndarray:
    """The initial token table, (vocab_size, embed_dim) float32.

    `random` draws N(0, std^2) with a generator of its own derived from `seed`; `gpt2` is `wte.weight` of
    openai-community/gpt2, (50257, 768); `gpt2:PATH` is a local copy of it; any other source is a path. A path
    is a .npy or .safetensors file, or a folder with `model.safetensors`. The table may be that of another
    call: who changes it copies it first.

    Raises:
        InputError: the table cannot be had, is not of this shape, or holds anything but finite floats.
    """
    if config.source == "random":
        return _random_table(vocab_size, embed_dim, config.std, seed)
    path = _table_file(config.source)
    table = read_npy(path) if path.suffix == ".npy" else _safetensors(path)
    return _checked(table, (vocab_size, embed_dim), f"embedding {config.source!r}")


@lru_cache(maxsize=3)
def _random_table(vocab_size: int, embed_dim: int, std: float, seed: int) -> np.ndarray:
    """The table of a seed, kept for the next run with it: drawing GPT-2's shape takes most of a second."""
    generator = np.random.default_rng(derived_seed(seed, "table"))
    return generator.standard_normal((vocab_size, embed_dim), dtype=np.float32) * np.float32(std)


def read_npy(path: Path) -> np.ndarray:
    """The array of floats in a `.npy` file (NumPy Enhancement Proposal 1), mapped, not loaded.

    NumPy reads the header; what it declares is held against the size of the file before it is mapped.

    Raises:
        InputError: the file cannot be read, is no .npy file, holds no floats, or other than it declares.
    """
    try:
        size = path.stat().st_size
        with path.open("rb") as file, warnings.catch_warnings(action="ignore"):
            version = npy.read_magic(file)
            read_header = npy.read_array_header_1_0 if version == (1, 0) else npy.read_array_header_2_0
            shape, fortran, dtype = read_header(file)
            start = file.tell()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {reason(error)}") from error
    except Exception as error:  # a header is a Python literal to NumPy: a damaged one raises nearly anything
        said = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(f"{path}: not a readable .npy array: {said}") from error
    if dtype.kind != "f" or dtype.itemsize not in (2, 4, 8):
        raise InputError(f"{path}: holds {dtype.str}, floats are needed: <f2, <f4 or <f8")
    count = math.prod(shape)
    if not count or len(shape) > 2 or count * dtype.itemsize != size - start:
        there = (size - start) // dtype.itemsize
        raise InputError(f"{path}: not a readable table: shape {shape} is declared, {there} numbers follow")
    return np.memmap(path, dtype, "r", start, shape, "F" if fortran else "C")


def table_fingerprint(config: EmbeddingConfig) -> str | None:
    """SHA-256 of the file that holds the table; None for a random table, which the seed determines.

    Raises:
        InputError: the file cannot be had or read.
    """
    return None if config.source == "random" else file_sha256(_table_file(config.source))


def prior_of(config: EmbeddingConfig) -> str | None:
    """What data the table has seen, in a sentence; None for a random table."""
    if config.source == "random":
        return None
    if _is_gpt2(config.source):
        return N_("the embedding table is GPT-2's, trained on WebText (8 million web pages)")
    return f"the embedding table is {Path(config.source).name}, trained outside this project, on unknown data"


def _is_gpt2(source: str) -> bool:
    return source == "gpt2" or source.startswith(LOCAL_GPT2)


def _table_file(source: str) -> Path:
    return _download() if source == "gpt2" else _local(Path(source.removeprefix(LOCAL_GPT2)))


def _download() -> Path:
    with reach_hub(f"embedding 'gpt2' ({GPT2})", OFFLINE):
        return Path(
            require("huggingface_hub").hf_hub_download(GPT2, "model.safetensors", revision=GPT2_COMMIT)
        )


def _local(path: Path) -> Path:
    file = path / "model.safetensors" if is_dir(path) else path
    if not is_file(file):
        known = "there are random, gpt2, gpt2:PATH, or a path to a .safetensors or .npy table"
        raise InputError(f"embedding {str(path)!r}: no such file {file}; {known}")
    if file.suffix not in (".npy", ".safetensors"):
        raise InputError(f"embedding {str(path)!r}: a .safetensors or .npy file is needed")
    return file


def _safetensors(path: Path) -> np.ndarray:
    safetensors = require("safetensors")
    try:
        with safetensors.safe_open(path, framework="np") as file:
            name = _tensor_name(path, list(file.keys()))
            dtype = file.get_slice(name).get_dtype()
            if dtype not in FLOATS:  # numpy has no bfloat16
                raise InputError(f"{path}: holds {dtype}, floats are needed: {', '.join(FLOATS)}")
            return file.get_tensor(name)
    except (safetensors.SafetensorError, OSError) as error:
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
