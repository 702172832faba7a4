"""Locks between processes, on one machine or on several: `flock`, and nothing instead of it.

A lock is an advisory one on a file: the operating system lets go of it when its process ends, however that
ends. On a shared file system the mount must pass `flock` on, as NFS 4, GPFS and Lustre (mounted with `flock`)
do. Where there is none, `filelock` would take the mere existence of a file for a lock: left by a dead process
it is waited for without end, and who has `flock` does not see it. So that is refused.
"""

from __future__ import annotations

import math
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from filelock import FileLock, Timeout

from cvfp.records.errors import CvfpError
from cvfp.records.files import reason

QUIET_SECONDS = 2.0
"""A wait of so long is not worth a word."""
TOLD_EVERY = 600.0
"""Seconds between two words about the same wait."""

Note = Callable[[str], None]


class NoLocksError(CvfpError):
    """A file system has no locks: no work may begin on it that others could begin too."""


def require_locks(folder: Path) -> None:
    """Try a lock in a folder, or the nearest one above it that is there; nothing stays there.

    Raises:
        NoLocksError: the file system has no locks.
        OSError: no file can be written there.
    """
    _try(next(each for each in (folder, *folder.absolute().parents) if each.is_dir()))


@cache  # of what went well
def _try(folder: Path) -> None:
    if sys.platform == "win32":  # there `filelock` has the locks of the system
        return
    import fcntl

    with tempfile.TemporaryFile(dir=folder) as file:
        try:
            fcntl.flock(file.fileno(), fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise NoLocksError(
                f"{folder}: this file system has no locks (flock: {reason(error)}), so two processes could "
                f"do the same work in it; take a folder on another one, such as a local disk"
            ) from error


@contextmanager
def held(path: Path, seconds: float | None, note: Note, what: str) -> Iterator[bool]:
    """Whether the lock at `path` is ours inside the block; False where another process has it for `seconds`.

    Args:
        path: of the lock; its folder is there.
        seconds: the longest wait; None: without end.
        note: told of a wait of more than moments, and again while it lasts.
        what: what is waited for, in words.

    Raises:
        NoLocksError: as `require_locks`.
        OSError: the lock cannot be written.
    """
    require_locks(path.parent)
    lock, began, patience, ours = FileLock(path), time.monotonic(), QUIET_SECONDS, False
    while not ours:
        left = math.inf if seconds is None else max(began + seconds - time.monotonic(), 0.0)
        try:
            lock.acquire(timeout=min(patience, left))
            ours = True
        except Timeout:
            if left <= patience:
                break
            note(waiting_text(what, time.monotonic() - began))
            patience = TOLD_EVERY
    try:
        yield ours
    finally:
        if ours:
            lock.release()


def waiting_text(what: str, seconds: float) -> str:
    """`waiting for WHAT, which another process has (for 10 min now)`."""
    since = f" (for {seconds / 60:.0f} min now)" if seconds >= 60 else ""
    return f"waiting for {what}, which another process has{since}"
