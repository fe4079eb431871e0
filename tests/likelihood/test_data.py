"""Images made ready for comparison: CTF and its variants, masks, limits."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from vitrea.fourier.transforms import to_fourier, to_real
from vitrea.likelihood import data as data_module
from vitrea.likelihood.data import SMALLEST_CTF, ImagePreparer, mask_share
from vitrea.likelihood.settings import Settings
from vitrea.matching.images import PreparedImages
from vitrea.optics.ctf import ctf
from vitrea.records.optics import Optics

SIZE, COUNT = 24, 6
OPEN = Settings(particle_diameter=1000.0)  # a mask wider than the box: none


@pytest.fixture(scope="module")
def simulation(simulate: Callable[..., Any]) -> Any:
    return simulate(COUNT, SIZE, snr=1.0)


def _prepare(simulation: Any, settings: Settings = OPEN, radius: int = 12, **changed: Any) -> PreparedImages:
    preparer = ImagePreparer(
        simulation.data, settings, radius, changed.pop("limits", (0.0, np.inf)), torch.device("cpu")
    )
    values: dict[str, Any] = {
        "indices": np.arange(COUNT),
        "shifts": np.zeros((COUNT, 2), dtype=np.int64),
        "gain": np.ones(COUNT),
        "sigma2": np.full((len(simulation.data.group_names), SIZE // 2 + 1), 0.25),
        "scale": np.ones(len(simulation.data.group_names)),
        "seed": 1,
    }
    return preparer.prepare(**(values | changed))


def _multiplied(simulation: Any, factor: Callable[[np.ndarray], np.ndarray], **optics: Any) -> Any:
    """The same particles, images multiplied by a function of their CTF (all components, Nyquist too)."""
    transforms = np.fft.rfft2(np.fft.ifftshift(simulation.images, axes=(1, 2)))
    size = simulation.data.box_size
    ky, kx = np.fft.fftfreq(size, simulation.data.pixel_size), np.fft.rfftfreq(size, simulation.data.pixel_size)
    y, x = np.broadcast_arrays(ky[:, None], kx[None])
    transfer = ctf(
        torch.from_numpy(y.copy()),
        torch.from_numpy(x.copy()),
        simulation.data.optics[0],
        torch.from_numpy(simulation.data.defocus),
        dtype=torch.float64,
    ).numpy()
    images = np.fft.fftshift(np.fft.irfft2(transforms * factor(transfer), s=(size, size)), axes=(1, 2))
    return simulation.with_images(images.astype(np.float32), **optics)


# Float32 transforms of numbers of order 1.
ROUNDING = {"rtol": 1e-4, "atol": 1e-4}


def test_premultiplied_images_give_the_same_targets(simulation: Any) -> None:
    plain, images = _prepare(simulation), _prepare(_multiplied(simulation, lambda c: c, ctf_premultiplied=True))
    clear = plain.ctf.abs() > SMALLEST_CTF
    assert 0.01 < (~clear).float().mean() < 0.3  # near zeros of the CTF nothing is left to compare
    (target, weight), (expected, expected_weight) = images.targets(), plain.targets()
    np.testing.assert_allclose(target[clear], expected[clear], **ROUNDING)
    np.testing.assert_allclose(weight[clear], expected_weight[clear], **ROUNDING)
    assert not weight[~clear].any()
    # Noise spectra and grey-value factors are those of plain images, but for what little is left near zeros.
    np.testing.assert_allclose(images.spectrum.sum(dim=0)[1:], plain.spectrum.sum(dim=0)[1:], rtol=0.15)
    assert (images.spectrum.sum() / plain.spectrum.sum()) == pytest.approx(1.0, abs=0.03)


def test_phase_flipped_images_give_the_same_targets(simulation: Any) -> None:
    flipped = _multiplied(simulation, np.sign)
    told = _prepare(flipped, replace(OPEN, ctf_phase_flipped=True))
    np.testing.assert_allclose(told.targets()[0], _prepare(simulation).targets()[0], **ROUNDING)
    np.testing.assert_allclose(told.targets()[1], _prepare(simulation).targets()[1], **ROUNDING)
    untold = _prepare(flipped)
    assert not np.allclose(untold.targets()[0], told.targets()[0], **ROUNDING)


def test_only_flipping_phases_leaves_amplitudes(simulation: Any) -> None:
    plain, flipped = _prepare(simulation), _prepare(simulation, replace(OPEN, only_flip_phases=True))
    np.testing.assert_allclose(flipped.masked, plain.masked * plain.ctf.sign(), **ROUNDING)
    np.testing.assert_allclose(flipped.unmasked, plain.unmasked * plain.ctf.sign(), **ROUNDING)
    assert (flipped.ctf == 1).all()


def test_without_ctf(simulation: Any) -> None:
    images = _prepare(simulation, replace(OPEN, ctf=False))
    assert (images.ctf == 1).all()
    assert torch.equal(images.masked, _prepare(simulation).masked)


def test_first_peak_left_alone(simulation: Any) -> None:
    plain, intact = _prepare(simulation), _prepare(simulation, replace(OPEN, ctf_intact_first_peak=True))
    changed = intact.ctf != plain.ctf
    assert changed[:, :5].all()  # the first shells
    assert (intact.ctf[changed] == 1).all()
    assert not changed[:, -20:].all()


def test_images_can_be_told_apart_by_their_ctf_parameters(simulation: Any) -> None:
    plain = _prepare(simulation).ctf
    for field, value in (("phase_shift", 30.0), ("b_factor", 200.0), ("ctf_scale", 0.7)):
        data = replace(simulation.data, **{field: np.full(COUNT, value)})
        changed = _prepare(replace(simulation, data=data)).ctf
        assert not torch.allclose(changed, plain)
    np.testing.assert_allclose(changed, 0.7 * plain, rtol=1e-6)  # the last of them: ctf_scale


def test_beam_tilt_is_taken_out(simulation: Any) -> None:
    """Only phases turn, and opposite tilts turn them in opposite senses."""
    plain = _prepare(simulation).masked
    one = _prepare(simulation.with_images(simulation.images, beam_tilt_x=5.0)).masked
    other = _prepare(simulation.with_images(simulation.images, beam_tilt_x=-5.0)).masked
    np.testing.assert_allclose(one.abs(), plain.abs(), **ROUNDING)
    assert not np.allclose(one, plain, **ROUNDING)
    np.testing.assert_allclose(one * other, plain * plain, rtol=1e-3, atol=1e-2)


def test_gain_scale_and_shift(simulation: Any) -> None:
    plain = _prepare(simulation)
    gained = _prepare(simulation, gain=np.full(COUNT, 2.0))
    np.testing.assert_allclose(gained.masked, 2 * plain.masked, **ROUNDING)
    np.testing.assert_allclose(gained.total_power, 4 * plain.total_power, rtol=1e-5)
    scaled = _prepare(simulation, scale=np.full(1, 3.0))
    np.testing.assert_allclose(scaled.ctf, 3 * plain.ctf, rtol=1e-6)
    assert torch.equal(scaled.masked, plain.masked)
    shifted = _prepare(simulation, shifts=np.full((COUNT, 2), 3))
    assert not torch.allclose(shifted.masked.abs(), plain.masked.abs())  # pixels left the box


def test_groups_have_their_own_noise(simulate: Callable[..., Any]) -> None:
    simulation = simulate(COUNT, SIZE, scales=np.array([1.0, 1.0]))
    sigma2 = np.array([np.full(13, 0.5), np.arange(13) + 1.0])
    images = _prepare(simulation, sigma2=sigma2, scale=np.array([1.0, 2.0]))
    np.testing.assert_allclose(images.precision[0, 1:], 2.0)
    preparer = ImagePreparer(simulation.data, OPEN, 12, (0.0, np.inf), torch.device("cpu"))
    np.testing.assert_allclose(images.precision[1, 1:], 1 / (preparer.samples.shell[1:] + 1.0), rtol=1e-6)


def test_limits_of_the_comparison(simulation: Any) -> None:
    images = _prepare(simulation, radius=10, limits=(3.0, 7.5))
    preparer = ImagePreparer(simulation.data, OPEN, 10, (3.0, 7.5), torch.device("cpu"))
    length = np.linalg.norm(preparer.samples.coordinates, axis=1)
    np.testing.assert_array_equal(images.precision[0].numpy() > 0, (length >= 3.0) & (length <= 7.5))
    assert _prepare(simulation).precision[0, 0] == 0  # the mean grey value says nothing


def test_mask_of_the_particle(simulation: Any) -> None:
    def outside(settings: Settings) -> float:
        kept = _prepare(simulation, settings).total_power / _prepare(simulation).total_power
        return float(kept.mean())

    narrow, wide = outside(Settings(particle_diameter=40.0)), outside(Settings(particle_diameter=60.0))
    assert narrow < wide < 1.0
    assert outside(Settings(particle_diameter=40.0, mask_edge=2.0)) < narrow
    masked = _prepare(simulation, Settings(particle_diameter=40.0))
    assert torch.equal(masked.unmasked, _prepare(simulation).unmasked)


def test_noise_outside_the_mask_follows_the_seed(simulation: Any) -> None:
    settings = Settings(particle_diameter=30.0, zero_mask=False)
    first, again, other = (_prepare(simulation, settings, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.masked, again.masked)
    assert not torch.allclose(first.masked, other.masked)
    assert torch.equal(first.unmasked, other.unmasked)
    # Particles keep their noise whatever block they are in.
    part = _prepare(simulation, settings, indices=np.array([4]), shifts=np.zeros((1, 2), int), gain=np.ones(1))
    np.testing.assert_allclose(part.masked[0], first.masked[4], atol=1e-5)


def test_noise_outside_the_mask_has_the_noise_spectrum(simulate: Callable[..., Any]) -> None:
    """Where the mask holds next to nothing, images are noise of sigma² per real or imaginary part."""
    simulation = simulate(COUNT, SIZE)
    many = 300
    data = replace(
        simulation.data,
        load=lambda index: np.zeros((len(index), SIZE, SIZE), dtype=np.float32),
        group=np.zeros(many, dtype=np.int64),
        optics_index=np.zeros(many, dtype=np.int64),
        defocus=np.tile([1e4, 1e4, 0], (many, 1)),
        phase_shift=np.zeros(many),
        b_factor=np.zeros(many),
        ctf_scale=np.ones(many),
    )
    sigma2 = np.linspace(0.5, 2.0, 13)[None]
    images = _prepare(
        replace(simulation, data=data),
        Settings(particle_diameter=1e-3, mask_edge=1e-3, zero_mask=False),
        indices=np.arange(many),
        shifts=np.zeros((many, 2), dtype=np.int64),
        gain=np.ones(many),
        sigma2=sigma2,
    )
    preparer = ImagePreparer(data, OPEN, 12, (0.0, np.inf), torch.device("cpu"))
    counts = np.bincount(preparer.full.shell, minlength=13)[:13]
    found = images.spectrum.mean(dim=0).numpy() / (2 * counts)
    # 5 sigma of 300 images; one pixel of 576 is inside the mask and lacks its noise.
    np.testing.assert_allclose(found[1:] / sigma2[0, 1:], 1.0, atol=5 / np.sqrt(300 * counts[1:].min()) + 2 / 576)


def _far_from_focus(simulation: Any, count: int, size: int) -> tuple[Any, torch.Tensor, torch.Tensor]:
    """Blobs narrower than a mask, seen at a defocus that spreads their detail beyond it; the images' CTF as well."""
    pixel, optics = 2.0, Optics(2.0, size, 300.0, 0.0, 0.07)
    defocus = np.column_stack([np.linspace(1.8e4, 2.4e4, count)] * 2 + [np.zeros(count)])
    ky, kx = np.fft.fftfreq(size, pixel), np.fft.rfftfreq(size, pixel)
    y, x = np.broadcast_arrays(ky[:, None], kx[None])
    transfer = ctf(torch.from_numpy(y.copy()), torch.from_numpy(x.copy()), optics, torch.from_numpy(defocus))
    rng = np.random.default_rng(5)
    there = np.hypot(*(np.mgrid[:size, :size] - size // 2)) < 11
    objects = torch.from_numpy((rng.standard_normal((count, size, size)) * there).astype(np.float32))
    images = to_real(to_fourier(objects) * transfer, size).numpy()
    zeros = np.zeros(count)
    data = replace(
        simulation.data, load=lambda index: images[index], box_size=size, pixel_size=pixel, optics=(optics,),
        optics_index=np.zeros(count, dtype=np.int64), defocus=defocus, phase_shift=zeros, b_factor=zeros,
        ctf_scale=np.ones(count), group=np.zeros(count, dtype=np.int64),
    )  # fmt: skip
    return data, objects, transfer


def test_signal_that_defocus_spreads_beyond_the_mask_is_gathered(simulation: Any) -> None:
    """At 2 µm detail of 5 to 7 Å lies 60 to 80 Å away, a mask of 50 Å loses it; |sin| keeps 8 / pi² at its place."""
    count, size = 8, 96
    data, objects, _ = _far_from_focus(simulation, count, size)
    indices, still, ones = np.arange(count), np.zeros((count, 2)), np.ones(count)
    noise, scale = np.ones((1, size // 2 + 1)), np.ones(1)

    def kept(settings: Settings) -> float:
        preparer = ImagePreparer(data, settings, size // 2, (0.0, np.inf), torch.device("cpu"))
        images = preparer.prepare(indices, still, ones, noise, scale, 1)
        truth = preparer.samples.gather(to_fourier(objects)) * images.ctf
        band = (preparer.shell >= 27) & (preparer.shell <= 38)
        found = (images.masked * truth.conj()).real[:, band].sum() / truth.abs().square()[:, band].sum()
        return float(found)

    settings = Settings(particle_diameter=50.0)
    assert kept(settings) < 0.3
    assert kept(replace(settings, gather_signal=True)) == pytest.approx(8 / np.pi**2, abs=0.06)
    # Where phases are said to be flipped already there is nothing to flip.
    flipped = replace(settings, ctf_phase_flipped=True)
    assert kept(replace(flipped, gather_signal=True)) == pytest.approx(kept(flipped), abs=1e-6)


def test_gathering_leaves_noise_and_what_no_mask_cuts_alone(simulation: Any) -> None:
    gathered = replace(OPEN, gather_signal=True)
    np.testing.assert_allclose(_prepare(simulation, gathered).masked, _prepare(simulation).masked, **ROUNDING)
    count, size = 200, 48
    data, _, _ = _far_from_focus(simulation, count, size)
    white = np.random.default_rng(1).standard_normal((count, size, size)).astype(np.float32)
    data = replace(data, load=lambda index: white[index])
    settings = Settings(particle_diameter=50.0, gather_signal=True)
    preparer = ImagePreparer(data, settings, size // 2, (0.0, np.inf), torch.device("cpu"))
    images = preparer.prepare(
        np.arange(count), np.zeros((count, 2)), np.ones(count), np.ones((1, size // 2 + 1)), np.ones(1), 1
    )
    share = float(images.total_power.mean()) / size**2
    # About 400 independent samples in each of 200 masks.
    assert share == pytest.approx(mask_share(data, settings), rel=5 * np.sqrt(2 / (400 * count)))


@pytest.mark.parametrize("zero_mask", [True, False])
def test_images_are_the_same_whether_made_ready_together_or_in_pieces(
    simulation: Any, zero_mask: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise that fills the outside of masks included."""
    settings = Settings(particle_diameter=40.0, zero_mask=zero_mask)
    together = _prepare(simulation, settings)
    monkeypatch.setattr(data_module, "PIECE_BYTES", 4 * 8 * 3 * SIZE**2)  # three or fewer at a time
    pieces = _prepare(simulation, settings)
    for item in ("masked", "unmasked", "ctf", "precision", "spectrum", "total_power"):
        torch.testing.assert_close(getattr(pieces, item), getattr(together, item), rtol=1e-5, atol=1e-5)
