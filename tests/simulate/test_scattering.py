"""The physical constants behind contrast, against published numbers."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.records.atomic_model import AtomicModel
from vitrea.simulate.density import VOLTS, density_from_atoms
from vitrea.simulate.scattering import (
    CARBON,
    CARBON_DENSITY,
    WATER,
    WATER_DENSITY,
    extent,
    in_ice,
    inelastic_mean_free_path,
    interaction_constant,
    mean_potential,
    scattering_factor,
    volts_of_map,
)


@pytest.mark.parametrize(("voltage", "published"), [(100, 0.9244e-3), (200, 0.7288e-3), (300, 0.6526e-3)])
def test_interaction_constant(voltage: float, published: float) -> None:
    """Kirkland, Advanced Computing in Electron Microscopy: 0.924, 0.729 and 0.653 rad/(kV Å)."""
    assert interaction_constant(voltage) == pytest.approx(published, rel=1e-3)


def test_potentials_and_mean_free_paths() -> None:
    """Free atoms: 4.5 V in amorphous ice, 12 V in carbon; 0.37 µm between losses in ice at 300 kV, less at 200."""
    assert mean_potential(WATER, WATER_DENSITY) == pytest.approx(4.53, abs=0.1)
    assert mean_potential(CARBON, CARBON_DENSITY) == pytest.approx(12.0, abs=0.2)
    assert inelastic_mean_free_path(WATER, WATER_DENSITY, 300) == pytest.approx(3750, rel=0.03)
    ratio = inelastic_mean_free_path(WATER, WATER_DENSITY, 200) / inelastic_mean_free_path(WATER, WATER_DENSITY, 300)
    assert ratio == pytest.approx(0.83, abs=0.03)


def test_scattering_factor_of_a_group_is_the_sum() -> None:
    k = torch.tensor([0.0, 0.25], dtype=torch.float64)
    one, two = scattering_factor(k, {"O": 1}), scattering_factor(k, {"H": 1})
    assert torch.allclose(scattering_factor(k, WATER), one + 2 * two)
    assert float(one[0]) == pytest.approx(1.983, abs=0.002)  # International Tables C, table 4.3.1.1


def test_a_molecule_displaces_ice(random_protein: AtomicModel) -> None:
    """The sum is potential minus volume times that of ice; what is finer than 4 Å stays as it is."""
    vacuum = density_from_atoms(random_protein, 48, 1.5)
    wet = in_ice(vacuum, 1.5, random_protein)
    atoms = len(random_protein)
    per_atom = {"C": 2.509, "N": 2.211, "O": 1.983}
    total = VOLTS * sum(per_atom[element] for element in random_protein.elements)
    expected = 1.22 * total - atoms * 17.3 * mean_potential(WATER, WATER_DENSITY)
    assert wet.sum(dtype=np.float64) * 1.5**3 == pytest.approx(expected, rel=0.01)
    # 3 to 4 V above ice, as protein has.
    assert 2.5 < expected / (atoms * 17.3) < 4.5
    difference = fourier_shell_correlation(torch.from_numpy(wet), torch.from_numpy(vacuum))
    assert float(difference[18:].min()) > 0.9999  # 72 Å / 18


def test_a_map_of_any_grey_scale_comes_to_volts(random_protein: AtomicModel) -> None:
    density = density_from_atoms(random_protein, 48, 1.5, b_factor=60.0)
    factor = volts_of_map(37.0 * density + 5.0, 1.5, 10.0)
    assert volts_of_map(density, 1.5, 10.0) == pytest.approx(37 * factor, rel=1e-4)
    scaled = factor * 37.0 * density
    inside = np.sort(scaled, axis=None)[-round(10e3 * 1.21 / 1.5**3) :].mean()
    assert inside - scaled.mean() == pytest.approx(8.0 - 4.53, abs=0.6)
    with pytest.raises(ValueError, match="does not fit"):
        volts_of_map(density, 1.5, 1000.0)


def test_extent_of_a_ball() -> None:
    axis = np.arange(40) - 20
    ball = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < 10**2).astype(np.float32)
    assert 40.0 <= extent(ball, 2.0) <= 50.0  # the blur adds a few Å to each side


@pytest.fixture(scope="module")
def random_protein() -> AtomicModel:
    """Atoms in a ball of 15 Å radius, in protein's proportions and density, without hydrogens."""
    rng = np.random.default_rng(3)
    number = round(4 / 3 * np.pi * 15**3 / 17.3)
    points = rng.normal(size=(number, 3))
    points *= (15 * rng.random(number) ** (1 / 3) / np.linalg.norm(points, axis=1))[:, None]
    elements = rng.choice(["C", "N", "O"], p=[0.63, 0.17, 0.20], size=number)
    return AtomicModel(elements, points, np.full(number, 20.0), np.ones(number), np.full(number, "A"))
