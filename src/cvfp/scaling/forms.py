"""Which law a line follows: the forms it may have, each fitted to its points, and the choice among them.

A form is judged by what it says of a size that was left out; the status of a fit says what it is worth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import ClassVar, Literal

import numpy as np
from scipy.special import fdtri

from cvfp.records.errors import InputError
from cvfp.scaling.draws import Law, MeanOfDraws, across_draws, fit_draws
from cvfp.scaling.points import Points
from cvfp.scaling.power_law import (
    Number,
    Numbers,
    PowerLaw,
    check_level,
    log_of_positive,
    refit_power_laws,
    student_quantile,
)

# --- Power laws of the loss by variable projection: many rows at once, no starting values.


BENDS = (1e-3, 20.0)
"""Bounds of beta times the range of ln D: from a loss that hardly falls (by 0.1% over all sizes) to one that
has fallen to its floor at the second size. Assumed."""
GRID, ZOOM, ROUNDS = 101, 21, 11
"""Points of the first grid over beta, of each finer one between the neighbours of its best, and how many of
these: beta to a relative 1e-11."""
CELLS = 2**19
"""Numbers that are held at once, of rows times grid times points: they stay in the cache of a core."""


@dataclass(frozen=True)
class Profile:
    """L = E + b * exp(-beta * (x - centre)) with x = ln D, fitted to m rows: everything is (m,)."""

    E: np.ndarray
    """Nats; 0 in fits without a floor."""
    b: np.ndarray
    """B * exp(-beta * centre), nats: B itself may be beyond a float."""
    beta: np.ndarray
    rss: np.ndarray
    """Sum of squared residuals, nats^2."""
    at_edge: np.ndarray
    """Whether beta is at a bound of its search."""
    centre: np.ndarray
    """Mean of x."""

    def loss(self, x: np.ndarray) -> np.ndarray:
        """L (m, k) at ln D (k,)."""
        bend = np.exp(-self.beta[:, None] * (x - self.centre[:, None]))
        return self.E[:, None] + self.b[:, None] * bend

    def part(self, rows: slice) -> Profile:
        """The fits of some of the rows."""
        return Profile(*(getattr(self, field.name)[rows] for field in fields(self)))


def fit_profiles(xs: Sequence[np.ndarray], losses: Sequence[np.ndarray], floor: bool) -> list[Profile]:
    """`fit_profile` of each pair of ln D (n,) and losses (m, n), of the same m: those of one n in one go."""
    found: dict[int, Profile] = {}
    for n in {len(x) for x in xs}:
        places = [place for place, x in enumerate(xs) if len(x) == n]
        m = len(losses[places[0]])
        x = np.repeat(np.stack([xs[place] for place in places]), m, axis=0)
        fit = fit_profile(x, np.concatenate([losses[place] for place in places]), floor)
        found |= {place: fit.part(slice(k * m, (k + 1) * m)) for k, place in enumerate(places)}
    return [found[place] for place in range(len(xs))]


def fit_profile(x: np.ndarray, losses: np.ndarray, floor: bool) -> Profile:
    """Least squares of L = B * D^-beta, with `floor` of L = E + B * D^-beta, under E >= 0, B >= 0.

    Given beta, E and B are linear: the best are known in closed form, and their RSS is a function of beta
    alone (variable projection, Golub & Pereyra 1973). It is searched on a logarithmic grid between the
    `BENDS` and on finer grids about its best point. The sum of squares is not divided by n (Besiroglu et al.
    2024: a mean meets the tolerance of an optimiser too early; here none is used).

    Args:
        x: ln D of the points, (n,) for all rows or (m, n), at least two distinct.
        losses: nats, positive, (m, n): one fit per row.
        floor: whether there is an E.
    """
    x = np.broadcast_to(x, losses.shape)
    step = max(1, CELLS // (GRID * x.shape[1]))
    parts = [_fit_rows(x[i : i + step], losses[i : i + step], floor) for i in range(0, len(x), step)]
    return Profile(*(np.concatenate([getattr(one, each.name) for one in parts]) for each in fields(Profile)))


def _fit_rows(x: np.ndarray, losses: np.ndarray, floor: bool) -> Profile:
    centre, reach = x.mean(axis=1), np.ptp(x, axis=1)
    x = x - centre[:, None]
    grid = np.geomspace(BENDS[0] / reach, BENDS[1] / reach, GRID, axis=1)
    best = _solve(x, losses, grid, floor)[2].argmin(axis=1)
    at_edge = (best == 0) | (best == GRID - 1)
    for _ in range(ROUNDS):
        grid = np.geomspace(*_neighbours(grid, best), ZOOM, axis=1)
        best = _solve(x, losses, grid, floor)[2].argmin(axis=1)
    beta = np.take_along_axis(grid, best[:, None], axis=1)
    E, b, rss = (values[:, 0] for values in _solve(x, losses, beta, floor))
    return Profile(E, b, beta[:, 0], rss, at_edge, centre)


def _neighbours(grid: np.ndarray, best: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The points of a grid (m, g) before and after the `best` (m,) ones, (m,) each."""
    rows, last = np.arange(len(best)), grid.shape[1] - 1
    return grid[rows, np.maximum(best - 1, 0)], grid[rows, np.minimum(best + 1, last)]


def _solve(
    x: np.ndarray, losses: np.ndarray, betas: np.ndarray, floor: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """E, b and RSS (m, g) of x (m, n) and losses (m, n) at betas (m, g)."""
    phi, y = np.exp(-betas[..., None] * x[:, None, :]), losses[:, None, :]
    b = (phi * y).sum(axis=-1) / (phi * phi).sum(axis=-1)
    E = np.zeros_like(b)
    if floor:
        mean, mean_y = phi.mean(axis=-1), y.mean(axis=-1)
        centred = phi - mean[..., None]
        free_b = (centred * y).sum(axis=-1) / (centred * centred).sum(axis=-1)
        free_E = mean_y - free_b * mean
        E = np.where(free_b > 0, np.maximum(free_E, 0), mean_y)
        b = np.where(free_b > 0, np.where(free_E > 0, free_b, b), 0)
    return E, b, ((y - E[..., None] - b[..., None] * phi) ** 2).sum(axis=-1)


# --- A power law of the loss, with or without a floor, of one line; its intervals by the delta method.


@dataclass(frozen=True, eq=False)
class LossLaw:
    """L = ln PPL = E + B * D^-beta, fitted by `fit_profile`; E is 0 without a floor.

    Intervals are linear in the parameters about the fit (delta method, Seber & Wild 1989, chapter 5): error^2
    = s^2 * g . (J^T J)^-1 g, with g the gradient of what is asked, J that of the losses (n, p), s^2 = RSS /
    (n - p), t at n - p degrees of freedom. They hold for independent, equal noise of the loss that is small
    against its fall. Across draws `MeanOfDraws` asks nothing of them.
    """

    interval_kind: ClassVar = "line"

    E: float
    b: float
    """B * exp(-beta * centre), nats."""
    beta: float
    centre: float
    rss: float
    n: int
    has_floor: bool
    inverse: np.ndarray
    """(J^T J)^-1 in (b, beta) or (b, beta, E), (p, p)."""

    @property
    def B(self) -> float | None:
        """Nats; None beyond the range of a float."""
        with np.errstate(over="ignore"):
            value = float(self.b * np.exp(self.beta * self.centre))
        return value if np.isfinite(value) else None

    @property
    def dof(self) -> int:
        return self.n - (3 if self.has_floor else 2)

    @property
    def beta_ci95(self) -> tuple[float, float] | None:
        """None without residual degrees of freedom."""
        return self._interval(self.beta, 1)

    @property
    def E_ci95(self) -> tuple[float, float] | None:
        """None without a floor, and without residual degrees of freedom."""
        return self._interval(self.E, 2) if self.has_floor else None

    def log_ppl(self, tokens: Number | Numbers) -> np.ndarray | np.number:
        """E + B * D^-beta, nats, in the shape of `tokens`. Raises as `PowerLaw.predict`."""
        return self.E + self.b * np.exp(-self.beta * (log_of_positive(tokens, "tokens") - self.centre))

    def predict(self, tokens: Number | Numbers) -> np.ndarray | np.number:
        """exp(L), in the shape of `tokens`. Raises as `PowerLaw.predict`."""
        return np.exp(self.log_ppl(tokens))

    def prediction_interval(
        self, tokens: Number | Numbers, level: float = 0.95
    ) -> tuple[np.ndarray | np.number, np.ndarray | np.number] | None:
        """Where the perplexity of one new run on `tokens` tokens falls with probability `level`.

        exp(L -+ t * s * sqrt(1 + g . (J^T J)^-1 g)), g = dL / d(parameters) at `tokens`. None without
        residual degrees of freedom. Raises as `PowerLaw.prediction_interval`.
        """
        check_level(level)
        loss = self.log_ppl(tokens)
        if self.dof < 1:
            return None
        g = gradient(self.b, self.beta, log_of_positive(tokens, "tokens") - self.centre, self.has_floor)
        variance = self.rss / self.dof * (1 + np.einsum("...i,ij,...j", g, self.inverse, g))
        reach = student_quantile(level, self.dof) * np.sqrt(variance)
        with np.errstate(over="ignore"):  # a bound beyond float64 is infinite
            return np.exp(loss - reach), np.exp(loss + reach)

    def _interval(self, value: float, index: int) -> tuple[float, float] | None:
        if self.dof < 1:
            return None
        reach = student_quantile(0.95, self.dof) * float(
            np.sqrt(self.rss / self.dof * self.inverse[index, index])
        )
        return value - reach, value + reach


def gradient(b: float, beta: float, x: np.ndarray | np.number, floor: bool) -> np.ndarray:
    """dL / d(b, beta) or d(b, beta, E) at x = ln D - centre, (..., p)."""
    phi = np.exp(-beta * x)
    parts = [phi, -b * x * phi, np.ones_like(phi)]
    return np.stack(parts if floor else parts[:2], axis=-1)


def loss_law(log_tokens: np.ndarray, fit: Profile, floor: bool, row: int = 0) -> LossLaw:
    """The law of one row of a fit to points at `log_tokens` (n,)."""
    b, beta = float(fit.b[row]), float(fit.beta[row])
    J = gradient(b, beta, log_tokens - fit.centre[row], floor)
    return LossLaw(
        E=float(fit.E[row]),
        b=b,
        beta=beta,
        centre=float(fit.centre[row]),
        rss=float(fit.rss[row]),
        n=len(log_tokens),
        has_floor=floor,
        inverse=np.linalg.pinv(J.T @ J),
    )


# --- The forms a line may follow, each fitted to its points, with a status that says what the fit is worth.


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
            `BENDS`); or the best floor is E = 0, which is the form without one.
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
        if isinstance(self.law, Law):
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


# --- Which form a line follows: judged by what each says of a size that was left out.


FormVerdict = Literal["preferred", "does not fit", "not distinguishable", "worse", "not compared"]

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
    identifiable. `line.LineAnalysis` calls one `does not fit` that would be preferred and misses the points.
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
    errors: dict[FormName, np.ndarray] = {form: left_out_errors(points, form, rows) for form in forms}
    scores: dict[FormName, np.ndarray] = {  # (m, units), nan without a score
        form: np.stack([np.maximum(e[:, unit].mean(axis=1), ROUNDING**2) for unit in units], axis=1)
        for form, e in errors.items()
    }
    known = {form: statuses(points, form, rows) for form in forms}
    verdicts = []
    for row in range(len(rows)):
        compared: dict[FormName, np.ndarray] = {
            form: score[row] for form, score in scores.items() if known[form][row] == "converged"
        }
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

    All nan where there are too few sizes; else those of draws that are no unit.
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
    """Whether a form is worse, by its ln(score / best), one per unit of so many points."""
    if len(log_ratios) == 1:
        return bool(counts[0] * log_ratios[0] >= EVIDENCE)
    return across_draws(log_ratios).sign == 1


def _rms(errors: np.ndarray) -> float | None:
    known = errors[np.isfinite(errors)]
    return float(np.sqrt(known.mean())) if len(known) > 0 else None
