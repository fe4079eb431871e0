"""The STAR file that RELION's motion correction writes for each movie, and its polishing reads."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.star import Block, read_star, write_star
from vitrea.records.errors import InputError
from vitrea.records.movie_motion import MovieMotion
from vitrea.records.table import Table

_NOT_OBSERVED = -9999.0  # RELION's shift of a frame that was not used
_COEFFICIENTS = 18  # an axis
_NO_MODEL, _POLYNOMIAL = 0, 1  # rlnMotionModelVersion
_FRAME, _X, _Y = "rlnMicrographFrameNumber", "rlnMicrographShiftX", "rlnMicrographShiftY"
_PLACE_X, _PLACE_Y = "rlnCoordinateX", "rlnCoordinateY"


def write_motion(path: str | Path, motion: MovieMotion, comment: str = "") -> None:
    """Write the motion of a movie, whole or not at all; InputError if the file cannot be written."""
    general: dict[str, object] = {
        "rlnImageSizeX": motion.columns,
        "rlnImageSizeY": motion.rows,
        "rlnImageSizeZ": motion.frames,
        "rlnMicrographMovieName": motion.movie,
    }
    optional: dict[str, tuple[object, bool]] = {
        "rlnMicrographGainName": (motion.gain, bool(motion.gain)),
        "rlnMicrographDefectFile": (motion.defects, bool(motion.defects)),
        "rlnMicrographDoseRate": (motion.exposure_per_frame, motion.exposure_per_frame > 0),
        "rlnMicrographPreExposure": (motion.pre_exposure, motion.pre_exposure >= 0),
        "rlnVoltage": (motion.voltage, motion.voltage > 0),
        "rlnEERUpsampling": (motion.eer_upsampling, motion.eer_upsampling > 0),
        "rlnEERGrouping": (motion.eer_grouping, motion.eer_grouping > 0),
    }
    general |= {label: entry for label, (entry, known) in optional.items() if known}
    general["rlnMicrographBinning"] = motion.binning
    general["rlnMicrographOriginalPixelSize"] = motion.pixel_size
    general["rlnMicrographStartFrame"] = motion.first_frame
    general["rlnMotionModelVersion"] = _NO_MODEL if motion.coefficients is None else _POLYNOMIAL
    shifts = np.where(np.isfinite(motion.shifts), motion.shifts, _NOT_OBSERVED)
    numbers = np.arange(1, motion.frames + 1)
    blocks: dict[str, Table | dict[str, object]] = {
        "general": general,
        "global_shift": Table({_FRAME: numbers, _X: shifts[:, 0], _Y: shifts[:, 1]}),
    }
    if motion.coefficients is not None:
        values = motion.coefficients.reshape(-1)
        blocks["local_motion_model"] = Table(
            {"rlnMotionModelCoeffsIdx": np.arange(len(values)), "rlnMotionModelCoeff": values}
        )
    if len(motion.hot_pixels):
        places = motion.hot_pixels.astype(np.float64)
        blocks["hot_pixels"] = Table({_PLACE_X: places[:, 0], _PLACE_Y: places[:, 1]})
    if len(motion.patch_shifts):
        patch = motion.patch_shifts
        columns = {_PLACE_X: patch[:, 1], _PLACE_Y: patch[:, 2], _X: patch[:, 3], _Y: patch[:, 4]}
        blocks["local_shift"] = Table({_FRAME: patch[:, 0].astype(np.int64), **columns})
    write_star(path, blocks, comment)


def read_motion(path: str | Path) -> MovieMotion:
    """Read the motion of a movie, as Vitrea or RELION wrote it.

    Raises
    ------
    InputError
        If the file is missing, is none of these, or is incomplete; names the block or the label.
    """
    blocks = read_star(path)
    general = blocks.get("general")
    if not isinstance(general, dict):
        raise InputError(f"{path} does not hold the motion of a movie: it has no block data_general with single values")

    def value(label: str, default: object = None) -> object:
        found = general.get(label, default)
        if found is None:
            raise InputError(f"{path}: the block data_general lacks {label}")
        return found

    try:
        frames = int(str(value("rlnImageSizeZ")))
        shifts = np.full((frames, 2), np.nan)
        table = _loop(blocks, "global_shift", (_FRAME, _X, _Y), path)
        numbers = table[_FRAME].astype(np.int64) - 1
        measured = np.stack([table.numbers(_X), table.numbers(_Y)], axis=1)
        if len(numbers) and not 0 <= numbers.min() <= numbers.max() < frames:
            raise InputError(f"{path}: global_shift names a frame beyond the {frames} of the movie")
        shifts[numbers] = np.where(measured == _NOT_OBSERVED, np.nan, measured)
        return MovieMotion(
            movie=str(value("rlnMicrographMovieName")),
            frames=frames,
            rows=int(str(value("rlnImageSizeY"))),
            columns=int(str(value("rlnImageSizeX"))),
            first_frame=int(str(value("rlnMicrographStartFrame", 1))),
            pixel_size=float(str(value("rlnMicrographOriginalPixelSize"))),
            binning=float(str(value("rlnMicrographBinning", 1.0))),
            shifts=shifts,
            coefficients=_coefficients(blocks, path) if value("rlnMotionModelVersion", 0) == _POLYNOMIAL else None,
            hot_pixels=_columns(blocks, "hot_pixels", (_PLACE_X, _PLACE_Y), path).astype(np.int64),
            patch_shifts=_columns(blocks, "local_shift", (_FRAME, _PLACE_X, _PLACE_Y, _X, _Y), path),
            exposure_per_frame=float(str(value("rlnMicrographDoseRate", -1.0))),
            pre_exposure=float(str(value("rlnMicrographPreExposure", -1.0))),
            voltage=float(str(value("rlnVoltage", 0.0))),
            gain=str(value("rlnMicrographGainName", "")),
            defects=str(value("rlnMicrographDefectFile", "")),
            eer_upsampling=int(str(value("rlnEERUpsampling", 0))),
            eer_grouping=int(str(value("rlnEERGrouping", 0))),
        )
    except ValueError as error:
        raise InputError(f"{path}: a value of the block data_general is not a number ({error})") from None


def _loop(blocks: dict[str, Block], name: str, labels: tuple[str, ...], path: str | Path) -> Table:
    table = blocks.get(name)
    if not isinstance(table, Table) or any(label not in table for label in labels):
        raise InputError(f"{path}: no loop data_{name} with the columns {', '.join(labels)}")
    return table


def _columns(blocks: dict[str, Block], name: str, labels: tuple[str, ...], path: str | Path) -> NDArray[np.float64]:
    """Return columns of a loop that may be absent or empty, shape [rows, columns]."""
    table = blocks.get(name)
    if not isinstance(table, Table) or not len(table):
        return np.empty((0, len(labels)))
    return np.stack([_loop(blocks, name, labels, path).numbers(label) for label in labels], axis=1)


def _coefficients(blocks: dict[str, Block], path: str | Path) -> NDArray[np.float64]:
    labels = ("rlnMotionModelCoeffsIdx", "rlnMotionModelCoeff")
    table = _loop(blocks, "local_motion_model", labels, path)
    values = np.full(2 * _COEFFICIENTS, np.nan)
    index = table[labels[0]].astype(np.int64)
    if len(index) != len(values) or index.min() < 0 or index.max() >= len(values):
        raise InputError(
            f"{path}: local_motion_model has {len(index)} coefficients, not those from 0 to {len(values) - 1}"
        )
    values[index] = table.numbers(labels[1])
    if np.isnan(values).any():
        raise InputError(f"{path}: local_motion_model has a coefficient twice, or one that is no number")
    return values.reshape(2, _COEFFICIENTS)
