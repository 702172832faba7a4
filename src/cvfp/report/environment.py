"""The environment that renders the templates of reports."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from cvfp.report import markdown, numbers

FILTERS = {
    "plain": markdown.plain,
    "bullets": markdown.bullets,
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
    )
    made.filters |= FILTERS
    return made
