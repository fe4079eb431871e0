"""Where the mass of a reference lies, and how to bring it to the centre of the box."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from vitrea.likelihood.state import ClassModel

# Only density above this fraction of the maximum tells where a particle is: the rest is background.
MASS_THRESHOLD = 0.2
# Moves below half a pixel would blur a reference more than they centre it.
SMALLEST_MOVE = 0.5
# Blur, in Å, under which the particle is looked for.
BLUR = 15.0


def centre_of_mass(voxels: NDArray[np.float32], mask: NDArray[np.float32], pixel_size: float) -> NDArray[np.float64]:
    """Return the centre of the bright mass of a reference.

    Parameters
    ----------
    voxels : ndarray, shape [n, n] or [n, n, n]
    mask : ndarray, same shape
        Where to look.
    pixel_size : float
        Å.

    Returns
    -------
    ndarray, shape [dims]
        Pixels from the centre of the box, in the order x, y(, z); zero for a reference without bright mass.
    """
    smooth = ndimage.gaussian_filter(np.asarray(voxels * mask, dtype=np.float64), BLUR / (2.0 * pixel_size))
    top = float(smooth.max())
    if top <= 0:
        return np.zeros(voxels.ndim)
    mass = np.maximum(smooth - MASS_THRESHOLD * top, 0.0)
    centre = np.array(ndimage.center_of_mass(mass)) - voxels.shape[0] // 2
    found: NDArray[np.float64] = centre[::-1].copy()
    return found


def centre_class(
    group: ClassModel, mask: NDArray[np.float32], pixel_size: float
) -> tuple[ClassModel, NDArray[np.float64]]:
    """Move a reference by whole pixels so that its mass is at the centre.

    Returns
    -------
    ClassModel
    ndarray, shape [3]
        By how many pixels it was moved (x, y, z).
    """
    moved = np.zeros(3)
    offset = np.round(-centre_of_mass(group.voxels, mask, pixel_size))
    if group.share <= 0 or np.abs(offset).max() < SMALLEST_MOVE:
        return group, moved
    moved[: len(offset)] = offset
    steps = [int(step) for step in offset[::-1]]
    shifted = ndimage.shift(group.voxels, steps, order=0, mode="constant")
    unfiltered = group.unfiltered
    if unfiltered is not None:
        unfiltered = ndimage.shift(unfiltered, steps, order=0, mode="nearest")
    return replace(group, voxels=shifted, unfiltered=unfiltered), moved
