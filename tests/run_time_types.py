"""Checks of types at run time for every function in every test, at a price that a test suite can pay."""

from __future__ import annotations

import functools
from collections.abc import Callable
from types import FunctionType
from typing import Any

CALLS = 10
"""Of a function these first calls in a test are checked: its loops call it with the same types again."""


class Turn:
    """Which test it is."""

    number = 0


def sparing(jaxtyped: Callable[..., Any]) -> Callable[..., Any]:
    """`jaxtyped`, whose checks take longer than most of our functions, for the first calls in a test."""

    def decorator(fn: Any = None, /, **options: Any) -> Any:
        if fn is None:
            return functools.partial(decorator, **options)
        checked = jaxtyped(fn, **options)
        if not isinstance(fn, FunctionType):
            return checked
        if fn.__module__.endswith("_kernel"):  # Triton compiles their source, with their own globals
            return fn
        number = left = -1

        @functools.wraps(fn)
        def call(*args: Any, **kwargs: Any) -> Any:
            nonlocal number, left
            if number != Turn.number:
                number, left = Turn.number, CALLS
            if left > 0:
                left -= 1
                return checked(*args, **kwargs)
            return fn(*args, **kwargs)

        return call

    return decorator
