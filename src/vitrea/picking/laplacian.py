"""Laplacian-of-Gaussian filters: blobs of a range of sizes, without whitening and without CTF.

RELION 3's picker without references (Zivanov et al. 2018, doi:10.7554/eLife.42166) works so. Responses are normalised
for scale (Lindeberg 1998, doi:10.1023/A:1008045108935), so that a blob has its best response from the filter of its
size, and filters of other sizes compete: what a smaller or larger one fits best is no particle, but the wall
of a hollow one, or a patch of thick ice.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.picking.templates import Templates, expand_templates, grid_positions

_STEP = 1.1  # ratio of neighbouring diameters
_SMALLER = (1 / 3, 1 / 2, 2 / 3)  # of the smallest diameter: rivals
_LARGER = (2.0, 3.0)  # times the largest diameter
_REACH = 4.0  # standard deviations of the Gaussian, beyond which the filter is nothing


def diameters_between(smallest: float, largest: float) -> NDArray[np.float64]:
    """Return diameters from the smallest to the largest, neighbours 10% apart at most; one where both are equal."""
    count = 1 + math.ceil(math.log(largest / smallest) / math.log(_STEP) - 1e-9)
    return np.geomspace(smallest, largest, count) if count > 1 else np.array([smallest])


def laplacian_templates(diameters: NDArray[np.float64], pixel_sizes: tuple[float, float]) -> Templates:
    """Make filters whose positive parts are discs of these diameters (Å), and rivals smaller and larger than all.

    The Laplacian of a Gaussian of standard deviation s crosses zero at a radius of s sqrt(2). Filters are orthogonal to
    a constant background.

    Parameters
    ----------
    diameters : ndarray, shape [filters]
    pixel_sizes : (float, float)
        Å along y and x.
    """
    smaller, larger = (np.array(ratios) for ratios in (_SMALLER, _LARGER))
    every = np.concatenate([diameters, smaller * diameters.min(), larger * diameters.max()])
    widths = every / (2 * math.sqrt(2.0))
    y, x = grid_positions(_REACH * float(widths.max()), pixel_sizes)
    squared = y * y + x * x
    images = []
    for width in widths:
        ratio = squared / (2 * width**2)
        profile = (1.0 - ratio) * np.exp(-ratio)
        level = profile.sum() * np.exp(-ratio) / np.exp(-ratio).sum()
        images.append((profile - level) * (diameters.mean() / width) ** 2)
    stack = torch.from_numpy(np.asarray(images, dtype=np.float32))
    expanded = expand_templates(stack, np.arange(len(every)), np.zeros(len(every)))
    return replace(expanded, rivals=np.arange(len(every)) >= len(diameters))
