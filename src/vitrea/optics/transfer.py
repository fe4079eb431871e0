"""What the microscope did to each particle of a set: CTF and phase aberrations, group by group."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vitrea.optics.aberrations import aberration_phase
from vitrea.optics.ctf import ctf
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles


def particle_ctf(
    frequency_y: Tensor,
    frequency_x: Tensor,
    particles: Particles,
    *,
    intact_first_peak: bool = False,
    absolute: bool = False,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """CTF of every particle of a set, with its optics group's voltage, Cs, contrast and symmetric aberrations.

    Parameters
    ----------
    frequency_y, frequency_x : Tensor, shape [samples]
        Spatial frequency in 1/Å.
    particles : Particles
        Must have defocus; ``rlnPhaseShift``, ``rlnCtfBfactor`` and ``rlnCtfScalefactor`` are used where present.
    intact_first_peak, absolute, dtype
        As in `vitrea.optics.ctf.ctf`.

    Returns
    -------
    Tensor, shape [particles, samples]
    """
    table = particles.table
    return grouped_ctf(
        frequency_y,
        frequency_x,
        particles.optics,
        particles.optics_index,
        defocus=particles.defocus,
        phase_shift=table.numbers("rlnPhaseShift", 0.0),
        b_factor=table.numbers("rlnCtfBfactor", 0.0),
        scale=table.numbers("rlnCtfScalefactor", 1.0),
        intact_first_peak=intact_first_peak,
        absolute=absolute,
        dtype=dtype,
    )


def grouped_ctf(
    frequency_y: Tensor,
    frequency_x: Tensor,
    optics: Sequence[Optics],
    owner: NDArray[np.int64],
    *,
    intact_first_peak: bool = False,
    absolute: bool = False,
    dtype: torch.dtype = torch.float32,
    **columns: NDArray[np.float64],
) -> Tensor:
    """CTF of particles that belong to several optics groups.

    Parameters
    ----------
    frequency_y, frequency_x : Tensor, shape [samples]
        Spatial frequency in 1/Å.
    optics : sequence of Optics
    owner : ndarray of int64, shape [particles]
        Index of each particle's group.
    intact_first_peak, absolute, dtype
        As in `vitrea.optics.ctf.ctf`.
    **columns : ndarray, shape [particles] or [particles, 3]
        ``defocus``, ``phase_shift``, ``b_factor``, ``scale``, as in `vitrea.optics.ctf.ctf`.

    Returns
    -------
    Tensor, shape [particles, samples]
    """
    values = torch.empty((len(owner), *frequency_y.shape), dtype=dtype, device=frequency_y.device)
    for number in np.unique(owner):
        rows = np.flatnonzero(owner == number)
        values[torch.from_numpy(rows).to(values.device)] = ctf(
            frequency_y,
            frequency_x,
            optics[number],
            **{name: torch.from_numpy(column[rows]).to(values.device) for name, column in columns.items()},
            intact_first_peak=intact_first_peak,
            absolute=absolute,
            dtype=dtype,
        )
    return values


def particle_aberrations(frequency_y: Tensor, frequency_x: Tensor, particles: Particles) -> Tensor | None:
    """Factors by which beam tilt and odd aberrations multiplied the transform of every particle of a set.

    Parameters
    ----------
    frequency_y, frequency_x : Tensor, shape [samples]
        Spatial frequency in 1/Å.
    particles : Particles

    Returns
    -------
    Tensor of complex64, shape [particles, samples], or None
        Of modulus one: multiply particles by the conjugate to correct them. None where no group has aberrations.
    """
    phases = [aberration_phase(frequency_y, frequency_x, group) for group in particles.optics]
    if all(phase is None for phase in phases):
        return None
    plain = torch.ones(frequency_y.shape, dtype=torch.complex64, device=frequency_y.device)
    table = torch.stack([plain if phase is None else phase for phase in phases])
    return table[torch.from_numpy(particles.optics_index).to(table.device)]
