"""A file or a folder of the user's as a corpus: plain text, JSON lines, Parquet."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cvfp.data.cache import Note, cached_folder, silent
from cvfp.data.documents import LARGEST_DOCUMENT, Document, Source, text_of
from cvfp.data.encodings import BLOCK, UTF8, Scan, detect_encoding, scan_file, text_blocks
from cvfp.data.extras import require
from cvfp.records.config import DataConfig
from cvfp.records.errors import InputError
from cvfp.records.files import is_dir, parse_json_line, read_json, reason, write_json
from cvfp.records.schema import digest

# --- The files of a folder: which are read, and which are left out, counted and named.


KINDS = {
    ".txt": "text",
    ".text": "text",
    ".md": "text",
    ".markdown": "text",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
"""Kinds of file by suffix."""
NO_TEXT = (".json", ".csv", ".tsv")
"""Suffixes of files that hold records in another way: as plain text their headers and signs would be
learned."""
REASONS = {
    "empty": "empty",
    "binary": "binary (NUL bytes)",
    "undecodable": "of no known encoding",
    "same": "the same as another file",
    "no_records": "broken, or without the text field (data.text_field names it)",
    "too_long": "with too long a document (data.document_tokens cuts it)",
    "unreadable": "cannot be read",
    "broken_links": "links that lead nowhere",
    "linked_folders": "links to folders, which are not followed",
    "special": "pipes, sockets or devices",
    "hidden": "hidden",
    "other_kinds": "of other kinds",
}
"""Why something in a folder is left out, in words."""
SHOWN = 3
"""Names that a note gives; the others are counted."""


@dataclass(frozen=True)
class Listing:
    """Files to read, in sorted order, and the names of all else by reason."""

    files: list[Path]
    left: dict[str, list[str]] = field(default_factory=dict)

    def leave(self, why: str, name: str) -> None:
        """Count something as left out for a reason of `REASONS`."""
        self.left.setdefault(why, []).append(name)

    def notes(self) -> list[str]:
        """A line per reason."""
        return [_note(why, sorted(self.left[why])) for why in REASONS if why in self.left]

    def counts(self) -> dict[str, int]:
        """How many were left out, by reason."""
        return {why: len(self.left[why]) for why in REASONS if why in self.left}


def list_folder(root: Path) -> Listing:
    """Everything below a folder. Hidden files and folders are left out, and links to folders not followed.

    Raises:
        InputError: the folder itself cannot be read.
    """
    listing, waiting = Listing([]), [root]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                waiting += [Path(entry.path) for entry in entries if _is_folder(entry, root, listing)]
        except OSError as error:
            if folder == root:
                raise InputError(f"{root}: cannot be read: {reason(error)}") from error
            listing.leave("unreadable", _name(folder, root))
    listing.files.sort(key=lambda file: file.relative_to(root).parts)
    return listing


def few(names: list[str]) -> str:
    """The first names, and how many more there are."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def shown_name(path: Path) -> str:
    """A path as one line of text: bytes of old encodings, as archives leave them, and control characters as
    `\\x82` and `\\n`."""
    text = os.fsencode(path.as_posix()).decode(errors="backslashreplace")
    return "".join(_shown(character) for character in text)


def _shown(character: str) -> str:
    if character.isprintable() or unicodedata.category(character) == "Zs":  # such as the wide Japanese space
        return character
    return character.encode("unicode_escape").decode("ascii")


def _is_folder(entry: os.DirEntry, root: Path, listing: Listing) -> bool:
    """Sort what is not a folder into the listing."""
    path = Path(entry.path)
    if entry.name.startswith("."):
        listing.leave("hidden", _name(path, root))
    elif entry.is_dir(follow_symlinks=False):
        return True
    elif (why := _why_no_file(entry)) is not None:
        listing.leave(why, _name(path, root))
    elif path.suffix.lower() in KINDS:
        listing.files.append(path)
    else:
        listing.leave("other_kinds", _name(path, root))
    return False


def _why_no_file(entry: os.DirEntry) -> str | None:
    try:
        if entry.is_file():
            return None
        if entry.is_dir():
            return "linked_folders"
    except OSError:  # a link that leads to itself
        return "broken_links"
    return "broken_links" if entry.is_symlink() else "special"


def _name(path: Path, root: Path) -> str:
    return shown_name(path.relative_to(root))


def _note(why: str, names: list[str]) -> str:
    what = "file" if len(names) == 1 else "files"
    if why == "hidden":
        what = f"{what} or folder{'s' if len(names) > 1 else ''}"
    if why in ("linked_folders", "broken_links"):
        what = "entry" if len(names) == 1 else "entries"
    shown = few(names) if why != "other_kinds" else ", ".join(_by_suffix(names))
    return f"{len(names)} {what} left out, {REASONS[why]}: {shown}"


def _by_suffix(names: list[str]) -> Iterator[str]:
    """Suffixes with their counts, the most frequent first."""
    counts = Counter(Path(name).suffix.lower() or "no suffix" for name in names)
    ordered = sorted(counts.items(), key=lambda pair: (-pair[1], pair[0]))
    return (f"{suffix} {count}" for suffix, count in ordered)


# --- Plain text: a file is a document, or is cut into documents at a separator.


def read_text_file(path: Path, encoding: str, separator: str | None, whole: bool) -> Iterator[Document]:
    """The documents of a file, read in blocks; of a long one the first parts are `unfinished`.

    Line ends of every kind are `\\n`, in the file and in the separator.

    Args:
        path: the file.
        encoding: of it.
        separator: between the documents; None: there is one.
        whole: whether documents stay as long as they are, and so have a limit.

    Raises:
        InputError: a document above the limit, where there is one.
        UnicodeDecodeError: the file is not in this encoding.
    """
    if separator is not None:
        separator = separator.replace("\r\n", "\n").replace("\r", "\n")
    kept = 0 if separator is None else len(separator) - 1  # a separator may begin in them
    rest, pieces, length = "", 0, 0
    for block in text_blocks(path, encoding):
        *done, rest = [rest + block] if separator is None else (rest + block).split(separator)
        for piece in done:
            yield Document(piece, continues=pieces > 0)
            pieces, length = pieces + 1, 0
        if len(rest) > BLOCK:
            ready = len(rest) - kept
            yield Document(rest[:ready], continues=pieces > 0, unfinished=True)
            rest, length = rest[ready:], length + ready
        if whole and length > LARGEST_DOCUMENT:
            raise InputError(_too_long(path, separator))
    yield Document(rest, continues=pieces > 0)


def _too_long(path: Path, separator: str | None) -> str:
    where = "it is one document" if separator is None else "a document in it is"
    cuts = (
        "data.document_separator or data.document_tokens=1000"
        if separator is None
        else "data.document_tokens=1000"
    )
    return f"{path}: {where} of more than {LARGEST_DOCUMENT // 1_000_000} million characters; {cuts} cuts it"


# --- JSON lines: one record per line, with a text field or chat messages.


def read_json_lines(path: Path, encoding: str, field: str | None) -> Iterator[Document]:
    """The records of a `.jsonl` file, in order, read line by line; blank lines are skipped.

    Raises:
        InputError: names the line that is not JSON, is too long, or has no such field.
        UnicodeDecodeError: the file is not in this encoding.
    """
    with path.open(encoding=encoding, newline="\n") as lines:
        number = 0
        while line := lines.readline(LARGEST_DOCUMENT):
            number += 1
            where = f"{path}, line {number}"
            if len(line) == LARGEST_DOCUMENT:
                raise InputError(f"{where}: longer than {LARGEST_DOCUMENT // 1_000_000} million characters")
            if line.strip():
                record = parse_json_line(line.removeprefix("\ufeff"), where)
                yield Document(_whole(text_of(record, field, where), where))


def _whole(text: str, where: str) -> str:
    """`text`, which JSON escapes may have given half a character."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: character {error.start} is half of a surrogate pair") from error
    return text


# --- Parquet files: one record per row, with a text field or chat messages.


BUFFER = 1 << 20
"""Bytes read at a time."""


def read_parquet(path: Path, field: str | None) -> Iterator[Document]:
    """The rows of a `.parquet` file, in order.

    Raises:
        InputError: a file that is not Parquet or has no such field.
    """
    for number, row in enumerate(_parquet_rows(path, field), start=1):
        yield Document(text_of(row, field, f"{path}, row {number}"))


def _parquet_rows(path: Path, field: str | None) -> Iterator[dict]:
    # Without buffering ahead, which takes the memory of all row groups.
    with (
        _told(path),
        require("pyarrow.parquet").ParquetFile(path, pre_buffer=False, buffer_size=BUFFER) as file,
    ):
        wanted = {"text", "messages"} if field is None else {field}
        names = file.schema_arrow.names
        columns = [name for name in names if name in wanted]
        if not columns:
            text_of(dict.fromkeys(names), field, f"{path}, row 1")  # raises
        for batch in file.iter_batches(batch_size=1024, columns=columns):
            yield from batch.to_pylist()


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """The library's errors in ours."""
    pyarrow = require("pyarrow")
    try:
        yield
    except InputError:
        raise
    except (pyarrow.ArrowException, OSError, ValueError, OverflowError) as error:
        # Errors of values: text that is not UTF-8, a date beyond Python's.
        first = str(error).partition("\n")[0]
        raise InputError(f"{path}: not a readable Parquet file: {first}") from error


# --- Such files as a corpus: scanned, told apart, read one after the other.


DETECTION = 1
"""Raised when the same bytes would be given another encoding."""
CHECKING = 1
"""Raised when other records would be refused."""


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


def open_local(path: Path, config: DataConfig, note: Note = silent) -> Source:
    """A text, jsonl or parquet file, or all of them below a folder. Any other file is taken for text.

    Of a folder, what cannot be read or is the same as an earlier file is left out, which the source notes;
    `note` is told of waiting.

    Raises:
        InputError: an empty separator; a `.json` file; a named file that is binary, broken or of no known
            encoding; a folder in which nothing is left to read.
    """
    if config.document_separator == "":
        raise InputError("data.document_separator: an empty string cuts nothing; leave it out")
    folder = is_dir(path)
    if not folder and path.suffix.lower() in NO_TEXT:
        raise InputError(
            f"{path}: a {path.suffix.lower()} file is no corpus: write one record a line, as .jsonl "
            "(as .txt it would be plain text, with all its signs)"
        )
    listing = list_folder(path) if folder else Listing([path])
    files = _readable(_scanned(listing.files, note), path if folder else None, listing)
    if folder:
        files = _with_records(_different(files, path, listing), config, path, listing, note)
    if not files:
        why = "".join(f"; {note}" for note in listing.notes())
        raise InputError(f"{path}: no {', '.join(KINDS)} files to read in this folder{why}")
    name = path.name if path.name else path.resolve().name
    return local_source(shown_name(Path(name)), files, config, listing)


def local_source(name: str, files: list[LocalFile], config: DataConfig, listing: Listing) -> Source:
    """The documents of these files, one file after the other."""
    kinds = frozenset(file.kind for file in files)
    notes = [*_encoding_notes(files), *_line_end_notes(files), *listing.notes()]
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
    return _readable(_scanned(paths, silent), None, Listing([]))


def _scanned(paths: list[Path], note: Note) -> list[LocalFile]:
    kinds = [KINDS.get(path.suffix.lower(), "text") for path in paths]
    files = [LocalFile(path, kind, scan_file(path, kind)) for path, kind in zip(paths, kinds, strict=True)]
    unknown = [file for file in files if file.scan.encoding is None and file.scan.flaw is None]
    found = dict(zip((file.path for file in unknown), _detected(unknown, note), strict=True))
    return [_with_encoding(file, found[file.path]) if file.path in found else file for file in files]


def _with_encoding(file: LocalFile, encoding: str | None) -> LocalFile:
    scan = file.scan
    if encoding is not None:
        return replace(file, scan=replace(scan, encoding=encoding))
    place = f"line {scan.broken_line}, byte {scan.broken_at}"
    problem = f"not UTF-8 text ({place}), and no other encoding fits for certain; convert it to UTF-8"
    return replace(file, scan=replace(scan, flaw="undecodable", problem=problem))


def _detected(files: list[LocalFile], note: Note) -> list[str | None]:
    """The encodings of files that are not UTF-8, looked for once: it takes a tenth of a second each."""
    if not files:
        return []

    def build(folder: Path) -> None:
        found = [detect_encoding(file.path, file.scan.broken_at) for file in files]
        write_json(folder / "encodings.json", found)

    library = require("chardet").__version__
    key = [[file.scan.sha256 for file in files], library, DETECTION]
    return read_json(cached_folder("encodings", key, build, note) / "encodings.json")


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
    files: list[LocalFile], config: DataConfig, root: Path, listing: Listing, note: Note
) -> list[LocalFile]:
    """Those of a folder that can be read to their ends: one bad file is no reason to refuse the others."""
    doubtful = [file for file in files if _may_be_bad(file, config)]
    problems = dict(zip((file.path for file in doubtful), _problems(doubtful, config, note), strict=True))
    kept = []
    for file in files:
        problem = problems.get(file.path)
        if problem is None:
            kept.append(file)
        else:
            why = "too_long" if file.kind == "text" else "no_records"
            listing.leave(why, f"{shown_name(file.path.relative_to(root))} ({problem})")
    return kept


def _may_be_bad(file: LocalFile, config: DataConfig) -> bool:
    """Whether only reading the file shows what is wrong with it; a text may hold too long a document."""
    long = config.document_tokens is None and file.path.stat().st_size > LARGEST_DOCUMENT
    return file.kind != "text" or long


def _problems(files: list[LocalFile], config: DataConfig, note: Note) -> list[str | None]:
    """What keeps each of the files from being read to its end, looked for once."""
    if not files:
        return []

    def build(folder: Path) -> None:
        write_json(folder / "problems.json", [_problem(file, config) for file in files])

    known = [[file.kind, file.scan.sha256, file.encoding] for file in files]
    key = [known, config.text_field, config.document_separator, config.document_tokens is None, CHECKING]
    return read_json(cached_folder("records", key, build, note) / "problems.json")


def _problem(file: LocalFile, config: DataConfig) -> str | None:
    try:
        for _document in _read([file], config):
            pass
    except InputError as error:
        return str(error).removeprefix(str(file.path)).lstrip(",: ")
    return None


def _fingerprint(files: list[LocalFile], kinds: frozenset[str], config: DataConfig) -> str:
    """A hash of all that determines the documents. Files of one kind in UTF-8 need their hashes and one
    option; texts with carriage returns say so, for these are read as line ends."""
    hashes = [file.scan.sha256 for file in files]
    options = {"text": config.document_separator, "jsonl": config.text_field, "parquet": config.text_field}
    returns = ["line ends"] if any(map(_has_returns, files)) else []
    if len(kinds) == 1 and all(file.encoding == UTF8 for file in files):
        (kind,) = kinds
        return digest([kind, hashes, options[kind], *returns], 64)
    how = [[file.kind, file.encoding] for file in files]
    return digest(["files", hashes, how, config.document_separator, config.text_field, *returns], 64)


def _has_returns(file: LocalFile) -> bool:
    return file.kind == "text" and file.scan.returns


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


def _line_end_notes(files: list[LocalFile]) -> list[str]:
    names = [shown_name(Path(file.path.name)) for file in files if _has_returns(file)]
    what = "file has" if len(names) == 1 else "files have"
    return [f"{len(names)} {what} line ends other than \\n, read as \\n: {few(names)}"] if names else []


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
