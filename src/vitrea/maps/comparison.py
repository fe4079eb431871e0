"""How alike two maps are: placement, correlation and FSC."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.fourier.fsc import fourier_shell_correlation, interpolated_resolution_at
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.maps.alignment import align_maps
from vitrea.maps.half_maps import as_tensor
from vitrea.maps.transform import Placement, place_map, smallest_equivalent
from vitrea.records.recorder import Recorder

Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class MapComparison:
    """Two maps compared.

    Attributes
    ----------
    voxel_size : float
        Å.
    size : int
        Box size n.
    fsc : ndarray, shape [n // 2 + 1]
        Fourier shell correlation after placement and masking.
    correlation : float
        Real-space correlation of the same.
    placement : Placement
        What was done to the first map; the identity where it was not aligned.
    aligned : bool
        Whether the placement was searched for.
    placed : ndarray of float32, shape [n, n, n]
        The first map as placed, before masking.
    """

    voxel_size: float
    size: int
    fsc: NDArray[np.float64]
    correlation: float
    placement: Placement
    aligned: bool
    placed: NDArray[np.float32]

    def resolution_at(self, threshold: float) -> float:
        """Return the resolution in Å at which the FSC first crosses a threshold, interpolated between shells."""
        return interpolated_resolution_at(self.fsc.tolist(), threshold, self.voxel_size, self.size)


def compare_maps(
    moving: Floats,
    fixed: Floats,
    voxel_size: float,
    *,
    mask: Floats | None = None,
    align: bool = False,
    symmetry: str = "C1",
    resolution: float = 0.0,
    try_both_hands: bool = True,
    recorder: Recorder | None = None,
) -> MapComparison:
    """Compare two maps, on request after bringing the first onto the second.

    Parameters
    ----------
    moving, fixed : ndarray, shape [n, n, n]
    voxel_size : float
        Å.
    mask : ndarray, shape [n, n, n], optional
        Multiplied onto both maps, in the frame of `fixed`, before they are correlated.
    align : bool
        Whether to search the best rotation, shift and (if `try_both_hands`) hand.
    symmetry : str
        Point group of the moving map: of equivalent placements, the one of the smallest turn is reported.
    resolution : float
        Å used in the search; see `align_maps`.
    try_both_hands : bool
        Whether the mirror image is tried too.
    recorder : Recorder, optional

    Returns
    -------
    MapComparison
    """
    placement = Placement.identity()
    if align:
        found = align_maps(
            moving, fixed, voxel_size, resolution=resolution, try_both_hands=try_both_hands, recorder=recorder
        )
        placement = smallest_turn(found.placement, symmetry)
    placed = place_map(moving, placement) if align else np.asarray(moving, dtype=np.float32)
    weight = 1.0 if mask is None else mask
    first, second = as_tensor(placed * weight), as_tensor(fixed * weight)
    fsc = fourier_shell_correlation(first.double(), second.double()).numpy()
    correlation = float(np.corrcoef((placed * weight).ravel(), (fixed * weight).ravel())[0, 1])
    return MapComparison(voxel_size, int(fixed.shape[-1]), fsc, correlation, placement, align, placed)


def smallest_turn(placement: Placement, symmetry: str) -> Placement:
    """Return the equivalent placement of a symmetric map with the smallest angle of rotation."""
    operators = symmetry_matrices(symmetry)
    if placement.mirrored:
        mirror = np.diag([-1.0, 1.0, 1.0])
        operators = mirror @ operators @ mirror  # a mirrored map has the mirrored operators
    return replace(placement, rotation=smallest_equivalent(placement.rotation, operators))
