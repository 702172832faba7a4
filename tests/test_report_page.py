"""The page: one file, nothing fetched, nothing obeyed."""

import base64
import hashlib
import html
import re

import plotly.graph_objects as go
import pytest
from markdown_it import MarkdownIt
from report_helpers import write_sweep

from cvfp.report import blocks
from cvfp.report.language import speaking
from cvfp.report.markdown import plain, text_table
from cvfp.report.page import plotly_script, render_page
from cvfp.report.write import write_report

PNG = b"\x89PNG of nothing"
EMBEDDED = base64.b64encode(PNG).decode()
WITH_CHART = "## Scaling\n\n![what it shows](f.png)\n\n![another](g.png)\n"


def chart(name: str = "line") -> go.Figure:
    figure = go.Figure(go.Scatter(x=[1], y=[2], name=name), layout={"template": go.layout.Template()})
    return figure.update_layout(meta={"narrow": {}, "dark": {}})


def page_with_chart(name: str = "line") -> str:
    return render_page(WITH_CHART, "t", {"f.png": PNG, "g.png": PNG}, {"f.png": chart(name)}, "en")


def scripts(page: str) -> list[str]:
    """The scripts that a browser runs."""
    return re.findall(r"<script>(.*?)</script>", page, re.DOTALL)


def test_the_page_needs_no_other_file_and_no_network(tmp_path):
    write_report(write_sweep(tmp_path))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    markup = re.sub(r"<script.*?</script>", "", page, flags=re.DOTALL)
    sources = re.findall(r"""(?:src|href)=["']([^"']{0,40})""", markup)
    assert any(source.startswith("data:image/png;base64,") for source in sources)
    assert all(source.startswith(("data:", "#")) for source in sources)
    assert "url(" not in markup and "@import" not in markup and not re.search(r"<script[^>]*src", page)
    assert "<code>figures/</code>" in page


def test_the_policy_lets_nothing_in_and_runs_no_script_but_the_pages_own():
    page = page_with_chart()
    policy = html.unescape(re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1])
    assert policy.startswith(
        "default-src 'none'; img-src data: blob:; style-src 'unsafe-inline'; script-src 'sha"
    )
    assert "http" not in policy and "eval" not in policy
    hashes = [base64.b64encode(hashlib.sha256(s.encode()).digest()).decode() for s in scripts(page)]
    assert len(hashes) == 2
    assert re.findall(r"'sha256-([^']*)'", policy) == hashes


def test_a_page_with_a_chart_holds_plotly_the_chart_and_the_png_and_stays_small():
    page = page_with_chart()
    assert page.count(plotly_script()) == 1
    assert page.count(f'<img src="data:image/png;base64,{EMBEDDED}"') == 2
    assert page.count('<figure class="chart">') == 1
    assert len(page.encode()) < 8_000_000


def test_without_a_chart_there_is_no_plotly(tmp_path):
    for charts in ({}, {"elsewhere.png": chart()}):
        page = render_page(WITH_CHART, "t", {"f.png": PNG, "g.png": PNG}, charts, "en")
        assert "Plotly.js" not in page and 'class="settings"' not in page and "<figure class" not in page
        assert len(page.encode()) < 30_000
        assert page.count(EMBEDDED) == 2


def test_the_script_that_sorts_is_there_once():
    for page in (page_with_chart(), render_page("text", "t", {}, {}, "en")):
        assert sum("aria-sort" in script for script in scripts(page)) == 1


def test_an_image_without_a_file_leaves_its_text():
    page = render_page("![far <b>](http://example.org/i.png) ![near](gone.png)", "t", {}, {}, "en")
    assert "<img" not in page and "example.org" not in page
    assert "far &lt;b&gt;" in page and "near" in page


def test_a_chart_only_takes_the_place_of_an_image_that_stands_alone():
    page = render_page("see ![i](f.png) here", "t", {"f.png": PNG}, {"f.png": chart()}, "en")
    assert "<figure" not in page and "<p>see <img" in page and plotly_script() not in page


@pytest.mark.parametrize("language", ["en", "ja"])
def test_the_page_says_its_language(language):
    with speaking(language):
        page = render_page("text", "t", {}, {}, language)
    assert page.startswith(f'<!doctype html>\n<html lang="{language}">')


def test_contents_lead_to_every_section():
    page = render_page(
        "# t\n\n## One *x*\n\n## <i>\n\n### No\n\n## i 2\n\n## i\n\n## I\n\n## ###\n", "t", {}, {}, "en"
    )
    entries = re.findall(r'<li><a href="#([^"]*)">(.*)</a></li>', page)
    assert [title for _place, title in entries] == ["One x", "&lt;i&gt;", "i 2", "i", "I", ""]
    places = re.findall(r'<h2 id="([^"]*)">', page)
    assert [place for place, _title in entries] == places
    assert places == ["one-x", "i", "i-2", "i-3", "i-4", "section"]
    assert "<nav" not in render_page("no sections", "t", {}, {}, "en")


def test_markdown_tables_become_html_tables(tmp_path):
    write_report(write_sweep(tmp_path))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('<div class="wide"><table>') == page.count("</table></div>") >= 8
    assert "| :---" not in page


def test_html_in_markdown_title_and_chart_is_shown_not_obeyed():
    hostile = "</script><script>alert(1)</script> <b onclick=x>bold</b>"
    images, charts = {"f.png": PNG}, {"f.png": chart(hostile)}
    page = render_page(
        f"a {hostile}\n\n![{plain(hostile)}](f.png)", f"{hostile} & more", images, charts, "en"
    )
    assert f"<title>{html.escape(hostile)} &amp; more</title>" in page
    assert "<script>alert" not in page and "<b onclick" not in page
    assert page.count(html.escape(hostile)) == 4  # title, text, picture, chart
    assert "\\u003cscript>" in page or "\\u003cscript\\u003e" in page


def test_plain_text_survives_a_markdown_renderer():
    texts = [
        "a*b*c",
        "1. x",
        "- x",
        "# x",
        "_a_ b_c",
        "<b>",
        "[l](u)",
        "![i](u)",
        "`c`",
        "a\\|b",
        "&amp;",
        "0.1",
    ]
    shown = {"<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;"}
    for text in texts:
        escaped = "".join(shown.get(character, character) for character in text)
        assert MarkdownIt("commonmark").render(plain(text)) == f"<p>{escaped}</p>\n"
        cell = MarkdownIt("commonmark").enable("table").render(text_table(("h", "k"), [(plain(text), "1")]))
        assert f">{escaped}</td>" in cell


# --- Pictures side by side, and what is folded away.


PAIR = "![one *x*](f.png)\n![two](g.png)\n"


def test_pictures_in_one_paragraph_stand_side_by_side():
    page = render_page(PAIR, "t", {"f.png": PNG, "g.png": PNG}, {}, "en")
    (pair,) = re.findall(r'<div class="pair">(.*?)\n</div>', page, re.DOTALL)
    assert pair.count("<figure>") == pair.count(f'<img src="data:image/png;base64,{EMBEDDED}"') == 2
    assert 'alt="one x"' in pair and 'alt="two"' in pair
    assert "<p><div" not in page and "<p></p>" not in page
    alone = render_page("![one](f.png)\n\n![two](g.png)\n", "t", {"f.png": PNG, "g.png": PNG}, {}, "en")
    assert 'class="pair"' not in alone and alone.count("<figure>") == 2
    between = render_page("![one](f.png) and ![two](g.png)\n", "t", {"f.png": PNG, "g.png": PNG}, {}, "en")
    assert 'class="pair"' not in between


def folds(page: str) -> list[str]:
    return re.findall(r"<details><summary>(.*?)</summary>", page.split("<main>")[1])


def test_folds_are_folded_and_hold_what_stands_in_them():
    markdown = blocks.page_of(
        "t",
        [
            blocks.Section(
                "S", ("before", blocks.Fold("Title & α", ("| a |\n| --- |\n| 1 |", "inside")), "after")
            )
        ],
        None,
    )
    page = render_page(markdown, "t", {}, {}, "en")
    assert folds(page) == ["Title &amp; α"]
    inside = page.split("</summary>")[-1].split("</details>")[0]
    assert "<td>1</td>" in inside and "<p>inside</p>" in inside and "after" not in inside
    assert page.count("<details") == page.count("</details>")


FAKE = (
    "<details><summary>x</summary>",
    "<details open><summary>x</summary>",
    "</details>",
    "a <details><summary>x</summary>",
    "<details><summary>x</summary>\n<script>alert(1)</script>",
)


@pytest.mark.parametrize("text", FAKE)
def test_no_text_out_of_a_record_folds_anything(text):
    for markdown in (plain(text), f"- {plain(text)}", f"> {plain(text)}", f"| {plain(text)} |\n| --- |\n"):
        page = render_page(markdown, "t", {}, {}, "en")
        assert folds(page) == [] and "<script>alert" not in page
        assert "<details" not in page.split("<main>")[1] and "</details>" not in page.split("<main>")[1]
        assert html.escape(" ".join(text.split())) in page


def test_a_title_of_a_fold_obeys_no_html():
    page = render_page("<details><summary>a <b>x</b> & *y*</summary>\n\nz\n\n</details>\n", "t", {}, {}, "en")
    assert folds(page) == ["a &lt;b&gt;x&lt;/b&gt; &amp; <em>y</em>"]


def test_what_is_empty_is_no_block():
    empty = blocks.Fold("none", ("", blocks.Fold("nested", ())))
    assert blocks.present(["", None, empty, "text"]) == ("text",)
    assert blocks.written(blocks.Section("S", blocks.present([empty])), None) == "## S"
