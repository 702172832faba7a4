"""Who runs the points of a sweep: processes of this machine, a Ray cluster, or a launcher's processes."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

from cvfp.lab.on_devices import run_on_devices
from cvfp.lab.on_ray import Share, run_on_ray
from cvfp.lab.processes import run_together
from cvfp.lab.runner import SweepOutcome
from cvfp.records.errors import InputError
from cvfp.training import group
from cvfp.training.devices import pick_devices

Execute = Callable[..., SweepOutcome | None]
"""Of `plan` and `out` and, by name, `tell` and `options`; as `run_sweep`. None: another process of a group
speaks for this one."""


def make_executor(name: Literal["local", "ray"], device: str, gpus_per_point: float | None) -> Execute:
    """The executor of that name, on the devices of that name (those of this machine, or of the cluster).

    Where a launcher has started several processes they train each point together.

    Args:
        gpus_per_point: of Ray alone; None is a whole one.

    Raises:
        InputError: as `pick_devices` and `Share`; a share of GPUs without Ray.
    """
    if name == "ray":
        group.not_launched("--executor ray")
        share = Share(device) if gpus_per_point is None else Share(device, gpus_per_point)
        return partial(run_on_ray, share=share)
    if gpus_per_point is not None:
        raise InputError("--gpus-per-point: it goes with --executor ray")
    if group.launched():
        return partial(run_together, device=group.launched_device(device))
    return partial(run_on_devices, devices=pick_devices(device))
