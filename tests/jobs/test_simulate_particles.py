"""`vitrea simulate`: what it writes is what it says, and a reconstruction from the truth gives the map back."""

from __future__ import annotations

import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import starfile
import torch

from vitrea.formats.images import ParticleImages
from vitrea.formats.mrc import open_stack, read_map, write_map
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.formats.star import write_star
from vitrea.fourier.fsc import fourier_shell_correlation
from vitrea.fourier.shells import radial_power_spectrum
from vitrea.fourier.transforms import resample, resize_box
from vitrea.geometry.masks import soft_sphere
from vitrea.jobs.base import Context
from vitrea.jobs.reconstruct import ReconstructParameters
from vitrea.jobs.reconstruct import run as reconstruct
from vitrea.jobs.simulate_particles import SimulateParameters, run
from vitrea.records.errors import InputError
from vitrea.records.map import Map
from vitrea.records.table import Table


@pytest.fixture
def folder(in_tmp: Path, data_dir: Path) -> Path:
    shutil.copy(data_dir / "projection" / "map40.mrc", in_tmp)
    return in_tmp


def simulate(**parameters: object) -> None:
    run(SimulateParameters(**{"map": "map40.mrc", "output": "S", "number": 20, **parameters}), Context())


def test_a_reconstruction_from_the_truth_gives_the_map_back(folder: Path) -> None:
    """500 particles, also with unequal intensities and beam tilt: the map returns on the images' grey scale."""
    simulate(number=500, snr=1.0, scale_spread=0.2, beam_tilt_x=1.0)
    reconstruct(ReconstructParameters(input=Path("S/truth.star"), output=Path("back.mrc"), ctf=True), Context())
    ball = soft_sphere(40, 14, 2).astype(np.float32)
    got, truth = read_map("back.mrc").voxels, read_map("S/truth.mrc").voxels
    curve = fourier_shell_correlation(torch.from_numpy(got * ball), torch.from_numpy(truth * ball)).numpy()
    assert curve[:10].min() > 0.97
    assert curve[:18].min() > 0.7
    # Normalising by the background, which holds some of the particle's defocused rim, takes a little away.
    assert (got * truth * ball).sum() / (truth * truth * ball).sum() == pytest.approx(1, abs=0.03)


def test_blind_set_and_truth(folder: Path) -> None:
    simulate(groups=4, scale_spread=0.3)
    assert mrcfile.validate("S/particles.mrcs")
    blind, truth = read_particles("S/particles.star"), read_particles("S/truth.star")
    secrets = {"rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnOriginXAngst", "rlnOriginYAngst", "rlnCtfScalefactor"}
    assert secrets.isdisjoint(blind.table)
    assert secrets < set(truth.table)
    assert np.array_equal(blind.defocus, truth.defocus)
    assert np.array_equal(ParticleImages(blind).load(np.arange(20)), open_stack("S/particles.mrcs"))
    read = starfile.read("S/particles.star")
    assert len(read["particles"]) == 20
    assert read["particles"]["rlnMicrographName"].nunique() == 4


def test_the_same_seed_gives_the_same_images(folder: Path) -> None:
    for output, seed in (("A", 3), ("B", 3), ("C", 4)):
        simulate(output=output, seed=seed)
    a, b, c = (np.array(open_stack(f"{name}/particles.mrcs")) for name in "ABC")
    assert np.array_equal(a, b)
    assert np.abs(a - c).max() > 1


def test_noise_only_without_noise_and_with_a_given_spectrum(folder: Path) -> None:
    simulate(snr=0, number=100)
    assert not Path("S/truth.mrc").exists()
    assert np.array(open_stack("S/particles.mrcs")).mean(axis=0).std() == pytest.approx(0.1, rel=0.1)

    simulate(noise="none", output="clean")
    assert np.abs(read_map("clean/truth.mrc").voxels - read_map("map40.mrc").voxels).max() < 1e-6

    frequency = np.arange(21) / (40 * 7.08)
    columns = {"rlnResolution": frequency, "rlnSigma2Noise": np.linspace(9.0, 1.0, 21)}
    write_star("model.star", {"model_general": {"rlnNrGroups": 1}, "model_group_1": Table(columns)})
    simulate(snr=0, number=100, noise="coloured", noise_model="model.star", output="coloured")
    power = radial_power_spectrum(torch.from_numpy(np.array(open_stack("coloured/particles.mrcs")))).mean(dim=0)
    assert float(power[2:5].mean() / power[17:20].mean()) == pytest.approx(7.8 / 1.8, rel=0.15)


def test_given_poses_box_and_symmetry(folder: Path, data_dir: Path) -> None:
    poses = read_particles(data_dir / "projection" / "poses.star", require_images=False)
    write_particles("poses.star", poses)
    simulate(angles="poses.star", number=5, box_size=32, pixel_size=8.0, symmetry="D2", b_factor=300.0)
    truth = read_particles("S/truth.star")
    assert np.array_equal(truth.eulers, poses.eulers[:5])
    assert np.array_equal(truth.shifts, poses.shifts[:5])
    assert open_stack("S/particles.mrcs").shape == (5, 32, 32)
    made = read_map("S/truth.mrc")
    assert made.voxel_size == pytest.approx(40 * 7.08 / 35)
    assert truth.optics[0].pixel_size == pytest.approx(made.voxel_size)
    inner = made.voxels[1:, 1:, 1:]
    assert np.corrcoef(inner.ravel(), inner[:, ::-1, ::-1].ravel())[0, 1] > 0.99


def test_an_atomic_model(folder: Path) -> None:
    atom = "ATOM  {:5d}  CA  ALA A{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00 20.00           C\n"
    spiral = [(20 * np.cos(t), 20 * np.sin(t), 3 * t) for t in np.linspace(0, 12, 80)]
    Path("m.pdb").write_text("".join(atom.format(i + 1, i + 1, *xyz) for i, xyz in enumerate(spiral)) + "END\n")
    simulate(map=None, model="m.pdb", box_size=32, pixel_size=3.0, snr=5, number=3)
    images = np.array(open_stack("S/particles.mrcs"))
    assert images.shape == (3, 32, 32)
    assert (images[:, 8:24, 8:24].mean(axis=(1, 2)) > 0).all()
    with pytest.raises(InputError, match=r"m\.pdb: the model is 40 Å wide"):
        simulate(map=None, model="m.pdb", box_size=10, pixel_size=3.0)


def atoms(name: str, shift: float = 0.0) -> None:
    """Write a model of two chains: a spiral (A), and a rod beside it (B)."""
    atom = "ATOM  {:5d}  CA  ALA {}{:4d}    {:8.3f}{:8.3f}{:8.3f}  1.00 20.00           C\n"
    spiral = [("A", 20 * np.cos(t), 20 * np.sin(t), 3 * t) for t in np.linspace(0, 12, 80)]
    rod = [("B", 30.0, shift, z) for z in np.linspace(0, 36, 60)]
    lines = [atom.format(i + 1, chain, i + 1, *xyz) for i, (chain, *xyz) in enumerate(spiral + rod)]
    Path(name).write_text("".join(lines) + "END\n")


def test_a_mixed_set(folder: Path) -> None:
    """Two forms of a molecule and junk: shares, kinds and classes in the truth only; a map of each molecule."""
    atoms("m.pdb")
    simulate(
        map=None, model=["m.pdb", "m.pdb"], omit_chains="2:B", box_size=32, pixel_size=3.0, number=200, snr=2.0,
        shares=[3, 1], junk_fraction=0.25, groups=4,
    )  # fmt: skip
    truth, blind = read_particles("S/truth.star").table, read_particles("S/particles.star").table
    assert "rlnClassNumber" not in blind
    assert "vitreaSimulatedKind" not in blind
    kinds, classes = truth["vitreaSimulatedKind"], truth["rlnClassNumber"]
    assert [(classes == number).sum() for number in (0, 1, 2)] == pytest.approx([50, 112.5, 37.5], abs=2)
    assert (kinds == "pair").sum() == pytest.approx(50 / 3, abs=2)
    assert len(set(truth["rlnMicrographName"][kinds == "noise"])) == 4
    whole, part = (read_map(f"S/truth_class00{number}.mrc").voxels for number in (1, 2))
    lost = whole - part
    # What is missing is the rod: it lies at x = 30 Å, the spiral between -20 and 20; the middle is at 5 Å.
    assert lost[:, :, 22:].sum() > 0.95 * lost.sum()
    assert np.abs(lost[:, :, :19]).max() < 0.05 * lost.max()
    assert Path("S/truth_class003.mrc").exists() is False


def test_a_mixed_set_reconstructs_class_by_class(folder: Path) -> None:
    """Particles of class 2 give the second map back, on the grey scale the truth file tells."""
    atoms("m.pdb", shift=15.0)
    simulate(
        map=["map40.mrc"], model=["m.pdb"], box_size=40, pixel_size=7.08, number=600, snr=2.0, shares=[1, 2],
        junk_fraction=0.1, b_factor=300.0,
    )  # fmt: skip
    truth = read_particles("S/truth.star")
    write_particles("two.star", truth.rows(truth.table["rlnClassNumber"] == 2))
    reconstruct(ReconstructParameters(input=Path("two.star"), output=Path("two.mrc"), ctf=True), Context())
    got = read_map("two.mrc").voxels
    first, second = (read_map(f"S/truth_class00{number}.mrc").voxels for number in (1, 2))
    assert np.corrcoef(got.ravel(), second.ravel())[0, 1] > 0.8
    assert np.corrcoef(got.ravel(), first.ravel())[0, 1] < 0.5


def test_junk_kinds_that_are_asked_for(folder: Path) -> None:
    simulate(junk_fraction=1.0, junk_kinds="picked_noise,noise", number=30, noise="coloured")
    kinds = read_particles("S/truth.star").table["vitreaSimulatedKind"]
    assert sorted(set(kinds)) == ["noise", "picked_noise"]
    images = np.array(open_stack("S/particles.mrcs"))
    middle = images[:, 15:25, 15:25].mean(axis=(1, 2))
    # map40 is a bright particle: what was picked with it is bright in the middle, noise is not.
    assert middle[kinds == "picked_noise"].mean() > middle[kinds == "noise"].mean() + 0.1


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"map": None}, "give a map with --map or"),
        ({"map": None, "model": "m.pdb"}, "--model needs --box_size"),
        ({"assembly": "1"}, "--assembly needs --model"),
        ({"omit_chains": "A"}, "--omit_chains needs --model"),
        ({"map": ["map40.mrc", "map40.mrc"], "shares": [1.0]}, "--shares needs one positive number for each of the 2"),
        ({"shares": [0.0]}, "--shares needs one positive number"),
        ({"junk_fraction": 0.1, "noise": "none"}, "--junk_fraction needs noise"),
        ({"junk_fraction": 0.1, "junk_kinds": "pair,pair"}, "--junk_kinds needs one kind at least, and none twice"),
        ({"junk_fraction": 0.1, "junk_kinds": ""}, "--junk_kinds needs one kind"),
        ({"map": "none.mrc"}, "none.mrc does not exist"),
        ({"defocus_min": 3e4}, "--defocus_min"),
        ({"noise_model": "map40.mrc"}, "--noise_model needs --noise coloured"),
        ({"particle_diameter": 400.0}, "does not fit in a box of 283.2 Å"),
        ({"symmetry": "Z"}, "Z"),
        ({"angles": "none.star"}, "none.star"),
    ],
)
def test_mistakes_are_told_and_nothing_is_written(folder: Path, parameters: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        simulate(**parameters)
    assert not Path("S").exists()


@pytest.mark.parametrize(
    ("omit", "message"),
    [
        ("C", r"m\.pdb has no chain C \(it has: A, B\)"),
        ("3:A", "there is no model 3; --model is given 2 times"),
        ("x:A", "there is no model x"),
        (["1:A", "1:B"], r"leaves nothing of m\.pdb"),
    ],
)
def test_chains_that_cannot_be_left_out(folder: Path, omit: object, message: str) -> None:
    atoms("m.pdb")
    with pytest.raises(InputError, match=message):
        simulate(map=None, model=["m.pdb", "m.pdb"], box_size=32, pixel_size=3.0, omit_chains=omit)
    assert not Path("S").exists()


def test_maps_of_other_boxes_are_brought_to_the_first(folder: Path) -> None:
    """The second map has a larger box with finer voxels; a box that cannot be matched in voxel size is refused."""
    small = read_map("map40.mrc")
    wide = resample(resize_box(torch.from_numpy(small.voxels), 48, dims=3), 96, dims=3)
    write_map("wide.mrc", Map(wide.numpy(), small.voxel_size / 2))
    simulate(map=["map40.mrc", "wide.mrc"], number=4, snr=1.0)
    first, second = (read_map(f"S/truth_class00{number}.mrc").voxels for number in (1, 2))
    assert first.shape == second.shape
    assert np.abs(first - second).max() < 0.02 * first.max()
    write_map("odd.mrc", Map(small.voxels[:7, :7, :7] + np.eye(7, dtype=np.float32), 20.0))
    with pytest.raises(InputError, match=r"odd\.mrc has a box of|odd\.mrc has .* Å per voxel"):
        simulate(map=["map40.mrc", "odd.mrc"], number=4, output="T")
