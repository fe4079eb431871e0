"""What all tests share: where data lie, and a quiet, repeatable machine."""

from __future__ import annotations

import functools
import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING

import numpy as np
import pytest
from numpy.typing import NDArray

if TYPE_CHECKING:
    from vitrea.records.particles import Particles

# As the vitrea command does; must be set before torch is imported.
os.environ.setdefault("GOMP_SPINCOUNT", "10000")
ROOT = Path(__file__).resolve().parents[1]


def _shared(folder: str) -> Path:
    """Return a folder of the data kept beside the checkout (or where VITREA_SHARED says); skip the test without it."""
    base = Path(os.environ.get("VITREA_SHARED", ROOT.parent / "shared"))
    path = base / folder
    if not path.is_dir():
        pytest.skip(f"no {path}: this test needs the data kept beside the checkout (VITREA_SHARED)")
    return path


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked gpu where there is no CUDA device."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA device"))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Folder of large input data that are not part of the repository."""
    return _shared("data")


@pytest.fixture(scope="session")
def shared_reference() -> Path:
    """Folder of inputs and outputs of a real RELION that are not part of the repository."""
    return _shared("reference")


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Folder of the small files that come with the tests."""
    return ROOT / "tests" / "data"


@pytest.fixture
def in_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Run the test inside a temporary folder, as a user would run a job in a project folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def load_example(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], ModuleType]:
    """Return a function that imports a program of ``examples/`` by its name; they import each other, too."""
    monkeypatch.syspath_prepend(ROOT / "examples")
    return importlib.import_module


@pytest.fixture
def noted_commands(load_example: Callable[[str], ModuleType], monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let the programs of ``examples/`` run nothing; return the list in which their commands are noted."""
    noted: list[str] = []

    def note(self: object, title: str, command: str, result: str) -> None:
        assert title and result
        noted.append(command)

    monkeypatch.setattr(load_example("betagal_pipeline").Pipeline, "vitrea", note)
    return noted


@pytest.fixture(scope="session", autouse=True)
def _threads() -> None:
    """Keep torch within the processors this process may use; containers often show more than they give."""
    import torch

    torch.set_num_threads(max(1, min(4, len(os.sched_getaffinity(0)))))


@dataclass(frozen=True)
class BlobModel:
    """A particle made of Gaussian balls: its map and its projections are known in closed form.

    Attributes
    ----------
    points : ndarray, shape [balls, 3]
        Centres (x, y, z) in pixels from the centre of the box.
    heights : ndarray, shape [balls]
        Integral of each ball.
    width : float
        Standard deviation in pixels. From about 1.2 on the transform is below 1e-3 at Nyquist: no aliasing.
    """

    points: NDArray[np.float64]
    heights: NDArray[np.float64]
    width: float

    def map(self, size: int) -> NDArray[np.float32]:
        """Density on a grid, shape [size, size, size], [z, y, x]."""
        axis = np.arange(size) - size // 2
        lines = np.exp(-((axis - self.points[:, :, None]) ** 2) / (2 * self.width**2))
        lines /= np.sqrt(2 * np.pi) * self.width
        density = np.einsum("b,bz,by,bx->zyx", self.heights, lines[:, 2], lines[:, 1], lines[:, 0])
        return np.asarray(density, dtype=np.float32)

    def transforms(
        self, size: int, matrices: NDArray[np.float64], shifts: NDArray[np.float64] | None = None
    ) -> NDArray[np.complex128]:
        """Orthonormal transforms of projections along rotations A, moved by +shifts (x, y in pixels).

        The balls are seen at the first two coordinates of A x. Shape [projections, size, size // 2 + 1].
        """
        moved = np.zeros((len(matrices), 2)) if shifts is None else shifts
        seen = np.einsum("mij,bj->mbi", matrices, self.points)[:, :, :2] + moved[:, None, :]
        ky, kx = np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None, :]
        phase = kx * seen[:, :, :1, None] + ky * seen[:, :, 1:, None]
        envelope = np.exp(-2 * np.pi**2 * self.width**2 * (kx**2 + ky**2)) / size
        total = np.einsum("b,mbyx->myx", self.heights, np.exp(-2j * np.pi * phase))
        return np.asarray(total * envelope)

    @staticmethod
    def images(transforms: NDArray[np.complex128], size: int) -> NDArray[np.float32]:
        """Images of orthonormal transforms with their origin at pixel size // 2."""
        images = np.fft.fftshift(np.fft.irfft2(transforms, s=(size, size), norm="ortho"), axes=(1, 2))
        return np.asarray(images, dtype=np.float32)


@pytest.fixture(scope="session")
def lopsided() -> BlobModel:
    """A particle without symmetry that fits a box of 24 pixels and more."""
    rng = np.random.default_rng(5)
    points = rng.uniform(-1, 1, size=(14, 3)) * [7.0, 5.0, 4.0]
    return BlobModel(points - points.mean(axis=0), rng.uniform(0.5, 2.0, size=14), 1.3)


@dataclass(frozen=True)
class Mixture:
    """A small set with known answers.

    Attributes
    ----------
    images : ndarray of float32, shape [particles, n, n]
    particles : Particles
        The truth: angles, shifts and defocus, ``rlnClassNumber`` (0 for junk) and ``vitreaSimulatedKind``.
    maps : tuple of ndarray of float32, shape [n, n, n]
        The molecules on the images' grey scale.
    views : ndarray of int64, shape [particles]
        Which of the few directions of view each particle has; all 0 where directions are random.
    """

    images: NDArray[np.float32]
    particles: Particles
    maps: tuple[NDArray[np.float32], ...]
    views: NDArray[np.int64]


@pytest.fixture(scope="session")
def mixture(lopsided: BlobModel) -> Callable[..., Mixture]:
    """Return a function that makes mixed sets in a fraction of a second: see `make_mixture`."""
    rng = np.random.default_rng(8)
    points = rng.uniform(-1, 1, size=(10, 3)) * [3.5, 4.0, 7.0]
    other = BlobModel(points - points.mean(axis=0), rng.uniform(0.5, 2.0, size=10), 1.3)
    part = BlobModel(lopsided.points[4:], lopsided.heights[4:], lopsided.width)
    return functools.partial(make_mixture, {"lopsided": lopsided, "other": other, "part": part})


def make_mixture(
    models: Mapping[str, BlobModel],
    *names: str,
    number: int = 200,
    size: int = 24,
    snr: float = 1.0,
    views: int = 0,
    shift_sigma: float = 5.0,
    junk_fraction: float = 0.1,
    junk_kinds: tuple[str, ...] = ("noise", "contaminant", "pair"),
    seed: int = 1,
) -> Mixture:
    """Simulate equal parts of the models named ("lopsided", "other", "part": the first without four of its balls).

    Pixels of 5 Å, 300 kV, defocus 1 to 2.5 µm in four micrographs, white noise. With `views`, particles are seen from
    that many directions only, turned in the plane, for 2D classification; else from everywhere. `shift_sigma` in Å.
    """
    import torch

    from vitrea.records.optics import Optics
    from vitrea.simulate.junk import JunkMaker
    from vitrea.simulate.particles import NoiseModel, ParticleSimulator
    from vitrea.simulate.population import Population, draw_population
    from vitrea.simulate.projections import Projector
    from vitrea.simulate.truth import Acquisition, draw_particles

    pixel_size, radius, noise = 5.0, 0.4 * size, NoiseModel(seed)
    optics = Optics(pixel_size, size, voltage=300.0, spherical_aberration=2.7, amplitude_contrast=0.1)
    truth = draw_particles(Acquisition(optics, number, groups=4, shift_sigma=shift_sigma, seed=seed, defocus_max=2.5e4))
    view = np.zeros(number, dtype=np.int64)
    if views:
        rng = np.random.default_rng([seed, views])
        view = rng.integers(views, size=number)
        directions = draw_particles(Acquisition(optics, views, seed=seed + 1)).eulers
        truth = truth.with_columns({"rlnAngleRot": directions[view, 0], "rlnAngleTilt": directions[view, 1]})
    shares = (1.0,) * len(names)
    truth = truth.with_columns(draw_population(Population(shares, junk_fraction, junk_kinds), number, seed))  # type: ignore[arg-type]
    maps = [models[name].map(size) for name in names]
    projectors = [Projector(torch.from_numpy(one), pixel_size) for one in maps]
    junk = JunkMaker(projectors, truth, shares, radius, noise)
    simulator = ParticleSimulator(projectors, truth, radius, snr, noise, junk)
    images = simulator.images(np.arange(number))
    return Mixture(images, truth, tuple(simulator.gain * one for one in maps), view)
