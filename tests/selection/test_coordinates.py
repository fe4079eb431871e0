"""Places of particles, doubles, re-extraction."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from vitrea.records.optics import Optics
from vitrea.records.table import Table
from vitrea.selection.coordinates import coordinate_pixel_sizes, particle_positions, recentre
from vitrea.selection.neighbours import keep_best_neighbours

from .conftest import make_particles

MOVED = make_particles(
    2,
    rlnCoordinateX=[100.0, 103.0],
    rlnCoordinateY=[50.0, 50.0],
    rlnOriginXAngst=[0.0, 3.0],
    rlnOriginYAngst=[0.0, -1.0],
    rlnAnglePsi=[10.0, 20.0],
)


def test_the_origin_is_the_shift_that_brings_the_particle_to_the_centre() -> None:
    """A particle 3 Å to the left of its box's centre has origin +3 Å, and lies 3 Å to the left of its coordinate."""
    positions = particle_positions(MOVED, np.full(2, 1.0))
    np.testing.assert_allclose(positions, [[100.0, 50.0], [100.0, 51.0]])


def test_recentred_coordinates_are_in_pixels_of_the_micrograph() -> None:
    moved = recentre(MOVED, np.full(2, 0.5)).table
    np.testing.assert_allclose(moved["rlnCoordinateX"], [100.0, 97.0])
    np.testing.assert_allclose(moved["rlnCoordinateY"], [50.0, 52.0])
    assert not moved["rlnOriginXAngst"].any()
    assert not moved["rlnOriginYAngst"].any()
    assert moved["rlnAnglePsi"].tolist() == [10.0, 20.0]
    assert "rlnImageName" not in moved
    assert moved["rlnImageOriginalName"][1] == "000002@s.mrcs"
    again = recentre(recentre(MOVED, np.full(2, 0.5)), np.full(2, 0.5)).table
    np.testing.assert_allclose(again["rlnCoordinateX"], moved["rlnCoordinateX"])


def test_the_pixel_size_of_coordinates() -> None:
    optics = Optics(4.0, 32, 300.0, 2.7, 0.1, original_pixel_size=0.5)
    particles = make_particles(1, optics)
    assert coordinate_pixel_sizes(particles, 1.5)[0] == 1.5
    assert coordinate_pixel_sizes(particles)[0] == 0.5
    block = Table({"rlnOpticsGroup": np.array([1]), "rlnMicrographPixelSize": np.array([1.0])})
    assert coordinate_pixel_sizes(replace(particles, optics_table=block))[0] == 1.0
    assert coordinate_pixel_sizes(particles.with_columns({"rlnMicrographPixelSize": [2.0]}))[0] == 2.0
    assert coordinate_pixel_sizes(make_particles(1)) == (pytest.approx([2.0]), "rlnImagePixelSize")


def test_of_a_chain_of_neighbours_the_best_are_kept() -> None:
    """b beats a and c, which are apart from each other; a and c go although only b is near both."""
    positions = np.array([[0.0, 0.0], [8.0, 0.0], [16.0, 0.0]])
    same = np.zeros(3, dtype=np.int64)
    assert keep_best_neighbours(positions, same, np.array([1.0, 2.0, 1.0]), 10.0).tolist() == [False, True, False]
    assert keep_best_neighbours(positions, same, np.array([3.0, 2.0, 1.0]), 10.0).tolist() == [True, False, True]
    assert keep_best_neighbours(positions, same, np.array([1.0, np.nan, 1.0]), 10.0).tolist() == [True, False, True]
    assert keep_best_neighbours(positions, np.arange(3), np.ones(3), 10.0).all()


def test_neighbours_against_every_pair() -> None:
    rng = np.random.default_rng(2)
    positions, micrograph, merit = rng.uniform(0, 300, (400, 2)), rng.integers(0, 5, 400), rng.normal(size=400)
    keep = keep_best_neighbours(positions, micrograph, merit, 25.0)
    near = np.linalg.norm(positions[:, None] - positions[None], axis=2) <= 25.0
    near &= (micrograph[:, None] == micrograph[None]) & ~np.eye(400, dtype=bool)
    assert not near[np.ix_(keep, keep)].any()
    better = near & keep[None, :] & (merit[None, :] > merit[:, None])
    assert better[~keep].any(axis=1).all()  # every particle dropped has a better neighbour that is kept
    assert 0 < keep.sum() < 400
