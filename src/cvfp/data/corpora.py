"""Corpora by name or path, one or several that are read as one: the embedded one, the hub's, the user's.

`ultrachat` is `hub:HuggingFaceH4/ultrachat_200k:train_sft`. A local copy has the hub's file layout, that is
`SPLIT-*.parquet` files somewhere below a folder: `ultrachat:FOLDER`, `hub:FOLDER:SPLIT`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from cvfp.data.cache import Note, check_sha256, file_sha256, silent
from cvfp.data.documents import Document, Source, cut_documents, text_of
from cvfp.data.extras import package_file, require
from cvfp.data.stores import TextStore, open_text_store
from cvfp.data.tokenizers import ENCODER_SHA256, gpt2_tokenizer
from cvfp.data.user_files import Listing, local_source, open_local, parquet_files
from cvfp.records.config import DataConfig
from cvfp.records.errors import InputError
from cvfp.records.files import is_dir, is_file, parts_of, refuse_special
from cvfp.records.schema import digest

# --- The embedded corpus: real conversations of the Chit-Chat Challenge, in the package `chitchat-dataset`.


CHITCHAT_VERSION = "0.9.0"
CHITCHAT_SHA256 = "d2a5d0bf6acf354fef51f3af39cbece2220d3b8f6086b658c3d335105798312a"
MIN_TOKENS = 200
"""Shorter conversations (in GPT-2 tokens) are left out: 2,607 of 7,168 remain, 3,024,786 tokens."""


def open_chitchat() -> Source:
    """Conversations of at least 200 GPT-2 tokens, utterances joined by "\\n", in file order, with speakers.

    Raises:
        InputError: the package is missing or its data file is not that of version 0.9.0.
    """
    path = package_file("chitchat_dataset", "dataset.json")
    check_sha256(path, CHITCHAT_SHA256, f"pip install --force-reinstall chitchat-dataset=={CHITCHAT_VERSION}")
    fingerprint = digest([CHITCHAT_SHA256, MIN_TOKENS, ENCODER_SHA256], 64)
    return Source("chitchat", fingerprint, lambda: _read_chitchat(path), frozenset({"chitchat"}))


def _read_chitchat(path: Path) -> Iterator[Document]:
    conversations = [_conversation(value) for value in json.loads(path.read_bytes()).values()]
    lengths = map(len, gpt2_tokenizer().encode_batch([document.text for document in conversations]))
    return (document for document, length in zip(conversations, lengths, strict=True) if length >= MIN_TOKENS)


def _conversation(conversation: dict) -> Document:
    utterances = [utterance for turn in conversation["messages"] for utterance in turn]
    speakers = frozenset(utterance["sender"] for utterance in utterances)
    return Document("\n".join(utterance["text"] for utterance in utterances), speakers)


# --- Data sets of the Hugging Face hub, downloaded or from a local copy of their files.


ULTRACHAT = "HuggingFaceH4/ultrachat_200k"
KINDS = frozenset({"hub"})
OFFLINE = "offline there are --corpus chitchat, a local text, .jsonl or .parquet file, or a copy: "


def open_hub(spec: str, config: DataConfig) -> Source:
    """The data set that `ultrachat[:FOLDER]` or `hub:OWNER/NAME[:SPLIT]` names; SPLIT is `train` if left out.

    SPLIT may be a slice, e.g. `train_sft[:2000]`, of a downloaded data set.

    Raises:
        InputError: no such data set or split, or the hub cannot be reached; offline choices are named.
    """
    where, split = _parse_hub_name(spec)
    if is_dir(Path(where)):
        return _local_copy(spec, Path(where), split, config)
    name, field = "ultrachat" if where == ULTRACHAT else where, config.text_field
    datasets = require("datasets")
    copy = "ultrachat:FOLDER" if where == ULTRACHAT else "hub:FOLDER:SPLIT"
    with reach_hub(f"corpus {spec!r}", OFFLINE + copy, datasets.exceptions.DatasetsError):
        rows = datasets.load_dataset(where, split=split, keep_in_memory=False)
    files = [file_sha256(Path(file["filename"])) for file in rows.cache_files]
    fingerprint = digest(["hub", files, split, field], 64)
    return Source(f"{name}:{split}", fingerprint, lambda: _read_hub(rows, field, f"{name}:{split}"), KINDS)


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


def _parse_hub_name(spec: str) -> tuple[str, str]:
    kind, _, rest = spec.partition(":")
    if kind == "ultrachat":
        if rest and not is_dir(Path(rest)):
            raise InputError(f"corpus {spec!r}: {rest} is not a folder with train_sft-*.parquet files")
        return rest if rest else ULTRACHAT, "train_sft"
    where = parts_of(rest)[0]
    split = rest.removeprefix(where)[1:]
    if not where or (rest.endswith(":") and not split):
        raise InputError(f"corpus {spec!r}: written hub:OWNER/NAME or hub:OWNER/NAME:SPLIT")
    return where, split if split else "train"


def _local_copy(spec: str, folder: Path, split: str, config: DataConfig) -> Source:
    every = sorted(folder.rglob("*.parquet"))
    files = [path for path in every if path.name.startswith(f"{split}-") or path.stem == split]
    if not files:
        there = sorted({path.stem.partition("-")[0] for path in every}) or ["none"]
        raise InputError(
            f"corpus {spec!r}: no {split}-*.parquet below {folder}; splits there: {', '.join(there)}"
        )
    name = spec.partition(":")[0] + f":{split}"
    return local_source(name, parquet_files(files), config, Listing([]))


def _read_hub(rows: Any, field: str | None, name: str) -> Iterator[Document]:
    for number, row in enumerate(rows):
        yield Document(text_of(row, field, f"{name}, row {number}"))


# --- Any corpus, by its name or path.


FORMAT = 1
"""Raised when the same source would be read into other documents."""
KNOWN = "chitchat, ultrachat[:FOLDER], hub:OWNER/NAME[:SPLIT], or a path: text file, folder, .jsonl, .parquet"
APPLIES = {"text_field": {"jsonl", "parquet", "hub"}, "document_separator": {"text"}}
"""Kinds of source that an option is for."""


@dataclass(frozen=True, eq=False)
class Corpus:
    """Documents that are read when first asked for, and kept in the cache."""

    name: str
    fingerprint: str
    """SHA-256 of all that determines the documents: the content of the files and how they are read."""
    open_store: Callable[[], TextStore]
    parts: Mapping[str, Mapping[str, Any]]
    """By the name of each corpus that it is made of: what its files are, and which were left out."""

    @cached_property
    def store(self) -> TextStore:
        """The documents on disk."""
        return self.open_store()

    def __len__(self) -> int:
        return len(self.store)

    def documents(self) -> list[str]:
        """All documents, in the order of the source."""
        return list(self.store.texts(np.arange(len(self))))

    def speakers(self) -> list[frozenset[str]] | None:
        """Who speaks in each document; None where the corpus does not say."""
        return self.store.speakers

    @property
    def sources(self) -> np.ndarray:
        """(N,) number of the file, record or conversation that every document is cut from."""
        return self.store.sources


def open_corpus(config: DataConfig, note: Note = silent) -> Corpus:
    """The corpus that `config` names, or all of those that it names as one, in that order.

    Raises:
        InputError: an unknown name, a file that is missing, empty, binary, broken or of no known encoding,
            two corpora with the same text or a file in common, an option that does not apply,
            or a hub that cannot be reached.
    """
    sources = _named([_source(spec, config, note) for spec in config.corpora], config.corpora)
    _check_options(config, sources)
    for source in sources:
        for line in source.notes:
            note(line)
    whole = sources[0] if len(sources) == 1 else _together(sources)
    key = [whole.fingerprint, config.document_tokens, FORMAT]

    def open_store() -> TextStore:
        return open_text_store(whole.name, key, _Cut(whole, config.document_tokens), note)

    parts = {source.name: source.facts for source in sources}
    return Corpus(whole.name, digest(key, 64), open_store, parts)


def read_texts(path: Path, text_field: str | None = None, note: Note = silent) -> list[str]:
    """The documents of a local file or folder, read as a corpus is: text in any encoding that is certain,
    JSON lines, Parquet. A text file is one document. Nothing is cached.

    Args:
        path: of the file or folder.
        text_field: of records; None: `text`, else `messages`.
        note: told what was left out, or is not UTF-8.

    Raises:
        InputError: as `open_corpus`; no text in it.
    """
    if not (is_file(path) or is_dir(path)):
        refuse_special(path)
        raise InputError(f"{path}: no such file")
    config = DataConfig(corpus=str(path), text_field=text_field)
    source = open_local(path, config, note)
    _check_options(config, [source])
    for line in source.notes:
        note(line)
    texts = [document.text for document in cut_documents(source.read(), None)]
    found = [text for text in texts if text.strip()]
    if not found:
        raise InputError(f"{path}: no text in it")
    return found


@dataclass(frozen=True)
class _Cut:
    """The documents of a source, cut; read only when iterated."""

    source: Source
    max_tokens: int | None

    def __iter__(self):
        return cut_documents(self.source.read(), self.max_tokens)


def _source(spec: str, config: DataConfig, note: Note) -> Source:
    if spec == "chitchat":
        return open_chitchat()
    if spec.partition(":")[0] in ("ultrachat", "hub"):
        return open_hub(spec, config)
    path = Path(spec)
    if not (is_file(path) or is_dir(path)):
        refuse_special(path)
        raise InputError(f"corpus {spec!r}: no such file, and no known name; there are {KNOWN}")
    return open_local(path, config, note)


def _named(sources: list[Source], specs: tuple[str, ...]) -> list[Source]:
    """The sources, those of the same name called by their paths."""
    names = Counter(source.name for source in sources)
    return [
        replace(source, name=spec) if names[source.name] > 1 else source
        for source, spec in zip(sources, specs, strict=True)
    ]


def _together(sources: list[Source]) -> Source:
    first: dict[str, str] = {}
    for source in sources:
        if source.fingerprint in first:
            raise InputError(
                f"corpora {first[source.fingerprint]} and {source.name}: they hold the same text"
            )
        first[source.fingerprint] = source.name
    _refuse_common_files(sources)

    def read() -> Iterator[Document]:
        for part, source in enumerate(sources):
            yield from (replace(document, part=part) for document in source.read())

    return Source(" + ".join(first.values()), digest(["together", list(first)], 64), read)


def _refuse_common_files(sources: list[Source]) -> None:
    known: dict[tuple[str, str], str] = {}
    for source in sources:
        common = known.keys() & source.files.keys()
        if common:
            key = min(common, key=lambda key: source.files[key])
            same = f"another corpus holds {source.files[key]} too, as {known[key]}"
            more = f" (and {len(common) - 1} more of its files)" if len(common) > 1 else ""
            raise InputError(f"corpus {source.name}: {same}{more}; leave out one of the two")
        known |= source.files


def _check_options(config: DataConfig, sources: list[Source]) -> None:
    kinds = frozenset().union(*(source.kinds for source in sources))
    for field, applies in APPLIES.items():
        if getattr(config, field) is not None and not kinds & applies:
            name = " + ".join(config.corpora)
            raise InputError(f"data.{field} does not apply to the corpus {name!r}; leave it out")
