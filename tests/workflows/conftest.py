"""A small particle set, as a user would have it on disk: particles.star, particles.mrcs and a start map."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from vitrea.cli.main import main
from vitrea.formats.mrc import write_map
from vitrea.fourier.filters import lowpass
from vitrea.jobs.base import Context
from vitrea.jobs.simulate_particles import SimulateParameters
from vitrea.jobs.simulate_particles import run as simulate
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
    write_map(folder / "start.mrc", blurred(truth))
    simulate_into(folder, number=200, map=folder / "map.mrc")
    return ParticleFolder(folder)


@pytest.fixture(scope="session")
def mixed_folder(tmp_path_factory: pytest.TempPathFactory) -> ParticleFolder:
    """Simulate 240 particles of two molecules of C2 symmetry; the start map is the mean of both at 40 Å."""
    folder = tmp_path_factory.mktemp("mixed")
    one, two = blobs(3), blobs(11)
    for name, density in (("map1", one), ("map2", two), ("mean", one.with_voxels(0.5 * (one.voxels + two.voxels)))):
        write_map(folder / f"{name}.mrc", density)
        write_map(folder / f"{name}_40A.mrc", blurred(density))
    shutil.copy(folder / "mean_40A.mrc", folder / "start.mrc")
    simulate_into(folder, number=240, map=(folder / "map1.mrc", folder / "map2.mrc"))
    return ParticleFolder(folder)


def blurred(density: Map) -> Map:
    """Return a map at 40 Å, on another greyscale."""
    voxels = lowpass(torch.from_numpy(density.voxels), 40.0, PIXEL_SIZE).numpy() * 7.0
    return density.with_voxels(voxels)


def simulate_into(folder: Path, **more: object) -> None:
    """Simulate particles in two micrographs."""
    parameters = {"output": folder, "snr": 1.0, "groups": 2, "particle_diameter": DIAMETER, "seed": 5, **more}
    simulate(SimulateParameters.model_validate(parameters), Context())
    # Image names relative to the STAR file, so that a copy of the folder is complete.
    for name in ("particles.star", "truth.star"):
        text = (folder / name).read_text(encoding="utf-8")
        (folder / name).write_text(re.sub(r"@\S*particles\.mrcs", "@particles.mrcs", text), encoding="utf-8")


@pytest.fixture(scope="session")
def run_until() -> Callable[[list[str], Path], None]:
    """Return a function that runs a command and kills it (SIGKILL) as soon as a file is there."""

    def run(command: list[str], file: Path) -> None:
        process = subprocess.Popen([sys.executable, "-m", "vitrea", *command], stdout=subprocess.DEVNULL)
        deadline = time.monotonic() + 120
        while not file.exists() and time.monotonic() < deadline:
            assert process.poll() is None, "the run ended before it could be killed"
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        process.wait()

    return run


@pytest.fixture
def disk_full_after(monkeypatch: pytest.MonkeyPatch) -> Callable[[Path], object]:
    """Return a context in which the disk is full some writes after a file has appeared."""

    @contextmanager
    def full(file: Path) -> Iterator[None]:
        flush, calls = os.fsync, 0

        def fill_up(descriptor: int) -> None:
            nonlocal calls
            calls += 1
            if file.exists() and calls % 3 == 0:
                raise OSError(errno.ENOSPC, "No space left on device")
            flush(descriptor)

        with monkeypatch.context() as patched:
            patched.setattr(os, "fsync", fill_up)
            yield

    return full


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., None]:
    """Return a function that runs a command, which must end with exit code 2 and one sentence holding these words."""

    def refuse(command: list[str], *words: str) -> None:
        capsys.readouterr()
        assert main(command) == 2
        message = capsys.readouterr().err.strip()
        assert len(message.splitlines()) == 1, message
        assert "Traceback" not in message
        for word in words:
            assert word in message, message

    return refuse
