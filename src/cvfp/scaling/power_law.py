"""The power law of perplexity against data: fitted with its intervals, or to many rows at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, overload

import numpy as np
from scipy.special import stdtrit

from cvfp.records.errors import InputError
from cvfp.records.results import IntervalKind

Number = int | float | np.number
Numbers = Sequence[Number] | np.ndarray


@dataclass(frozen=True)
class PowerLaw:
    """PPL = A * tokens^alpha, fitted by `fit_power_law`.

    `alpha_ci95` is the Student-t 95% interval of the slope, None without residual degrees of freedom
    (n < 3). It measures the deviation of the points from a straight line in log-log space. It is not
    run-to-run noise: repeating the runs may move alpha by more, and a smooth curve widens it as noise does.
    """

    interval_kind: ClassVar[IntervalKind] = "line"

    alpha: float
    A: float
    r_squared: float
    alpha_ci95: tuple[float, float] | None
    n: int
    mean_log_tokens: float
    mean_log_ppl: float
    log_tokens_ss: float
    """Sum over the points of (ln tokens - mean)^2."""
    residual_variance: float | None
    """Squared residuals of ln PPL over (n - 2); None when n < 3."""

    @property
    def log_A(self) -> float:
        return self.mean_log_ppl - self.alpha * self.mean_log_tokens

    def predict(self, tokens: Number | Numbers) -> np.ndarray | np.number:
        """A * tokens^alpha, in the shape of `tokens` (a count, or an array of counts).

        Raises:
            InputError: a token count that is not positive and finite.
        """
        return np.exp(self.log_ppl(tokens))

    def prediction_interval(
        self, tokens: Number | Numbers, level: float = 0.95
    ) -> tuple[np.ndarray | np.number, np.ndarray | np.number] | None:
        """Where the perplexity of one new run on `tokens` tokens falls with probability `level`.

        exp(ln PPL(tokens) -+ t * s * sqrt(1 + 1/n + (ln tokens - mean)^2 / SS)), with s^2 the residual
        variance and t the Student quantile at n - 2 degrees of freedom. It holds if the law does and the
        noise of ln PPL is independent, normal and equal at all sizes. None when n < 3.

        Raises:
            InputError: a token count that is not positive and finite, a level outside (0, 1).
        """
        check_level(level)
        log_tokens = log_of_positive(tokens, "tokens")
        if self.residual_variance is None:
            return None
        leverage = 1 / self.n + (log_tokens - self.mean_log_tokens) ** 2 / self.log_tokens_ss
        reach = student_quantile(level, self.n - 2) * np.sqrt(self.residual_variance * (1 + leverage))
        centre = self.mean_log_ppl + self.alpha * (log_tokens - self.mean_log_tokens)
        with np.errstate(over="ignore"):  # a bound beyond float64 is infinite
            return np.exp(centre - reach), np.exp(centre + reach)

    def log_ppl(self, tokens: Number | Numbers) -> np.ndarray | np.number:
        """ln A + alpha * ln tokens, in the shape of `tokens`. Raises as `predict`."""
        log_tokens = log_of_positive(tokens, "tokens")
        return self.mean_log_ppl + self.alpha * (log_tokens - self.mean_log_tokens)


def fit_power_law(tokens: Numbers, ppl: Numbers) -> PowerLaw:
    """Ordinary least squares of ln PPL on ln tokens.

    alpha = sum((x - mean x)(y - mean y)) / sum((x - mean x)^2), A = exp(mean y - alpha * mean x) with
    x = ln tokens, y = ln PPL; R^2 = 1 - RSS / TSS of y (1 when all perplexities are equal, the line being
    exact). The interval of alpha is alpha -+ t * sqrt(RSS / (n - 2) / sum((x - mean x)^2)).

    Args:
        tokens: training tokens of each point, (n,).
        ppl: perplexity of each point, (n,).

    Raises:
        InputError: unequal lengths, a value that is not positive and finite, fewer than two distinct sizes.
    """
    x, y = log_of_positive(tokens, "tokens"), log_of_positive(ppl, "ppl")
    _check_points(x, y)
    dx, dy = x - x.mean(), y - y.mean()
    ss = float(dx @ dx)
    alpha = float(dx @ dy) / ss
    rss = float(np.sum((dy - alpha * dx) ** 2))
    variance = rss / (len(x) - 2) if len(x) > 2 else None
    return PowerLaw(
        alpha=alpha,
        A=finite_exp(float(y.mean() - alpha * x.mean())),
        r_squared=explained_share(y, rss),
        alpha_ci95=_slope_interval(alpha, variance, ss, len(x) - 2),
        n=len(x),
        mean_log_tokens=float(x.mean()),
        mean_log_ppl=float(y.mean()),
        log_tokens_ss=ss,
        residual_variance=variance,
    )


def student_quantile(level: float, dof: int | float) -> float:
    """t with P(|T| <= t) = level for Student's T at `dof` degrees of freedom."""
    return float(stdtrit(dof, (1 + level) / 2))


def explained_share(y: np.ndarray, rss: float) -> float:
    """R^2 = 1 - RSS / TSS of y (n,); 1 when all are equal."""
    return 1 - rss / float(np.sum((y - y.mean()) ** 2)) if np.ptp(y) > 0 else 1.0


def check_level(level: float) -> None:
    if not 0 < level < 1:
        raise InputError(f"level: must be between 0 and 1, got {level}")


def _slope_interval(alpha: float, variance: float | None, ss: float, dof: int) -> tuple[float, float] | None:
    if variance is None:
        return None
    reach = student_quantile(0.95, dof) * float(np.sqrt(variance / ss))
    return alpha - reach, alpha + reach


@overload
def log_of_positive(values: Number, name: str) -> np.number: ...


@overload
def log_of_positive(values: Numbers, name: str) -> np.ndarray: ...


def log_of_positive(values: Number | Numbers, name: str) -> np.ndarray | np.number:
    """ln of `values`. Raises `InputError` where one is not positive and finite."""
    array = np.asarray(values, dtype=np.float64)
    bad = ~(np.isfinite(array) & (array > 0))
    if bad.any():
        raise InputError(f"{name}: must be positive and finite, got {float(array[bad][0]):g}")
    return np.log(array)


def _check_points(x: np.ndarray, y: np.ndarray) -> None:
    if x.ndim != 1 or y.ndim != 1 or len(x) != len(y):
        raise InputError(
            f"tokens and ppl: one value each per point is needed, got shapes {x.shape} and {y.shape}"
        )
    if len(np.unique(x)) < 2:
        raise InputError(f"a power law needs at least two distinct sizes, got {len(np.unique(x))}")


def finite_exp(log_A: float) -> float:
    """A. Raises `InputError` when it is beyond the range of a float."""
    if log_A > np.log(np.finfo(np.float64).max):
        raise InputError(f"the sizes are too close together for a power law: ln A would be {log_A:.4g}")
    return float(np.exp(log_A))


# --- Many power laws at once: what resampling asks for, by the closed form of `fit_power_law`.


def refit_power_laws(tokens: Numbers, ppl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """alpha (m,) and ln A (m,), for every row of `ppl` those of `fit_power_law(tokens, row)`.

    Args:
        tokens: training tokens of the points, (n,) for all rows or (m, n).
        ppl: perplexities, (m, n).

    Raises:
        InputError: shapes that do not fit, a value that is not positive and finite, a row with fewer than
            two distinct sizes.
    """
    tokens, ppl = np.asarray(tokens, dtype=np.float64), np.asarray(ppl, dtype=np.float64)
    if ppl.ndim != 2 or tokens.shape not in (ppl.shape, ppl.shape[1:]):
        raise InputError(f"ppl must be (m, n) and tokens (n,) or (m, n), got {ppl.shape} and {tokens.shape}")
    _check_positive(tokens, "tokens")
    _check_positive(ppl, "ppl")
    x, y = np.log(tokens), np.log(ppl)
    if x.shape[-1] == 0 or (x == x[..., :1]).all(axis=-1).any():
        raise InputError("a power law needs at least two distinct sizes: a row has fewer")
    mean_x, mean_y = x.mean(axis=-1), y.mean(axis=1)
    dx, dy = x - mean_x[..., None], y - mean_y[:, None]
    alphas = (dx * dy).sum(axis=1) / (dx * dx).sum(axis=-1)
    return alphas, mean_y - alphas * mean_x


def _check_positive(values: np.ndarray, name: str) -> None:
    bad = ~(np.isfinite(values) & (values > 0))
    if bad.any():
        raise InputError(f"{name}: must be positive and finite, got {values[bad][0]:g}")
