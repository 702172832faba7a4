"""How much memory of the host a process can still take: the machine has a limit, and so may its container."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

MACHINE = Path("/proc/meminfo")
OWN_GROUPS = Path("/proc/self/cgroup")
GROUPS = Path("/sys/fs/cgroup")
"""What Linux says; other systems have none of it."""
KINDS = {
    "": (GROUPS, "memory.max", "memory.current", "inactive_file"),
    "memory": (GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
}
"""By the name of a control group's hierarchy (version 2 has none): where its groups lie, the files of its
limit and of what is used, and what of that is files that can be dropped."""


def available_memory() -> int:
    """Bytes that can be taken without pushing anything out; 0 where the system does not say."""
    return max(min([_of_machine(), *_of_groups()]), 0)


def _of_machine() -> int:
    try:
        lines = _text(MACHINE).splitlines()
    except OSError:
        return 0
    return sum(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))


def _of_groups() -> Iterator[int]:
    """What is left in each control group that this process is in, as far as they have limits."""
    lines = _text(OWN_GROUPS).splitlines() if OWN_GROUPS.exists() else []
    for line in lines:
        _, names, path = line.split(":", 2)
        for kind in KINDS.keys() & set(names.split(",")):
            root, limit, used, droppable = KINDS[kind]
            own = root / path.lstrip("/")
            for folder in (own, *own.parents[: len(own.relative_to(root).parts)]):
                with contextlib.suppress(OSError, ValueError):  # not seen from here, or "max": no limit
                    left = int(_text(folder / limit)) - int(_text(folder / used))
                    stat = dict(one.split() for one in _text(folder / "memory.stat").splitlines())
                    yield left + int(stat.get(droppable, 0))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8")
