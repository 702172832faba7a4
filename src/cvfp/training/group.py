"""The processes that train one model together: those torch's launcher (`torchrun`) started, or this alone.

All hold the same weights and take the same steps; each computes a share of every gradient, and the shares are
added up (synchronous data parallelism). What is decided while training is decided from numbers that all have.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from cvfp.models.parts import ran_out_of_memory
from cvfp.records.errors import InputError, LostError

BACKENDS = {"cuda": "cpu:gloo,cuda:nccl"}
"""By the type of device; elsewhere gloo. Words between processes go through memory in any case."""
TOLD = ("WORLD_SIZE", "RANK", "MASTER_ADDR", "MASTER_PORT")
"""What torch's launchers set in the environment."""
SMALL = 1 << 20
"""Elements: to send a smaller tensor by itself takes longer than to pack it together with others."""
PATIENCE = timedelta(hours=12)
"""How long a process waits for the others: the first one may read a corpus meanwhile."""


def launched() -> bool:
    """Whether a launcher has started this process as one of several: it says so in the environment.

    Raises:
        InputError: it says so in words that are no numbers.
    """
    if any(name not in os.environ for name in TOLD):
        return False
    for name in ("WORLD_SIZE", "RANK"):
        if not os.environ[name].isdecimal():
            raise InputError(
                f"{name}={os.environ[name]} in the environment: a launcher sets a whole number there"
            )
    return int(os.environ["WORLD_SIZE"]) > 1


def not_launched(command: str) -> None:
    """Raises `InputError`: the command is one process's work, and there are several."""
    if launched():
        raise InputError(
            f"{command}: a launcher started several processes; only `cvfp run` trains in a group"
        )


def launched_device(name: str = "auto") -> torch.device:
    """The device of this process: the GPU with its local number where there are GPUs, else the CPU.

    Raises:
        InputError: another name than auto, cuda or cpu; fewer GPUs than processes.
    """
    if name not in ("auto", "cuda", "cpu"):
        raise InputError(f"--device {name}: a launcher gives each process its device; use auto, cuda or cpu")
    if name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return torch.device("cpu")
    number, cards = int(os.environ.get("LOCAL_RANK", 0)), torch.cuda.device_count()
    if number >= cards:
        raise InputError(
            f"--device {name}: process {number + 1} of this machine has no GPU; there are {cards}"
        )
    return torch.device("cuda", number)


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Be one of the launched processes inside the block. Raises as `held_together`."""
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(BACKENDS.get(device.type, "gloo"), timeout=PATIENCE)
    with held_together():
        yield
        dist.barrier()
    dist.destroy_process_group()


@contextmanager
def held_together() -> Iterator[None]:
    """Raises `LostError` where this process runs out of memory inside the block, or another one ends."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if ran_out_of_memory(error):
            raise LostError(f"{who()} ran out of memory") from error
        if isinstance(error, dist.DistError) or "gloo" in str(error):
            raise LostError(f"{who()} has lost the others: {error}") from error
        raise


def world_size() -> int:
    """How many processes train together."""
    return dist.get_world_size() if dist.is_initialized() else 1


def local_size() -> int:
    """How many of them run on this machine, as the launcher says."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world_size())) if world_size() > 1 else 1


def rank() -> int:
    """Which of them this is, from 0."""
    return dist.get_rank() if dist.is_initialized() else 0


def who() -> str:
    """This process, for people."""
    return f"process {rank() + 1} of {world_size()}"


def is_main() -> bool:
    """Whether this is the one that writes."""
    return rank() == 0


def share(count: int, process: int | None = None) -> slice:
    """Which of `count` things a process has (by default this one): a run of them."""
    number, processes = rank() if process is None else process, world_size()
    return slice(count * number // processes, count * (number + 1) // processes)


def most(count: int) -> int:
    """How many of `count` things a process may have to take."""
    return -(-count // world_size())


def all_reduce(*tensors: Tensor) -> None:
    """Replace each tensor by its sum over all processes, the same bits in each; small ones travel packed."""
    if world_size() == 1:
        return
    by_type: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        if tensor.numel() <= SMALL:
            by_type.setdefault(tensor.dtype, []).append(tensor)
    packed = {dtype: torch.cat([tensor.flatten() for tensor in small]) for dtype, small in by_type.items()}
    alone = [tensor for tensor in tensors if tensor.numel() > SMALL]
    for work in [dist.all_reduce(tensor, async_op=True) for tensor in (*alone, *packed.values())]:
        assert work is not None  # this process is in the group
        work.wait()
    for dtype, small in by_type.items():
        parts = packed[dtype].split([tensor.numel() for tensor in small])
        for tensor, part in zip(small, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def broadcast(value: Any) -> Any:
    """The first process's value (a JSON value), in all of them."""
    if world_size() == 1:
        return value
    text = torch.tensor(list(json.dumps(value).encode() if is_main() else b""), dtype=torch.uint8)
    length = torch.tensor(len(text))
    dist.broadcast(length, 0)
    text = text if is_main() else torch.empty(int(length), dtype=torch.uint8)
    dist.broadcast(text, 0)
    return json.loads(bytes(text.tolist()))


def broadcast_tensors(tensors: dict[str, Tensor] | None, device: torch.device) -> dict[str, Tensor]:
    """The first process's named tensors, on the device of each (the others give None)."""
    if world_size() == 1:
        return tensors or {}
    kinds = broadcast({name: [str(t.dtype)[6:], *t.shape] for name, t in (tensors or {}).items()})
    found = {}
    for name, (dtype, *shape) in kinds.items():
        found[name] = torch.empty(shape, dtype=getattr(torch, dtype), device=device)
        if tensors is not None:
            found[name].copy_(tensors[name])
        dist.broadcast(found[name], 0)
    return found


def all_gather(own: Tensor) -> Tensor:
    """(R, ...): the tensor of every process, which all have one shape."""
    if world_size() == 1:
        return own[None]
    found = own.new_empty((world_size(), *own.shape))
    dist.all_gather(list(found.unbind()), own.contiguous())
    return found
