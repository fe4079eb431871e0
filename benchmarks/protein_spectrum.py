"""How strong the shells of proteins are: the table in `vitrea.maps.protein_spectrum`, from any atomic models.

    python benchmarks/protein_spectrum.py 5a1a.pdb.gz 7a4m.cif.gz:1 3j9i.pdb.gz

A number after a colon is a biological assembly to build. Atoms have B-factors of 0 and stand in ice; waters and
hydrogens are left out. Printed are ln of the root mean square amplitude in steps of 0.02/Å, for each model and their
mean, less the mean between 10 and 4 Å; and by how much models differ (standard deviation).
"""

from __future__ import annotations

import sys
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.atomic_models import read_atoms
from vitrea.maps.spectral_sharpening import amplitude_profile
from vitrea.simulate.density import density_from_atoms, sphere_diameter
from vitrea.simulate.scattering import in_ice

VOXEL, STEP = 0.8, 0.02
GRID = np.arange(0.10, 0.601, STEP)


def profile(name: str) -> NDArray[np.float64]:
    path, _, assembly = name.partition(":")
    atoms = read_atoms(path, assembly or None)
    assert atoms.residue_names is not None
    water = np.array([str(residue).startswith("HOH") for residue in atoms.residue_names])
    keep = ~water & (atoms.elements != "H")
    atoms = replace(
        atoms,
        elements=atoms.elements[keep],
        positions=atoms.positions[keep],
        b_factors=np.zeros(keep.sum()),
        occupancies=np.ones(keep.sum()),
        chain_names=atoms.chain_names[keep],
        residue_names=None,
    )
    size = 2 * int(np.ceil(0.55 * sphere_diameter(atoms) / VOXEL))
    power = amplitude_profile(in_ice(density_from_atoms(atoms, size, VOXEL), VOXEL, atoms)) ** 2
    frequency = np.arange(len(power)) / (size * VOXEL)
    near = [power[np.abs(frequency - one) <= STEP / 2].mean() for one in GRID]
    logarithm = 0.5 * np.log(near)
    return np.asarray(logarithm - logarithm[GRID <= 0.251].mean())


def main() -> None:
    names = sys.argv[1:] or ["5a1a.pdb.gz", "7a4m.cif.gz:1", "3j9i.pdb.gz"]
    profiles = np.array([profile(name) for name in names])
    print("1/Å    Å     " + " ".join(f"{name[:8]:>8}" for name in names) + "     mean  scatter")
    for column, one in enumerate(GRID):
        values = " ".join(f"{value:8.3f}" for value in profiles[:, column])
        mean, scatter = profiles[:, column].mean(), profiles[:, column].std()
        print(f"{one:.2f} {1 / one:6.2f}  {values} {mean:8.3f} {scatter:8.3f}")


if __name__ == "__main__":
    main()
