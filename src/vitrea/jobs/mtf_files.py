"""Modulation transfer functions of detectors: read, recognised, held against what the run says of its microscope."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrea.records.errors import InputError
from vitrea.records.recorder import Recorder
from vitrea.records.table import Table

if TYPE_CHECKING:
    from vitrea.maps.sharpening import ModulationTransfer
    from vitrea.optics.detectors import Detector

_LABELS = ("rlnResolutionInversePixel", "rlnMtfValue")
_MOST = 1.5  # above 1 by more than ringing can explain
_AT_ZERO = 0.2  # how far from 1 a curve may begin
_SAME_VOLTAGE = 0.5  # kV
_SAME_PIXEL = 0.01


def read_mtf(path: Path, pixel_size: float) -> ModulationTransfer:
    """Read a detector's modulation transfer function from a STAR file.

    Parameters
    ----------
    path : Path
        With columns ``rlnResolutionInversePixel`` and ``rlnMtfValue``.
    pixel_size : float
        Å per detector pixel.

    Raises
    ------
    InputError
        If the columns are missing, values are not positive or are percentages, or frequencies return.
    """
    from vitrea.maps.sharpening import ModulationTransfer

    frequency, value = (table := _table(path)[1]).numbers(_LABELS[0]), table.numbers(_LABELS[1])
    order = np.argsort(frequency)
    if not (value > 0).all():
        raise InputError(f"{path}: all values of rlnMtfValue must be above 0")
    if value.max() > _MOST:
        raise InputError(
            f"{path}: rlnMtfValue must begin near 1 and fall, but reaches {value.max():g}: is it in percent?"
        )
    if len(frequency) < 2 or (np.diff(frequency[order]) <= 0).any():
        raise InputError(f"{path}: rlnResolutionInversePixel must rise from row to row, over at least two rows")
    return ModulationTransfer(frequency[order], value[order], pixel_size)


def _table(path: Path) -> tuple[str, Table]:
    """Return the table of an MTF file, and its name."""
    from vitrea.formats.star import read_star

    for name, block in read_star(path).items():
        if isinstance(block, Table) and all(label in block for label in _LABELS):
            return name, block
    raise InputError(f"{path} is no MTF: it lacks the columns {' and '.join(_LABELS)}")


def recognise_mtf(path: Path, mtf: ModulationTransfer, recorder: Recorder) -> Detector:
    """Return the detector that the names of and in a file tell; warn where these contradict each other."""
    from vitrea.optics.detectors import Detector, detector_of_name

    if abs(float(np.interp(0.0, mtf.frequency, mtf.value)) - 1) > _AT_ZERO:
        recorder.warn(f"{path}: the MTF is {mtf.value[0]:.2f} at frequency 0, where it should be 1")
    file, block = (detector_of_name(text) for text in (path.stem, _table(path)[0]))
    for one, other in ((file.name, block.name), (file.voltage, block.voltage)):
        if one and other and one != other:
            recorder.warn(f"{path} is named as that of {file}, but its data block as that of {block}")
            break
    return Detector(file.name or block.name, file.voltage or block.voltage)


def check_voltage(path: Path, detector: Detector, given: float, half_map: Path, recorder: Recorder) -> None:
    """Hold the voltage a detector's curve is for against that of the data.

    Parameters
    ----------
    path : Path
        The MTF file, for the message.
    detector : Detector
    given : float
        kV that the user says; 0: look into the data file of the run beside the half map.
    half_map : Path
    recorder : Recorder
        Warned where the run has another voltage.

    Raises
    ------
    InputError
        If the user's voltage is another one.
    """
    if not detector.voltage:
        return
    if given and abs(given - detector.voltage) > _SAME_VOLTAGE:
        raise InputError(f"--mtf {path} is for {detector.voltage} kV, but --voltage is {given:g} kV")
    for voltage in run_optics(half_map, "rlnVoltage") if not given else ():
        if abs(voltage - detector.voltage) > _SAME_VOLTAGE:
            recorder.warn(
                f"{path} is for {detector.voltage} kV, but the particles of this run were recorded at {voltage:g} kV "
                f"({run_particles(half_map)}): take the detector's curve for {voltage:g} kV"
            )


def detector_pixel(half_map: Path, recorder: Recorder) -> float | None:
    """Return Å per detector pixel that the data file of a run beside a half map tells; None if it does not."""
    sizes = run_optics(half_map, "rlnMicrographOriginalPixelSize")
    if not sizes:
        return None
    if max(sizes) > min(sizes) * (1 + _SAME_PIXEL):
        recorder.warn(
            f"the optics groups of {run_particles(half_map)} have different pixel sizes of their movies "
            f"({', '.join(f'{size:g}' for size in sizes)} Å); {sizes[0]:g} Å is taken for --mtf_angpix"
        )
    return sizes[0]


def run_particles(half_map: Path) -> Path | None:
    """Return the data file of the run that a half map is of (``run_half1_class001_unfil.mrc``: ``run_data.star``)."""
    root, half, _ = half_map.name.partition("_half")
    data = half_map.with_name(f"{root}_data.star")
    return data if half and data.is_file() else None


def run_optics(half_map: Path, label: str) -> list[float]:
    """Return the values of a column of the optics groups of a half map's run, each once; none if they are not told."""
    from vitrea.formats.star import read_star

    data = run_particles(half_map)
    optics = read_star(data, ["optics"]).get("optics") if data is not None else None
    if not isinstance(optics, Table) or label not in optics:
        return []
    return [float(value) for value in dict.fromkeys(optics.numbers(label).tolist())]
