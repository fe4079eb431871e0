"""Rotations, symmetry, grids of orientations and shifts, masks: numpy, float64, degrees."""

from vitrea.geometry.euler import (
    angular_distance,
    directions_to_vectors,
    euler_to_matrix,
    matrix_to_euler,
    wrap_degrees,
)
from vitrea.geometry.local_search import LocalCandidates, local_candidates
from vitrea.geometry.masks import raised_cosine, soft_sphere
from vitrea.geometry.sampling import OrientationGrid, angular_step, orientation_grid, perturbation, planar_grid
from vitrea.geometry.shifts import oversample_shifts, shift_grid
from vitrea.geometry.symmetry import (
    canonical_name,
    in_asymmetric_unit,
    symmetry_distance,
    symmetry_matrices,
    wall_distances,
)

__all__ = [
    "LocalCandidates",
    "OrientationGrid",
    "angular_distance",
    "angular_step",
    "canonical_name",
    "directions_to_vectors",
    "euler_to_matrix",
    "in_asymmetric_unit",
    "local_candidates",
    "matrix_to_euler",
    "orientation_grid",
    "oversample_shifts",
    "perturbation",
    "planar_grid",
    "raised_cosine",
    "shift_grid",
    "soft_sphere",
    "symmetry_distance",
    "symmetry_matrices",
    "wall_distances",
    "wrap_degrees",
]
