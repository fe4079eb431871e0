"""Gain references and lists of dead pixels, and frames corrected with them.

Everything follows RELION, so that files serve both programs: a gain is multiplied with the frames, rotated first and
flipped then (as MotionCor2's ``-RotGain`` and ``-FlipGain``); a gain of zero marks a dead pixel; dead pixels take the
value of a random living neighbour, so that they have the noise of their surroundings. For EER movies a gain in an MRC
or TIFF file divides and one with the ending ``.gain`` multiplies.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.movies import open_movie, read_movie_header
from vitrea.formats.mrc import write_stack
from vitrea.formats.mrc_header import reading
from vitrea.records.errors import InputError

_DIGITAL_MICROGRAPH = (".dm3", ".dm4")
_SERIALEM_WORDS = ("CameraSize", "RotationAndFlip", "K2Type", "Bad")
_REACH = 2  # pixels to the farthest neighbour that a dead pixel borrows from
_ENOUGH = 7  # living neighbours to choose among


@dataclass(frozen=True)
class GainOrientation:
    """How a gain reference is turned to lie as the frames do.

    Attributes
    ----------
    rotation : int
        Quarter turns, 0 to 3: clockwise where the first row is shown on top (RELION's ``--gain_rot``).
    flip : int
        Then 0 nothing, 1 upside down, 2 left to right (``--gain_flip``).
    """

    rotation: int = 0
    flip: int = 0

    def turn(self, gain: NDArray[Any]) -> NDArray[Any]:
        """Return the gain, shape [y, x], turned."""
        turned = np.rot90(gain, -self.rotation)
        return turned if self.flip == 0 else np.flip(turned, axis=self.flip - 1)

    def __str__(self) -> str:
        """Return what RELION's options would be."""
        return f"--gain_rot {self.rotation} --gain_flip {self.flip}"


# All eight: turning by two and flipping left to right is flipping upside down, so one kind of flip suffices.
ORIENTATIONS = tuple(GainOrientation(rotation, flip) for flip in (0, 1) for rotation in range(4))


def read_gain(path: str | Path, *, for_eer: bool = False) -> NDArray[np.float32]:
    """Read a gain reference to multiply frames with.

    Parameters
    ----------
    path : str or Path
        MRC or TIFF (turned upside down as TIFF movies are), or a ``.gain`` file of a Falcon camera, which is not turned
        and multiplies.
    for_eer : bool
        Whether it is for EER movies: then other files than ``.gain`` divide, and are inverted here.

    Returns
    -------
    ndarray of float32, shape [y, x]
        Zero where the pixel is dead.

    Raises
    ------
    InputError
        If the file cannot be read, holds more than one image, or values that are negative or not finite, or zeros only.
    """
    path = Path(path)
    if path.suffix.lower() in _DIGITAL_MICROGRAPH:
        raise InputError(f"{path}: gain references of Digital Micrograph are not read; convert it with IMOD's dm2mrc")
    with open_movie(path) as image:
        if len(image) != 1:
            raise InputError(f"{path} holds {len(image)} images; a gain reference is one")
        gain = np.array(image.read(0), dtype=np.float32)
    is_falcon = path.suffix.lower() == ".gain"
    if is_falcon:
        gain = gain[::-1].copy()  # RELION, too, leaves these as they are stored
    if not np.isfinite(gain).all() or (gain < 0).any() or not gain.any():
        raise InputError(f"{path} is no gain reference: it holds negative or infinite values, or zeros only")
    if for_eer and not is_falcon:
        mean = float(gain.mean(dtype=np.float64))
        gain = np.divide(mean, gain, out=np.zeros_like(gain), where=gain > 0)
    return gain


def write_gain(path: str | Path, gain: NDArray[np.float32], pixel_size: float, *, for_eer: bool = False) -> None:
    """Write a gain that multiplies as MRC; for EER movies its inverse, which is what both programs expect then."""
    written = np.divide(1.0, gain, out=np.zeros_like(gain), where=gain > 0) if for_eer else gain
    write_stack(path, np.asarray(written, dtype=np.float32), pixel_size)


def fit_gain(gain: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32] | None:
    """Return a gain for frames of another sampling of the same camera, or None where the sizes do not fit.

    A gain of 2, 4 ... times finer pixels is averaged (a coarse pixel with a dead part is dead), one of coarser pixels
    repeated: EER movies may be rendered in super-resolution with the gain of the physical pixels.
    """
    if gain.shape == shape:
        return gain
    for factor in (2, 4):
        if gain.shape == (shape[0] * factor, shape[1] * factor):
            parts = gain.reshape(shape[0], factor, shape[1], factor)
            return np.where((parts > 0).all(axis=(1, 3)), parts.mean(axis=(1, 3)), 0).astype(np.float32)
        if shape == (gain.shape[0] * factor, gain.shape[1] * factor):
            return np.repeat(np.repeat(gain, factor, axis=0), factor, axis=1)
    return None


def read_defects(path: str | Path, shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Read which pixels are dead.

    Parameters
    ----------
    path : str or Path
        Text (.txt) with a rectangle a line, ``x y width height`` in pixels from 0 (MotionCor2's and RELION's), or an
        MRC or TIFF image that is not zero where a pixel is dead.
    shape : tuple of int
        Rows and columns of the frames.

    Raises
    ------
    InputError
        If the file cannot be read, is SerialEM's own list, or an image of another size.
    """
    path = Path(path)
    if path.suffix.lower() != ".txt":
        found = read_movie_header(path).shape[1:]
        if found != shape:
            raise InputError(
                f"the defect map {path} has {found[1]} x {found[0]} pixels, the frames {shape[1]} x {shape[0]}"
            )
        with open_movie(path) as image:
            return np.asarray(image.read(0) != 0)
    with reading(path):
        text = path.read_text(encoding="utf-8", errors="replace")
    if any(word in text for word in _SERIALEM_WORDS):
        raise InputError(f"{path} is SerialEM's list of defects; make a defect map of it with IMOD's clip defect")
    mask = np.zeros(shape, dtype=bool)
    for number, line in enumerate(text.splitlines(), start=1):
        words = line.split("#")[0].split()
        if not words:
            continue
        try:
            x, y, width, height = map(int, words)
        except ValueError:
            raise InputError(f"{path} line {number}: {line.strip()!r} is not x y width height") from None
        mask[max(y, 0) : max(y + height, 0), max(x, 0) : max(x + width, 0)] = True
    return mask


class FrameCorrection:
    """Turns frames as stored into float32 frames without the camera's marks. Safe to use from several threads.

    Parameters
    ----------
    shape : tuple of int
        Rows and columns of the frames.
    gain : ndarray of float32, shape [y, x], optional
        To multiply with; zeros are dead pixels.
    defects : ndarray of bool, shape [y, x], optional
        Dead pixels.
    seed : int
        Of the choice of neighbours.

    Raises
    ------
    ValueError
        If the shapes differ.
    """

    def __init__(
        self,
        shape: tuple[int, int],
        gain: NDArray[np.float32] | None = None,
        defects: NDArray[np.bool_] | None = None,
        seed: int = 0,
    ) -> None:
        dead = np.zeros(shape, dtype=bool)
        for given in (gain, defects):
            if given is not None and given.shape != shape:
                raise ValueError(f"gain or defects of shape {given.shape} do not fit frames of shape {shape}")
        if gain is not None:
            dead |= gain == 0
        if defects is not None:
            dead |= defects
        self.gain = gain
        self.dead = dead
        self._seed = seed
        self._dead_at = np.flatnonzero(dead)
        self._neighbours, self._first, self._count = _living_neighbours(dead)

    def with_dead_pixels(self, more: NDArray[np.bool_]) -> FrameCorrection:
        """Return a correction that takes further pixels for dead: hot ones, say."""
        return FrameCorrection(self.dead.shape, self.gain, self.dead | more, self._seed)

    def apply(self, frame: NDArray[Any], number: int) -> NDArray[np.float32]:
        """Return a frame, shape [y, x], times the gain, its dead pixels filled.

        Parameters
        ----------
        frame : ndarray
            As `Movie.read` returns it.
        number : int
            Its number in the movie: the same frame is always filled alike.
        """
        if self.gain is None:
            corrected = np.array(frame, dtype=np.float32)
        else:
            corrected = np.multiply(frame, self.gain, dtype=np.float32)
        if len(self._dead_at):
            rng = np.random.default_rng([self._seed, number])
            chosen = self._first + (rng.random(len(self._dead_at)) * self._count).astype(np.int64)
            flat = corrected.reshape(-1)
            flat[self._dead_at] = flat[self._neighbours[chosen]]
        return corrected


def read_frame_correction(
    gain: str | Path, defects: str | Path, shape: tuple[int, int], *, for_eer: bool = False, seed: int = 0
) -> FrameCorrection:
    """Read what corrects the frames of a movie.

    Parameters
    ----------
    gain, defects : str or Path
        Gain reference and dead pixels, as `read_gain` and `read_defects` take them; "" for none.
    shape : tuple of int
        Rows and columns of the frames.
    for_eer : bool
        Whether the movie is EER.
    seed : int
        Of the choice of neighbours.

    Raises
    ------
    InputError
        If a file cannot be read or does not fit the frames.
    """
    values = None
    if gain:
        read = read_gain(gain, for_eer=for_eer)
        values = fit_gain(read, shape)
        if values is None:
            raise InputError(
                f"the gain reference {gain} has {read.shape[1]} x {read.shape[0]} pixels, the frames {shape[1]} x "
                f"{shape[0]}"
            )
    return FrameCorrection(shape, values, read_defects(defects, shape) if defects else None, seed)


def _living_neighbours(dead: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return the living neighbours of all dead pixels in one list, where those of each begin in it, and their number.

    A pixel amid a wide dead region has the neighbours of the living pixel nearest to it.
    """
    rows, columns = np.nonzero(dead)
    if len(rows) == dead.size:
        raise ValueError("all pixels are dead")
    living = _living_around(dead, rows, columns)
    lonely = np.flatnonzero(living.count(axis=1) < _ENOUGH)
    if len(lonely):
        from scipy.ndimage import distance_transform_edt

        nearest = distance_transform_edt(dead, return_distances=False, return_indices=True)
        where = nearest[:, rows[lonely], columns[lonely]]
        living[lonely] = _living_around(dead, where[0], where[1])
    count = living.count(axis=1)
    return living.compressed().astype(np.int64), np.cumsum(count) - count, count


def _living_around(dead: NDArray[np.bool_], rows: NDArray[Any], columns: NDArray[Any]) -> np.ma.MaskedArray[Any, Any]:
    """Return indices of the pixels around others, shape [pixels, 25]; dead ones and those outside are masked."""
    steps = np.arange(-_REACH, _REACH + 1, dtype=np.int32)
    y = rows.astype(np.int32)[:, None] + np.repeat(steps, len(steps))
    x = columns.astype(np.int32)[:, None] + np.tile(steps, len(steps))
    inside = (y >= 0) & (y < dead.shape[0]) & (x >= 0) & (x < dead.shape[1])
    place = np.where(inside, y * dead.shape[1] + x, 0)
    return np.ma.masked_array(place, mask=~inside | dead.reshape(-1)[place])
