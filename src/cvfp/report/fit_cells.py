"""The numbers of `fit_table` as tables and sentences to print."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cvfp.records.results import OF_ONE_DRAW
from cvfp.report import numbers
from cvfp.report.verdicts import crossover_text, flip_texts, probability
from cvfp.scaling import forms
from cvfp.scaling.difference import Crossover
from cvfp.scaling.outlook import REFUSALS
from cvfp.scaling.robustness import Flip
from cvfp.scaling.units import Unit

Table = tuple[str, tuple[str, ...], list[tuple[str, ...]]]
"""Title, header, rows."""

RESULTS: dict[Unit, str] = {"ppl": "PPL", "nats": "loss in nats", "bits": "loss in bits"}
"""What a result is called, by its unit."""
TITLES: dict[Unit, str] = {
    "ppl": "PPL = A * tokens^alpha",
    "nats": "PPL = exp(loss) = A * tokens^alpha",
    "bits": "PPL = 2^loss = A * tokens^alpha",
}

HEADER = (
    "group",
    "n",
    "alpha",
    "95% interval",
    "A",
    "R²",
    "forecast {result} (95% interval of the law; of one new run)",
)
WINDOW_HEADER = ("group", "sizes", "alpha", "95% interval", "A", "R²")
FORM_HEADER = ("group", "form", "verdict", "parameters", "error at sizes left out (nats)")
BEND_HEADER = ("group", "alpha between neighbouring sizes", "curvature", "95% interval", "verdict")
HOLDOUT_HEADER = ("group", "form", "predicted {result}", "interval score (nats)", "over last slope", "held")

MOST_SHOWN = 12
"""Of a list in a cell."""
PREDICTORS = {**forms.FORMULAS, "outlook": "the forecast", "last_slope": "last local slope"}


def fit_tables(result: dict[str, Any]) -> list[Table]:
    """The tables that have rows; a group is named in its first row only."""
    tables = [
        (TITLES[result["unit"]], HEADER, text_rows(result)),
        ("Sliding windows", WINDOW_HEADER, window_rows(result)),
        ("Forms of the law: D tokens, L = ln PPL in nats", FORM_HEADER, form_rows(result)),
        ("Does the exponent change", BEND_HEADER, bend_rows(result)),
        ("The largest sizes hidden, and predicted from the rest", HOLDOUT_HEADER, holdout_rows(result)),
    ]
    called = RESULTS[result["unit"]]
    return [
        (title, tuple(name.format(result=called) for name in header), named_once(rows))
        for title, header, rows in tables
        if rows
    ]


def named_once(rows: list[tuple[str, ...]]) -> list[tuple[str, ...]]:
    """Rows whose first cell, the name of a group, is empty where the row before has the same."""
    names = [None, *(row[0] for row in rows)]
    return [("" if row[0] == before else row[0], *row[1:]) for row, before in zip(rows, names, strict=False)]


def fit_texts(result: dict[str, Any]) -> list[str]:
    """What the intervals are, verdicts that do not survive, and the difference of two groups."""
    kinds = dict.fromkeys(group["interval_kind"] for group in result["groups"])
    texts = [" ".join(numbers.INTERVAL_KINDS[kind] for kind in kinds if kind is not None)]
    texts.append(passes_text(result["groups"]))
    texts.append(diverged_text(result["diverged"]))
    for group in result["groups"]:
        texts += _flip_texts(group["group"], group["robustness"])
    if "difference" in result:
        texts += _difference_texts(result["difference"])
    return [text for text in texts if text]


def diverged_text(diverged: dict[str, Any]) -> str:
    """How many rows no law is of since their runs diverged, and which; empty without any."""
    if not diverged["count"]:
        return ""
    more = diverged["count"] - MOST_SHOWN
    rows = [*diverged["rows"][:MOST_SHOWN], *([f"{more} more"] if more > 0 else [])]
    return f"Diverged, and in no law: {diverged['count']} ({'; '.join(rows)})."


def passes_text(groups: Sequence[dict[str, Any]]) -> str:
    """Which groups read their data more than once; empty where none does, or no column says so."""
    repeated = [(group["group"], _pair(group["passes"])) for group in groups if group["passes"] is not None]
    if not repeated:
        return ""
    shown = ", ".join(
        f"{name} {numbers.times_read(passes)}" for name, passes in repeated if passes is not None
    )
    return (
        f"Repeated data, each token read so many times: {shown}. Their laws are of distinct tokens; a floor "
        "is that of repeated data, and fresh text may go below it."
    )


def text_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of cells per group of `fit_table`'s result, in the order of `HEADER`."""
    return [
        (group["group"], str(group["n"]), *_law_cells(group), _forecasts(group, result["unit"]))
        for group in result["groups"]
    ]


def window_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of cells per window, in the order of `WINDOW_HEADER`."""
    return [
        (group["group"], _sizes(window), *_law_cells(window))
        for group in result["groups"]
        for window in group["windows"]
    ]


def form_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of cells per group and form, in the order of `FORM_HEADER`."""
    return [
        (
            group["group"],
            form["formula"],
            _form_verdict(form),
            ", ".join(_parameter(form, name, group["passes"] is not None) for name in form["parameters"]),
            numbers.ABSENT if form["loo_rms"] is None else numbers.decimals(form["loo_rms"], 4),
        )
        for group in result["groups"]
        for form in group["forms"]
    ]


def bend_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of cells per group with a law, in the order of `BEND_HEADER`."""
    rows = []
    for group in result["groups"]:
        found = group["curvature"]
        if found is None:
            continue
        value = (
            numbers.ABSENT if found["coefficient"] is None else numbers.signed_exponent(found["coefficient"])
        )
        exponents = _in_short([numbers.exponent(one["alpha"]) for one in group["local_exponents"]])
        interval = numbers.signed_exponent_interval(_pair(found["ci95"]))
        rows.append((group["group"], exponents, value, interval, found["verdict"]))
    return rows


def _in_short(shown: Sequence[str]) -> str:
    """All of a short list; of a long one both ends, and how many are between."""
    if len(shown) <= MOST_SHOWN:
        return ", ".join(shown)
    end = MOST_SHOWN // 2
    return f"{', '.join(shown[:end])}, ... {len(shown) - 2 * end} more ..., {', '.join(shown[-end:])}"


def holdout_rows(result: dict[str, Any]) -> list[tuple[str, ...]]:
    """One row of cells per group and form that was asked to predict, in the order of `HOLDOUT_HEADER`."""
    return [
        (group["group"], *_scored(form, result["unit"]))
        for group in result["groups"]
        if group["holdout"] is not None
        for form in group["holdout"]["forms"]
    ]


def _scored(form: dict[str, Any], unit: Unit) -> tuple[str, ...]:
    name = PREDICTORS[form["form"]]
    if not form["predictions"]:
        why = "no interval" if form["status"] == "converged" else _refused(form["status"])
        return (name, why, *[numbers.ABSENT] * 3)
    held = sum(one["held"] for one in form["predictions"])
    return (
        name,
        "; ".join(
            f"{_short_forecast(one | {'ppl': one['predicted']}, unit)}, measured "
            f"{numbers.result(one['measured'], unit)}"
            for one in form["predictions"]
        ),
        numbers.decimals(form["interval_score"]),
        numbers.decimals(form["ratio"], 2),
        f"{held} of {len(form['predictions'])}",
    )


def _refused(status: str) -> str:
    """Why a form said nothing: the forecast was refused, or its parameters are not determined."""
    reasons: dict[str, str] = {**REFUSALS}
    return reasons.get(status, status.replace("_", " "))


def _form_verdict(form: dict[str, Any]) -> str:
    return form["verdict"] if form["status"] == "converged" else form["status"].replace("_", " ")


def _parameter(form: dict[str, Any], name: str, repeated: bool) -> str:
    value, interval = form["parameters"][name], _pair(form["ci95"].get(name))
    if name in ("A", "B"):
        return f"{name} {numbers.coefficient(value)}"
    shown = f"{name} {numbers.exponent(value)}"
    if interval is not None:
        shown += f" ({numbers.exponent_interval(interval)})"
    return f"{shown} of repeated data" if name == "E" and repeated and value > 0 else shown


def _flip_texts(name: str, found: Sequence[dict[str, Any]]) -> list[str]:
    flips = [
        Flip(one["verdict"], one["given"], one["becomes"], one["by"], _pair(one["dropped"])) for one in found
    ]
    return flip_texts(name, flips)


def _difference_texts(found: dict[str, Any]) -> list[str]:
    first, second = found["first"], found["second"]
    words = {
        "first falls faster": f"{first} falls faster",
        "second falls faster": f"{second} falls faster",
        "no verdict": "no verdict from one seed",
    }
    pairing = (
        f"{found['n']} pairs" if found["paired"] else "unpaired: no two sizes with equal seeds and tokens"
    )
    interval = numbers.signed_exponent_interval(_pair(found["alpha_difference_ci95"]))
    texts = [
        f"{second} against {first} ({pairing}): alpha {numbers.signed_exponent(found['alpha_difference'])} "
        f"(95% interval {interval}), {words.get(found['verdict'], found['verdict'])}."
    ]
    if found["first_ahead"] is not None:
        known = "" if found["interval_kind"] not in OF_ONE_DRAW else ", as far as one seed tells"
        texts.append(
            f"If both power laws go on, {first} is lower at {numbers.tokens(found['ahead_tokens'])} tokens "
            f"with probability {probability(found['first_ahead'])}{known}."
        )
    return [
        *texts,
        *_data_texts(found),
        _crossover_text(found),
        *_flip_texts(f"{first}, {second}", found["robustness"]),
    ]


def _data_texts(found: dict[str, Any]) -> list[str]:
    """The data that the second needs for the PPL of the first: at the largest size where that was measured of
    most seeds, and what is known at a larger one."""
    ratios = found["data_ratios"]
    if not ratios:
        return []
    measured = [one for one in ratios if one["ratio"] is not None]
    most = max((one["draws"] for one in measured), default=0)
    told = [one for one in measured if one["draws"] == most][-1:]
    last = ratios[-1]
    texts = [_reached_text(found, one) for one in told]
    return texts if last in told else [*texts, _reached_text(found, last)]


def _reached_text(found: dict[str, Any], one: dict[str, Any]) -> str:
    first, second, tokens = found["first"], found["second"], numbers.tokens(one["tokens"])
    begin = f"{second} reaches the PPL that {first} has at {tokens} tokens"
    if one["ratio"] is not None:
        over = "1 seed"
        if one["interval"] is not None:
            low, high = (numbers.decimals(end, 2) for end in one["interval"])
            over = f"95% interval over seeds {numbers.between(low, high)}"
        return f"{begin} with {numbers.decimals(one['ratio'], 2)} times the data ({over})."
    bound = numbers.decimals(one["bound"], 2)
    return {
        "before": f"{begin} with less than {bound} times the data, its smallest size.",
        "never": f"{second} has not reached the PPL that {first} has at {tokens} tokens with {bound} times "
        "the data, its largest size.",
        "differs": f"Seeds differ in whether {second} has reached the PPL that {first} has at {tokens} "
        "tokens.",
    }[one["reached"]]


def _crossover_text(found: dict[str, Any]) -> str:
    said = found["crossover"]
    crossed = Crossover(said["status"], said["tokens"], _pair(said["interval"]))
    return crossover_text(crossed, found["interval_kind"])


def _law_cells(law: dict[str, Any]) -> tuple[str, str, str, str]:
    return (
        numbers.exponent(law["alpha"]),
        numbers.exponent_interval(_pair(law["alpha_ci95"])),
        numbers.coefficient(law["A"]),
        numbers.r_squared(law["r_squared"]),
    )


def _pair(interval: Sequence[float] | None) -> tuple[float, float] | None:
    return None if interval is None else (interval[0], interval[1])


def _forecasts(group: dict[str, Any], unit: Unit) -> str:
    """The one forecast of a group, or why there is none."""
    if group["no_forecast"] is not None:
        slopes = group["local_exponents"]
        last = f"; last local slope {numbers.exponent(slopes[-1]['alpha'])}" if slopes else ""
        return f"no forecast: {group['no_forecast']}{last}"
    return "; ".join(_forecast(one, unit) for one in group["extrapolation"])


def _forecast(one: dict[str, Any], unit: Unit) -> str:
    law, run = (numbers.result_interval(one[f"{of}low"], one[f"{of}high"], unit) for of in ("", "run_"))
    return f"{numbers.result(one['ppl'], unit)} at {numbers.tokens(one['tokens'])} tokens ({law}; {run})"


def _short_forecast(one: dict[str, Any], unit: Unit) -> str:
    interval = "" if one["low"] is None else f" ({numbers.result_interval(one['low'], one['high'], unit)})"
    return f"{numbers.short_count(one['tokens'])}: {numbers.result(one['ppl'], unit)}{interval}"


def _sizes(window: dict[str, Any]) -> str:
    if window["sample_range"] is None:
        return f"{numbers.count_range(window['token_range'])} tokens"
    shown = f"{numbers.count_range(window['sample_range'])} samples"
    return f"{shown}, {numbers.without(window['missing_sizes'])}" if window["missing_sizes"] else shown
