"""`cvfp`: calls the command, turns errors into one line and an exit code.

What takes time to import is imported where an interruption is answered already.
"""

from __future__ import annotations

import codecs
import contextlib
import ctypes
import errno
import os
import re
import signal
import sys
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from cvfp import __version__
from cvfp.records.errors import CvfpError, InputError, near, one_line

FLAGS = ("--debug", "--quiet")
"""Those that every command takes."""
RESUMING = {"quickstart", "run", "tune"}
"""Commands that go on from where they were interrupted."""
INTERRUPTED, TERMINATED = 130, 143
UNSHOWN, MOST_SIGNS = "cvfp-unshown", 3
TRIM_THRESHOLD, MMAP_THRESHOLD = -1, -3
"""Options of glibc's `mallopt`."""
TRAIN_PACKAGES = ("torch", "jaxtyping", "safetensors", "platformdirs")
"""Of the extra `cvfp[train]`, those that training imports at once; the data layer names its own."""


class Terminated(KeyboardInterrupt):
    """SIGTERM: what a batch system sends before it takes the machine away."""


class Interrupted(KeyboardInterrupt):
    """SIGINT, Ctrl-C. A bare `KeyboardInterrupt` that passes through an `exec` of text, which importing does,
    makes Python end by the signal instead of with our exit code, though we caught it."""


def _terminate(number: int, frame: FrameType | None) -> None:
    raise Terminated


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise Interrupted


@contextmanager
def _signals_raise() -> Iterator[None]:
    """Inside the block SIGTERM and Ctrl-C are exceptions; then whoever had them answers them again."""
    if threading.current_thread() is not threading.main_thread():  # no other may
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    signal.signal(signal.SIGTERM, _terminate)
    if before[signal.SIGINT] is signal.default_int_handler:  # else ignored, as by nohup
        signal.signal(signal.SIGINT, _interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            if handler is not None:  # else it is not Python's, which cannot give it back
                signal.signal(number, handler)


@contextmanager
def _unshown_is_said() -> Iterator[None]:
    """Inside the block a character that the output's encoding does not have is printed as "?"; that it was
    is said behind it."""
    unshown: list[str] = []

    def replaced(error: UnicodeError) -> tuple[str, int]:
        assert isinstance(error, UnicodeEncodeError)
        unshown.append(error.object[error.start : error.end])
        return "?" * (error.end - error.start), error.end

    codecs.register_error(UNSHOWN, replaced)
    for stream in (sys.stdout, sys.stderr):
        if reconfigure := getattr(stream, "reconfigure", None):
            reconfigure(errors=UNSHOWN)
    try:
        yield
    finally:
        _say_unshown("".join(unshown))


def _say_unshown(unshown: str) -> None:
    if unshown:
        signs = "".join(dict.fromkeys(unshown))
        more = ", ..." if len(signs) > MOST_SIGNS else ""
        names = ", ".join(f"U+{ord(sign):04X}" for sign in signs[:MOST_SIGNS])
        print(
            f"cvfp: {sys.stdout.encoding} has no {names}{more}: shown as '?'; set PYTHONIOENCODING=utf-8",
            file=sys.stderr,
        )


def _write_no_more() -> None:
    """Nothing goes to standard output from here on, at exit either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _keep_memory() -> None:
    """Have glibc keep freed blocks of up to 32 MiB for the next ones.

    By default it returns them to the system, which hands out zeroed pages one by one in every step: a tenth
    of the time of a quickstart point.
    """
    with contextlib.suppress(AttributeError, OSError, TypeError):  # another C library
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(TRIM_THRESHOLD, 1 << 30)
        mallopt(MMAP_THRESHOLD, 32 << 20)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code. Usage errors leave through `SystemExit(2)`."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    # Read when torch starts its threads, which sleep while they wait, after a short spin. A quickstart point
    # took 9.5 s so, and 16.2 s with one core taken; without the spin 11.5 and 13.9, spinning on 8.8 and 28.2.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    # numpy's matrices are small here, and its threads wait for each other wherever others work.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _keep_memory()
    given = {flag for flag in FLAGS if flag in arguments}
    arguments = [argument for argument in arguments if argument not in FLAGS]
    with _signals_raise(), _unshown_is_said():
        return _answer(arguments, given)


def _is_silent(arguments: Sequence[str], given: Collection[str]) -> bool:
    """Whether nothing of progress is said: that was asked for; what `generate` writes is its progress; or the
    first of several processes that a launcher started speaks for all."""
    return "--quiet" in given or "generate" in arguments[:1] or os.environ.get("RANK", "0") != "0"


def _answer(arguments: list[str], given: Collection[str]) -> int:
    """The exit code of one command; its errors are one line each, unless `--debug` lets them out."""
    debug = "--debug" in given
    try:
        if "" in arguments:
            raise InputError(f"argument {arguments.index('') + 1} is empty ('')")
        from cvfp.cli.pulse import pulse

        with pulse(f"cvfp {arguments[0]}" if arguments else "cvfp", _is_silent(arguments, given)):
            code = _dispatch(arguments)
        print(end="", flush=True)
        return code
    except BrokenPipeError:
        _write_no_more()  # whoever read the output (head, a pager) has left
        return CvfpError.exit_code
    except OSError as error:
        if debug or error.errno != errno.ENOSPC:
            raise
        _write_no_more()
        print(f"cvfp: error: {error.filename or 'standard output'}: {error.strerror}", file=sys.stderr)
        return CvfpError.exit_code
    except CvfpError as error:
        if debug:
            raise
        print(f"cvfp: error: {error}", file=sys.stderr)
        return error.exit_code
    except ModuleNotFoundError as error:
        if debug or error.name not in TRAIN_PACKAGES:
            raise
        print(f"cvfp: error: this needs {error.name}: pip install 'cvfp[train]'", file=sys.stderr)
        return InputError.exit_code
    except KeyboardInterrupt as interrupt:
        if debug:
            raise
        terminated = isinstance(interrupt, Terminated)
        how = "terminated" if terminated else "interrupted"
        saved = (
            " What is done is saved; the same command goes on from there."
            if RESUMING & {*arguments[:1]}
            else ""
        )
        print(f"cvfp: {how}.{saved}", file=sys.stderr)
        return TERMINATED if terminated else INTERRUPTED


def _dispatch(arguments: list[str]) -> int:
    from cvfp.cli.commands import PLACES, command, overview

    if arguments == ["--version"]:
        print(f"cvfp {__version__}")
        return 0
    if arguments in ([], ["-h"], ["--help"]):
        print(overview())
        return 0
    name, *options = arguments
    if name not in PLACES:
        known = f"there are {', '.join(PLACES)}"
        if name.startswith("-"):
            raise InputError(f"{name!r} is no command, and a command comes first; {known}")
        raise InputError(f"unknown command {name!r}{near(name, PLACES)}; {known}")
    import tyro

    try:
        return tyro.cli(command(name), prog=f"cvfp {name}", args=options)
    except SystemExit as leaving:
        taken = next((each for each in arguments if re.match("-[^-]", each) and each != "-h"), None)
        if leaving.code == InputError.exit_code and taken is not None:
            print(
                f"cvfp: {one_line(taken)!r} begins with a dash and was taken for an option: behind -- it is "
                "a text or a file, and after = a value (--out=-name)",
                file=sys.stderr,
            )
        raise


if __name__ == "__main__":
    sys.exit(main())
