"""The strict base of every schema, its numbers, and the one line a user reads when something does not fit."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from cvfp.records.errors import InputError, near

# --- Types of numbers in configs and records.


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
takes the next higher one (`cvfp.training.devices`), and the record says which."""
Share = Annotated[float, Field(ge=0, le=1)]
Count = Annotated[int, Field(ge=0, le=LARGEST)]
Perplexity = Annotated[float, Field(ge=1)]
MAX_NATS = 700.0
"""From which on exp of a loss, its perplexity, counts as infinite: a float holds little more."""
BitsPerByte = Annotated[float, Field(ge=0, le=1000)]
"""Of more, the perplexity per byte is beyond a float."""


# --- The base of every schema, and what does not fit it in one line.


TYPES = ("str", "int", "float", "bool")
"""What pydantic calls an alternative by; others have brackets or hyphens in their names."""
SHOWN = 60
"""Characters of a wrong value that a message shows."""


class Schema(BaseModel):
    """Frozen, typed data. Unknown keys, NaN and silent conversions ("3" for 3) are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)

    @classmethod
    def parse(cls, value: Any, where: str):
        """Validate `value`; `where` names its source in the message.

        Raises:
            InputError: names the field, the value and what is allowed.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            raise InputError(f"{where}: {explain(error, cls)}") from error

    @classmethod
    def parse_json(cls, value: Any, where: str):
        """This is `parse` for a value out of a JSON or TOML file (lists stand for tuples, dates for text)."""
        try:
            return cls.model_validate_json(json.dumps(value, default=str))
        except ValidationError as error:
            raise InputError(f"{where}: {explain(error, cls)}") from error


def explain(error: ValidationError, schema: type[BaseModel] | None = None) -> str:
    """One line: the first problem (field, what is wrong, value), all missing keys, how many problems more.

    An unknown key is told with the nearest one of `schema`, where one is close.
    """
    problems = error.errors(include_url=False)
    missing = [_field(problem) for problem in problems if problem["type"] == "missing"]
    others = _alternatives([problem for problem in problems if problem["type"] != "missing"])
    parts = [_problem(others[0], schema)] if others else []
    if missing:
        parts.append(f"{', '.join(missing)}: required, but missing")
    more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
    return "; ".join(parts) + more


def _alternatives(problems: list[ErrorDetails]) -> list[ErrorDetails]:
    """The problems, those of one value that is of none of several types as one, with all that is allowed.

    Such problems are told apart by a last part of their place, which names the type.
    """
    found: dict[tuple, ErrorDetails] = {}
    for problem in problems:
        place = problem["loc"]
        last = str(place[-1]) if place else ""
        if problem["type"] != "extra_forbidden" and (last in TYPES or "[" in last or "-" in last):
            place = place[:-1]
        before = found.get(place)
        said = problem["msg"].removeprefix("Input should be ") if before else problem["msg"]
        found[place] = {**problem, "loc": place, "msg": f"{before['msg']} or {said}" if before else said}
    return list(found.values())


def _problem(problem: ErrorDetails, schema: type[BaseModel] | None) -> str:
    field, message = _field(problem), problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "extra_forbidden":
        known = [] if schema is None else list(dotted_fields(schema))
        same = [key for key in known if key.rpartition(".")[2] == field.rpartition(".")[2]]
        sections = {key.partition(".")[0] for key in known}
        return f"unknown key {field!r}{near(field, same) or near(field, known) or near(field, sections)}"
    if problem["type"] != "value_error":
        shown = repr(problem["input"])
        shown = shown if len(shown) <= SHOWN else f"{shown[:SHOWN]}..."
        message = f"{message[0].lower()}{message[1:]}, got {shown}"
    return f"{field}: {message}" if field else message


def dotted_fields(schema: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """The keys of a schema and of the schemas in it: `model.context_dim`."""
    for name, field in schema.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, BaseModel):
            yield from dotted_fields(kind, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}"


def _field(problem: ErrorDetails) -> str:
    return ".".join(str(part) for part in problem["loc"])


def digest(value: Any, length: int = 12) -> str:
    """Hexadecimal SHA-256 of the canonical JSON of `value`, cut to `length` digits."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]
