"""The numbers of `fit_joint_table` as tables and sentences to print."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

from cvfp.report import numbers
from cvfp.report.fit_cells import RESULTS, Table, diverged_text, named_once, passes_text

LAW_HEADER = ("group", "N", "cells", "E", "A", "a", "B", "b", "best N grows as C^", "status")
OPTIMUM_HEADER = ("group", "N", "parameters", "95% interval", "tokens", "95% interval", "{result}", "where")
HOLDOUT_HEADER = ("group", "N", "hidden", "cells", "error (nats)", "predicted - measured", "in 95% interval")

INTERVALS = (
    "Intervals: 95% profile likelihood over cells of one model size and data size; "
    "errors that the cells of a seed share are not in them."
)


def joint_tables(result: dict[str, Any]) -> list[Table]:
    """The tables that have rows; a group is named in its first row only."""
    flops = {law["optimum"]["flops"] for _group, law in _laws(result) if law["optimum"] is not None}
    budget = "".join(f"{one:.4g}" for one in flops)
    tables: list[Table] = [
        (
            "L = E + A / N^a + B / D^b: N parameters, D tokens, L = ln PPL in nats",
            LAW_HEADER,
            law_rows(result),
        ),
        (f"Lowest loss for C = 6 * N * D = {budget} FLOPs", OPTIMUM_HEADER, optimum_rows(result)),
        ("Cells hidden, and predicted from the rest", HOLDOUT_HEADER, holdout_rows(result)),
    ]
    called = RESULTS[result["unit"]]
    return [
        (title, tuple(name.format(result=called) for name in header), named_once(rows))
        for title, header, rows in tables
        if rows
    ]


def law_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of cells per group and count of parameters, in the order of `LAW_HEADER`."""
    return [
        (
            group,
            law["params"],
            f"{law['n']} ({law['num_model_sizes']} N, {law['num_data_sizes']} D)",
            *(_parameter(law, name) for name in ("E", "A", "a", "B", "b", "share")),
            _status(law),
        )
        for group, law in _laws(result)
    ]


def optimum_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of cells per group and converged law, in the order of `OPTIMUM_HEADER`."""
    return [
        (
            group,
            law["params"],
            numbers.short_count(best["params"]),
            _counts(best["params_ci95"]),
            numbers.short_count(best["tokens"]),
            _counts(best["tokens_ci95"]),
            numbers.result(math.exp(best["loss"]), result["unit"]),
            "beyond the data" if best["beyond"] else "within the data",
        )
        for group, law in _laws(result)
        for best in [law["optimum"]]
        if best is not None
    ]


def holdout_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of cells per group, count of parameters and holdout, in the order of `HOLDOUT_HEADER`."""
    return [
        (group, law["params"], _hidden(one), str(one["n"]), *_scored(one))
        for group, law in _laws(result)
        for one in law["holdouts"]
    ]


def joint_texts(result: dict[str, Any]) -> list[str]:
    """The answer by each count of parameters, and where the answers differ."""
    texts = [_answer(group, law) for group, law in _laws(result)]
    for group in result["groups"]:
        first = group["laws"][0]["params"]
        if all(law["status"] != "converged" for law in group["laws"]):
            continue
        for other, names in group["differing"].items():
            words = ", ".join("best tokens" if name == "tokens" else name for name in names)
            said = f"changes the answer: {words}" if names else "changes nothing beyond the intervals"
            texts.append(f"{group['group']}: counting {other} instead of {first} {said}.")
    converged = any(law["status"] == "converged" for _group, law in _laws(result))
    texts += [INTERVALS] if converged else []
    texts = [*texts, passes_text(result["groups"]), diverged_text(result["diverged"])]
    return [text for text in texts if text]


def _laws(result: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    for group in result["groups"]:
        for law in group["laws"]:
            yield group["group"], law


def _answer(group: str, law: dict[str, Any]) -> str:
    if law["status"] != "converged":
        return f"{group}, {law['params']}: no answer, since {law['reason']}."
    share = law["parameters"]["share"]
    return (
        f"{group}, {law['params']}: more parameters and more data both lower the loss, to no less than "
        f"{numbers.decimals(law['parameters']['E'])} nats; of a budget C the best N grows as "
        f"C^{numbers.decimals(share)}, the best D as C^{numbers.decimals(1 - share)}."
    )


def _status(law: dict[str, Any]) -> str:
    status = law["status"].replace("_", " ")
    return status if law["reason"] is None else f"{status}: {law['reason']}"


def _parameter(law: dict[str, Any], name: str) -> str:
    if name not in law["parameters"]:
        return numbers.ABSENT
    value, interval = law["parameters"][name], law["ci95"].get(name)
    if name in ("A", "B"):
        return numbers.coefficient(value)
    shown = numbers.exponent(value)
    return shown if interval is None else f"{shown} ({numbers.exponent_interval((interval[0], interval[1]))})"


def _counts(interval: Sequence[float] | None) -> str:
    return numbers.ABSENT if interval is None else numbers.between(*map(numbers.short_count, interval))


def _hidden(holdout: dict[str, Any]) -> str:
    sizes = holdout["sizes"]
    if holdout["hidden"] == "params":
        return f"the largest model, {numbers.short_count(sizes[0])}"
    if len(sizes) == 1:
        return f"the largest data size, {numbers.short_count(sizes[0])}"
    return f"the {len(sizes)} largest data sizes, from {numbers.short_count(sizes[0])}"


def _scored(holdout: dict[str, Any]) -> tuple[str, str, str]:
    if holdout["rms"] is None:
        return f"{holdout['status'].replace('_', ' ')}: {holdout['reason']}", numbers.ABSENT, numbers.ABSENT
    return (
        numbers.decimals(holdout["rms"], 4),
        numbers.signed_decimals(holdout["bias"], 4),
        f"{holdout['held']} of {holdout['n']}",
    )
