"""One look at a file of the user's, in bounded memory: its hash, its encoding, and whether it can be read."""

from __future__ import annotations

import codecs
import hashlib
from dataclasses import dataclass
from pathlib import Path

from cvfp.data.encodings import BLOCK, JIS, decodes, has_jis_escape, marked_encoding
from cvfp.data.hashing import file_sha256
from cvfp.records.errors import InputError
from cvfp.records.files import reason

UTF8 = "utf-8-sig"
"""UTF-8 with or without a byte order mark."""


@dataclass(frozen=True)
class Scan:
    """What is known of a file without parsing it."""

    sha256: str
    encoding: str | None
    """None for UTF-8 that is broken at `broken_at`, for which an encoding must be found."""
    broken_at: int = 0
    broken_line: int = 0
    flaw: str | None = None
    """Why the file is left out of a folder: a key of `cvfp.data.folder.REASONS`."""
    problem: str = ""
    """The same for a file that was named, in words; empty where such a file may be read."""


def scan_file(path: Path, kind: str) -> Scan:
    """Look at a text, jsonl or parquet file; what is wrong with it is in the result."""
    try:
        return Scan(file_sha256(path), UTF8) if kind == "parquet" else _scan_text(path)
    except InputError as error:
        return _unreadable(str(error).removeprefix(f"{path}: "))
    except (OSError, ValueError) as error:  # a ValueError: no path can be like this
        return _unreadable(f"cannot be read: {reason(error)}")


def _scan_text(path: Path) -> Scan:
    digest, blank, read, lines, broken = hashlib.sha256(), True, 0, 1, None
    ascii_only, escapes, last = True, False, b""
    with path.open("rb") as file:
        marked = marked_encoding(file.read(4))
        file.seek(0)
        wide = marked is not None and marked != UTF8
        decoder = codecs.getincrementaldecoder(marked if wide else "utf-8")()
        while chunk := file.read(BLOCK):
            digest.update(chunk)
            ascii_only = ascii_only and chunk.isascii()
            escapes = escapes or has_jis_escape(last + chunk)
            last = chunk[-2:]
            if not wide and b"\0" in chunk:
                return _binary(read + chunk.index(0))
            if broken is None:
                pending = decoder.getstate()[0]
                text, broken = _decoded(decoder, chunk, read - len(pending))
                blank = blank and broken is None and not text.strip().strip("\ufeff")
                lines += (pending + chunk)[: None if broken is None else broken - read + len(pending)].count(
                    10
                )
            read += len(chunk)
    pending = decoder.getstate()[0]
    if broken is None and pending:
        broken, blank = read - len(pending), False
    if broken is not None and wide:
        return Scan("", None, flaw="undecodable", problem=f"not whole {marked.upper()} text (byte {broken})")
    found = digest.hexdigest()
    if broken is not None:
        return Scan(found, None, broken, lines)
    if ascii_only and escapes:
        return _jis(path, found)
    return Scan(found, marked if wide else UTF8, flaw="empty" if blank else None)


def _jis(path: Path, sha256: str) -> Scan:
    if decodes(path, JIS):
        return Scan(sha256, JIS)
    problem = "has the escape codes of ISO-2022-JP, but is not whole text of it; convert it to UTF-8"
    return Scan("", None, flaw="undecodable", problem=problem)


def _decoded(decoder: codecs.IncrementalDecoder, chunk: bytes, start: int) -> tuple[str, int | None]:
    """The text of the chunk, and where in the file it is broken; `start` is where decoding goes on."""
    try:
        return decoder.decode(chunk), None
    except UnicodeDecodeError as error:
        return "", start + error.start


def _unreadable(problem: str) -> Scan:
    return Scan("", None, flaw="unreadable", problem=problem)


def _binary(position: int) -> Scan:
    problem = f"is a binary file or UTF-16 without a byte order mark (NUL byte at {position}); text is needed"
    return Scan("", None, flaw="binary", problem=problem)
