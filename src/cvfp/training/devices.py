"""Choosing where to compute, and seeding what is drawn there."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from cvfp.records.errors import InputError

DEVICES = ("auto", "cpu", "cuda", "cuda:N", "mps")


def pick_device(name: str = "auto") -> torch.device:
    """The device of that name; `auto` takes cuda, else mps, else cpu.

    Raises:
        InputError: an unknown name, or a device that this machine does not have.
    """
    kind, colon, number = name.partition(":")
    available = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if kind not in available or (colon and not (kind == "cuda" and number.isdecimal())):
        raise InputError(f"--device {name!r}: unknown; there are {', '.join(DEVICES)}")
    if not available[kind] or (colon and int(number) >= torch.cuda.device_count()):
        raise InputError(f"--device {name}: not available on this machine; use auto or cpu")
    return torch.device(name)


def pick_devices(names: str = "auto") -> tuple[torch.device, ...]:
    """The devices of a list such as `cuda:0,cuda:1`; `auto` and `cuda` take every card that is there.

    A device may be listed several times: that many processes share it.

    Raises:
        InputError: as `pick_device`.
    """
    devices: list[torch.device] = []
    for name in names.split(","):
        device = pick_device(name)
        cards = torch.cuda.device_count() if device.type == "cuda" and device.index is None else 1
        devices += [device] if cards == 1 else [torch.device("cuda", index) for index in range(cards)]
    return tuple(devices)


def describe_device(device: torch.device) -> str:
    """The name a record keeps: the card's, or the processor with its threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{device.type} ({torch.get_num_threads()} threads)"


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Draw from generators seeded with `seed` inside the block; leave the global ones as they were."""
    devices = [device] if device.type == "cuda" else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(seed)
        yield
