"""The small files that the examples in the jobs' help pages are run on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import tifffile

from vitrea.formats.atomic_models import read_atoms
from vitrea.formats.coordinates import write_coordinates
from vitrea.formats.micrograph_files import micrographs_from_images, movies_from_images, write_micrographs
from vitrea.formats.mrc import write_map, write_stack
from vitrea.formats.particle_files import write_particles
from vitrea.formats.star import write_star
from vitrea.formats.star_values import text_column
from vitrea.geometry.symmetry import symmetry_matrices
from vitrea.jobs.base import Context
from vitrea.jobs.star_convert import StarConvertParameters
from vitrea.jobs.star_convert import run as convert
from vitrea.maps.masking import soften
from vitrea.records.map import Map
from vitrea.records.micrographs import GivenOptics
from vitrea.records.optics import Optics
from vitrea.records.particles import Particles
from vitrea.records.table import Table
from vitrea.simulate.density import density_from_atoms

COUNT = 12


def write_example_files() -> None:
    """Write particles.star and what goes with it into the current folder."""
    particles = example_particles(1)
    write_particles("particles.star", particles)
    write_particles("more.star", example_particles(2))
    poses = Table({name: particles.table[name] for name in ("rlnImageName", "rlnAngleRot", "rlnAngleTilt")})
    write_star("refined.star", {"particles": poses.rows(slice(2, None))})
    names = text_column([f"mics/mic{number}.mrc" for number in (1, 2, 3)])
    fits = {"rlnMicrographName": names, "rlnCtfMaxResolution": np.array([3.5, 4.0, 5.0])}
    write_star("micrographs_ctf.star", {"micrographs": Table(fits)})
    picks = Table({name: particles.table[name] for name in ("rlnCoordinateX", "rlnCoordinateY")})
    write_star("picks.star", {"": picks}, version=None)
    write_star("other_picks.star", {"": picks.rows(slice(1, None))}, version=None)
    write_coordinates(Path("picks.box"), picks, box=32)
    write_exposures()
    write_validation_files(particles)
    for output in ("particles.cs", "refined.par"):
        convert(StarConvertParameters(input="particles.star", output=output), Context())


def write_exposures() -> None:
    """Write what the imports take: Movies/ with a gain, Micrographs/, Picks/, a stack, a map."""
    random = np.random.default_rng(3)
    for folder in ("Movies", "Micrographs", "Picks"):
        Path(folder).mkdir()
    for number in (1, 2):
        frames = random.poisson(2.0, size=(4, 32, 48)).astype(np.uint8)
        tifffile.imwrite(
            f"Movies/movie{number}.tif", frames, compression="lzw", metadata=None, photometric="minisblack"
        )
        write_stack(f"Micrographs/mic{number}.mrc", random.normal(size=(32, 48)), 1.5)
        write_coordinates(
            Path(f"Picks/mic{number}.box"), Table({"rlnCoordinateX": [20.0], "rlnCoordinateY": [9.0]}), box=8
        )
    write_stack("gain.mrc", random.normal(1, 0.05, size=(32, 48)), 1.0)
    write_stack("my_stack.mrcs", random.normal(size=(3, 16, 16)), 3.0)
    write_map("emd_1234.map", Map(random.normal(size=(8, 8, 8)).astype(np.float32), 2.0))
    axis = np.arange(24) - 12.0
    ball = (axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < 8**2).astype(np.float32)
    write_map("molecule.mrc", Map(ball, 4.0))
    for half in (1, 2):
        noisy = ball + random.normal(0, 0.3, ball.shape)
        write_map(f"run_half{half}_class001_unfil.mrc", Map(noisy.astype(np.float32), 4.0))
    write_map("other_molecule.mrc", Map(ball * (axis < 4), 4.0))
    atom = "ATOM  {:5d}  CA  ALA {}{:4d}    {:8.3f}  48.000  48.000  1.00 20.00           C  \n"
    Path("molecule.pdb").write_text("".join(atom.format(i, "AB"[i % 2], i, 24.0 + 6 * i) for i in range(1, 8)))
    write_map("ball_mask.mrc", Map(soften(ball > 0, 4.0), 4.0))
    write_map("filtered_molecule.mrc", Map(0.5 * ball + random.normal(0, 0.1, ball.shape).astype(np.float32), 4.0))
    for number in (1, 2):
        noise = np.random.default_rng(number).normal(0, 0.1, ball.shape)
        write_map(f"molecule_half{number}.mrc", Map((0.5 * ball + noise).astype(np.float32), 4.0))
    write_peptide()
    Path("numbers.raw").write_bytes(bytes(32) + np.arange(16 * 16 * 3, dtype="<i2").tobytes())
    for name, group in (("tetramer.mrc", "D2"), ("capsid.mrc", "I1")):
        points = np.array([[5.0, 3.0, 2.0], [1.0, 6.0, 3.0]]) @ symmetry_matrices(group).swapaxes(-1, -2)
        lines = np.exp(-((axis - points.reshape(-1, 3)[:, :, None]) ** 2) / 4.5)
        density = np.einsum("bz,by,bx->zyx", lines[:, 2], lines[:, 1], lines[:, 0])
        write_map(name, Map(density.astype(np.float32), 4.0))
    micrographs = micrographs_from_images(
        ["Micrographs/mic1.mrc", "Micrographs/mic2.mrc"], GivenOptics(1.5, 300, 2.7, 0.1)
    )
    write_micrographs("micrographs.star", micrographs)
    movies = movies_from_images(["Movies/movie1.tif", "Movies/movie2.tif"], GivenOptics(1.5, 300, 2.7, 0.1))
    write_micrographs("movies.star", movies)


def write_validation_files(particles: Particles) -> None:
    """Write tilted.star, a partner of particles.star; images.star; half maps of substituted particles."""
    write_particles("tilted.star", particles.with_columns({"rlnAngleTilt": particles.table["rlnAngleTilt"] + 20.0}))
    names = {"rlnImageName": text_column([f"{i}@my_stack.mrcs" for i in (1, 2, 3)])}
    three = Table({**names, "rlnOpticsGroup": np.ones(3, dtype=np.int64)})
    write_particles("images.star", Particles(three, (Optics(3.0, 16, 300.0, 2.7, 0.1),)))
    for half in (1, 2):
        noise = np.random.default_rng(half).normal(size=(24, 24, 24)).astype(np.float32)
        write_map(f"substituted_half{half}_class001_unfil.mrc", Map(noise, 4.0))


def write_peptide() -> None:
    """Write peptide.pdb, a helix with a tail, and its density, peptide.mrc, and half maps."""
    lines = []
    for number in range(40):
        x, y, z = 24 + 5 * np.cos(number / 2), 24 + 5 * np.sin(number / 2) + number / 5, 9 + 0.75 * number
        lines.append(
            f"ATOM  {number + 1:5d}  CA  GLY A{number + 1:4d}    {x:8.3f}{y:8.3f}{z:8.3f}  1.00 30.00           C"
        )
    Path("peptide.pdb").write_text("\n".join([*lines, "END", ""]))
    density = density_from_atoms(read_atoms("peptide.pdb"), 24, 2.0, 60.0, np.full(3, 24.0))
    noise = np.random.default_rng(4).normal(0, 0.3 * density.std(), (2, *density.shape))
    for number in (1, 2):
        write_map(f"peptide_half{number}.mrc", Map((density + noise[number - 1]).astype(np.float32), 2.0))
    write_map("peptide.mrc", Map((density + noise.mean(axis=0)).astype(np.float32), 2.0))


def example_particles(seed: int) -> Particles:
    """Return twelve particles of three micrographs and classes, with poses."""
    random = np.random.default_rng(seed)
    number = np.arange(COUNT)
    columns = {
        "rlnImageName": text_column(
            [f"{i + 1:06d}@stack.mrcs" if seed == 1 else f"{i + 1:06d}@more.mrcs" for i in number]
        ),
        "rlnMicrographName": text_column([f"mics/mic{i % 3 + 1}.mrc" for i in number]),
        "rlnCoordinateX": random.integers(20, 1000, COUNT).astype(np.float64),
        "rlnCoordinateY": random.integers(20, 1000, COUNT).astype(np.float64),
        "rlnOpticsGroup": np.ones(COUNT, dtype=np.int64),
        "rlnDefocusU": random.uniform(11_000, 19_000, COUNT),
        "rlnDefocusV": random.uniform(11_000, 19_000, COUNT),
        "rlnDefocusAngle": random.uniform(0, 180, COUNT),
        "rlnAngleRot": random.uniform(-180, 180, COUNT),
        "rlnAngleTilt": random.uniform(5, 175, COUNT),
        "rlnAnglePsi": random.uniform(-180, 180, COUNT),
        "rlnOriginXAngst": random.normal(0, 3, COUNT),
        "rlnOriginYAngst": random.normal(0, 3, COUNT),
        "rlnClassNumber": number % 3 + 1,
        "rlnRandomSubset": number % 2 + 1,
    }
    return Particles(Table(columns), (Optics(1.5, 64, 300.0, 2.7, 0.1),))
