"""The reports kept in docs/results are what their records give, in every language, word for word."""

from __future__ import annotations

import math
import re
import shutil
from pathlib import Path
from statistics import fmean

import pytest

from cvfp.records.sweep import SweepFiles, read_plan, read_records
from cvfp.report.compare import comparison_page, read_versions
from cvfp.report.language import LANGUAGES
from cvfp.report.published import published_report
from cvfp.report.write import write_report

RESULTS = Path(__file__).parents[1] / "docs" / "results"
SWEEPS = sorted(path.parent.name for path in RESULTS.glob("*/plan.json"))
QUICK = ("cells",)
"""Those that `make test` writes again; `make test-long` writes the others."""
NAMES = {"en": "report.md", "ja": "report.ja.md"}


def test_every_language_has_a_kept_report():
    assert set(NAMES) == set(LANGUAGES)
    assert {"v1", "v2", "v3"} <= set(SWEEPS)


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.long] * (name not in QUICK)) for name in SWEEPS]
)
def test_the_report_of_a_recorded_sweep_reads_as_it_was_checked(tmp_path, monkeypatch, name):
    """After a change that is meant, `make results` writes the kept reports again: read them, then commit.

    Reports name their directory as it is seen from where they are written.
    """
    monkeypatch.chdir(tmp_path)
    sweep = shutil.copytree(RESULTS / name, Path("docs", "results", name))
    write_report(sweep)  # the other languages are there, so they are written again too
    for kept in NAMES.values():
        assert (sweep / kept).read_text(encoding="utf-8") == (RESULTS / name / kept).read_text(
            encoding="utf-8"
        )


def test_the_kept_comparison_and_the_published_tables_read_as_they_were_checked():
    versions = read_versions([str(RESULTS / name) for name in ("v1", "v2", "v3")])
    compared, _pictures = comparison_page(versions, lambda picture: f"figures/{picture.file}")
    assert compared == (RESULTS / "versions" / "compare.md").read_text(encoding="utf-8")
    assert published_report() + "\n" == (RESULTS / "published.md").read_text(encoding="utf-8")


READMES = [("README.md", "en"), ("README.ja.md", "ja")]
LINKED = re.compile(r"\]\(docs/results/([\w-]+)/report(?:\.ja)?\.md\)")


def table_rows(readme: str) -> list[list[str]]:
    """The cells of every row of every table."""
    text = (RESULTS.parents[1] / readme).read_text(encoding="utf-8")
    rows = [line.strip("|").split("|") for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in row] for row in rows]


@pytest.mark.parametrize(("readme", "language"), READMES)
def test_what_the_readme_says_was_found_stands_in_the_kept_reports(readme, language):
    """Every signed number of a row stands in the report that the row links to."""
    checked = 0
    for row in table_rows(readme):
        for name in LINKED.findall(row[-1]):
            report = (RESULTS / name / NAMES[language]).read_text(encoding="utf-8")
            for number in re.findall(r"(?<![\w.-])[+-]\d+\.\d+", " ".join(row[:-1])):
                assert f"{number}%" in report, (name, number)
                checked += 1
    assert checked > 20


@pytest.mark.parametrize(("readme", "language"), READMES)
def test_the_table_of_who_wins_is_of_the_kept_runs(readme, language):
    kept = RESULTS / "baselines"
    points = [record.point for record in read_records(SweepFiles(kept), read_plan(kept)).values()]
    report = (kept / NAMES[language]).read_text(encoding="utf-8")
    rows = [row for row in table_rows(readme) if len(row) == 5]
    shown = [re.sub(r"\*", "", row[1]) for row in rows]
    for arm in ("mixture", "cvfp-joint", "lstm", "cvfp", "transformer", "kneser-ney"):
        losses = [math.log(p.val_ppl) for p in points if p.arm == arm and p.num_samples == 1600]
        assert len(losses) == 3
        assert f"{math.exp(fmean(losses)):.1f}" in shown, arm
    changes = [row[2] for row in rows if row[2].endswith(("▲", "▼", "≈"))]
    assert len(changes) == 5 and all(f"| {change} |" in report for change in changes)


@pytest.mark.parametrize("name", ["baselines", "v3", "gradient-window"])
def test_a_mark_says_what_its_interval_says(name):
    text = (RESULTS / name / NAMES["en"]).read_text(encoding="utf-8")
    table = text.split("\n## Scaling\n", 1)[1].split("\n\nFirst row", 1)[0]
    found = re.findall(r"([+-][\d.]+)% \(([+-][\d.]+)% to ([+-][\d.]+)%\) (.)", table)
    assert len(found) > 5
    for value, low, high, mark in found:
        assert float(low) <= float(value) <= float(high)
        assert mark == ("▲" if float(low) > 0 else "▼" if float(high) < 0 else "≈")


def test_a_table_size_by_size_of_one_draw_has_no_mark():
    text = (RESULTS / "next" / NAMES["en"]).read_text(encoding="utf-8")
    table = text.split("\n## Scaling\n", 1)[1].split("\n\nFirst row", 1)[0]
    assert table.count("%") > 20 and not any(mark in table for mark in "▲▼≈")
