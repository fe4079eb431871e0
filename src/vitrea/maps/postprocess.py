"""From two half maps to the map one looks at: resolution, sharpening, masking, as ``relion_postprocess``."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.maps.half_maps import FscSettings, HalfMapFsc, half_map_fsc
from vitrea.maps.sharpening import GuinierPlot, SharpeningSettings, sharpen

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Postprocessed:
    """What post-processing yields.

    Attributes
    ----------
    density : ndarray of float32, shape [n, n, n]
        The sharpened map.
    masked : ndarray of float32, shape [n, n, n], or None
        The same, multiplied with the mask; None without one.
    fsc : HalfMapFsc
        What the map was sharpened with: the unmasked curve alone where the mask was set aside.
    measured : HalfMapFsc
        All curves that were measured, those with a mask that was set aside, too.
    guinier : GuinierPlot
    bfactor : float
        Å², as applied.
    mask_set_aside : bool
        Whether the mask was not used because the unmasked curve reached further than the corrected one.
    """

    density: NDArray[np.float32]
    masked: NDArray[np.float32] | None
    fsc: HalfMapFsc
    measured: HalfMapFsc
    guinier: GuinierPlot
    bfactor: float
    mask_set_aside: bool = False


def postprocess(
    half1: Floats,
    half2: Floats,
    voxel_size: float,
    mask: Floats | None = None,
    settings: SharpeningSettings | None = None,
    measure: FscSettings | None = None,
    *,
    force_mask: bool = False,
) -> Postprocessed:
    """Measure the resolution of two half maps and sharpen their average.

    Parameters
    ----------
    half1, half2 : ndarray, shape [n, n, n]
        Unfiltered half maps of independent refinements.
    voxel_size : float
        Å.
    mask : ndarray, shape [n, n, n], optional
        Soft solvent mask, 0 to 1.
    settings : SharpeningSettings, optional
        Without them: FSC weighting and no B-factor.
    measure : FscSettings, optional
        How the FSC is measured.
    force_mask : bool
        Use the mask even where it makes the resolution worse.

    Returns
    -------
    Postprocessed
    """
    settings = settings or SharpeningSettings()
    fsc = measured = half_map_fsc(half1, half2, voxel_size, mask, measure)
    set_aside = mask is not None and not force_mask and fsc.unmasked_shell > fsc.corrected_shell
    if set_aside:
        fsc = fsc.without_mask()
    density, bfactor, guinier = sharpen((half1 + half2) / 2, voxel_size, fsc.corrected, fsc.final_shell, settings)
    masked = None
    if mask is not None and not set_aside:
        masked = (density * mask).astype(np.float32)
    return Postprocessed(density, masked, fsc, measured, guinier, bfactor, set_aside)


def sharpen_half(half: Floats, result: Postprocessed, settings: SharpeningSettings) -> NDArray[np.float32]:
    """Treat a half map exactly as the average of the halves was treated, for validation.

    Parameters
    ----------
    half : ndarray, shape [n, n, n]
        One of the half maps that `result` was made from.
    result : Postprocessed
        Its FSC weights, B-factor and resolution are applied.
    settings : SharpeningSettings
        Those that made `result`.
    """
    same = replace(settings, automatic=False, bfactor=result.bfactor)
    return sharpen(half, result.fsc.voxel_size, result.fsc.corrected, result.fsc.final_shell, same)[0]
