"""Model and sampling STAR files: what a likelihood run estimates, under RELION's labels and in RELION's units.

RELION's transforms carry a factor 1/n² that orthonormal ones do not: its variances are ours divided by n².
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.image_names import split_image_name
from vitrea.formats.mrc import open_stack, read_map
from vitrea.formats.star import Block, read_star
from vitrea.formats.star_values import text_column
from vitrea.likelihood.schedule import signal_shell
from vitrea.likelihood.settings import Settings
from vitrea.likelihood.state import ClassModel, Model, RunState, Sampling
from vitrea.records.errors import InputError
from vitrea.records.table import Table

# RELION's way to write that a shell has no resolution: the zeroth.
_NO_RESOLUTION = 999.0


def model_blocks(
    model: Model,
    state: RunState,
    names: Sequence[str],
    group_names: tuple[str, ...],
    counts: NDArray[np.int64],
    optics: tuple[float, int],
) -> dict[str, Table | Mapping[str, object]]:
    """Lay out a model file.

    Parameters
    ----------
    model : Model
    state : RunState
        The state the model is part of.
    names : sequence of str
        The references of the classes: files, or images of a stack (``000001@classes.mrcs``).
    group_names : tuple of str
    counts : ndarray, shape [groups]
        Particles of each group.
    optics : tuple of (float, int)
        Pixel size (Å) and box size.
    """
    pixel_size, size = optics
    shells = _shell_columns(size, pixel_size)
    unit = float(size) ** 2
    share = counts / max(counts.sum(), 1)
    average_noise = (model.sigma2_noise * share[:, None]).sum(axis=0)
    noise = {"rlnSigma2Noise": average_noise / unit}
    groups = model.classes
    blocks: dict[str, Table | Mapping[str, object]] = {
        "model_general": _general(model, state, pixel_size, size, len(group_names)),
        "model_classes": Table(
            {
                "rlnReferenceImage": text_column(list(names)),
                "rlnClassDistribution": np.array([group.share for group in groups]),
                "rlnAccuracyRotations": np.array([group.accuracy_rotation for group in groups]),
                "rlnAccuracyTranslationsAngst": np.array([group.accuracy_translation for group in groups]),
                "rlnEstimatedResolution": np.array([_class_resolution(group, state, pixel_size) for group in groups]),
                "rlnOverallFourierCompleteness": np.array([float(group.completeness.mean()) for group in groups]),
            }
        ),
    }
    for number, group in enumerate(groups, start=1):
        blocks[f"model_class_{number}"] = Table({**shells, **_spectra(group, unit)})
    blocks |= {
        "model_groups": Table(
            {
                "rlnGroupNumber": np.arange(1, len(group_names) + 1),
                "rlnGroupName": text_column(list(group_names)),
                "rlnGroupNrParticles": counts,
                "rlnGroupScaleCorrection": model.scale,
            }
        ),
        "model_optics_group_1": Table({**shells, **noise}),
    }
    # RELION 1.3 to 3.0 had one spectrum a group, as Vitrea has; later versions read the average above.
    for number, spectrum in enumerate(model.sigma2_noise, start=1):
        blocks[f"model_group_{number}"] = Table({**shells, "rlnSigma2Noise": spectrum / unit})
    for number, group in enumerate(groups, start=1):
        if len(group.direction_prior):
            prior = Table({"rlnOrientationDistribution": group.direction_prior})
            blocks[f"model_pdf_orient_class_{number}"] = prior
    return blocks


def _spectra(group: ClassModel, unit: float) -> dict[str, NDArray[np.float64]]:
    return {
        "rlnSsnrMap": group.ssnr,
        "rlnGoldStandardFsc": group.fsc,
        "rlnFourierCompleteness": group.completeness,
        "rlnReferenceSigma2": group.sigma2_map / unit,
        "rlnReferenceTau2": group.tau2 / unit,
    }


def _class_resolution(group: ClassModel, state: RunState, pixel_size: float) -> float:
    """Resolution of a class in Å: of its own where there are several, of the run in a gold-standard refinement."""
    if len(state.models) > 1 or state.joined is not None:
        return state.progress.resolution
    size = group.voxels.shape[-1]
    return float(size * pixel_size / max(signal_shell(group.ssnr), 1))


def _general(model: Model, state: RunState, pixel_size: float, size: int, groups: int) -> dict[str, object]:
    return {
        "rlnReferenceDimensionality": model.classes[0].voxels.ndim,
        "rlnDataDimensionality": 2,
        "rlnOriginalImageSize": size,
        "rlnCurrentResolution": state.progress.resolution,
        "rlnCurrentImageSize": state.progress.current_size,
        "rlnPixelSize": pixel_size,
        "rlnNrClasses": len(model.classes),
        "rlnNrGroups": groups,
        "rlnNrOpticsGroups": 1,
        "rlnNormCorrectionAverage": model.average_norm,
        "rlnSigmaOffsetsAngst": model.sigma_offset,
        "rlnOrientationalPriorMode": int(state.sampling.local),
        "rlnLogLikelihood": model.log_likelihood,
        "rlnAveragePmax": model.average_pmax,
    }


def _shell_columns(size: int, pixel_size: float) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
    index = np.arange(size // 2 + 1)
    resolution = index / (size * pixel_size)
    angstrom = np.full(len(index), _NO_RESOLUTION)
    angstrom[1:] = 1.0 / resolution[1:]
    return {"rlnSpectralIndex": index, "rlnResolution": resolution, "rlnAngstromResolution": angstrom}


def read_model(path: Path, group_names: tuple[str, ...], box_angstrom: float) -> tuple[Model, dict[str, float]]:
    """Read a model file that `model_blocks` laid out, and its map.

    Parameters
    ----------
    path : Path
    group_names : tuple of str
        Groups expected.
    box_angstrom : float
        Box size in Å, to tell a file of another data set.

    Returns
    -------
    Model
    dict
        ``resolution`` (Å) and ``size`` (Fourier pixels) of the next comparison.

    Raises
    ------
    InputError
        If blocks are missing or the groups are others.
    """
    blocks = read_star(path)
    general = _pairs(blocks, "model_general", path)
    table = _loop(blocks, "model_classes", path)
    groups = _loop(blocks, "model_groups", path)
    if list(groups["rlnGroupName"].astype(str)) != list(group_names):
        raise InputError(f"{path}: rlnGroupName lists other groups than the particles of this run have")
    size = int(str(general["rlnOriginalImageSize"]))
    unit = float(size) ** 2
    noise = [
        _loop(blocks, f"model_group_{number}", path).numbers("rlnSigma2Noise") * unit
        for number in range(1, len(group_names) + 1)
    ]
    classes = tuple(_read_class(blocks, table, number, unit, path) for number in range(1, len(table) + 1))

    def number(label: str) -> float:
        return float(str(general[label]))

    model = Model(
        classes=classes,
        sigma2_noise=np.stack(noise),
        scale=groups.numbers("rlnGroupScaleCorrection"),
        sigma_offset=number("rlnSigmaOffsetsAngst"),
        average_norm=number("rlnNormCorrectionAverage"),
        log_likelihood=number("rlnLogLikelihood"),
        average_pmax=number("rlnAveragePmax"),
    )
    if abs(size * number("rlnPixelSize") / box_angstrom - 1.0) > 1e-6:
        raise InputError(f"{path}: rlnOriginalImageSize and rlnPixelSize are not those of the particles")
    return model, {"resolution": number("rlnCurrentResolution"), "size": number("rlnCurrentImageSize")}


def _read_class(blocks: dict[str, Block], table: Table, number: int, unit: float, path: Path) -> ClassModel:
    """Read one class, numbered from 1."""
    spectra = _loop(blocks, f"model_class_{number}", path)
    prior = blocks.get(f"model_pdf_orient_class_{number}")

    def value(label: str) -> float:
        return float(table[label][number - 1])

    return ClassModel(
        voxels=read_reference(str(table["rlnReferenceImage"][number - 1])),
        unfiltered=None,
        tau2=spectra.numbers("rlnReferenceTau2") * unit,
        sigma2_map=spectra.numbers("rlnReferenceSigma2") * unit,
        ssnr=spectra.numbers("rlnSsnrMap"),
        fsc=spectra.numbers("rlnGoldStandardFsc"),
        completeness=spectra.numbers("rlnFourierCompleteness"),
        direction_prior=prior.numbers("rlnOrientationDistribution") if isinstance(prior, Table) else np.zeros(0),
        share=value("rlnClassDistribution"),
        accuracy_rotation=value("rlnAccuracyRotations"),
        accuracy_translation=value("rlnAccuracyTranslationsAngst"),
    )


def read_reference(name: str) -> NDArray[np.float32]:
    """Read a map, or one image of a stack (``000003@run_it025_classes.mrcs``), as float32."""
    if "@" not in name:
        return read_map(Path(name)).voxels
    stack, index = split_image_name(name)
    return np.array(open_stack(stack)[index], dtype=np.float32)


def _loop(blocks: dict[str, Block], name: str, path: Path) -> Table:
    block = blocks.get(name)
    if not isinstance(block, Table):
        raise InputError(f"{path}: block data_{name} is missing or not a loop")
    return block


def _pairs(blocks: dict[str, Block], name: str, path: Path) -> dict[str, object]:
    block = blocks.get(name)
    if not isinstance(block, dict):
        raise InputError(f"{path}: block data_{name} is missing or not a list of values")
    return dict(block)


@dataclass(frozen=True)
class SamplingTable:
    """The directions of a grid, for the sampling file.

    Attributes
    ----------
    directions : ndarray, shape [directions, 2]
        rot and tilt in degrees.
    psi_step : float
        Degrees.
    """

    directions: NDArray[np.float64]
    psi_step: float

    def blocks(self, sampling: Sampling, settings: Settings) -> dict[str, Table | Mapping[str, object]]:
        """Lay out a sampling file."""
        return {
            "sampling_general": {
                "rlnIs3DSampling": sampling.healpix_order >= 0,
                "rlnIs3DTranslationalSampling": False,
                "rlnHealpixOrder": sampling.healpix_order,
                "rlnSymmetryGroup": settings.symmetry,
                "rlnTiltAngleLimit": -91.0,
                "rlnPsiStep": self.psi_step,
                "rlnOffsetRange": sampling.offset_range,
                "rlnOffsetStep": sampling.offset_step,
                "rlnSamplingPerturbInstance": sampling.perturbation,
                "rlnSamplingPerturbFactor": settings.perturbation,
                "rlnHealpixOrderOriginal": settings.healpix_order,
                "rlnOffsetRangeOriginal": settings.offset_range,
                "rlnOffsetStepOriginal": settings.offset_step,
            },
            "sampling_directions": Table(
                {
                    "rlnAngleRot": self.directions[:, 0],
                    "rlnAngleTilt": self.directions[:, 1],
                }
            ),
        }
