"""Images as a real RELION extracted them: ``relion_preprocess --extract --extract_size 64`` with its options."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.extraction.background import Normalisation
from vitrea.extraction.processing import ImageProcessor, ImageSettings
from vitrea.extraction.windows import cut_windows, place_windows
from vitrea.formats.mrc import open_stack
from vitrea.formats.star import read_star
from vitrea.records.table import Table

SETTINGS = {
    "raw": ImageSettings(),
    "norm": ImageSettings(normalisation=Normalisation(24)),
    "norm_invert": ImageSettings(normalisation=Normalisation(24), invert=True),
    "norm_noramp": ImageSettings(normalisation=Normalisation(24, ramp=False)),
    "scaled": ImageSettings(scale=32, normalisation=Normalisation(12), invert=True),
}
DUST = ImageSettings(normalisation=Normalisation(24, white_dust=5, black_dust=5))


def extract(folder: Path, settings: ImageSettings) -> NDArray[np.float32]:
    micrograph = open_stack(folder / "Micrographs" / "mic1.mrc")[0]
    picks = read_star(folder / "Micrographs" / "mic1_manual.star")[""]
    assert isinstance(picks, Table)
    coordinates = np.stack([picks.numbers("rlnCoordinateX"), picks.numbers("rlnCoordinateY")], axis=1)
    places = place_windows(coordinates, 64, micrograph.shape)
    assert places.over_edge.tolist() == [False] * 5 + [True] * 2
    assert not places.outside.any()
    images, usable = ImageProcessor(64, settings)(cut_windows(micrograph, places.corners, 64), np.random.default_rng(1))
    assert usable.all()
    return images


@pytest.mark.parametrize("name", list(SETTINGS))
def test_images_are_those_of_relion(name: str, data_dir: Path) -> None:
    """Within four spacings of float32 at the largest value of each image (up to 66 deviations: there are hot pixels).

    The transforms of rescaling are in float32 here and in float64 there.
    """
    expected = np.asarray(open_stack(data_dir / "extraction" / name / "mic1.mrcs"))
    found = extract(data_dir / "extraction", SETTINGS[name])
    assert found.shape == expected.shape
    error = np.abs(found - expected).max(axis=(1, 2))
    allowed = 4 * np.spacing(np.abs(expected).max(axis=(1, 2)))
    assert np.all(error <= (1e-5 if name == "scaled" else allowed))


def test_dust_is_where_relion_found_it(data_dir: Path) -> None:
    """The values dust takes are random, in RELION as here, and move mean and deviation a little: all else must fit.

    What is left after the best straight line between the two images' pixels is dust: the same pixels, and no others.
    """
    expected = np.asarray(open_stack(data_dir / "extraction" / "norm_dust" / "mic1.mrcs"), dtype=np.float64)
    before = extract(data_dir / "extraction", SETTINGS["norm"]).astype(np.float64)
    found = extract(data_dir / "extraction", DUST).astype(np.float64)
    dust = np.abs(before) > 5
    assert dust.sum(axis=(1, 2)).tolist() == [0, 1, 1, 0, 1, 0, 0]
    for theirs, ours, mask in zip(expected, found, dust, strict=True):
        slope, offset = np.polyfit(theirs[~mask], ours[~mask], 1)
        assert np.abs(slope * theirs[~mask] + offset - ours[~mask]).max() < 2e-6
        assert slope == pytest.approx(1, abs=0.01)
        assert offset == pytest.approx(0, abs=0.01)
        assert np.abs(ours[mask]).max(initial=0) < 5
