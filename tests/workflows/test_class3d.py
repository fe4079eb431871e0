"""``vitrea class3d`` as users run it. What it shares with other class runs is in test_class_runs.py."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import starfile

from vitrea.cli.main import main
from vitrea.formats.mrc import read_map, write_map
from vitrea.formats.particle_files import read_particles
from vitrea.formats.star import read_star, write_star
from vitrea.fourier.filters import lowpass
from vitrea.geometry.euler import euler_to_matrix
from vitrea.geometry.symmetry import symmetry_distance
from vitrea.records.map import Map
from vitrea.records.table import Table

OPTIONS = ["--particle_diameter", "120", "--offset_range", "3", "--healpix_order", "1", "--sym", "C2"]
# With priors of 4°, nothing beyond three widths is looked at, in the direction and in the angle about it; a coarse step
# of 15° (with its random turn) is the least that is.
FARTHEST = 2 * max(3 * 4.0, 15.0)


def classify(folder: Any, root: Path, *more: str) -> Any:
    """Run on the mixed set; return the particle table."""
    command = ["class3d", "--i", str(folder.star), "--o", str(root), *OPTIONS, *more]
    assert main(command) == 0
    return starfile.read(f"{root}_data.star")["particles"]


def right_class(data: Any, folder: Any) -> float:
    """Share of the particles in the class of their molecule."""
    truth = starfile.read(folder.folder / "truth.star")["particles"]["rlnClassNumber"].to_numpy()
    found = data["rlnClassNumber"].to_numpy()
    assert len(found) == len(truth)
    return float(np.mean(found == truth))


def maps_star(folder: Any, path: Path, *names: str) -> Path:
    files = np.array([str(folder.folder / name) for name in names], dtype="T")
    write_star(path, {"": Table({"rlnReferenceImage": files})})
    return path


def correlation(found: Path, truth: Path, resolution: float) -> float:
    """Correlation of two maps, both at a resolution, as they are."""
    import torch

    one, two = (lowpass(torch.from_numpy(read_map(path).voxels), resolution, 5.0).numpy() for path in (found, truth))
    return float(np.corrcoef(one.ravel(), two.ravel())[0, 1])


def test_two_molecules_from_two_blurred_maps(mixed_folder: Any, tmp_path: Path) -> None:
    """Maps of a STAR file keep their order; each class becomes its molecule.

    After 5 iterations the classes still move: 93 to 97% over seeds, with or without the balance.
    """
    star = maps_star(mixed_folder, tmp_path / "start.star", "map1_40A.mrc", "map2_40A.mrc")
    data = classify(mixed_folder, tmp_path / "run", "--ref", str(star), "--K", "2", "--iter", "8", "--ini_high", "40")
    assert right_class(data, mixed_folder) > 0.95
    for number in (1, 2):
        found = tmp_path / f"run_class00{number}.mrc"
        own = correlation(found, mixed_folder.folder / f"map{number}.mrc", 20.0)
        other = correlation(found, mixed_folder.folder / f"map{3 - number}.mrc", 20.0)
        assert own > 0.9 and own > other + 0.3


def test_one_map_for_all_classes(mixed_folder: Any, tmp_path: Path) -> None:
    """All classes begin alike, and are different from the first iteration on: particles are dealt out by chance."""
    start = str(mixed_folder.start)
    classify(mixed_folder, tmp_path / "run", "--ref", start, "--K", "3", "--iter", "1", "--ini_high", "40")
    maps = [read_map(tmp_path / f"run_it001_class00{number}.mrc").voxels for number in (1, 2, 3)]
    shares = np.array(starfile.read(tmp_path / "run_model.star")["model_classes"]["rlnClassDistribution"])
    assert not np.array_equal(maps[0], maps[1]) and not np.array_equal(maps[1], maps[2])
    np.testing.assert_allclose(shares, 1 / 3, atol=0.02)


def test_poses_that_are_known(mixed_folder: Any, tmp_path: Path) -> None:
    """With the true poses: kept by --skip_align, orientations kept by --skip_rotate, close by with --sigma_ang."""
    truth = read_particles(mixed_folder.folder / "truth.star")
    star = maps_star(mixed_folder, tmp_path / "start.star", "truth_class001.mrc", "truth_class002.mrc")
    posed = mixed_folder.folder / "truth.star"
    options = [*OPTIONS, "--ref", str(star), "--K", "2", "--iter", "1", "--ini_high", "40", "--absolute_greyscale"]
    right = {}
    for name, more in (
        ("none", ["--skip_align"]),
        ("shifts", ["--skip_rotate"]),
        ("local", ["--sigma_ang", "4", "--healpix_order", "2"]),
    ):
        root = tmp_path / name
        assert main(["class3d", "--i", str(posed), "--o", str(root), *options, *more]) == 0
        found = read_particles(f"{root}_data.star")
        turned = symmetry_distance(euler_to_matrix(found.eulers), euler_to_matrix(truth.eulers), "C2")
        moved = np.abs(found.shifts - truth.shifts)
        right[name] = right_class(starfile.read(f"{root}_data.star")["particles"], mixed_folder)
        if name == "none":
            np.testing.assert_allclose(found.eulers, truth.eulers, atol=1e-5)
            np.testing.assert_allclose(found.shifts, truth.shifts, atol=1e-5)
        elif name == "shifts":
            np.testing.assert_allclose(found.eulers, truth.eulers, atol=1e-5)
            # The fine step is one pixel of 5 Å.
            assert 0 < np.median(moved) < 5.0
        else:
            assert np.median(turned) > 0 and np.max(turned) < FARTHEST
        general = read_star(f"{root}_optimiser.star")["optimiser_general"]
        assert isinstance(general, dict)
        assert int(general["rlnDoSkipAlign"]) == (name == "none")
    assert min(right.values()) > 0.9, right


def test_a_region_decides_on_classes(mixed_folder: Any, tmp_path: Path) -> None:
    """A sphere around all decides as the whole image does; one in the corner, from where Å count, tells nothing."""
    star = maps_star(mixed_folder, tmp_path / "start.star", "truth_class001.mrc", "truth_class002.mrc")
    options = [*OPTIONS, "--i", str(mixed_folder.folder / "truth.star"), "--ref", str(star), "--K", "2", "--iter", "1"]
    options += ["--ini_high", "40", "--absolute_greyscale", "--skip_align"]
    found = {}
    for name, more in (
        ("whole", []),
        ("all", ["--focus_sphere", "80,80,80,150"]),
        ("corner", ["--focus_sphere", "0,0,0,5"]),
    ):
        assert main(["class3d", "--o", str(tmp_path / name), *options, *more]) == 0
        found[name] = starfile.read(tmp_path / f"{name}_data.star")["particles"]
    assert right_class(found["all"], mixed_folder) > 0.9
    np.testing.assert_array_equal(found["all"]["rlnClassNumber"], found["whole"]["rlnClassNumber"])
    # Except where the corner lies before or behind the particle.
    assert np.median(np.abs(found["corner"]["vitreaOccupancy1"] - 0.5)) < 0.01


def test_a_local_search_is_local_from_the_first_iteration(mixed_folder: Any, tmp_path: Path) -> None:
    """Also while the greyscale of the reference is not known, which is the default."""
    truth = read_particles(mixed_folder.folder / "truth.star")
    posed, start = str(mixed_folder.folder / "truth.star"), str(mixed_folder.folder / "map1_40A.mrc")
    options = [*OPTIONS, "--ref", start, "--K", "1", "--iter", "1", "--sigma_ang", "4", "--healpix_order", "2"]
    assert main(["class3d", "--i", posed, "--o", str(tmp_path / "run"), *options]) == 0
    found = read_particles(tmp_path / "run_data.star")
    turned = symmetry_distance(euler_to_matrix(found.eulers), euler_to_matrix(truth.eulers), "C2")
    assert np.max(turned) < FARTHEST


def test_a_range_is_three_widths(mixed_folder: Any, tmp_path: Path) -> None:
    """RELION's two ways of asking for a local search are the same."""
    options = ["--ref", str(mixed_folder.start), "--K", "1", "--iter", "1"]
    classify(mixed_folder, tmp_path / "width", *options, "--sigma_ang", "5")
    classify(mixed_folder, tmp_path / "range", *options, "--local_search_range", "15")
    one, two = (read_map(tmp_path / f"{name}_class001.mrc").voxels for name in ("width", "range"))
    np.testing.assert_array_equal(one, two)


@pytest.mark.slow
def test_samplings_and_searches_can_change_on_the_way(mixed_folder: Any, tmp_path: Path) -> None:
    """A finer grid, then local searches: RELION's tutorial goes on like this from a coarse classification."""
    start = ["--ref", str(mixed_folder.start), "--K", "2", "--ini_high", "40"]
    classify(mixed_folder, tmp_path / "run", *start, "--iter", "1")
    optimiser = f"{tmp_path}/run_optimiser.star"
    assert main(["class3d", "--continue", optimiser, "--iter", "2", "--healpix_order", "2"]) == 0
    sampling = read_star(tmp_path / "run_it002_sampling.star")["sampling_general"]
    assert isinstance(sampling, dict) and int(sampling["rlnHealpixOrder"]) == 2
    more = ["--iter", "3", "--sigma_ang", "5", "--tau2_fudge", "2", "--strict_highres_exp", "20"]
    assert main(["class3d", "--continue", optimiser, *more]) == 0
    model = read_star(tmp_path / "run_it003_model.star")["model_general"]
    assert isinstance(model, dict) and int(model["rlnOrientationalPriorMode"]) == 1
    assert np.isfinite(read_map(tmp_path / "run_class001.mrc").voxels).all()


def test_a_mask_of_the_user(mixed_folder: Any, tmp_path: Path) -> None:
    radius = np.sqrt(((np.indices((32,) * 3) - 16) ** 2).sum(axis=0))
    mask = (radius < 8).astype(np.float32)
    write_map(tmp_path / "mask.mrc", Map(mask, 5.0))
    options = ["--ref", str(mixed_folder.start), "--K", "2", "--iter", "1", "--skip_align"]
    classify(mixed_folder, tmp_path / "run", *options, "--solvent_mask", str(tmp_path / "mask.mrc"))
    for number in (1, 2):
        found = read_map(tmp_path / f"run_class00{number}.mrc").voxels
        assert (found[mask == 0] == 0).all() and (found[mask == 1] != 0).any()


@pytest.mark.slow
def test_greyscale_option_changes_the_first_iteration(mixed_folder: Any, tmp_path: Path) -> None:
    """With a reference on another greyscale, probabilities mean nothing; the option says which it is."""
    options = ["--ref", str(mixed_folder.start), "--K", "1", "--iter", "1"]
    by_correlation = classify(mixed_folder, tmp_path / "cc", *options)
    absolute = classify(mixed_folder, tmp_path / "grey", *options, "--absolute_greyscale")
    assert (by_correlation["rlnMaxValueProbDistribution"] == 1.0).all()
    assert (absolute["rlnMaxValueProbDistribution"] < 1.0).any()


def test_no_reference(mixed_folder: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "output" / "run"
    assert main(["class3d", "--i", str(mixed_folder.star), "--o", str(output), *OPTIONS]) == 2
    message = capsys.readouterr().err
    assert "--ref" in message and len(message.strip().splitlines()) == 1
    assert not output.parent.exists()


def test_classes_that_stay_as_chance_made_them_are_told(mixed_folder: Any, tmp_path: Path) -> None:
    """With 120 images a class and all detail, images find their own noise; with little detail, they do not."""
    posed = mixed_folder.folder / "truth.star"
    common = ["class3d", "--i", str(posed), "--ref", str(mixed_folder.start), *OPTIONS, "--K", "2", "--iter", "2"]
    common += ["--ini_high", "40", "--absolute_greyscale", "--skip_align"]
    assert main([*common, "--o", str(tmp_path / "fine")]) == 0
    assert "leave the classes that chance" in (tmp_path / "fine.log").read_text()
    assert main([*common, "--o", str(tmp_path / "coarse"), "--strict_highres_exp", "40"]) == 0
    assert "leave the classes that chance" not in (tmp_path / "coarse.log").read_text()
