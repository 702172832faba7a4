"""Ray's workers find what one process finds, also when one is killed; what cannot work is said and ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from lab_helpers import tiny_plan, tiny_spec, toml_of, write_corpus

from cvfp.lab.monitor import Monitor
from cvfp.lab.on_ray import MAX_DEATHS, run_on_ray
from cvfp.lab.runner import run_sweep
from cvfp.lab.status import sweep_status
from cvfp.records.errors import CvfpError, InputError
from cvfp.records.plan import Plan

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory):
    return write_corpus(tmp_path_factory.mktemp("corpus"))


@pytest.fixture(scope="module")
def whole(tmp_path_factory, corpus):
    """The sweep that one process ran undisturbed."""
    path = tmp_path_factory.mktemp("whole")
    run_sweep(tiny_plan(corpus), path, CPU, Monitor())
    return path


@pytest.fixture(scope="module")
def cluster():
    """A local cluster with room for two workers."""
    ray = pytest.importorskip("ray")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, num_gpus=0, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def results(path):
    """The rows of a sweep without the time they took."""
    rows = json.loads((path / "detailed_results.json").read_text())
    return [{key: value for key, value in row.items() if key != "wall_seconds"} for row in rows]


def holder_of(path):
    """The process that holds a lock (Linux tells of all that are held)."""
    inode = f":{path.stat().st_ino}"
    with open("/proc/locks") as locks:
        return next(int(line.split()[4]) for line in locks if line.split()[5].endswith(inode))


class Heard(Monitor):
    def __init__(self):
        self.workers, self.notes, self.finished, self.events = [], [], [], 0

    def of_worker(self, name):
        self.workers.append(name)
        return self

    def note(self, text):
        self.notes.append(text)

    def event(self, event):
        self.events += 1

    def point_finished(self, point, record):
        self.finished.append(record.run_hash)


class Kills(Heard):
    """Kills whoever has a point of that arm as soon as it is told that it has begun, at most so often."""

    def __init__(self, out, arm, times):
        super().__init__()
        self.out, self.arm, self.left = out, arm, times

    def point_started(self, point):
        if self.left and point.config.arm == self.arm:
            self.left -= 1
            os.kill(holder_of(self.out / ".locks" / point.config.run_hash), signal.SIGKILL)
