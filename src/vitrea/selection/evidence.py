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

from vitrea.fourier.packed import packed_samples
from vitrea.fourier.transforms import to_real
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
_MOST_VALUES = 2**25  # of evidence maps held at a time


@dataclass(frozen=True)
class Evidence:
    """What images show, against an image of noise alone; natural logarithms.

    Attributes
    ----------
    centred : ndarray, shape [particles, len(OFFSET_SIGMAS)]
        One particle near the centre, for each width of the distribution of offsets.
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
        self._grid = 2 * maker.radius + 2
        self._band = packed_samples(self._grid, maker.radius)
        squares = _squared_distances(self._grid, maker.size * maker.pixel_size / self._grid)
        self._priors = _priors(squares[(self._grid + 1) * (self._grid // 2)], diameter / 2)
        self._inside = torch.nonzero(torch.isfinite(self._priors[-1]))[:, 0]
        apart = squares[self._inside][:, self._inside] >= (diameter / 2) ** 2
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
        portion = max(1, _MOST_VALUES // (len(self._views) * self._grid**2))
        rows = []
        for some, energy in zip(torch.split(filtered, portion), torch.split(energies, portion), strict=True):
            products = self._band.scatter((some[:, None] * self._views.conj()).flatten(0, 1))
            # The orthonormal transform divides by the grid's edge; its sum is over both halves of the plane.
            gains = to_real(products, self._grid).view(len(some), len(self._views), -1) * self._grid
            gains += (self._log_weights - energy)[:, :, None]
            rows.append(torch.logsumexp(gains, dim=1).double())
        at_places = torch.cat(rows)
        found = torch.logsumexp(at_places[:, None, :] + self._priors, dim=2).numpy()
        return Evidence(found[:, :-1], found[:, -1], self._pair(at_places[:, self._inside]))

    def _pair(self, inside: Tensor) -> Floats:
        """Sum over all two places far enough apart; evidence at the places in the mask, shape [particles, places]."""
        largest = inside.amax(dim=1, keepdim=True)
        first = (inside - largest).exp()
        both = ((first @ self._apart) * first).sum(dim=1).clamp(min=_TINY).log()
        return np.asarray((both + 2 * largest[:, 0]).numpy())


def _squared_distances(grid: int, step: float) -> Tensor:
    """Squared distances (Å²) between all places of a grid, shape [grid², grid²]."""
    y, x = (torch.arange(grid, dtype=torch.float64) * step for _ in range(2))
    places = torch.cartesian_prod(y, x)
    return (places[:, None] - places).square().sum(dim=2)


def _priors(squares: Tensor, radius: float) -> Tensor:
    """Log prior probabilities of places at squared distances (Å², shape [places]) from the centre.

    Returns
    -------
    Tensor of float64, shape [widths + 1, places]
        Normal ones, and one alike within a radius (Å).
    """
    rows = [-squares / (2 * sigma**2) for sigma in OFFSET_SIGMAS]
    rows.append(torch.where(squares <= radius**2, 0.0, -torch.inf))
    table = torch.stack(rows)
    return table - torch.logsumexp(table, dim=1, keepdim=True)
