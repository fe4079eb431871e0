"""One image of a session, from its number: where it is focused, what lies in it, how it moves."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from vitrea.records.particles import Particles
from vitrea.simulate.canvas import Canvas, make_canvas
from vitrea.simulate.detector import count_electrons, detector_transfer
from vitrea.simulate.exposures import expected_frames
from vitrea.simulate.imaging import Imaging, Lens, Session, draw_field, draw_lens, inside
from vitrea.simulate.landscape import Landscape, Surroundings, draw_landscape
from vitrea.simulate.motion import Motion
from vitrea.simulate.projections import Projector
from vitrea.simulate.scene import Scene

_MARGIN_RESOLUTION = 4.0  # Å: what lies outside is let in as far as defocus spreads it at this resolution
Table = tuple[NDArray[np.float64], NDArray[np.float64]]


@dataclass(frozen=True)
class Shooting:
    """All that a session's images share.

    Attributes
    ----------
    imaging : Imaging
    session : Session
    surroundings : Surroundings
    projectors : sequence of Projector
        Molecules in volts above ice.
    size : tuple of int
        Rows and columns of the images.
    mtf : tuple of ndarray or None
        Of the detector: frequencies in cycles per pixel, and values; None: `detector.counting_mtf`.
    blur : bool
        Whether the detector blurs at all.
    places : ndarray, shape [particles, 2], optional
        x, y in pixels of the particles of every image, instead of drawn ones.
    """

    imaging: Imaging
    session: Session
    projectors: Sequence[Projector]
    size: tuple[int, int]
    surroundings: Surroundings = field(default_factory=Surroundings)
    mtf: Table | None = None
    blur: bool = True
    places: NDArray[np.float64] | None = None

    def shot(self, number: int, motion: Motion | None = None) -> Shot:
        """Arrange image `number` (from 0)."""
        imaging, optics = self.imaging, self.imaging.optics
        lens = draw_lens(self.session, number)
        spread = optics.wavelength * max(lens.defocus_u, lens.defocus_v, 0.0) / _MARGIN_RESOLUTION
        margin = spread + (motion.reach * optics.pixel_size if motion else 0.0)
        canvas = make_canvas(*self.size, optics.pixel_size, margin)
        landscape, allowed = None, None
        if self.surroundings != Surroundings():
            landscape = draw_landscape(canvas, imaging, self.surroundings, (self.session.seed, number))
            allowed = landscape.clear(canvas, self.session.spacing / 2)
        particles = draw_field(self.session, number, imaging, lens, self.size, allowed, self.places)
        scene = Scene(canvas, imaging, lens, self.projectors, particles, landscape)
        transfer = detector_transfer(canvas, self.mtf) if self.blur else None
        within = particles.rows(inside(particles, self.size))
        return Shot(self, number, lens, canvas, scene, within, landscape, transfer, motion)


@dataclass(frozen=True)
class Shot:
    """One image, ready to be taken.

    Attributes
    ----------
    shooting : Shooting
    number : int
    lens : Lens
    canvas : Canvas
    scene : Scene
    particles : Particles
        Those whose centres lie within the image.
    landscape : Landscape or None
    transfer : Tensor or None
        The detector's MTF.
    motion : Motion or None
    """

    shooting: Shooting
    number: int
    lens: Lens
    canvas: Canvas
    scene: Scene
    particles: Particles
    landscape: Landscape | None
    transfer: Tensor | None
    motion: Motion | None

    def expected(self, frames: int) -> Iterator[NDArray[np.float32]]:
        """Yield how many electrons each pixel of each frame should count."""
        seed = (self.shooting.session.seed, self.number)
        for frame in expected_frames(self.scene, frames, seed, self.transfer, self.motion):
            yield frame * np.float32(self.shooting.imaging.counts / frames)

    def frames(self, frames: int, gain: NDArray[np.float32] | None = None) -> Iterator[NDArray[np.int64]]:
        """Yield the counts of each frame; with a gain, as a detector with such pixels has them."""
        for frame, expected in enumerate(self.expected(frames)):
            yield count_electrons(expected, (self.shooting.session.seed, self.number, frame), gain)

    def signal_to_noise(self, diameter: float) -> float:
        """Return the ratio of variances of signal and noise in the image of all frames, without motion.

        Signal is what particles, faded and blurred by the detector, change within discs of a diameter in Å about them;
        noise is counting and ice, per pixel.
        """
        imaging, scene, canvas = self.shooting.imaging, self.scene, self.canvas
        fading = imaging.surviving(scene.frequency, imaging.pre_exposure, imaging.exposure).float()
        transfer = 1.0 if self.transfer is None else self.transfer
        signal = canvas.crop(canvas.to_real(scene.particles * fading * transfer)).numpy()
        reach = int(diameter / 2 / canvas.pixel_size)
        disc = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1]) <= reach
        padded = np.pad(signal, reach, constant_values=np.nan)
        x, y = (self.particles.table.numbers(f"rlnCoordinate{axis}").astype(int) for axis in "XY")
        windows = [padded[j : j + 2 * reach + 1, i : i + 2 * reach + 1][disc] for i, j in zip(x, y, strict=True)]
        ice = canvas.to_real(next(scene.ice(1, (self.shooting.session.seed, self.number))) * transfer)
        noise = 1 / imaging.counts + float(ice.var())
        return float(np.mean([np.nanvar(window) for window in windows])) / noise if windows else 0.0
