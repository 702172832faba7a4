"""A sweep on a Ray cluster, `cvfp run --executor ray`: as many workers as points fit on it at once.

A worker is a Ray task. Like all processes at work on a sweep, workers share nothing but the sweep directory
and its ledger, so it has to be on a file system that all nodes mount. What a worker tells comes back as the
stream of its task; the driver starts a worker that died again.
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
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from types import ModuleType
from typing import Any
from uuid import uuid4

import torch

from cvfp.data.extras import require
from cvfp.lab.messages import (
    Failed,
    Message,
    Note,
    PointFinished,
    PointStarted,
    Tell,
    point_label,
    tell_nobody,
)
from cvfp.lab.options import DEFAULTS, RunOptions
from cvfp.lab.processes import Hearing, run_shared
from cvfp.lab.runner import Job, SweepOutcome, Worker
from cvfp.lab.sweep_directory import Ledger, SweepDirectory
from cvfp.records.errors import CvfpError, InputError
from cvfp.records.plan import Plan, PlannedPoint

# --- What a worker does on its node: its part of a sweep, telling of it as it goes.


NEWS_SECONDS = 0.2
"""Between two batches of news: each is an object that Ray keeps until it is fetched."""
SIGHT_SECONDS = 10.0
"""What a network file system is given to show a file that another node has just written."""


def work_on_sweep(job: Job, folder: Path, token: str) -> Iterator[list[Message]]:
    """Run points of the job's sweep until all have a result; yields what happens, in batches.

    Args:
        folder: where the driver is, which relative paths in the plan start from.
        token: the name of a lock in the sweep directory that the driver holds.
    """
    yield []
    torch.set_num_threads(1)
    with contextlib.suppress(FileNotFoundError):
        os.chdir(folder)
    news: SimpleQueue[Message] = SimpleQueue()
    with ThreadPoolExecutor(1) as thread:
        try:
            check_sight(job.directory.path, token)
            work = thread.submit(lambda: Worker(job, news.put).help())
            while not work.done():
                wait([work], timeout=NEWS_SECONDS)
                yield _batch(news)
            yield _batch(news)
            work.result()
        except CvfpError as error:
            yield [Failed(str(error))]


def _batch(news: SimpleQueue[Message]) -> list[Message]:
    """What has been put there so far."""
    return [news.get() for _ in range(news.qsize())]


def check_sight(out: Path, token: str) -> None:
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


@dataclass(frozen=True)
class Share:
    """What a worker is given of the cluster. Raises `InputError` where nothing can be given so."""

    device: str = "auto"
    """`auto` is the GPUs of the cluster where it has any, else its cores, one for each worker."""
    gpus_per_point: float = 1.0
    """0.5 lets two workers share a GPU."""

    def __post_init__(self) -> None:
        if self.device not in DEVICES:
            raise InputError(f"--device {self.device}: on Ray it is {', '.join(DEVICES)}")
        if not 0 < self.gpus_per_point <= 1:
            raise InputError(f"--gpus-per-point {self.gpus_per_point:g}: it must be above 0 and at most 1")

    def gpus(self, resources: Mapping[str, float]) -> float:
        """The GPUs of a worker; 0 where points run on cores. Raises `InputError` where there are none."""
        gpus = resources.get("GPU", 0)
        if self.device == "cuda" and not gpus:
            raise InputError("--device cuda: the Ray cluster has no GPU")
        return self.gpus_per_point if gpus and self.device != "cpu" else 0.0

    def room(self, resources: Mapping[str, float]) -> int:
        """How many workers fit on the cluster, none on parts of two GPUs; at least one, to wait for room.

        Raises `InputError` as `gpus`.
        """
        gpus = self.gpus(resources)
        room = resources.get("GPU", 0) * int(1 / gpus) if gpus else resources.get("CPU", 0)
        return max(1, int(room))


WHOLE = Share()
"""A GPU of its own for every worker, or a core."""


def run_on_ray(
    plan: Plan,
    out: Path,
    share: Share = WHOLE,
    tell: Tell = tell_nobody,
    options: RunOptions = DEFAULTS,
) -> SweepOutcome:
    """This is `run_sweep` on the Ray cluster that `RAY_ADDRESS` names or this machine is in, else on a local
    one.

    Raises:
        InputError: as `run_sweep`; Ray is not installed; the cluster has no such device.
        CvfpError: as `run_sweep`; no connection; nodes that do not see `out`; a point at which worker after
            worker died.
    """
    ray = require("ray", "ray")
    directory = SweepDirectory(Path(out).absolute(), plan)

    def work() -> str:
        token = f"ray-{uuid4().hex}"
        # Ray prints what happens to its nodes; the standard output is for the answer.
        with redirect_stdout(sys.stderr), _connected(ray), _held(directory.path, token):
            resources = ray.cluster_resources()
            gpus = share.gpus(resources)
            as_stream = ray.remote(num_cpus=1, num_gpus=gpus, num_returns="streaming", max_retries=0)
            task = as_stream(work_on_sweep)
            job = Job(directory, torch.device("cuda" if gpus else "cpu"), options)
            number = min(share.room(resources), len(directory.pending()))
            crew = _Crew(ray, lambda: task.remote(job, Path.cwd(), token), tell, number)
            return crew.work(directory)

    return run_shared(directory, tell, options.retry, work)


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

    def __init__(self, ray: ModuleType, start: Callable[[], Any], tell: Tell, number: int) -> None:
        self.ray, self.start, self.tell = ray, start, tell
        self.hearing = Hearing(tell)
        self.streams = {start(): f"worker {index}" for index in range(1, number + 1)}
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
            for message in batch:
                self._hear(name, message)

    def _left(self, stream: Any) -> None:
        self.arrived.discard(self.streams.pop(stream))

    def _hear(self, name: str, message: Message) -> None:
        match message:
            case PointStarted(point):
                self.points[name] = point
            case PointFinished():
                self.points.pop(name, None)
        self.hearing.hear(name, message)

    def _replace(self, name: str, error: Exception) -> None:
        """Start a worker again that died. Raises `CvfpError` when too many have, at the same point."""
        point = self.points.pop(name, None)
        where = "between runs or as one began" if point is None else f"at {point_label(point)}"
        key = "" if point is None else point.config.run_hash
        self.deaths[key] += 1
        reason = f"{type(error).__name__}: {str(error).strip().splitlines()[0]}"
        if self.deaths[key] == MAX_DEATHS:
            raise CvfpError(f"{MAX_DEATHS} workers died {where}; the last: {reason}. What is done is saved")
        self.tell(Note(f"{name} died {where} and is started again ({reason})"))
        self.streams[self.start()] = name
