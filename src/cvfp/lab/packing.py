"""Whether one more process should share a card: the rule, from what is seen of card, host and sweep.

A card runs the kernels of several processes in turns. So a second one gains what the first leaves idle, and
nothing where that is little.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

IDLE = 0.25
"""Share of the time without a kernel from which a card takes one more."""
SHORTEST, LONGEST = 10.0, 60.0
"""Seconds that a card is watched before it is judged, and that are looked back at: the pause of a long run
between its training and its scores is no reason for another process."""
MOST = 4
"""Processes on a card."""
MARGIN = 1.5
"""Memory that must be free, in sizes of the largest process so far: the points to come are larger."""


@dataclass(frozen=True)
class Sample:
    """The share of the last moment in which a kernel ran."""

    time: float
    busy: float


def idle_share(samples: Sequence[Sample], since: float, now: float) -> float | None:
    """The mean share without a kernel, back to `since` but no further than `LONGEST`; None: too short."""
    if now - since < SHORTEST:
        return None
    busy = [sample.busy for sample in samples if sample.time >= max(since, now - LONGEST)]
    return 1 - sum(busy) / len(busy) if busy else None


@dataclass(frozen=True)
class Card:
    """A card as it is now; bytes are those of its memory."""

    processes: int
    idle: float | None
    """None: a process is still starting there, or it has not been watched for long enough."""
    free: int
    largest: int
    """What its processes have taken at most, on average."""


@dataclass(frozen=True)
class Host:
    """The machine of the cards as it is now; bytes are those of its memory."""

    processes: int
    """Those on all cards."""
    cores: int
    free: int
    largest: int
    """What a process has taken at most."""


@dataclass(frozen=True)
class Queue:
    """The points that no process has taken."""

    points: int
    seconds: float
    """Until the processes that there are will have taken them all, at the pace so far."""
    start: float
    """Seconds that a process takes to begin its first point."""


def has_room(card: Card, host: Host) -> bool:
    """Whether the card idles, and there is memory for one more process and a core for each."""
    return (
        card.processes < MOST
        and card.idle is not None
        and card.idle > IDLE
        and card.free >= MARGIN * card.largest
        and host.processes < host.cores
        and host.free >= MARGIN * host.largest
    )


def comes_in_time(queue: Queue) -> bool:
    """Whether a process that starts now will find a point."""
    return queue.points > 0 and queue.seconds > queue.start
