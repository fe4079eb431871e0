"""Text files in which CTFFIND reports a fit: read from the program, and written so that RELION finds what it expects.

A summary (``.txt``) has comment lines on the microscope and a line of numbers for each micrograph; ``_avrot.txt`` has
six lines of numbers, curves over spatial frequency; CTFFIND3 has no summary, its log ends in "Final Values". Angles of
phase shifts are radians in all of them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vitrea.formats.atomic import atomic_path
from vitrea.records.errors import InputError

_COLUMNS = (
    "# Columns: #1 - micrograph number; #2 - defocus 1 [Angstroms]; #3 - defocus 2; #4 - azimuth of astigmatism; "
    "#5 - additional phase shift [radians]; #6 - cross correlation; #7 - spacing (in Angstroms) up to which CTF rings "
    "were fit successfully"
)
_CURVES = (
    "# 6 lines per micrograph: #1 - spatial frequency (1/Angstroms); #2 - 1D rotational average of spectrum (assuming "
    "no astigmatism); #3 - 1D rotational average of spectrum (using astigmatism fit); #4 - CTF fit; "
    "#5 - cross-correlation between spectrum and CTF fit; #6 - 2 sigma of expected cross correlation of noise"
)
_SUMMARY_MARK = "Summary of results"
_FINAL_MARK = "Final Values"


@dataclass(frozen=True)
class CtffindResult:
    """What CTFFIND reports of one micrograph.

    Attributes
    ----------
    defocus_u, defocus_v : float
        Å.
    angle, phase_shift : float
        Degrees.
    score : float
        Cross correlation.
    resolution : float
        Å to which rings fit; infinite where unknown.
    tilt_axis, tilt_angle : float or None
        Degrees; from CTFFIND 5 where it looked for a tilt.
    """

    defocus_u: float
    defocus_v: float
    angle: float
    phase_shift: float
    score: float
    resolution: float
    tilt_axis: float | None = None
    tilt_angle: float | None = None


@dataclass(frozen=True)
class FitSetting:
    """What the head of a summary tells of a fit. Å, kV, mm; `box` in samples."""

    image: str
    pixel_size: float
    voltage: float
    spherical_aberration: float
    amplitude_contrast: float
    box: int
    resolution: tuple[float, float]
    defocus: tuple[float, float]


def read_summary(path: str | Path) -> CtffindResult:
    """Read the summary that CTFFIND 4 or 5 writes (``<name>.txt``).

    Raises
    ------
    InputError
        If it does not exist or holds no line of seven numbers or more.
    """
    for line in _read_lines(Path(path)):
        if line.strip() and not line.lstrip().startswith("#"):
            numbers = _numbers(line, Path(path))
            if len(numbers) >= 7:
                _, u, v, angle, phase, score, resolution, *more = numbers
                axis, tilt = (more[0], more[1]) if len(more) >= 2 else (None, None)
                limit = resolution if resolution > 0 else math.inf
                return CtffindResult(u, v, angle, math.degrees(phase), score, limit, axis, tilt)
    raise InputError(f"{path} is no summary of CTFFIND 4 or 5: it holds no line with seven numbers")


def read_ctffind3_log(path: str | Path) -> CtffindResult:
    """Read the line "Final Values" of a CTFFIND3 (or Gctf) log.

    Raises
    ------
    InputError
        If it does not exist or has no such line: the program failed.
    """
    for line in reversed(_read_lines(Path(path))):
        if _FINAL_MARK in line:
            numbers = _numbers(line.split(_FINAL_MARK)[0], Path(path))
            if len(numbers) == 4:
                return CtffindResult(numbers[0], numbers[1], numbers[2], 0.0, numbers[3], math.inf)
            if len(numbers) == 5:  # with a phase shift, in degrees, as Gctf has it
                return CtffindResult(numbers[0], numbers[1], numbers[2], numbers[3], numbers[4], math.inf)
    raise InputError(f"{path} has no line with {_FINAL_MARK!r}: CTFFIND did not finish")


def summary_named_in(log: str | Path) -> Path | None:
    """Return the summary that a log of CTFFIND 4 or 5 names, None where it names none."""
    for line in _read_lines(Path(log)):
        if _SUMMARY_MARK in line and line.split():
            return Path(line.split()[-1])
    return None


def _read_lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist: CTFFIND wrote no result") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def _numbers(line: str, path: Path) -> list[float]:
    try:
        return [float(word) for word in re.split(r"[\s,]+", line.strip()) if word]
    except ValueError:
        raise InputError(f"{path}: {line.strip()!r} should hold numbers only") from None


def write_summary(path: str | Path, setting: FitSetting, result: CtffindResult, program: str) -> None:
    """Write a summary as CTFFIND 4 does, which RELION and others read."""
    resolution = f"{result.resolution:f}" if math.isfinite(result.resolution) else "inf"
    values = (result.defocus_u, result.defocus_v, result.angle, math.radians(result.phase_shift), result.score)
    line = " ".join(["1.000000", *(f"{value:f}" for value in values), resolution])
    _write_lines(Path(path), [*_head(setting, program), _COLUMNS, line])


def write_curves(path: str | Path, setting: FitSetting, curves: Sequence[ArrayLike], program: str) -> None:
    """Write six curves, frequency (1/Å) first, as CTFFIND's ``_avrot.txt`` has them."""
    rows = [" ".join(f"{value:.6g}" for value in np.asarray(curve).tolist()) for curve in curves]
    _write_lines(Path(path), [*_head(setting, program), _CURVES, *rows])


def read_curves(path: str | Path) -> NDArray[np.float64]:
    """Read the curves of an ``_avrot.txt``, shape [6, points].

    Raises
    ------
    InputError
        If the file is missing, or its lines differ in length.
    """
    lines = [line for line in _read_lines(Path(path)) if line.strip() and not line.startswith("#")]
    rows = [_numbers(line, Path(path)) for line in lines]
    if len(rows) < 6 or len({len(row) for row in rows[:6]}) != 1:
        raise InputError(f"{path} does not hold six lines of equally many numbers")
    return np.array(rows[:6])


def write_log(path: str | Path, summary: Path, setting: FitSetting, result: CtffindResult, program: str) -> None:
    """Write a log that RELION reads as one of CTFFIND 4 (it names the summary), with CTFFIND 3's final line, too."""
    magnification = 10000.0
    optics = (setting.spherical_aberration, setting.voltage, setting.amplitude_contrast)
    final = f"{result.defocus_u:12.2f}{result.defocus_v:12.2f}{result.angle:12.2f}{result.score:12.5f}"
    lines = [
        f"{program}: CTF of {setting.image}",
        "",
        " CS[mm], HT[kV], AmpCnst, XMAG, DStep[um]",
        "  ".join(f"{value:g}" for value in (*optics, magnification, setting.pixel_size * magnification * 1e-4)),
        "",
        f"Estimated defocus values        : {result.defocus_u:.2f} , {result.defocus_v:.2f} Angstroms",
        f"Estimated azimuth of astigmatism: {result.angle:.2f} degrees",
        f"Additional phase shift          : {result.phase_shift:.3f} degrees",
        f"Score                           : {result.score:.5f}",
        f"Thon rings with good fit up to  : {result.resolution:.2f} Angstroms",
        "",
        f"{final}  {_FINAL_MARK}",
        "",
        f"{_SUMMARY_MARK}                           : {summary}",
    ]
    _write_lines(Path(path), lines)


def _head(setting: FitSetting, program: str) -> list[str]:
    # RELION takes voltage, Cs, contrast and pixel size from this third line by counting its words.
    return [
        f"# Output from {program}",
        f"# Input file: {setting.image} ; Number of micrographs: 1",
        f"# Pixel size: {setting.pixel_size:.3f} Angstroms ; acceleration voltage: {setting.voltage:.1f} keV ; "
        f"spherical aberration: {setting.spherical_aberration:.2f} mm ; "
        f"amplitude contrast: {setting.amplitude_contrast:.2f}",
        f"# Box size: {setting.box} pixels ; min. res.: {setting.resolution[0]:.1f} Angstroms ; "
        f"max. res.: {setting.resolution[1]:.1f} Angstroms ; min. def.: {setting.defocus[0]:.1f} um; "
        f"max. def. {setting.defocus[1]:.1f} um",
    ]


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")
