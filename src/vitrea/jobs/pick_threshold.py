"""From which score on a peak is a pick, and what figure of merit it has."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vitrea.picking.mixture import fit_peak_heights

_START = 0.75  # of the lowest score of a pick, from which on peaks are looked at: for curves, and to know the noise


@dataclass(frozen=True)
class Threshold:
    """What the user wants of scores.

    Attributes
    ----------
    value : float or None
        In standard deviations, or a fraction of the usual score; None: where particles become likelier than noise.
    is_relative : bool
        Whether `value` is a fraction; figures of merit are then fractions, too.
    upper : float
        Upper limit in the unit of `value`; 0: none.
    start : float or None
        Score from which on peaks are looked at; None: three quarters of the lowest score of a pick.
    """

    value: float | None
    is_relative: bool
    upper: float = 0.0
    start: float | None = None

    @property
    def is_plain(self) -> bool:
        """Whether the threshold is known before any micrograph is searched."""
        return self.value is not None and not self.is_relative

    def lowest(self, noise: float) -> float:
        """Return the score from which on peaks are looked at, where peaks below `noise` are noise."""
        if self.start is not None:
            return self.start
        return _START * (noise if self.value is None or self.is_relative else min(noise, self.value))

    def choose(self, heights: NDArray[np.float64] | None, noise: float) -> Choice:
        """Choose by the heights of peaks above `lowest`; None where they are not needed."""
        if heights is None:
            return Choice(noise if self.value is None else self.value, 1.0, self.upper or np.inf, None)
        found = fit_peak_heights(heights, self.lowest(noise), noise)
        floor = found.threshold
        if self.value is not None:
            floor = max(noise, self.value * found.usual) if self.is_relative else self.value
        unit = found.usual if self.is_relative else 1.0
        return Choice(floor, unit, self.upper * unit or np.inf, found.usual)


@dataclass(frozen=True)
class Choice:
    """The threshold of a run.

    Attributes
    ----------
    floor, upper : float
        Scores between which a peak is a pick, in standard deviations.
    unit : float
        Score that is a figure of merit of 1.
    usual : float or None
        Score that particles usually have, where it was measured.
    """

    floor: float
    unit: float
    upper: float
    usual: float | None

    @property
    def text(self) -> str:
        """The choice for a reader."""
        text = f"threshold {self.floor:.2f} standard deviations"
        return text if self.usual is None else f"{text}, particles usually {self.usual:.1f}"
