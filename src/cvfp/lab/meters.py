"""What is read of cards and of their host while a sweep runs: how busy they are, and what memory is free."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import torch

from cvfp.data.extras import require
from cvfp.records.errors import CvfpError

# --- Cards, by NVML.


@dataclass(frozen=True)
class Reading:
    """A card at one moment."""

    busy: float
    """The share of the last moment (1/6 to 1 second) in which a kernel ran."""
    used: int
    """Bytes of its memory that processes have taken, whoever's they are."""
    total: int


class Meter(Protocol):
    """Reads cards."""

    def read(self, device: torch.device) -> Reading | None:
        """What the card is like; None where it cannot be read just now."""
        ...


class NvmlMeter:
    """NVIDIA's own readings, which torch asks `pynvml` (the package nvidia-ml-py) for."""

    def __init__(self, devices: Iterable[torch.device]) -> None:
        """Raises `CvfpError` where one of the devices cannot be read."""
        self.errors = (RuntimeError, require("pynvml").NVMLError)
        self.totals: dict[torch.device, int] = {}
        for device in devices:
            self.totals[device] = torch.cuda.get_device_properties(device).total_memory
            try:
                self._read(device)
            except self.errors as error:
                raise CvfpError(f"{device} cannot be read by NVML ({error})") from error

    def read(self, device: torch.device) -> Reading | None:
        """This reads a card for the protocol `Meter`: None where it cannot be read just now."""
        try:
            return self._read(device)
        except self.errors:
            return None

    def _read(self, device: torch.device) -> Reading:
        busy = torch.cuda.utilization(device) / 100
        return Reading(busy, torch.cuda.device_memory_used(device), self.totals[device])


# --- The host, by the files of Linux (the only system whose cards are shared so); a container has less of it.

CGROUP = Path("/sys/fs/cgroup")


def cores() -> int:
    """The cores that this process may use."""
    if sys.platform != "linux":
        return os.cpu_count() or 1
    there = len(os.sched_getaffinity(0))
    quota, _, period = _text(CGROUP / "cpu.max").partition(" ")
    return min(there, max(1, int(quota) // int(period))) if quota.isdecimal() else there


def memory_of(pid: int) -> int:
    """Bytes of memory that a process has taken at most."""
    return 1024 * _value(f"/proc/{pid}/status", "VmHWM:")


def _text(path: Path | str) -> str:
    """What a file holds; nothing where it is not there (any more)."""
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except OSError:
        return ""


def _value(path: Path | str, name: str) -> int:
    """The number that stands behind a name; 0 where there is none."""
    rows = [line.split() for line in _text(path).splitlines()]
    return next((int(row[1]) for row in rows if row and row[0] == name), 0)
