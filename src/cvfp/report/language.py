"""The language that a report is written in. Texts stand in the source in English; catalogues translate them.

`locale/<language>.po` is a gettext catalogue: `make messages` brings it up to date with the source. A report
is written inside `speaking(language)`; outside it texts are English.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import resources
from pathlib import Path
from typing import Literal, get_args

from cvfp.records.errors import InputError

Language = Literal["en", "ja"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
SOURCE: Language = "en"
NAMES: dict[str, str] = {"en": "English", "ja": "日本語"}
"""What each calls itself."""

_spoken: ContextVar[Language] = ContextVar("language of the report", default=SOURCE)


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """Inside the block, `_` gives texts in this language.

    Raises:
        InputError: a language that there is no catalogue of.
    """
    if language not in LANGUAGES:
        raise InputError(f"--lang {language}: unknown; there are {', '.join(LANGUAGES)}")
    token = _spoken.set(language)
    try:
        yield
    finally:
        _spoken.reset(token)


def spoken() -> Language:
    """The language of the block this runs in."""
    return _spoken.get()


def _(text: str) -> str:
    """`text` in the language of the block; as it stands where its catalogue does not know it."""
    language = _spoken.get()
    return text if language == SOURCE else catalogue(language).get(text, text)


def in_language(path: Path, language: str) -> Path:
    """The file of a report in a language: `report.md`, `report.ja.md`."""
    return path if language == SOURCE else path.with_suffix(f".{language}{path.suffix}")


def sentences(*texts: str) -> str:
    """Sentences one after the other, with a space between them where the language has one; empty ones are
    none.

    There is one behind bold text always: without it CommonMark does not see that `。` or `：` ends bold.
    """
    said = [text for text in texts if text]
    if spoken() != "ja":
        return " ".join(said)
    return "".join(f"{text} " if text.endswith("**") else text for text in said).rstrip()


def listed(texts: Iterable[str]) -> str:
    """Texts in a row with the comma of the language between them."""
    return _(", ").join(texts)


@functools.cache
def catalogue(language: Language) -> dict[str, str]:
    """Translations of a language by English text, without those that still need a look (fuzzy)."""
    from babel.messages.pofile import read_po

    with resources.files("cvfp.report").joinpath("locale", f"{language}.po").open("rb") as file:
        messages = read_po(file)
    return {
        str(message.id): str(message.string)
        for message in messages
        if message.id and message.string and not message.fuzzy
    }
