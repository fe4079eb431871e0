"""Movies from raw frames to sums: motion found, sums right, bad movies refused."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from vitrea.formats.gain import FrameCorrection
from vitrea.motion import frames as frames_module
from vitrea.motion.alignment import AlignmentSettings
from vitrea.motion.correction import BadMovieError, CorrectedMovie, CorrectionSettings, correct_movie
from vitrea.motion.distortion import Distortion, undistort
from vitrea.motion.frames import FrameTransforms, aligned_averages, binned_shape
from vitrea.motion.sums import Exposure
from vitrea.optics.dose import exposure_filters, frame_exposures

from .synthetic_movies import SyntheticMovie, bending, error_per_frame, field_errors, make_movie

PIXEL = 1.5


@pytest.fixture(scope="module")
def movie() -> SyntheticMovie:
    return make_movie(shape=(288, 320), frames=12)


def corrected(
    frames: NDArray[np.float32], settings: CorrectionSettings, correction: FrameCorrection | None = None
) -> CorrectedMovie:
    shape = (frames.shape[1], frames.shape[2])
    given = correction or FrameCorrection(shape)
    return correct_movie(frames.__getitem__, len(frames), given, PIXEL, settings, torch.device("cpu"))


def plain_sum(result: CorrectedMovie) -> NDArray[np.float32]:
    assert result.sums.plain is not None
    return result.sums.plain.numpy()


def correlation(a: NDArray[np.float32], b: NDArray[np.float32], margin: int = 16) -> float:
    inside = (slice(margin, -margin),) * 2
    return float(np.corrcoef(a[inside].ravel(), b[inside].ravel())[0, 1])


def test_local_motion_is_found_within_a_third_of_a_pixel() -> None:
    """16 frames of 1.5 e-/Å², 8 pixels of drift, bending by up to 5 pixels that no polynomial follows exactly."""
    local = bending(16, 3.0)
    movie = make_movie(shape=(400, 400), frames=16, local=local)
    result = corrected(movie.frames, CorrectionSettings(patches=(5, 5)))
    assert result.local is not None
    with_model = field_errors(result.alignment.shifts, movie, local, result.local.coefficients)
    without = field_errors(result.alignment.shifts, movie, local, None)
    assert np.sqrt((with_model**2).mean()) < 0.3
    assert np.sqrt((with_model**2).mean()) < 0.5 * np.sqrt((without**2).mean())
    # What is summed along the model is sharper: it agrees better with the specimen, which a frame without noise shows.
    whole = corrected(movie.frames, CorrectionSettings())
    specimen = make_movie(shape=(400, 400), frames=1, exposure=2000.0, distance=0).frames[0]
    assert correlation(plain_sum(result), specimen) > correlation(plain_sum(whole), specimen) + 0.02


def test_sum_undoes_the_drift(movie: SyntheticMovie) -> None:
    result = corrected(movie.frames, CorrectionSettings())
    assert np.sqrt(np.mean(error_per_frame(result.alignment.shifts, movie.motion) ** 2)) < 0.2
    specimen = make_movie(shape=(288, 320), frames=1, exposure=2000.0, distance=0).frames[0]
    aligned, blurred = correlation(plain_sum(result), specimen), correlation(movie.frames.sum(axis=0), specimen)
    assert aligned > blurred + 0.1
    assert plain_sum(result).mean() == pytest.approx(movie.frames.sum(axis=0).mean(), rel=1e-4)


def test_weighted_sum_is_the_published_filter(movie: SyntheticMovie) -> None:
    """Frames without motion: the weighted sum is their sum under the weights of `optics.dose`, nothing else."""
    still = make_movie(shape=(96, 128), frames=6, distance=0).frames
    settings = CorrectionSettings(exposure=Exposure(2.0, 3.0, 200.0), find_hot=False)
    result = corrected(still, settings)
    ky, kx = np.fft.fftfreq(96)[:, None], np.fft.rfftfreq(128)
    frequency = torch.from_numpy(np.hypot(ky, kx) / PIXEL)
    weights = exposure_filters(frequency, frame_exposures(6, 2.0, 3.0), 200.0).numpy()
    shifts = result.alignment.shifts[:, :, None, None]
    ramps = np.exp(-2j * np.pi * (kx * shifts[:, 0] + ky * shifts[:, 1]))
    expected = np.fft.irfft2((np.fft.rfft2(still) * weights * ramps).sum(axis=0), s=(96, 128))
    assert result.sums.weighted is not None
    # Components at Nyquist cannot be moved by a fraction of a pixel, and differ.
    assert correlation(result.sums.weighted.numpy(), expected, 1) > 0.9995
    assert result.sums.weighted.mean() == pytest.approx(still.sum(axis=0).mean(), rel=1e-4)
    bare = corrected(still, replace(settings, exposure=Exposure(2.0, 3.0, 200.0, restore_power=False)))
    assert bare.sums.weighted is not None
    assert bare.sums.weighted.std() < 0.8 * result.sums.weighted.std()


def test_exposure_counts_from_the_first_frame_of_the_movie(movie: SyntheticMovie) -> None:
    exposure = Exposure(1.5, 0.0, 300.0, restore_power=False)
    early = corrected(movie.frames, CorrectionSettings(exposure=exposure, last=6))
    late = corrected(movie.frames, CorrectionSettings(exposure=exposure, first=7))
    assert (early.first, late.first) == (1, 7)
    assert len(early.alignment.shifts) == len(late.alignment.shifts) == 6
    assert early.sums.weighted is not None
    assert late.sums.weighted is not None
    assert late.sums.weighted.std() < 0.8 * early.sums.weighted.std()


def test_binning_crops_the_transform(movie: SyntheticMovie) -> None:
    full = corrected(movie.frames, CorrectionSettings())
    binned = corrected(movie.frames, CorrectionSettings(bin_factor=2.0))
    assert plain_sum(binned).shape == (144, 160) == binned_shape((288, 320), 2.0)
    assert binned.pixel_size == pytest.approx(3.0)
    np.testing.assert_allclose(binned.alignment.shifts, full.alignment.shifts, atol=0.05)
    transform = np.fft.rfft2(plain_sum(full))
    cropped = np.concatenate([transform[:72, :81], transform[-72:, :81]])
    expected = np.fft.irfft2(cropped, s=(144, 160)) / 4
    assert correlation(plain_sum(binned), expected, 1) > 0.999


def test_hot_pixels_are_found_and_filled(movie: SyntheticMovie) -> None:
    frames = movie.frames.copy()
    frames[:, 40, 50] += 60
    frames[:, 200, 7] += 60
    result = corrected(frames, CorrectionSettings())
    assert sorted(map(tuple, result.hot.tolist())) == [(7, 200), (50, 40)]
    assert plain_sum(result).max() < plain_sum(result).mean() + 8 * plain_sum(result).std()
    kept = corrected(frames, CorrectionSettings(find_hot=False))
    assert len(kept.hot) == 0
    assert plain_sum(kept).max() > 2 * plain_sum(result).max()


def test_gain_is_applied(movie: SyntheticMovie) -> None:
    gain = np.random.default_rng(6).uniform(0.6, 1.4, movie.frames.shape[1:]).astype(np.float32)
    shape = (288, 320)
    result = corrected((movie.frames / gain).astype(np.float32), CorrectionSettings(), FrameCorrection(shape, gain))
    np.testing.assert_allclose(plain_sum(result), plain_sum(corrected(movie.frames, CorrectionSettings())), atol=0.02)


def test_without_memory_frames_are_transformed_again(movie: SyntheticMovie, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = CorrectionSettings(patches=(3, 3))
    kept = corrected(movie.frames, settings)
    monkeypatch.setattr(frames_module, "available_memory", lambda device: 0)
    again = corrected(movie.frames, settings)
    np.testing.assert_array_equal(plain_sum(kept), plain_sum(again))


def test_averages_of_aligned_frames() -> None:
    """Three averages of three frames that drift by 3.6 pixels each; the two left over are not used."""
    shape = (128, 160)
    pattern = np.random.default_rng(5).normal(10, 1, shape).astype(np.float32)
    frames = [np.roll(pattern, (-2 * n, 3 * n), axis=(0, 1)) for n in range(12)]
    source = FrameTransforms(frames.__getitem__, range(1, 12), FrameCorrection(shape), 1.0, torch.device("cpu"))
    averages, aligned = aligned_averages(source, 3, PIXEL, AlignmentSettings())
    found = list(averages)
    assert aligned
    assert len(found) == 3
    for one in found:
        assert one.mean() == pytest.approx(pattern.mean(), rel=1e-5)
        np.testing.assert_allclose(one, frames[1], atol=0.1)
    lost, aligned = aligned_averages(source, 3, PIXEL, AlignmentSettings(max_iterations=1))
    assert not aligned
    np.testing.assert_allclose(next(lost), np.mean(frames[1:4], axis=0), atol=1e-4)


def test_spectrum_is_the_sum_of_amplitudes() -> None:
    still = make_movie(shape=(128, 128), frames=6, distance=0, pixel_size=1.5).frames
    result = corrected(still, CorrectionSettings(spectrum_group=2, spectrum_size=128, find_hot=False))
    assert result.sums.spectrum is not None
    shifts = result.alignment.shifts[:, :, None, None]
    ky, kx = np.fft.fftfreq(128)[:, None], np.fft.fftfreq(128)
    moved = np.fft.fft2(still) * np.exp(-2j * np.pi * (kx * shifts[:, 0] + ky * shifts[:, 1]))
    amplitudes = np.abs(moved.reshape(3, 2, 128, 128).sum(axis=1)).sum(axis=0) / 128**2
    expected = np.fft.fftshift(amplitudes)
    found = result.sums.spectrum.numpy()
    # Not at Nyquist, whose phases a shift by a fraction of a pixel does not define.
    np.testing.assert_allclose(found[1:, 1:], expected[1:, 1:], atol=1e-5)
    assert result.sums.spectrum_pixel == PIXEL
    assert np.unravel_index(found.argmax(), found.shape) == (64, 64)


def test_spectrum_of_fine_pixels_is_cut_at_1_4_angstrom() -> None:
    movie = make_movie(shape=(300, 400), frames=4, distance=0, pixel_size=0.7)
    frames = movie.frames
    result = correct_movie(
        frames.__getitem__, 4, FrameCorrection((300, 400)), 0.7,
        CorrectionSettings(spectrum_group=1, spectrum_size=96), torch.device("cpu"),
    )  # fmt: skip
    assert result.sums.spectrum is not None
    assert result.sums.spectrum.shape == (96, 96)
    assert result.sums.spectrum_pixel == pytest.approx(1.4, rel=0.01)
    found = result.sums.spectrum.numpy()
    assert np.unravel_index(found.argmax(), found.shape) == (48, 48)


def test_distortion_is_undone() -> None:
    """A wave seen through a stretched lens becomes the wave it was, on pixels of the mean magnification."""
    lens = Distortion(angle=30.0, major=1.02, minor=0.99)
    y, x = np.mgrid[:200, :256] - np.array([100, 128])[:, None, None]
    wave = np.array([0.05, 0.11])
    seen = np.linalg.inv(lens.matrix) @ np.stack([x.ravel(), y.ravel()])
    image = np.cos(2 * np.pi * wave @ seen).reshape(200, 256)
    flat = undistort(torch.from_numpy(image.astype(np.float32)), lens).numpy()
    expected = np.cos(2 * np.pi * (wave[0] * x + wave[1] * y) / lens.mean)
    assert np.abs(flat - expected)[10:-10, 10:-10].max() < 0.02
    assert np.abs(image - expected)[10:-10, 10:-10].max() > 1
    movie = make_movie(shape=(96, 96), frames=4, distance=0)
    result = corrected(movie.frames, CorrectionSettings(distortion=lens))
    assert result.pixel_size == pytest.approx(PIXEL / 1.005)


@pytest.mark.gpu
def test_gpu_and_cpu_agree(movie: SyntheticMovie) -> None:
    settings = CorrectionSettings(
        patches=(3, 3), exposure=Exposure(1.5), spectrum_group=3, spectrum_size=128, bin_factor=1.5,
        distortion=Distortion(20.0, 1.01, 1.0),
    )  # fmt: skip
    here, there = (
        correct_movie(movie.frames.__getitem__, 12, FrameCorrection((288, 320)), PIXEL, settings, torch.device(name))
        for name in ("cpu", "cuda")
    )
    np.testing.assert_allclose(there.alignment.shifts, here.alignment.shifts, atol=0.01)
    for name in ("plain", "weighted", "spectrum"):
        assert correlation(getattr(there.sums, name).cpu().numpy(), getattr(here.sums, name).numpy()) > 0.999


@pytest.mark.parametrize(
    ("spoil", "says"),
    [
        (lambda frames: frames[:2], "only 2 of its 2 frames"),
        (lambda frames: np.where(np.arange(12)[:, None, None] == 4, 0, frames), "frame 5 is empty"),
        (lambda frames: np.where(np.arange(12)[:, None, None] == 2, np.nan, frames), "frame 3 holds values"),
    ],
)
def test_bad_movies_are_refused(movie: SyntheticMovie, spoil: object, says: str) -> None:
    with pytest.raises(BadMovieError, match=says):
        corrected(spoil(movie.frames).astype(np.float32), CorrectionSettings())  # type: ignore[operator]


def test_frame_range_beyond_the_movie_is_refused(movie: SyntheticMovie) -> None:
    with pytest.raises(BadMovieError, match="only 1 of its 12 frames"):
        corrected(movie.frames, CorrectionSettings(first=12))
