"""Data sets of the Hugging Face hub, downloaded or from a local copy of their files.

`ultrachat` is `hub:HuggingFaceH4/ultrachat_200k:train_sft`. A local copy has the hub's file layout, that is
`SPLIT-*.parquet` files somewhere below a folder: `ultrachat:FOLDER`, `hub:FOLDER:SPLIT`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cvfp.data.documents import Document, Source, text_of
from cvfp.data.extras import require
from cvfp.data.folder import Listing
from cvfp.data.hashing import file_sha256
from cvfp.data.local_files import local_source, parquet_files
from cvfp.records.config import DataConfig
from cvfp.records.errors import InputError
from cvfp.records.files import is_dir
from cvfp.records.schema import digest

ULTRACHAT = "HuggingFaceH4/ultrachat_200k"
KINDS = frozenset({"hub"})
OFFLINE = "offline there are --corpus chitchat, a local text, .jsonl or .parquet file, or a copy: "


def open_hub(spec: str, config: DataConfig) -> Source:
    """The data set that `ultrachat[:FOLDER]` or `hub:OWNER/NAME[:SPLIT]` names; SPLIT is `train` if left out.

    SPLIT may be a slice, e.g. `train_sft[:2000]`, of a downloaded data set.

    Raises:
        InputError: no such data set or split, or the hub cannot be reached; offline choices are named.
    """
    where, split = _parse(spec)
    if is_dir(Path(where)):
        return _local(spec, Path(where), split, config)
    name, field = "ultrachat" if where == ULTRACHAT else where, config.text_field
    datasets = require("datasets")
    copy = "ultrachat:FOLDER" if where == ULTRACHAT else "hub:FOLDER:SPLIT"
    with reach_hub(f"corpus {spec!r}", OFFLINE + copy, datasets.exceptions.DatasetsError):
        rows = datasets.load_dataset(where, split=split, keep_in_memory=False)
    files = [file_sha256(Path(file["filename"])) for file in rows.cache_files]
    fingerprint = digest(["hub", files, split, field], 64)
    return Source(f"{name}:{split}", fingerprint, lambda: _read(rows, field, f"{name}:{split}"), KINDS)


@contextmanager
def reach_hub(what: str, offline: str, *errors: type[Exception]) -> Iterator[None]:
    """Turn the hub's errors about `what` into an `InputError` that ends with the `offline` choices.

    Being offline, by the network or by `HF_HUB_OFFLINE`, is an OSError (refused, timed out, not in the local
    cache); `errors` are further types that mean the same. A ValueError is about the request itself.
    """
    answered = require("huggingface_hub.errors").HfHubHTTPError
    try:
        yield
    except (OSError, answered, *errors) as error:
        raise InputError(f"{what}: cannot be had from the hub ({_first_line(error)}); {offline}") from error
    except ValueError as error:
        raise InputError(f"{what}: {_first_line(error)}") from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _parse(spec: str) -> tuple[str, str]:
    kind, _, rest = spec.partition(":")
    if kind == "ultrachat":
        if rest and not is_dir(Path(rest)):
            raise InputError(f"corpus {spec!r}: {rest} is not a folder with train_sft-*.parquet files")
        return rest if rest else ULTRACHAT, "train_sft"
    where, _, split = rest.partition(":")
    if not where or (rest.endswith(":") and not split):
        raise InputError(f"corpus {spec!r}: written hub:OWNER/NAME or hub:OWNER/NAME:SPLIT")
    return where, split if split else "train"


def _local(spec: str, folder: Path, split: str, config: DataConfig) -> Source:
    every = sorted(folder.rglob("*.parquet"))
    files = [path for path in every if path.name.startswith(f"{split}-") or path.stem == split]
    if not files:
        there = sorted({path.stem.partition("-")[0] for path in every}) or ["none"]
        raise InputError(
            f"corpus {spec!r}: no {split}-*.parquet below {folder}; splits there: {', '.join(there)}"
        )
    name = spec.partition(":")[0] + f":{split}"
    return local_source(name, parquet_files(files), config, Listing([]))


def _read(rows: Any, field: str | None, name: str) -> Iterator[Document]:
    for number, row in enumerate(rows):
        yield Document(text_of(row, field, f"{name}, row {number}"))
