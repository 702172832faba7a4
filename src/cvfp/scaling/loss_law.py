"""A power law of the loss, with or without a floor, of one line; its intervals by the delta method."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from cvfp.scaling.power_law import Number, Numbers, check_level, log_of_positive, student_quantile
from cvfp.scaling.profile import Profile


@dataclass(frozen=True, eq=False)
class LossLaw:
    """L = ln PPL = E + B * D^-beta, fitted by `profile.fit_profile`; E is 0 without a floor.

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
