"""One analysis of a line: its law, the forms it may follow, whether it bends, what it forecasts.

`cvfp fit` and the report of a sweep read the same object; everything in it is computed when it is first
asked for, and once.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from cvfp.scaling.draws import Estimate, Law, fit_draws
from cvfp.scaling.forecast import Holdout, holdout
from cvfp.scaling.forms import ComparedForm, compare_forms
from cvfp.scaling.local_exponent import (
    LocalExponent,
    Window,
    change_interval,
    curvature,
    local_exponents,
    sliding_windows,
)
from cvfp.scaling.outlook import Extrapolated, Outlook, outlook
from cvfp.scaling.points import Points
from cvfp.scaling.power_law import Number
from cvfp.scaling.robustness import LINE_VERDICTS, Flip, flips

DEFAULT_MULTIPLES = (4, 10)
"""Sizes to predict at when none are asked for, as multiples of the largest fitted one."""


@dataclass(frozen=True, eq=False)
class LineAnalysis:
    """What is known of one line from its points, which have at least two sizes.

    Args:
        points: the independent ones: those that a fit uses.
        half_units: half a unit of the last printed digit of each perplexity, as a change of ln PPL, (n,).
            None: they are exact.
    """

    points: Points
    half_units: np.ndarray | None = None

    @cached_property
    def law(self) -> Law:
        """The power law of PPL; of several draws the mean over theirs. Raises `InputError` as `fit_draws`."""
        return fit_draws(self.points.tokens, self.points.ppl, self.points.draws)

    @cached_property
    def forms(self) -> list[ComparedForm]:
        """The forms of the law with the choice between them.

        None is preferred that the `outlook` does not find adequate: it misses the points by more than their
        error; where that could not be tested there is no choice. Raises `InputError` as `compare_forms`.
        """
        found = compare_forms(self.points)
        best = next((one for one in found if one.verdict == "preferred"), None)
        if best is None or self.outlook.fits(best.fit.form):
            return found
        if best.fit.form in self.outlook.tried:
            return [replace(one, verdict="does not fit") if one is best else one for one in found]
        return [replace(one, verdict="not compared") for one in found]

    @cached_property
    def curvature(self) -> Estimate | None:
        """The coefficient of (ln D)^2 in ln PPL; None where it cannot be tested."""
        return curvature(self.points)

    @cached_property
    def local_exponents(self) -> list[LocalExponent]:
        """The slope between each two neighbouring sizes."""
        return local_exponents(self.points)

    @cached_property
    def flips(self) -> list[Flip]:
        """Verdicts on form and curvature that do not survive leaving out a size, or rounding as printed.

        Of the form only where the choice is among forms that fit.
        """
        chosen = self.outlook.refused is None and all(one.verdict != "does not fit" for one in self.forms)
        asked = {name: one for name, one in LINE_VERDICTS.items() if chosen or name != "form"}
        return flips(self.points, self.half_units, asked)

    @cached_property
    def outlook(self) -> Outlook:
        """The one forecast beyond the data, or why there is none."""
        return outlook(self.points)

    def forecasts(self, requested: Sequence[Number] = ()) -> list[Extrapolated]:
        """What is forecast at the `requested` token counts; empty: at 4 and 10 times the largest size.

        None of them where the forecast is refused.

        Raises:
            InputError: as `Outlook.at`.
        """
        largest = float(self.points.tokens.max())
        sizes = requested if len(requested) > 0 else [multiple * largest for multiple in DEFAULT_MULTIPLES]
        found = [self.outlook.at(tokens) for tokens in sizes]
        return [one for one in found if one is not None]

    def holdout(self, hide: int) -> Holdout | None:
        """All forms on the `hide` largest sizes, which they have not seen. Raises as `forecast.holdout`."""
        return holdout(self.points, hide)

    def windows(self, size: int, known_sizes: Collection[Number] = ()) -> list[Window]:
        """The law of every `size` consecutive sizes, as `sliding_windows`; without `Points.short_draws`."""
        points = self._without_short_draws
        return sliding_windows(points.tokens, points.ppl, size, points.sizes, points.draws, known_sizes)

    def change(self, windows: Sequence[Window]) -> tuple[float, float] | None:
        """95% interval of the change of the exponent from the first to the last of its `windows`."""
        points = self._without_short_draws
        return change_interval(points.tokens, points.ppl, points.sizes, windows)

    @cached_property
    def _without_short_draws(self) -> Points:
        short = self.points.short_draws
        return self.points.kept(np.array([draw not in short for draw in self.points.draws]))
