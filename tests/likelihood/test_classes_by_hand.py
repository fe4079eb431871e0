"""One iteration with two classes, in two and three dimensions, against the same written out in float64 with numpy.

What is written out shares no code with the library but the CTF, the orientations of the grid and the soft mask.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from vitrea.geometry.masks import soft_sphere
from vitrea.likelihood.classification import Classification
from vitrea.likelihood.scheme import Scheme
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import RunState

PIXEL, PADDING = 4.0, 2
SETTINGS = Settings(
    particle_diameter=40.0,
    mask_edge=2.0,
    healpix_order=0,
    oversampling=0,
    adaptive_fraction=1.0,
    perturbation=0.0,
    offset_range=4.0,
    offset_step=4.0,
    sigma_offset=6.0,
    tau2_fudge=2.0,
)


def _points(reach: int, dims: int) -> NDArray[np.int64]:
    """All integer points (x, y, z) of a cube around zero, or of a square with z = 0."""
    axis = np.arange(-reach, reach + 1)
    found = np.stack(np.meshgrid(*[axis] * dims, indexing="ij"), axis=-1).reshape(-1, dims)
    return np.pad(found, ((0, 0), (0, 3 - dims)))


class Grid:
    """A whole padded Fourier transform [x, y(, z)] around its origin; trilinear interpolation both ways."""

    def __init__(self, size: int, radius: int, dims: int) -> None:
        self.size, self.radius, self.dims, self.reach = size, radius, dims, PADDING * radius + 2
        self.values = np.zeros([2 * self.reach + 1] * dims, dtype=complex)
        self.weight = np.zeros([2 * self.reach + 1] * dims)
        axis = np.arange(size) - size // 2
        squared = sum(part**2 for part in np.meshgrid(*[axis] * dims, indexing="ij"))
        self.fall_off = np.sinc(np.sqrt(squared) / (PADDING * size)) ** 2

    @classmethod
    def of(cls, voxels: NDArray[np.float32], radius: int) -> Grid:
        """The transform of a reference, by explicit sums over its voxels."""
        grid = cls(len(voxels), radius, voxels.ndim)
        axis = np.arange(grid.size) - grid.size // 2
        wave = np.exp(-2j * np.pi / (PADDING * grid.size) * np.outer(np.arange(-grid.reach, grid.reach + 1), axis))
        values = voxels / grid.fall_off
        for number in range(grid.dims):
            values = np.moveaxis(np.tensordot(wave, values, axes=(1, number)), 0, number)
        grid.values = values.transpose() / grid.size  # [x, y(, z)]
        return grid

    def _corners(self, points: NDArray[np.float64]) -> Any:
        base = np.floor(points[:, : self.dims]).astype(int)
        fraction = points[:, : self.dims] - base
        for corner in np.ndindex(*[2] * self.dims):
            factor = np.where(corner, fraction, 1 - fraction).prod(axis=1)
            yield tuple((base + corner + self.reach).T), factor

    def project(self, matrix: NDArray[np.float64], samples: NDArray[np.int64]) -> NDArray[np.complex128]:
        """Sample the slice of a view; samples (x, y) of an image."""
        points = PADDING * np.pad(samples, ((0, 0), (0, 1))) @ matrix
        return np.asarray(sum(factor * self.values[place] for place, factor in self._corners(points)))

    def add(
        self,
        matrix: NDArray[np.float64],
        samples: NDArray[np.int64],
        values: NDArray[np.complex128],
        weights: NDArray[np.float64],
    ) -> None:
        """Add samples and their Friedel mates."""
        points = PADDING * np.pad(samples, ((0, 0), (0, 1))) @ matrix
        for sign, added in ((1, values), (-1, values.conj())):
            for place, factor in self._corners(sign * points):
                np.add.at(self.values, place, factor * added)
                np.add.at(self.weight, place, factor * weights)

    def _distance(self) -> NDArray[np.float64]:
        points = _points(self.reach, self.dims)
        return np.asarray(np.sqrt((points**2).sum(axis=1)).reshape(self.weight.shape))

    def sigma2(self) -> NDArray[np.float64]:
        """One over the mean weight per Fourier pixel of each shell; of each pair of mates with x > 0 one counts."""
        half = slice(self.reach, None)
        shell = np.round(self._distance()[half] / PADDING).astype(int).ravel()
        count = self.size // 2 + 1
        total = np.bincount(shell, self.weight[half].ravel(), minlength=count)[:count]
        mean = total / np.bincount(shell, minlength=count)[:count] * PADDING**self.dims
        return np.where(mean > 0, 1 / np.maximum(mean, 1e-30), 0.0)

    def invert(self, tau2: NDArray[np.float64] | None, fudge: float) -> NDArray[np.float64]:
        """The map: explicit sums over frequencies. Without tau2, weights have a floor of a thousandth of the mean."""
        distance = self._distance()
        shell = np.minimum(np.round(distance / PADDING).astype(int), self.size // 2)
        if tau2 is None:
            sigma2 = self.sigma2()
            mean = np.where(sigma2 > 0, 1 / np.maximum(sigma2, 1e-30), 0.0) / PADDING**self.dims
            denominator = np.maximum(self.weight, 1e-3 * mean[shell])
        else:
            strength = tau2[shell] * fudge * PADDING**self.dims
            denominator = np.where(strength > 0, self.weight + 1 / np.maximum(strength, 1e-30), np.inf)
        inside = (distance <= PADDING * self.radius) & (denominator > 0)
        values = np.where(inside, self.values / np.where(inside, denominator, 1.0), 0.0)
        axis = np.arange(self.size) - self.size // 2
        wave = np.exp(2j * np.pi / (PADDING * self.size) * np.outer(axis, np.arange(-self.reach, self.reach + 1)))
        values = values.transpose()
        for number in range(self.dims):
            values = np.moveaxis(np.tensordot(wave, values, axes=(1, number)), 0, number)
        voxels = values.real * self.size / (PADDING * self.size) ** self.dims / self.fall_off
        ball = soft_sphere(self.size, self.size / 2, 3.0, dims=self.dims)
        outside = (voxels * (1 - ball)).sum() / (1 - ball).sum()
        return np.asarray(voxels * ball + outside * (1 - ball))


def _samples(size: int) -> NDArray[np.int64]:
    """Independent components (x, y) of an image up to Nyquist, without those at the Nyquist index."""
    x, y = _points((size - 1) // 2, 2)[:, :2].T
    chosen = ((x > 0) | ((x == 0) & (y >= 0))) & (x**2 + y**2 <= (size // 2) ** 2)
    return np.stack([x[chosen], y[chosen]], axis=1)


def _moved(image: NDArray[np.float64], x: float, y: float) -> NDArray[np.float64]:
    """An image moved by whole pixels; what enters is zero."""
    size = len(image)
    out = np.zeros_like(image)
    for row, column in np.ndindex(image.shape):
        if 0 <= row - y < size and 0 <= column - x < size:
            out[row, column] = image[int(row - y), int(column - x)]
    return out


class Iteration:
    """One iteration from a state in which particles are moved by whole pixels; `ctf` is that of `transfer`."""

    def __init__(self, run: Classification, state: RunState, ctf: NDArray[np.float32]) -> None:
        self.data, self.model, self.count, size = run.data, state.models[0], len(run.data), run.data.box_size
        self.size, self.radius = size, state.progress.current_size // 2
        self.start = state.particles.shifts
        images = self.data.load(np.arange(self.count)).astype(float)
        images = np.stack([_moved(image, *(at / PIXEL)) for image, at in zip(images, self.start, strict=True)])
        mask = soft_sphere(size, SETTINGS.particle_diameter / (2 * PIXEL), SETTINGS.mask_edge, dims=2)
        samples = _samples(size)
        x, y = samples.T
        self.shell = np.round(np.hypot(x, y)).astype(int)
        near = np.hypot(x, y) <= self.radius
        whole = [np.fft.fft2(np.fft.ifftshift(part, axes=(1, 2)), norm="ortho") for part in (images * mask, images)]
        self.masked, unmasked = (part[:, y % size, x] for part in whole)
        self.total = np.square(images * mask).sum(axis=(1, 2))
        ctf = ctf[:, y % size, x] * near
        self.precision = np.where(near & (self.shell > 0), 1 / self.model.sigma2_noise[0][self.shell], 0.0)
        grid = run.grid(state.sampling)
        self.directions = np.repeat(np.arange(len(grid.directions)), len(grid.psi))
        matrices = grid.matrices(self.directions, np.tile(np.arange(len(grid.psi)), len(grid.directions)), 0)
        self.shifts = PIXEL * np.array([[-1, 0], [0, -1], [0, 0], [0, 1], [1, 0]])
        ramps = np.exp(-2j * np.pi / size * (self.shifts / PIXEL) @ samples.T)
        references = [Grid.of(group.voxels, self.radius) for group in self.model.classes]
        models = np.zeros((self.count, len(references), len(matrices), len(samples)), dtype=complex)
        for k, reference in enumerate(references):
            for m, matrix in enumerate(matrices):
                models[:, k, m, near] = ctf[:, near] * reference.project(matrix, samples[near])
        self._compare(models, ramps)
        self.grids = [Grid(size, self.radius, one.dims) for one in references]
        for k, m in np.ndindex(len(references), len(matrices)):
            weight = self.posterior[:, k, m].sum(axis=1)[:, None] * ctf**2 * self.precision
            moved = (self.posterior[:, k, m] @ ramps) * ctf * self.precision * unmasked
            self.grids[k].add(matrices[m], samples[near], moved.sum(axis=0)[near], weight.sum(axis=0)[near])

    def _compare(self, models: NDArray[np.complex128], ramps: NDArray[np.complex128]) -> None:
        """Posterior [particles, classes, orientations, shifts], and the power that is left in each shell."""
        shape = (*models.shape[:3], len(ramps))
        log_p, left = np.zeros(shape), np.zeros((*shape, self.size // 2 + 1))
        known = self.precision > 0
        density = np.log(self.precision[known] / (2 * np.pi)).sum()
        for i, k, m, t in np.ndindex(shape):
            misfit = np.abs(self.masked[i] * ramps[t] - models[i, k, m]) ** 2
            left[i, k, m, t] = np.bincount(self.shell, misfit, minlength=left.shape[-1])
            group = self.model.classes[k]
            prior = np.log(group.share * group.direction_prior[self.directions[m]])
            # Up to a constant for each particle: the library takes the largest prior as one.
            far = np.square(self.start[i] + self.shifts).sum(axis=1)
            prior -= 0.5 * (far[t] - far.min()) / self.model.sigma_offset**2
            log_p[i, k, m, t] = density - 0.5 * (misfit * self.precision).sum() + prior
        best = log_p.max(axis=(1, 2, 3), keepdims=True)
        posterior = np.exp(log_p - best)
        total = posterior.sum(axis=(1, 2, 3), keepdims=True)
        self.posterior = posterior / total
        self.log_likelihood = (best + np.log(total)).ravel()
        self.left = (self.posterior[..., None] * left).sum(axis=(1, 2, 3))

    @property
    def sigma2_noise(self) -> NDArray[np.float64]:
        """With one group the pull towards the mean of all groups changes nothing."""
        samples = np.bincount(self.shell, minlength=self.size // 2 + 1)
        return np.asarray(self.left.sum(axis=0) / (2 * samples * self.count))

    @property
    def sigma_offset(self) -> float:
        far = np.square(self.start[:, None] + self.shifts).sum(axis=2)
        return float(np.sqrt((self.posterior.sum(axis=(1, 2)) * far).sum() / (2 * self.count)))

    def tau2(self, number: int, mask: NDArray[np.float32]) -> NDArray[np.float64]:
        """Variance of the signal: power of the masked reference less that of the noise which the mask leaves."""
        grid = self.grids[number]
        plain, sigma2 = grid.invert(None, 1.0) * mask, grid.sigma2()
        frequency = np.fft.fftfreq(self.size, 1 / self.size)
        shell = np.sqrt(sum(part**2 for part in np.meshgrid(*[frequency] * grid.dims, indexing="ij")))
        shell = np.round(shell).astype(int).ravel()
        power = np.abs(np.fft.fftn(plain, norm="ortho").ravel()) ** 2 * self.size ** (grid.dims - 2) / 2
        count = self.size // 2 + 1
        power = np.bincount(shell, power, minlength=count)[:count] / np.bincount(shell, minlength=count)[:count]
        tau2 = np.maximum(power - np.square(mask).mean() * sigma2, 0.0)
        tau2[:5] = power[:5]
        return np.where(sigma2 > 0, tau2, 0.0)


@pytest.fixture(scope="module", params=[2, 3])
def both(request: Any, simulate: Callable[..., Any], transfer: Callable[..., Any]) -> tuple[Any, RunState, Iteration]:
    dims = request.param
    simulation = simulate(6, 16 if dims == 2 else 12, snr=0.3, origins=np.zeros((6, 2)))
    voxels = simulation.map if dims == 3 else simulation.map.sum(axis=0)
    other = np.roll(np.ascontiguousarray(voxels[::-1]), (1, 1), axis=(0, 1))
    run = simulation.classification(SETTINGS, Scheme(2, planar=dims == 2, psi_step=45.0 * (dims == 2), occupancy=True))
    state = run.start([voxels, 0.8 * other], simulation.particles())
    known = PIXEL * np.array([[1, 0], [0, -1], [1, 1], [-1, 0], [0, 0], [0, 2]])
    state = replace(state, particles=replace(state.particles, shifts=known))
    shares = (0.45, 0.55)
    rng = np.random.default_rng(1)
    classes = [
        replace(group, share=share, direction_prior=rng.dirichlet(np.full(len(group.direction_prior), 5.0)))
        for group, share in zip(state.models[0].classes, shares, strict=True)
    ]
    # Noise that depends on the shell, in which posteriors are neither sharp nor flat.
    noise = state.models[0].sigma2_noise * np.linspace(3.0, 1.5, state.models[0].sigma2_noise.shape[1])
    state = replace(state, models=(replace(state.models[0].with_classes(classes), sigma2_noise=noise),))
    return run, state, Iteration(run, state, transfer(simulation))


def test_posteriors(both: tuple[Any, RunState, Iteration]) -> None:
    run, state, expected = both
    after = run.step(state)
    found, model = after.particles, after.models[0]
    best = expected.posterior.reshape(expected.count, -1)
    assert 0.02 < np.median(best.max(axis=1)) < 0.98  # the comparison has something to tell
    # Log-likelihoods of some hundreds in float32: 1e-4 each.
    np.testing.assert_allclose(found.pmax, best.max(axis=1), rtol=1e-3)
    np.testing.assert_allclose(found.occupancy, expected.posterior.sum(axis=(2, 3)), atol=1e-3)
    k, _, t = np.unravel_index(best.argmax(axis=1), expected.posterior.shape[1:])
    np.testing.assert_array_equal(found.class_index, k)
    np.testing.assert_allclose(found.shifts, expected.start + expected.shifts[t])
    np.testing.assert_allclose(found.log_likelihood, expected.log_likelihood, atol=2e-2)
    np.testing.assert_allclose(
        [group.share for group in model.classes], expected.posterior.sum(axis=(0, 2, 3)) / expected.count, atol=1e-3
    )
    for number, group in enumerate(model.classes):
        mass = np.bincount(expected.directions, expected.posterior[:, number].sum(axis=(0, 2)))
        np.testing.assert_allclose(group.direction_prior, mass / mass.sum(), atol=2e-3)


def test_noise_and_widths(both: tuple[Any, RunState, Iteration], monkeypatch: pytest.MonkeyPatch) -> None:
    run, state, expected = both
    monkeypatch.setattr("vitrea.likelihood.classification.SMALLEST_SIGMA_OFFSET", 0.0)
    after = run.step(state)
    np.testing.assert_allclose(after.models[0].sigma2_noise[0], expected.sigma2_noise, rtol=1e-3)
    assert after.models[0].sigma_offset == pytest.approx(expected.sigma_offset, rel=1e-3)
    monkeypatch.undo()
    assert run.step(state).models[0].sigma_offset == pytest.approx(np.sqrt(2.0) * PIXEL)  # not less
    # Power of the masked image less what the model explains; the mean is the one sample without a mate.
    explained = np.square(np.abs(expected.masked)).sum(axis=1) - expected.left.sum(axis=1)
    norm = np.sqrt(expected.total - 2 * explained) / expected.size
    np.testing.assert_allclose(after.particles.norm, norm, rtol=2e-3)


def test_references(both: tuple[Any, RunState, Iteration]) -> None:
    run, state, expected = both
    after = run.step(state)
    for number, (group, grid) in enumerate(zip(after.models[0].classes, expected.grids, strict=True)):
        plain = grid.invert(None, 1.0)
        # Single sums of float32 and weights that differ by 1e-3.
        np.testing.assert_allclose(group.unfiltered, plain, atol=1e-2 * float(np.abs(plain).max()))
        np.testing.assert_allclose(group.sigma2_map, grid.sigma2(), rtol=5e-3)
        tau2 = expected.tau2(number, run.solvent_mask)
        np.testing.assert_allclose(group.tau2, tau2, rtol=2e-2, atol=1e-2 * tau2[5:].max())
        known = grid.sigma2() > 0
        np.testing.assert_allclose(group.ssnr[known], 2.0 * (tau2 / np.maximum(grid.sigma2(), 1e-30))[known], rtol=2e-2)
        voxels = grid.invert(group.tau2, SETTINGS.tau2_fudge) * run.solvent_mask
        np.testing.assert_allclose(group.voxels, voxels, atol=5e-3 * float(np.abs(voxels).max()))
