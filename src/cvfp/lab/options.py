"""How a sweep is run. Nothing here changes a result: only what is kept, saved meanwhile, and tried again."""

from __future__ import annotations

from dataclasses import dataclass

from cvfp.records.errors import InputError


@dataclass(frozen=True)
class RunOptions:
    """The options of every way to run a sweep. Raises `InputError` where `save_every` is below 0."""

    checkpoints: bool = True
    """Keep the trained weights of every point."""
    retry: bool = False
    """Run the points again that failed; else they keep their errors."""
    save_every: float = 60.0
    """Seconds between two savepoints inside a point, at least: an interrupted point goes on from its last."""

    def __post_init__(self) -> None:
        if not self.save_every >= 0:
            raise InputError(f"--save-every {self.save_every:g}: it must be at least 0")


DEFAULTS = RunOptions()
