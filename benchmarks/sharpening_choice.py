"""How near to the undamped molecule each way of sharpening comes: the table of docs/theory/sharpening.md.

    python benchmarks/sharpening_choice.py 5a1a.pdb.gz 7a4m.cif.gz:1 3j9i.pdb.gz

Models in ice are damped by a known B-factor (or two), and given white noise that ends the FSC of the half maps at the
resolution named. Printed are the B-factor found by --auto, by a Guinier plot alone, and correlations with the undamped
molecule, low-pass filtered there, inside a mask. The spectrum of proteins is that of the other models (leave one out).
"""

from __future__ import annotations

import sys

import numpy as np
import torch
from numpy.typing import NDArray
from protein_spectrum import GRID, profile

from vitrea.formats.atomic_models import read_atoms
from vitrea.fourier.filters import apply_bfactor, lowpass
from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.maps import protein_spectrum as table
from vitrea.maps.masking import mask_from_binary
from vitrea.maps.sharpening import fit_guinier
from vitrea.maps.sharpening_choice import choose_sharpening
from vitrea.maps.spectral_sharpening import SpectralSettings, amplitude_profile, figure_of_merit, sharpen_spectrum
from vitrea.simulate.density import density_from_atoms, sphere_diameter
from vitrea.simulate.scattering import in_ice

# Voxel size, resolution, and the decay: shares and B-factors.
CASES = (
    (1.6, 4.0, ((1.0, 150.0),)),
    (2.0, 5.0, ((1.0, 200.0),)),
    (2.0, 7.0, ((1.0, 200.0),)),
    (1.6, 4.0, ((0.7, 400.0), (0.3, 30.0))),
)


def main() -> None:
    names = sys.argv[1:]
    profiles = {name: profile(name) for name in names}
    print("model, resolution, B: B found (Guinier) | automatic, Guinier, flat signal, cisTEM, none")
    for name in names:
        others = np.mean([values for other, values in profiles.items() if other != name], axis=0)
        table._FREQUENCY, table._LOG_AMPLITUDE = GRID, others
        for voxel_size, resolution, decay in CASES:
            print(f"{name}, {resolution:g} Å, {decay}: {compare(name, voxel_size, resolution, decay)}", flush=True)


def compare(name: str, voxel_size: float, resolution: float, decay: tuple[tuple[float, float], ...]) -> str:
    path, _, assembly = name.partition(":")
    atoms = read_atoms(path, assembly or None)
    size = 2 * int(np.ceil(0.675 * sphere_diameter(atoms) / voxel_size))
    vacuum = density_from_atoms(atoms, size, voxel_size)
    truth = torch.from_numpy(in_ice(vacuum, voxel_size, atoms))
    mask = mask_from_binary(vacuum > 0.15 * vacuum.max(), 4 / voxel_size, 8 / voxel_size)
    damped = sum(share * apply_bfactor(truth, bfactor, voxel_size).numpy() for share, bfactor in decay)
    assert not isinstance(damped, int | float)
    halves = add_noise(damped, mask, round(size * voxel_size / resolution))
    fsc = fourier_shell_correlation(*(torch.from_numpy(half * mask) for half in halves)).numpy()
    fsc[0] = 1.0
    mean = np.asarray((halves[0] + halves[1]) / 2, dtype=np.float32)
    choice = choose_sharpening(mean, voxel_size, fsc, mask)
    merit, cutoff = figure_of_merit(fsc), choice.resolution
    frequency = np.arange(len(fsc)) / (size * voxel_size)
    signal = np.maximum(amplitude_profile(mean, mask) * np.sqrt(merit), 1e-30)
    line = fit_guinier(frequency**2, np.log(signal), 10.0, cutoff)
    guinier = 0.0 if line is None else 4 * line.slope
    wanted = (lowpass(truth, cutoff, voxel_size).numpy() * mask).ravel()

    def closeness(settings: SpectralSettings) -> str:
        sharpened = sharpen_spectrum(mean, voxel_size, settings, mask, merit).density * mask
        return f"{np.corrcoef(sharpened.ravel(), wanted)[0, 1]:.3f}"

    ways = (
        choice.settings,
        SpectralSettings(guinier, cutoff=cutoff),
        SpectralSettings(guinier, 0.0, 10.0, True, True, cutoff=cutoff),
        SpectralSettings(-90.0, 0.0, 12.0, cutoff=cutoff),
        SpectralSettings(cutoff=cutoff),
    )
    found = f"{-choice.settings.bfactor_low:.0f} ({-guinier:.0f})"
    return f"{found} | " + ", ".join(closeness(settings) for settings in ways)


def add_noise(density: NDArray[np.float32], mask: NDArray[np.float32], shell: int) -> list[NDArray[np.float32]]:
    """Return two halves whose FSC inside the mask is 0.143 at a shell."""
    inside = amplitude_profile(density, mask)[shell] / np.sqrt(0.143 / (1 - 0.143))
    sigma = inside / np.sqrt((mask.astype(float) ** 2).mean())
    rng = np.random.default_rng(0)
    return [(density + rng.normal(0, sigma, density.shape)).astype(np.float32) for _ in range(2)]


if __name__ == "__main__":
    main()
