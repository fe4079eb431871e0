"""The picture by which one judges a fit: rings as seen on one side, as fitted on the other."""

from __future__ import annotations

import math

import numpy as np
from scipy.ndimage import gaussian_filter

from vitrea.records.optics import Optics
from vitrea.thon_rings.fit import CtfFit
from vitrea.thon_rings.samples import ctf_constants, half_plane
from vitrea.thon_rings.spectrum import Floats

_BLUR = 1.3  # samples: takes the grain off the spectrum and leaves its rings
_RANGE = 2.0  # standard deviations of what is shown, to either side of the mean


def diagnostic_image(fit: CtfFit, optics: Optics, step: float) -> Floats:
    """Return the spectrum (right half, x > 0) beside the fitted |CTF| (left half).

    Parameters
    ----------
    fit : CtfFit
    optics : Optics
    step : float
        1/Å per sample.

    Returns
    -------
    ndarray of float32, shape [box, box]
        Values 0 to 1, the origin at pixel ``box // 2``. Rings are drawn as far as they fit; beyond, the fit is 0.5.
    """
    pattern = fit.pattern
    box = len(pattern)
    samples = half_plane(box)
    seen = gaussian_filter(pattern, _BLUR)
    inside = seen.ravel()[samples.flat[samples.radius > box / 8]]
    spread = max(float(inside.std()), 1e-6) * _RANGE
    picture: Floats = np.full((box, box), 0.5, dtype=np.float32)
    picture.reshape(-1)[samples.flat] = np.clip(0.5 + seen.ravel()[samples.flat] / (2 * spread), 0, 1)
    candidate, angle = fit.candidate(), 2 * samples.angle
    squared = (samples.radius * step) ** 2
    defocus = candidate.defocus + candidate.cosine * np.cos(angle) + candidate.sine * np.sin(angle)
    value = np.abs(np.sin(ctf_constants(optics).phase(squared, defocus, candidate.phase_shift)))
    limit = 1 / fit.resolution if math.isfinite(fit.resolution) else 0.0
    value = np.where(squared <= limit**2, value, 0.5)
    # The half plane has x >= 0; its mirror image, x <= 0, is where the fit is drawn.
    mirrored = box * (box + 1) - samples.flat
    picture.reshape(-1)[mirrored] = value
    return picture
