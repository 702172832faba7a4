"""Reports in other languages: every text is translated, and says the same numbers."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest
from babel.messages.extract import extract_from_dir
from babel.messages.pofile import read_po

from cvfp.records.errors import InputError
from cvfp.report.language import LANGUAGES, SOURCE, _, catalogue, speaking, spoken

SOURCE_FOLDER = Path(__file__).parents[1] / "src" / "cvfp"
SETTINGS = {"extensions": "jinja2.ext.i18n", "trimmed": "true", "newstyle_gettext": "true"}
METHODS = [("**.py", "python"), ("report/templates/**.j2", "jinja2")]
OPTIONS = {"report/templates/**.j2": SETTINGS}
TRANSLATED = [language for language in LANGUAGES if language != SOURCE]


def texts_of_the_source() -> set[str]:
    found = extract_from_dir(
        SOURCE_FOLDER, METHODS, OPTIONS, keywords={"_": None, "N_": None, "gettext": None}
    )
    return {message for _file, _line, message, *_rest in found}


def messages(language: str) -> list:
    with (SOURCE_FOLDER / "report" / "locale" / f"{language}.po").open("rb") as file:
        return [message for message in read_po(file) if message.id]


def test_there_are_texts():
    assert len(texts_of_the_source()) > 300


@pytest.mark.parametrize("language", TRANSLATED)
def test_every_text_is_translated_and_none_is_left_over(language):
    """`make messages` puts what is missing here into the catalogue."""
    known = {message.id for message in messages(language) if message.string and not message.fuzzy}
    assert texts_of_the_source() - known == set()
    assert known - texts_of_the_source() == set()


def placeholders(text: str) -> list[str]:
    return sorted(re.findall(r"\{\w+(?::[^}]*)?\}|%\(\w+\)s", text))


@pytest.mark.parametrize("language", TRANSLATED)
def test_translations_have_the_placeholders_and_numbers_of_their_texts(language):
    """A translation may say "two" as 2; what is a numeral in the text is one in the translation."""
    for message in messages(language):
        assert placeholders(message.string) == placeholders(message.id), message.id
        lost = Counter(numerals(message.id)) - Counter(numerals(message.string))
        assert not lost or message.id in REWORDED, message.id


def numerals(text: str) -> list[str]:
    return re.findall(r"\d+", text)


REWORDED = {"the embedding table is GPT-2's, trained on WebText (8 million web pages)"}
"""Texts whose numerals differ from language to language (8 million: 800万)."""


def test_no_text_hides_in_an_f_string():
    """Extraction would not find it there on every Python."""
    hidden = []
    for path in SOURCE_FOLDER.rglob("*.py"):
        for string in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(string, ast.JoinedStr):
                calls = [node for node in ast.walk(string) if isinstance(node, ast.Call)]
                hidden += [
                    f"{path.name}:{call.lineno}"
                    for call in calls
                    if isinstance(call.func, ast.Name)
                    and call.func.id in ("_", "N_")
                    and isinstance(call.args[0], ast.Constant)
                ]
    assert hidden == []


def test_a_language_lasts_as_long_as_its_block():
    with speaking("ja"):
        assert (spoken(), _("training tokens")) == ("ja", "訓練トークン数")
        with speaking("en"):
            assert _("training tokens") == "training tokens"
        assert _("training tokens") == "訓練トークン数"
    assert (spoken(), _("training tokens")) == ("en", "training tokens")


def test_a_block_that_raises_gives_the_language_back():
    with pytest.raises(RuntimeError), speaking("ja"):
        raise RuntimeError
    assert spoken() == "en"


def test_an_unknown_language_lists_those_there_are():
    with pytest.raises(InputError, match="--lang xx: unknown; there are en, ja"), speaking("xx"):
        pass


def test_a_text_without_translation_stays_as_it_is():
    with speaking("ja"):
        assert _("a corpus of my own") == "a corpus of my own"
    assert "a corpus of my own" not in catalogue("ja")
