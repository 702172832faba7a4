"""Several processes at work on one sweep, one for each device: `cvfp run` where there are several GPUs.

They share nothing but the sweep directory (`cvfp.lab.ledger`); one that dies leaves its point to the others.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Sequence
from multiprocessing import get_context, parent_process
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import FrameType

import torch

from cvfp.lab.monitor import Monitor
from cvfp.lab.remote import ERROR, Hearing, Telling, run_shared
from cvfp.lab.runner import SweepOutcome, run_sweep
from cvfp.lab.sweep_directory import SweepDirectory
from cvfp.records.errors import CvfpError
from cvfp.records.plan import Plan
from cvfp.training.savepoint import EVERY_SECONDS

GRACE_SECONDS = 30.0
"""What a process is given to end by itself."""


def run_on_devices(
    plan: Plan,
    out: Path,
    devices: Sequence[torch.device],
    monitor: Monitor,
    checkpoints: bool = True,
    retry: bool = False,
    save_every: float = EVERY_SECONDS,
) -> SweepOutcome:
    """As `run_sweep`, with a process for each of `devices` (one that is listed twice is shared by two).

    A script that calls this with several devices needs the usual `if __name__ == "__main__":`.

    Raises:
        InputError: as `run_sweep`.
        CvfpError: as `run_sweep`; all processes died before the work was done.
    """
    if len(devices) == 1:
        return run_sweep(plan, out, devices[0], monitor, checkpoints, retry, save_every)

    def work(directory: SweepDirectory) -> str:
        with _Pool(plan, directory.path, devices, monitor, checkpoints, save_every) as pool:
            pool.listen()
        return pool.verdict()

    return run_shared(plan, out, monitor, retry, work)


class _Pool:
    """The processes, and a pipe from each."""

    def __init__(
        self,
        plan: Plan,
        out: Path,
        devices: Sequence[torch.device],
        monitor: Monitor,
        checkpoints: bool,
        save_every: float,
    ) -> None:
        context = get_context("spawn")
        threads = max(1, torch.get_num_threads() // len(devices))
        self.names = [f"{device} ({number})" for number, device in enumerate(devices, 1)]
        self.processes: list[BaseProcess] = []
        self.pipes: dict[Connection, str] = {}
        self.hearing = Hearing(monitor, self.names)
        for name, device in zip(self.names, devices, strict=True):
            reader, writer = context.Pipe(duplex=False)
            arguments = (plan, out, device, threads, writer, checkpoints, save_every)
            process = context.Process(target=_work, args=arguments, name=name)
            process.start()
            writer.close()
            self.processes.append(process)
            self.pipes[reader] = name

    def __enter__(self) -> _Pool:
        return self

    def __exit__(self, *error: object) -> None:
        for process in self.processes:
            if process.is_alive() and error[0] is not None:
                process.terminate()
        for process in self.processes:
            process.join(GRACE_SECONDS)
            if process.is_alive():
                process.kill()
                process.join()

    def listen(self) -> None:
        """Pass on what the processes tell, until all have ended."""
        while self.pipes:
            for pipe in wait(list(self.pipes)):
                try:
                    self.hearing.hear(self.pipes[pipe], pipe.recv())
                except EOFError:
                    del self.pipes[pipe]

    def verdict(self) -> str:
        """Why there is work left: what the processes said, or how they ended."""
        ends = [f"{process.name} ended with {process.exitcode}" for process in self.processes]
        return "; ".join(dict.fromkeys(self.hearing.errors or ends))


def _work(
    plan: Plan,
    out: Path,
    device: torch.device,
    threads: int,
    pipe: Connection,
    checkpoints: bool,
    save_every: float,
) -> None:
    """The life of one process."""
    signal.signal(signal.SIGTERM, _end)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    torch.set_num_threads(threads)
    if device.type == "cuda":
        torch.cuda.set_device(device)
    try:
        run_sweep(plan, out, device, Telling(pipe.send), checkpoints, save_every=save_every)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except CvfpError as error:
        pipe.send((ERROR, (str(error),)))
        sys.exit(error.exit_code)


def _end(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _end_with_parent() -> None:
    """A process whose parent was killed has nobody to tell, and ends as if it had been asked to."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os.kill(os.getpid(), signal.SIGTERM)
