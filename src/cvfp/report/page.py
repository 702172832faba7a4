"""The report as one HTML page that needs no other file and no network."""

from __future__ import annotations

import base64
from collections.abc import Mapping

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from cvfp.report.environment import environment


def render_page(markdown: str, title: str, images: Mapping[str, bytes]) -> str:
    """`markdown` as a page; HTML in it is shown, not obeyed.

    `images` holds the PNG of each image by its link in the Markdown; they become part of the page.
    """
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("table_open", lambda *_: '<div class="wide"><table>\n')
    parser.add_render_rule("table_close", lambda *_: "</table></div>\n")
    tokens = parser.parse(markdown)
    _embed(tokens, images)
    body = Markup(parser.renderer.render(tokens, parser.options, {}))
    return environment(escape=True).get_template("page.html.j2").render(title=title, body=body)


def _embed(tokens: list[Token], images: Mapping[str, bytes]) -> None:
    for token in tokens:
        if token.type == "image" and token.attrs["src"] in images:
            data = base64.b64encode(images[token.attrs["src"]]).decode("ascii")
            token.attrs["src"] = f"data:image/png;base64,{data}"
        _embed(token.children or [], images)
