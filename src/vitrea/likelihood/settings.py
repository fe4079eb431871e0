"""Settings of a likelihood run that do not change from one iteration to the next."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Settings:
    """Choices of the user, in Å and degrees; names follow the job's parameters, where each is explained.

    Attributes
    ----------
    particle_diameter : float
        Diameter of the spherical mask, Å.
    symmetry : str
        Point group.
    mask_edge : float
        Width of soft mask edges, pixels.
    zero_mask : bool
        Fill the outside of the particle mask with zeros, not noise.
    gather_signal : bool
        Flip phases while the particle mask is applied: detail that defocus has spread beyond the mask is kept.
    whole_noise : bool
        Compare with the noise of whole images, not with what the mask leaves of it (see `data.noise_share`).
    flatten_solvent : bool
        Mask the reference after each iteration.
    ctf, ctf_intact_first_peak, ctf_phase_flipped, only_flip_phases : bool
        CTF correction and its variants.
    norm_correction, scale_correction : bool
        Refine a grey-value factor per particle; an intensity scale per group.
    first_iteration_correlation : bool
        Use cross-correlation, not likelihood, in the first iteration: for a reference off the absolute greyscale.
    initial_resolution : float
        Low-pass filter of the start map, Å; 0 for none.
    solvent_correct_fsc : bool
        Estimate resolution and tau2 from the FSC inside the solvent mask, corrected for the mask.
    tau2_fudge : float
        RELION's T.
    padding : int
        Oversampling of Fourier grids.
    oversampling : int
        Adaptive oversampling order.
    adaptive_fraction : float
        Fraction of the probability that the fine pass must cover.
    healpix_order : int
        Order of the first, coarse orientation grid.
    auto_local_healpix_order : int
        Order from which searches are local.
    offset_range, offset_step : float
        First translational search, Å.
    sigma_offset : float
        First width of the prior on offsets, Å.
    perturbation : float
        Largest random turn of the grids, in steps.
    join_resolution : float
        Half maps are joined up to this resolution, Å.
    highest_resolution, lowest_resolution : float
        Limits of the comparison, Å; 0 for none.
    maximum_iterations : int
    seed : int
    local_sigma_factor : float
        Width of the local orientation prior in fine angular steps.
    accuracy_particles : int
        Particles used to estimate how accurately poses can be found.
    """

    particle_diameter: float
    symmetry: str = "C1"
    mask_edge: float = 5.0
    zero_mask: bool = True
    gather_signal: bool = False
    whole_noise: bool = False
    flatten_solvent: bool = True
    ctf: bool = True
    ctf_intact_first_peak: bool = False
    ctf_phase_flipped: bool = False
    only_flip_phases: bool = False
    norm_correction: bool = True
    scale_correction: bool = True
    first_iteration_correlation: bool = False
    initial_resolution: float = 0.0
    solvent_correct_fsc: bool = False
    tau2_fudge: float = 1.0
    padding: int = 2
    oversampling: int = 1
    adaptive_fraction: float = 0.999
    healpix_order: int = 2
    auto_local_healpix_order: int = 4
    offset_range: float = 17.7
    offset_step: float = 7.08
    sigma_offset: float = 10.0
    perturbation: float = 0.5
    join_resolution: float = 40.0
    highest_resolution: float = 0.0
    lowest_resolution: float = 0.0
    maximum_iterations: int = 50
    seed: int = 1
    local_sigma_factor: float = 2.0
    accuracy_particles: int = 100
