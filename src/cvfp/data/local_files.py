"""A file or a folder of the user's as a corpus."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from cvfp.data.cache import cached_folder, silent
from cvfp.data.documents import Document, Source
from cvfp.data.encodings import detect_encoding
from cvfp.data.extras import require
from cvfp.data.folder import KINDS, Listing, few, list_folder, shown_name
from cvfp.data.json_lines import read_json_lines
from cvfp.data.parquet import read_parquet
from cvfp.data.scan import UTF8, Scan, scan_file
from cvfp.data.text_files import read_text_file
from cvfp.records.config import DataConfig
from cvfp.records.errors import InputError
from cvfp.records.files import is_dir, read_json, reason, write_json
from cvfp.records.schema import digest

DETECTION = 1
"""Raised when the same bytes would be given another encoding."""


@dataclass(frozen=True)
class LocalFile:
    """A file that is read."""

    path: Path
    kind: str
    scan: Scan

    @property
    def encoding(self) -> str:
        assert self.scan.encoding is not None
        return self.scan.encoding


def open_local(path: Path, config: DataConfig) -> Source:
    """A text, jsonl or parquet file, or all of them below a folder. Any other file is taken for text.

    Of a folder, what cannot be read or is the same as an earlier file is left out and noted.

    Raises:
        InputError: an empty separator; a `.json` file; a named file that is binary, broken or of no known
            encoding; a folder in which nothing is left to read.
    """
    if config.document_separator == "":
        raise InputError("data.document_separator: an empty string cuts nothing; leave it out")
    folder = is_dir(path)
    if not folder and path.suffix.lower() == ".json":
        raise InputError(f"{path}: a .json file is no corpus: write one record a line, as .jsonl")
    listing = list_folder(path) if folder else Listing([path])
    files = _readable(_scanned(listing.files), path if folder else None, listing)
    if folder:
        files = _with_records(_different(files, path, listing), config, path, listing)
    if not files:
        why = "".join(f"; {note}" for note in listing.notes())
        raise InputError(f"{path}: no {', '.join(KINDS)} files to read in this folder{why}")
    name = path.name if path.name else path.resolve().name
    return local_source(shown_name(Path(name)), files, config, listing)


def local_source(name: str, files: list[LocalFile], config: DataConfig, listing: Listing) -> Source:
    """The documents of these files, one file after the other."""
    kinds = frozenset(file.kind for file in files)
    notes = [*_encoding_notes(files), *listing.notes()]
    return Source(
        name,
        _fingerprint(files, kinds, config),
        lambda: _read(files, config),
        kinds,
        tuple(f"{name}: {note}" for note in notes),
        _facts(files, listing),
        {(file.kind, file.scan.sha256): shown_name(file.path) for file in files},
    )


def parquet_files(paths: list[Path]) -> list[LocalFile]:
    """These as files to read. Raises `InputError` for one that is not Parquet."""
    return _readable(_scanned(paths), None, Listing([]))


def _scanned(paths: list[Path]) -> list[LocalFile]:
    kinds = [KINDS.get(path.suffix.lower(), "text") for path in paths]
    files = [LocalFile(path, kind, scan_file(path, kind)) for path, kind in zip(paths, kinds, strict=True)]
    unknown = [file for file in files if file.scan.encoding is None and file.scan.flaw is None]
    found = dict(zip((file.path for file in unknown), _detected(unknown), strict=True))
    return [_with_encoding(file, found[file.path]) if file.path in found else file for file in files]


def _with_encoding(file: LocalFile, encoding: str | None) -> LocalFile:
    scan = file.scan
    if encoding is not None:
        return replace(file, scan=replace(scan, encoding=encoding))
    place = f"line {scan.broken_line}, byte {scan.broken_at}"
    problem = f"not UTF-8 text ({place}), and no other encoding fits for certain; convert it to UTF-8"
    return replace(file, scan=replace(scan, flaw="undecodable", problem=problem))


def _detected(files: list[LocalFile]) -> list[str | None]:
    """The encodings of files that are not UTF-8, looked for once: it takes a tenth of a second each."""
    if not files:
        return []

    def build(folder: Path) -> None:
        found = [detect_encoding(file.path, file.scan.broken_at) for file in files]
        write_json(folder / "encodings.json", found)

    library = require("chardet").__version__
    key = [[file.scan.sha256 for file in files], library, DETECTION]
    return read_json(cached_folder("encodings", key, build, silent) / "encodings.json")


def _readable(files: list[LocalFile], root: Path | None, listing: Listing) -> list[LocalFile]:
    """The files without a flaw. Those with one are left out of a folder `root`; outside of one they raise."""
    kept = []
    for file in files:
        if root is None and file.scan.problem:
            raise InputError(f"{file.path}: {file.scan.problem}")
        if root is not None and file.scan.flaw is not None:
            listing.leave(file.scan.flaw, shown_name(file.path.relative_to(root)))
        else:
            kept.append(file)
    return kept


def _different(files: list[LocalFile], root: Path, listing: Listing) -> list[LocalFile]:
    """The files without those that an earlier one equals: one copy could be trained on, another tested on."""
    first: dict[tuple[str, str], LocalFile] = {}
    for file in files:
        if first.setdefault((file.kind, file.scan.sha256), file) is not file:
            listing.leave("same", shown_name(file.path.relative_to(root)))
    return list(first.values())


def _with_records(
    files: list[LocalFile], config: DataConfig, root: Path, listing: Listing
) -> list[LocalFile]:
    """Those of a folder whose first record, where they hold records, can be read."""
    kept = []
    for file in files:
        try:
            if file.kind != "text":
                next(_read([file], config), None)
            kept.append(file)
        except InputError:
            listing.leave("no_records", shown_name(file.path.relative_to(root)))
    return kept


def _fingerprint(files: list[LocalFile], kinds: frozenset[str], config: DataConfig) -> str:
    """Of all that determines the documents. Files of one kind in UTF-8 need their hashes and one option."""
    hashes = [file.scan.sha256 for file in files]
    options = {"text": config.document_separator, "jsonl": config.text_field, "parquet": config.text_field}
    if len(kinds) == 1 and all(file.encoding == UTF8 for file in files):
        (kind,) = kinds
        return digest([kind, hashes, options[kind]], 64)
    how = [[file.kind, file.encoding] for file in files]
    return digest(["files", hashes, how, config.document_separator, config.text_field], 64)


def _read(files: list[LocalFile], config: DataConfig) -> Iterator[Document]:
    whole = config.document_tokens is None
    for file in files:
        try:
            if file.kind == "text":
                yield from read_text_file(file.path, file.encoding, config.document_separator, whole)
            elif file.kind == "jsonl":
                yield from read_json_lines(file.path, file.encoding, config.text_field)
            else:
                yield from read_parquet(file.path, config.text_field)
        except UnicodeDecodeError as error:
            raise InputError(f"{file.path}: was changed while it was read") from error
        except OSError as error:
            raise InputError(f"{file.path}: cannot be read: {reason(error)}") from error


def _encoding_notes(files: list[LocalFile]) -> list[str]:
    others: dict[str, list[str]] = {}
    for file in files:
        if file.encoding != UTF8:
            others.setdefault(file.encoding, []).append(shown_name(Path(file.path.name)))
    return [
        f"{len(names)} {'file' if len(names) == 1 else 'files'} read as {encoding}, not UTF-8: {few(names)}"
        for encoding, names in sorted(others.items())
    ]


def _facts(files: list[LocalFile], listing: Listing) -> dict[str, Any]:
    encodings = Counter(
        "utf-8" if file.encoding == UTF8 else file.encoding for file in files if file.kind != "parquet"
    )
    facts = {
        "files": dict(sorted(Counter(file.kind for file in files).items())),
        "encodings": dict(sorted(encodings.items())),
        "left_out": listing.counts(),
    }
    return {name: counts for name, counts in facts.items() if counts}
