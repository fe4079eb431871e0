"""``vitrea validate model``: how well an atomic model explains a map, shell by shell and residue by residue."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import make_folder, read_mask
from vitrea.jobs.unused_options import refuse_unused
from vitrea.records.errors import InputError
from vitrea.records.map import Map

if TYPE_CHECKING:
    from vitrea.maps.model_fit import HandTest
    from vitrea.maps.transform import Placement
    from vitrea.records.atomic_model import AtomicModel

_PLACE, _MASK, _DENSITY = "Place", "Mask", "Density"
_POOR = 0.2  # correlation at 15 Å below which a model does not lie in the density


class ValidateModelParameters(JobParameters):
    """Measure the FSC between a map and an atomic model, and how well each residue fits.

    The model's density is computed from its atoms with electron scattering factors, put where the map is, and
    compared inside a mask around the atoms: FSC with the map at 0.5 and 0.143; with half maps also the FSC with each
    (a model refined into the first shows over-fitting where the second agrees less: FSC work and free, Amunts et al.
    2014) and what a perfect model would reach; the correlation of densities for each chain and residue. Where the
    file's place is not that of the map, the usual other ones are tried; --fit turns and shifts the model; --test_hand
    fits the mirror image of the map, too.

    Writes into a folder: model_fsc.star (curves, chains, residues), model.mrc (the model's density as the map shows
    it), mask.mrc, model_fitted.cif where the model was moved, pictures and report.html.
    """

    input: Path | None = parameter(
        None, "Map; by default the mean of the half maps.", options=["--i", "--map"], positional=True
    )
    model: Path = parameter(..., "Atomic model, PDB or mmCIF.", options=["--pdb"], positional=True)
    assembly: str = parameter("", "Biological assembly to build from the file, e.g. 1; empty: atoms as deposited.")
    half1: Path | None = parameter(None, "First unfiltered half map.", options=["--halfmap1"])
    half2: Path | None = parameter(
        None, "Second half map; by default the first one's name with half1 replaced by half2.", options=["--halfmap2"]
    )
    output: Path = parameter(Path("Validate/model"), "Folder to write to.", options=["--o"])
    pixel_size: float = parameter(0.0, "Voxel size; 0: from the map's header.", unit="Å", options=["--angpix"], ge=0)
    position: Literal["auto", "header", "corner", "centre", "model"] = parameter(
        "auto",
        "Where the model's coordinates are counted from: the map's origin in its header; its first voxel; the centre "
        "of its box; model: the middle of the model is put there. auto: which fits best.",
        tab=_PLACE,
    )
    fit: Literal["no", "refine", "search"] = parameter(
        "no",
        "Turn and shift the model as a rigid body: from where it is, or after a search of all rotations.",
        tab=_PLACE,
    )
    test_hand: bool = parameter(False, "Fit the model into the mirror image of the map, too (searches).", tab=_PLACE)
    fit_resolution: float = parameter(
        0.0, "Resolution of the fit; 0: three voxels, no finer than 6 Å.", unit="Å", tab=_PLACE, expert=True, ge=0
    )
    mask: Path | None = parameter(None, "Mask to use instead of one around the atoms.", tab=_MASK)
    mask_radius: float = parameter(
        3.0, "Distance from the atoms up to which that is 1; at least a voxel.", unit="Å", tab=_MASK, gt=0
    )
    mask_edge: float = parameter(
        6.0, "Width of its soft edge; at least three voxels.", unit="Å", tab=_MASK, expert=True, gt=0
    )
    use_b_factors: bool = parameter(
        True, "Use the B-factors of the atoms; else all have their mean.", tab=_DENSITY, expert=True
    )
    solvent: bool = parameter(
        True, "Take away the ice that the molecule displaces, which matters beyond 10 Å.", tab=_DENSITY, expert=True
    )
    residue_radius: float = parameter(
        0.0,
        "Distance from a residue's atoms that counts for it; 0: half the resolution, 2 to 10 Å, at least 1.5 voxels.",
        unit="Å", tab=_DENSITY, expert=True, ge=0,
    )  # fmt: skip


@dataclass(frozen=True)
class ModelInputs:
    """What is compared.

    Attributes
    ----------
    density : Map
    name : str
        Where it comes from.
    halves : pair of Map, or None
    atoms : AtomicModel
    mask : ndarray, shape [n, n, n], or None
        As given.
    """

    density: Map
    name: str
    halves: tuple[Map, Map] | None
    atoms: AtomicModel
    mask: NDArray[np.float32] | None


@dataclass(frozen=True)
class Placed:
    """Where the model was put.

    Attributes
    ----------
    atoms : AtomicModel
        In Å from the centre of the box, voxel ``n // 2``.
    density : ndarray, shape [n, n, n]
    frame : str
        Which of the usual places was taken.
    scores : dict of str to float
        Correlation at low resolution in each of them.
    rotation, shift : ndarray
        What was done to the file's coordinates x: ``R x + t`` in Å, from the centre of the box.
    is_moved : bool
        Whether that differs from what the map's header says.
    hand : HandTest or None
    """

    atoms: AtomicModel
    density: NDArray[np.float32]
    frame: str
    scores: dict[str, float]
    rotation: NDArray[np.float64]
    shift: NDArray[np.float64]
    is_moved: bool
    hand: HandTest | None


def run(parameters: ValidateModelParameters, context: Context) -> None:
    """Place, compare, write.

    Raises
    ------
    InputError
        If inputs are missing or do not fit each other.
    """
    from vitrea.jobs.validate_model_files import write_results
    from vitrea.maps.model_map import mask_around_atoms, model_fsc

    if parameters.mask is not None:
        refuse_unused(parameters, ("mask_radius", "mask_edge"), "is for a mask around the atoms: leave out --mask")
    if parameters.fit == "no" and not parameters.test_hand:
        refuse_unused(parameters, ("fit_resolution",), "is for --fit and --test_hand: give one, too")
    inputs = read_inputs(parameters, context)
    context.recorder.stage("placing the model")
    placed = place_model(parameters, inputs, context)
    voxel_size, size = inputs.density.voxel_size, inputs.density.voxels.shape[0]
    mask = inputs.mask
    if mask is None:
        radius, edge = max(parameters.mask_radius / voxel_size, 1.0), max(parameters.mask_edge / voxel_size, 3.0)
        try:
            mask = mask_around_atoms(placed.atoms.positions / voxel_size, size, radius, edge)
        except ValueError as error:
            raise InputError(f"{parameters.model}: {error}") from error
    make_folder(parameters.output / "model_fsc.star")
    context.recorder.stage("comparing")
    halves = None if inputs.halves is None else (inputs.halves[0].voxels, inputs.halves[1].voxels)
    fsc = model_fsc(placed.density, inputs.density.voxels, voxel_size, mask, halves)
    write_results(parameters, inputs, placed, mask, fsc, context)


def read_inputs(parameters: ValidateModelParameters, context: Context) -> ModelInputs:
    """Read map, half maps, model, mask.

    Raises
    ------
    InputError
        If a file is missing or they do not fit each other.
    """
    from vitrea.formats.atomic_models import read_atoms
    from vitrea.jobs.half_map_inputs import read_map_or_halves

    density, name, halves = read_map_or_halves(
        parameters.input, parameters.half1, parameters.half2, parameters.pixel_size, context.recorder
    )
    atoms = read_atoms(parameters.model, parameters.assembly or None)
    mask = None
    if parameters.mask is not None:
        like = parameters.input or parameters.half1
        assert like is not None
        mask = read_mask(parameters.mask, density, like, parameters.pixel_size)
    if not parameters.use_b_factors:
        atoms = replace(atoms, b_factors=np.full(len(atoms), float(atoms.b_factors.mean())))
    return ModelInputs(density, name, halves, atoms, mask)


def place_model(parameters: ValidateModelParameters, inputs: ModelInputs, context: Context) -> Placed:
    """Put the model where the map is: into one of the usual frames and, on request, by a fit.

    Raises
    ------
    InputError
        If the model does not fit into the box.
    """
    from vitrea.maps.model_fit import score_shifts
    from vitrea.maps.transform import Placement
    from vitrea.simulate.density import bounding_box_centre

    density, atoms = inputs.density, inputs.atoms
    middle, voxel_size = bounding_box_centre(atoms), density.voxel_size
    at_middle = atoms.moved(np.eye(3), -middle)
    drawn = _draw(parameters, at_middle, density)
    centres = box_centres(density, middle)
    shifts = {name: (middle - centre) / voxel_size for name, centre in centres.items()}
    scores = score_shifts(drawn, density.voxels, voxel_size, shifts)
    frame = _frame(parameters, scores, context)
    placement = Placement(np.eye(3), shifts[frame])
    placement, hand = _fit(parameters, drawn, inputs, at_middle, placement, context)
    in_place = at_middle.moved(placement.rotation, placement.shift * voxel_size)
    if np.any(placement.shift) or placement.angle > 0:
        drawn = _draw(parameters, in_place, density)
    shift = placement.shift * voxel_size - placement.rotation @ middle
    is_moved = placement.angle > 0 or not np.allclose(shift, -centres["header"], atol=1e-3)
    return Placed(in_place, drawn, frame, scores, placement.rotation, shift, is_moved, hand)


def box_centres(density: Map, middle: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """Return, by name of the frame, the coordinates (x, y, z in Å) that the centre of the box has for a model."""
    half = np.full(3, density.voxels.shape[0] // 2 * density.voxel_size)
    return {"header": np.array(density.origin) + half, "corner": half, "centre": np.zeros(3), "model": middle}


def _frame(parameters: ValidateModelParameters, scores: dict[str, float], context: Context) -> str:
    if parameters.position != "auto":
        return parameters.position
    # Equal scores (an origin of 0) are the header's; the model is moved by hand only where no frame fits.
    frame = max(("header", "corner", "centre"), key=lambda name: scores[name])
    if scores[frame] < max(_POOR, 0.5 * scores["model"]):
        frame = "model"
    if frame != "header" and scores[frame] > scores["header"]:
        context.recorder.warn(
            f"the model does not lie in the map as its header places it (correlation {scores['header']:.2f} at 15 Å), "
            f"but better with its coordinates counted from {FRAME_NAMES[frame]} ({scores[frame]:.2f})"
        )
    if scores[frame] < _POOR and parameters.fit == "no":
        context.recorder.warn("the model fits nowhere as it stands; try --fit search")
    return frame


FRAME_NAMES = {
    "header": "the origin in the map's header",
    "corner": "the first voxel",
    "centre": "the centre of the box",
    "model": "its own middle, put at the centre of the box",
}


def _fit(
    parameters: ValidateModelParameters,
    drawn: NDArray[np.float32],
    inputs: ModelInputs,
    at_middle: AtomicModel,
    start: Placement,
    context: Context,
) -> tuple[Placement, HandTest | None]:
    from vitrea.maps.model_fit import compare_hands, fit_model
    from vitrea.maps.model_map import mask_around_atoms

    voxels, voxel_size, resolution = inputs.density.voxels, inputs.density.voxel_size, parameters.fit_resolution
    hand = None
    if parameters.test_hand:
        radius, edge = max(parameters.mask_radius / voxel_size, 1.0), max(parameters.mask_edge / voxel_size, 3.0)
        mask = mask_around_atoms(at_middle.positions / voxel_size, len(voxels), radius, edge)
        hand = compare_hands(drawn, voxels, voxel_size, mask, start, resolution, context.recorder)
        if hand.verdict == "wrong":
            context.recorder.warn(
                "the mirror image of the map fits the model better: the map has the wrong hand (invert it with "
                "vitrea map --invert_hand)"
            )
    if parameters.fit == "no":
        return start, hand
    if hand is not None and parameters.fit == "search":
        return hand.same, hand
    first = start if parameters.fit == "refine" else None
    placement, correlation = fit_model(drawn, voxels, voxel_size, first, resolution, context.recorder)
    if parameters.fit == "search":  # where it stood may be better than the best of a coarse grid
        placement = max(
            ((placement, correlation), fit_model(drawn, voxels, voxel_size, start, resolution, context.recorder)),
            key=lambda item: item[1],
        )[0]
    return placement, hand


def _draw(parameters: ValidateModelParameters, atoms: AtomicModel, density: Map) -> NDArray[np.float32]:
    """Return the density of atoms given in Å from the centre of the box."""
    from vitrea.simulate.density import density_from_atoms
    from vitrea.simulate.scattering import in_ice

    try:
        drawn = density_from_atoms(atoms, len(density.voxels), density.voxel_size, centre=np.zeros(3))
    except ValueError as error:
        raise InputError(f"{parameters.model}: {error}, the map's") from error
    return in_ice(drawn, density.voxel_size, atoms) if parameters.solvent else drawn


JOB = Job(
    name="validate model",
    summary="Compare a map with an atomic model: FSC, over-fitting, hand, each chain and residue.",
    parameters=ValidateModelParameters,
    run=run,
    examples=(
        "vitrea validate model peptide.mrc peptide.pdb --o Validate/peptide",
        "vitrea validate model --half1 peptide_half1.mrc --model peptide.pdb --fit refine",
    ),
)
