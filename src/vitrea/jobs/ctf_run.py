"""Fit the CTFs of all micrographs, several at once."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea import __version__
from vitrea.compute.processors import available_threads
from vitrea.formats.ctffind import FitSetting
from vitrea.formats.gain import FrameCorrection, read_frame_correction
from vitrea.formats.movies import Movie, open_movie, read_micrograph
from vitrea.jobs.ctf import CtfParameters
from vitrea.jobs.ctf_external import CtffindProgram
from vitrea.jobs.ctf_files import Drawing, Estimate, read_estimate, result_file, write_fit
from vitrea.jobs.ctf_inputs import CtfInput, Problem, Shot
from vitrea.jobs.map_inputs import make_folder
from vitrea.records.errors import InputError
from vitrea.records.recorder import Recorder
from vitrea.report.figures.thon_rings import FitCurves, FitPage
from vitrea.thon_rings.diagnostic import diagnostic_image
from vitrea.thon_rings.fit import CtfFit, fit_ctf
from vitrea.thon_rings.quality import normalised
from vitrea.thon_rings.settings import FitSettings
from vitrea.thon_rings.spectrum import Spectrum, amplitude_spectrum
from vitrea.thon_rings.tilt import Tilt, fit_tilted

PROGRAM = f"Vitrea {__version__}"
NO_RINGS = "no Thon rings that a CTF fits better than noise"
# What does not change a fit.
_NOT_SETTINGS = {"input", "output", "only_do_unfinished", "plots", "threads"}


def estimate_all(
    given: CtfInput, parameters: CtfParameters, program: CtffindProgram | None, recorder: Recorder
) -> tuple[list[tuple[Shot, Estimate]], list[Problem], int]:
    """Estimate the CTF of every micrograph.

    Parameters
    ----------
    given : CtfInput
    parameters : CtfParameters
    program : CtffindProgram or None
        What to run instead of the fit that is built in.
    recorder : Recorder

    Returns
    -------
    list of (Shot, Estimate)
        In the order of the micrographs.
    list of Problem
        What is set aside.
    int
        How many results are those of an earlier run.
    """
    settings = " ".join(
        f"{name}={value}" for name, value in parameters.model_dump().items() if name not in _NOT_SETTINGS
    )
    worker = _Worker(parameters, program, settings, recorder)
    recorder.stage("CTF estimation", len(given.shots), "micrographs")
    results: list[tuple[Shot, Estimate]] = []
    problems: list[Problem] = []
    taken_over = 0
    with ThreadPoolExecutor(parameters.threads or available_threads()) as pool:
        for shot, (estimate, old) in zip(given.shots, pool.map(worker, given.shots), strict=True):
            taken_over += old
            if isinstance(estimate, str) or estimate.problem:
                problems.append(
                    Problem(shot.row, shot.name, estimate if isinstance(estimate, str) else estimate.problem)
                )
            else:
                results.append((shot, estimate))
            recorder.advance()
    return results, problems, taken_over


class _Worker:
    """Estimates the CTF of one shot after another; safe to use from several threads."""

    def __init__(
        self, parameters: CtfParameters, program: CtffindProgram | None, settings: str, recorder: Recorder
    ) -> None:
        self._parameters = parameters
        self._recorder = recorder
        self._program = program
        self._settings = settings
        self._fit_settings = fit_settings(parameters)
        self._page = FitPage() if parameters.plots and program is None else None
        self._correction = lru_cache(maxsize=2)(read_frame_correction)

    def __call__(self, shot: Shot) -> tuple[Estimate | str, bool]:
        """Return an estimate, or why there is none; and whether it is that of an earlier run."""
        text = f"{self._settings} image={shot.path} optics={shot.optics} by={self._program or PROGRAM}"
        settings = hashlib.sha256(text.encode()).hexdigest()[:16]
        if self._parameters.only_do_unfinished:
            found = read_estimate(shot.root, settings)
            if found is not None:
                return found, True
        try:
            make_folder(shot.root)
            result_file(shot.root, "_ctf.star").unlink(missing_ok=True)  # it tells that what lies beside it is whole
            if self._program is not None:
                estimate = self._program.estimate(shot, self._parameters, settings)
            else:
                estimate = self._fit(shot, settings)
            # What was written has fewer digits; a job that goes on must give the same as one that was not stopped.
            return read_estimate(shot.root, settings) or estimate, False
        except (InputError, ValueError) as error:
            return str(error), False

    def _fit(self, shot: Shot, settings: str) -> Estimate:
        fit, pixel_size, tilt = self._fitted(shot)
        estimate = Estimate(
            fit.defocus_u, fit.defocus_v, fit.angle, fit.phase_shift, fit.score, fit.resolution, fit.ice_ring,
            fit.alias_resolution, tilt.angle if tilt else math.nan, tilt.axis if tilt else math.nan,
            "" if fit.has_rings else NO_RINGS,
        )  # fmt: skip
        step = 1 / (len(fit.pattern) * pixel_size)
        image = diagnostic_image(fit, shot.optics, step)
        limits = (self._fit_settings.lowest_resolution, self._fit_settings.highest_resolution)
        own_pixels = pixel_size if shot.kind == "spectrum" else shot.optics.pixel_size
        setting = FitSetting(
            str(shot.path), own_pixels, shot.optics.voltage, shot.optics.spherical_aberration,
            shot.optics.amplitude_contrast, len(image), limits,
            (self._fit_settings.defocus_min, self._fit_settings.defocus_max),
        )  # fmt: skip
        page = b""
        if self._page is not None:
            page = self._page.draw(image, _curves(fit), fit.resolution, limits, shot.path.name, _title(estimate))
        write_fit(shot.root, estimate, Drawing(fit, image, pixel_size, page, setting), settings, PROGRAM)
        return estimate

    def _fitted(self, shot: Shot) -> tuple[CtfFit, float, Tilt | None]:
        """Return the fit, the pixel size of an image with its spectrum, and the tilt where it is asked for."""
        parameters, optics = self._parameters, shot.optics
        target = min(parameters.target_pixel_size, 0.45 * parameters.highest_resolution)
        if shot.kind == "spectrum":
            spectrum = _read_spectrum(shot, parameters)
        elif shot.kind == "movie":
            spectrum = amplitude_spectrum(self._frames(shot), optics.pixel_size, parameters.box, target)
        else:
            image = _read_micrograph(shot, parameters.window)
            if parameters.tilt:
                fit, tilt = fit_tilted(image, optics.pixel_size, parameters.box, target, optics, self._fit_settings)
                return fit, 1 / (fit.curves.frequency[2] * len(fit.pattern)), tilt
            spectrum = amplitude_spectrum([image], optics.pixel_size, parameters.box, target)
        return fit_ctf(spectrum, optics, self._fit_settings), spectrum.pixel_size, None

    def _frames(self, shot: Shot) -> Iterator[NDArray[np.float32]]:
        """Yield means of so many frames of a movie; the frames left over at the end are not used."""
        size = self._parameters.average_frames
        with open_movie(shot.path) as movie:
            size = min(size, len(movie))
            shape = movie.header.shape[1:]
            correction = self._correction(shot.gain, shot.defects, shape, for_eer=movie.header.kind == "EER")
            if self._parameters.align_frames:
                yield from self._aligned(movie, correction, size, shot)
                return
            for first in range(0, len(movie) - size + 1, size):
                total = correction.apply(_read_frame(movie, first), first)
                for number in range(first + 1, first + size):
                    total += correction.apply(_read_frame(movie, number), number)
                total /= size
                yield _windowed(total, self._parameters.window, shot)

    def _aligned(
        self, movie: Movie, correction: FrameCorrection, size: int, shot: Shot
    ) -> Iterator[NDArray[np.float32]]:
        import torch  # by far the slowest to load; fits of micrographs do without

        from vitrea.motion.alignment import AlignmentSettings
        from vitrea.motion.frames import FrameTransforms, aligned_averages

        source = FrameTransforms(partial(_read_frame, movie), range(len(movie)), correction, 1.0, torch.device("cpu"))
        averages, settled = aligned_averages(source, size, shot.optics.pixel_size, AlignmentSettings())
        if not settled:
            self._recorder.warn(f"{shot.name}: its frames could not be aligned; they are averaged as they are")
        for average in averages:
            yield _windowed(average, self._parameters.window, shot)


def _read_frame(movie: Movie, number: int) -> NDArray[Any]:
    frame = movie.read(number)
    if not frame.any():
        raise InputError(f"frame {number + 1} of {movie.path} is empty: all its pixels are 0")
    return frame


def fit_settings(parameters: CtfParameters) -> FitSettings:
    """Return what a fit may look for."""
    known = None
    if parameters.known_astigmatism is not None:
        known = (parameters.known_astigmatism, parameters.known_astigmatism_angle)
    return FitSettings(
        lowest_resolution=parameters.lowest_resolution,
        highest_resolution=parameters.highest_resolution,
        defocus_min=parameters.defocus_min,
        defocus_max=parameters.defocus_max,
        defocus_step=parameters.defocus_step,
        tolerated_astigmatism=parameters.tolerated_astigmatism,
        largest_astigmatism=parameters.largest_astigmatism,
        known_astigmatism=known,
        phase_min=parameters.phase_min if parameters.phase_shift else 0.0,
        phase_max=parameters.phase_max if parameters.phase_shift else 0.0,
    )


def _read_micrograph(shot: Shot, window: int) -> NDArray[np.float32]:
    return _windowed(read_micrograph(shot.path, "give --movies, or the sum of its frames"), window, shot)


def _windowed(image: NDArray[np.float32], window: int, shot: Shot) -> NDArray[np.float32]:
    height, width = image.shape
    if window <= 0 or window >= max(height, width):
        return image
    top, left = max(height - window, 0) // 2, max(width - window, 0) // 2
    return image[top : top + window, left : left + window]


def _read_spectrum(shot: Shot, parameters: CtfParameters) -> Spectrum:
    with open_movie(shot.path) as movie:
        _, height, width = movie.header.shape
        if height != width or height % 2 or len(movie) > 1:
            raise InputError(
                f"{shot.path} of {len(movie)} x {height} x {width} samples is no spectrum: one square image with an "
                "even side is needed, its origin in the centre"
            )
        header = movie.header.pixel_size
        amplitude = np.asarray(movie.read(0), dtype=np.float32)
    given = parameters.amplitude_spectra and parameters.pixel_size > 0
    # A spectrum that a motion correction wrote is often of coarser pixels than the micrograph; its header knows.
    return Spectrum(amplitude, shot.optics.pixel_size if given or header <= 0 else header)


def _curves(fit: CtfFit) -> FitCurves:
    curves = fit.curves
    return FitCurves(curves.frequency, normalised(curves.equiphase, curves), curves.fit, curves.quality)


def _title(estimate: Estimate) -> str:
    parts: list[Any] = [
        f"defocus {estimate.defocus_u / 1e4:.3f} / {estimate.defocus_v / 1e4:.3f} µm at {estimate.angle:.0f}°"
    ]
    if estimate.phase_shift:
        parts.append(f"phase shift {estimate.phase_shift:.0f}°")
    if not math.isnan(estimate.tilt_angle):
        parts.append(f"tilt {estimate.tilt_angle:.0f}° about {estimate.tilt_axis:.0f}°")
    rings = f"rings to {estimate.resolution:.2f} Å" if math.isfinite(estimate.resolution) else "no rings"
    parts += [f"score {estimate.score:.3f}", "NO RINGS" if estimate.problem else rings]
    return ", ".join(parts)
