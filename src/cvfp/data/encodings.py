"""Which encoding a text of the user's has, found in bounded memory, and whether it can be read at all.

A guess is taken only where three things agree: what the bytes look like, that every byte of the file decodes,
and that no control characters come out. The same bytes always get the same answer.
"""

from __future__ import annotations

import codecs
import hashlib
import unicodedata
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cvfp.data.cache import file_sha256
from cvfp.data.extras import require
from cvfp.records.errors import InputError
from cvfp.records.files import reason

# --- Marks, guesses, and whether a guess is taken.


MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    # Before UTF-16, whose mark is the beginning of it.
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""Encodings by the byte order mark at the start of a file."""
SAMPLE = 4096
"""Bytes that are looked at, from the line on that has the first byte which is not UTF-8."""
MIN_CONFIDENCE = 0.3
"""Of chardet. Right guesses on 60 and more characters of French, German, Polish and others had 0.31 and more;
the wrong ones, on 20, had less."""
KANA_SHARE, JAPANESE_SHARE = 0.15, 0.95
"""Least shares of kana, and of kana, kanji and full-width signs, in the characters beyond ASCII. Japanese
sentences are about half kana; Chinese and Korean read as Japanese have none."""
JAPANESE = ("cp932", "euc_jp", "euc_jis_2004")
JIS = "iso2022_jp"
"""Japanese in 7 bits, as in old mail: to look at it is ASCII, with `JIS_ESCAPES`."""
JIS_ESCAPES = (b"\x1b$B", b"\x1b$@", b"\x1b(J")
BLOCK = 1 << 18
"""Characters read at a time."""


def marked_encoding(start: bytes) -> str | None:
    """The encoding that a byte order mark at the start of a file tells."""
    return next((name for mark, name in MARKS.items() if start.startswith(mark)), None)


def detect_encoding(path: Path, position: int) -> str | None:
    """The encoding of a file whose byte at `position` is the first that is not UTF-8; None: not certain.

    Raises:
        OSError: the file cannot be read.
    """
    sample = _sample(path, position)
    if _is_damaged_utf8(sample):
        return None
    for name in _guesses(sample):
        if _is_text(sample, name) and decodes(path, name):
            return name
    return None


def text_blocks(path: Path, encoding: str) -> Iterator[str]:
    """The text of a file in blocks; line ends of every kind (`\\r\\n`, `\\r`) are `\\n`."""
    with path.open(encoding=encoding) as file:
        while block := file.read(BLOCK):
            yield block


def has_jis_escape(chunk: bytes) -> bool:
    """Whether Japanese in 7 bits begins somewhere in these bytes."""
    return b"\x1b" in chunk and any(code in chunk for code in JIS_ESCAPES)


def decodes(path: Path, encoding: str) -> bool:
    """Whether all of a file is text in this encoding. Raises `OSError` where it cannot be read."""
    try:
        for _block in text_blocks(path, encoding):
            pass
    except UnicodeDecodeError:
        return False
    return True


def _sample(path: Path, position: int) -> bytes:
    start = max(0, position - SAMPLE // 2)
    with path.open("rb") as file:
        file.seek(start)
        before, after = file.read(position - start), file.read(SAMPLE)
    line_start = before.rfind(b"\n") + 1
    return (before[line_start:] if line_start or not start else b"") + after


def _is_damaged_utf8(sample: bytes) -> bool:
    """UTF-8 with a flaw has at least as many characters that are right as wrong ones; others hardly any."""
    text = sample.decode(errors="replace")
    wrong = text.count("\ufffd")
    return sum(character > "\x7f" for character in text) - wrong >= wrong


def _guesses(sample: bytes) -> Iterator[str]:
    # chardet knows no Japanese files with vendor characters, such as a circled 1: those are tried first.
    yield from (name for name in JAPANESE if _is_japanese(sample, name))
    found = require("chardet").detect(sample)
    if found["encoding"] is not None and found["confidence"] >= MIN_CONFIDENCE:
        yield from _codec(found["encoding"])


def _codec(name: str) -> Iterator[str]:
    """Python's name for an encoding, if it has it; Shift_JIS with the characters that Windows adds."""
    with suppress(LookupError):
        codec = codecs.lookup(name).name
        yield "cp932" if codec == "shift_jis" else codec


def _is_japanese(sample: bytes, encoding: str) -> bool:
    text = _decoded(sample, encoding)
    signs = [] if text is None else [character for character in text if character > "\x7f"]
    kana = sum("\u3041" <= sign <= "\u30ff" for sign in signs)
    # Kanji; punctuation, kana and squared words; full-width forms; arrows to geometric shapes.
    ranges = ("\u4e00\u9fff", "\u3000\u33ff", "\uff01\uff60", "\u2190\u26ff")
    known = sum(any(low <= sign <= high for low, high in ranges) for sign in signs)
    return kana > 0 and kana >= KANA_SHARE * len(signs) and known >= JAPANESE_SHARE * len(signs)


def _is_text(sample: bytes, encoding: str) -> bool:
    text = _decoded(sample, encoding)
    return text is not None and not any(
        unicodedata.category(character) == "Cc" and character not in "\t\n\v\f\r" for character in text
    )


def _decoded(sample: bytes, encoding: str) -> str | None:
    """The sample's text; a character that its end cuts is left out."""
    try:
        return codecs.getincrementaldecoder(encoding)().decode(sample)
    except UnicodeDecodeError:
        return None


# --- One look at a file of the user's, in bounded memory: its hash, its encoding, and whether it can be read.


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
    returns: bool = False
    """Whether it may hold carriage returns."""
    flaw: str | None = None
    """Why the file is left out of a folder: a key of `cvfp.data.user_files.REASONS`."""
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
    ascii_only, escapes, returns, last = True, False, False, b""
    with path.open("rb") as file:
        marked = marked_encoding(file.read(4))
        file.seek(0)
        wide = None if marked == UTF8 else marked
        decoder = codecs.getincrementaldecoder(wide or "utf-8")()
        while chunk := file.read(BLOCK):
            digest.update(chunk)
            ascii_only = ascii_only and chunk.isascii()
            escapes = escapes or has_jis_escape(last + chunk)
            returns = returns or b"\r" in chunk
            last = chunk[-2:]
            if not wide and b"\0" in chunk:
                return _binary(read + chunk.index(0))
            if broken is None:
                pending = decoder.getstate()[0]
                text, broken = _next_text(decoder, chunk, read - len(pending))
                blank = blank and broken is None and not text.strip().strip("\ufeff")
                lines += (pending + chunk)[: None if broken is None else broken - read + len(pending)].count(
                    10
                )
            read += len(chunk)
    pending = decoder.getstate()[0]
    if broken is None and pending:
        broken, blank = read - len(pending), False
    if broken is not None and wide:
        return Scan("", None, flaw="undecodable", problem=f"not whole {wide.upper()} text (byte {broken})")
    found = digest.hexdigest()
    if broken is not None:
        return Scan(found, None, broken, lines, returns)
    if ascii_only and escapes:
        return _jis(path, found, returns)
    return Scan(found, wide or UTF8, returns=returns, flaw="empty" if blank else None)


def _jis(path: Path, sha256: str, returns: bool) -> Scan:
    if decodes(path, JIS):
        return Scan(sha256, JIS, returns=returns)
    problem = "has the escape codes of ISO-2022-JP, but is not whole text of it; convert it to UTF-8"
    return Scan("", None, flaw="undecodable", problem=problem)


def _next_text(decoder: codecs.IncrementalDecoder, chunk: bytes, start: int) -> tuple[str, int | None]:
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
