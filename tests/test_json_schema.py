"""Claims: the shipped JSON Schemas are those of the models, and fit what these read and write."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from docs_helpers import ROOT, blocks_of
from jsonschema import Draft202012Validator
from marks import one_quick
from test_cli import assert_one_line, call

from cvfp.lab.json_schema import SUFFIX, TITLES, make_schema, shipped_schema, write_schemas
from cvfp.lab.plan import make_plan, read_spec
from cvfp.lab.presets import PRESETS
from cvfp.records.config import nest
from cvfp.records.errors import InputError
from cvfp.records.settings import all_settings

RESULTS = ROOT / "docs" / "results"
EARLIER = RESULTS / "v1" / "summary.json"
"""Written before its exclusions had fields; it follows from the records, and nothing reads it."""
KEPT = sorted(path.parent for path in RESULTS.rglob("plan.json"))


@cache
def validator(name: str) -> Draft202012Validator:
    return Draft202012Validator(json.loads(shipped_schema(name)))


def troubles(name: str, value: Any) -> list[str]:
    """What a schema has against a value."""
    return [f"{error.json_path}: {error.message}"[:300] for error in validator(name).iter_errors(value)]


def as_file(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings by dotted key as a TOML file has them."""
    return nest(settings, "a test")


@pytest.mark.parametrize("name", TITLES)
def test_what_is_shipped_is_made_of_the_models_of_now(name: str, tmp_path: Path):
    """`make schemas` writes them again."""
    write_schemas(tmp_path, [name])
    assert (tmp_path / f"{name}{SUFFIX}").read_text(encoding="utf-8") == shipped_schema(name)
    Draft202012Validator.check_schema(make_schema(name))


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_written_as_a_file_fits(name: str):
    spec = PRESETS[name].model_dump(mode="json")
    flat = spec | {"variants": [dict(each) for each in spec["variants"]]}
    assert troubles("sweep", flat) == []  # keys in quotation marks
    nested = spec | {
        "settings": as_file(spec["settings"]),
        "variants": [as_file(each) for each in spec["variants"]],
    }
    assert troubles("sweep", nested) == []
    assert troubles("sweep", {"preset": name}) == []


def sweep_files() -> Iterator[tuple[str, str]]:
    """Every sweep file that people are shown: where, and its text."""
    for path in (*ROOT.glob("examples/*.toml"), *ROOT.glob("README*.md"), *ROOT.glob("docs/**/*.md")):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            yield path.name, text
        else:
            yield from ((path.name, block.text) for block in blocks_of(text) if block.language == "toml")


def test_every_sweep_file_that_is_shown_fits_and_can_be_planned(tmp_path: Path):
    found = list(sweep_files())
    assert {"narrow.toml", "README.md", "README.ja.md", "schemas.md"} <= {name for name, _text in found}
    for name, text in found:
        assert troubles("sweep", tomllib.loads(text)) == [], name
        path = tmp_path / "sweep.toml"
        path.write_text(text, encoding="utf-8")
        assert make_plan(read_spec(path, PRESETS)).points


def test_the_example_names_its_schema():
    example = ROOT / "examples" / "narrow.toml"
    (named,) = re.findall(r"^#:schema (\S+)$", example.read_text(encoding="utf-8"), re.MULTILINE)
    assert (example.parent / named).read_text(encoding="utf-8") == shipped_schema("sweep")


GOOD = {"samples": [50, 100]}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "samples = [50]\ngrowth = {start = 5, multiplier = 2, window_size = 3}",
        "samples = []",
        "samples = [0]",
        "samples = [50, 50]",
        "samples = [50]\nsample = 3",
        "samples = [50]\narms = ['cvpf']",
        "samples = [50]\nseeds = 'three'",
        "samples = [50]\nvariants = []",
        "samples = [50]\n[analysis]\nwindow_size = 1",
        "growth = {start = 5, multiplier = 1, window_size = 3}",
        "preset = 'v9'",
        "samples = [50]\n[settings]\nmodel.context_dmi = 3",
        "samples = [50]\n[settings]\n'model.context_dmi' = 3",
        "samples = [50]\n[settings]\nmodel.context_dim = 0",
        "samples = [50]\n[settings]\njoint.cell = 'gru'",
        "samples = [50]\n[settings]\narm = 'cvfp'",
        "samples = [50]\n[settings]\ndata.num_samples = 5",
        "samples = [50]\n[settings]\nby_size.joint.lr.50 = -1.0",
        "samples = [50]\n[settings]\nby_size.joint.cell.50 = 'lstm'",
        "samples = [50]\n[settings]\nby_size.joint.lr.fifty = 0.1",
        "samples = [50]\n[[variants]]\nphase1.dist_reg_weight = 2",
    ],
)
def test_what_a_schema_refuses_cannot_be_run_either(text: str, tmp_path: Path):
    path = tmp_path / "sweep.toml"
    path.write_text(text, encoding="utf-8")
    assert troubles("sweep", tomllib.loads(text))
    with pytest.raises(InputError):
        make_plan(read_spec(path, PRESETS))


def test_names_of_lines_and_arms_of_your_own_fit():
    variants = [{"name": "narrow"}, {"name": {"lstm": "plain"}}, {"name.lstm": "plain"}, {"seed": 3}]
    own = {"own": {"settings": {"lr": 0.004, "layers": 2, "gated": True}}}
    assert (
        troubles("sweep", GOOD | {"arms": ["cvfp", "my_model.py"], "variants": variants, "settings": own})
        == []
    )


def test_an_editor_has_a_meaning_for_every_setting():
    schema = make_schema("sweep")
    missing = [
        one.key
        for one in all_settings()
        if one.key not in ("arm", "own", "data.num_samples", "data.draw_seed")
        and one.meaning not in {each.get("description") for each in fields_at(schema, one.key)}
    ]
    assert missing == []


def fields_at(schema: dict[str, Any], key: str) -> Iterator[dict[str, Any]]:
    """What a sweep schema says of a setting."""
    found = schema["$defs"]["Settings"]
    for part in key.split("."):
        found = found["properties"][part]
        if "$ref" in found:
            found = schema["$defs"][found["$ref"].rpartition("/")[2]]
    yield found


def values_of(sweep: Path) -> Iterator[tuple[str, Path, Any]]:
    """Every record of a kept sweep: the name of its schema, its file, its value."""
    for path in (*sweep.glob("*.json"), *sweep.glob("runs/*/record.json")):
        if path != EARLIER:
            yield path.stem, path, json.loads(path.read_text(encoding="utf-8"))
    for path in sweep.glob("runs/*/metrics.jsonl"):
        for line in path.read_text(encoding="utf-8").splitlines()[:3]:
            yield "metrics", path, json.loads(line)


@pytest.mark.parametrize("sweep", one_quick(RESULTS / "v3", *(each for each in KEPT if each.name != "v3")))
def test_every_record_that_is_kept_fits(sweep: Path):
    seen = set()
    for name, path, value in values_of(sweep):
        assert troubles(name, value) == [], path
        seen.add(name)
    assert {"plan", "record", "metadata"} <= seen


@pytest.mark.parametrize(
    ("name", "file", "change"),
    [
        ("record", "record.json", lambda value: value.pop("digest")),
        ("record", "record.json", lambda value: value["point"].update(val_ppl=0.5)),
        ("record", "record.json", lambda value: value["point"].update(perplexity=5.0)),
        ("plan", "plan.json", lambda value: value["points"][0]["config"]["model"].update(cell="gru")),
        ("plan", "plan.json", lambda value: value.pop("points")),
    ],
)
def test_a_record_that_is_none_does_not_fit(name: str, file: str, change: Any):
    value = json.loads(next(RESULTS.glob(f"v3/**/{file}")).read_text(encoding="utf-8"))
    assert troubles(name, value) == []
    change(value)
    assert troubles(name, value)


def test_the_command_prints_what_is_shipped(capsys):
    assert call(capsys, "schema", "record") == (0, shipped_schema("record"), "")
    code, listed, _err = call(capsys, "schema")
    assert code == 0 and all(name in listed for name in TITLES)
    code, out, err = call(capsys, "schema", "recrod")
    assert (code, out) == (2, "")
    assert_one_line(err, "unknown schema 'recrod'", "did you mean 'record'")
