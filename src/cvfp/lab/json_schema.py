"""JSON Schemas of a sweep file and of what a sweep leaves behind, made of the models that read them.

An editor completes and checks a sweep file by the first; a program in any language reads records by the
others. `make schemas` writes them into `schemas/`, where they are shipped; a test holds them to the models.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from cvfp.lab.plan import OWN_SUFFIX, RESERVED, Growth, SweepSpec
from cvfp.lab.presets import PRESETS
from cvfp.records.arms import ARMS
from cvfp.records.config import SHAPE, RunConfig
from cvfp.records.files import SEAL, write_json
from cvfp.records.plan import Plan, Tuning
from cvfp.records.results import (
    Measurement,
    Metadata,
    PointRecord,
    ProgressionRecord,
    RunRecord,
    SummaryRecord,
)
from cvfp.records.schema import Schema, dotted_fields
from cvfp.records.settings import field_meanings
from cvfp.records.sweep import SealedForecast
from cvfp.records.training_config import TokenTraining

DIALECT = GenerateJsonSchema.schema_dialect
FOLDER = "schemas"
SUFFIX = ".schema.json"

JsonSchema = dict[str, Any]


# --- Of any model.


class _WithoutTitles(GenerateJsonSchema):
    """The name of a field is title enough."""

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _schema_of(kind: Any) -> JsonSchema:
    """The schema of a model, or of a list of them, with the meaning of every field and class in it."""
    found = TypeAdapter(kind).json_schema(schema_generator=_WithoutTitles)
    models = {model.__name__: model for model in _models()}
    for name, definition in found.get("$defs", {}).items():
        _describe(definition, models[name])
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        _describe(found, kind)
    return found


def _models(base: type[Schema] = Schema) -> Iterator[type[Schema]]:
    for model in base.__subclasses__():
        if model.__module__.startswith("cvfp."):
            yield model
            yield from _models(model)


def _describe(definition: JsonSchema, model: type[BaseModel]) -> None:
    """Add what docstrings say, and leave out the defaults of whole sections, whose fields have their own."""
    definition["description"] = _text(inspect.getdoc(model) or "")
    meanings = field_meanings(model)
    for name, field in definition["properties"].items():
        if name in meanings:
            field["description"] = meanings[name]
        if isinstance(field.get("default"), dict) and field["default"]:
            del field["default"]


def _text(docstring: str) -> str:
    return " ".join(docstring.split())


def _titled(schema: JsonSchema, title: str) -> JsonSchema:
    return {"$schema": DIALECT, "title": title} | {key: schema[key] for key in schema if key != "title"}


# --- Of a sweep file: the fields of a `SweepSpec`, what stands in their place, and settings as tables.


def _sweep_file() -> JsonSchema:
    spec, config, growth = _schema_of(SweepSpec), _schema_of(RunConfig), _schema_of(Growth)
    definitions = spec.pop("$defs") | config.pop("$defs") | {"Growth": growth}
    settings = _settings(config, definitions)
    variant = settings | {
        "description": "What is special about one curve: settings, and what it is called.",
        "properties": settings["properties"] | {"name": _LINE_NAME},
        "patternProperties": settings["patternProperties"] | {r"^name\.": {"type": "string"}},
    }
    fields = spec["properties"] | {
        "preset": {"enum": list(PRESETS), "description": "The preset to start from (`cvfp presets`)."},
        "growth": {
            "$ref": "#/$defs/Growth",
            "description": "Sizes that grow by a factor, instead of `samples`.",
        },
        "settings": {"$ref": "#/$defs/Settings"},
    }
    fields["variants"] |= {"items": {"$ref": "#/$defs/Variant"}}
    del fields["variants"]["default"]
    own_file = {"type": "string", "pattern": f"\\{OWN_SUFFIX}$"}
    for name in ("arms", "largest_only"):
        fields[name] |= {"items": {"anyOf": [{"enum": list(ARMS)}, own_file]}}
    for name in ("arms", "samples"):
        fields[name] |= {"uniqueItems": True}
    return {
        "type": "object",
        "description": "A sweep for `cvfp run FILE.toml`: what it varies, and the settings it shares.",
        "properties": fields,
        "additionalProperties": False,
        "anyOf": [{"required": [name]} for name in ("preset", "samples", "growth")],
        "not": {"required": ["samples", "growth"]},
        "$defs": definitions | {"Settings": settings, "Variant": variant},
    }


_LINE_NAME = {
    "anyOf": [{"type": "string"}, {"type": "object", "additionalProperties": {"type": "string"}}],
    "description": "What its curve is called; a table has a name for each model.",
}


def _settings(config: JsonSchema, definitions: dict[str, JsonSchema]) -> JsonSchema:
    """Tables of settings as they stand in a sweep file: without what a sweep varies, and nothing required."""
    for key in RESERVED:
        section, _dot, field = key.rpartition(".")
        holder = definitions[type(getattr(RunConfig(), section)).__name__] if section else config
        del holder["properties"][field]
    definitions["BySize"] = _by_size(definitions)
    properties = config["properties"] | {"by_size": {"$ref": "#/$defs/BySize"}}
    own = definitions.pop("OwnArm")
    properties["own"] = {
        "type": "object",
        "description": own["description"],
        "properties": {"settings": own["properties"]["settings"]},
        "additionalProperties": False,
    }
    fields: dict[str, list[str]] = {}
    for key in dotted_fields(RunConfig):
        section, dot, field = key.partition(".")
        if dot and key not in RESERVED:
            fields.setdefault(section, []).append(field)
    patterns = {rf"^{section}\.({'|'.join(names)})$": {} for section, names in fields.items()}
    return {
        "type": "object",
        "description": "Settings of every run, as `cvfp settings` lists them.",
        "properties": properties,
        "patternProperties": patterns | {r"^(by_size|own\.settings)\.": {}},
        "additionalProperties": False,
    }


def _by_size(definitions: dict[str, JsonSchema]) -> JsonSchema:
    """A value for each number of documents, of every setting that may follow it (`RunConfig.by_size`)."""
    sections = {}
    for section, field in RunConfig.model_fields.items():
        kind = field.annotation
        if isinstance(kind, type) and issubclass(kind, TokenTraining):
            fields = definitions[kind.__name__]["properties"]
            values = {
                name: {
                    "type": "object",
                    "patternProperties": {"^[0-9]+$": {"$ref": f"#/$defs/{kind.__name__}/properties/{name}"}},
                    "additionalProperties": False,
                }
                for name in fields
                if name not in SHAPE
            }
            sections[section] = {"type": "object", "properties": values, "additionalProperties": False}
    return {
        "type": "object",
        "description": field_meanings(RunConfig)["by_size"],
        "properties": sections,
        "additionalProperties": False,
    }


# --- All of them, and their files.


def _sealed(schema: JsonSchema) -> JsonSchema:
    """The schema of what `write_sealed` writes."""
    seal = {"type": "string", "description": "Hash of all that stands beside it."}
    return schema | {
        "properties": schema["properties"] | {SEAL: seal},
        "required": [*schema["required"], SEAL],
    }


_MADE: dict[str, tuple[str, Callable[[], JsonSchema]]] = {
    "sweep": ("A sweep file (TOML)", _sweep_file),
    "plan": (
        "plan.json: every planned run with all its settings, and the analysis",
        lambda: _schema_of(Plan),
    ),
    "record": (
        "runs/HASH/record.json: one finished or failed run",
        lambda: _sealed(_schema_of(RunRecord)),
    ),
    "metrics": ("A line of runs/HASH/metrics.jsonl: losses during training", lambda: _schema_of(Measurement)),
    "detailed_results": ("detailed_results.json: a row per run", lambda: _schema_of(list[PointRecord])),
    "summary": ("summary.json: a row per curve", lambda: _schema_of(list[SummaryRecord])),
    "alpha_progression": (
        "alpha_progression.json: exponents of sliding windows",
        lambda: _schema_of(list[ProgressionRecord]),
    ),
    "forecasts": (
        "forecasts.json: what was predicted of a size before it ran",
        lambda: _schema_of(list[SealedForecast]),
    ),
    "metadata": ("metadata.json: software, hardware, data, times", lambda: _schema_of(Metadata)),
    "tuning": (
        "tuning.json: what every model was given by `cvfp tune`, and chose",
        lambda: _schema_of(Tuning),
    ),
}
TITLES = {name: title for name, (title, _make) in _MADE.items()}
"""What each schema describes, by its name."""


def make_schema(name: str) -> JsonSchema:
    """The schema of that name (one of `TITLES`), made of the models."""
    title, make = _MADE[name]
    return _titled(make(), title)


def shipped_schema(name: str) -> str:
    """The text of the schema of that name, as it is shipped."""
    return resources.files("cvfp.lab").joinpath(FOLDER, name + SUFFIX).read_text(encoding="utf-8")


def write_schemas(folder: Path, names: Iterable[str] = TITLES) -> None:
    """Write the schemas into a folder, as they are to be shipped."""
    for name in names:
        write_json(folder / f"{name}{SUFFIX}", make_schema(name))


if __name__ == "__main__":
    write_schemas(Path(__file__).parent / FOLDER)
