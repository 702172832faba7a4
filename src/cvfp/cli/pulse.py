"""The sign that long work goes on where no bar can be: off a terminal, a plain line every ten seconds."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from contextvars import ContextVar

from cvfp.records.texts import duration

SILENCE = 9.0
"""Seconds without a line, after which one comes: under ten, as a thread may have to wait for its turn."""


class Pulse:
    """Says on standard error what is being done, whenever nothing was said for `SILENCE` seconds.

    Args:
        name: who is at work; told with the time, as long as `doing` is not set to something that says more.
        silent: nothing of progress is said, by the pulse or through it.
    """

    def __init__(self, name: str, silent: bool = False) -> None:
        self.name, self.silent = name, silent
        self.doing: Callable[[], str] | None = None
        """Gives the line to say."""
        self.started = self.said = time.monotonic()
        self.ended = threading.Event()

    def say(self, line: str) -> None:
        """Print one line, after which the pulse has time again."""
        self.said = time.monotonic()
        with suppress(OSError, ValueError):  # whoever read it has left
            print(line, file=sys.stderr, flush=True)

    def beat(self) -> None:
        """Say what is being done, until `ended` is set."""
        while not self.ended.wait(max(self.said + SILENCE - time.monotonic(), 0.0)):
            if time.monotonic() >= self.said + SILENCE:
                elapsed = duration(time.monotonic() - self.started)
                self.say(f"{self.name}: at work, {elapsed}" if self.doing is None else self.doing())


_current: ContextVar[Pulse | None] = ContextVar("the pulse of the command at work", default=None)


@contextmanager
def pulse(name: str, silent: bool = False) -> Iterator[Pulse]:
    """The pulse of the block, which is that of the block around it, where one has a pulse already.

    It beats where standard error is no terminal, unless it is to be silent.
    """
    found = _current.get()
    if found is not None:
        yield found
        return
    made = Pulse(name, silent)
    beating = threading.Thread(target=made.beat, daemon=True)
    if not silent and sys.stderr is not None and not sys.stderr.isatty():
        beating.start()
    token = _current.set(made)
    try:
        yield made
    finally:
        _current.reset(token)
        made.ended.set()
        if beating.ident is not None:
            beating.join()
