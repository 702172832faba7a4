"""Forecasts written down before the size that they are of is run: `forecasts.json` of a sweep."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from cvfp.records.errors import InputError
from cvfp.records.files import is_file, read_json, write_json
from cvfp.records.schema import Schema, digest
from cvfp.records.values import Count, Positive, Rate

Rule = Literal["ppl_power", "last_slope"]
"""What predicts: the PPL power law of all smaller sizes, or the line through the last two of them."""


class RegisteredForecast(Schema):
    """What one line's smaller sizes say of its next one, with a 95% prediction interval."""

    arm: str
    config_name: str
    config_hash: str
    rule: Rule
    num_samples: Positive
    """The size that is predicted."""
    tokens: Rate
    """Its training tokens, the mean over the draws that are to run."""
    known_samples: tuple[Positive, ...]
    """The sizes that the forecast was made from."""
    seeds: tuple[Count, ...]
    """The draws that it was made from."""
    ppl: Rate
    low: Rate
    high: Rate | None
    """None: beyond the range of a float."""
    made: str
    """Date and time."""

    @property
    def digest(self) -> str:
        """Hash of all fields: what is changed afterwards does not fit it any more."""
        return digest(self.model_dump(mode="json"))


class _Entry(Schema):
    forecast: RegisteredForecast
    digest: str


def read_forecasts(path: Path) -> list[RegisteredForecast]:
    """The forecasts of a sweep, none where there is no file.

    Raises:
        InputError: the file is damaged, or a forecast does not fit its hash.
    """
    if not is_file(path):
        return []
    found = read_json(path)
    if not isinstance(found, list):
        raise InputError(f"{path}: a list of forecasts is needed")
    entries = [_Entry.parse_json(entry, f"{path}, entry {place}") for place, entry in enumerate(found, 1)]
    for entry in entries:
        if entry.forecast.digest != entry.digest:
            one = entry.forecast
            raise InputError(
                f"{path}: the forecast of {one.arm} {one.config_name} at {one.num_samples} was changed"
            )
    return [entry.forecast for entry in entries]


def write_forecasts(path: Path, forecasts: list[RegisteredForecast]) -> None:
    """Replace the file by these forecasts, each with its hash."""
    entries = [{"forecast": one.model_dump(mode="json"), "digest": one.digest} for one in forecasts]
    write_json(path, entries)
