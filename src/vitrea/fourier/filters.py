"""Filters of maps and images in Fourier space, as RELION's image handler applies them."""

from __future__ import annotations

import torch
from torch import Tensor

from vitrea.fourier.grid import frequency_radius
from vitrea.fourier.transforms import shift_fourier, to_fourier, to_real


def raised_cosine(radius: Tensor, start: float, end: float) -> Tensor:
    """Return a curve that is 1 up to `start`, 0 from `end`, and half a cosine between; any shape."""
    if end <= start:
        return (radius <= start).to(radius.dtype)
    ramp = ((radius - start) / (end - start)).clamp(0.0, 1.0)
    return 0.5 + 0.5 * torch.cos(torch.pi * ramp)


def lowpass_window(
    size: int,
    dims: int,
    shell: float,
    edge_width: float,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return the weights of a low-pass filter whose edge is centred on a shell.

    Parameters
    ----------
    size, dims : int
        Box size and number of dimensions.
    shell : float
        Centre of the edge in cycles per box.
    edge_width : float
        Full width of the raised-cosine edge in shells.
    dtype, device
        Of the tensor returned.

    Returns
    -------
    Tensor, shape [n, n // 2 + 1] or [n, n, n // 2 + 1]
    """
    radius = frequency_radius(size, dims, dtype=dtype, device=device)
    return raised_cosine(radius, max(0.0, shell - edge_width / 2), shell + edge_width / 2)


def lowpass(images: Tensor, resolution: float, pixel_size: float, edge_width: float = 2.0, dims: int = 3) -> Tensor:
    """Low-pass filter maps or images as ``relion_image_handler --lowpass``.

    Parameters
    ----------
    images : Tensor, shape [..., n, n, n] or [..., n, n]
    resolution : float
        Å; the edge is centred on the shell nearest to it.
    pixel_size : float
        Å per pixel.
    edge_width : float
        Width of the raised-cosine edge in shells.
    dims : int
        3 or 2.

    Returns
    -------
    Tensor, shape of `images`
    """
    size = images.shape[-1]
    # RELION places the edge on a whole shell.
    shell = float(int(size * pixel_size / resolution + 0.5))
    window = lowpass_window(size, dims, shell, edge_width, dtype=images.dtype, device=images.device)
    return to_real(to_fourier(images, dims) * window, size, dims)


def highpass(images: Tensor, resolution: float, pixel_size: float, edge_width: float = 2.0, dims: int = 3) -> Tensor:
    """High-pass filter maps or images: what `lowpass` with the same arguments takes away."""
    return images - lowpass(images, resolution, pixel_size, edge_width, dims)


def apply_bfactor(images: Tensor, bfactor: float, pixel_size: float, dims: int = 3) -> Tensor:
    """Multiply amplitudes by ``exp(-B / (4 d^2))``: negative B sharpens, as ``relion_image_handler --bfactor``.

    Parameters
    ----------
    images : Tensor, shape [..., n, n, n] or [..., n, n]
    bfactor : float
        Å².
    pixel_size : float
        Å per pixel.
    dims : int
        3 or 2.

    Returns
    -------
    Tensor, shape of `images`
    """
    size = images.shape[-1]
    window = bfactor_window(size, dims, bfactor, pixel_size, dtype=images.dtype, device=images.device)
    return to_real(to_fourier(images, dims) * window, size, dims)


def bfactor_window(
    size: int,
    dims: int,
    bfactor: float,
    pixel_size: float,
    *,
    dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """Return the weights ``exp(-B / (4 d^2))`` up to Nyquist and 0 in the corners, where sharpening only lifts noise.

    Parameters
    ----------
    size, dims : int
        Box size and number of dimensions.
    bfactor : float
        Å².
    pixel_size : float
        Å per pixel.
    dtype, device
        Of the tensor returned.

    Returns
    -------
    Tensor, shape [n, n // 2 + 1] or [n, n, n // 2 + 1]
    """
    radius = frequency_radius(size, dims, dtype=dtype, device=device)
    weights = torch.exp(-0.25 * bfactor * (radius / (size * pixel_size)).square())
    return torch.where(radius <= size / 2, weights, 0.0)


def shift(images: Tensor, shifts: Tensor) -> Tensor:
    """Translate images or maps by a number of pixels that need not be whole; see `shift_fourier` for the sign.

    Parameters
    ----------
    images : Tensor, shape [..., n, n] or [..., n, n, n]
    shifts : Tensor, shape [..., 2] or [..., 3]
        x, y(, z) in pixels; the number of them says how many axes are shifted.

    Returns
    -------
    Tensor, shape of `images`
        Periodic: what leaves the box on one side enters on the other.
    """
    dims = shifts.shape[-1]
    return to_real(shift_fourier(to_fourier(images, dims), shifts), images.shape[-1], dims)


def invert_hand(volume: Tensor) -> Tensor:
    """Return the mirror image of maps: x runs the other way about the centre ``n // 2``.

    Parameters
    ----------
    volume : Tensor, shape [..., n, n, n]

    Returns
    -------
    Tensor, shape of `volume`
        In an even box the plane x = -n/2 has no mate and stays where it is.
    """
    flipped = torch.flip(volume, (-1,))
    return torch.roll(flipped, 1, -1) if volume.shape[-1] % 2 == 0 else flipped


def splice(coarse: Tensor, fine: Tensor, shell: int) -> Tensor:
    """Return the map that has the shells of one map up to a shell, and those of another beyond it.

    Parameters
    ----------
    coarse, fine : Tensor, shape [n, n, n]
    shell : int
        Last shell (of rounded radii, as in an FSC) taken from `coarse`.

    Returns
    -------
    Tensor, shape [n, n, n]
    """
    size = coarse.shape[-1]
    low = frequency_radius(size, 3, dtype=torch.float64, device=coarse.device).round() <= shell
    return to_real(torch.where(low, to_fourier(coarse, 3), to_fourier(fine, 3)), size, 3)
