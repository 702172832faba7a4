"""The page: one file, nothing fetched, nothing obeyed."""

import re

from markdown_it import MarkdownIt
from report_helpers import write_sweep

from cvfp.report.markdown import plain, table
from cvfp.report.page import render_page
from cvfp.report.write import write_report


def test_the_page_needs_no_other_file_and_no_network(tmp_path):
    write_report(write_sweep(tmp_path))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    sources = re.findall(r"""(?:src|href)=["']([^"']{0,40})""", page)
    assert sources and all(source.startswith("data:image/png;base64,") for source in sources)
    assert "url(" not in page and "@import" not in page and "<script" not in page
    assert "figures/context_dim_scaling.png</code>" in page


def test_markdown_tables_become_html_tables(tmp_path):
    write_report(write_sweep(tmp_path))
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count('<div class="wide"><table>') == page.count("</table></div>") >= 8
    assert "| :---" not in page


def test_html_in_markdown_and_title_is_shown_not_obeyed():
    page = render_page("a <b onclick=x>bold</b>\n\n<script>x</script>", "<t> & more", {})
    assert "<title>&lt;t&gt; &amp; more</title>" in page
    assert "<script" not in page and "<b " not in page


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
        cell = MarkdownIt("commonmark").enable("table").render(table(("h", "k"), [(plain(text), "1")]))
        assert f">{escaped}</td>" in cell
