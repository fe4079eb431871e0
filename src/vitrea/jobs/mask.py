"""``vitrea mask``: a soft solvent mask from a map, or from geometry."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import check_same_grid, make_folder, read_cubic_map
from vitrea.records.errors import InputError
from vitrea.records.map import Map

if TYPE_CHECKING:
    Binary = NDArray[np.bool_]


class MaskParameters(JobParameters):
    """Make a soft mask, as relion_mask_create does.

    Voxels of a map above a threshold (after an optional low-pass filter, and combined on request with a second map)
    start the mask; it is then extended by a few voxels and given a soft, raised-cosine edge. With --denovo the mask is
    a sphere, or a shell where an inner radius is given.
    """

    input: Path | None = parameter(None, "Map to mask.", options=["--i"])
    output: Path = parameter(Path("mask.mrc"), "Mask to write.", options=["--o"])
    threshold: float = parameter(
        0.01, "Grey value above which voxels start the mask.", options=["--ini_threshold"], tab="Mask"
    )
    extend: float = parameter(
        0.0,
        "Extend the mask by this distance (negative: shrink it).",
        unit="voxels",
        options=["--extend_inimask"],
        tab="Mask",
    )
    soft_edge: float = parameter(
        0.0, "Width of the soft edge.", unit="voxels", options=["--width_soft_edge"], tab="Mask", ge=0
    )
    lowpass: float = parameter(
        0.0, "Low-pass filter the input map to this resolution first; 0 or less: no filter.", unit="Å", tab="Mask"
    )
    pixel_size: float = parameter(
        0.0, "Voxel size; 0: from the map's header.", unit="Å", options=["--angpix"], tab="Mask", ge=0
    )
    invert: bool = parameter(False, "Write one minus the mask.", tab="Mask")
    and_map: Path | None = parameter(
        None, "Start from voxels above threshold in both maps.", options=["--and"], tab="Logic", expert=True
    )
    or_map: Path | None = parameter(
        None, "Start from voxels above threshold in either map.", options=["--or"], tab="Logic", expert=True
    )
    and_not_map: Path | None = parameter(
        None,
        "Start from voxels above threshold in the input and not in this map.",
        options=["--and_not"],
        tab="Logic",
        expert=True,
    )
    or_not_map: Path | None = parameter(
        None,
        "Start from voxels above threshold in the input, or not above it in this map.",
        options=["--or_not"],
        tab="Logic",
        expert=True,
    )
    denovo: bool = parameter(False, "Make a sphere or a shell instead of masking a map.", tab="Sphere")
    box_size: int = parameter(0, "Box size of the sphere's map.", unit="voxels", tab="Sphere", ge=0)
    inner_radius: float = parameter(0.0, "Inner radius; above 0: a shell.", unit="voxels", tab="Sphere")
    outer_radius: float = parameter(0.0, "Outer radius.", unit="voxels", tab="Sphere")
    center_x: float = parameter(0.0, "Centre of the sphere from the middle of the box.", unit="voxels", tab="Sphere")
    center_y: float = parameter(0.0, "Centre of the sphere from the middle of the box.", unit="voxels", tab="Sphere")
    center_z: float = parameter(0.0, "Centre of the sphere from the middle of the box.", unit="voxels", tab="Sphere")


def run(parameters: MaskParameters, context: Context) -> None:
    """Make and write the mask.

    Raises
    ------
    InputError
        If inputs are missing, do not fit each other, or leave no mask.
    """
    from vitrea.formats.mrc import write_map

    mask = _sphere(parameters) if parameters.denovo else _around_map(parameters, context)
    if parameters.invert:
        mask = mask.with_voxels(1.0 - mask.voxels)
    make_folder(parameters.output)
    write_map(parameters.output, mask)
    inside = float(np.mean(mask.voxels > 0.5))
    volume = mask.voxels.size * inside * mask.voxel_size**3
    context.recorder.event(
        "text",
        text=f"{parameters.output}: {100 * inside:.1f}% of the box is inside the mask ({volume:.3g} Å³)",
    )


def _sphere(parameters: MaskParameters) -> Map:
    from vitrea.maps.masking import sphere_mask

    if parameters.input is not None:
        raise InputError("--denovo makes a mask without a map: leave out --i")
    if parameters.box_size < 1:
        raise InputError("--denovo needs --box_size, in voxels")
    if parameters.outer_radius <= max(0.0, parameters.inner_radius):
        raise InputError(
            f"--outer_radius ({parameters.outer_radius:g} voxels) must exceed --inner_radius "
            f"({parameters.inner_radius:g})"
        )
    center = (parameters.center_x, parameters.center_y, parameters.center_z)
    voxels = sphere_mask(
        parameters.box_size, parameters.outer_radius, parameters.soft_edge, parameters.inner_radius, center
    )
    return Map(voxels, parameters.pixel_size or 1.0)


def _around_map(parameters: MaskParameters, context: Context) -> Map:
    from vitrea.maps.masking import LOGIC, lowpass_density, mask_from_binary

    if parameters.input is None:
        raise InputError("give the map to mask with --i, or --denovo for a sphere")
    logic = {name: getattr(parameters, f"{name}_map") for name in LOGIC}
    chosen = [(name, path) for name, path in logic.items() if path is not None]
    if len(chosen) > 1:
        raise InputError(f"give one of --{' and --'.join(name for name, _ in chosen)}, not several")
    density = read_cubic_map(parameters.input, parameters.pixel_size, context.recorder)
    voxels: NDArray[Any] = density.voxels
    if parameters.lowpass > 0:
        voxels = lowpass_density(voxels, parameters.lowpass, density.voxel_size)
    binary: Binary = voxels > parameters.threshold
    for name, path in chosen:
        other = read_cubic_map(path, parameters.pixel_size)
        check_same_grid(density, parameters.input, other, path)
        binary = LOGIC[name](binary, other.voxels > parameters.threshold)
    if not binary.any() or binary.all():
        raise InputError(
            f"--ini_threshold {parameters.threshold:g} leaves {'every' if binary.any() else 'no'} voxel of "
            f"{parameters.input} in the mask: its grey values run from {voxels.min():.4g} to {voxels.max():.4g}"
            + (" after the low-pass filter" if parameters.lowpass > 0 else "")
        )
    return density.with_voxels(mask_from_binary(binary, parameters.extend, parameters.soft_edge))


JOB = Job(
    name="mask",
    summary="Make a soft solvent mask from a map, or a sphere.",
    parameters=MaskParameters,
    run=run,
    ignored_options={"--j=": "one thread is enough"},
)
