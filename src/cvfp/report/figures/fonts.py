"""Fonts of the figures: names of lines may hold signs, Japanese ones say, that the common font has not."""

from __future__ import annotations

import functools
import itertools
import unicodedata
from collections.abc import Iterable

from matplotlib.font_manager import FontProperties, findSystemFonts, fontManager, get_font

COMMON = "DejaVu Sans"
"""Comes with matplotlib."""
FURTHER = (
    "Noto Sans CJK JP",
    "Noto Sans JP",
    "Source Han Sans JP",
    "IPAexGothic",
    "IPAGothic",
    "Hiragino Sans",
    "Hiragino Kaku Gothic ProN",
    "Yu Gothic",
    "Meiryo",
    "MS Gothic",
    "TakaoGothic",
    "VL Gothic",
    "Noto Sans CJK SC",
    "Noto Sans CJK KR",
    "Arial Unicode MS",
)
"""Where the common one has no glyph the first of these that is installed is used."""
SHOWN_CODES, SHOWN_SIGNS = 3, 8


@functools.cache
def families() -> tuple[str, ...]:
    """The font families of all texts: a glyph is taken from the first that has it."""
    found = _first_installed()
    if found is None:
        _look_again()
        found = _first_installed()
    return (COMMON,) if found is None else (COMMON, found)


def drawable(text: str) -> str:
    """The text with the code points of characters that no font has: `日本.txt` as `[65E5 672C].txt`."""
    parts = itertools.groupby(text, key=_has_glyph)
    return "".join("".join(signs) if has else _codes(list(signs)) for has, signs in parts)


def columns(text: str) -> int:
    """The width of a text; signs of East Asian scripts are two columns wide."""
    return sum(2 if unicodedata.east_asian_width(sign) in "WF" else 1 for sign in text)


def font_note(names: Iterable[str]) -> str | None:
    """A line that says which characters of these names figures cannot show, and what helps; None: all can."""
    missing = dict.fromkeys(sign for name in names for sign in name if not _has_glyph(sign))
    if not missing:
        return None
    signs = "".join(itertools.islice(missing, SHOWN_SIGNS)) + ("…" if len(missing) > SHOWN_SIGNS else "")
    return (
        f"no installed font has {signs}: figures show code points instead; install {FURTHER[0]} (Debian, "
        f"Ubuntu: apt install fonts-noto-cjk) and write the report again"
    )


def _has_glyph(sign: str) -> bool:
    return sign.isspace() or any(ord(sign) in _glyphs(family) for family in families())


@functools.cache
def _glyphs(family: str) -> frozenset[int]:
    """Code points of a font."""
    path = fontManager.findfont(FontProperties(family=[family]), fallback_to_default=False)
    return frozenset(get_font(path).get_charmap())


def _codes(signs: list[str]) -> str:
    more = f" +{len(signs) - SHOWN_CODES}" if len(signs) > SHOWN_CODES else ""
    return f"[{' '.join(f'{ord(sign):04X}' for sign in signs[:SHOWN_CODES])}{more}]"


def _first_installed() -> str | None:
    installed = {font.name for font in fontManager.ttflist}
    return next((family for family in FURTHER if family in installed), None)


def _look_again() -> None:
    """matplotlib remembers which fonts there were: add those installed since."""
    known = {font.fname for font in fontManager.ttflist}
    for path in sorted(set(findSystemFonts()) - known):
        try:
            fontManager.addfont(path)
        except (OSError, RuntimeError):  # not a font that it reads
            continue
