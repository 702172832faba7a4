"""What is tried in all variations takes long; one of them is tried every time."""

from typing import Any

import pytest


def one_quick(first: Any, *others: Any) -> list[Any]:
    """Values of a parametrised test: the first is tried by `make test`, the others by `make test-long`."""
    return [first, *(pytest.param(other, marks=pytest.mark.long) for other in others)]
