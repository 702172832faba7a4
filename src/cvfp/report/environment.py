"""The environment that renders the templates of reports."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined

from cvfp.report import markdown, numbers
from cvfp.report.language import _

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
