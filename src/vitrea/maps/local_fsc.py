"""The FSC of half maps inside small windows, and the resolution it gives from place to place.

The method is that of ``relion_postprocess --locres``. Each window multiplies both half maps; of what the window itself
makes the maps agree by, the FSC is freed by phase randomisation (Chen et al. 2013, doi:10.1016/j.ultramic.2013.06.004).

Two things are done otherwise, for speed and for less noise. Windows are cut out into boxes of one and a half times
their width, whose shells are interpolated to those of the whole box. And phases are not drawn: what remains of the
correlation after infinitely many draws is known in closed form. Beyond the shell of randomisation a drawn component
has no mean, so that the mean cross spectrum of the windowed maps is that of their low-resolution part alone, and
their mean power is the power of that part plus the random power, which is even over the box: the same in each window.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from scipy.interpolate import PchipInterpolator
from torch import Tensor

from vitrea.fourier.grid import frequency_radius, half_shape, redundancy
from vitrea.fourier.shells import shell_index
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.maps.half_maps import FSC_THRESHOLD, as_tensor
from vitrea.maps.local_windows import WindowLattice, cut_windows
from vitrea.records.recorder import Recorder, SilentRecorder

Floats = NDArray[np.floating[Any]]
Curves = NDArray[np.float64]

_BOX_PER_WINDOW = 1.5
_BATCH_FLOATS = 1 << 24  # of real-space boxes transformed at a time


@dataclass(frozen=True)
class LocalFsc:
    """FSC curves of windows, each of shape [windows, n // 2 + 1], on the shells of the whole box.

    Attributes
    ----------
    lattice : WindowLattice
    voxel_size : float
        Å.
    randomised_from : int
        First shell whose phases are taken as random.
    masked, randomised, corrected : ndarray
        FSC of the windowed half maps; what of it the window alone makes; the first freed from the second.
    resolution : ndarray of float64, shape [windows]
        Å.
    """

    lattice: WindowLattice
    voxel_size: float
    randomised_from: int
    masked: Curves
    randomised: Curves
    corrected: Curves
    resolution: NDArray[np.float64]

    def resolution_map(self) -> NDArray[np.float32]:
        """Return Å at each voxel: the mean of 1/d over the windows there; 0 where there is none; shape [n, n, n]."""
        frequency = next(self.lattice.blend(1.0 / self.resolution[:, None]))
        return np.divide(1.0, frequency, out=np.zeros_like(frequency), where=frequency > 0)


def local_fsc(
    half1: Floats,
    half2: Floats,
    voxel_size: float,
    lattice: WindowLattice,
    randomise_at: float = 25.0,
    lowest: float = 50.0,
    recorder: Recorder | None = None,
) -> LocalFsc:
    """Measure the FSC of two half maps in windows.

    Parameters
    ----------
    half1, half2 : ndarray, shape [n, n, n]
        Unfiltered half maps of independent refinements.
    voxel_size : float
        Å.
    lattice : WindowLattice
    randomise_at : float
        Å from which phases count as random in the control; the correction begins two shells beyond.
    lowest : float
        Å; no window gets a worse resolution.
    recorder : Recorder, optional
        Hears of windows done.

    Returns
    -------
    LocalFsc
        The resolution of a window is that of the last shell before its corrected FSC first falls below 0.143.
    """
    size = int(half1.shape[-1])
    start = max(1, int(size * voxel_size / randomise_at))
    halves = torch.stack([as_tensor(half1), as_tensor(half2)])
    transforms = to_fourier(halves, 3)
    radius = frequency_radius(size, 3, dtype=halves.dtype)
    low = to_real(torch.where(radius < start, transforms, 0.0), size, 3)
    power = transforms.abs().square()
    random, whole = _windowed_power(torch.stack([torch.where(radius < start, 0.0, power), power]), lattice)
    maps, expected = torch.cat([halves, low]), np.concatenate([whole, whole])
    powers, cross = _spectra(maps, lattice, expected, recorder or SilentRecorder())
    noise = lattice.shares_of_power[:, None, None] * random
    masked = _correlation(cross[:, 0], powers[:, :2])
    randomised = _correlation(cross[:, 1], powers[:, 2:] + noise)
    corrected = masked.copy()
    beyond = slice(start + 2, None)
    # A floor for maps without noise, whose low-resolution part leaves nothing to be random.
    corrected[:, beyond] = (masked - randomised)[:, beyond] / np.maximum(1.0 - randomised[:, beyond], 1e-6)
    resolution = np.minimum(lowest, _resolutions(corrected, voxel_size, size))
    return LocalFsc(lattice, voxel_size, start, masked, randomised, corrected, resolution)


def _resolutions(curves: Curves, voxel_size: float, size: int) -> NDArray[np.float64]:
    """Return Å of the last shell of each curve before it first falls below the threshold; infinite for none."""
    below = curves[:, 1:] < FSC_THRESHOLD
    last = np.where(below.any(axis=1), below.argmax(axis=1), curves.shape[1] - 1)
    resolution: NDArray[np.float64] = np.divide(size * voxel_size, last, out=np.full(len(last), np.inf), where=last > 0)
    return resolution


def _correlation(cross: Curves, power: Curves) -> Curves:
    """Return FSC curves, shape [windows, shells], of cross spectra and of powers, shape [windows, 2, shells]."""
    norm = np.sqrt(power[:, 0] * power[:, 1])
    correlation = np.divide(cross, norm, out=np.zeros_like(cross), where=norm > 0)
    correlation[:, 0] = 1.0
    return np.clip(correlation, -1.0, 1.0)


def _windowed_power(power: Tensor, lattice: WindowLattice) -> Curves:
    """Return the mean power per shell that components of given powers and random phases have in a window.

    Parameters
    ----------
    power : Tensor, shape [..., n, n, n // 2 + 1]
        Of orthonormal transforms.

    Returns
    -------
    ndarray, shape [..., n // 2 + 1]
        For a window that lies in the box: the power convolved with that of the window's transform, which is the
        transform of the product of their autocorrelations.
    """
    size = lattice.size
    window = torch.from_numpy(lattice.in_box(np.full(3, size // 2)))
    overlap = to_real(to_fourier(window, 3).abs().square().to(torch.complex64), size, 3)
    covariance = to_real(power.to(torch.complex64), size, 3)
    return _Shells(size, size).means(to_fourier(covariance * overlap, 3).real / size**1.5)


def _spectra(maps: Tensor, lattice: WindowLattice, expected: Curves, recorder: Recorder) -> tuple[Curves, Curves]:
    """Return mean powers and cross spectra per shell of two pairs of maps in windows.

    Parameters
    ----------
    maps : Tensor, shape [4, n, n, n]
        The half maps, and their low-resolution parts.
    lattice : WindowLattice
    expected : ndarray, shape [4, n // 2 + 1]
        Powers about as they will be; what is interpolated are ratios to them.
    recorder : Recorder

    Returns
    -------
    tuple of ndarray
        Powers, shape [windows, 4, n // 2 + 1]; cross spectra of either pair, shape [windows, 2, n // 2 + 1].
    """
    size, count = lattice.size, len(lattice.centres)
    box = min(size, int(next_fast_len(int(_BOX_PER_WINDOW * lattice.width), real=True)))
    shells = _Shells(box, size)
    padded = torch.nn.functional.pad(maps, (lattice.reach,) * 6) if box < size else maps
    power, cross = np.empty((count, 4, size // 2 + 1)), np.empty((count, 2, size // 2 + 1))
    batch = max(1, _BATCH_FLOATS // (4 * box**3))
    recorder.stage("FSC in windows", count, "windows")
    for start in range(0, count, batch):
        chosen = slice(start, start + batch)
        centres = lattice.centres[chosen]
        cubes = cut_windows(padded, lattice, centres) if box < size else _whole_boxes(maps, lattice, centres)
        # Powers and cross spectra do not ask where the origin is.
        transforms = torch.fft.rfftn(cubes, s=(box,) * 3, dim=(-3, -2, -1)) / size**1.5
        one, other = transforms[:, ::2], transforms[:, 1::2]
        power[chosen] = shells.read(transforms.real.square() + transforms.imag.square(), expected)
        both = np.sqrt(expected[::2] * expected[1::2])
        cross[chosen] = shells.read(one.real * other.real + one.imag * other.imag, both)
        recorder.advance(len(centres))
    return np.maximum(power, 0.0), cross


def _whole_boxes(maps: Tensor, lattice: WindowLattice, centres: NDArray[np.int64]) -> Tensor:
    """Return maps times windows without cutting them out, shape [windows, maps, n, n, n]."""
    return torch.stack([maps * torch.from_numpy(lattice.in_box(centre)) for centre in centres])


class _Shells:
    """Means over the shells of a box, as the shells of a larger one with the same voxels would have them.

    In a box that is as large shells are RELION's: each stored sample counts once. In a smaller one both mates count,
    and a monotone spline (PCHIP) through the mean radii of the shells gives values between.
    """

    def __init__(self, box: int, size: int) -> None:
        self.box, self.size = box, size
        shells = shell_index(box, 3).flatten()
        self.inside = torch.nonzero(shells <= box // 2 + (box < size)).flatten()
        self.shells = shells[self.inside]
        counts = redundancy(box) if box < size else torch.ones(box // 2 + 1)
        self.weights = counts.expand(half_shape(box, 3)).flatten()[self.inside]
        self.totals = self._sums(self.weights[None])[0]
        radius = frequency_radius(box, 3).flatten()[self.inside]
        self.radii = self._sums((self.weights * radius)[None])[0] / self.totals * (size / box)

    def _sums(self, values: Tensor) -> Curves:
        sums = torch.zeros(len(values), int(self.shells.max()) + 1, dtype=torch.float64)
        sums.index_add_(1, self.shells, values.double())
        result: Curves = sums.numpy()
        return result

    def means(self, values: Tensor) -> Curves:
        """Return means over this box's shells, shape [..., shells], of values [..., box, box, box // 2 + 1]."""
        flat = values.reshape(-1, self.box * self.box * (self.box // 2 + 1))[:, self.inside] * self.weights
        means: Curves = self._sums(flat) / self.totals
        return means.reshape(*values.shape[:-3], -1)

    def read(self, values: Tensor, expected: Curves) -> Curves:
        """Return means over the larger box's shells, shape [..., size // 2 + 1]; see `_spectra` for `expected`."""
        means = self.means(values)
        if self.box == self.size:
            return means
        fine = np.arange(self.size // 2 + 1)
        level = np.log(np.maximum(expected, np.finfo(np.float64).tiny))
        here = np.exp(PchipInterpolator(fine, level, axis=-1)(np.minimum(self.radii, fine[-1])))
        curves: Curves = PchipInterpolator(self.radii, means / here, axis=-1)(fine) * expected
        return curves
