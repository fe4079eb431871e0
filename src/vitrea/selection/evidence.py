"""Is there a particle in an image, and where? Bayes factors from all views that class averages show.

An image is modelled as ``X = C P_v,t + noise``: one of the views v (every class average, turned by every angle of a
grid), moved to the place t, with the image's CTF C. Against an image of nothing but noise of variance sigma² per
component, such a particle at t has the evidence

    log B(t) = log sum over v of w_v exp( sum [ Re(X conj(C P_v,t)) - |C P_v|² / 2 ] 2 / sigma² )

with weights w_v that are the shares of the classes (sums over half the Fourier plane, sigma² the power of a complex
component). Views are not chosen but summed over: the best of many poses would find something in noise, too, the sum
pays for every view that it tries (Kass and Raftery 1995, doi:10.1080/01621459.1995.10476572).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.geometry.euler import euler_to_matrix
from vitrea.matching.reference import reference_from_map
from vitrea.records.particles import Particles
from vitrea.selection.differences import PairMaker

Floats = NDArray[np.float64]
# Widths (Å, standard deviation of x and of y) of the distribution of particles about the centres of their images that
# are tried: the one under which the set as a whole is likeliest is taken.
OFFSET_SIGMAS = (3.0, 4.5, 6.5, 9.5, 14.0, 20.0, 30.0)
_ROTATIONS = 36
_TINY = 1e-300
_MOST_VALUES = 2**24  # of moved images, and of their evidence, held at a time


@dataclass(frozen=True)
class Evidence:
    """What images show, against an image of noise alone; natural logarithms.

    Attributes
    ----------
    centred : ndarray, shape [particles, len(OFFSET_SIGMAS)]
        One particle near the centre, for each width of the distribution of offsets within the mask.
    elsewhere : ndarray, shape [particles]
        One particle anywhere within the radius of the mask, all places alike.
    pair : ndarray, shape [particles]
        Two of them, at places in the mask at least its radius apart, all such pairs of places alike. What the views of
        both have in common where they overlap is neglected.
    """

    centred: Floats
    elsewhere: Floats
    pair: Floats


class Views:
    """All views of the classes, turned in the plane.

    Parameters
    ----------
    averages : sequence of Tensor of float32, shape [n, n]
        Class averages on the grey scale of the images, corrected for the CTF.
    shares : ndarray, shape [classes]
        How often each is seen; only ratios count.
    maker : PairMaker
        Tells the band of frequencies, the pixel size and what to do about the CTF.
    diameter : float
        Of the particle, Å.
    """

    def __init__(self, averages: Sequence[Tensor], shares: Floats, maker: PairMaker, diameter: float) -> None:
        angles = np.arange(_ROTATIONS) * 360.0 / _ROTATIONS
        eulers = np.stack([np.zeros_like(angles), np.zeros_like(angles), angles], axis=1)
        matrices = torch.from_numpy(euler_to_matrix(eulers).astype(np.float32))
        references = [reference_from_map(average, maker.radius) for average in averages]
        views = torch.cat([reference.project(matrices, maker.samples) for reference in references])
        # The mean grey value is a matter of normalisation; without it, all other samples stand for two components each.
        self._maker, self._views = maker, views * (maker.window * (torch.from_numpy(maker.samples.shell) > 0))
        weights = np.log(np.repeat(shares / shares.sum(), _ROTATIONS) / _ROTATIONS)
        self._log_weights = torch.from_numpy(weights).float()
        self._turned = torch.view_as_real(self._views).flatten(1).T.contiguous()
        places = _places(maker.size, maker.radius, diameter / 2 / maker.pixel_size)
        # An image moved by minus a place has what is there at its centre.
        self._ramps = maker.samples.phase_ramps(-places)
        squares = torch.from_numpy(((places[:, None] - places) ** 2).sum(axis=2)) * maker.pixel_size**2
        self._priors = _priors(torch.from_numpy((places**2).sum(axis=1)) * maker.pixel_size**2)
        apart = squares >= (diameter / 2) ** 2
        self._apart = apart.double() / apart.sum()

    def evidence(self, images: Tensor, particles: Particles, whitening: Tensor) -> Evidence:
        """Compute the evidence of images.

        Parameters
        ----------
        images : Tensor of float32, shape [particles, n, n]
        particles : Particles
            Defocus where the CTF is wanted. Their poses are not used.
        whitening : Tensor of float32, shape [samples]
            1 / sigma, of the band of `maker`.
        """
        transforms, transfer = self._maker.transforms(images, particles)
        weights = whitening.square()
        filtered = transforms * transfer * weights
        energies = (transfer.square() * weights) @ self._views.abs().square().T
        portion = max(1, _MOST_VALUES // (len(self._ramps) * max(len(self._views), 2 * len(whitening))))
        rows = []
        for some, energy in zip(torch.split(filtered, portion), torch.split(energies, portion), strict=True):
            moved = torch.view_as_real(some[:, None] * self._ramps).flatten(2)
            # One product of matrices for all places and views; samples stand for both halves of the plane.
            gains = 2.0 * (moved @ self._turned) + (self._log_weights - energy)[:, None, :]
            rows.append(torch.logsumexp(gains, dim=2).double())
        at_places = torch.cat(rows)
        found = torch.logsumexp(at_places[:, None, :] + self._priors, dim=2).numpy()
        return Evidence(found[:, :-1], found[:, -1], self._pair(at_places))

    def _pair(self, inside: Tensor) -> Floats:
        """Sum over all two places far enough apart; evidence at places, shape [particles, places]."""
        largest = inside.amax(dim=1, keepdim=True)
        first = (inside - largest).exp()
        both = ((first @ self._apart) * first).sum(dim=1).clamp(min=_TINY).log()
        return np.asarray((both + 2 * largest[:, 0]).numpy())


def _places(size: int, radius: int, reach: float) -> Floats:
    """Places as close together as a band of frequencies asks for, within reach of the centre; (x, y) in pixels."""
    count = 2 * radius + 2
    axis = (np.arange(count) - count // 2) * size / count
    places = np.stack(np.meshgrid(axis, axis), axis=2).reshape(-1, 2)
    return np.asarray(places[(places**2).sum(axis=1) <= reach**2])


def _priors(squares: Tensor) -> Tensor:
    """Log prior probabilities of places at squared distances (Å², shape [places]) from the centre.

    Returns
    -------
    Tensor of float64, shape [widths + 1, places]
        Normal ones, and one alike everywhere.
    """
    rows = [-squares / (2 * sigma**2) for sigma in OFFSET_SIGMAS]
    table = torch.stack([*rows, torch.zeros_like(squares)])
    return table - torch.logsumexp(table, dim=1, keepdim=True)
