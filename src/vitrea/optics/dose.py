"""Radiation damage: how much signal is left after an exposure, and the filter that weights movie frames by it.

Grant & Grigorieff (2015), doi:10.7554/eLife.06980.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

# Nc(k) = a k^b + c in e-/Å² at 300 kV: equation 3 of the paper with the digits that cisTEM keeps. RELION has the
# paper's rounded 0.245, -1.665, 2.81, which differ by 0.1% at most up to 2 Å.
_A, _B, _C = 0.24499, -1.6649, 2.8141
# Lower voltages deposit more energy per electron: the critical exposure relative to that at 300 kV.
_VOLTAGE_FACTORS = {300.0: 1.0, 200.0: 0.8, 100.0: 0.64}
_VOLTAGE_TOLERANCE = 2.0  # kV
# Exposure, in units of Nc, at which the signal-to-noise ratio of a sum is largest: the root of exp(x / 2) = 1 + x.
OPTIMAL_EXPOSURE = 2.512862417


def voltage_factor(voltage: float) -> float:
    """Return the critical exposure relative to that at 300 kV: 1 at 300 kV, 0.8 at 200 kV, 0.64 at 100 kV.

    Raises
    ------
    ValueError
        At any other voltage: none has been measured there.
    """
    for known, factor in _VOLTAGE_FACTORS.items():
        if abs(voltage - known) <= _VOLTAGE_TOLERANCE:
            return factor
    raise ValueError(f"the exposure filter is known at 300, 200 and 100 kV, not at {voltage:g} kV")


def critical_exposure(frequency: Tensor, voltage: float = 300.0) -> Tensor:
    """Return the exposure at which the signal of a spatial frequency has fallen to 1/e of its power.

    Parameters
    ----------
    frequency : Tensor, any shape
        Spatial frequency in 1/Å.
    voltage : float
        Acceleration voltage in kV.

    Returns
    -------
    Tensor, shape of `frequency`
        Nc(k) in e-/Å²; infinite at the origin.
    """
    return voltage_factor(voltage) * (_A * frequency.pow(_B) + _C)


def optimal_exposure(frequency: Tensor, voltage: float = 300.0) -> Tensor:
    """Return the exposure after which a plain sum of frames gains nothing more at a spatial frequency, 2.51 Nc(k).

    Parameters
    ----------
    frequency : Tensor, any shape
        Spatial frequency in 1/Å.
    voltage : float
        Acceleration voltage in kV.
    """
    return OPTIMAL_EXPOSURE * critical_exposure(frequency, voltage)


def exposure_filter(frequency: Tensor, exposure: float, voltage: float = 300.0) -> Tensor:
    """Return the amplitude left after an exposure, ``q = exp(-N / (2 Nc(k)))``: the weight of a frame that ends there.

    Parameters
    ----------
    frequency : Tensor, any shape
        Spatial frequency in 1/Å.
    exposure : float
        Accumulated exposure N at the end of the frame in e-/Å², pre-exposure included.
    voltage : float
        Acceleration voltage in kV.

    Returns
    -------
    Tensor, shape of `frequency`
        1 at the origin.
    """
    return torch.exp(-exposure / (2.0 * critical_exposure(frequency, voltage)))


def frame_exposures(frames: int, exposure_per_frame: float, pre_exposure: float = 0.0) -> list[float]:
    """Return the accumulated exposure in e-/Å² at the end of each of a movie's frames."""
    return [pre_exposure + (frame + 1) * exposure_per_frame for frame in range(frames)]


def exposure_filters(
    frequency: Tensor, exposures: Sequence[float], voltage: float = 300.0, *, restore_power: bool = True
) -> Tensor:
    """Return the weights of all frames of a movie.

    Parameters
    ----------
    frequency : Tensor, any shape
        Spatial frequency in 1/Å.
    exposures : sequence of float, length [frames]
        Accumulated exposure at the end of each frame in e-/Å²; see `frame_exposures`.
    voltage : float
        Acceleration voltage in kV.
    restore_power : bool
        Divide by ``sqrt(sum of squared weights / frames)``, so that white noise keeps the power it has in the plain sum
        (equation 9 of the paper, times sqrt(frames)). At the origin all weights are 1 either way.

    Returns
    -------
    Tensor, shape [frames, ...]

    Notes
    -----
    cisTEM and RELION divide by ``sqrt(sum of squared weights)``: theirs is ours / sqrt(frames). Ours keeps the weighted
    sum on the grey scale of the plain sum.
    """
    weights = torch.stack([exposure_filter(frequency, exposure, voltage) for exposure in exposures])
    if not restore_power:
        return weights
    # The least of the squares is far above 0: exp(-N / Nc) of 300 e-/Å² at 2 Å is 1e-37; float32 still holds it.
    mean_square = weights.square().mean(dim=0).clamp(min=torch.finfo(weights.dtype).tiny)
    return weights * mean_square.rsqrt()
