"""Claims: off a terminal long work says at least every ten seconds that it goes on; --quiet says nothing."""

from __future__ import annotations

import io
import sys
import threading
from collections.abc import Callable

import pytest
from lab_helpers import tiny_plan
from test_cli import call, settings_read_by

from cvfp.cli import main as command_line
from cvfp.cli import pulse as pulses
from cvfp.cli.progress import Bars
from cvfp.cli.pulse import SILENCE, Pulse, pulse
from cvfp.lab.messages import Note, PointFinished, PointStarted, Progress, SweepStarted
from cvfp.lab.point import failed
from cvfp.training.events import Event


class Time:
    """A clock that goes on only while a pulse waits, and ends the pulse after so many seconds."""

    def __init__(self, ends: float, at: dict[float, Callable[[], None]] | None = None) -> None:
        self.now, self.ends, self.at = 0.0, ends, at or {}

    def monotonic(self) -> float:
        return self.now

    def wait(self, seconds: float) -> bool:
        """The next thing to happen, or all of the seconds."""
        until = self.now + seconds
        for moment in sorted(moment for moment in self.at if moment <= until):
            self.now = moment
            self.at.pop(moment)()
            return False
        self.now = until
        return self.now > self.ends


def beats(monkeypatch: pytest.MonkeyPatch, made: Callable[[], Pulse], time: Time) -> None:
    """Have the pulse beat in that time."""
    monkeypatch.setattr(pulses, "time", time)
    monkeypatch.setattr(pulses, "SILENCE", SILENCE)
    one = made()
    one.ended = time
    one.beat()


def test_a_line_comes_before_ten_seconds_without_one_have_passed(monkeypatch, capsys):
    beats(monkeypatch, lambda: Pulse("cvfp report"), Time(ends=31.0))
    assert capsys.readouterr().err.splitlines() == [
        f"cvfp report: at work, {seconds} s" for seconds in (9, 18, 27)
    ]
    assert SILENCE < 10


def test_a_line_that_another_said_counts(monkeypatch, capsys):
    one = Pulse("cvfp report")
    said = {5.0: lambda: one.say("a run is done"), 13.0: lambda: one.say("another")}
    monkeypatch.setattr(pulses, "time", Time(ends=0))
    one.started = one.said = 0.0
    one.doing = lambda: "training"
    beats(monkeypatch, lambda: one, Time(ends=24.0, at=said))
    assert capsys.readouterr().err.splitlines() == ["a run is done", "another", "training"]


def test_what_is_being_done_is_said_of_every_worker(corpus, capsys):
    first, second = tiny_plan(corpus, arms=("unigram",), samples=(4, 8)).points
    with pulse("cvfp run") as beat, Bars() as bars:
        assert beat.doing is None
        bars(SweepStarted(3, (first, second)))
        assert beat.doing is not None and beat.doing().startswith("at work [1/3, ")
        bars(PointStarted(first, worker="a"))
        bars(Progress(Event("joint", 40, 900, {}), worker="a"))
        bars(Progress(Event("joint", 120, 900, {"dev_ppl": 123.456}), worker="a"))
        bars(PointStarted(second, worker="b"))
        names = [f"unigram 1gram, {size} samples, seed 42" for size in (4, 8)]
        assert beat.doing().startswith(f"{names[0]}: joint 120/900, dev ppl 123.5; {names[1]} [1/3, ")
        bars(PointFinished(first, failed(first, "diverged"), worker="a"))
        assert beat.doing().startswith(f"{names[1]} [2/3, ")
        bars(PointStarted(first, worker="a"))  # of its phase before nothing is left
        assert beat.doing().startswith(f"{names[1]}; {names[0]} [2/3, ")
    assert beat.doing is None and "FAILED: diverged [2/3" in capsys.readouterr().err


def test_quiet_leaves_out_progress_alone(corpus, capsys):
    point, *_ = tiny_plan(corpus, arms=("unigram",), samples=(4,)).points
    with pulse("cvfp run", silent=True), Bars() as bars:
        bars(SweepStarted(3, (point,)))
        bars(Note("3 documents are copies"))
        bars(PointFinished(point, failed(point, "diverged")))
    assert capsys.readouterr().err == "3 documents are copies\n"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("arguments", "environment", "stream", "beating"),
    [
        (["published", "v1"], {}, io.StringIO(), True),
        (["published", "v1"], {"RANK": "0"}, io.StringIO(), True),
        (["published", "v1"], {"RANK": "1"}, io.StringIO(), False),
        (["published", "v1", "--quiet"], {}, io.StringIO(), False),
        (["generate", "no-model"], {}, io.StringIO(), False),
        (["published", "v1"], {}, Terminal(), False),
        (["published", "v1"], {}, None, False),
    ],
)
def test_commands_have_a_pulse_off_a_terminal(monkeypatch, capsys, arguments, environment, stream, beating):
    begun: list[str] = []
    ended = threading.Event()
    monkeypatch.setattr(Pulse, "beat", lambda self: (begun.append(self.name), ended.set()))
    monkeypatch.setattr(sys, "stderr", stream)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    command_line.main(arguments)
    assert begun == ([f"cvfp {arguments[0]}"] if beating else [])


def test_a_pulse_ends_with_its_command_also_where_nobody_reads(monkeypatch):
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise BrokenPipeError

    monkeypatch.setattr(sys, "stderr", Closed())
    before = threading.active_count()
    with pulse("cvfp fit") as beat:
        assert threading.active_count() == before + 1
        beat.say("nobody reads this")
    assert threading.active_count() == before


def test_train_is_quiet_when_asked(tmp_path, corpus, capsys):
    train = ["train", "--samples", 4, "--corpus", corpus, "--device", "cpu", *settings_read_by("cvfp-joint")]
    code, _out, err = call(capsys, *train, "--out", tmp_path / "a")
    assert code == 0 and "test PPL" in err
    assert call(capsys, "--quiet", *train, "--out", tmp_path / "b")[::2] == (0, "")
