"""A small particle set that tests of files change one thing in."""

import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from vitrea.formats.mrc import write_stack

OPTICS = """data_optics

loop_
_rlnOpticsGroup #1
_rlnOpticsGroupName #2
_rlnVoltage #3
_rlnSphericalAberration #4
_rlnAmplitudeContrast #5
_rlnImagePixelSize #6
_rlnImageSize #7
1 first 300.0 2.7 0.1 1.5 8
2 second 200.0 1.4 0.07 1.5 8

"""
PARTICLES = """data_particles

loop_
_rlnImageName #1
_rlnOpticsGroup #2
_rlnDefocusU #3
_rlnDefocusV #4
_rlnDefocusAngle #5
_rlnOriginXAngst #6
_rlnOriginYAngst #7
_myColumn #8
000001@a.mrcs 1 10000 9000 30 1.5 -3.0 x1
000002@a.mrcs 2 11000 9500 31 0.0 4.5 x2
000001@b.mrcs 1 12000 9700 32 0.75 0.0 x3
"""


@pytest.fixture
def make_set(tmp_path: Path) -> Callable[..., Path]:
    """Write a STAR file of three particles and its two stacks (8 pixels, 1.5 Å); each pair replaces text in it."""

    def make(*replacements: tuple[str, str], text: str = OPTICS + PARTICLES) -> Path:
        random = np.random.default_rng(0)
        for name, count in (("a.mrcs", 2), ("b.mrcs", 1)):
            write_stack(tmp_path / name, random.normal(size=(count, 8, 8)), 1.5)
        for old, new in replacements:
            assert old in text
            text = text.replace(old, new)
        path = tmp_path / "particles.star"
        path.write_text(text)
        return path

    return make


@pytest.fixture(scope="session")
def star_corpus(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of some 590 real STAR files of every dialect."""
    folder = tmp_path_factory.mktemp("corpus")
    # Python before 3.11.4 has no filters; there it trusts the archive, as we do.
    safe: dict[str, Any] = {"filter": "data"} if hasattr(tarfile, "data_filter") else {}
    with tarfile.open(shared_data / "formats" / "star_corpus.tar.xz") as archive:
        archive.extractall(folder, **safe)
    return folder
