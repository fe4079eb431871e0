"""The signal of a known part of the structure in particle images, to be taken out of them.

Bai et al. (2015), doi:10.7554/eLife.11182.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.fourier.transforms import resize_box, to_real
from vitrea.geometry.euler import euler_to_matrix
from vitrea.matching.images import translate_whole_pixels
from vitrea.optics.transfer import particle_ctf
from vitrea.records.particles import Particles
from vitrea.simulate.projections import Projector


@dataclass(frozen=True)
class Imaging:
    """How projections become images.

    Attributes
    ----------
    ctf : bool
        Whether the CTF (and beam tilt) is applied.
    phase_flipped : bool
        The images' phases are flipped: the CTF is its absolute value.
    intact_first_peak : bool
        Amplitudes are left alone up to the first peak of the CTF.
    """

    ctf: bool = True
    phase_flipped: bool = False
    intact_first_peak: bool = False


def signal_images(
    projector: Projector, particles: Particles, factors: NDArray[np.float64], imaging: Imaging | None = None
) -> Tensor:
    """Make the images of a map as they are in a particle set.

    Parameters
    ----------
    projector : Projector
        Of the map.
    particles : Particles
        Angles, shifts and optics; those of groups with premultiplied images get their CTF twice.
    factors : ndarray, shape [particles]
        What the signal of each is multiplied by. An image X of a likelihood run obeys ``gain X = scale CTF P`` with
        ``gain = average norm / norm correction``, so this is ``scale * norm correction / average norm``.
    imaging : Imaging, optional

    Returns
    -------
    Tensor of float32, shape [particles, n, n]
    """
    imaging = imaging or Imaging()
    intact, absolute = imaging.intact_first_peak, imaging.phase_flipped
    packed = projector.packed(particles, with_ctf=imaging.ctf, intact_first_peak=intact, absolute=absolute)
    premultiplied = np.array([group.ctf_premultiplied for group in particles.optics])[particles.optics_index]
    if imaging.ctf and premultiplied.any():
        rows = np.flatnonzero(premultiplied)
        frequency_y, frequency_x = projector.samples.frequencies(projector.pixel_size)
        packed[torch.from_numpy(rows)] *= particle_ctf(
            frequency_y, frequency_x, particles.rows(rows), intact_first_peak=intact, absolute=absolute
        )
    packed = packed * torch.from_numpy(factors.astype(np.float32))[:, None]
    return to_real(projector.samples.scatter(packed), projector.size, 2)


def projected_point(particles: Particles, point: NDArray[np.float64]) -> NDArray[np.float64]:
    """Say where a point of the map lies in every image.

    Parameters
    ----------
    particles : Particles
        Angles and shifts.
    point : ndarray, shape [3]
        x, y, z in Å from the centre of the map.

    Returns
    -------
    ndarray, shape [particles, 2]
        x, y in Å from the centre of the image: the first two coordinates of ``A point``, less the particle's origin.
    """
    seen: NDArray[np.float64] = euler_to_matrix(particles.eulers)[:, :2] @ point - particles.shifts
    return seen


def cut_out(images: Tensor, shifts: NDArray[np.int64], size: int) -> Tensor:
    """Move images by whole pixels (x, y; shape [images, 2]) and cut or pad them with 0 to a box about their centre."""
    if shifts.any():
        images = translate_whole_pixels(images, torch.from_numpy(shifts))
    return resize_box(images, size, 2) if size != images.shape[-1] else images
