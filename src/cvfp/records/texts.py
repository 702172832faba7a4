"""Texts that stand in records or plans in English and that reports show in other languages."""

from __future__ import annotations


def N_(text: str) -> str:
    """`text` itself, marked for the catalogues of `cvfp.report.language` (gettext's customary name)."""
    return text
