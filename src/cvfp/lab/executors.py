"""Who runs the points of a sweep: processes of this machine, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from cvfp.lab.on_ray import run_on_ray
from cvfp.lab.runner import SweepOutcome
from cvfp.lab.workers import run_on_devices
from cvfp.records.errors import InputError
from cvfp.training.devices import pick_devices

Execute = Callable[..., SweepOutcome]
"""Of `plan, out, monitor` and, by name, `checkpoints` and `retry`; as `run_sweep`."""


def make_executor(name: Literal["local", "ray"], device: str, gpus_per_point: float | None) -> Execute:
    """The executor of that name, on the devices of that name (those of this machine, or of the cluster).

    Args:
        gpus_per_point: of Ray alone; None is a whole one.

    Raises:
        InputError: as `pick_devices`; a share of GPUs that is not Ray's to give.
    """
    if name == "ray":
        share = 1.0 if gpus_per_point is None else gpus_per_point
        return partial(run_on_ray, device=device, gpus_per_point=share)
    if gpus_per_point is not None:
        raise InputError("--gpus-per-point: it goes with --executor ray")
    return partial(run_on_devices, devices=pick_devices(device))
