"""What `relion_image_handler` does to images and maps, in one order whatever the order of the options.

Everything is computed in double precision, as RELION does. Images that are not square, and maps that are not cubes, are
filtered and resampled in a square or cube about their centre, filled up with their mean.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from vitrea.fourier.filters import apply_bfactor, highpass, invert_hand, lowpass, shift
from vitrea.fourier.fsc import randomise_phases
from vitrea.fourier.shells import shell_mean, spread_shells
from vitrea.fourier.transforms import resample, to_fourier, to_real
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.maps.transform import symmetrise

Doubles = NDArray[np.float64]
Arithmetic = Literal["multiply", "divide", "add", "subtract"]

_TOO_SMALL = 1e-10  # RELION's: what is divided by less becomes 0


@dataclass(frozen=True)
class Operations:
    """What is done, in the order of the attributes; what is left at its default is not done.

    Attributes
    ----------
    transpose : "", "xy" or "-xy"
        Swap x and y of images (not maps), about the one diagonal or the other.
    replace_nan : float or None
        Value instead of NaN and infinite ones.
    multiply_constant, divide_constant, add_constant, subtract_constant : float
        Applied to all values.
    operands : sequence of (str, ndarray)
        What to do ("multiply", "divide", "add", "subtract") with which images, as many and of the shape of those
        operated on, or one for all of them. Where the divisor is below 1e-10 the result is 0.
    fit_scale : bool
        Whether what is subtracted is first scaled to fit in the sense of least squares.
    adjust_power : ndarray or None
        An image or map whose amplitudes, shell by shell, are imposed; corners beyond the last shell become 0.
    randomise_phases : float
        Å from which on the phases of a map are made random (with seed 0).
    bfactor : float
        Å²; negative sharpens.
    lowpass, highpass : float
        Å; see `vitrea.fourier.filters`.
    filter_edge : float
        Width of the edge of these filters in shells.
    flip_x, flip_y, flip_z : bool
        Reverse the order of columns, rows, sections (which moves the centre of even boxes by a pixel, as in RELION).
    invert_hand : bool
        Mirror x about the centre.
    centre_of_mass : bool
        Shift the centre of mass of the positive values to the centre.
    shifts : tuple of float
        x, y, z in pixels; what comes from outside the box is 0.
    linear : bool
        Shift by linear interpolation, as RELION, and not band-limited.
    rescale : float
        New pixel size in Å; the box becomes the nearest even one, so that the pixel size obtained may differ.
    box : int
        New edge of the box in pixels, even or odd; about the centre, new pixels are 0.
    symmetry : str
        Point group that a map is averaged over.
    threshold_above, threshold_below : float or None
        Values above or below become these.
    """

    transpose: Literal["", "xy", "-xy"] = ""
    replace_nan: float | None = None
    multiply_constant: float = 1.0
    divide_constant: float = 1.0
    add_constant: float = 0.0
    subtract_constant: float = 0.0
    operands: Sequence[tuple[Arithmetic, NDArray[Any]]] = field(default_factory=tuple)
    fit_scale: bool = False
    adjust_power: NDArray[Any] | None = None
    randomise_phases: float = 0.0
    bfactor: float = 0.0
    lowpass: float = 0.0
    highpass: float = 0.0
    filter_edge: float = 2.0
    flip_x: bool = False
    flip_y: bool = False
    flip_z: bool = False
    invert_hand: bool = False
    centre_of_mass: bool = False
    shifts: tuple[float, float, float] = (0.0, 0.0, 0.0)
    linear: bool = False
    rescale: float = 0.0
    box: int = 0
    symmetry: str = ""
    threshold_above: float | None = None
    threshold_below: float | None = None


def operate(
    images: NDArray[Any], pixel_size: float, operations: Operations, dims: int
) -> tuple[NDArray[np.float32], float]:
    """Do all that is asked for.

    Parameters
    ----------
    images : ndarray, shape [m, y, x] or [m, z, y, x]
        Images, or maps.
    pixel_size : float
        Å.
    operations : Operations
    dims : int
        2 for images, 3 for maps.

    Returns
    -------
    ndarray of float32
        Shape as `images` but for the box.
    float
        Å per pixel.

    Raises
    ------
    ValueError
        If values are NaN or infinite and not replaced, an operand has another shape, or images are to be done what only
        maps allow, or the other way round.
    """
    _check(operations, dims)
    values = np.asarray(images, dtype=np.float64)
    if operations.transpose:
        values = values.swapaxes(-1, -2)
        values = values[..., ::-1, ::-1] if operations.transpose == "-xy" else values
    values = _arithmetic(_finite(values, operations.replace_nan), operations)
    values = _filtered(values, pixel_size, operations, dims)
    values = _moved(values, operations, dims)
    values, pixel_size = _resized(values, pixel_size, operations, dims)
    if operations.symmetry:
        operators = symmetry_matrices(operations.symmetry)
        values = np.stack([symmetrise(volume, operators) for volume in values])
    if operations.threshold_above is not None or operations.threshold_below is not None:
        values = np.clip(values, operations.threshold_below, operations.threshold_above)
    return np.ascontiguousarray(values, dtype=np.float32), pixel_size


def rescaled_edge(edge: int, pixel_size: float, wanted: float) -> int:
    """Return the even number of pixels, as RELION takes it, that an edge gets when its pixel size is changed."""
    number = int(edge * pixel_size / wanted + 0.5)
    return number - number % 2


def rescaled_pixel_size(shape: Sequence[int], pixel_size: float, wanted: float) -> float:
    """Return the pixel size (Å) that images of a shape get where `wanted` is asked for; 0 if nothing is left."""
    edge = max(shape)
    new = rescaled_edge(edge, pixel_size, wanted)
    return pixel_size * edge / new if new else 0.0


def positive_centre_of_mass(image: NDArray[Any]) -> Doubles:
    """Return the centre of mass of the positive values, as RELION's image handler takes it.

    Parameters
    ----------
    image : ndarray, shape [y, x] or [z, y, x]

    Returns
    -------
    ndarray, shape [2] or [3]
        x, y(, z) in pixels from the centre ``n // 2``; 0 where no value is positive.
    """
    weight = np.clip(np.asarray(image, dtype=np.float64), 0.0, None)
    if weight.sum() <= 0:
        return np.zeros(weight.ndim)
    found = np.array(ndimage.center_of_mass(weight))[::-1] - np.array(weight.shape)[::-1] // 2
    centre: Doubles = found.astype(np.float64)
    return centre


def _check(operations: Operations, dims: int) -> None:
    for given, name in ((operations.symmetry, "symmetry"), (operations.flip_z, "a flip in z"),
                        (operations.randomise_phases, "phase randomisation"),
                        (operations.shifts[2], "a shift in z")):  # fmt: skip
        if given and dims == 2:
            raise ValueError(f"{name} is for maps, these are images")
    if operations.transpose and dims == 3:
        raise ValueError("swapping x and y is for images, this is a map")


def _finite(values: Doubles, replacement: float | None) -> Doubles:
    good = np.isfinite(values)
    if good.all():
        return values
    if replacement is None:
        first = int(np.flatnonzero(~good.reshape(len(values), -1).all(axis=1))[0])
        raise ValueError(f"{int((~good).sum())} values are NaN or infinite (first in image {first + 1})")
    return np.where(good, values, replacement)


def _arithmetic(values: Doubles, operations: Operations) -> Doubles:
    factor = operations.multiply_constant / operations.divide_constant
    offset = operations.add_constant - operations.subtract_constant
    if factor != 1.0 or offset != 0.0:
        values = values * factor + offset
    for kind, given in operations.operands:
        operand = np.asarray(given, dtype=np.float64)
        if operand.shape[1:] != values.shape[1:] or len(operand) not in (1, len(values)):
            raise ValueError(f"what to {kind} has shape {operand.shape[1:]}, these have {values.shape[1:]}")
        if kind == "subtract" and operations.fit_scale:
            scales = [
                fitted_scale(one, other)
                for one, other in zip(values, np.broadcast_to(operand, values.shape), strict=True)
            ]
            operand = operand * np.reshape(scales, (-1,) + (1,) * (values.ndim - 1))
        if kind == "divide":
            small = np.abs(operand) < _TOO_SMALL
            values = np.where(small, 0.0, values / np.where(small, 1.0, operand))
        else:
            values = _UFUNCS[kind](values, operand)
    return values


_UFUNCS: dict[str, Callable[..., Any]] = {"multiply": np.multiply, "add": np.add, "subtract": np.subtract}


def fitted_scale(image: NDArray[Any], other: NDArray[Any]) -> float:
    """Return the factor that makes `other` most like `image` in the sense of least squares; 0 if `other` is 0."""
    power = float(np.vdot(other, other))
    return float(np.vdot(other, image)) / power if power > 0 else 0.0


def _filtered(values: Doubles, pixel_size: float, operations: Operations, dims: int) -> Doubles:
    if operations.adjust_power is not None:
        reference = torch.from_numpy(np.asarray(operations.adjust_power, dtype=np.float64))
        values = _in_square(values, dims, lambda images: _with_amplitudes(images, _squared(reference, dims), dims))
    if operations.randomise_phases:
        values = _in_square(values, dims, lambda maps: _randomised(maps, operations.randomise_phases, pixel_size))
    if operations.bfactor:
        values = _in_square(values, dims, lambda images: apply_bfactor(images, operations.bfactor, pixel_size, dims))
    for resolution, function in ((operations.lowpass, lowpass), (operations.highpass, highpass)):
        if resolution:
            arguments = (resolution, pixel_size, operations.filter_edge, dims)
            values = _in_square(values, dims, lambda images, f=function, a=arguments: f(images, *a))  # type: ignore[misc]
    return values


def _in_square(values: Doubles, dims: int, function: Callable[[Tensor], Tensor]) -> Doubles:
    """Apply a function of square images or cubes to images of any shape."""
    images = torch.from_numpy(np.ascontiguousarray(values))
    shape = tuple(images.shape[-dims:])
    result: Doubles = _window(function(_squared(images, dims)), shape).numpy()
    return result


def _squared(images: Tensor, dims: int) -> Tensor:
    """Fill images up to a square, or maps to a cube, with their mean."""
    shape = images.shape[-dims:]
    if len(set(shape)) == 1:
        return images
    mean = images.mean(dim=tuple(range(-dims, 0)), keepdim=True)
    return _window(images - mean, (max(shape),) * dims) + mean


def _window(images: Tensor, shape: Sequence[int]) -> Tensor:
    """Crop or pad with 0 about the centre: pixel ``n // 2`` of each axis becomes pixel ``m // 2``."""
    margins: list[int] = []
    for new, old in zip(reversed(shape), reversed(images.shape[-len(shape) :]), strict=True):
        before = new // 2 - old // 2
        margins += [before, new - old - before]
    return torch.nn.functional.pad(images, margins) if any(margins) else images


def shell_spectra(images: Tensor, dims: int) -> tuple[Tensor, Tensor]:
    """Return mean amplitude and mean power of each shell, of transforms divided by the number of pixels, as RELION has.

    Parameters
    ----------
    images : Tensor, shape [m, y, x] or [m, z, y, x]
        Filled up to a square or a cube with their mean where they are none.
    dims : int
        2 or 3.

    Returns
    -------
    amplitude, power : Tensor, shape [m, n // 2 + 1]
        n is the longest edge.
    """
    square = _squared(images, dims)
    size = square.shape[-1]
    amplitudes = to_fourier(square, dims).abs() / size ** (dims / 2)
    return shell_mean(amplitudes, size, dims), shell_mean(amplitudes.square(), size, dims)


def _with_amplitudes(images: Tensor, reference: Tensor, dims: int) -> Tensor:
    """Give each shell of images the mean amplitude that the reference has there."""
    size = images.shape[-1]
    transforms = to_fourier(images, dims)
    own = shell_mean(transforms.abs(), size, dims)
    wanted = shell_mean(to_fourier(reference, dims).abs(), size, dims)
    factors = torch.where(own > 0, wanted / own.clamp_min(torch.finfo(own.dtype).tiny), 0.0)
    return to_real(transforms * spread_shells(factors, size, dims), size, dims)


def _randomised(maps: Tensor, resolution: float, pixel_size: float) -> Tensor:
    shell = maps.shape[-1] * pixel_size / resolution
    return torch.stack([randomise_phases(one, shell, torch.Generator().manual_seed(0)) for one in maps])


def _moved(values: Doubles, operations: Operations, dims: int) -> Doubles:
    flipped = tuple(
        -1 - axis for axis, wanted in enumerate((operations.flip_x, operations.flip_y, operations.flip_z)) if wanted
    )
    values = np.flip(values, flipped) if flipped else values
    if operations.invert_hand:
        values = invert_hand(torch.from_numpy(np.ascontiguousarray(values))).numpy()
    if operations.centre_of_mass:
        shifts = np.stack([-positive_centre_of_mass(image) for image in values])
    elif any(operations.shifts):
        shifts = np.tile(np.array(operations.shifts[:dims]), (len(values), 1))
    else:
        return values
    return np.stack([shifted(image, s, linear=operations.linear) for image, s in zip(values, shifts, strict=True)])


def shifted(image: NDArray[Any], shifts: NDArray[Any], *, linear: bool = False) -> Doubles:
    """Shift an image or a map; what comes from outside the box is 0.

    Parameters
    ----------
    image : ndarray, shape [y, x] or [z, y, x]
    shifts : ndarray, shape [2] or [3]
        x, y(, z) in pixels; the content moves by them.
    linear : bool
        Linear interpolation, which takes high frequencies away, as RELION; otherwise band-limited.

    Returns
    -------
    ndarray of float64
    """
    dims = image.ndim
    moves = np.asarray(shifts, dtype=np.float64)
    if linear or (moves == moves.round()).all():
        return np.asarray(ndimage.shift(np.asarray(image, dtype=np.float64), moves[::-1], order=1, mode="constant"))
    moved: Doubles = _in_square(
        np.asarray(image, dtype=np.float64)[None], dims, lambda one: shift(one, torch.from_numpy(moves))
    )[0]
    for axis, (move, edge) in enumerate(zip(moves[::-1], image.shape, strict=True)):
        # A pixel comes from outside where the place it shows lies beyond the centre of the first or last one.
        place = np.arange(edge) - move
        outside = (place < 0) | (place > edge - 1)
        np.moveaxis(moved, axis, 0)[outside] = 0.0
    return moved


def _resized(values: Doubles, pixel_size: float, operations: Operations, dims: int) -> tuple[Doubles, float]:
    images = torch.from_numpy(np.ascontiguousarray(values))
    if operations.rescale:
        shape = images.shape[-dims:]
        new_size = rescaled_pixel_size(shape, pixel_size, operations.rescale)
        edges = [rescaled_edge(edge, pixel_size, operations.rescale) for edge in shape]
        if not new_size or min(edges) < 2:
            raise ValueError(f"pixels of {operations.rescale:g} Å leave nothing of these images")
        images = _window(_resampled(_squared(images, dims), max(edges), dims), edges)
        pixel_size = new_size
    if operations.box:
        images = _window(images, (operations.box,) * dims)
    result: Doubles = images.numpy()
    return result, pixel_size


def _resampled(images: Tensor, size: int, dims: int) -> Tensor:
    """Sample square images or cubes with `size` pixels to the same extent, as RELION does.

    Where an even box becomes smaller, of two mates at its new Nyquist frequency only the positive one is kept, which
    halves the power there on average; `resample` adds them, which keeps it. All else is the same.
    """
    old = images.shape[-1]
    if size >= old or size % 2 or old % 2:
        return resample(images, size, dims)
    rows = torch.cat([torch.arange(size // 2 + 1), torch.arange(old - size // 2 + 1, old)])
    transforms = to_fourier(images, dims)[..., : size // 2 + 1]
    for axis in range(-dims, -1):
        transforms = transforms.index_select(axis, rows)
    # One axis after the other: what a transform of all axes at once makes of unlike mates is up to the library.
    across = tuple(range(-dims, -1))
    lines = torch.fft.ifftn(transforms, dim=across, norm="forward")
    resampled = torch.fft.irfft(lines, n=size, dim=-1, norm="forward") / old ** (dims / 2)
    centred: Tensor = torch.fft.fftshift(resampled, dim=(*across, -1))
    return centred
