"""When to stop: patience on the dev loss."""

from __future__ import annotations


class Patience:
    """Remembers the best loss; `exhausted` after `limit` values in a row that are not below it."""

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.best = float("inf")
        self.misses = 0

    def improved(self, loss: float) -> bool:
        """Take in one more value (nats); True when it is the best so far."""
        if loss < self.best:
            self.best, self.misses = loss, 0
            return True
        self.misses += 1
        return False

    @property
    def exhausted(self) -> bool:
        return self.misses >= self.limit
