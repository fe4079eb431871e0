"""From a spectrum to a CTF: background, search, refinement, and how good the fit is."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from vitrea.records.optics import Optics
from vitrea.thon_rings.background import filter_width, ring_pattern
from vitrea.thon_rings.quality import RingCurves, alias_resolution, fit_resolution, ice_ring_density, ring_curves
from vitrea.thon_rings.refinement import FittedSamples, fitted_samples, refine, relative_rings
from vitrea.thon_rings.samples import CtfConstants, ctf_constants
from vitrea.thon_rings.search import Candidate, radial_range, search, sector_sums
from vitrea.thon_rings.settings import FitSettings
from vitrea.thon_rings.spectrum import Floats, Spectrum

_CANDIDATES = 3
_RIVAL = 0.6  # of the best score of the search: what lies above is refined, too
# Score times the root of the samples, 1 for noise. The best of all CTFs that a search tries reaches 4 to 6 in noise.
_SIGNIFICANT = 8.0
_PASSES = 1  # of taking the background anew without the rings found
_FEWEST_RADII = 16  # samples between the lowest and the highest resolution


@dataclass(frozen=True)
class CtfFit:
    """The CTF of a micrograph.

    Attributes
    ----------
    defocus_u, defocus_v : float
        Å, U >= V.
    angle : float
        Degrees from the x axis to the direction of U, -90 to 90.
    phase_shift : float
        Degrees; 0 where none was fitted.
    score : float
        Correlation of the spectrum, less its background, with the rings of the CTF, within the resolutions fitted
        (less the restraint on astigmatism).
    significance : float
        `score` in units of its deviation in noise.
    resolution : float
        Å to which the rings follow the CTF; infinite where they nowhere do.
    alias_resolution : float
        Å beyond which rings are too close for the spectrum's samples; 0 where they never are.
    ice_ring : float
        Sum of the radial average over the ring of crystalline ice.
    curves : RingCurves
    pattern : ndarray of float32, shape [box, box]
        The spectrum without its background, in units of its noise.
    """

    defocus_u: float
    defocus_v: float
    angle: float
    phase_shift: float
    score: float
    significance: float
    resolution: float
    alias_resolution: float
    ice_ring: float
    curves: RingCurves
    pattern: Floats

    @property
    def astigmatism(self) -> float:
        """Difference of U and V in Å."""
        return self.defocus_u - self.defocus_v

    @property
    def has_rings(self) -> bool:
        """Whether there is more than a chance agreement of noise with a CTF."""
        return self.significance >= _SIGNIFICANT and math.isfinite(self.resolution)

    def candidate(self) -> Candidate:
        """Return the fit as mean defocus and components of the astigmatism."""
        double, half = math.radians(2 * self.angle), self.astigmatism / 2
        mean = (self.defocus_u + self.defocus_v) / 2
        shift = math.radians(self.phase_shift)
        return Candidate(mean, half * math.cos(double), half * math.sin(double), shift, self.score)


def fit_ctf(spectrum: Spectrum, optics: Optics, settings: FitSettings) -> CtfFit:
    """Fit a CTF to the Thon rings of a spectrum.

    Parameters
    ----------
    spectrum : Spectrum
        From `vitrea.thon_rings.spectrum.amplitude_spectrum`, or another program's.
    optics : Optics
        Voltage, spherical aberration and amplitude contrast; the pixel size is the spectrum's own.
    settings : FitSettings

    Raises
    ------
    ValueError
        If the spectrum is constant, or hardly holds the resolutions to be fitted.

    Notes
    -----
    Follows CTFFIND4 (Rohou & Grigorieff 2015, doi:10.1016/j.jsb.2015.08.008) in what is compared with what; the search
    tries everything at once, and the refinement weighs frequencies by the strength of their rings.
    """
    width = filter_width(spectrum, settings.lowest_resolution)
    radii = _checked_radii(spectrum, settings)
    pattern = ring_pattern(spectrum, width)
    sums = sector_sums(pattern.values, *radii)
    found = search(sums, optics, settings, spectrum.step, radii, width, _CANDIDATES)
    data = fitted_samples(pattern.values, optics, spectrum.step, radii, width)
    rivals = [one for one in found if one.score >= _RIVAL * found[0].score]
    best = max((_refined(one, data, settings) for one in rivals), key=lambda one: one.score)
    # Now that the rings are known, the background can be told from them.
    for _ in range(_PASSES):
        pattern = ring_pattern(spectrum, width, relative_rings(best, data, pattern.noise))
        data = fitted_samples(pattern.values, optics, spectrum.step, radii, 0)
        best = _refined(best, data, settings)
    constants = ctf_constants(optics)
    curves = ring_curves(pattern.values, spectrum.step, best, constants)
    finest = max(fit_resolution(curves, settings.lowest_resolution), 2 * spectrum.pixel_size)
    finest = max(finest, alias_resolution(constants, best.defocus, spectrum.step, spectrum.box))
    if finest < settings.highest_resolution and settings.known_astigmatism is None:
        wide = _checked_radii(spectrum, replace(settings, highest_resolution=finest))
        finer = fitted_samples(pattern.values, optics, spectrum.step, wide, 0)
        best = _finer_astigmatism(best, finer, data, settings)
        curves = ring_curves(pattern.values, spectrum.step, best, constants)
    return _result(best, data, curves, pattern.values, spectrum, constants, settings)


def _checked_radii(spectrum: Spectrum, settings: FitSettings) -> tuple[int, int]:
    radii = radial_range(spectrum.box, spectrum.step, settings)
    if radii[1] - radii[0] < _FEWEST_RADII:
        raise ValueError(
            f"a spectrum of {spectrum.box} samples a side that reaches {2 * spectrum.pixel_size:.1f} Å has too few "
            f"samples between {settings.lowest_resolution:g} and {settings.highest_resolution:g} Å"
        )
    if not np.isfinite(spectrum.amplitude).all():
        raise ValueError("the image holds values that are not finite numbers")
    if not float(spectrum.amplitude.max()) > float(spectrum.amplitude.min()):
        raise ValueError("the image is constant")
    return radii


def _refined(start: Candidate, data: FittedSamples, settings: FitSettings) -> Candidate:
    """Refine a candidate, its phase shift staying within what was asked for."""
    best = refine(start, data, settings)
    if not settings.fits_phase:
        return best
    low, high = math.radians(settings.phase_min), math.radians(settings.phase_max)
    # CTF² has the period pi.
    shift = best.phase_shift - math.pi * math.floor((best.phase_shift - low) / math.pi)
    if shift <= high:
        return replace(best, phase_shift=shift)
    nearest = high if shift - high < low + math.pi - shift else low
    fixed = replace(settings, phase_min=math.degrees(nearest), phase_max=math.degrees(nearest))
    return refine(replace(best, phase_shift=nearest), data, fixed)


def _finer_astigmatism(best: Candidate, finer: FittedSamples, data: FittedSamples, settings: FitSettings) -> Candidate:
    """Take the astigmatism from rings beyond the resolution asked for, too, where they follow the fit.

    Astigmatism belongs to the lens, and all that scatters shares it. The mean defocus does not go along: the finest
    rings are those of the ice, and particles need not lie at its mean height.
    """
    wide = _refined(best, finer, settings)
    amount, angle = 2 * math.hypot(wide.cosine, wide.sine), math.degrees(0.5 * math.atan2(wide.sine, wide.cosine))
    known = replace(settings, known_astigmatism=(amount, angle))
    return _refined(replace(best, cosine=wide.cosine, sine=wide.sine), data, known)


def _result(
    best: Candidate, data: FittedSamples, curves: RingCurves, pattern: Floats, spectrum: Spectrum,
    constants: CtfConstants, settings: FitSettings,
) -> CtfFit:  # fmt: skip
    half = math.hypot(best.cosine, best.sine)
    angle = math.degrees(0.5 * math.atan2(best.sine, best.cosine))
    return CtfFit(
        defocus_u=best.defocus + half,
        defocus_v=best.defocus - half,
        angle=angle,
        phase_shift=math.degrees(best.phase_shift),
        score=best.score,
        significance=best.score * math.sqrt(len(data.values)),
        resolution=fit_resolution(curves, settings.lowest_resolution),
        alias_resolution=alias_resolution(constants, best.defocus, spectrum.step, spectrum.box),
        ice_ring=ice_ring_density(curves),
        curves=curves,
        pattern=pattern,
    )
