"""The files of a report: in several languages that link to each other, with no figure left from before."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from figure_helpers import write_metrics
from report_helpers import DEFAULT_LINES, write_sweep

import cvfp.report.figures.style as style
from cvfp.cli.main import main
from cvfp.records.plan import Analysis
from cvfp.records.sweep import load_sweep
from cvfp.report.figures.answer import ppl_figure
from cvfp.report.language import _, speaking
from cvfp.report.lines import report_lines
from cvfp.report.write import KNOWN_FIGURES, SECTIONS, write_report

pytestmark = pytest.mark.usefixtures("undrawn")


def names(paths: list[Path]) -> list[str]:
    return [path.name for path in paths]


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8")


def test_the_first_section_is_the_answer_and_the_last_the_appendix(tmp_path):
    write_report(write_sweep(tmp_path, analysis=Analysis(window_size=3)))
    titles = re.findall(r"\n## (.*)", text_of(tmp_path / "report.md"))
    assert titles == [
        "Answer",
        "Scaling",
        "What each part is worth",
        "Training",
        "Contexts",
        "Can it predict?",
        "Settings and data",
        "Appendix",
    ]
    assert len(SECTIONS) == len(titles) + 1  # no model in several sizes


def test_every_picture_of_the_text_is_written_and_every_written_one_is_in_the_text(tmp_path):
    write_sweep(tmp_path, seeds=(1, 2), analysis=Analysis(window_size=3))
    write_metrics(load_sweep(tmp_path))
    written = write_report(tmp_path)
    linked = re.findall(r"\]\(figures/(.*?)\)", text_of(tmp_path / "report.md"))
    assert names(written) == ["report.md", "report.html", *linked]
    assert sorted(linked) == sorted(path.name for path in (tmp_path / "figures").iterdir())
    others = {"phase2_curves", "isoflops"}  # of before, and of models in several sizes
    assert {Path(name).stem for name in linked} | others == set(KNOWN_FIGURES)
    assert text_of(tmp_path / "report.html").count('<img src="data:image/png;base64,') == len(linked)


def test_reports_in_two_languages_stand_side_by_side_and_link_to_each_other(tmp_path):
    write_sweep(tmp_path)
    assert names(write_report(tmp_path))[:2] == ["report.md", "report.html"]
    assert "日本語" not in text_of(tmp_path / "report.md")
    both = write_report(tmp_path, "ja")
    pages = ["report.ja.md", "report.ja.html", "report.md", "report.html"]
    assert [name for name in names(both) if not name.endswith("png")] == pages
    assert "\n[日本語](report.ja.md)\n" in text_of(tmp_path / "report.md")
    assert "\n[English](report.md)\n" in text_of(tmp_path / "report.ja.md")
    assert '<a href="report.ja.html">日本語</a>' in text_of(tmp_path / "report.html")
    assert '<a href="report.html">English</a>' in text_of(tmp_path / "report.ja.html")
    assert '<html lang="ja">' in text_of(tmp_path / "report.ja.html")
    assert "(figures/ppl.ja.png)" in text_of(tmp_path / "report.ja.md")
    assert "`report.ja.html`" in text_of(tmp_path / "report.ja.md")
    numbers = [re.findall(r"\d+\.\d{4}", text_of(tmp_path / name)) for name in ("report.md", "report.ja.md")]
    assert numbers[0] == numbers[1] and len(numbers[0]) > 20


def test_a_report_in_another_language_is_brought_up_to_date_too(tmp_path):
    write_sweep(tmp_path)
    write_report(tmp_path, "ja")
    assert not (tmp_path / "report.md").exists()
    write_report(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.glob("report*")}
    assert len(before) == 4
    for path in before:
        path.write_text("old", encoding="utf-8")
    write_report(tmp_path)
    assert {path: path.read_bytes() for path in before} == before


def test_an_unknown_language_writes_nothing(tmp_path, capsys):
    write_sweep(tmp_path)
    with pytest.raises(SystemExit) as refused:
        main(["report", str(tmp_path), "--lang", "xx"])
    assert refused.value.code == 2
    assert "xx" in capsys.readouterr().err
    assert list(tmp_path.glob("report*")) == [] and not (tmp_path / "figures").exists()


def test_figures_with_nothing_to_show_any_more_disappear_and_those_of_others_stay(tmp_path):
    write_sweep(tmp_path, analysis=Analysis(window_size=3))
    write_report(tmp_path, "ja")
    write_report(tmp_path)
    figures = tmp_path / "figures"
    for name in ("mine.png", "phase2_curves.png", "ppl.txt"):
        (figures / name).write_bytes(b"x")
    assert {"alpha_progression.png", "alpha_progression.ja.png", "ppl.png"} <= set(names(figures.iterdir()))
    plan = json.loads(text_of(tmp_path / "plan.json"))
    plan["analysis"]["window_size"] = None
    plan["points"] = [point for point in plan["points"] if point["config"]["data"]["num_samples"] == 50]
    rows = json.loads(text_of(tmp_path / "detailed_results.json"))
    kept = [row for row in rows if row["num_samples"] == 50]
    (tmp_path / "plan.json").write_text(json.dumps(plan), encoding="utf-8")
    (tmp_path / "detailed_results.json").write_text(json.dumps(kept), encoding="utf-8")
    written = write_report(tmp_path)
    assert "ppl.png" not in names(written) and "alpha_progression.png" not in names(written)
    shown = {path.name for path in written if path.suffix == ".png"}
    assert set(names(figures.iterdir())) == shown | {"mine.png", "ppl.txt"}


@pytest.mark.parametrize("known", [True, False])
def test_figures_are_translated_where_the_fonts_have_the_signs(tmp_path, monkeypatch, known):
    lines = report_lines(load_sweep(write_sweep(tmp_path, lines=DEFAULT_LINES[:2])))
    monkeypatch.setattr(style, "_has_glyph", lambda sign: known or ord(sign) < 0x3000)
    with speaking("ja"):
        label = ppl_figure(lines).axes[0].get_xlabel()
        assert _("training tokens") == "訓練トークン数"
    assert label == ("訓練トークン数" if known else "training tokens")
    assert ppl_figure(lines).axes[0].get_xlabel() == "training tokens"


def test_the_place_of_a_sweep_is_told_as_it_is_seen_from_here(tmp_path, monkeypatch):
    write_sweep(tmp_path / "runs" / "demo")
    monkeypatch.chdir(tmp_path)
    write_report(Path("runs/demo"))
    assert "`cvfp run runs/demo --seeds 3`" in text_of(tmp_path / "runs/demo/report.md")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    write_report(tmp_path / "runs" / "demo")
    assert f"`cvfp run {tmp_path / 'runs' / 'demo'} --seeds 3`" in text_of(tmp_path / "runs/demo/report.md")
