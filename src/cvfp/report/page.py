"""The report as one HTML page that needs no other file and no network."""

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

from cvfp.report.blocks import END_OF_FOLD, FOLD
from cvfp.report.language import _

# --- The template of the page.


def _environment() -> Environment:
    """The template beside this file; a name that it does not get is an error."""
    made: Any = Environment(  # to which its extension adds methods
        loader=PackageLoader("cvfp.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        extensions=["jinja2.ext.i18n"],
    )
    made.policies["ext.i18n.trimmed"] = True
    made.install_gettext_callables(_, _one_form, newstyle=True)
    return made


def _one_form(singular: str, plural: str, number: int) -> str:
    """Plural forms are not used: texts are worded so that they need none."""
    raise NotImplementedError(f"the plural of {singular!r}")


# --- The page.


LONG_CELL = 32
"""Characters."""
OPENS_FOLD = re.compile(re.escape(FOLD).replace(re.escape("{}"), "(.*)"))


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
    tokens = _folded(parser, parser.parse(markdown))
    contents = _name_headings(tokens)
    _mark_long_cells(tokens)
    drawn = _set_images(tokens, images, charts)
    script = _template("page.js")
    plotly = plotly_script() if drawn else ""
    return (
        _environment()
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


def _folded(parser: MarkdownIt, tokens: Sequence[Token]) -> list[Token]:
    """The tokens with the lines of `blocks.FOLD` as the elements that they are; no other HTML is obeyed."""
    found: list[Token] = []
    at = 0
    while at < len(tokens):
        text = tokens[at + 1].content if tokens[at].type == "paragraph_open" else ""
        opening = OPENS_FOLD.fullmatch(text)
        if opening or text == END_OF_FOLD:
            html = END_OF_FOLD
            if opening:
                html = FOLD.format(parser.renderInline(opening[1]))
            found.append(Token("html_block", "", 0, content=f"{html}\n", block=True))
            at += 3
        else:
            found.append(tokens[at])
            at += 1
    return found


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
        children = token.children or []
        pictures = [child for child in children if child.type == "image"]
        if len(pictures) > 1 and all(child.type in ("image", "softbreak") for child in children):
            shown = "".join(
                _figure(_image(images[_link(one)], _text(one)), _text(one), None) for one in pictures
            )
            token.children = [Token("html_inline", "", 0, content=f'<div class="pair">\n{shown}\n</div>\n')]
            tokens[index - 1].hidden = tokens[index + 1].hidden = True
            continue
        for picture in pictures:
            if picture.type == "image":
                link, text = _link(picture), _text(picture)
                alone = len(children) == 1 and tokens[index - 1].type == "paragraph_open"
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


def _link(picture: Token) -> str:
    return str(picture.attrs["src"])


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
        chart=_inert(str(chart.to_json(engine="json"))),
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
