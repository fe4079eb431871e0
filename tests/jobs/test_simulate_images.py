"""`vitrea simulate micrographs` and `vitrea simulate movie`: files as an import would leave them, and the truth."""

from __future__ import annotations

import shutil
from pathlib import Path

import mrcfile
import numpy as np
import pytest

from vitrea.formats.gain import read_defects, read_gain
from vitrea.formats.micrograph_files import read_micrographs, read_movies
from vitrea.formats.motion_files import read_motion
from vitrea.formats.movies import open_movie
from vitrea.formats.mrc import open_stack, read_map
from vitrea.formats.particle_files import read_particles
from vitrea.formats.star import write_star
from vitrea.jobs.base import Context
from vitrea.jobs.simulate_micrographs import MicrographParameters
from vitrea.jobs.simulate_micrographs import run as simulate_micrographs
from vitrea.jobs.simulate_movie import MovieParameters
from vitrea.jobs.simulate_movie import run as simulate_movie
from vitrea.records.errors import InputError
from vitrea.records.recorder import SilentRecorder
from vitrea.records.table import Table

SMALL = {"map": "map40.mrc", "molecular_mass": 120.0, "output": "S", "width": 160, "height": 130, "particles": 6,
         "particle_diameter": 90.0, "pixel_size": 4.0}  # fmt: skip


@pytest.fixture
def folder(in_tmp: Path, data_dir: Path) -> Path:
    shutil.copy(data_dir / "projection" / "map40.mrc", in_tmp)
    return in_tmp


def micrographs(**parameters: object) -> None:
    simulate_micrographs(MicrographParameters(**{**SMALL, **parameters}), Context())


def movies(**parameters: object) -> None:
    simulate_movie(MovieParameters(**{**SMALL, "frames": 4, "exposure": 8.0, **parameters}), Context())


def test_micrographs_and_their_truth(folder: Path) -> None:
    micrographs(number=2, phase_shift_min=30.0, phase_shift_max=60.0, astigmatism_min=100.0)
    blind, truth = read_micrographs("S/micrographs.star"), read_micrographs("S/truth_micrographs.star")
    assert not blind.has_ctf
    assert list(blind.names) == ["S/Micrographs/mic0001.mrc", "S/Micrographs/mic0002.mrc"]
    assert blind.pixel_sizes == pytest.approx(4.0, rel=0.01)
    assert blind.optics[0].voltage == 300
    assert ((truth.phase_shifts > 30) & (truth.phase_shifts < 60)).all()
    particles = read_particles("S/truth.star", require_images=False)
    assert len(particles) == 12
    for name, defocus in zip(truth.names, truth.defocus, strict=True):
        own = particles.rows(particles.table["rlnMicrographName"] == name)
        assert len(own) == 6
        assert abs(own.defocus[:, 0] - defocus[0]).max() < 210  # half of ice minus particle
        assert own.defocus[:, 2] == pytest.approx(defocus[2])
    image = open_stack("S/Micrographs/mic0001.mrc")
    assert image.shape == (1, 130, 160)
    assert (image % 1 == 0).all()
    assert mrcfile.validate("S/Micrographs/mic0001.mrc")
    # What an electron counter sees: the dose times what ice and detector let through.
    assert image.mean() == pytest.approx(40 * blind.pixel_sizes[0] ** 2 * 0.85 * np.exp(-500 / 3750), rel=0.03)


def test_expected_images_carbon_and_given_places(folder: Path) -> None:
    write_star("places.star", {"": Table({"rlnCoordinateX": np.array([40.0, 110.5]),
                                          "rlnCoordinateY": np.array([60.0, 70.0])})}, version=None)  # fmt: skip
    micrographs(noise="none", coordinates="places.star", carbon=0.2, contaminants=1.0, ice_ripple=20.0)
    assert (open_stack("S/Micrographs/mic0001.mrc") % 1 != 0).any()
    particles = read_particles("S/truth.star", require_images=False)
    places = np.stack([particles.table.numbers(f"rlnCoordinate{axis}") for axis in "XY"], axis=1)
    places -= particles.shifts / particles.optics[0].pixel_size
    assert places == pytest.approx(np.array([[40.0, 60.0], [110.5, 70.0]]), abs=1e-6)
    mask, background = (open_stack(f"S/Truth/mic0001_{layer}.mrc")[0] for layer in ("mask", "background"))
    assert set(np.unique(mask)) <= {0, 1, 2}
    assert 0.1 < (mask == 1).mean() < 0.3
    assert background[mask == 1].mean() < 0.95 * background[mask == 0].mean()


def test_signal_to_noise_ratio_can_be_chosen(folder: Path) -> None:
    recorder = SilentRecorder()
    simulate_micrographs(MicrographParameters(**{**SMALL, "snr": 0.05}), Context(recorder))
    assert "signal-to-noise ratio 0.05" in str(recorder.events[-1])


@pytest.mark.parametrize("form", ["tif", "mrc"])
def test_movies_and_their_truth(folder: Path, form: str) -> None:
    movies(format=form, defects=6, drift=12.0)
    listed = read_movies("S/movies.star")
    assert list(listed.names) == [f"S/Movies/movie0001.{form}"]
    gain, dead = read_gain(listed.gains[0]), read_defects(listed.defects[0], (130, 160))
    assert gain.shape == (130, 160)
    assert dead.sum() == 3
    assert (gain == 0).sum() == 3
    with open_movie(listed.names[0]) as movie:
        frames = np.stack(list(movie)).astype(np.float64)
    assert frames.shape == (4, 130, 160)
    assert not frames[:, gain == 0].any()
    assert frames[:, dead].min() > 3 * frames.mean()
    # The gain lies as the frames do: corrected counts vary less than those stored.
    living = (gain > 0) & ~dead
    total = frames.sum(axis=0)
    scatter = [(image[living] / image[living].mean()).std() for image in (total * gain, total, total[::-1] * gain)]
    assert scatter[0] < min(scatter[1:])
    motion = read_motion("S/Truth/movie0001.star")
    assert motion.frames == 4
    assert not motion.shifts[0].any()
    assert np.hypot(*motion.shifts[-1]) * motion.pixel_size == pytest.approx(12.0, abs=0.01)
    assert motion.coefficients is not None
    assert motion.coefficients.shape == (2, 18)
    assert motion.exposure_per_frame == 2.0
    assert sorted(map(tuple, motion.hot_pixels.tolist())) == sorted(zip(*np.nonzero(dead)[::-1], strict=True))


def test_a_movie_without_gain_or_motion_is_a_micrograph_in_parts(folder: Path) -> None:
    movies(noise="none", gain=False, drift=0.0, local_motion=0.0, ice_thickness=0.0, format="mrc")
    frames = open_stack("S/Movies/movie0001.mrc").astype(np.float64)
    assert not Path("S/gain.mrc").exists()
    micrographs(noise="none", exposure=8.0, ice_thickness=0.0, output="M")
    image = open_stack("M/Micrographs/mic0001.mrc")[0]
    assert np.abs(frames.sum(axis=0) - image).max() < 2e-4 * image.max()
    assert read_map("M/truth.mrc").voxels.shape == (71, 71, 71)  # of 4 Å instead of 7.08


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"molecular_mass": 0.0}, "--molecular_mass"),
        ({"molecular_mass": 1e6}, "does not fit"),
        ({"map": "none.mrc"}, "none.mrc"),
        ({"width": 40}, "no room"),
        ({"defocus_min": 3e4}, "--defocus_min"),
        ({"voltage": 120.0}, "--no-damage"),
        ({"mtf": "none.star"}, "none.star"),
        ({"coordinates": "outside.star"}, "particle 1 at 500, 20 lies outside"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(
    folder: Path, parameters: dict[str, object], message: str
) -> None:
    columns = {"rlnCoordinateX": np.array([500.0]), "rlnCoordinateY": np.array([20.0])}
    write_star("outside.star", {"": Table(columns)}, version=None)
    with pytest.raises(InputError, match=message):
        movies(**parameters)
    assert not Path("S").exists()
