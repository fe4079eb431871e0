"""Run another program, CTFFIND, once for each micrograph, and read what it wrote."""

from __future__ import annotations

import math
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrea.formats.ctffind import (
    CtffindResult,
    read_ctffind3_log,
    read_curves,
    read_summary,
    summary_named_in,
)
from vitrea.formats.movies import read_image, read_movie_header
from vitrea.formats.mrc import write_stack
from vitrea.jobs.ctf import EXECUTABLE_VARIABLE, CtfParameters
from vitrea.jobs.ctf_files import Estimate, result_file, write_estimate
from vitrea.jobs.ctf_inputs import Shot
from vitrea.jobs.programs import find_program
from vitrea.records.errors import InputError

_ICE_RING = (0.25, 0.28)  # 1/Å
_MAGNIFICATION = 10000  # CTFFIND3 takes pixel sizes as magnification and µm of the detector


def choose_program(parameters: CtfParameters) -> CtffindProgram | None:
    """Return the program to run, None for the fit that is built in.

    Raises
    ------
    InputError
        If a program is asked for and not there, or cannot do what else is asked for.
    """
    wanted = parameters.use_ctffind or parameters.is_ctffind4 or parameters.is_ctffind5
    if parameters.ctffind_exe is None and not wanted:
        return None
    found = find_program("CTFFIND", parameters.ctffind_exe, "--ctffind_exe", EXECUTABLE_VARIABLE)
    version = 5 if parameters.is_ctffind5 else 4 if parameters.is_ctffind4 else int(parameters.ctffind_version)
    if version == 3 and (parameters.phase_shift or parameters.movies or parameters.movie_thon_rings):
        raise InputError("CTFFIND 3 knows neither phase shifts nor movies")
    if version == 3 and (parameters.use_given_ps or parameters.amplitude_spectra):
        raise InputError("CTFFIND 3 does not take spectra")
    if parameters.tilt and version != 5:
        raise InputError("of the programs that can be run, only CTFFIND 5 finds tilts")
    return CtffindProgram(found, version)


@dataclass(frozen=True)
class CtffindProgram:
    """An installed CTFFIND.

    Attributes
    ----------
    executable : str
    version : int
        3, 4 (4.1) or 5.
    """

    executable: str
    version: int

    def estimate(self, shot: Shot, parameters: CtfParameters, settings: str) -> Estimate:
        """Run it on one micrograph.

        Raises
        ------
        InputError
            If it fails, or leaves no result; names the log.
        """
        box, pixel_size, flags = parameters.box, shot.optics.pixel_size, []
        if shot.kind == "spectrum":
            header = read_movie_header(shot.path)
            box, pixel_size = header.shape[2], header.pixel_size or pixel_size
            flags = ["--amplitude-spectrum-input"]
        image = shot.path
        if parameters.window > 0:
            image = _write_window(shot, parameters.window, pixel_size)
        try:
            answers = self._answers(shot, image, box, pixel_size, parameters)
            log = self._run(shot.root, flags, answers)
        finally:
            if image != shot.path:
                image.unlink(missing_ok=True)
        estimate = _as_estimate(self._result(shot.root, log), shot.root)
        write_estimate(shot.root, estimate, settings)
        return estimate

    def _answers(self, shot: Shot, image: Path, box: int, pixel_size: float, parameters: CtfParameters) -> list[str]:
        """Return what the program asks for, line by line."""
        diagnostic = result_file(shot.root, ".ctf")
        optics = shot.optics
        search = (parameters.defocus_min, parameters.defocus_max, parameters.defocus_step)
        limits = (box, parameters.lowest_resolution, parameters.highest_resolution, *search)
        if self.version == 3:
            lens = (optics.spherical_aberration, optics.voltage, optics.amplitude_contrast)
            scale = (_MAGNIFICATION, pixel_size * _MAGNIFICATION * 1e-4)
            return [str(image), str(diagnostic), ", ".join(map(_text, (*lens, *scale))),
                    ", ".join(map(_text, (*limits, parameters.tolerated_astigmatism)))]  # fmt: skip
        lines = [str(image)]
        if shot.kind == "movie":
            lines += ["yes", str(parameters.average_frames)]
        microscope = (pixel_size, optics.voltage, optics.spherical_aberration, optics.amplitude_contrast)
        lines += [str(diagnostic), *map(_text, (*microscope, *limits))]
        lines += _astigmatism_answers(parameters)
        if parameters.phase_shift:
            phases = (parameters.phase_min, parameters.phase_max, parameters.phase_step)
            lines += ["yes", *(_text(math.radians(value)) for value in phases)]
        else:
            lines.append("no")
        if self.version == 5:
            if not parameters.phase_shift:
                lines.append(_yes(parameters.tilt))
            lines.append("no")  # the thickness of the sample
        return [*lines, "no"]  # expert options

    def _run(self, root: Path, flags: list[str], answers: list[str]) -> Path:
        name = f"_ctffind{self.version}"
        log, script = result_file(root, f"{name}.log"), result_file(root, f"{name}.com")
        text = "\n".join([*answers, ""])
        script.write_text(text, encoding="utf-8")
        for ending in (".txt", "_avrot.txt"):  # an old result must not pass for a new one
            result_file(root, ending).unlink(missing_ok=True)
        with log.open("w", encoding="utf-8") as file:
            # In other locales CTFFIND reads and writes commas for decimal points.
            environment = {**os.environ, "LC_ALL": "C"}
            try:
                done = subprocess.run([self.executable, *flags], input=text, stdout=file, stderr=subprocess.STDOUT,
                                      text=True, env=environment, check=False)  # fmt: skip
            except OSError as error:
                raise InputError(f"cannot run {self.executable}: {error.strerror}") from error
        if done.returncode:
            raise InputError(f"{self.executable} failed with exit code {done.returncode}: see {log}")
        return log

    def _result(self, root: Path, log: Path) -> CtffindResult:
        if self.version == 3:
            return read_ctffind3_log(log)
        named = summary_named_in(log)
        return read_summary(named if named is not None and named.exists() else result_file(root, ".txt"))


def _astigmatism_answers(parameters: CtfParameters) -> list[str]:
    exhaustive = _yes(not parameters.fast_search)
    if parameters.known_astigmatism is not None:
        values = (parameters.known_astigmatism, parameters.known_astigmatism_angle)
        return ["yes", exhaustive, *map(_text, values)]
    if parameters.tolerated_astigmatism > 0:
        return ["no", exhaustive, "yes", _text(parameters.tolerated_astigmatism)]
    return ["no", exhaustive, "no"]


def _text(value: float) -> str:
    return f"{value:g}"


def _yes(value: bool) -> str:
    return "yes" if value else "no"


def _write_window(shot: Shot, window: int, pixel_size: float) -> Path:
    image = read_image(shot.path)
    top, left = (max(length - window, 0) // 2 for length in image.shape)
    path = result_file(shot.root, "_win.mrc")
    write_stack(path, image[top : top + window, left : left + window], pixel_size)
    return path


def _as_estimate(result: CtffindResult, root: Path) -> Estimate:
    ice = 0.0
    curves = result_file(root, "_avrot.txt")
    if curves.exists():
        frequency, radial = read_curves(curves)[:2]
        ice = float(np.abs(radial[(frequency >= _ICE_RING[0]) & (frequency <= _ICE_RING[1])]).sum())
    found = result.tilt_axis is not None and result.tilt_angle is not None
    axis, angle = (result.tilt_axis, result.tilt_angle) if found else (math.nan, math.nan)
    if not all(map(math.isfinite, (result.defocus_u, result.defocus_v, result.angle))):
        raise InputError(f"{root}: CTFFIND found a defocus that is no number")
    return Estimate(
        result.defocus_u, result.defocus_v, result.angle, result.phase_shift, result.score, result.resolution, ice,
        tilt_angle=float(angle or 0.0), tilt_axis=float(axis or 0.0),
    )  # fmt: skip
