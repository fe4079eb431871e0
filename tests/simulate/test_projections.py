"""Projections hold against relion_project's of the same map and poses."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrea.formats.mrc import open_stack, read_map
from vitrea.formats.particle_files import read_particles
from vitrea.fourier.packed import packed_samples
from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.geometry.euler import euler_to_matrix
from vitrea.optics.aberrations import aberration_phase
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table
from vitrea.simulate.projections import Projector

OPTICS = Optics(pixel_size=2.0, image_size=24, voltage=300.0, spherical_aberration=2.7, amplitude_contrast=0.1)


def blob(size: int) -> torch.Tensor:
    """A smooth, lopsided map."""
    axis = torch.arange(size, dtype=torch.float32) - size // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    first = torch.exp(-((x - 2) ** 2 + (y + 1) ** 2 + z**2) / 8)
    return first + 0.5 * torch.exp(-(x**2 + (y - 3) ** 2 + (z - 2) ** 2) / 6)


def view(size: int = 24, **columns: float) -> Particles:
    table = Table().with_columns({"rlnOpticsGroup": [1], **{label: [value] for label, value in columns.items()}})
    return Particles(table, (replace(OPTICS, image_size=size),))


@pytest.mark.parametrize("with_ctf", [False, True])
def test_agrees_with_relion_project(data_dir: Path, with_ctf: bool) -> None:
    """Up to shell 19 to float error; the last shell, where rounding decides in RELION which components at exactly
    Nyquist are kept, leaves a correlation above 0.9999."""
    density = read_map(data_dir / "projection" / "map40.mrc")
    poses = read_particles(data_dir / "projection" / "poses.star", require_images=False)
    expected = torch.from_numpy(
        np.array(open_stack(data_dir / "projection" / f"{'with' if with_ctf else 'no'}_ctf.mrcs"))
    )
    images = Projector(torch.from_numpy(density.voxels), density.voxel_size).images(poses, with_ctf=with_ctf)
    for got, wanted in zip(images.double().numpy(), expected.double().numpy(), strict=True):
        assert np.corrcoef(got.ravel(), wanted.ravel())[0, 1] > 0.9999
        assert (got * wanted).sum() / (wanted * wanted).sum() == pytest.approx(1, abs=1e-5)
    samples = packed_samples(40, 19)
    difference = samples.gather(to_fourier(images)) - samples.gather(to_fourier(expected))
    assert difference.abs().max() < 2e-5 * samples.gather(to_fourier(expected)).abs().max()


def test_a_projected_point_shows_the_ctf_as_in_relion(data_dir: Path) -> None:
    size, pixel_size = 128, 1.5
    point = torch.zeros((size,) * 3)
    point[size // 2, size // 2, size // 2] = 1
    rows = np.loadtxt(data_dir / "ctf" / "point_spread.txt")
    labels = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift")
    columns = dict(zip(labels, rows.T, strict=True)) | {"rlnOpticsGroup": np.ones(len(rows), dtype=np.int64)}
    optics = Optics(pixel_size, size, voltage=300.0, spherical_aberration=2.0, amplitude_contrast=0.1)
    images = Projector(point, pixel_size, padding=1).images(Particles(Table(columns), (optics,)), with_ctf=True)
    expected = torch.from_numpy(np.array(open_stack(data_dir / "ctf" / "point_spread.mrcs")))
    inside = packed_samples(size, size // 2 - 1)
    difference = inside.gather(to_fourier(images)) - inside.gather(to_fourier(expected))
    assert difference.abs().max() * size < 2e-4  # a CTF of 1 is 1 / size in orthonormal transforms


@pytest.mark.parametrize("size", [24, 25])
@pytest.mark.parametrize("eulers", [(0, 0, 0), (40, 70, -110)])
def test_a_gaussian_is_projected_where_geometry_says(size: int, eulers: tuple[float, float, float]) -> None:
    """The projection of a Gaussian at r is a Gaussian at the x and y of A r, sqrt(2 pi) sigma times as high. Views
    along the axes meet grid points, where nothing is interpolated and the correction for it overshoots by 2% here."""
    position, sigma = np.array([2.0, -1.0, 2.0]), 2.0
    axis = np.arange(size) - size // 2
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    squared = (x - position[0]) ** 2 + (y - position[1]) ** 2 + (z - position[2]) ** 2
    voxels = torch.from_numpy(np.exp(-squared / (2 * sigma**2)).astype(np.float32))
    rot, tilt, psi = eulers
    image = Projector(voxels, 2.0).images(
        view(size, rlnAngleRot=rot, rlnAngleTilt=tilt, rlnAnglePsi=psi), with_ctf=False
    )[0]
    seen = euler_to_matrix(eulers) @ position
    flat_y, flat_x = np.meshgrid(axis, axis, indexing="ij")
    distance = (flat_x - seen[0]) ** 2 + (flat_y - seen[1]) ** 2
    expected = np.sqrt(2 * np.pi) * sigma * np.exp(-distance / (2 * sigma**2))
    assert np.abs(image.numpy() - expected).max() < 0.025 * expected.max()


def test_an_image_is_moved_by_minus_its_origin() -> None:
    plain, moved = (
        Projector(blob(24), 2.0).images(one, with_ctf=False)[0]
        for one in (view(), view(rlnOriginXAngst=6.0, rlnOriginYAngst=-4.0))
    )
    torch.testing.assert_close(torch.roll(plain, (2, -3), (0, 1)), moved, atol=1e-4, rtol=0)


def test_beam_tilt_and_ctf_variants_change_the_image() -> None:
    particle = view(rlnDefocusU=15000.0, rlnDefocusV=14000.0, rlnDefocusAngle=20.0)
    projector = Projector(blob(24), 2.0)
    plain = projector.packed(particle, with_ctf=True)
    tilted_optics = replace(OPTICS, beam_tilt_x=2.0, beam_tilt_y=-1.0)
    tilted = projector.packed(replace(particle, optics=(tilted_optics,)), with_ctf=True)
    phase = aberration_phase(*projector.samples.frequencies(2.0), tilted_optics)
    assert phase is not None
    torch.testing.assert_close(tilted, plain * phase)
    absolute = projector.packed(particle, with_ctf=True, absolute=True)
    first_peak = projector.packed(particle, with_ctf=True, intact_first_peak=True)
    torch.testing.assert_close(absolute.abs(), plain.abs())
    assert (absolute - plain).abs().max() > 0.01
    assert first_peak[0, 0].abs() > 5 * plain[0, 0].abs()  # the origin, where the CTF is 0.1


@pytest.mark.parametrize(("size", "dims"), [(8, 2), (9, 2), (8, 3), (9, 3)])
def test_scatter_undoes_gather(size: int, dims: int) -> None:
    generator = torch.Generator().manual_seed(size)
    samples = packed_samples(size, size // 2, dims)
    images = to_real(
        samples.scatter(samples.gather(to_fourier(torch.randn(2, *[size] * dims, generator=generator), dims))),
        size,
        dims,
    )
    again = samples.scatter(samples.gather(to_fourier(images, dims)))
    torch.testing.assert_close(to_real(again, size, dims), images, atol=1e-5, rtol=0)
    kept = 2 * len(samples) - 1  # the origin has no mate
    assert again.count_nonzero() * 2 >= kept > 0
    torch.testing.assert_close(to_fourier(images, dims), again, atol=1e-5, rtol=0)
