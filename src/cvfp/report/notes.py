"""What the intervals of a report measure, in words, for the kinds that it holds."""

from __future__ import annotations

from collections.abc import Collection

from cvfp.report.language import _


def alpha_note(kinds: Collection[str | None], seeds_vary: str) -> str:
    """Of the intervals of exponents."""
    texts = {
        "line": _(
            "An interval over sizes is Student's t over the points of one fit: deviation from a straight "
            "line over sizes, not run-to-run noise."
        ),
        "draws": _(
            "An interval over draws is Student's t over the exponents of one law per draw, of which α and "
            "ln A are the means: the sizes of a draw are nested, so the draw and not the point is the unit. "
            "Seeds vary {what}."
        ).format(what=seeds_vary),
        "documents": _("An interval over test documents only is of one draw, and says nothing of another."),
        "draws x documents": _("An interval over draws and test documents is for new ones of both."),
    }
    return _joined(texts, kinds)


def band_note(kinds: Collection[str | None]) -> str:
    """Of the bands in the scaling figure, and of forecasts."""
    texts = {
        "line": _(
            "Of a line with one draw it is for one new run: it measures the deviation of the points from a "
            "straight line over sizes, not run-to-run noise."
        ),
        "draws": _("Of a line with several draws it is for the law of one new draw."),
        "documents": _("Over test documents only it is for the law of the same draw on other ones."),
        "draws x documents": _(
            "Over draws and test documents it is for the law of a new draw on other ones."
        ),
    }
    return _joined(texts, kinds)


def _joined(texts: dict[str, str], kinds: Collection[str | None]) -> str:
    return " ".join(text for kind, text in texts.items() if kind in kinds)
