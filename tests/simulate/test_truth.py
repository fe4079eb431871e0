from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.stats import kstest

from vitrea.geometry.euler import euler_to_matrix
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table
from vitrea.simulate.truth import Acquisition, draw_particles

OPTICS = Optics(pixel_size=2.0, image_size=24, voltage=300.0, spherical_aberration=2.7, amplitude_contrast=0.1)
MANY = Acquisition(OPTICS, 3000, groups=30, shift_sigma=4.0)


def test_orientations_are_uniform_over_all_rotations() -> None:
    """Every entry of a uniformly random rotation matrix is uniform on [-1, 1] (Archimedes)."""
    matrices = euler_to_matrix(draw_particles(MANY).eulers).reshape(-1, 9)
    for entry in matrices.T:
        assert kstest(entry, "uniform", args=(-1, 2)).pvalue > 1e-3


def test_preferred_views_gather_about_z() -> None:
    """The mean of cos(tilt) under a von Mises-Fisher density is coth(kappa) - 1 / kappa."""
    for kappa in (1.0, 8.0):
        eulers = draw_particles(replace(MANY, preferred=kappa)).eulers
        cosine = np.cos(np.radians(eulers[:, 1]))
        assert abs(cosine.mean() - (1 / np.tanh(kappa) - 1 / kappa)) < 0.05
        assert kstest(eulers[:, 0], "uniform", args=(-180, 360)).pvalue > 1e-3


def test_micrographs_share_optics_and_particles_scatter() -> None:
    acquisition = replace(MANY, defocus_min=9e3, defocus_max=2e4, defocus_spread=50, astigmatism=500, scale_spread=0.3)
    truth = draw_particles(acquisition)
    names, group, counts = np.unique(truth.table["rlnMicrographName"], return_inverse=True, return_counts=True)
    assert len(names) == 30
    assert set(counts) == {100}
    u, v, angle = truth.defocus.T
    assert (u >= v).all()
    assert (u - v).max() <= 500
    for number in range(30):
        inside = group == number
        assert len(set(angle[inside])) == 1
        assert len(set(truth.table["rlnCtfScalefactor"][inside])) == 1
        assert 35 < u[inside].std() < 65
    means = np.array([((u + v) / 2)[group == number].mean() for number in range(30)])
    assert 8.9e3 < means.min() < means.max() < 2.01e4
    assert means.std() > 2000
    assert 0.15 < np.log(truth.table.numbers("rlnCtfScalefactor")).std() < 0.45
    assert abs(truth.shifts.std() - 4) < 0.2


def test_a_particle_is_the_same_in_a_larger_set() -> None:
    few, many = draw_particles(replace(MANY, number=7, groups=1)), draw_particles(replace(MANY, number=20, groups=1))
    assert np.array_equal(few.eulers, many.eulers[:7])
    assert np.array_equal(few.shifts, many.shifts[:7])
    assert np.array_equal(few.defocus, many.defocus[:7])
    assert not np.array_equal(few.eulers, draw_particles(replace(MANY, number=7, seed=2)).eulers)


def test_given_poses_take_the_place_of_drawn_ones() -> None:
    angles = {"rlnAngleRot": np.array([10.0, 20.0]), "rlnAngleTilt": np.array([30.0, 40.0]), "rlnAnglePsi": np.zeros(2)}
    given = Particles(Table({**angles, "rlnOpticsGroup": np.ones(2, dtype=np.int64)}), (OPTICS,))
    drawn = draw_particles(replace(MANY, number=2))
    taken = draw_particles(replace(MANY, number=2), given)
    assert np.array_equal(taken.eulers, given.eulers)
    assert np.array_equal(taken.shifts, drawn.shifts)
    assert np.array_equal(taken.defocus, drawn.defocus)
