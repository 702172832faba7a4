"""The page in a browser, opened as a file: nothing is fetched, nothing complains, everything can be used."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from marks import one_quick
from report_helpers import DEFAULT_LINES, LineSpec, write_sweep
from test_report_text import HOSTILE

from cvfp.records.plan import Analysis
from cvfp.records.sweep import SweepFiles, load_sweep
from cvfp.report.lines import report_lines
from cvfp.report.markdown import plain, text_table
from cvfp.report.page import render_page
from cvfp.report.write import write_report

api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason="no Chromium is installed")

SWITCHES = "no-sandbox disable-gpu disable-quic disable-background-networking disable-component-update"
ARGUMENTS = [f"--{name}" for name in f"{SWITCHES} disable-sync no-first-run".split()]
SCALING = "figure.chart >> nth=0"
LAWS = ".wide:has(th:has-text('does it hold?'))"
"""The table of the laws."""


@pytest.fixture(scope="module")
def browser() -> Iterator["api.Browser"]:
    with api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=BROWSER, args=ARGUMENTS)
        yield browser
        browser.close()


class Visit:
    """Opens pages, and remembers what they ask for and complain about."""

    def __init__(self, browser: "api.Browser") -> None:
        self.browser = browser
        self.opened: list[str] = []
        self.requests: list[str] = []
        self.complaints: list[str] = []
        self.contexts: list[api.BrowserContext] = []

    def __call__(self, file: Path, width: int = 1200, **settings) -> "api.Page":
        """A page of its own, open once its charts are drawn."""
        context = self.browser.new_context(viewport={"width": width, "height": 900}, **settings)
        self.contexts.append(context)
        context.set_default_timeout(60_000)
        page = context.new_page()
        page.on("request", lambda request: self.requests.append(request.url))
        page.on("console", lambda message: self.complaints.append(f"{message.type}: {message.text}"))
        page.on("pageerror", lambda error: self.complaints.append(str(error)))
        page.on("dialog", lambda dialog: self.complaints.append(f"dialog: {dialog.message}"))
        self.opened.append(file.as_uri())
        page.goto(file.as_uri())
        if settings.get("java_script_enabled", True):
            for fold in page.locator("main details:has(figure.chart)").all():
                fold.evaluate("fold => { fold.open = true; }")
            for chart in page.locator("figure.chart").all():
                chart.locator(".main-svg").first.wait_for()
        return page


@pytest.fixture(scope="module")
def visits(browser) -> Visit:
    return Visit(browser)


@pytest.fixture
def visit(visits, open_report) -> Iterator[Visit]:
    """Visits to pages, none of which may ask for anything but itself, or write to the console."""
    before = len(visits.contexts)
    yield visits
    for context in visits.contexts[before:]:  # a page with charts takes much memory
        context.close()
    assert [url for url in visits.requests if not url.startswith(("data:", "blob:"))] == visits.opened
    assert visits.complaints == []


@pytest.fixture(scope="module")
def open_report(visits, report) -> "api.Page":
    return visits(report)


@pytest.fixture
def page(visit, open_report) -> Iterator["api.Page"]:
    """The report, open on a wide screen, as the test before has left its tables."""
    yield open_report
    open_report.emulate_media(media="screen")
    open_report.set_viewport_size({"width": 1200, "height": 900})
    open_report.mouse.move(5, 5)


def written(directory: Path, **settings) -> Path:
    """The page of a made-up sweep."""
    write_report(write_sweep(directory, analysis=Analysis(window_size=3), **settings))
    return SweepFiles(directory).page


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> Path:
    def change(run):
        capped = run.point.arm == "kneser-ney" and run.point.num_samples == 50
        point = run.point.model_copy(update={"stop_reason": "cap"} if capped else {})
        return run.model_copy(update={"point": point})

    return written(tmp_path_factory.mktemp("report"), change=change)


def column(page: "api.Page", frame: str, number: int) -> list[str]:
    return page.locator(f"{frame} tbody tr td:nth-child({number})").all_inner_texts()


def test_the_report_opens_without_a_complaint_and_draws_its_charts(page):
    assert page.locator("figure.chart.drawn .main-svg").count() >= 3
    assert page.locator("figure.chart img:visible").count() == 0
    assert (
        page.locator("figure:not(.chart) img:visible").count() == page.locator("figure:not(.chart)").count()
    )
    assert (
        page.title() == "demo: test perplexity against training data"
        and page.locator("html").get_attribute("lang") == "en"
    )


def test_pointing_at_a_mark_shows_its_record(page, report):
    line = report_lines(load_sweep(report.parent))[0]
    last = max(line.scored, key=lambda point: point.num_samples)
    # The first line's points lie on top: they are drawn last.
    mark = page.locator(f"{SCALING} >> .scatterlayer .trace:last-child .point >> nth=-1")
    mark.hover(force=True)
    label = page.locator(f"{SCALING} >> .hovertext")
    label.wait_for()
    text = label.text_content()
    for fact in (
        "cvfp",
        "documents: 400",
        f"test PPL: {last.val_ppl:.1f}",
        "tokens: 480,000",
        "P1 iterations: 23",
    ):
        assert fact in text
    page.mouse.move(5, 5)
    label.wait_for(state="detached")


@pytest.mark.long
def test_pointing_at_a_forecast_beyond_the_data_shows_it(visit, tmp_path):
    page = visit(written(tmp_path, lines=DEFAULT_LINES[:1], sizes=(50, 100, 200, 400, 800)))
    forecast = report_lines(load_sweep(tmp_path))[0].forecasts[-1]
    page.locator(SCALING).scroll_into_view_if_needed()
    x, y = page.locator(f"{SCALING} >> .plot").evaluate(
        """(plot, [tokens, ppl]) => {
            const { xaxis, yaxis } = plot._fullLayout, { left, top } = plot.getBoundingClientRect();
            return [left + xaxis._offset + xaxis.d2p(tokens), top + yaxis._offset + yaxis.d2p(ppl)];
        }""",
        [forecast.tokens, forecast.ppl],
    )
    page.mouse.move(x, y)
    label = page.locator(f"{SCALING} >> .hovertext")
    label.wait_for()
    told = f"tokens: 9,600,000predicted PPL: {forecast.ppl:.1f}95% interval of the law: "
    assert told in label.text_content()


def test_a_point_outside_the_fit_is_hollow(page):
    fills = page.locator(f"{SCALING} >> .scatterlayer .point").evaluate_all(
        "marks => marks.map((mark) => getComputedStyle(mark).fill)"
    )
    assert (len(fills), fills.count("none")) == (16, 1)


def test_clicking_a_head_sorts_and_clicking_it_again_turns_round(page):
    names, ppl = column(page, LAWS, 1), column(page, LAWS, 12)
    rows = dict(zip(ppl, names, strict=True))
    head = page.locator(f"{LAWS} th:nth-child(12)")
    assert head.get_attribute("aria-sort") is None
    head.get_by_role("button", name="best test PPL").click()
    assert column(page, LAWS, 12) == sorted(ppl, key=float) != ppl
    assert head.get_attribute("aria-sort") == "ascending"
    assert column(page, LAWS, 1) == [rows[value] for value in sorted(ppl, key=float)]
    head.get_by_role("button").press("Enter")
    assert column(page, LAWS, 12) == sorted(ppl, key=float, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    other = page.locator(f"{LAWS} th:nth-child(1)")
    other.get_by_role("button").press("Space")
    assert column(page, LAWS, 1) == sorted(names)
    assert (head.get_attribute("aria-sort"), other.get_attribute("aria-sort")) == (None, "ascending")


COLUMNS = {
    "thousands": ["1,234", "–", "56", "789", "1,000,000"],
    "bounds": ["≥ 40", "23", "–", "≥ 5", "11"],
    "percent": ["22.6%", "-0.3%", "+5.0%", "–", "100.0%"],
    "intervals": ["-0.34 to -0.31", "–", "+0.0020 to +0.1", "-0.5 to 1", "−0.4 to 0"],
    "marked": ["**131.8**", "9.5‡", "133.0†", "–", "12"],
    "mostly": ["31", "not reached", "4", "–", "100"],
    "names": ["1L_1537d", "5gram", "–", "1L_768d", "v2"],
}
SORTED = {
    "thousands": ["56", "789", "1,234", "1,000,000", "–"],
    "bounds": ["≥ 5", "11", "23", "≥ 40", "–"],
    "percent": ["-0.3%", "+5.0%", "22.6%", "100.0%", "–"],
    "intervals": ["-0.5 to 1", "−0.4 to 0", "-0.34 to -0.31", "+0.0020 to +0.1", "–"],
    "marked": ["9.5‡", "12", "131.8", "133.0†", "–"],
    "mostly": ["4", "31", "100", "not reached", "–"],
    "names": ["1L_768d", "1L_1537d", "5gram", "v2", "–"],
}


def test_numbers_sort_as_numbers_and_what_is_not_known_comes_last(visit, tmp_path):
    rows = list(zip(*(list(cells) for cells in COLUMNS.values()), strict=True))
    file = tmp_path / "table.html"
    file.write_text(render_page(text_table(list(COLUMNS), rows), "t", {}, {}, "en"), encoding="utf-8")
    page = visit(file)
    for number, (name, expected) in enumerate(SORTED.items(), 1):
        button = page.get_by_role("button", name=name)
        button.click()
        assert column(page, ".wide", number) == expected, name
        button.click()
        assert column(page, ".wide", number) == [*expected[-2::-1], "–"], name


def test_in_print_there_are_pictures_instead_of_charts_and_no_arrows(page):
    page.emulate_media(media="print")
    for figure in page.locator("figure.chart").all():
        assert figure.locator("img").is_visible() and not figure.locator(".plot").is_visible()
        assert figure.locator("img").evaluate("image => image.naturalWidth") > 500
    assert not page.locator("nav").is_visible()
    assert not page.locator("figcaption:visible").count()
    arrow = "head => getComputedStyle(head, '::after').content + getComputedStyle(head, '::before').content"
    assert set(page.locator("th button").evaluate_all(f"heads => heads.map({arrow})")) == {"nonenone"}
    page.set_viewport_size({"width": 1032, "height": 700})  # A4 landscape between its margins
    assert max(page.locator("table").evaluate_all("tables => tables.map((t) => t.offsetWidth)")) <= 1032


def test_without_scripts_there_are_pictures_and_plain_tables(visit, report):
    page = visit(report, java_script_enabled=False)
    folded = page.locator("main details:not([open]) figure").count()
    assert page.locator("img:visible").count() == page.locator("figure").count() - folded
    assert folded == 1 and page.locator("figure").count() >= 5
    page.get_by_text("Sliding windows", exact=True).click()
    assert page.locator("img:visible").count() == page.locator("figure").count()
    assert page.locator("th button").count() == 0 and page.locator("th").count() > 20


@pytest.mark.parametrize("width", one_quick(400, 1600))
def test_nothing_sticks_out_of_the_window(visit, report, width):
    page = visit(report, width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    contents = page.locator("nav details")
    assert contents.evaluate("details => details.open") == (width == 1600)
    page.evaluate("document.querySelector('nav details').open = true")
    page.get_by_role("link", name="Can it predict?").click()
    assert 0 <= page.locator("#can-it-predict").bounding_box()["y"] < 300


def test_a_wide_table_is_marked_where_it_goes_on(page):
    page.set_viewport_size({"width": 600, "height": 900})
    frame = page.locator(LAWS)
    api.expect(frame).to_have_class("wide more-right")
    frame.evaluate("frame => frame.scrollTo(9999, 0)")
    api.expect(frame).to_have_class("wide more-left")


def test_the_printed_figure_is_a_click_away_and_back(page):
    figure = page.locator(SCALING)
    figure.get_by_role("button", name="Show the printed figure").click()
    assert figure.locator("img").is_visible() and not figure.locator(".plot").is_visible()
    figure.get_by_role("button", name="Show the interactive figure").click()
    assert figure.locator(".plot").is_visible() and not figure.locator("img").is_visible()


@pytest.mark.long
def test_charts_follow_the_colour_scheme_and_the_width(visit, report):
    page = visit(report, color_scheme="dark")
    paper = page.locator(f"{SCALING} >> .main-svg >> nth=0")
    assert "rgb(23, 24, 27)" in paper.get_attribute("style")
    page.emulate_media(color_scheme="light")
    api.expect(paper).to_have_css("background-color", "rgb(255, 255, 255)")
    beside = page.locator(f"{SCALING} >> .legend").bounding_box()
    page.set_viewport_size({"width": 420, "height": 900})
    page.wait_for_function(
        "height => document.querySelector('.plot .legend').getBoundingClientRect().height < height",
        arg=beside["height"],
    )
    page.wait_for_function("() => document.documentElement.scrollWidth === 420")


def test_a_chart_can_be_saved_under_the_policy(page):
    page.locator(SCALING).hover()
    with page.expect_download() as download:
        page.locator(f"{SCALING} >> [data-title='Save as PNG']").click()
    assert Path(download.value.path()).read_bytes().startswith(b"\x89PNG")


@pytest.mark.long
def test_hostile_names_are_shown_and_do_nothing(visit, tmp_path):
    link = "<a href='http://example.org'>a</a> <b>b</b> &lt; $x_{$"
    specs = (LineSpec("cvfp", link), LineSpec("cvfp", HOSTILE, {"model.context_dim": 10}), DEFAULT_LINES[1])
    page = visit(written(tmp_path, lines=specs, corpus=HOSTILE))
    assert page.locator("svg a, main a, td b, td script, h3 b").count() == 0
    page.locator(f"{SCALING} >> .scatterlayer .trace:last-child .point >> nth=-1").hover(force=True)
    label = page.locator(f"{SCALING} >> .hovertext")
    label.wait_for()
    assert "<a href='http://example.org'>a</a>" in label.text_content()
    assert "<b>b</b> &lt; $x_{$" in label.text_content()
    assert page.locator(f"h3:has-text({HOSTILE.split()[2]!r})").count() == 1
    assert plain(link) != link


# --- The first screen, and what is folded away.


def test_the_answer_stands_in_a_box_on_the_first_screen_over_two_figures_side_by_side(page):
    box = page.locator("blockquote").first
    assert box.locator("p").count() == 3
    answer, sure, following = box.locator("p").all_inner_texts()
    assert "has the lowest test PPL at 400 training documents" in answer
    assert sure.startswith("How sure: ") and following.startswith("Next: cvfp run ")
    place = box.bounding_box()
    assert place["y"] + place["height"] < 900  # without scrolling
    shades = box.evaluate(
        "box => [box, document.querySelector('main')].map(e => getComputedStyle(e).backgroundColor)"
    )
    assert shades[0] != shades[1]
    first, second = (figure.bounding_box() for figure in page.locator(".pair >> nth=0 >> figure").all())
    assert first["y"] == second["y"] and first["x"] + first["width"] <= second["x"]
    assert second["x"] + second["width"] <= 1200
    for image in page.locator(".pair img").all():
        assert image.evaluate("image => image.naturalWidth") > 500


def test_on_a_phone_figures_stand_under_each_other_and_only_tables_scroll_sideways(visit, report):
    page = visit(report, 390, color_scheme="light")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    first, second = (figure.bounding_box() for figure in page.locator(".pair >> nth=0 >> figure").all())
    assert first["x"] == second["x"] and first["y"] + first["height"] <= second["y"]
    assert first["width"] <= 390
    for fold in page.locator("main details").all():
        fold.evaluate("fold => { fold.open = true; }")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    box = page.locator("blockquote").first.bounding_box()
    assert box["x"] >= 0 and box["x"] + box["width"] <= 390
    wide = page.locator(LAWS)
    assert wide.evaluate("frame => frame.scrollWidth > frame.clientWidth")


def test_in_the_dark_the_answer_is_light_on_dark(visit, report):
    def luminance(color: str) -> float:
        channels = [int(part) / 255 for part in color.removeprefix("rgb(").rstrip(")").split(",")]
        linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        return sum(share * c for share, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))

    for scheme, dark in (("dark", True), ("light", False)):
        page = visit(report, color_scheme=scheme)
        styles = "box => [getComputedStyle(box).color, getComputedStyle(box).backgroundColor]"
        ink, paper = map(luminance, page.locator("blockquote").first.evaluate(styles))
        assert (ink > paper) == dark
        assert (max(ink, paper) + 0.05) / (min(ink, paper) + 0.05) > 7  # WCAG's bound for text, the stricter


@pytest.mark.long
def test_folds_open_by_a_click_and_their_charts_are_drawn_then(visits, report):
    context = visits.browser.new_context(viewport={"width": 1200, "height": 900})
    page = context.new_page()
    page.goto(report.as_uri())
    folds = page.locator("main details")
    assert folds.count() >= 8 and page.locator("main details[open]").count() == 0
    windows = page.locator("main details:has(> summary:has-text('Sliding windows'))")
    assert windows.locator(".main-svg").count() == 0
    windows.locator("summary").click()
    windows.locator("figure.chart.drawn .main-svg").first.wait_for()
    assert windows.locator(".plot").bounding_box()["width"] > 300
    windows.locator("summary").click()
    assert not windows.locator(".plot").is_visible()
    context.close()
