"""A sweep on a Ray cluster, `cvfp run --executor ray`: as many workers as points fit on it at once.

A worker is a Ray task that runs `run_sweep`. Like all processes at work on a sweep, workers share nothing but
the sweep directory and its ledger, so it has to be on a file system that all nodes mount. What a worker tells
comes back as the stream of its task; the driver starts a worker that died again.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any
from uuid import uuid4

import torch

from cvfp.data.extras import require
from cvfp.lab.monitor import Monitor, point_label
from cvfp.lab.processes import ERROR, Hearing, News, Telling, run_shared
from cvfp.lab.runner import SweepOutcome, run_sweep
from cvfp.lab.sweep_directory import Ledger, SweepDirectory
from cvfp.records.errors import CvfpError, InputError
from cvfp.records.plan import Plan, PlannedPoint
from cvfp.training.savepoint import EVERY_SECONDS

# --- What a worker on a Ray cluster does (`cvfp.lab.on_ray`): its part of a sweep, telling of it as it goes.


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


# --- The driver: workers started, heard, and started again.


DEVICES = ("auto", "cpu", "cuda")
MAX_DEATHS = 3
"""How many workers may die at one point: one can lose its machine, three speak against the point."""
CONNECT_SECONDS = 10.0
WAIT_SECONDS = 0.5
"""Longest silence before a look at what is left to do (and at Ctrl-C)."""


def run_on_ray(
    plan: Plan,
    out: Path,
    monitor: Monitor,
    checkpoints: bool = True,
    retry: bool = False,
    save_every: float = EVERY_SECONDS,
    device: str = "auto",
    gpus_per_point: float = 1.0,
) -> SweepOutcome:
    """As `run_sweep`, on the Ray cluster that `RAY_ADDRESS` names or this machine is in, else on a local one.

    Args:
        device: `auto` takes the GPUs of the cluster where it has any, else its cores, one for each point.
        gpus_per_point: 0.5 lets two points share a GPU.

    Raises:
        InputError: as `run_sweep`; Ray is not installed; the cluster has no such device; an impossible share.
        CvfpError: as `run_sweep`; no connection; nodes that do not see `out`; a point at which worker after
            worker died.
    """
    if device not in DEVICES:
        raise InputError(f"--device {device}: on Ray it is {', '.join(DEVICES)}")
    if not 0 < gpus_per_point <= 1:
        raise InputError(f"--gpus-per-point {gpus_per_point:g}: it must be above 0 and at most 1")
    ray = require("ray", "ray")
    out = Path(out).absolute()

    def work(directory: SweepDirectory) -> str:
        token = f"ray-{uuid4().hex}"
        # Ray prints what happens to its nodes; the standard output is for the answer.
        with redirect_stdout(sys.stderr), _connected(ray), _held(out, token):
            share = _share(ray.cluster_resources(), device, gpus_per_point)
            as_stream = ray.remote(num_cpus=1, num_gpus=share, num_returns="streaming", max_retries=0)
            task = as_stream(work_on_sweep)
            where = "cuda" if share else "cpu"
            arguments = (plan, out, Path.cwd(), where, checkpoints, save_every, token)
            number = min(_room(ray.cluster_resources(), share), len(directory.pending()))
            crew = _Crew(ray, lambda: task.remote(*arguments), monitor, number)
            return crew.work(directory)

    return run_shared(plan, out, monitor, retry, work)


def _share(resources: dict[str, float], device: str, gpus_per_point: float) -> float:
    """The GPUs a worker is given; 0 where points run on cores. Raises `InputError` where none can be."""
    gpus = resources.get("GPU", 0)
    if device == "cuda" and not gpus:
        raise InputError("--device cuda: the Ray cluster has no GPU")
    return gpus_per_point if gpus and device != "cpu" else 0.0


def _room(resources: dict[str, float], share: float) -> int:
    """How many workers fit on the cluster, none on parts of two GPUs; at least one, to wait for room."""
    room = resources.get("GPU", 0) * int(1 / share) if share else resources.get("CPU", 0)
    return max(1, int(room))


@contextmanager
def _connected(ray: ModuleType) -> Iterator[None]:
    """Be connected to a cluster inside the block; one that was started for it ends with it."""
    if ray.is_initialized():
        yield
        return
    # A thread of its own: an interrupted start would abort the process. It lives as long as the block, for
    # what Ray starts dies with the thread that started it.
    before = signal.getsignal(signal.SIGTERM)  # Ray's own answer to it is a dump of its stack
    with ThreadPoolExecutor(1) as thread:
        start = thread.submit(_connect, ray)
        try:
            start.result()
            if threading.current_thread() is threading.main_thread():
                signal.signal(signal.SIGTERM, before)
            yield
        finally:
            wait([start])
            ray.shutdown()


def _connect(ray: ModuleType) -> None:
    """Connect, or start a local cluster; without telling of it. Raises `CvfpError`."""
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    logging.getLogger("ray").setLevel(logging.ERROR)
    _check_address(os.environ.get("RAY_ADDRESS", ""))
    try:
        ray.init(include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise CvfpError(f"Ray: {error}") from error


def _check_address(address: str) -> None:
    """Raises `CvfpError` when nothing listens at HOST:PORT, which Ray would try for minutes."""
    host, _, port = address.rpartition(":")
    if "/" not in host and port.isdecimal():
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=CONNECT_SECONDS).close()
        except OSError as error:
            raise CvfpError(f"RAY_ADDRESS {address}: no Ray cluster answers ({error})") from error


@contextmanager
def _held(out: Path, token: str) -> Iterator[None]:
    """Hold a lock of that name, by which workers know that they see this directory and its locks."""
    ledger = Ledger(out)
    try:
        with ledger.claim(token):
            yield
    finally:
        (ledger.locks / token).unlink(missing_ok=True)


class _Crew:
    """The workers, and the stream of each; one that dies is replaced."""

    def __init__(self, ray: ModuleType, start: Callable[[], Any], monitor: Monitor, number: int) -> None:
        self.ray, self.start, self.monitor = ray, start, monitor
        names = [f"worker {index}" for index in range(1, number + 1)]
        self.hearing = Hearing(monitor, names)
        self.streams = {start(): name for name in names}
        self.arrived: set[str] = set()
        self.points: dict[str, PlannedPoint] = {}
        self.deaths: Counter[str] = Counter()

    def work(self, directory: SweepDirectory) -> str:
        """Pass on what workers tell until all points have a result, or all workers have ended.

        A worker for which the cluster has no room (any more) is waited for only while there is work.
        """
        try:
            while self.streams and (self.arrived or directory.pending()):
                ready, _ = self.ray.wait(list(self.streams), timeout=WAIT_SECONDS, fetch_local=False)
                for stream in ready:
                    self._listen(stream)
        finally:
            for stream in self.streams:
                self.ray.cancel(stream, force=True)
        return "; ".join(dict.fromkeys(self.hearing.errors))

    def _listen(self, stream: Any) -> None:
        """Hear what a worker has told since it was last listened to; a bug in it is raised here."""
        name = self.streams[stream]
        try:
            batch = self.ray.get(next(stream))
        except StopIteration:
            self._left(stream)
        except self.ray.exceptions.RayTaskError:
            raise
        except self.ray.exceptions.RayError as error:
            self._left(stream)
            self._replace(name, error)
        else:
            self.arrived.add(name)
            for news in batch:
                self._hear(name, news)

    def _left(self, stream: Any) -> None:
        self.arrived.discard(self.streams.pop(stream))

    def _hear(self, name: str, news: News) -> None:
        method, arguments = news
        if method == "point_started":
            self.points[name] = arguments[0]
        elif method == "point_finished":
            self.points.pop(name, None)
        elif method == ERROR:
            self.hearing.hear(name, ("note", arguments))
        self.hearing.hear(name, news)

    def _replace(self, name: str, error: Exception) -> None:
        """Start a worker again that died. Raises `CvfpError` when too many have, at the same point."""
        point = self.points.pop(name, None)
        where = "between points or as one began" if point is None else f"at {point_label(point)}"
        key = "" if point is None else point.config.run_hash
        self.deaths[key] += 1
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        if self.deaths[key] == MAX_DEATHS:
            raise CvfpError(f"{MAX_DEATHS} workers died {where}; the last: {reason}. What is done is saved")
        self.monitor.note(f"{name} died {where} and is started again ({reason})")
        self.streams[self.start()] = name
