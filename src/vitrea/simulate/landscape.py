"""What else is in a micrograph besides particles and even ice: carbon with an edge, contamination, ice of uneven depth.

All of it stays as it is under the beam. What delays electrons is a phase seen through the lens; what takes them away
(inelastic scattering and diffraction, past the energy filter or the aperture) is seen as it is. The mean phase of a
film has no amplitude contrast of its own beyond that.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from vitrea.optics.ctf import ctf
from vitrea.simulate.amorphous import carbon_power
from vitrea.simulate.canvas import Canvas
from vitrea.simulate.deformation import Deformation
from vitrea.simulate.imaging import Imaging, Lens
from vitrea.simulate.scattering import (
    CARBON,
    CARBON_DENSITY,
    WATER,
    WATER_DENSITY,
    inelastic_mean_free_path,
    interaction_constant,
    mean_potential,
)

ICE, FILM, CONTAMINATION = 0, 1, 2  # values of the mask
_STREAM = 61
_HOLE_RADIUS = 6000.0  # Å: 1.2 µm holes
_EDGE_WIDTH, _EDGE_ROUGHNESS, _EDGE_SCALE = 40.0, 15.0, 150.0  # Å, of the film's border
_CRYSTAL_PATH = 800.0  # Å: mean free path in crystalline ice, which diffracts
_RIPPLE_SCALE = 250.0  # Å: length over which the depth of the ice varies


@dataclass(frozen=True)
class Surroundings:
    """How much of what there is.

    Attributes
    ----------
    carbon : float
        Part of the image that is carbon film, 0 to 1.
    carbon_thickness : float
        Å.
    contaminants : float
        Mean number of pieces of contamination in an image.
    contaminant_radius : tuple of float
        Range of their radii in Å.
    ripple : float
        Root mean square variation of the depth of the ice, in Å.
    """

    carbon: float = 0.0
    carbon_thickness: float = 200.0
    contaminants: float = 0.0
    contaminant_radius: tuple[float, float] = (80.0, 400.0)
    ripple: float = 0.0


@dataclass(frozen=True)
class Landscape:
    """What was drawn.

    Attributes
    ----------
    phase : Tensor of float32
        Of the means of films and drops, in radians, on the canvas.
    grain : Tensor of float32
        Phase of the carbon's grain.
    passed : Tensor of float32
        Part of the electrons that get through.
    mask : ndarray of uint8
        `ICE`, `FILM` or `CONTAMINATION`.
    """

    phase: Tensor
    grain: Tensor
    passed: Tensor
    mask: NDArray[np.uint8]

    def contrast(self, canvas: Canvas, imaging: Imaging, lens: Lens) -> Tensor:
        """Return the contrast, half transform on the canvas: complex64."""
        y, x = canvas.frequencies()
        shift = torch.tensor([lens.phase_shift], dtype=torch.float64)
        plain = replace(imaging.optics, amplitude_contrast=0.0)
        envelope = torch.exp(-imaging.b_factor / 4 * (y.square() + x.square())).float() * imaging.visibility
        mean = ctf(y, x, plain, lens.defocus[None], shift)[0] * canvas.to_fourier(self.phase)
        grain = ctf(y, x, imaging.optics, lens.defocus[None], shift)[0] * canvas.to_fourier(self.grain)
        return canvas.to_fourier(self.passed - 1) - 2 * envelope * (mean + grain)

    def moved(self, deformation: Deformation) -> Landscape:
        """Return the landscape after it was moved; the mask tells of the first frame."""
        move = deformation.moved
        # What is outside the canvas is as at its opposite edge: a step there must not ring above full transmission.
        passed = move(self.passed).clamp_(0.0, float(self.passed.max()))
        return replace(self, phase=move(self.phase), grain=move(self.grain), passed=passed)

    def clear(self, canvas: Canvas, distance: float) -> NDArray[np.bool_]:
        """Tell where in the image there is nothing but ice within a distance in Å."""
        free = distance_transform_edt(self.mask == ICE) > distance / canvas.pixel_size
        return np.asarray(canvas.crop(torch.from_numpy(free)).numpy())


def draw_landscape(canvas: Canvas, imaging: Imaging, surroundings: Surroundings, seed: tuple[int, int]) -> Landscape:
    """Draw what surrounds the particles of one micrograph.

    Parameters
    ----------
    canvas : Canvas
    imaging : Imaging
    surroundings : Surroundings
    seed : tuple of int
    """
    random = np.random.default_rng([*seed, _STREAM])
    voltage = imaging.optics.voltage
    ice_path = inelastic_mean_free_path(WATER, WATER_DENSITY, voltage)
    ice_phase = interaction_constant(voltage) * mean_potential(WATER, WATER_DENSITY)
    absorbed = torch.zeros(canvas.shape)  # minus the logarithm of what gets through
    phase, grain = torch.zeros(canvas.shape), torch.zeros(canvas.shape)
    mask = np.full(canvas.shape, ICE, dtype=np.uint8)
    if surroundings.ripple:
        depth = surroundings.ripple * _smooth_field(canvas, random, _RIPPLE_SCALE)
        phase += ice_phase * depth
        absorbed += depth / ice_path
    if surroundings.carbon:
        film = _carbon(canvas, random, surroundings.carbon)
        thickness = surroundings.carbon_thickness
        # Where there is film there is so much less ice.
        phase += film * (interaction_constant(voltage) * mean_potential(CARBON, CARBON_DENSITY) - ice_phase) * thickness
        absorbed += film * thickness / inelastic_mean_free_path(CARBON, CARBON_DENSITY, voltage)
        amplitude = carbon_power(canvas.radius(), thickness, voltage).sqrt() / canvas.pixel_size
        grain += film * canvas.to_real(canvas.white(random) * amplitude.float())
        mask[film.numpy() > 0.5] = FILM
    for _ in range(random.poisson(surroundings.contaminants)):
        crystal = _crystal(canvas, random, surroundings.contaminant_radius)
        phase += ice_phase * crystal
        absorbed += crystal / _CRYSTAL_PATH
        mask[crystal.numpy() > 0] = CONTAMINATION
    return Landscape(phase, grain, torch.exp(-absorbed), mask)


def _smooth_field(canvas: Canvas, random: np.random.Generator, scale: float) -> Tensor:
    """Draw a random field of unit variance that varies over `scale` Å."""
    power = (1 + (2 * torch.pi * scale * canvas.radius()).square()).pow(-2.0)
    power[0, 0] = 0
    field = canvas.to_real(canvas.white(random) * power.sqrt().float())
    return field / field.std()


def _positions(canvas: Canvas) -> tuple[Tensor, Tensor]:
    """Return y and x in Å from the middle of the image, shaped to broadcast over the canvas."""
    y = (torch.arange(canvas.shape[0]) - canvas.top - canvas.height / 2) * canvas.pixel_size
    x = (torch.arange(canvas.shape[1]) - canvas.left - canvas.width / 2) * canvas.pixel_size
    return y[:, None], x[None, :]


def _carbon(canvas: Canvas, random: np.random.Generator, share: float) -> Tensor:
    """Return how much of the film there is, 0 to 1: all but a round hole that leaves `share` of the image."""
    y, x = _positions(canvas)
    angle = random.uniform(0, 2 * np.pi)
    distance = (y - _HOLE_RADIUS * np.sin(angle)).square() + (x - _HOLE_RADIUS * np.cos(angle)).square()
    outside = distance.sqrt() + _EDGE_ROUGHNESS * _smooth_field(canvas, random, _EDGE_SCALE)
    border = float(torch.quantile(canvas.crop(outside)[::4, ::4].reshape(-1), 1 - min(share, 1.0)))
    return torch.sigmoid((outside - border) / (_EDGE_WIDTH / 4))


def _crystal(canvas: Canvas, random: np.random.Generator, radii: tuple[float, float]) -> Tensor:
    """Return the thickness in Å of a lump of ice, some overlapping ellipsoids, where it lies on the canvas."""
    y, x = _positions(canvas)
    radius = float(np.exp(random.uniform(*np.log(radii))))
    centre = random.uniform(-0.5, 0.5, 2) * np.array([canvas.height, canvas.width]) * canvas.pixel_size
    thickness = torch.zeros(canvas.shape)
    for _ in range(random.integers(1, 5)):
        place = centre + random.normal(0, 0.4 * radius, 2)
        turn, axes = random.uniform(0, np.pi), radius * random.uniform(0.5, 1.0, 2)
        u = ((x - place[1]) * np.cos(turn) + (y - place[0]) * np.sin(turn)) / axes[0]
        v = ((y - place[0]) * np.cos(turn) - (x - place[1]) * np.sin(turn)) / axes[1]
        height = 1.5 * random.uniform(0.5, 1.0) * axes.min()
        thickness = torch.maximum(thickness, height * (1 - u.square() - v.square()).clamp(min=0).sqrt())
    return thickness
