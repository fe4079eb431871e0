"""The files of a CTF estimation: those of each micrograph, and the STAR file of all."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrea.formats.ctffind import CtffindResult, FitSetting, write_curves, write_log, write_summary
from vitrea.formats.micrograph_files import write_micrographs
from vitrea.formats.mrc import write_stack
from vitrea.formats.star import read_star, write_star
from vitrea.formats.star_values import text_column
from vitrea.records.errors import InputError
from vitrea.records.table import Table

if TYPE_CHECKING:
    from vitrea.jobs.ctf_inputs import CtfInput, Shot
    from vitrea.thon_rings.fit import CtfFit
    from vitrea.thon_rings.spectrum import Floats

_WORST_RESOLUTION = 25.0  # Å: what RELION writes for anything worse
_LABELS = {
    "defocus_u": "rlnDefocusU",
    "defocus_v": "rlnDefocusV",
    "angle": "rlnDefocusAngle",
    "phase_shift": "rlnPhaseShift",
    "score": "rlnCtfFigureOfMerit",
    "resolution": "rlnCtfMaxResolution",
    "ice_ring": "rlnCtfIceRingDensity",
    "alias_resolution": "vitreaCtfAliasResolution",
    "tilt_angle": "rlnMicrographTiltAngle",
    "tilt_axis": "rlnMicrographTiltAxisDirection",
}
_TILT = ("tilt_angle", "tilt_axis")
_ALWAYS = ("defocus_u", "defocus_v", "angle", "score", "resolution", "ice_ring")
_SETTINGS, _PROBLEM = "vitreaSettings", "vitreaReason"


@dataclass(frozen=True)
class Estimate:
    """What is known of one micrograph's CTF, whoever found it. Å and degrees; NaN for what was not looked for.

    Attributes
    ----------
    defocus_u, defocus_v, angle, phase_shift, score, resolution, ice_ring, alias_resolution, tilt_angle, tilt_axis
        As in `vitrea.thon_rings.fit.CtfFit` and `vitrea.thon_rings.tilt.Tilt`.
    problem : str
        Why it is of no use; "" where it is.
    """

    defocus_u: float
    defocus_v: float
    angle: float
    phase_shift: float
    score: float
    resolution: float
    ice_ring: float
    alias_resolution: float = 0.0
    tilt_angle: float = math.nan
    tilt_axis: float = math.nan
    problem: str = ""


@dataclass(frozen=True)
class Drawing:
    """What of a fit becomes files besides the numbers.

    Attributes
    ----------
    fit : CtfFit
    image : ndarray of float32, shape [box, box]
        Spectrum beside fit.
    pixel_size : float
        Å, of an image with this spectrum.
    page : bytes
        The picture as PNG; empty for none.
    setting : FitSetting
    """

    fit: CtfFit
    image: Floats
    pixel_size: float
    page: bytes
    setting: FitSetting


def result_file(root: Path, ending: str) -> Path:
    """Return a result file of a micrograph: ``_ctf.star``, ``.ctf`` ..."""
    return root.with_name(root.name + ending)


def write_fit(root: Path, estimate: Estimate, drawing: Drawing, settings: str, program: str) -> None:
    """Write the files of one micrograph; the table that says it is finished comes last.

    Raises
    ------
    InputError
        If a file cannot be written.
    """
    curves, setting = drawing.fit.curves, drawing.setting
    resolution = min(estimate.resolution, 999.0)
    numbers = (estimate.defocus_u, estimate.defocus_v, estimate.angle, estimate.phase_shift, estimate.score)
    result = CtffindResult(*numbers, resolution)
    write_stack(result_file(root, ".ctf"), drawing.image, drawing.pixel_size)
    if drawing.page:
        result_file(root, "_ctf.png").write_bytes(drawing.page)
    lines = (curves.frequency, curves.radial, curves.equiphase, curves.fit, curves.quality, curves.noise)
    # One point a sample, as CTFFIND has it: RELION adds up what lies between two frequencies.
    write_curves(result_file(root, "_avrot.txt"), setting, [line[::2] for line in lines], program)
    summary = result_file(root, ".txt")
    write_summary(summary, setting, result, program)
    write_log(result_file(root, "_ctffind4.log"), summary, setting, result, program)
    table = Table(
        {
            "rlnResolution": curves.frequency,
            "vitreaRadialAverage": curves.radial,
            "vitreaEquiphaseAverage": curves.equiphase,
            "rlnCtfValue": curves.fit,
            "vitreaFitQuality": curves.quality,
            "vitreaFitQualityNoise": curves.noise,
        }
    )
    write_estimate(root, estimate, settings, table)


def write_estimate(root: Path, estimate: Estimate, settings: str, curves: Table | None = None) -> None:
    """Write what a later run needs to go on: the estimate, and what it was made with."""
    numbers = {name: getattr(estimate, name) for name in _LABELS}
    values: dict[str, object] = {_LABELS[name]: value for name, value in numbers.items() if not math.isnan(value)}
    values |= {_SETTINGS: settings, _PROBLEM: estimate.problem or "none"}
    blocks: dict[str, Table | dict[str, object]] = {"ctf": values}
    if curves is not None:
        blocks["curves"] = curves
    write_star(result_file(root, "_ctf.star"), blocks)


def read_estimate(root: Path, settings: str) -> Estimate | None:
    """Return what an earlier run found with the same settings, None where there is no such thing."""
    try:
        block = read_star(result_file(root, "_ctf.star"), blocks={"ctf"}).get("ctf")
    except InputError:
        return None
    if block is None or isinstance(block, Table) or str(block.get(_SETTINGS)) != settings:
        return None
    try:
        numbers = {one.name: float(str(block[_LABELS[one.name]])) for one in fields(Estimate)
                   if one.name in _LABELS and (_LABELS[one.name] in block or one.name not in _TILT)}  # fmt: skip
        problem = str(block[_PROBLEM])
    except (KeyError, ValueError):
        return None
    return Estimate(**numbers, problem="" if problem == "none" else problem)


def write_results(given: CtfInput, results: list[tuple[Shot, Estimate]], comment: str) -> None:
    """Write the STAR file of all micrographs that have a CTF.

    Raises
    ------
    InputError
        If it cannot be written.
    """
    chosen = given.exposures.rows(np.array([shot.row for shot, _ in results]))
    columns: dict[str, object] = {
        "rlnCtfImage": text_column([f"{result_file(shot.root, '.ctf')}:mrc" for shot, _ in results])
    }
    for name, label in _LABELS.items():
        values = np.array([getattr(fit, name) for _, fit in results], dtype=np.float64)
        if name == "resolution":
            values = np.minimum(values, _WORST_RESOLUTION)
        # A column of an earlier estimation must not stay beside new values.
        if name in _ALWAYS or (np.isfinite(values) & (values != 0)).any() or label in chosen.table:
            columns[label] = np.nan_to_num(values)
        if name == "defocus_v":
            columns["rlnCtfAstigmatism"] = np.array([abs(fit.defocus_u - fit.defocus_v) for _, fit in results])
    write_micrographs(given.star, chosen.with_columns(columns), comment=comment)
