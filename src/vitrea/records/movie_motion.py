"""How a movie was corrected for motion: what polishing and extraction from frames need to know."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray


def _no_places() -> NDArray[np.int64]:
    return np.empty((0, 2), dtype=np.int64)


@dataclass(frozen=True)
class MovieMotion:
    """The motion of one movie, in RELION's terms.

    Shifts are corrections, opposite to the motion, in pixels of the movie's frames: what lies at p in a frame lies at
    p + shift in the sum.

    Attributes
    ----------
    movie : str
        Name of the movie file.
    frames, rows, columns : int
        Of the movie.
    first_frame : int
        First frame used, from 1.
    pixel_size : float
        Å, of the frames.
    binning : float
        Pixels of a frame to a pixel of the sum.
    shifts : ndarray, shape [frames, 2]
        x, y of each frame as a whole; NaN for frames that were not used.
    coefficients : ndarray, shape [2, 18], or None
        Local motion along x and y (`rlnMotionModelCoeff`): terms 1, x, x², y, y², xy, each times z, z², z³, with x and
        y from -0.5 to 0.5 over the frame and z the number of frames since the first one used.
    hot_pixels : ndarray of int64, shape [pixels, 2]
        x, y from 0.
    patch_shifts : ndarray, shape [rows, 5]
        What was measured in patches: frame from 1, x and y of the patch's centre in pixels, shift x, y.
    exposure_per_frame, pre_exposure : float
        e-/Å²; negative where not known.
    voltage : float
        kV; 0 where not known.
    gain, defects : str
        Files, or empty.
    eer_upsampling, eer_grouping : int
        How an EER movie was rendered; 0 for other movies.
    """

    movie: str
    frames: int
    rows: int
    columns: int
    first_frame: int
    pixel_size: float
    binning: float
    shifts: NDArray[np.float64]
    coefficients: NDArray[np.float64] | None = None
    hot_pixels: NDArray[np.int64] = field(default_factory=_no_places)
    patch_shifts: NDArray[np.float64] = field(default_factory=lambda: np.empty((0, 5)))
    exposure_per_frame: float = -1.0
    pre_exposure: float = -1.0
    voltage: float = 0.0
    gain: str = ""
    defects: str = ""
    eer_upsampling: int = 0
    eer_grouping: int = 0

    def accumulated(self, cutoff: float = 4.0) -> tuple[float, float, float]:
        """Return the length of the whole-frame motion in Å: in all, until an exposure, and after it.

        Parameters
        ----------
        cutoff : float
            e-/Å² received before and during the frames counted as early (`rlnAccumMotionEarly`). Where the exposure is
            not known, all motion is late.
        """
        used = np.flatnonzero(np.isfinite(self.shifts).all(axis=1))
        steps = np.hypot(*np.diff(self.shifts[used], axis=0).T) * self.pixel_size
        early = np.zeros(len(steps), dtype=np.bool_)
        if self.exposure_per_frame > 0:
            early = (used[1:] + 1) * self.exposure_per_frame + max(0.0, self.pre_exposure) <= cutoff
        return float(steps.sum()), float(steps[early].sum()), float(steps[~early].sum())
