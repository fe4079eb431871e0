"""Numbers that tell a good particle from junk, taken from whitened difference images.

A particle that is what its pose and class say leaves white noise. The features ask, in four ways, whether it did:

agreement
    The factor by which the reference has to be multiplied to fit the particle, in a coarse and in a fine band of
    frequencies: noise and other molecules do not agree with the reference, even in the best of many poses.
power
    The variance of the difference inside the particle, coarse and fine: what the reference does not explain.
shape
    Mean, skewness and excess kurtosis of the difference; the scatter of its means over four quadrants; what of it
    is round about the centre (ice, contaminants, wrong defocus).
surroundings
    Mean and variance of the difference outside the particle: neighbours, edges of carbon, shifted particles.

Mean, standard deviation, skewness, kurtosis, quadrants and rotational symmetry are those of RELION-1.3's
particle sorting (Scheres 2015, doi:10.1016/j.jsb.2014.11.010); agreement, bands and surroundings are added here.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.geometry.masks import soft_sphere
from vitrea.selection.differences import Pairs, SmallBox, difference, fit_scale

# Bands as fractions of the particle's diameter: wavelengths down to 1/4 of it are the coarse agreement, to 1/3 of it
# the coarse difference. Chosen on simulated particles of two molecules (tests/selection hold what they reach).
AGREEMENT_BAND = 4.0
DIFFERENCE_BAND = 3.0
_SMALLEST_RADIUS = 3
_FEWEST_PIXELS = 12
_TINY = 1e-12


@dataclass(frozen=True)
class Feature:
    """What one column of the feature table means.

    Attributes
    ----------
    name : str
        Also the end of its STAR label.
    group : str
        Which of the four questions it answers.
    sides : int
        +1 where only large values are suspicious, -1 where only small ones are, 0 where both are.
    """

    name: str
    group: str
    sides: int


FEATURES: tuple[Feature, ...] = (
    Feature("AgreementCoarse", "agreement", -1),
    Feature("AgreementFine", "agreement", -1),
    Feature("PowerCoarse", "power", 1),
    Feature("PowerFine", "power", 1),
    Feature("Mean", "shape", 0),
    Feature("Skewness", "shape", 0),
    Feature("Kurtosis", "shape", 0),
    Feature("Quadrants", "shape", 1),
    Feature("Roundness", "shape", 1),
    Feature("SurroundingsMean", "surroundings", 0),
    Feature("SurroundingsPowerCoarse", "surroundings", 1),
    Feature("SurroundingsPowerFine", "surroundings", 1),
)
AGREEMENT = [i for i, feature in enumerate(FEATURES) if feature.group == "agreement"]


class _Regions:
    """Which pixels of a small box are particle, quadrants, rings and surroundings.

    Parameters
    ----------
    box : SmallBox
    radius : float
        Of the particle, in pixels of the particles' own box.
    """

    def __init__(self, box: SmallBox, radius: float) -> None:
        size = box.size
        disc = soft_sphere(size, radius * size / box.samples.size, 0.0, dims=2) > 0.5
        y, x = np.mgrid[:size, :size] - size // 2
        self.box = box
        self.inside, self.outside = _columns(disc), _columns(~disc)
        self.quadrants = [_columns(disc & ((x >= 0) == right) & ((y >= 0) == up)) for right in (0, 1) for up in (0, 1)]
        distance = np.round(np.hypot(x, y)).astype(int)
        self.rings = [_columns(disc & (distance == ring)) for ring in np.unique(distance[disc])]


def _columns(mask: NDArray[np.bool_]) -> Tensor:
    return torch.from_numpy(np.flatnonzero(mask))


class FeatureMaker:
    """Computes the features of particles.

    Parameters
    ----------
    coarse, fine : SmallBox
        Boxes of the two bands in which differences are looked at.
    split : int
        Largest Fourier radius of the coarse agreement.
    radius : float
        Of the particle in pixels.
    """

    def __init__(self, coarse: SmallBox, fine: SmallBox, split: int, radius: float) -> None:
        self._coarse, self._fine = _Regions(coarse, radius), _Regions(fine, radius)
        shell = torch.from_numpy(fine.samples.shell)
        self._bands = ((shell <= split).float(), (shell > split).float())

    def features(self, pairs: Pairs, whitening: Tensor) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Compute features.

        Parameters
        ----------
        pairs : Pairs
        whitening : Tensor of float32, shape [samples]
            1 / sigma.

        Returns
        -------
        values : ndarray, shape [particles, features]
            In the order of `FEATURES`; agreements are scales in units of the references' grey scale, powers, quadrants
            and roundness are logarithms. NaN where there is nothing to compute from.
        strength : ndarray, shape [particles, 2]
            Inverse standard errors of the two agreements.
        """
        weights = whitening.square()
        scale, _ = fit_scale(pairs, weights)
        residual = difference(pairs, scale.clamp(min=0)) * whitening
        fits = [fit_scale(pairs, weights * band) for band in self._bands]
        values = [fit[0] for fit in fits] + _statistics(residual, self._coarse, self._fine)
        strength = torch.stack([fit[1] for fit in fits], dim=1)
        return np.asarray(torch.stack(values, dim=1).numpy()), np.asarray(strength.numpy())


def make_features(samples_box: SmallBox, diameter: float, pixel_size: float) -> FeatureMaker:
    """Make a `FeatureMaker` with its usual bands.

    Parameters
    ----------
    samples_box : SmallBox
        The finer band.
    diameter, pixel_size : float
        Å.
    """
    extent = samples_box.samples.size * pixel_size
    coarse, split = (
        min(samples_box.radius, max(_SMALLEST_RADIUS, int(extent * band / diameter)))
        for band in (DIFFERENCE_BAND, AGREEMENT_BAND)
    )
    return FeatureMaker(SmallBox(samples_box.samples, coarse), samples_box, split, diameter / (2 * pixel_size))


def _statistics(residual: Tensor, coarse: _Regions, fine: _Regions) -> list[Tensor]:
    """Statistics of differences, in the order of `FEATURES` from the third on; shape [particles] each."""
    smooth, sharp = (regions.box.images(residual).flatten(1).double() for regions in (coarse, fine))
    inside, around = sharp[:, fine.inside], sharp[:, fine.outside]
    mean = inside.mean(dim=1)
    centred = inside - mean[:, None]
    variance = centred.square().mean(dim=1).clamp(min=_TINY)
    skewness = (centred**3).mean(dim=1) / variance**1.5
    kurtosis = (centred**4).mean(dim=1) / variance**2 - 3.0
    quadrants = torch.stack([smooth[:, part].mean(dim=1) for part in coarse.quadrants], dim=1)
    rings = torch.stack([smooth[:, part].mean(dim=1) * len(part) ** 0.5 for part in coarse.rings], dim=1)
    nothing = torch.full_like(mean, torch.nan)
    enough = len(coarse.outside) >= _FEWEST_PIXELS
    return [
        _log_power(smooth[:, coarse.inside]),
        variance.log(),
        smooth[:, coarse.inside].mean(dim=1),
        skewness,
        kurtosis,
        quadrants.var(dim=1).clamp(min=_TINY).log() / 2,
        rings.square().mean(dim=1).clamp(min=_TINY).log() / 2,
        smooth[:, coarse.outside].mean(dim=1) if enough else nothing,
        _log_power(smooth[:, coarse.outside]) if enough else nothing,
        _log_power(around) if enough else nothing,
    ]


def _log_power(pixels: Tensor) -> Tensor:
    return pixels.var(dim=1, correction=0).clamp(min=_TINY).log()
