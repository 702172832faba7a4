"""The forms a line may follow, each fitted to its points, with a status that says what the fit is worth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import fdtri

from cvfp.records.errors import InputError
from cvfp.scaling.draws import Law, MeanOfDraws, fit_draws
from cvfp.scaling.estimate import across_draws
from cvfp.scaling.loss_law import LossLaw, loss_law
from cvfp.scaling.points import Points
from cvfp.scaling.power_law import PowerLaw
from cvfp.scaling.profile import Profile, fit_profile, fit_profiles

FormName = Literal["ppl_power", "loss_power", "loss_floor"]
FormStatus = Literal["converged", "at_bound", "not_identifiable"]
NUM_PARAMETERS: dict[FormName, int] = {"ppl_power": 2, "loss_power": 2, "loss_floor": 3}
FORMULAS: dict[FormName, str] = {
    "ppl_power": "PPL = A * D^alpha",
    "loss_power": "L = B * D^-beta",
    "loss_floor": "L = E + B * D^-beta",
}
"""L = ln PPL in nats; D tokens."""

ROUNDING = 1e-9
"""Nats: root mean squares of residuals below this are rounding, of sums and of the search for beta."""


@dataclass(frozen=True)
class FormFit:
    """One form, fitted to one line: per draw where there are several, with the mean of ln PPL over them.

    `status`:
        converged: the parameters are determined; only then may the law be extrapolated (`extrapolates`).
        at_bound: the best loss does not fall, or falls to its floor at once (beta at a bound of its search,
            `profile.BENDS`); or the best floor is E = 0, which is the form without one.
        not_identifiable: no more points than parameters (of several draws: fewer sizes than parameters); or
            the floor cannot be told from none. Of one line: RSS(E = 0) - RSS <= F * RSS / (n - 3), F the 95%
            quantile of F(1, n - 3): the 95% interval of the profile likelihood of E reaches 0 (it is flat
            there). Of several draws: Student's t interval of E across them does.
    """

    form: FormName
    status: FormStatus
    law: Law | LossLaw | MeanOfDraws | None
    """None with fewer distinct sizes than parameters."""
    rss: float | None
    """Sum of squared residuals of L, nats^2, of all draws, each about its own law."""

    @property
    def extrapolates(self) -> bool:
        return self.status == "converged"

    @property
    def parameters(self) -> dict[str, float | None]:
        """By name: A, alpha; B, beta; E too. Of several draws: means (of A and B geometric)."""
        if self.law is None:
            return {}
        if self.form == "ppl_power":
            return {"A": self.law.A, "alpha": self.law.alpha}
        laws = _laws(self.law)
        beta, E = (float(np.mean([getattr(law, name) for law in laws])) for name in ("beta", "E"))
        Bs = [law.B for law in laws]
        B = None if None in Bs or min(Bs) <= 0 else float(np.exp(np.mean(np.log(Bs))))
        return {"B": B, "beta": beta} | ({"E": E} if self.form == "loss_floor" else {})

    @property
    def intervals(self) -> dict[str, tuple[float, float] | None]:
        """95% intervals of the exponent and of E; None where the law may not be extrapolated."""
        names = {"ppl_power": ["alpha"], "loss_power": ["beta"], "loss_floor": ["beta", "E"]}[self.form]
        if not self.extrapolates:
            return dict.fromkeys(names)
        if isinstance(self.law, MeanOfDraws):
            laws = self.law.laws.values()
            return {name: across_draws([getattr(law, name) for law in laws]).interval for name in names}
        return {name: getattr(self.law, f"{name}_ci95") for name in names}


def fit_forms(points: Points) -> list[FormFit]:
    """The `possible_forms`, each fitted. Raises `InputError` with fewer than two sizes."""
    return [fit_form(points, form) for form in possible_forms(points)]


def possible_forms(points: Points) -> list[FormName]:
    """All forms, in the order of `NUM_PARAMETERS`; those of the loss only where it is above 0 everywhere."""
    return [form for form in NUM_PARAMETERS if form == "ppl_power" or (points.ppl > 1).all()]


def fit_form(points: Points, form: FormName) -> FormFit:
    """One form, by least squares of L = ln PPL in nats: all forms are on one scale.

    Raises:
        InputError: fewer than two sizes; of a form of the loss, a perplexity of 1 or less (no loss above 0).
    """
    _check(points, form)
    p, units = NUM_PARAMETERS[form], points.units(NUM_PARAMETERS[form])
    status = statuses(points, form, points.log_ppl[None])[0]
    if form == "ppl_power":
        law = fit_draws(points.tokens, points.ppl, points.draws)
        return FormFit(form, status, law, _rss(points, law))
    if points.fewest_sizes(units) < p:
        return FormFit(form, status, None, None)
    floor = form == "loss_floor"
    x, y = points.log_tokens, points.log_ppl
    fits = fit_profiles([x[unit] for unit in units], [y[None, unit] for unit in units], floor)
    laws = [loss_law(x[unit], fit, floor) for unit, fit in zip(units, fits, strict=True)]
    if len(laws) == 1:
        return FormFit(form, status, laws[0], laws[0].rss)
    mean = MeanOfDraws({points.draws[unit[0]]: law for unit, law in zip(units, laws, strict=True)})
    return FormFit(form, status, mean, sum(law.rss for law in laws))


def statuses(points: Points, form: FormName, rows: np.ndarray) -> list[FormStatus]:
    """The status of one form for each row (m, n) of values of ln PPL at these points."""
    p, units = NUM_PARAMETERS[form], points.units(NUM_PARAMETERS[form])
    short = len(units) == 1 and len(points.tokens) <= p
    if short or points.fewest_sizes(units) < p:
        return ["not_identifiable"] * len(rows)
    if form == "ppl_power":
        return ["converged"] * len(rows)
    x, counts = points.log_tokens, [len(unit) for unit in units]
    floor = form == "loss_floor"
    fits = fit_profiles([x[unit] for unit in units], [rows[:, unit] for unit in units], floor)
    bound = np.any([fit.at_edge for fit in fits], axis=0)
    if form == "loss_power":
        return ["at_bound" if each else "converged" for each in bound]
    bound |= np.all([fit.E == 0 for fit in fits], axis=0)
    if len(units) > 1:
        told = [across_draws(E).sign == 1 for E in np.stack([fit.E for fit in fits], axis=1)]
    else:
        told = _floor_is_told(fits[0], fit_profile(x[units[0]], rows[:, units[0]], False), counts[0])
    return [
        "at_bound" if edge else "converged" if known else "not_identifiable"
        for edge, known in zip(bound, told, strict=True)
    ]


def _floor_is_told(fit: Profile, without: Profile, n: int) -> np.ndarray:
    variance = np.maximum(fit.rss, n * ROUNDING**2) / (n - 3)
    return without.rss - fit.rss > fdtri(1, n - 3, 0.95) * variance


def _laws(law: Law | LossLaw | MeanOfDraws) -> list:
    return list(law.laws.values()) if isinstance(law, MeanOfDraws) else [law]


def _rss(points: Points, law: Law) -> float:
    if isinstance(law, PowerLaw):
        return float(np.sum((points.log_ppl - law.log_ppl(points.tokens)) ** 2))
    inside = {draw: np.array([other == draw for other in points.draws]) for draw in law.laws}
    return sum(_rss(points.kept(inside[draw]), each) for draw, each in law.laws.items())


def _check(points: Points, form: FormName) -> None:
    if len(np.unique(points.tokens)) < 2:
        raise InputError(
            f"a form of the law needs at least two distinct sizes, got {len(set(points.tokens))}"
        )
    if form != "ppl_power" and (points.ppl <= 1).any():
        raise InputError(f"a power law of the loss needs perplexities above 1, got {points.ppl.min():g}")
