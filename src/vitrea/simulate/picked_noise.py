"""Noise that looks like a template: what a template picker finds where there is nothing ("Einstein from noise").

Windows cut out of pure noise at the peaks of its correlation with a template average, once aligned, to the template
(Henderson 2013, doi:10.1073/pnas.1314449110; Shatsky et al. 2009, doi:10.1016/j.jsb.2009.04.001).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.fft import next_fast_len
from torch import Tensor

from vitrea.fourier.filters import lowpass
from vitrea.fourier.transforms import resize_box, to_fourier, to_real
from vitrea.geometry.masks import soft_sphere
from vitrea.matching.peaks import find_peaks, separate
from vitrea.records.particles import EULER_LABELS, SHIFT_LABELS, Particles
from vitrea.simulate.noise import colour, unit_variance
from vitrea.simulate.particles import NoiseModel
from vitrea.simulate.population import KIND_LABEL, PICKED_NOISE
from vitrea.simulate.projections import Projector

_VIEW = (30.0, 60.0)  # rot and tilt of the template in degrees: no symmetry axis of common point groups
_STEP = 10.0  # degrees between its turned copies
_TEMPLATE_RESOLUTION = 20.0  # Å
_MICROGRAPHS = 5  # random stream


@dataclass(frozen=True)
class Picks:
    """Windows at the peaks of a correlation.

    Attributes
    ----------
    windows : Tensor of float32, shape [picks, n, n]
        Best first, the peak at the middle of the window.
    template : ndarray of int64, shape [picks]
        Which template correlated best.
    score : ndarray of float64, shape [picks]
        The correlation, in standard deviations of that of the noise.
    """

    windows: Tensor
    template: NDArray[np.int64]
    score: NDArray[np.float64]


def noise_micrograph(
    seed: int, number: int, size: int, spectrum: NDArray[np.float64] | None = None, box: int = 0
) -> Tensor:
    """Make a square of noise of unit variance.

    Parameters
    ----------
    seed, number : int
        Of the set, and of the micrograph.
    size : int
        Pixels along an edge.
    spectrum : ndarray, shape [box // 2 + 1], optional
        Power by shell of a box with the same pixels, as `noise.coloured_spectrum`; by default white.
    box : int
        That box in pixels.

    Returns
    -------
    Tensor of float32, shape [size, size]
    """
    random = np.random.default_rng([seed, _MICROGRAPHS, number])
    noise = torch.from_numpy(random.standard_normal((size, size), dtype=np.float32))
    if spectrum is None:
        return noise
    shells = np.arange(size // 2 + 1) / size
    power = np.interp(shells, np.arange(len(spectrum)) / box, spectrum)
    return colour(noise[None], unit_variance(power, size))[0]


def pick_peaks(micrograph: Tensor, templates: Tensor, count: int, distance: float) -> Picks:
    """Cut windows at the highest peaks of the correlation with any of several templates.

    Parameters
    ----------
    micrograph : Tensor of float32, shape [m, m]
    templates : Tensor of float32, shape [templates, n, n]
        For instance one projection turned in the plane in many steps. Each is brought to zero mean and unit norm.
    count : int
        Windows wanted.
    distance : float
        Smallest distance of two picks in pixels.

    Raises
    ------
    ValueError
        If the micrograph has no room for that many.
    """
    size, box = micrograph.shape[-1], templates.shape[-1]
    transform = to_fourier(micrograph)
    best = torch.full_like(micrograph, -torch.inf)
    which = torch.zeros(micrograph.shape, dtype=torch.int16)
    for number, template in enumerate(templates):
        flat = template - template.mean()
        flat = flat / flat.norm()
        score = to_real(transform * to_fourier(resize_box(flat[None], size))[0].conj(), size) * size
        better = score > best
        best[better], which[better] = score[better], number
    best = best / micrograph.std()
    margin = box // 2
    inner = best[margin : size - box + margin + 1, margin : size - box + margin + 1]
    places = separate(find_peaks(inner.numpy(), -np.inf), distance).pixels[:count]
    if len(places) < count:
        room = f"a micrograph of {tuple(inner.shape)} places"
        raise ValueError(f"{room} has no room for {count} windows {distance:g} pixels apart")
    windows = torch.stack([micrograph[y : y + box, x : x + box] for y, x in places])
    centres = tuple((places + margin).T)
    return Picks(windows, which.numpy()[centres].astype(np.int64), best.numpy()[centres].astype(np.float64))


def micrograph_size(box: int, count: int, distance: float) -> int:
    """Return the edge in pixels of a micrograph that surely has room for `count` picks that far apart."""
    # Each pick rules out less than a disc of radius `distance` for the others.
    return int(next_fast_len(box + int(np.ceil(distance * np.sqrt(np.pi * count))) + 1, real=True))


class PickedWindows:
    """Picked noise for the images of a set: every micrograph's are cut out of one noise micrograph of its own.

    Parameters
    ----------
    projector : Projector
        Of the molecule whose views are the templates.
    particles : Particles
        The set; those of kind ``picked_noise`` get windows.
    radius : float
        Radius of the particle in pixels: templates are masked by it, and picks are twice that apart.
    noise : NoiseModel
    """

    def __init__(self, projector: Projector, particles: Particles, radius: float, noise: NoiseModel) -> None:
        self.projector, self.particles, self.radius, self.noise = projector, particles, radius, noise
        self._micrographs: dict[str, Tensor] = {}
        table = particles.table
        picked = np.flatnonzero(table[KIND_LABEL] == PICKED_NOISE) if KIND_LABEL in table else np.empty(0, np.int64)
        self._rows: dict[str, list[int]] = {}
        for row in picked:
            self._rows.setdefault(str(table["rlnMicrographName"][row]), []).append(int(row))

    def images(self, rows: NDArray[np.int64]) -> Tensor:
        """Return windows, float32, shape [rows, n, n]; consecutive calls for one micrograph pick it once."""
        names = [str(name) for name in self.particles.table["rlnMicrographName"][rows]]
        self._micrographs = {name: self._micrographs.get(name, torch.empty(0)) for name in dict.fromkeys(names)}
        for name, windows in self._micrographs.items():
            if not len(windows):
                self._micrographs[name] = self._pick(name)
        return torch.stack(
            [self._micrographs[name][self._rows[name].index(int(row))] for name, row in zip(names, rows, strict=True)]
        )

    def _pick(self, name: str) -> Tensor:
        rows = self._rows[name]
        distance = 2 * self.radius
        size = micrograph_size(self.projector.size, len(rows), distance)
        number = list(self._rows).index(name)
        micrograph = noise_micrograph(self.noise.seed, number, size, self.noise.spectrum, self.projector.size)
        return pick_peaks(micrograph, self.templates(rows[0]), len(rows), distance).windows

    def templates(self, row: int) -> Tensor:
        """Return the turned copies of the template with the CTF of an image, float32, shape [turns, n, n].

        The template is the molecule seen along `_VIEW`.
        """
        turns = np.arange(0.0, 360.0, _STEP)
        same = self.particles.rows(np.full(len(turns), row))
        poses = dict(
            zip(EULER_LABELS, (np.full(len(turns), _VIEW[0]), np.full(len(turns), _VIEW[1]), turns), strict=True)
        )
        centred = {label: np.zeros(len(turns)) for label in SHIFT_LABELS}
        images = self.projector.images(same.with_columns({**poses, **centred}), with_ctf=True)
        images = lowpass(images, _TEMPLATE_RESOLUTION, self.projector.pixel_size, dims=2)
        return images * torch.from_numpy(soft_sphere(self.projector.size, self.radius, 3.0, dims=2)).to(images.dtype)
