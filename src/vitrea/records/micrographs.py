"""Micrographs and movies: a table with one row each, and the optics groups they refer to."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from vitrea.records.image_set import ImageSet
from vitrea.records.particles import DEFOCUS_LABELS

PHASE_SHIFT = "rlnPhaseShift"


@dataclass(frozen=True)
class GivenOptics:
    """What the user says of the microscope. A file's own values come first; these fill in where it is silent.

    Attributes
    ----------
    pixel_size : float or None
        Å per pixel of the micrographs or movie frames as they are.
    voltage : float or None
        kV.
    spherical_aberration : float or None
        mm.
    amplitude_contrast : float or None
        0 to 1.
    beam_tilt_x, beam_tilt_y : float
        mrad.
    mtf_file : str
        STAR file with the detector's MTF.
    name : str
        Name of the optics group that is made of these.
    """

    pixel_size: float | None = None
    voltage: float | None = None
    spherical_aberration: float | None = None
    amplitude_contrast: float | None = None
    beam_tilt_x: float = 0.0
    beam_tilt_y: float = 0.0
    mtf_file: str = ""
    name: str = "opticsGroup1"


@dataclass(frozen=True)
class _Exposures(ImageSet):
    """What micrographs and movies share. In their optics groups ``image_size`` is 0: they need not be square."""

    name_label: ClassVar[str] = ""

    @property
    def names(self) -> NDArray[Any]:
        """Names of the files as the STAR file has them, shape [rows], str."""
        return self.table[self.name_label]

    @property
    def pixel_sizes(self) -> NDArray[np.float64]:
        """Å per pixel of the images in the files, shape [rows]."""
        return np.array([group.pixel_size for group in self.optics], dtype=np.float64)[self.optics_index]


@dataclass(frozen=True)
class Micrographs(_Exposures):
    """Micrographs, one a row, named by ``rlnMicrographName``.

    ``optics[i].pixel_size`` is that of the images (``rlnMicrographPixelSize``), ``original_pixel_size`` that of the
    movies they were summed from (0 where unknown).
    """

    name_label: ClassVar[str] = "rlnMicrographName"

    @property
    def has_ctf(self) -> bool:
        """Whether every micrograph has a defocus."""
        return all(label in self.table for label in DEFOCUS_LABELS)

    @property
    def defocus(self) -> NDArray[np.float64]:
        """Defocus U and V in Å and astigmatism angle in degrees, shape [micrographs, 3]; KeyError without a CTF."""
        return np.stack([self.table.numbers(label) for label in DEFOCUS_LABELS], axis=1)

    @property
    def phase_shifts(self) -> NDArray[np.float64]:
        """Phase shift of a phase plate in degrees, shape [micrographs]; zeros where absent."""
        return self.table.numbers(PHASE_SHIFT, 0.0)


@dataclass(frozen=True)
class Movies(_Exposures):
    """Movies, one a row, named by ``rlnMicrographMovieName``.

    ``optics[i].pixel_size`` is that of the frames in the files (``rlnMicrographOriginalPixelSize``).
    """

    name_label: ClassVar[str] = "rlnMicrographMovieName"
    GAIN: ClassVar[str] = "rlnMicrographGainName"
    DEFECTS: ClassVar[str] = "rlnMicrographDefectFile"

    @property
    def gains(self) -> NDArray[Any]:
        """Gain reference of every movie, to be multiplied with its frames as it lies; "" for none. Shape [movies]."""
        return self._text(self.GAIN)

    @property
    def defects(self) -> NDArray[Any]:
        """File of dead pixels of every movie; "" for none. Shape [movies]."""
        return self._text(self.DEFECTS)

    def _text(self, label: str) -> NDArray[Any]:
        return self.table[label] if label in self.table else np.full(len(self), "", dtype=object)
