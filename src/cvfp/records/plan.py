"""A plan: the points of an experiment and the analysis to make of them. Pure data, no side effects."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from cvfp.records.config import LATER, RunConfig
from cvfp.records.schema import Schema, digest
from cvfp.records.values import Positive


class Analysis(Schema):
    """What is computed from the records once points are there."""

    window_size: Annotated[int, Field(ge=2)] | None = None
    """Consecutive sizes per sliding window; None: no windows."""
    extrapolate: tuple[Annotated[float, Field(gt=0)], ...] = ()
    """Token counts to predict at; empty: 4 and 10 times the largest size."""
    include_capped: bool = False
    """Whether points whose training ended at its cap take part in fits."""


class PlannedPoint(Schema):
    """One run to make, with the name of its line as shown in tables."""

    config_name: str
    config: RunConfig
    tuned_trials: Positive | None = None
    """The settings are the best of so many trials (`cvfp tune`); None: they were not tuned."""

    @model_validator(mode="before")
    @classmethod
    def _as_it_was_run(cls, value: Any) -> Any:
        """A config that was written before a field joined was run without it, whatever is the default now."""
        config = value.get("config") if isinstance(value, dict) else None
        if not isinstance(config, dict):
            return value
        known = {
            name: before | config[name]
            for name, before in LATER.items()
            if isinstance(config.get(name), dict)
        }
        return value | {"config": config | known}


class Plan(Schema):
    """Every point of a sweep, each with all its settings."""

    name: str
    description: str
    protocol: Literal["standard", "published", "tuning"] = "standard"
    """`tuning`: trials of settings, of which the test text is not scored."""
    points: tuple[PlannedPoint, ...]
    analysis: Analysis = Analysis()

    @property
    def plan_hash(self) -> str:
        """Identity of the plan: its points, by result-relevant fields. Their analysis may change later."""
        return digest([[point.config_name, point.config.run_hash] for point in self.points])
