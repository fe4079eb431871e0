"""Templates: references turned in the plane, as weights of a few images from which all of them are made.

Turned copies of band-limited references are far from independent: a disc of diameter D seen to resolution d has no more
than some (pi D / 2 d)^2 degrees of freedom, however many references and angles there are. Their principal images are
correlated with the micrograph by FFT, and the correlations with all templates are a matrix product of those (a
steerable filter, in the sense of Freeman & Adelson 1991, doi:10.1109/34.93808).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import map_coordinates, spline_filter
from torch import Tensor

from vitrea.fourier.filters import lowpass
from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.masks import raised_cosine
from vitrea.geometry.sampling import planar_grid

_RESIDUAL = 1e-4  # part of a template's power that its expansion may lack
_MASK_EDGE = 0.1  # width of the masks' soft edge, relative to their radius


@dataclass(frozen=True)
class Templates:
    """References in all in-plane orientations.

    Attributes
    ----------
    basis : Tensor of float32, shape [rank, n, n]
        Orthonormal images; the centre is pixel ``n // 2``.
    weights : Tensor of float32, shape [templates, rank]
        A template is the weighted sum of the basis.
    reference : ndarray of int64, shape [templates]
        Index of the reference each template shows.
    psi : ndarray of float64, shape [templates]
        In-plane angle in degrees (``rlnAnglePsi``).
    rivals : ndarray of bool, shape [templates], optional
        Templates of what is no particle: where one of them has the best score there is none. Scores are then compared
        on the scale that the templates have, not each in units of its own noise.
    """

    basis: Tensor
    weights: Tensor
    reference: NDArray[np.int64]
    psi: NDArray[np.float64]
    rivals: NDArray[np.bool_] | None = None

    @property
    def images(self) -> Tensor:
        """The templates themselves, shape [templates, n, n]."""
        return torch.einsum("tr,ryx->tyx", self.weights, self.basis)


def turned_templates(
    references: NDArray[np.float32],
    reference_pixel_size: float,
    pixel_sizes: tuple[float, float],
    diameter: float,
    resolution: float,
    psi_step: float,
) -> Templates:
    """Turn references in the plane and bring them to a micrograph's sampling.

    Parameters
    ----------
    references : ndarray of float32, shape [references, m, m]
        White on black; the level just outside the particle becomes 0.
    reference_pixel_size : float
        Å.
    pixel_sizes : (float, float)
        Å along y and x of the micrograph.
    diameter : float
        Å; what lies outside is masked off, with a soft edge.
    resolution : float
        Å; references are low-pass filtered to it.
    psi_step : float
        Degrees; shortened until it divides 360.

    Raises
    ------
    ValueError
        If a reference is constant within the mask.
    """
    psi = planar_grid(psi_step).psi
    radius = diameter / 2
    box_edge = radius * (1 + _MASK_EDGE)
    y, x = grid_positions(box_edge, pixel_sizes)
    mask = raised_cosine(np.hypot(y, x), radius, _MASK_EDGE * radius)
    size = references.shape[-1]
    images = []
    for reference in references:
        smooth = lowpass(torch.from_numpy(reference), max(resolution, 2 * reference_pixel_size), reference_pixel_size,
                         dims=2).numpy()  # fmt: skip
        level = _level_outside(smooth, radius / reference_pixel_size)
        coefficients = spline_filter(smooth - level, order=3, mode="constant")
        for angle in psi:
            # A point r of the image shows the point A^-1 r of the reference; A is a rotation: transposed is inverted.
            turn = euler_to_matrix((0.0, 0.0, angle))[:2, :2]
            source_x = (turn[0, 0] * x + turn[1, 0] * y) / reference_pixel_size + size // 2
            source_y = (turn[0, 1] * x + turn[1, 1] * y) / reference_pixel_size + size // 2
            images.append(map_coordinates(coefficients, [source_y, source_x], order=3, prefilter=False) * mask)
    stack = torch.from_numpy(np.asarray(images, dtype=np.float32))
    if bool((stack.flatten(1).norm(dim=1) == 0).any()):
        raise ValueError("a reference is empty within the particle's diameter")
    number = np.repeat(np.arange(len(references)), len(psi))
    return expand_templates(stack, number, np.tile(psi, len(references)))


def round_template(profile: Callable[[NDArray[np.float64]], NDArray[np.float64]], radius: float,
                   pixel_sizes: tuple[float, float]) -> Templates:  # fmt: skip
    """Make a template without direction from its profile.

    Parameters
    ----------
    profile : callable
        Value at distances from the centre (Å).
    radius : float
        Å; the profile is 0 from there on.
    pixel_sizes : (float, float)
        Å along y and x.
    """
    y, x = grid_positions(radius, pixel_sizes)
    image = torch.from_numpy(profile(np.hypot(y, x)).astype(np.float32))[None]
    return expand_templates(image, np.zeros(1, dtype=np.int64), np.zeros(1))


def disc_template(radius: float, edge: float, pixel_sizes: tuple[float, float]) -> Templates:
    """Make a uniform disc: half its height at `radius` (Å), a soft edge of full width `edge` (Å)."""
    return round_template(lambda r: raised_cosine(r, radius - edge / 2, edge), radius + edge / 2, pixel_sizes)


def grid_positions(reach: float, pixel_sizes: tuple[float, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return y and x in Å from the centre, of an odd square box that reaches so many Å; both of shape [n, n]."""
    half = int(np.ceil(reach / min(pixel_sizes)))
    steps = np.arange(-half, half + 1)
    y, x = np.meshgrid(steps * pixel_sizes[0], steps * pixel_sizes[1], indexing="ij")
    return y, x


def expand_templates(images: Tensor, reference: NDArray[np.int64], psi: NDArray[np.float64]) -> Templates:
    """Expand templates, shape [templates, n, n], in as few orthonormal images as keep all but 1e-4 of each's power."""
    flat = images.flatten(1).double()
    norms = flat.norm(dim=1, keepdim=True)
    unit = flat / norms
    inside = flat.abs().amax(dim=0) > 0
    vectors = _principal_axes(unit[:, inside])  # [pixels, axes]
    projections = unit[:, inside] @ vectors
    missing = 1.0 - projections.square().cumsum(dim=1)
    enough = (missing <= _RESIDUAL).all(dim=0)
    rank = int(enough.float().argmax()) + 1 if bool(enough.any()) else vectors.shape[1]
    basis = torch.zeros(rank, flat.shape[1], dtype=torch.float64)
    basis[:, inside] = vectors[:, :rank].T
    weights = projections[:, :rank] * norms
    return Templates(basis.reshape(rank, *images.shape[1:]).float(), weights.float(), reference, psi)


def _principal_axes(rows: Tensor) -> Tensor:
    """Return orthonormal axes of the space of rows, shape [length, axes], that of the largest variance first.

    From the products of rows or of columns, whichever are fewer.
    """
    if rows.shape[0] >= rows.shape[1]:
        axes: Tensor = torch.linalg.eigh(rows.T @ rows)[1].flip(1)
        return axes
    values, vectors = torch.linalg.eigh(rows @ rows.T)
    kept = values > 1e-12 * values[-1]
    expanded: Tensor = rows.T @ (vectors[:, kept] / values[kept].sqrt())
    return expanded.flip(1)


def _level_outside(image: NDArray[np.float32], radius: float) -> float:
    """Return the mean of a reference in the ring outside the particle, or along the box's border where it has none."""
    size = image.shape[0]
    y, x = np.mgrid[:size, :size] - size // 2
    distance = np.hypot(y, x)
    ring = (distance > radius) & (distance <= max(1.2 * radius, radius + 2))
    if not ring.any():
        ring = (np.maximum(np.abs(y), np.abs(x))) >= size // 2 - 1
    return float(image[ring].mean())
