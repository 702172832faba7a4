"""The strict base of every schema, and the one line a user reads when something does not fit it."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

from cvfp.records.errors import InputError


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
            raise InputError(f"{where}: {explain(error)}") from error

    @classmethod
    def parse_json(cls, value: Any, where: str):
        """As `parse`, for a value out of a JSON or TOML file (lists stand for tuples, dates for text)."""
        try:
            return cls.model_validate_json(json.dumps(value, default=str))
        except ValidationError as error:
            raise InputError(f"{where}: {explain(error)}") from error


def explain(error: ValidationError) -> str:
    """One line for the first problem: field, what is wrong, value; and how many more there are."""
    problems = error.errors(include_url=False)
    first = problems[0]
    field = ".".join(str(part) for part in first["loc"])
    message = first["msg"].removeprefix("Value error, ")
    if first["type"] == "extra_forbidden":
        line = f"unknown key {field!r}"
    elif first["type"] == "missing":
        line = f"{field}: required, but missing"
    elif first["type"] == "value_error":
        line = f"{field}: {message}" if field else message
    else:
        line = f"{field}: {message[0].lower()}{message[1:]}, got {first['input']!r}"
    return line if len(problems) == 1 else f"{line} (and {len(problems) - 1} more)"


def digest(value: Any, length: int = 12) -> str:
    """Hexadecimal SHA-256 of the canonical JSON of `value`, cut to `length` digits."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()[:length]
