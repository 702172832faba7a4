"""Sizes that grow by a constant factor: how an exponent's dependence on data is studied."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Annotated

from pydantic import Field, model_validator

from cvfp.records.schema import Schema

LARGEST = 10**9
"""More training documents than any corpus here holds."""


class Growth(Schema):
    """Sizes start, start * multiplier, ...: just enough of them for `num_windows` sliding windows.

    A window holds `window_size` consecutive sizes and moves on by one, so there are
    window_size + num_windows - 1 sizes, each rounded to a whole number of documents.
    """

    start: Annotated[int, Field(ge=1)]
    multiplier: Annotated[float, Field(gt=1)]
    window_size: Annotated[int, Field(ge=2, le=100)]
    num_windows: Annotated[int, Field(ge=1, le=100)] = 1

    @model_validator(mode="after")
    def _sizes_grow(self) -> Growth:
        if math.log(self.start) + (self.num_sizes - 1) * math.log(self.multiplier) > math.log(LARGEST):
            raise ValueError(
                f"{self.num_sizes} sizes from {self.start} by {self.multiplier:g} pass {LARGEST}"
            )
        if any(after <= before for before, after in pairwise(self.sizes)):
            raise ValueError(f"multiplier: {self.multiplier:g} gives the same size twice: {self.sizes}")
        return self

    @property
    def num_sizes(self) -> int:
        return self.window_size + self.num_windows - 1

    @property
    def sizes(self) -> tuple[int, ...]:
        """Numbers of training documents, smallest first."""
        return tuple(round(self.start * self.multiplier**step) for step in range(self.num_sizes))
