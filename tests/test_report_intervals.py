"""What intervals are said to be: every kind has its words, and one draw never tells arms apart."""

from typing import get_args

import pytest
from report_helpers import DEFAULT_LINES, LineSpec, write_sweep

from cvfp.records.results import OF_ONE_DRAW, IntervalKind
from cvfp.records.sweep import load_sweep
from cvfp.report import numbers
from cvfp.report import verdicts as verdicts_module
from cvfp.report.changes import LineChange
from cvfp.report.conclusions import conclusions
from cvfp.report.figures.scaling import INTERVALS
from cvfp.report.lines import report_lines
from cvfp.report.recommendations import recommendation_table
from cvfp.report.sections.answer import answer_texts, ranking_table
from cvfp.report.standings import headline
from cvfp.report.verdicts import alpha_text, change_cell, interval_text, marks_text, ppl_text
from cvfp.report.view import View
from cvfp.scaling.points import Change

KINDS = get_args(IntervalKind)


def lines_of(directory, **settings):
    return report_lines(load_sweep(write_sweep(directory, lines=DEFAULT_LINES[:3], **settings)))


@pytest.mark.parametrize("words", [numbers.INTERVAL_KINDS, numbers.OVER, INTERVALS])
def test_words_by_kind_know_every_kind(words):
    assert set(words) == set(KINDS)
    assert len(set(words.values())) == len(KINDS)


@pytest.mark.parametrize("kind", KINDS)
def test_notes_names_and_changes_know_every_kind(kind):
    assert verdicts_module.alpha_note([kind], "all")
    one_draw = kind in OF_ONE_DRAW
    assert ("1 seed" in numbers.interval_name(kind)) == one_draw
    change = Change(-5.0, (-6.0, -4.0), 1 if one_draw else 3, kind)
    for text in (ppl_text(change), alpha_text(change)):
        assert ("no verdict" in text) == one_draw
        assert (f"1 seed: 95% interval over {numbers.OVER[kind]}" in text) == one_draw
    assert interval_text(change) == ("-5.0% (1 seed)" if one_draw else "-5.0% (95% interval -6.0% to -4.0%)")
    assert change_cell(change) == "-5.0% (-6.0% to -4.0%)" + ("" if one_draw else " ▼")


def test_several_draws_with_test_losses_have_intervals_over_both(tmp_path):
    lines = lines_of(tmp_path, seeds=(1, 2, 3), documents=40)
    change = LineChange(lines[0], lines[1])
    assert (change.ppl.kind, change.alpha.kind) == ("draws x documents", "draws x documents")
    assert change.ppl.pairs == 3
    plain = LineChange(*lines_of(tmp_path / "plain", seeds=(1, 2, 3))[:2])
    assert (plain.ppl.kind, plain.alpha.kind) == ("draws", "draws")
    assert change.ppl.value == pytest.approx(plain.ppl.value)
    assert change.alpha.value == pytest.approx(plain.alpha.value)
    low, high = plain.ppl.interval
    assert change.ppl.interval[0] <= low + 1e-9 and high - 1e-9 <= change.ppl.interval[1]
    low, high = (f"{bound:+.1f}%" for bound in change.ppl.interval)
    sweep = load_sweep(tmp_path)
    assert f"{change.ppl.value:+.1f}% ({low} to {high})" in ranking_table(View(sweep, lines, "demo"))


def test_initialisations_do_not_count_as_draws(tmp_path):
    lines = lines_of(tmp_path, seeds=(1, 2), inits=3, documents=40)
    change = LineChange(lines[0], lines[1])
    assert (change.ppl.pairs, change.alpha.pairs, len(change.top)) == (2, 2, 2)
    assert headline(lines).draws == (1, 2)
    assert len(headline(lines).standings[0].points) == 6
    one = LineChange(*lines_of(tmp_path / "one", seeds=(1,), inits=3, documents=40)[:2])
    assert one.ppl.kind == "documents" and one.ppl.one_draw


def test_one_seed_shows_the_interval_over_test_documents_and_gives_no_verdict(tmp_path):
    directory = write_sweep(tmp_path, lines=DEFAULT_LINES[:3], seeds=(1,), documents=40)
    sweep = load_sweep(directory)
    lines = report_lines(sweep)
    change = LineChange(lines[0], lines[1])
    assert change.ppl.kind == "documents" and not change.ppl.interval[0] <= 0 <= change.ppl.interval[1]
    assert change.ppl.distinguishable is None
    view = View(sweep, lines, "demo")
    texts = [*answer_texts(view), *conclusions(sweep, lines)]
    shown = [text for text in texts if "95% interval over test documents only" in text]
    assert len(shown) >= 2
    assert not any(mark in ranking_table(view) for mark in "▼▽▲△≈") and "%" in ranking_table(view)
    assert "no mark: one seed, and its interval says nothing of another" in marks_text()
    verdicts = ("lower)", "higher)", "steeper)", "flatter)", ": lower", ": higher", "loses to")
    assert [text for text in texts if any(verdict in text for verdict in verdicts)] == []
    assert "There is one seed for each comparison: no verdict on the order." in texts[3]
    table = recommendation_table(lines)
    assert "| lowest perplexity | kneser-ney |" in table
    assert "any: one seed, no verdict" in table.split("lowest perplexity")[1].splitlines()[0]


def test_lines_that_do_not_compare_are_not_said_to_have_one_draw(tmp_path):
    lines = (LineSpec("unigram", "1gram"), LineSpec("unigram", "1gram bpe", {"data.tokenizer": "bpe:400"}))
    table = recommendation_table(report_lines(load_sweep(write_sweep(tmp_path, lines=lines, seeds=(1, 2)))))
    row = table.split("lowest perplexity")[1].splitlines()[0]
    assert "any: not comparable, no verdict" in row and "one seed" not in row
