"""The command line in processes of its own, forked from one that has imported what they need.

To import torch takes longer than what most of them are asked to do.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(["cvfp.lab.runner", "cvfp.lab.on_devices", "cvfp.report.write"])


class Command:
    """`cvfp` at work; `before` is called in its process first."""

    def __init__(
        self,
        arguments: list[object],
        told: Path,
        environment: Mapping[str, object] | None = None,
        before: Callable[[], None] | None = None,
    ) -> None:
        self.told = told
        given = os.environ | {name: str(value) for name, value in (environment or {}).items()}
        words = [str(argument) for argument in arguments]
        self.process = CONTEXT.Process(target=_run, args=(words, told, Path.cwd(), given, before))
        self.process.start()

    def send(self, number: int) -> None:
        os.kill(self.process.pid, number)

    def ended(self, seconds: float = 600) -> tuple[int, str]:
        """Its exit code (a signal's number with a minus), and what it wrote to standard error."""
        self.process.join(seconds)
        if self.process.is_alive():
            self.process.kill()
            raise AssertionError(f"still at work: {self.told.read_text()}")
        return self.process.exitcode, self.told.read_text()


def _run(
    arguments: list[str],
    told: Path,
    folder: Path,
    environment: dict[str, str],
    before: Callable[[], None] | None,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for path, stream in ((Path(os.devnull), 1), (told, 2)):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), stream)
    from cvfp.cli.main import main

    if before is not None:
        before()
    sys.exit(main(arguments))
