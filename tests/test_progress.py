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


def started(corpus):
    """Two of three runs are still to come; what they cost is not known, so they count alike."""
    points = tiny_plan(corpus, arms=("unigram",), samples=(4, 8)).points
    return points[0], SweepStarted(3, tuple(points))


def test_each_worker_has_a_bar_that_begins_anew_with_a_phase(corpus):
    point, start = started(corpus)
    name = "unigram 1gram, 4 samples, seed 42"
    with Bars() as bars:
        bars(start)
        bars(PointStarted(point, worker="a"))
        bars(Progress(Event("phase 1", 4, 9, {"dev_ppl": 12.345}), worker="a"))
        bars(Progress(Event("phase 1", 1, 9, {}), worker="b"))
        bars(Progress(Event("phase 2", 2, 5, {}), worker="a"))
        assert shown(bars)[1:] == [(f"{name}: phase 2", 2, 5, ""), ("b: phase 1", 1, 9, "")]
        bars(Progress(Event("phase 2", 3, 5, {"dev_ppl": 12.345}), worker="a"))
        assert shown(bars)[1] == (f"{name}: phase 2", 3, 5, "dev ppl 12.35")


def test_the_bar_of_a_sweep_goes_by_the_cost_of_what_is_left(corpus):
    point, start = started(corpus)
    with Bars() as bars:
        bars(start)
        name, done, total, numbers = shown(bars)[0]
        assert (name, done, total) == ("runs", 0.0, 1.0) and numbers.startswith("1/3, ")
        bars(PointFinished(point, failed(point, "diverged"), worker="a"))
        _name, done, _total, numbers = shown(bars)[0]
        assert done == 0.5 and numbers.startswith("2/3, ")


def test_without_a_terminal_there_are_plain_lines(corpus, capsys):
    point, start = started(corpus)
    with Bars() as bars:
        bars(start)
        bars(Note("reading the documents"))
        bars(Progress(Event("phase 1", 4, 9, {"dev_ppl": 12.345})))
        bars(Failed("the data has changed", worker="worker 1"))
        bars(PointFinished(point, failed(point, "diverged")))
        *lines, last = capsys.readouterr().err.splitlines()
    assert lines == [
        "1 of 3 runs are done already",
        "reading the documents",
        "worker 1 cannot go on: the data has changed",
    ]
    assert last.startswith("unigram 1gram, 4 samples, seed 42: FAILED: diverged [2/3, ")
