"""A report obeys no name: whatever a text holds, the page has the elements of a plain one, and shows it."""

from __future__ import annotations

import json
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from report_helpers import ENVIRONMENT, METADATA, LineSpec, write_sweep

from cvfp.records.files import read_json, write_json
from cvfp.records.results import RunRecord
from cvfp.records.sweep import SweepFiles
from cvfp.report.compare import read_versions, write_comparison
from cvfp.report.write import write_report

pytestmark = pytest.mark.usefixtures("undrawn")

HOSTILE = '</script><script>alert({!r})</script><img src=x onerror=alert(1)>" onload="x\' &lt;&amp;'
FOLDING = "</details><details><summary>{}</summary>"
PLAIN = "plain words of {}"
PLACES = (
    "arm",
    "config name",
    "name",
    "description",
    "note",
    "error",
    "corpus",
    "tokenizer",
    "prior",
    "device",
)


class Page(HTMLParser):
    """What a browser makes of a page: its elements, their attributes, the text, the JSON of its charts."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: Counter[str] = Counter()
        self.attributes: set[str] = set()
        self.text, self.scripts = "", [""]
        self.inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements[tag] += 1
        self.attributes.update(name for name, _ in attrs)
        self.inside = tag
        self.scripts += [""] * (tag == "script")

    def handle_endtag(self, tag: str) -> None:
        self.inside = ""

    def handle_data(self, data: str) -> None:
        if self.inside == "script":
            self.scripts[-1] += data
        elif self.inside != "style":
            self.text += data

    @property
    def charts(self) -> list[Any]:
        return [json.loads(script) for script in self.scripts if script.startswith('{"data"')]


def sweep_of(directory: Path, template: str) -> Path:
    """A sweep whose every text is the template's; one point of it failed."""
    said = {place: template.format(place) for place in PLACES}

    def change(run: RunRecord) -> RunRecord:
        facts = run.facts.model_copy(update={"prior": [said["prior"]]})
        if run.point.num_samples < 400:
            return run.model_copy(update={"facts": facts})
        point = run.point.model_copy(update={"status": "failed", "val_ppl": None})
        return run.model_copy(update={"point": point, "error": said["error"]})

    own = {"own.file": "x.py", "own.code": "0123", "own.settings.mode": template.format("setting")}
    lines = (
        LineSpec(said["arm"], said["config name"], own, (-0.3, 9000.0)),
        LineSpec("cvfp", said["config name"]),
        LineSpec("cvfp", "other", {"model.context_dim": 10}),
    )
    size = METADATA["data"][0] | {"corpus": said["corpus"], "tokenizer": said["tokenizer"]}
    metadata = METADATA | {"notes": [said["note"]], "data": [size]}
    metadata |= {"environments": [ENVIRONMENT | {"device": said["device"]}]}
    write_sweep(directory, lines, corpus=said["corpus"], metadata=metadata, change=change)
    plan = SweepFiles(directory).plan
    write_json(plan, read_json(plan) | {"name": said["name"], "description": said["description"]})
    return directory


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The page of a sweep, and its text in Markdown, by template."""
    found = {}
    for template in (PLAIN, HOSTILE, FOLDING):
        directory = sweep_of(tmp_path_factory.mktemp("sweep"), template)
        write_report(directory)
        found[template] = SweepFiles(directory).page.read_text(encoding="utf-8")
    return found


def test_no_text_adds_an_element_or_an_attribute(pages):
    plain, hostile = Page(pages[PLAIN]), Page(pages[HOSTILE])
    assert hostile.elements == plain.elements and hostile.elements["script"] > 2
    assert hostile.attributes - plain.attributes <= {"class"}  # of a long cell
    assert not any(name.startswith("on") for name in hostile.attributes)


def test_no_text_folds_or_unfolds_anything(pages):
    plain, folding = Page(pages[PLAIN]), Page(pages[FOLDING])
    assert folding.elements == plain.elements and plain.elements["details"] > 5
    assert folding.elements["summary"] == folding.elements["details"]


@pytest.mark.parametrize("template", [HOSTILE, FOLDING])
@pytest.mark.parametrize("place", PLACES)
def test_every_text_is_shown_as_it_is(pages, place, template):
    assert template.format(place) in Page(pages[template]).text


def test_the_settings_of_the_charts_hold_no_markup_of_a_name(pages):
    hostile, plain = Page(pages[HOSTILE]), Page(pages[PLAIN])
    assert len(hostile.charts) == len(plain.charts) > 0
    told = json.dumps(hostile.charts)
    assert "alert(" in told and "<script" not in told and "<img" not in told


def test_a_comparison_escapes_the_names_of_its_sweeps(tmp_path):
    sweeps = [sweep_of(tmp_path / name, HOSTILE) for name in ("a", "b<script>alert(1)<&'")]
    write_comparison(read_versions([str(path) for path in sweeps]), tmp_path / "out")
    page = Page(next((tmp_path / "out").glob("*.html")).read_text(encoding="utf-8"))
    assert not any("alert" in script for script in page.scripts if not script.startswith("{"))
    assert page.elements["img"] <= 2 and not any(name.startswith("on") for name in page.attributes)
