"""Who runs what: the points of a sweep shared among processes, on one machine or on several.

A claim is an advisory lock (`flock`) on a file in `.locks/`: the operating system lets go of it when its
process ends, however that ends, so that another process can take the point. On a shared file system the mount
must pass `flock` on, as NFS 4, GPFS and Lustre (mounted with `flock`) do.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from cvfp.records.errors import CvfpError

LOCKS = ".locks"
SHARED = "sweep"
SHARED_SECONDS = 60.0
"""Longest wait for the files that all processes write: others hold them for moments."""


class Ledger:
    """The claims on the points of one sweep directory."""

    def __init__(self, directory: Path) -> None:
        self.locks = Path(directory) / LOCKS

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Alone in writing what all processes write: tables, forecasts, metadata.

        Raises:
            CvfpError: another process has held them for a minute, or the lock cannot be written.
        """
        with self._held(SHARED, SHARED_SECONDS) as ours:
            if not ours:
                raise CvfpError(f"{self.locks / SHARED}: another process has held it for a minute")
            yield

    @contextmanager
    def claim(self, run_hash: str) -> Iterator[bool]:
        """Whether the point is ours inside the block; False where another process has it.

        Raises:
            CvfpError: the lock cannot be written, or the file system has none.
        """
        with self._held(run_hash, 0.0) as ours:
            yield ours

    def is_claimed(self, run_hash: str) -> bool:
        """Whether a process has the point now; False where the lock may not be tried."""
        path = self.locks / run_hash
        if not path.exists():
            return False
        try:
            with FileLock(path, timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    @contextmanager
    def _held(self, name: str, seconds: float) -> Iterator[bool]:
        lock = FileLock(self.locks / name)
        try:
            self.locks.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=seconds)
        except Timeout:
            yield False
            return
        except NotImplementedError as error:
            raise CvfpError(f"{self.locks}: this file system has no locks (flock)") from error
        except OSError as error:
            raise CvfpError(f"cannot write {self.locks / name}: {error.strerror or error}") from error
        try:
            yield True
        finally:
            lock.release()
