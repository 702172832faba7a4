"""Does a printed number follow from other printed numbers, given that all of them are rounded?"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Range = tuple[float, float]


@dataclass(frozen=True)
class Printed:
    """A number as printed: the true one is within half a `unit` of the last digit."""

    value: int | float
    unit: int | float

    @classmethod
    def significant(cls, value: int | float, digits: int) -> Printed:
        """A positive number printed with so many significant digits."""
        return cls(value, 10.0 ** (math.floor(math.log10(value)) - digits + 1))

    @property
    def bounds(self) -> Range:
        return self.value - self.unit / 2, self.value + self.unit / 2

    def follows(self, *ranges: Range) -> bool:
        """Whether one of the ranges of possible values touches the numbers that are printed like this one."""
        low, high = self.bounds
        slack = 1e-9 * max(abs(low), abs(high))  # float rounding at the ends
        return any(low - slack <= top and bottom <= high + slack for bottom, top in ranges)


def reachable(statistic: Callable[..., float], inputs: Sequence[Printed]) -> Range:
    """Smallest and largest value of `statistic` over the corners of the box of possible inputs.

    Exact for what is monotonic in every input (alpha and ln A of a power law are, in ln PPL); for others it
    errs by the square of the relative rounding, far below the units that are printed. The 2^n corners are
    all visited: meant for tables of a few numbers.
    """
    values = [statistic(*corner) for corner in itertools.product(*(number.bounds for number in inputs))]
    return min(values), max(values)
