"""Every number of a report is in the records, or computed from them here a second time, by other means."""

from __future__ import annotations

import functools
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from recomputed import Recomputed, duration
from report_helpers import DEFAULT_LINES, JOINT, MIXTURE, write_sweep
from test_report_language import texts_of_the_source

from cvfp.records.sweep import load_sweep
from cvfp.report.lines import report_lines
from cvfp.report.view import View
from cvfp.report.write import render_report

RESULTS = Path(__file__).parents[1] / "docs" / "results"
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?(?:e[+-]?\d+)?")
FORMATS = ("{:,.0f}", "{:.0f}", "{:,.1f}", "{:.1f}", "{:.2f}", "{:.3f}", "{:.4f}", "{:g}", "{:.3g}", "{:.4g}")


def numbers_of(text: str) -> list[str]:
    """The numerals of a text without those in names: of files, of links, and within words (1L_768d_1tok)."""
    text = re.sub(r"`[^`]*`|\]\([^)]*\)", " ", text)
    text = re.sub(r"(?<=[A-Za-z_])[\d.]+|[\d.,]+(?=[A-Za-z_])", " ", text)
    return [token.rstrip(",") for token in NUMBER.findall(text)]


def written(values: Iterable[float]) -> set[str]:
    """Every way in which a value may be written: any rounding, as a percentage, without its sign."""
    return {
        form.format(abs(each)) for value in values for each in (value, 100 * value) for form in FORMATS
    } | {f"{float(f'{abs(value):.4g}'):,.0f}" for value in values}


def leaves(value: Any) -> Iterator[float | str]:
    """Every number in JSON data, one that is a key too, and every numeral in its texts as it stands there."""
    if isinstance(value, dict):
        yield from (float(key) for key in value if key.isdecimal())
        yield from leaves(list(value.values()))
    elif isinstance(value, list):
        for each in value:
            yield from leaves(each)
    elif isinstance(value, str):
        yield from NUMBER.findall(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield float(value)


@functools.cache
def known_numbers(directory: Path) -> set[str]:
    """What may stand in the report of a sweep: from the records, the statistics, and the wording itself."""
    read = [json.loads((directory / name).read_text()) for name in ("plan.json", "metadata.json")]
    recomputed = Recomputed(directory)
    recorded = set(
        leaves([*read, recomputed.points, *({**run, "test_documents": 0} for run in recomputed.runs)])
    )
    texts = {value for value in recorded if isinstance(value, str)}
    values = {value for value in recorded if not isinstance(value, str)} | set(recomputed.values())
    wording = {token for text in texts_of_the_source() for token in NUMBER.findall(text)}
    return written(values | set(duration(read[1]["wall_seconds"]))) | texts | wording


@pytest.mark.parametrize("name", ["v1", pytest.param("v3", marks=pytest.mark.long)])
def test_every_number_is_in_the_records_or_computed_from_them(name):
    text = (RESULTS / name / "report.md").read_text(encoding="utf-8")
    known = known_numbers(RESULTS / name)
    found = numbers_of(text)
    assert len(found) > 500
    assert [token for token in found if token not in known] == []


def test_a_changed_number_is_noticed():
    """Otherwise the test above could hold for any text: most numbers with one digit changed are unknown."""
    known = known_numbers(RESULTS / "v1")
    text = (RESULTS / "v1" / "report.md").read_text(encoding="utf-8")
    long = [token for token in numbers_of(text) if len(re.sub(r"\D", "", token).lstrip("0")) >= 4]
    changed = [token[:-1] + str((int(token[-1]) + 5) % 10) for token in long]
    missed = [token for token in changed if token in known]
    assert len(changed) > 300
    assert len(missed) < 0.25 * len(changed)


TITLES = ("Answer", "Scaling", "What each part is worth", "Training", "Settings and data")


@pytest.mark.long
def test_numbers_of_joint_training_and_of_mixtures_are_in_the_records_too(tmp_path):
    followed = {"by_size.joint.lr.75": 0.00317, "by_size.joint.lr.1625": 0.00219}
    lines = (*DEFAULT_LINES, replace(JOINT, settings=followed), MIXTURE)
    sweep = load_sweep(write_sweep(tmp_path, lines=lines, seeds=(1, 2, 3), documents=20))
    text, _sections = render_report(View(sweep, report_lines(sweep), "demo"), None)
    sections = [text.split(f"\n## {title}\n")[1].split("\n## ")[0] for title in TITLES]
    sections.append(text.split("<summary>Weights of the mixtures</summary>")[1].split("</details>")[0])
    found, known = [token for section in sections for token in numbers_of(section)], known_numbers(tmp_path)
    assert {"0.00317", "1,625", "50.0"} <= set(found)
    assert [token for token in found if token not in known] == []
