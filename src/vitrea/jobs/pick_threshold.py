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
    adjust : float
        Added, in standard deviations of the peaks' heights (RELION's --LoG_adjust_threshold).
    upper : float
        Upper limit in the unit of `value`; 0: none.
    """

    value: float | None
    is_relative: bool
    adjust: float = 0.0
    upper: float = 0.0

    @property
    def is_plain(self) -> bool:
        """Whether the threshold is known before any micrograph is searched."""
        return self.value is not None and not self.is_relative and not self.adjust

    def lowest(self, noise: float) -> float:
        """Return the score from which on peaks are looked at, where peaks below `noise` are noise."""
        return _START * (noise if self.value is None or self.is_relative else min(noise, self.value))

    def choose(self, heights: NDArray[np.float64] | None, noise: float) -> Choice:
        """Choose by the heights of peaks above `lowest`; None where they are not needed."""
        if heights is None:
            return Choice(self.value or noise, 1.0, self.upper or np.inf, None)
        found = fit_peak_heights(heights, self.lowest(noise), noise)
        floor = found.threshold
        if self.value is not None:
            floor = max(noise, self.value * found.usual) if self.is_relative else self.value
        floor += self.adjust * (float(heights[heights > noise].std()) if (heights > noise).any() else 0.0)
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
