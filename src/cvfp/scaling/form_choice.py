"""Which form a line follows: judged by what each says of a size that was left out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cvfp.scaling.estimate import across_draws
from cvfp.scaling.forms import (
    NUM_PARAMETERS,
    ROUNDING,
    FormFit,
    FormName,
    fit_forms,
    possible_forms,
    statuses,
)
from cvfp.scaling.points import Points
from cvfp.scaling.profile import fit_profiles
from cvfp.scaling.refits import refit_power_laws

FormVerdict = Literal["preferred", "not distinguishable", "worse", "not compared"]

EVIDENCE = 8.0
"""n * ln(score / best score) from which a form of one line is worse. As n * ln of a leave-one-out score is
AIC but for a constant (Stone 1977), this is an evidence ratio of e^4. Measured: on 5 or 8 sizes over a factor
of 16, with a noise of the loss of 0.01 to 0.03, a wrong form is preferred in at most 6% of lines; with 4 it
is in 16%."""


@dataclass(frozen=True)
class ComparedForm:
    """A form with its verdict: `preferred` when every other compared one is worse; `not distinguishable` for
    the best and those that are not worse than it; `not compared` when it may not be extrapolated, or
    when there is no choice to make. So a preferred `loss_power` may have a floor, where `loss_floor` is not
    identifiable.
    """

    fit: FormFit
    loo_rms: float | None
    """Root mean square, nats, of the errors at sizes left out; None with too few sizes."""
    verdict: FormVerdict


def compare_forms(points: Points) -> list[ComparedForm]:
    """All forms of one line, with the choice between them.

    The score of a form is the mean squared error, nats^2, of L at each size in turn
    (`Points.folds`), predicted from the others. Leave-one-out and not AICc, which is not defined for three
    parameters and five sizes (n - k - 1 = 0 with the noise's variance among the k), takes points for
    independent, and knows nothing of extrapolation; two of the left-out sizes are outside of those fitted. A
    form is scored with two sizes more than parameters, of several draws with one more.

    A form is worse than the best when, of one line, n * ln(score / best) >= `EVIDENCE`; of several draws,
    when Student's t interval of ln(score / best) across them is above 0. With fewer than two
    converged forms, or with one of them that has too few sizes for a score, all are `not compared`.

    Raises:
        InputError: fewer than two sizes.
    """
    rows = points.log_ppl[None]
    scores = {form: left_out_errors(points, form, rows)[0] for form in possible_forms(points)}
    verdicts = form_verdicts(points, rows)[0]
    return [ComparedForm(fit, _rms(scores[fit.form]), verdicts[fit.form]) for fit in fit_forms(points)]


def form_verdicts(points: Points, rows: np.ndarray) -> list[dict[FormName, FormVerdict]]:
    """The verdicts of `compare_forms` for each row (m, n) of values of ln PPL at these points."""
    units = points.units(3)
    forms = possible_forms(points)
    errors = {form: left_out_errors(points, form, rows) for form in forms}
    scores = {  # (m, units), nan without a score
        form: np.stack([np.maximum(e[:, unit].mean(axis=1), ROUNDING**2) for unit in units], axis=1)
        for form, e in errors.items()
    }
    known = {form: statuses(points, form, rows) for form in forms}
    verdicts = []
    for row in range(len(rows)):
        compared = {form: score[row] for form, score in scores.items() if known[form][row] == "converged"}
        verdicts.append(_verdicts(compared, [len(unit) for unit in units]))
    return verdicts


def preferred(verdicts: dict[FormName, FormVerdict]) -> str:
    """The choice as one text: the name of the preferred form, or "not distinguishable", or "not testable"."""
    for form, verdict in verdicts.items():
        if verdict == "preferred":
            return form
    return "not distinguishable" if "not distinguishable" in verdicts.values() else "not testable"


def choices(points: Points, rows: np.ndarray) -> list[str]:
    """The choice as one text for each row (m, n) of values of ln PPL at these points."""
    return [preferred(verdicts) for verdicts in form_verdicts(points, rows)]


def left_out_errors(points: Points, form: FormName, rows: np.ndarray) -> np.ndarray:
    """Squared errors (m, n), nats^2, of each L, predicted by the form's fit to the other sizes of its unit.

    All nan where there are too few sizes.
    """
    least, found = NUM_PARAMETERS[form] + 1, np.full(rows.shape, np.nan)
    units = points.units(least)
    if points.fewest_sizes(units) < (least if len(units) > 1 else least + 1):
        return found
    parts = [
        (unit[inside], unit[~inside])
        for unit in units
        for sizes in points.kept(unit).folds()
        for inside in (np.isin(points.sizes[unit], sizes),)
    ]
    x = points.log_tokens
    predictions = _predicted([(x[rest], rows[:, rest], x[out]) for out, rest in parts], form)
    for (out, _), predicted in zip(parts, predictions, strict=True):
        found[:, out] = (rows[:, out] - predicted) ** 2
    return found


def _predicted(
    parts: Sequence[tuple[np.ndarray, np.ndarray, np.ndarray]], form: FormName
) -> list[np.ndarray]:
    """L (m, k) at the third of each part, ln D (k,), by a fit to ln D (n,) and losses (m, n)."""
    if form == "ppl_power":
        laws = [refit_power_laws(np.exp(x), np.exp(losses)) for x, losses, _ in parts]
        return [
            log_As[:, None] + alphas[:, None] * at
            for (alphas, log_As), (*_, at) in zip(laws, parts, strict=True)
        ]
    fits = fit_profiles([x for x, *_ in parts], [losses for _, losses, _ in parts], form == "loss_floor")
    return [fit.loss(at) for fit, (*_, at) in zip(fits, parts, strict=True)]


def _verdicts(compared: dict[FormName, np.ndarray], counts: Sequence[int]) -> dict[FormName, FormVerdict]:
    verdicts: dict[FormName, FormVerdict] = dict.fromkeys(NUM_PARAMETERS, "not compared")
    if len(compared) < 2 or not all(np.isfinite(score).all() for score in compared.values()):
        return verdicts
    best = min(compared, key=lambda form: np.log(compared[form]).mean())
    for form, score in compared.items():
        verdicts[form] = (
            "worse" if _is_worse(np.log(score / compared[best]), counts) else "not distinguishable"
        )
    if list(verdicts.values()).count("not distinguishable") == 1:
        verdicts[best] = "preferred"
    return verdicts


def _is_worse(log_ratios: np.ndarray, counts: Sequence[int]) -> bool:
    """Of ln(score / best), one per unit of so many points."""
    if len(log_ratios) == 1:
        return bool(counts[0] * log_ratios[0] >= EVIDENCE)
    return across_draws(log_ratios).sign == 1


def _rms(errors: np.ndarray) -> float | None:
    return float(np.sqrt(errors.mean())) if np.isfinite(errors).all() else None
