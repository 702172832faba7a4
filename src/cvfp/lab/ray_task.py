"""What a worker on a Ray cluster does (`cvfp.lab.on_ray`): its part of a sweep, telling of it as it goes."""

from __future__ import annotations

import contextlib
import os
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from pathlib import Path
from queue import SimpleQueue

import torch

from cvfp.lab.ledger import Ledger
from cvfp.lab.remote import ERROR, News, Telling
from cvfp.lab.runner import run_sweep
from cvfp.records.errors import CvfpError
from cvfp.records.plan import Plan

NEWS_SECONDS = 0.2
"""Between two batches of news: each is an object that Ray keeps until it is fetched."""
SIGHT_SECONDS = 10.0
"""What a network file system is given to show a file that another node has just written."""


def work_on_sweep(
    plan: Plan, out: Path, folder: Path, device: str, checkpoints: bool, save_every: float, token: str
) -> Iterator[list[News]]:
    """Run points in the sweep directory `out` until all have a result; yields what happens, in batches.

    Args:
        folder: where the driver is, which relative paths in the plan start from.
        token: the name of a lock in `out` that the driver holds.
    """
    yield []
    torch.set_num_threads(1)
    with contextlib.suppress(FileNotFoundError):
        os.chdir(folder)
    news: SimpleQueue[News] = SimpleQueue()
    with ThreadPoolExecutor(1) as thread:
        try:
            _check_sight(out, token)
            telling = Telling(news.put)
            arguments = (plan, out, torch.device(device), telling, checkpoints, False, save_every)
            sweep = thread.submit(run_sweep, *arguments)
            while not sweep.done():
                wait([sweep], timeout=NEWS_SECONDS)
                yield _batch(news)
            yield _batch(news)
            sweep.result()
        except CvfpError as error:
            yield [(ERROR, (str(error),))]


def _batch(news: SimpleQueue[News]) -> list[News]:
    """What has been put there so far."""
    return [news.get() for _ in range(news.qsize())]


def _check_sight(out: Path, token: str) -> None:
    """Raises `CvfpError` when this node does not see the driver's directory, or that its lock is held."""
    ledger, deadline = Ledger(out), time.monotonic() + SIGHT_SECONDS
    while not ledger.is_claimed(token):
        if time.monotonic() > deadline:
            seen = (ledger.locks / token).exists()
            what = "sees none of the locks in" if seen else "does not see"
            raise CvfpError(
                f"the node {socket.gethostname()} {what} {out}: a sweep directory must be on a file system "
                "that all nodes mount and that passes locks on (flock)"
            )
        time.sleep(NEWS_SECONDS)
