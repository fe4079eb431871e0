"""What in an image is too bright for a particle in noise: ice, gold, carbon, drops, whatever they look like.

Each image is divided by the usual spectrum of the set (the median over images in each shell), so that it would be white
if all were alike. Two kinds of number are then compared with those of the other images: the power in bands of frequency
(carbon and drops are too strong in the coarse, ice in the fine ones), and the power in the brightest small
window inside the particle's mask (a crystal, a bead).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.packed import PackedSamples, packed_samples
from vitrea.fourier.transforms import to_fourier
from vitrea.geometry.masks import soft_sphere
from vitrea.selection.differences import SmallBox, noise_spectrum, shell_power

Floats = NDArray[np.float64]
# Upper ends of the bands as shares of the Nyquist frequency: wide enough to hold many components, and narrow where
# spectra of particles and contaminants differ most.
_BANDS = (0.1, 0.22, 0.38, 0.58, 0.78, 1.0)
_WINDOW = 0.19  # edge of the small window, of the particle's diameter
_MAD_TO_SD = 1.4826
_TINY = 1e-12


class BrightnessMaker:
    """Measures powers of images.

    Parameters
    ----------
    size : int
        Box, pixels.
    diameter : float
        Of the particle, pixels.
    """

    def __init__(self, size: int, diameter: float) -> None:
        self.samples: PackedSamples = packed_samples(size, (size - 1) // 2)
        self._box = SmallBox(self.samples, self.samples.radius)
        diameter *= self._box.size / size
        self._window = max(3, round(_WINDOW * diameter))
        disc = soft_sphere(self._box.size, diameter / 2, 0.0, dims=2) > 0.5
        self._inside = torch.from_numpy(np.flatnonzero(disc))
        share = torch.from_numpy(self.samples.shell) / self.samples.radius
        edges = torch.tensor(_BANDS[:-1])
        self._band = torch.bucketize(share, edges)
        self._band[0] = -1  # the mean grey value is a matter of normalisation

    @property
    def numbers(self) -> int:
        """How many numbers are measured on each image."""
        return len(_BANDS) + 1

    def spectra(self, images: Tensor) -> Floats:
        """Return the power of images in each shell, shape [images, shells]: for the usual one."""
        return shell_power(self.samples, self.samples.gather(to_fourier(images)))

    def measure(self, images: Tensor, usual: Floats) -> Floats:
        """Measure images.

        Parameters
        ----------
        images : Tensor of float32, shape [images, n, n]
        usual : ndarray, shape [shells]
            See `usual_spectrum`.

        Returns
        -------
        ndarray, shape [images, bands + 1]
            Logarithms of powers.
        """
        white = self.samples.gather(to_fourier(images)) * torch.from_numpy(usual[self.samples.shell] ** -0.5).float()
        power = white.real**2 + white.imag**2
        columns = [power[:, self._band == band].mean(dim=1) for band in range(len(_BANDS))]
        pixels = self._box.images(white).square()
        local = torch.nn.functional.avg_pool2d(
            pixels[:, None], self._window, stride=1, padding=self._window // 2, count_include_pad=False
        )[:, 0, : self._box.size, : self._box.size]
        columns.append(local.flatten(1)[:, self._inside].amax(dim=1))
        return np.asarray(torch.stack(columns, dim=1).double().clamp(min=_TINY).log().numpy())


def usual_spectrum(spectra: Sequence[Floats]) -> Floats:
    """Return the median of spectra, given in portions of shape [images, shells] each; shape [shells], never 0."""
    return noise_spectrum(np.concatenate(list(spectra)))


def excess(measured: Floats) -> Floats:
    """Return how far the most suspicious number of each image lies above the others', in robust standard deviations.

    Parameters
    ----------
    measured : ndarray, shape [images, numbers]
        Rows of NaN: images that cannot be used.

    Returns
    -------
    ndarray, shape [images]
        0 where nothing is above the median; NaN for rows of NaN.
    """
    usable = ~np.isnan(measured).any(axis=1)
    out = np.full(len(measured), np.nan)
    if not usable.any():
        return out
    centred = measured[usable] - np.median(measured[usable], axis=0)
    spread = _MAD_TO_SD * np.median(np.abs(centred), axis=0)
    deviations = np.divide(centred, spread, out=np.zeros_like(centred), where=spread > 0)
    out[usable] = np.maximum(deviations.max(axis=1), 0.0)
    return out
