"""Where an atomic model lies in a map, and which hand the map has, judged by the model's density."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.fourier.filters import lowpass
from vitrea.fourier.fsc import fourier_shell_correlation, last_shell_above
from vitrea.fourier.shells import shell_counts
from vitrea.fourier.transforms import resample, shift_fourier, to_fourier, to_real
from vitrea.maps.alignment import align_maps
from vitrea.maps.half_maps import FSC_THRESHOLD, as_tensor
from vitrea.maps.spectral_sharpening import change_hand, inside_mask
from vitrea.maps.transform import Placement, place_map
from vitrea.records.recorder import Recorder, SilentRecorder

Floats = NDArray[np.floating[Any]]
Curve = NDArray[np.float64]

_COARSE_BOX, _COARSE_RESOLUTION = 64, 15.0  # voxels at most; Å at best

HAND_IS_CLEAR = 0.2
"""Difference in mean FSC that a hand must make to be called. Fits into pure noise differ by up to 0.1; the two hands of
beta-galactosidase by 0.6 at 12 Å and 0.3 at 30 Å."""


@dataclass(frozen=True)
class HandTest:
    """A model fitted into a map and into its mirror image.

    Attributes
    ----------
    same, mirrored : Placement
        Of the model in the map, and in its mirror image.
    same_fsc, mirrored_fsc : ndarray, shape [n // 2 + 1]
        Of the fitted model with each, inside the mask carried along.
    difference : float
        Mean FSC of the first less that of the second, up to where the better one falls below 0.143.
    """

    same: Placement
    mirrored: Placement
    same_fsc: Curve
    mirrored_fsc: Curve
    difference: float

    @property
    def verdict(self) -> str:
        """ "right", "wrong", or "unclear" where the two hands fit about as well."""
        if abs(self.difference) < HAND_IS_CLEAR:
            return "unclear"
        return "right" if self.difference > 0 else "wrong"


def score_shifts(model: Floats, density: Floats, voxel_size: float, shifts: Mapping[str, Floats]) -> dict[str, float]:
    """Return the correlation of a model's density, moved, with a map, at low resolution.

    Parameters
    ----------
    model, density : ndarray, shape [n, n, n]
    voxel_size : float
        Å.
    shifts : mapping of str to ndarray, shape [3]
        By name, x, y, z in voxels. Those by half the box and more give -1: they leave it.

    Returns
    -------
    dict of str to float
    """
    size = density.shape[-1]
    box = min(size, _COARSE_BOX)
    resolution = max(_COARSE_RESOLUTION, 4.0 * voxel_size * size / box)
    pair = [resample(lowpass(as_tensor(one).float(), resolution, voxel_size), box, 3) for one in (model, density)]
    transform, fixed = to_fourier(pair[0], 3), pair[1].ravel()
    found = {}
    for name, shift in shifts.items():
        if np.abs(shift).max() >= size / 2:
            found[name] = -1.0
            continue
        step = torch.tensor(np.asarray(shift) * box / size, dtype=torch.float32)
        moved = to_real(shift_fourier(transform, step), box, 3).ravel()
        found[name] = float(torch.corrcoef(torch.stack([moved, fixed]))[0, 1])
    return found


def fit_model(
    model: Floats,
    density: Floats,
    voxel_size: float,
    start: Placement | None,
    resolution: float = 0.0,
    recorder: Recorder | None = None,
) -> tuple[Placement, float]:
    """Fit a model's density into a map as a rigid body.

    Parameters
    ----------
    model, density : ndarray, shape [n, n, n]
    voxel_size : float
        Å.
    start : Placement or None
        To be refined; None: all rotations are searched.
    resolution : float
        Å of the comparison; see `align_maps`.
    recorder : Recorder, optional

    Returns
    -------
    (Placement, float)
        Of the model, and the correlation there.
    """
    found = align_maps(
        model, density, voxel_size, resolution=resolution, try_both_hands=False, start=start, recorder=recorder
    )
    return found.placement, found.correlation


def compare_hands(
    model: Floats,
    density: Floats,
    voxel_size: float,
    mask: Floats,
    start: Placement,
    resolution: float = 0.0,
    recorder: Recorder | None = None,
) -> HandTest:
    """Compare how well a model fits a map and its mirror image.

    In the mirror image the model is searched over all rotations; in the map, that search competes with a start.

    Parameters
    ----------
    model, density, mask : ndarray, shape [n, n, n]
        The mask is around the model where it stands, and is turned with it.
    voxel_size : float
        Å.
    start : Placement
        Where the model is thought to lie in the map.
    resolution : float
        Å of the search.
    recorder : Recorder, optional

    Returns
    -------
    HandTest
    """
    recorder = recorder or SilentRecorder()
    mirror = change_hand(density)
    candidates = [fit_model(model, density, voxel_size, one, resolution, recorder) for one in (start, None)]
    same = max(candidates, key=lambda item: item[1])[0]
    mirrored, _ = fit_model(model, mirror, voxel_size, None, resolution, recorder)
    curves = [_placed_fsc(model, one, mask, placement) for one, placement in ((density, same), (mirror, mirrored))]
    size = density.shape[-1]
    last = max(3, *(last_shell_above(curve.tolist(), FSC_THRESHOLD) for curve in curves))
    counts = shell_counts(size, 3, dtype=torch.float64).numpy()[1 : last + 1]
    means = [float(np.average(curve[1 : last + 1], weights=counts)) for curve in curves]
    return HandTest(same, mirrored, curves[0], curves[1], means[0] - means[1])


def _placed_fsc(model: Floats, density: Floats, mask: Floats, placement: Placement) -> Curve:
    around = np.clip(place_map(mask, placement), 0.0, 1.0)
    placed = inside_mask(place_map(model, placement), around).double()
    curve: Curve = fourier_shell_correlation(placed, inside_mask(density, around).double()).numpy()
    curve[0] = 1.0
    return curve
