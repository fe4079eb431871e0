"""``vitrea mask``: a soft mask from a map, an atomic model, a difference of maps, or geometry."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vitrea.jobs.base import Context, Job
from vitrea.jobs.map_inputs import check_map_name, make_folder, read_cubic_map
from vitrea.jobs.mask_parameters import MaskParameters
from vitrea.jobs.mask_sources import empty_grid, find_start
from vitrea.jobs.unused_options import refuse_unused
from vitrea.records.errors import InputError
from vitrea.records.map import Map

_EXTEND, _EDGE = 7.5, 15.0  # Å
_NARROWEST_EDGE = 5.0  # voxels
_KDA_PER_CUBIC_ANGSTROM = 0.81e-3
_SHAPE = (
    "inner_radius", "outer_radius", "center_x", "center_y", "center_z", "cylinder", "cylinder_length", "cylinder_axis",
)  # fmt: skip
_AROUND = ("threshold", "extend", "lowpass", "logic_threshold")
_MODEL = ("atom_radius", "chains", "assembly", "centre_model")
_LOGIC = ("and_map", "or_map", "and_not_map", "or_not_map")


def run(parameters: MaskParameters, context: Context) -> None:
    """Make and write the mask.

    Raises
    ------
    InputError
        If inputs are missing, do not fit each other, or leave no mask.
    """
    from vitrea.formats.mrc import write_map

    _check(parameters)
    mask, shown, words = _shape(parameters) if parameters.denovo else _around(parameters, context)
    if parameters.helix:
        mask = mask.with_voxels(_cut(parameters, mask.voxels))
    if parameters.invert:
        mask = mask.with_voxels(1.0 - mask.voxels)
    inside = float(np.mean(mask.voxels > 0.5))
    if not inside > 0:
        raise InputError(f"{words}: that leaves no voxel in the mask")
    make_folder(parameters.output)
    write_map(parameters.output, mask)
    _draw(parameters, shown, mask)
    context.recorder.event("text", text=f"{parameters.output}: {words}")
    share = f"{100 * inside:.1f}% of the box is inside the mask"
    if parameters.denovo and parameters.like is None and not parameters.pixel_size:
        room = "; its header says 1 Å per voxel, for --angpix is not given"
    else:
        volume = mask.voxels.size * inside * mask.voxel_size**3
        room = f" ({volume:.3g} Å³, room for {volume * _KDA_PER_CUBIC_ANGSTROM:.3g} kDa of protein)"
    context.recorder.event("text", text=f"{parameters.output}: {share}{room}")


def _check(parameters: MaskParameters) -> None:
    """Refuse names that mislead, and options that nothing would look at."""
    check_map_name(parameters.output)
    if parameters.picture is not None and parameters.picture.suffix.lower() != ".png":
        raise InputError(f"--picture {parameters.picture}: pictures are written as .png")
    if parameters.denovo:
        refuse_unused(parameters, _AROUND, "is for masks about a map or a model, not for --denovo: leave it out")
    else:
        refuse_unused(parameters, _SHAPE, "is for the shapes of --denovo: give that, too")
    if parameters.model is None:
        refuse_unused(parameters, _MODEL, "is for the atoms of --model: give that, too")
        if not parameters.denovo:
            refuse_unused(parameters, ("box_size",), "is for --model and --denovo: a map has its own box")
    if parameters.difference is None:
        refuse_unused(parameters, ("difference_sign",), "is for --difference: give that, too")
    if all(getattr(parameters, name) is None for name in _LOGIC):
        refuse_unused(parameters, ("logic_threshold",), "is for a second map: give --and, --or or --and_not, too")
    if not parameters.helix:
        refuse_unused(parameters, ("z_percentage",), "is for --helix: give that, too")


def _around(parameters: MaskParameters, context: Context) -> tuple[Map, Map, str]:
    """Return a mask about a map, atoms or a difference; what to draw it on; and how it was made."""
    from vitrea.maps.masking import mask_from_binary

    start = find_start(parameters, context)
    extend, edge = parameters.extend, parameters.soft_edge
    if extend is None:
        extend = max(1.0, _EXTEND / start.grid.voxel_size) if start.automatic else 0.0
    if edge is None:
        edge = max(_NARROWEST_EDGE, _EDGE / start.grid.voxel_size) if start.automatic else 0.0
    mask = start.grid.with_voxels(mask_from_binary(start.binary, extend, edge))
    return mask, start.grid, f"{start.words}; extended by {extend:.3g} voxels, soft edge {edge:.3g} voxels"


def _shape(parameters: MaskParameters) -> tuple[Map, Map, str]:
    from vitrea.maps.mask_sources import cylinder_mask
    from vitrea.maps.masking import sphere_mask

    _check_shape(parameters)
    grid = empty_grid(parameters, "--denovo")
    size, edge = grid.voxels.shape[0], parameters.soft_edge or 0.0
    outer, inner = parameters.outer_radius, parameters.inner_radius
    center = (parameters.center_x, parameters.center_y, parameters.center_z)
    hollow = f"{inner:g} to {outer:g}" if inner > 0 else f"{outer:g}"
    if not parameters.cylinder:
        voxels = sphere_mask(size, outer, edge, inner, center)
        words = f"{'shell' if inner > 0 else 'sphere'} of radius {hollow} voxels"
    else:
        x, y, z = parameters.cylinder_axis
        length = parameters.cylinder_length or float("inf")
        try:
            voxels = cylinder_mask(size, outer, length, edge, inner, center, (x, y, z))
        except ValueError as error:
            raise InputError(f"--cylinder_axis {x:g},{y:g},{z:g}: {error}") from error
        long = f"{length:g} voxels long" if parameters.cylinder_length else "through the whole box"
        words = f"{'tube' if inner > 0 else 'cylinder'} of radius {hollow} voxels, {long}"
    if not voxels.any():
        raise InputError(f"--denovo: the {words} has no voxel in the box")
    return grid.with_voxels(voxels), grid, f"{words}, soft edge {edge:g} voxels"


def _check_shape(parameters: MaskParameters) -> None:
    if parameters.input is not None:
        raise InputError("--denovo makes a mask without a map: leave out --i (a map's box is taken with --like)")
    for name in ("model", "difference", "and_map", "or_map", "and_not_map", "or_not_map"):
        if getattr(parameters, name) is not None:
            raise InputError(f"--denovo makes a shape alone: leave out --{name.removesuffix('_map')}")
    if parameters.outer_radius <= max(0.0, parameters.inner_radius):
        raise InputError(
            f"--outer_radius ({parameters.outer_radius:g} voxels) must exceed --inner_radius "
            f"({parameters.inner_radius:g})"
        )
    if not parameters.cylinder and parameters.cylinder_length:
        raise InputError("--cylinder_length is that of --cylinder: give that, too")
    if len(parameters.cylinder_axis) != 3:
        raise InputError("--cylinder_axis needs three numbers, e.g. 0,0,1")


def _cut(parameters: MaskParameters, voxels: NDArray[np.float32]) -> NDArray[np.float32]:
    from vitrea.maps.mask_sources import cut_along_z

    return cut_along_z(voxels, parameters.z_percentage, parameters.soft_edge or _NARROWEST_EDGE)


def _draw(parameters: MaskParameters, shown: Map, mask: Map) -> None:
    if parameters.picture is None:
        return
    from vitrea.report.figures.postprocessing import masked_slices
    from vitrea.report.png import save_png

    make_folder(parameters.picture)
    if parameters.like is not None:
        shown = read_cubic_map(parameters.like)
    background = shown.voxels if shown.voxels.any() else mask.voxels
    save_png(masked_slices(background, mask.voxels, mask.voxel_size), parameters.picture)


JOB = Job(
    name="mask",
    summary="Make a soft mask from a map, an atomic model, a difference of maps, or a shape.",
    parameters=MaskParameters,
    run=run,
    ignored_options={"--j=": "one thread is enough"},
    examples=(
        "vitrea mask molecule.mrc mask.mrc --picture mask.png",
        "vitrea mask --i molecule.mrc --o mask.mrc --ini_threshold 0.3 --lowpass 20 --extend_inimask 2 "
        "--width_soft_edge 5",
        "vitrea mask --model molecule.pdb --like molecule.mrc --chains A --o focus.mrc",
        "vitrea mask molecule.mrc focus.mrc --difference other_molecule.mrc --difference_sign positive",
        "vitrea mask --denovo --like molecule.mrc --outer_radius 4 --center_x 3 --width_soft_edge 4 --o sphere.mrc",
    ),
)
