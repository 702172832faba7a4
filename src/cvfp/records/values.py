"""Types of numbers in configs and records."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

LARGEST = 2**63 - 1
"""What numpy and torch hold."""
Positive = Annotated[int, Field(ge=1, le=LARGEST)]
Layers = Annotated[int, Field(ge=1, le=1000)]
"""Also of the tokens that a layer sees."""
Width = Annotated[int, Field(ge=1, le=2**20)]
NonNegative = Annotated[float, Field(ge=0)]
Rate = Annotated[float, Field(gt=0)]
Precision = Literal["float32", "tf32", "bf16"]
"""The lowest precision that matrix products of training may take; where a device gains nothing by it, it
takes the next higher one (`cvfp.training.precision`), and the record says which."""
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Perplexity = Annotated[float, Field(ge=1)]
BitsPerByte = Annotated[float, Field(ge=0, le=1000)]
"""Of more, the perplexity per byte is beyond a float."""
