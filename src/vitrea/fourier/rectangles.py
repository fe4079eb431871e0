"""Transforms of whole micrographs and movie frames, which need not be square.

Their layout differs from that of particle images (`fourier.transforms`): ``rfft2(image, norm="forward")``, the phase
origin at the first pixel. Frames are compared with each other and never with a centred reference, so that moving the
origin would be two copies for nothing; and with that norm a transform that is cut to a smaller size needs no scaling.
"""

from __future__ import annotations

import torch
from torch import Tensor

Shape = tuple[int, int]  # rows (y), columns (x)


def rectangle_to_fourier(image: Tensor) -> Tensor:
    """Transform images, shape [..., y, x], to complex [..., y, x // 2 + 1]; the first component is the mean."""
    transform: Tensor = torch.fft.rfft2(image, norm="forward")
    return transform


def rectangle_to_real(transform: Tensor, shape: Shape) -> Tensor:
    """Transform back: the inverse of `rectangle_to_fourier` for images of this shape."""
    image: Tensor = torch.fft.irfft2(transform, s=shape, norm="forward")
    return image


def rectangle_frequencies(
    shape: Shape, *, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None
) -> tuple[Tensor, Tensor]:
    """Return the frequencies of a transform in cycles per pixel: kx, shape [x // 2 + 1], and ky, shape [y, 1]."""
    rows, columns = shape
    kx = torch.fft.rfftfreq(columns, dtype=torch.float64).to(dtype=dtype, device=device)
    ky = torch.fft.fftfreq(rows, dtype=torch.float64).to(dtype=dtype, device=device)
    return kx, ky[:, None]


def crop_rectangle(transform: Tensor, shape: Shape, new_shape: Shape) -> Tensor:
    """Cut transforms down to a coarser sampling of the same field; grey values stay.

    Parameters
    ----------
    transform : Tensor, complex, shape [..., y, x // 2 + 1]
    shape : (int, int)
        Rows and columns of the images.
    new_shape : (int, int)
        Rows and columns wanted, neither larger than those of `shape`.

    Returns
    -------
    Tensor, complex, shape [..., new y, new x // 2 + 1]
        A new tensor. Of a new even number of rows the Nyquist row is the one of negative frequency.

    Raises
    ------
    ValueError
        If the new shape is larger.
    """
    rows, columns = new_shape
    if rows > shape[0] or columns > shape[1]:
        raise ValueError(f"cannot crop {shape[1]} x {shape[0]} pixels to {columns} x {rows}")
    half = columns // 2 + 1
    if rows == shape[0]:
        return transform[..., :half].clone()
    positive, negative = (rows + 1) // 2, rows // 2
    return torch.cat([transform[..., :positive, :half], transform[..., shape[0] - negative :, :half]], dim=-2)


def shift_ramps(shape: Shape, shifts: Tensor) -> tuple[Tensor, Tensor]:
    """Return the two factors of the phase ramps that move images: ``transform * ramp_x * ramp_y``.

    Sign as in `transforms.shift_fourier`: the content moves by +shift. The ramp of a plane is the product of those of
    its axes, which takes rows + columns sines instead of rows x columns.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns of the images.
    shifts : Tensor, shape [..., 2]
        x, y in pixels.

    Returns
    -------
    tuple of Tensor, complex64
        Shapes [..., 1, x // 2 + 1] and [..., y, 1].
    """
    kx, ky = rectangle_frequencies(shape, dtype=torch.float64, device=shifts.device)
    moves = shifts.double()
    phase_x = -2 * torch.pi * moves[..., 0, None, None] * kx
    phase_y = -2 * torch.pi * moves[..., 1, None, None] * ky
    one = torch.ones((), dtype=torch.float64, device=shifts.device)
    return torch.polar(one, phase_x).to(torch.complex64), torch.polar(one, phase_y).to(torch.complex64)


def smooth_size(request: float, largest: int) -> int:
    """Return the smallest even number from `request` on whose prime factors are 2, 3 and 5, at most `largest`.

    Transforms of such lengths are fast.
    """
    size = max(2, 2 * int(-(-request // 2)))
    while size < largest and not _is_smooth(size):
        size += 2
    return min(size, largest)


def _is_smooth(number: int) -> bool:
    for factor in (2, 3, 5):
        while number % factor == 0:
            number //= factor
    return number == 1
