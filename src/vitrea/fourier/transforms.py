"""Transforms between images and THE Fourier layout, and the resizing and shifting of boxes.

The layout, everywhere in Vitrea: ``rfftn(ifftshift(image), norm="ortho")`` over the last `dims` axes, standard
(unshifted) rfft order, phase origin at pixel ``n // 2``. A centred point is a real, constant transform; white noise of
unit variance has unit power in each component.
"""

from __future__ import annotations

import torch
from torch import Tensor

from vitrea.fourier.grid import frequency_axes


def _axes(dims: int) -> tuple[int, ...]:
    if dims not in (2, 3):
        raise ValueError(f"dims must be 2 or 3, not {dims}")
    return tuple(range(-dims, 0))


def to_fourier(images: Tensor, dims: int = 2) -> Tensor:
    """Transform images or maps.

    Parameters
    ----------
    images : Tensor, shape [..., n, n] or [..., n, n, n]
        Real, centre at pixel ``n // 2``; even and odd boxes.
    dims : int
        Number of trailing axes to transform: 2 or 3.

    Returns
    -------
    Tensor, complex, shape [..., n, n // 2 + 1] or [..., n, n, n // 2 + 1]
    """
    axes = _axes(dims)
    transforms: Tensor = torch.fft.rfftn(torch.fft.ifftshift(images, dim=axes), dim=axes, norm="ortho")
    return transforms


def to_real(transforms: Tensor, size: int, dims: int = 2) -> Tensor:
    """Transform back: the inverse of `to_fourier`.

    Parameters
    ----------
    transforms : Tensor, complex, shape [..., n, n // 2 + 1] or [..., n, n, n // 2 + 1]
        In the Fourier layout.
    size : int
        Box size n (the last axis alone does not tell even from odd).
    dims : int
        2 or 3.

    Returns
    -------
    Tensor, real, shape [..., n, n] or [..., n, n, n]
    """
    axes = _axes(dims)
    images: Tensor = torch.fft.irfftn(transforms, s=(size,) * dims, dim=axes, norm="ortho")
    images = torch.fft.fftshift(images, dim=axes)
    return images


def crop_fourier(transforms: Tensor, old_size: int, new_size: int, dims: int = 2) -> Tensor:
    """Cut a transform down to a smaller box: the images are sampled more coarsely and keep their grey values.

    Scale rule: components are multiplied by ``(new_size / old_size) ** (dims / 2)``, which keeps grey values under
    orthonormal transforms (so white noise of unit power comes out with power ``(new_size / old_size) ** dims``).
    Where the new box is even, the components at +Nyquist and -Nyquist fall together and are added; this makes the
    function the exact left inverse of `pad_fourier`.

    Parameters
    ----------
    transforms : Tensor, complex, shape [..., old, old // 2 + 1] or [..., old, old, old // 2 + 1]
    old_size, new_size : int
        Box sizes, ``new_size <= old_size``; even and odd.
    dims : int
        2 or 3.

    Raises
    ------
    ValueError
        If the new box is larger than the old one.
    """
    if new_size > old_size:
        raise ValueError(f"cannot crop a box of {old_size} to {new_size}")
    if new_size == old_size:
        return transforms.clone()
    result = transforms
    positive, negative = (new_size + 1) // 2, new_size // 2  # counts of frequencies >= 0 (no Nyquist) and < 0
    for axis in range(-dims, -1):
        kept = [result.narrow(axis, 0, positive), result.narrow(axis, old_size - negative, negative)]
        if new_size % 2 == 0:
            kept[1] = kept[1].clone()
            kept[1].narrow(axis, 0, 1).add_(result.narrow(axis, positive, 1))
        result = torch.cat(kept, dim=axis)
    result = result[..., : new_size // 2 + 1].clone()
    if new_size % 2 == 0:
        edge = result[..., -1]
        mirrored = torch.roll(torch.flip(edge, _perpendicular(dims)), (1,) * (dims - 1), _perpendicular(dims))
        result[..., -1] = edge + mirrored.conj()
    scale: float = (new_size / old_size) ** (dims / 2)
    return result * scale


def pad_fourier(transforms: Tensor, old_size: int, new_size: int, dims: int = 2) -> Tensor:
    """Pad a transform with zeros to a larger box: band-limited interpolation that keeps the grey values.

    Scale rule as in `crop_fourier`. Where the old box is even, its Nyquist component is shared equally between the
    positive and the negative frequency, which passes exactly through the old samples.

    Parameters
    ----------
    transforms : Tensor, complex, shape [..., old, old // 2 + 1] or [..., old, old, old // 2 + 1]
    old_size, new_size : int
        Box sizes, ``new_size >= old_size``; even and odd.
    dims : int
        2 or 3.

    Raises
    ------
    ValueError
        If the new box is smaller than the old one.
    """
    if new_size < old_size:
        raise ValueError(f"cannot pad a box of {old_size} to {new_size}")
    if new_size == old_size:
        return transforms.clone()
    result = transforms
    even = old_size % 2 == 0
    positive, negative = (old_size + 1) // 2, old_size // 2
    for axis in range(-dims, -1):
        low, high = result.narrow(axis, 0, positive), result.narrow(axis, old_size - negative, negative)
        gap = new_size - old_size - (1 if even else 0)
        pieces = [low]
        if even:
            high = high.clone()
            high.narrow(axis, 0, 1).mul_(0.5)
            pieces.append(high.narrow(axis, 0, 1))
        pieces.append(result.new_zeros(_with_axis(result, axis, gap)))
        result = torch.cat([*pieces, high], dim=axis)
    result = torch.cat([result, result.new_zeros(_with_axis(result, -1, new_size // 2 - old_size // 2))], dim=-1)
    if even:
        result[..., old_size // 2] *= 0.5
    scale: float = (new_size / old_size) ** (dims / 2)
    return result * scale


def resize_fourier(transforms: Tensor, old_size: int, new_size: int, dims: int = 2) -> Tensor:
    """Crop or pad a transform, whichever the sizes ask for; see `crop_fourier` and `pad_fourier`."""
    resize = crop_fourier if new_size <= old_size else pad_fourier
    return resize(transforms, old_size, new_size, dims)


def _perpendicular(dims: int) -> tuple[int, ...]:
    """Axes across x, for a plane of constant kx."""
    return tuple(range(-(dims - 1), 0))


def _with_axis(tensor: Tensor, axis: int, length: int) -> list[int]:
    shape = list(tensor.shape)
    shape[axis] = length
    return shape


def resample(images: Tensor, new_size: int, dims: int = 2) -> Tensor:
    """Resample images to another box of the same extent in Å by cropping or padding in Fourier space.

    Parameters
    ----------
    images : Tensor, shape [..., n, n] or [..., n, n, n]
    new_size : int
        New box size in pixels; the new pixel size is ``old pixel size * n / new_size``.
    dims : int
        2 or 3.

    Returns
    -------
    Tensor, shape [..., m, m] or [..., m, m, m]
        Same grey values; pixel ``m // 2`` lies where pixel ``n // 2`` lay.
    """
    old_size = images.shape[-1]
    return to_real(resize_fourier(to_fourier(images, dims), old_size, new_size, dims), new_size, dims)


def resize_box(images: Tensor, new_size: int, dims: int = 2, fill: float = 0.0) -> Tensor:
    """Window or pad images in real space about their centre: pixel ``n // 2`` becomes pixel ``m // 2``.

    Parameters
    ----------
    images : Tensor, shape [..., n, n] or [..., n, n, n]
    new_size : int
        New box size m in pixels; pixel size unchanged.
    dims : int
        2 or 3.
    fill : float
        Grey value of added pixels.

    Returns
    -------
    Tensor, shape [..., m, m] or [..., m, m, m]
    """
    old_size = images.shape[-1]
    before = new_size // 2 - old_size // 2
    after = new_size - old_size - before
    # Negative padding crops.
    return torch.nn.functional.pad(images, (before, after) * dims, value=fill)


def shift_fourier(transforms: Tensor, shifts: Tensor) -> Tensor:
    """Translate images by multiplying their transforms with phase ramps.

    Sign: the content moves by +shift, towards larger coordinates: ``result(x) = image(x - shift)``, that is
    ``F(k) * exp(-2 pi i k . shift / n)``. Sub-pixel shifts are band-limited interpolation; the box is periodic.

    Parameters
    ----------
    transforms : Tensor, complex, shape [..., n, n // 2 + 1] or [..., n, n, n // 2 + 1]
    shifts : Tensor, shape [..., 2] or [..., 3]
        Shifts in pixels in the order x, y(, z); the length of the last axis says whether images are 2D or 3D, leading
        axes broadcast against those of `transforms`.

    Returns
    -------
    Tensor, complex, shape as broadcast
    """
    dims = shifts.shape[-1]
    size = transforms.shape[-2]
    real = transforms.real.dtype
    phase = torch.zeros((), dtype=real, device=transforms.device)
    for axis, k in enumerate(frequency_axes(size, dims, dtype=real, device=transforms.device)):
        step = shifts[..., axis].to(real).reshape(shifts.shape[:-1] + (1,) * dims)
        phase = phase + k * step
    angle = phase * (-2.0 * torch.pi / size)
    return transforms * torch.complex(torch.cos(angle), torch.sin(angle))
