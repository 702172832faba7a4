"""Every setting of a run with its default and its meaning: what `--set KEY=VALUE` takes."""

from __future__ import annotations

import ast
import inspect
from dataclasses import dataclass

from pydantic import BaseModel

from cvfp.records.config import RunConfig


@dataclass(frozen=True)
class Setting:
    """One field of a run's config, by its dotted key."""

    key: str
    default: str
    meaning: str
    """As the text below the field says."""

    @property
    def section(self) -> str:
        """What stands before the dot; empty for a field of the run itself."""
        return self.key.rpartition(".")[0]


def all_settings(schema: type[BaseModel] = RunConfig, prefix: str = "") -> list[Setting]:
    """The settings of a schema, section after section, those of the run itself first."""
    meanings, found, sections = field_meanings(schema), [], []
    for name, field in schema.model_fields.items():
        kind = field.annotation
        if inspect.isclass(kind) and issubclass(kind, BaseModel):
            sections += all_settings(kind, f"{prefix}{name}.")
        else:
            default = str(field.get_default(call_default_factory=True))
            found.append(Setting(f"{prefix}{name}", default, meanings.get(name, "")))
    return [*found, *sections]


def section_meaning(section: str) -> str:
    """What a section of a run's config is, in a line."""
    return " ".join((inspect.getdoc(RunConfig.model_fields[section].annotation) or "").split())


def field_meanings(schema: type[BaseModel]) -> dict[str, str]:
    """The text below each field of a class and of those it comes from."""
    found: dict[str, str] = {}
    for each in reversed([one for one in schema.__mro__ if one.__module__.startswith("cvfp.")]):
        (definition,) = ast.parse(inspect.getsource(each)).body
        assert isinstance(definition, ast.ClassDef)
        for statement, following in zip(definition.body, [*definition.body[1:], None], strict=True):
            match statement, following:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(text))),
                ):
                    found[name] = " ".join(text.split())
    return found
