"""Long work of libraries that are not Python: it must not keep Ctrl-C and SIGTERM waiting."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

Result = TypeVar("Result")

LOOK_SECONDS = 0.2
"""Between two looks at what was asked of us; needed where a wait without an end cannot be interrupted."""


def interruptible(work: Callable[[], Result]) -> Result:
    """The result of `work`, which runs in a thread of its own: only between two lines of Python does Python
    answer signals, and the main thread waits in such lines.

    What is interrupted runs on unseen until its process ends; it must write nothing. In another thread than
    the main one, which gets no signals, `work` is simply called. Raises what `work` raises.
    """
    if threading.current_thread() is not threading.main_thread():
        return work()
    found: Future[Result] = Future()

    def run() -> None:
        try:
            found.set_result(work())
        except BaseException as error:
            found.set_exception(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    while thread.is_alive():
        thread.join(LOOK_SECONDS)
    return found.result()
