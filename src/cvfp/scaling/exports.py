"""Shapes in which other tools write results, as rows: an object per measurement, a column per name.

JSON: a list of objects, an object of columns, what pandas, Hugging Face's trainer, lm-eval, MLflow, trackio
and Weights & Biases write. Of any table: a column per run as in charts of Weights & Biases, or a row per
metric.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cvfp.records.errors import InputError
from cvfp.records.files import parse_json
from cvfp.scaling.delimited import Found
from cvfp.scaling.numerals import is_missing

Rows = list[tuple[str, dict[str, Any]]]


def read_json_lines(path: Path, text: str) -> Found:
    """An object per line. Raises `InputError` that names a line that is none."""
    rows = [
        (f"{path}, line {number}", parse_json(line, f"{path}, line {number}"))
        for number, line in enumerate(text.split("\n"), 1)
        if line.strip()
    ]
    return Found([(where, row_of(where, item)) for where, item in rows])


def read_json(path: Path, text: str) -> Found:
    """The rows of a JSON text in one of the shapes of this module; lines of JSON, too.

    Raises:
        InputError: not JSON; no shape that is known, or several lists of objects: names what is needed.
    """
    try:
        value = parse_json(text, str(path))
    except InputError:
        if text.lstrip().startswith("{") and _is_json(text.strip().split("\n")[0]):
            return read_json_lines(path, text)
        raise
    items, said = items_of(value, str(path))
    rows = [(f"{path}, item {number}", item) for number, item in enumerate(items, 1)]
    return Found([(where, row_of(where, item)) for where, item in rows], said)


def _is_json(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False


def row_of(where: str, item: Any) -> dict[str, Any]:
    """An object as one row: names inside of it by their path ("metrics.val_ppl"), lists of a key and a
    value each as such names. Raises `InputError` where it is no object."""
    if not isinstance(item, Mapping):
        raise InputError(f"{where}: an object of columns is needed, got {_short(item)}")
    row: dict[str, Any] = {}
    for name, value in item.items():
        if name == "metrics" and isinstance(value, str) and value.startswith("{"):
            value = parse_json(value, f"{where}, {name}")  # trackio's database keeps them so
        if isinstance(value, list) and value and all(_is_key_and_value(one) for one in value):
            value = {one["key"]: one["value"] for one in value}
        if isinstance(value, Mapping):
            row |= {f"{name}.{inner}": found for inner, found in row_of(where, value).items()}
        else:
            row[str(name)] = value
    return row


def _is_key_and_value(value: Any) -> bool:
    return isinstance(value, Mapping) and {"key", "value"} <= value.keys()


def _short(value: Any) -> str:
    return json.dumps(value, default=str)[:40]


# --- JSON as a whole.


def items_of(value: Any, where: str) -> tuple[list[Any], list[str]]:
    """The objects that a JSON value holds as a table, one per row, and what was made of it.

    Raises:
        InputError: no shape that is known; says what there is.
    """
    for shape in (_objects, _lists, _lm_eval, _log_history, _one_metric, _split, _columns, _by_name):
        try:
            found = shape(value)
        except InputError as error:
            raise InputError(f"{where}: {error}") from error
        if found is not None:
            return found
    lists = (
        {key: item for key, item in value.items() if isinstance(item, list)}
        if isinstance(value, Mapping)
        else {}
    )
    of_objects = {key: item for key, item in lists.items() if any(isinstance(one, dict) for one in item)}
    if len(of_objects or lists) == 1:
        return next(iter((of_objects or lists).values())), []
    if isinstance(value, Mapping) and value and not lists and not _holds_objects(value):
        return [value], []
    found = f"lists: {', '.join(lists)}" if lists else "no list"
    raise InputError(f"{where}: a list of objects, or an object with one, is needed; found {found}")


Shape = tuple[list[Any], list[str]] | None


def _holds_objects(value: Mapping[str, Any]) -> bool:
    return any(isinstance(inner, Mapping) for inner in value.values())


def _objects(value: Any) -> Shape:
    """[{"tokens": 1, "ppl": 2}, ...]"""
    if not isinstance(value, list) or (value and all(isinstance(one, list) for one in value)):
        return None
    return value, []


def _lists(value: Any) -> Shape:
    """[["tokens", "ppl"], [1, 2], ...]"""
    if not isinstance(value, list):
        return None
    header, rows = value[0], value[1:]
    if not header or not all(isinstance(name, str) for name in header):
        raise InputError("a list of lists needs names in its first one")
    return [dict(zip(header, row, strict=False)) for row in rows], []


def _lm_eval(value: Any) -> Shape:
    """lm-eval: {"results": {"wikitext": {"word_perplexity,none": 10.05}}, "config": {...}}: a row per
    task."""
    if not isinstance(value, Mapping) or not isinstance(value.get("results"), Mapping):
        return None
    results = value["results"]
    names = {str(name) for found in results.values() if isinstance(found, Mapping) for name in found}
    if not any("," in name or name == "alias" for name in names):
        return None
    model = _model_of(value)
    rows = [
        {"task": task, **model, **{name.removesuffix(",none"): one for name, one in found.items()}}
        for task, found in results.items()
        if isinstance(found, Mapping)
    ]
    return rows, ["lm-eval results, a row per task"]


def _model_of(results: Mapping[str, Any]) -> dict[str, Any]:
    """What lm-eval says of its model: its name, its size, and the step that a name of a checkpoint ends
    in."""
    config = results.get("config")
    config = config if isinstance(config, Mapping) else {}
    arguments = config.get("model_args")
    if isinstance(arguments, str):
        arguments = dict(part.split("=", 1) for part in arguments.split(",") if "=" in part)
    arguments = arguments if isinstance(arguments, Mapping) else {}
    name = str(results.get("model_name") or arguments.get("pretrained") or "")
    step = re.compile(r"(?:^|[/_-])(?:step|checkpoint|ckpt|iter)[-_]?0*(\d+)(?:[/_-]|$)")
    places = [text for text in (str(arguments.get("revision", "")), name) if step.search(text)]
    found = {"model": step.sub("", name), "params": config.get("model_num_parameters")}
    steps = [step.findall(text)[-1] for text in places]
    return {key: one for key, one in found.items() if one} | ({"step": int(steps[0])} if steps else {})


def _log_history(value: Any) -> Shape:
    """trainer_state.json of Hugging Face's trainer."""
    if isinstance(value, Mapping) and isinstance(value.get("log_history"), list):
        return value["log_history"], []
    return None


def _one_metric(value: Any) -> Shape:
    """`trackio get metric --json`: {"run": ..., "metric": "val_loss", "values": [{"step": 1, "value": 2}]}"""
    if not isinstance(value, Mapping) or not isinstance(value.get("values"), list):
        return None
    name, run, rows = value.get("metric"), value.get("run"), value["values"]
    if not isinstance(name, str) or not all(isinstance(row, Mapping) and "value" in row for row in rows):
        return None
    of_run = {} if run is None else {"run": run}
    return [of_run | {name if key == "value" else key: one for key, one in row.items()} for row in rows], []


def _split(value: Any) -> Shape:
    """{"columns": ["tokens", "ppl"], "data": [[1, 2], ...]}"""
    if not isinstance(value, Mapping):
        return None
    columns, data = value.get("columns"), value.get("data")
    if not isinstance(columns, list) or not isinstance(data, list):
        return None
    if not all(isinstance(row, list) and len(row) == len(columns) for row in data):
        return None
    return [dict(zip(map(str, columns), row, strict=True)) for row in data], []


def _columns(value: Any) -> Shape:
    """{"tokens": [1, ...], "ppl": [2, ...]}; and with numbers of rows: {"tokens": {"0": 1, ...}, ...}."""
    if not isinstance(value, Mapping) or len(value) < 2:
        return None
    each = list(value.values())
    if all(isinstance(one, Mapping) and one for one in each):
        keys = list(each[0])
        if any(list(one) != keys for one in each) or not all(str(key).isdecimal() for key in keys):
            return None
        each = [list(one.values()) for one in each]
    lists = {name: one for name, one in zip(value, each, strict=True) if isinstance(one, list)}
    if len(lists) < 2 or any(isinstance(inner, dict | list) for one in lists.values() for inner in one):
        return None
    lengths = {len(one) for one in lists.values()}
    if lengths == {0}:
        return None
    if len(lengths) > 1:
        counts = ", ".join(f"{name} {len(one)}" for name, one in lists.items())
        raise InputError(f"an object of columns needs as many values in each; there are: {counts}")
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)], []


def _by_name(value: Any) -> Shape:
    """{"small": {"tokens": 1, "ppl": 2}, ...}: a row per name; {"small": [{...}, ...], ...}: several."""
    if not isinstance(value, Mapping) or len(value) < 2:
        return None
    each = list(value.values())
    if all(isinstance(one, Mapping) and one and not _holds_objects(one) for one in each):
        if len({tuple(one) for one in each}) > 1:
            return None
        return [{"name": name} | dict(row) for name, row in value.items()], []
    if not all(
        isinstance(one, list) and one and all(isinstance(row, Mapping) for row in one) for one in each
    ):
        return None
    if len({frozenset(row) for rows in each for row in rows}) > 1:
        return None
    return [{"run": name} | dict(row) for name, rows in value.items() for row in rows], ["a list per run"]


# --- Shapes of a table.


LOWEST_AND_HIGHEST = ("__MIN", "__MAX")
METRIC_COLUMNS = ("metric", "key", "variable", "tag", "metric_name")
"""Names of a column that says which metric a row has."""


def unfolded(found: Found) -> Found:
    """The rows of a table with one measurement each, whatever its shape."""
    for shape in (_runs_as_columns, _metrics_as_rows):
        rows, said = shape([*found.rows])
        if said:
            return Found(rows, [*found.said, said])
    return found


def _runs_as_columns(rows: Rows) -> tuple[Rows, str]:
    """Charts of Weights & Biases: columns `RUN - METRIC`, with `RUN - METRIC__MIN` and `__MAX` beside
    each."""
    columns = list(dict.fromkeys(column for _where, row in rows for column in row))
    ends = [column for column in columns if column.endswith(LOWEST_AND_HIGHEST)]
    plain = [column for column in columns if " - " in column and column not in ends]
    others = [column for column in columns if " - " not in column]
    known = [column for column in ends if column[: -len("__MIN")] in columns]
    if not plain or not (known or (len(plain) > 1 and len(others) <= 1)):
        return rows, ""
    split = {column: column.rsplit(" - ", 1) for column in plain}
    made: Rows = []
    for run in dict.fromkeys(run for run, _metric in split.values()):
        own = {column: metric for column, (name, metric) in split.items() if name == run}
        for where, row in rows:
            values = {metric: row.get(column) for column, metric in own.items()}
            if not all(map(is_missing, values.values())):
                made.append((where, {"run": run, **{name: row.get(name) for name in others}, **values}))
    return made, "a column per run, each of which is a line" + (", without __MIN and __MAX" if ends else "")


def _metrics_as_rows(rows: Rows) -> tuple[Rows, str]:
    """Long tables: a column says which metric the row has, another its value. Rows that agree in all else
    but the time are one."""
    columns = list(dict.fromkeys(column for _where, row in rows for column in row))
    named = [name for name in columns if name.lower() in METRIC_COLUMNS]
    values = [name for name in columns if name.lower() == "value"]
    if len(named) != 1 or len(values) != 1:
        return rows, ""
    (metric,), (value,) = named, values
    times = {name for name in columns if re.search("time|date", name, re.IGNORECASE)}
    made: dict[tuple, tuple[str, dict[str, Any]]] = {}
    times_seen: Counter[tuple] = Counter()
    for where, row in rows:
        rest = {name: one for name, one in row.items() if name not in (metric, value) and name not in times}
        name = str(row.get(metric))
        key = tuple((one, repr(of)) for one, of in rest.items())
        number = times_seen[
            name, key
        ]  # once more: a tracker that was restarted, or another run without a name
        times_seen[name, key] += 1
        made.setdefault((*key, number), (where, dict(rest)))[1][name] = row.get(value)
    return list(made.values()), f"a row per metric, by {metric!r}"


def plain_value(value: Any) -> Any:
    """What a cell of a frame or a dictionary holds as Python has it: numbers of numpy as numbers, None
    where there is nothing."""
    item: Callable[[], Any] | None = getattr(value, "item", None)
    if callable(item) and getattr(value, "ndim", None) == 0:
        value = item()
    if type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value)):
        return None
    return value
