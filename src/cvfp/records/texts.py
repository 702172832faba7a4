"""Texts of records and plans, in English here and in other languages in reports; times in words."""

from __future__ import annotations


def N_(text: str) -> str:
    """`text` itself, marked for the catalogues of `cvfp.report.language` (gettext's customary name)."""
    return text


def duration(seconds: float) -> str:
    """A time with its units: `42 s`, `3 min 20 s`, `2 h 5 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600:,} h {whole % 3600 // 60} min"
