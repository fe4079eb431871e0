"""How well an atomic model explains a map: FSC, and correlation of densities part by part.

The model's density comes from elsewhere (`simulate.density`): here both are arrays.

References
----------
Rosenthal & Henderson (2003), doi:10.1016/j.jmb.2003.07.013: map and perfect model. Amunts et al. (2014),
doi:10.1126/science.1249410, and Brown et al. (2015), doi:10.1107/S1399004714021683: FSC with both half maps, to see
over-fitting; the mean FSC.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.fourier.fsc import fourier_shell_correlation, interpolated_resolution_at
from vitrea.fourier.shells import shell_counts, spread_shells, sum_stored_samples
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.maps.half_maps import as_tensor
from vitrea.maps.mask_sources import atoms_binary
from vitrea.maps.masking import soften
from vitrea.maps.spectral_sharpening import inside_mask

Floats = NDArray[np.floating[Any]]
Curve = NDArray[np.float64]

_PAIRS_AT_A_TIME = 4_000_000


@dataclass(frozen=True)
class ModelFsc:
    """FSC of a model with maps, each of shape [n // 2 + 1].

    Attributes
    ----------
    voxel_size : float
        Å.
    size : int
        Box n in voxels.
    masked, unmasked : ndarray
        With the map, inside the mask around the model and in the whole box.
    work, free : ndarray or None
        Inside the mask, with the first half map (into which, in a test for over-fitting, the model was refined), and
        with the second.
    halves : ndarray or None
        Of the half maps with each other, inside the mask.
    """

    voxel_size: float
    size: int
    masked: Curve
    unmasked: Curve
    work: Curve | None = None
    free: Curve | None = None
    halves: Curve | None = None

    @property
    def expected(self) -> Curve | None:
        """What a perfect model would reach with the sum of the half maps: ``sqrt(2 FSC / (1 + FSC))`` of `halves`."""
        if self.halves is None:
            return None
        clipped = np.clip(self.halves, 0.0, 1.0)
        return np.asarray(np.sqrt(2.0 * clipped / (1.0 + clipped)))

    def resolution_at(self, threshold: float, curve: Curve | None = None) -> float:
        """Return the resolution in Å at which a curve (by default `masked`) first falls below a threshold."""
        values = self.masked if curve is None else curve
        return interpolated_resolution_at(values.tolist(), threshold, self.voxel_size, self.size)

    def mean(self, curve: Curve, resolution: float) -> float:
        """Return the mean FSC up to a resolution in Å, each shell counted by its samples (Brown et al. 2015)."""
        counts = shell_counts(self.size, 3, dtype=torch.float64).numpy()
        last = max(1, min(len(curve) - 1, int(self.size * self.voxel_size / resolution)))
        return float(np.average(curve[1 : last + 1], weights=counts[1 : last + 1]))


def mask_around_atoms(positions: Floats, size: int, radius: float, edge: float) -> NDArray[np.float32]:
    """Make a mask around atoms.

    Parameters
    ----------
    positions : ndarray, shape [atoms, 3]
        x, y, z in voxels from the centre ``n // 2``; some may lie outside the box.
    size : int
        Box n in voxels.
    radius, edge : float
        Voxels from an atom within which the mask is 1, and over which it falls to 0.

    Returns
    -------
    ndarray of float32, shape [n, n, n]

    Raises
    ------
    ValueError
        If no atom lies in the box, or the mask fills it.
    """
    corner = -float(size // 2)
    binary = atoms_binary(positions, size, 1.0, radius, (corner, corner, corner))
    mask = soften(binary, edge)
    if mask.min() == 1:
        raise ValueError("the mask around the model fills the box")
    return mask


def model_fsc(
    model: Floats, density: Floats, voxel_size: float, mask: Floats, halves: tuple[Floats, Floats] | None = None
) -> ModelFsc:
    """Measure the FSC of a model's density with a map, and with its half maps.

    Parameters
    ----------
    model, density : ndarray, shape [n, n, n]
        In the same place.
    voxel_size : float
        Å.
    mask : ndarray, shape [n, n, n]
        Around the model; multiplied onto all of them, after the level outside it was taken away.
    halves : pair of ndarray, shape [n, n, n], optional

    Returns
    -------
    ModelFsc
    """
    whole = as_tensor(model).double(), as_tensor(density).double()
    masked = inside_mask(model, mask).double()
    work = free = between = None
    if halves is not None:
        half1, half2 = (inside_mask(half, mask).double() for half in halves)
        work, free, between = (_fsc(*pair) for pair in ((masked, half1), (masked, half2), (half1, half2)))
    inside = _fsc(masked, inside_mask(density, mask).double())
    return ModelFsc(voxel_size, int(density.shape[-1]), inside, _fsc(*whole), work, free, between)


def _fsc(first: torch.Tensor, second: torch.Tensor) -> Curve:
    curve: Curve = fourier_shell_correlation(first, second).numpy()
    curve[0] = 1.0  # the mean of a map says nothing about agreement
    return curve


def as_seen(model: Floats, density: Floats, mask: Floats) -> NDArray[np.float32]:
    """Return a model's density as the map shows it: each shell multiplied so that it predicts the map best.

    The factors are those of linear regression inside the mask, ``sum(F_map F_model*) / sum |F_model|²``, 0 where they
    would be negative: sharpening, damping and the limit of resolution of the map go into them, so that densities can be
    compared as they are.

    Parameters
    ----------
    model, density, mask : ndarray, shape [n, n, n]

    Returns
    -------
    ndarray of float32, shape [n, n, n]
    """
    size = density.shape[-1]
    whole = as_tensor(model).double()
    inside = to_fourier(inside_mask(model, mask).double(), 3)
    shown = to_fourier(inside_mask(density, mask).double(), 3)
    cross = sum_stored_samples((shown * inside.conj()).real, size, 3)
    power = sum_stored_samples(inside.abs().square(), size, 3)
    factors = torch.where(power > 0, cross / power.clamp_min(1e-300), 0.0).clamp_min(0.0)
    factors[0] = factors[1]  # the level of the solvent decides shell 0
    seen = to_real(to_fourier(whole, 3) * spread_shells(factors, size, 3), size, 3)
    return np.asarray(seen.numpy(), dtype=np.float32)


def correlations_of_parts(
    model: Floats, density: Floats, positions: Floats, parts: NDArray[np.int64], radius: float
) -> Curve:
    """Return the correlation of two densities around each part of a molecule.

    Parameters
    ----------
    model, density : ndarray, shape [n, n, n]
    positions : ndarray, shape [atoms, 3]
        x, y, z in voxels from the centre ``n // 2``.
    parts : ndarray of int64, shape [atoms]
        Number of each atom's part (residue, chain), from 0.
    radius : float
        Voxels around each atom that count; a voxel near several atoms of a part counts once.

    Returns
    -------
    ndarray, shape [parts]
        Pearson's correlation; NaN for parts outside the box, or with fewer than three voxels or no variation.
    """
    size, count = density.shape[-1], int(parts.max()) + 1
    sums = np.zeros((6, count))
    order = np.argsort(parts, kind="stable")
    reach = int(np.ceil(radius)) + 1
    offsets = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 3, indexing="ij"), axis=-1).reshape(-1, 3)
    atoms_at_a_time = max(1, _PAIRS_AT_A_TIME // len(offsets))
    for atoms in _whole_parts(parts[order], atoms_at_a_time):
        chosen = order[atoms]
        voxels, owners = _voxels_near(np.asarray(positions)[chosen], parts[chosen], offsets, radius, size)
        x, y = model.ravel()[voxels].astype(np.float64), density.ravel()[voxels].astype(np.float64)
        for row, values in enumerate((np.ones_like(x), x, y, x * x, y * y, x * y)):
            sums[row] += np.bincount(owners, weights=values, minlength=count)
    n, x, y, xx, yy, xy = sums
    with np.errstate(divide="ignore", invalid="ignore"):
        variance = (n * xx - x * x) * (n * yy - y * y)
        correlation = (n * xy - x * y) / np.sqrt(variance)
    return np.where((n >= 3) & (variance > 0), correlation, np.nan)


def _whole_parts(sorted_parts: NDArray[np.int64], most: int) -> list[slice]:
    """Cut sorted numbers of parts into slices of about so many atoms, no part in two slices."""
    starts = np.flatnonzero(np.r_[True, np.diff(sorted_parts) > 0])
    cuts = [0]
    for start in starts[1:]:
        if start - cuts[-1] >= most:
            cuts.append(int(start))
    ends = [*cuts[1:], len(sorted_parts)]
    return [slice(start, end) for start, end in zip(cuts, ends, strict=True)]


def _voxels_near(
    positions: Floats, parts: NDArray[np.int64], offsets: NDArray[np.int64], radius: float, size: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return flat indices of voxels within a radius of any atom of a part, and the part of each; every pair once."""
    nearest = np.rint(positions).astype(np.int64)
    places = nearest[:, None] + offsets
    near = ((places - positions[:, None]) ** 2).sum(axis=-1) <= radius**2
    places += size // 2
    near &= ((places >= 0) & (places < size)).all(axis=-1)
    flat = (places[..., 2] * size + places[..., 1]) * size + places[..., 0]
    owners = np.broadcast_to(parts[:, None], flat.shape)
    pairs = np.unique(owners[near] * np.int64(size**3) + flat[near])
    return pairs % size**3, pairs // size**3
