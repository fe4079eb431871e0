"""A small particle set, as a user would have it on disk: particles.star, particles.mrcs and a start map."""

from __future__ import annotations

import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrea.formats.mrc import write_map
from vitrea.fourier.filters import lowpass
from vitrea.jobs.base import Context
from vitrea.jobs.simulate import SimulateParameters
from vitrea.jobs.simulate import run as simulate
from vitrea.records.map import Map

BOX, PIXEL_SIZE, DIAMETER = 32, 5.0, 120.0


@dataclass(frozen=True)
class ParticleFolder:
    """Where the files of a simulated set are."""

    folder: Path

    @property
    def star(self) -> Path:
        return self.folder / "particles.star"

    @property
    def start(self) -> Path:
        return self.folder / "start.mrc"

    def copy_to(self, folder: Path) -> ParticleFolder:
        """Copy the files, to be spoilt."""
        shutil.copytree(self.folder, folder)
        return ParticleFolder(folder)

    def options(self, output: Path) -> list[str]:
        """Return the options of a refinement of this set."""
        return [
            "--i", str(self.star), "--ref", str(self.start), "--o", str(output), "--sym", "C2",
            "--particle_diameter", str(DIAMETER), "--ini_high", "40", "--offset_range", "3", "--healpix_order", "1",
            "--auto_local_healpix_order", "3", "--low_resol_join_halves", "60",
        ]  # fmt: skip


def blobs(seed: int = 3) -> Map:
    """Return a map of Gaussian blobs with C2 symmetry about z and nothing else in common with its mirror image."""
    rng = np.random.default_rng(seed)
    z, y, x = (np.indices((BOX,) * 3) - BOX // 2) * PIXEL_SIZE
    density = np.zeros((BOX,) * 3)
    for centre in rng.uniform(-38, 38, size=(20, 3)):
        for sign in (1, -1):
            squared = (x - sign * centre[0]) ** 2 + (y - sign * centre[1]) ** 2 + (z - centre[2]) ** 2
            density += np.exp(-squared / (2 * 4.5**2))
    return Map(density.astype(np.float32), PIXEL_SIZE)


@pytest.fixture(scope="session")
def particle_folder(tmp_path_factory: pytest.TempPathFactory) -> ParticleFolder:
    """Simulate 200 particles in two micrographs; the start map is the truth at 40 Å on another greyscale."""
    folder = tmp_path_factory.mktemp("particles")
    truth = blobs()
    write_map(folder / "map.mrc", truth)
    blurred = lowpass(torch.from_numpy(truth.voxels), 40.0, PIXEL_SIZE).numpy() * 7.0
    write_map(folder / "start.mrc", truth.with_voxels(blurred))
    parameters = SimulateParameters(
        map=folder / "map.mrc", output=folder, number=200, snr=1.0, groups=2, particle_diameter=DIAMETER, seed=5
    )
    simulate(parameters, Context())
    # Image names relative to the STAR file, so that a copy of the folder is complete.
    for name in ("particles.star", "truth.star"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(re.sub(r"@\S*particles\.mrcs", "@particles.mrcs", text), encoding="utf-8")
    return ParticleFolder(folder)
