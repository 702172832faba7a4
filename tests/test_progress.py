"""Claims: the bars of a sweep count its points, and show the phase that runs in each worker."""

from __future__ import annotations

from lab_helpers import tiny_plan

from cvfp.cli.progress import Bars
from cvfp.lab.messages import Failed, Note, PointFinished, PointStarted, Progress, SweepStarted
from cvfp.lab.point import failed
from cvfp.training.events import Event


def shown(bars):
    """What each bar shows: its name, how far it is, its numbers."""
    return [
        (task.description, task.completed, task.total, task.fields["numbers"]) for task in bars.bars.tasks
    ]


def test_each_worker_has_a_bar_that_begins_anew_with_a_phase(corpus):
    point, *_ = tiny_plan(corpus, arms=("unigram",)).points
    with Bars() as bars:
        bars(SweepStarted(3, 2))
        bars(PointStarted(point, worker="a"))
        bars(Progress(Event("phase 1", 4, 9, {"dev_ppl": 12.345}), worker="a"))
        bars(Progress(Event("phase 1", 1, 9, {}), worker="b"))
        bars(Progress(Event("phase 2", 2, 5, {}), worker="a"))
        label = "unigram 1gram, 4 samples, seed 42"
        assert shown(bars) == [("points", 1, 3, label), ("a: phase 2", 2, 5, ""), ("b: phase 1", 1, 9, "")]
        bars(Progress(Event("phase 2", 3, 5, {"dev_ppl": 12.345}), worker="a"))
        bars(PointFinished(point, failed(point, "diverged"), worker="a"))
        assert shown(bars)[:2] == [("points", 2, 3, label), ("a: phase 2", 3, 5, "dev ppl 12.35")]


def test_without_a_terminal_there_are_plain_lines(corpus, capsys):
    point, *_ = tiny_plan(corpus, arms=("unigram",)).points
    with Bars() as bars:
        bars(SweepStarted(3, 2))
        bars(Note("reading the documents"))
        bars(Progress(Event("phase 1", 4, 9, {"dev_ppl": 12.345})))
        bars(Failed("the data has changed", worker="worker 1"))
        bars(PointFinished(point, failed(point, "diverged")))
        assert capsys.readouterr().err.splitlines() == [
            "1 of 3 points are done already",
            "reading the documents",
            "worker 1 cannot go on: the data has changed",
            "unigram 1gram, 4 samples, seed 42: FAILED: diverged",
        ]
