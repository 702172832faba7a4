"""The report as one HTML page that needs no other file and no network, and what renders its templates."""

from __future__ import annotations

import base64
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined
from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup, escape

from cvfp.report import markdown, numbers
from cvfp.report.language import _

# --- The environment that renders the templates of reports.


FILTERS = {
    "plain": markdown.plain,
    "bullets": markdown.bullets,
    "count": numbers.count,
    "ppl": numbers.ppl,
    "signed_percent": numbers.signed_percent,
}


def environment(escape: bool) -> Environment:
    """The templates beside this file; `escape` for HTML. A name that a template does not get is an error."""
    made = Environment(
        loader=PackageLoader("cvfp.report"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.i18n"],
    )
    made.policies["ext.i18n.trimmed"] = True
    made.install_gettext_callables(_, _one_form, newstyle=True)
    made.filters |= FILTERS
    return made


def _one_form(singular: str, plural: str, number: int) -> str:
    """Plural forms are not used: texts are worded so that they need none."""
    raise NotImplementedError(f"the plural of {singular!r}")


# --- The page.


LONG_CELL = 32
"""Characters."""


@dataclass(frozen=True)
class Heading:
    """An entry of the table of contents; `place` is the id of its heading."""

    place: str
    title: str


def render_page(
    markdown: str,
    title: str,
    images: Mapping[str, bytes],
    charts: Mapping[str, go.Figure],
    language: str,
) -> str:
    """`markdown` as a page, in the language of the block that this runs in; HTML in it is shown, not obeyed.

    Args:
        markdown: the report.
        title: of the window.
        images: the PNG of each image by its link in the Markdown; they become part of the page. An image that
            is not among them leaves its text.
        charts: where the link of an image has a chart the page shows that, and the PNG in print, on demand,
            and in browsers that run no scripts.
        language: what the page declares to be written in.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("table_open", lambda *_: '<div class="wide"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = parser.parse(markdown)
    contents = _name_headings(tokens)
    _mark_long_cells(tokens)
    drawn = _set_images(tokens, images, charts)
    script = _template("page.js")
    plotly = plotly_script() if drawn else ""
    return (
        environment(escape=True)
        .get_template("page.html.j2")
        .render(
            title=title,
            language=language,
            policy=_policy([text for text in (plotly, script) if text]),
            style=Markup(_template("page.css")),
            contents=contents,
            body=Markup(parser.renderer.render(tokens, parser.options, {})),
            plotly=Markup(plotly),
            settings=_inert(json.dumps(_plotly_settings(language), ensure_ascii=False)),
            script=Markup(script),
        )
    )


@functools.cache
def plotly_script() -> str:
    """plotly.js as it stands in a page."""
    from plotly.offline import get_plotlyjs

    return get_plotlyjs()


@functools.cache
def _template(name: str) -> str:
    return resources.files("cvfp.report.templates").joinpath(name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """A content security policy: nothing is fetched, and no script runs but these, known by their hashes.

    plotly needs styles of its own, and blob: images to save a chart as a PNG.
    """
    digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() for text in scripts]
    rules = {
        "default-src": "'none'",
        "img-src": "data: blob:",
        "style-src": "'unsafe-inline'",
        "script-src": " ".join(f"'sha256-{digest}'" for digest in digests),
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in rules.items())


def _name_headings(tokens: Sequence[Token]) -> list[Heading]:
    """Give every heading of the second level an id; the headings."""
    found: dict[str, Heading] = {}
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "heading_open" and opening.tag == "h2":
            title = _text(inline)
            slug = re.sub(r"\W+", "-", title.lower()).strip("-") or "section"
            places = (slug, *(f"{slug}-{number}" for number in range(2, len(found) + 3)))
            place = next(place for place in places if place not in found)
            opening.attrs["id"] = place
            found[place] = Heading(place, title)
    return list(found.values())


def _mark_long_cells(tokens: Sequence[Token]) -> None:
    """Cells of a table that may break into several rows."""
    for opening, inline in itertools.pairwise(tokens):
        if opening.type == "td_open" and len(_text(inline)) > LONG_CELL:
            opening.attrJoin("class", "long")


def _text(token: Token) -> str:
    """What a reader sees of an inline token."""
    if token.children:
        return "".join(_text(child) for child in token.children)
    return " " if token.type == "softbreak" else token.content


def _set_images(
    tokens: Sequence[Token], images: Mapping[str, bytes], charts: Mapping[str, go.Figure]
) -> bool:
    """Put the images into the tokens, with their charts where they stand alone. Whether there is a chart."""
    drawn = False
    for index, token in enumerate(tokens):
        for picture in token.children or []:
            if picture.type == "image":
                link, text = picture.attrs["src"], _text(picture)
                alone = len(token.children) == 1 and tokens[index - 1].type == "paragraph_open"
                picture.type, picture.children = "html_inline", None
                if link not in images:
                    picture.content = str(escape(text))
                elif alone:
                    picture.content = str(_figure(_image(images[link], text), text, charts.get(link)))
                    tokens[index - 1].hidden = tokens[index + 1].hidden = True
                    drawn = drawn or link in charts
                else:
                    picture.content = str(_image(images[link], text))
    return drawn


def _image(png: bytes, text: str) -> Markup:
    data = base64.b64encode(png).decode("ascii")
    return Markup('<img src="data:image/png;base64,{}" alt="{}">').format(data, text)


def _figure(image: Markup, text: str, chart: go.Figure | None) -> Markup:
    if chart is None:
        return Markup('<figure><div class="print">{}</div></figure>').format(image)
    return Markup(
        '<figure class="chart">\n'
        '<div class="plot" role="img" aria-label="{text}"></div>\n'
        '<div class="print">{image}</div>\n'
        "<figcaption><span>{hint}</span> "
        '<button type="button" data-other="{back}">{there}</button></figcaption>\n'
        '<script type="application/json">{chart}</script>\n'
        "</figure>"
    ).format(
        text=text,
        image=image,
        hint=_("Point at a mark for its record; click a name to hide its line; drag to enlarge."),
        there=_("Show the printed figure"),
        back=_("Show the interactive figure"),
        chart=_inert(chart.to_json(engine="json")),
    )


def _plotly_settings(language: str) -> dict[str, Any]:
    """How plotly behaves, and its words in the language of the block."""
    words = {
        "Download plot as a PNG": _("Save as PNG"),
        "Zoom": _("Enlarge"),
        "Pan": _("Move"),
        "Reset axes": _("Show all"),
        "Double-click to zoom back out": _("Double-click to show all"),
        "Double-click on legend to isolate one trace": _("Double-click a name to see that line alone"),
        "Taking snapshot - this may take a few seconds": _("Saving"),
        "Snapshot succeeded": _("Saved"),
    }
    return {
        "displaylogo": False,
        "typesetMath": False,
        "responsive": True,
        "modeBarButtons": [["toImage", "zoom2d", "pan2d", "resetScale2d"]],
        "toImageButtonOptions": {"scale": 2},
        "locale": language,
        "locales": {language: {"dictionary": words, "format": {}}},
    }


def _inert(text: str) -> Markup:
    """JSON that ends no script element."""
    return Markup(text.replace("<", "\\u003c"))
