"""The molecules that `vitrea simulate` shows: maps and models, in one box and with one voxel size."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BeforeValidator

from vitrea.jobs.base import JobParameters, parameter
from vitrea.jobs.map_inputs import check_same_grid, read_cubic_map
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from vitrea.jobs.base import Context
    from vitrea.records.atomic_model import AtomicModel
    from vitrea.records.map import Map

_RESAMPLING_TOLERANCE = 1e-3
_ROOM = 1.4  # box of a model over its diameter: interpolation in Fourier space errs towards the borders of a box
_SAMPLE = "Sample"


def one_or_more(value: Any) -> Any:
    """Take a single path for a list of one, and None for none."""
    if value is None:
        return ()
    return (value,) if isinstance(value, str | Path) else value


def split_words(value: Any) -> Any:
    """Take words apart at commas: "a,b" and ["a", "b"] are the same."""
    words = (value,) if isinstance(value, str) else value
    return tuple(part for word in words for part in str(word).split(",") if part)


Paths = Annotated[tuple[Path, ...], BeforeValidator(one_or_more)]
Words = Annotated[tuple[str, ...], BeforeValidator(split_words)]


class MoleculeParameters(JobParameters):
    """Which molecules are simulated."""

    map: Paths = parameter((), "Map to simulate from; repeat it for a mixture.", options=["--i"])
    model: Paths = parameter((), "Atomic model (PDB or mmCIF) to simulate from, instead of a map or beside it.")
    assembly: str = parameter("", "Biological assembly of the models to build, e.g. 1; empty: atoms as deposited.")
    omit_chains: Words = parameter((), "Chains to leave out of the models; 2:D is chain D of the second model.")
    box_size: int = parameter(
        0, "Box of a particle; 0: that of the map, or what a model needs.", unit="pixels", tab=_SAMPLE, ge=0
    )
    pixel_size: float = parameter(
        0.0, "Pixel size of the images; 0: that of the map.", unit="Å", options=["--angpix"], tab=_SAMPLE, ge=0
    )
    symmetry: str = parameter("C1", "Impose this point group on the map first.", options=["--sym"], tab=_SAMPLE)
    b_factor: float = parameter(
        0.0, "Decay exp(-B k²/4) applied to the map, or added to the atoms' B-factors.", unit="Å²", tab=_SAMPLE
    )
    shares: tuple[float, ...] = parameter(
        (), "Shares of the molecules, maps before models, e.g. 0.5,0.3,0.2; by default equal.", tab="Mixture"
    )


def check_molecules(parameters: MoleculeParameters) -> tuple[float, ...]:
    """Return the shares of the molecules.

    Raises
    ------
    InputError
        If there is no molecule, or shares or chains contradict what there is.
    """
    molecules = len(parameters.map) + len(parameters.model)
    if not molecules:
        raise InputError("give a map with --map or an atomic model with --model")
    if not parameters.model and (parameters.assembly or parameters.omit_chains):
        raise InputError(f"--{'assembly' if parameters.assembly else 'omit_chains'} needs --model")
    if parameters.shares and (len(parameters.shares) != molecules or min(parameters.shares) <= 0):
        raise InputError(f"--shares needs one positive number for each of the {molecules} maps and models")
    return parameters.shares or (1.0,) * molecules


def read_molecules(
    parameters: MoleculeParameters,
    context: Context,
    finish: Callable[[Map, AtomicModel | None, Path], Map] | None = None,
) -> list[Map]:
    """Read the maps and draw the models, maps first; all have the box and the voxel size of the first.

    Parameters
    ----------
    parameters : MoleculeParameters
    context : Context
    finish : callable, optional
        Called with each molecule, its model where it has one, and its file; returns what is to be shown of it.

    Raises
    ------
    InputError
        If a file cannot be read, a model does not fit, a chain to be left out does not exist, or maps cannot be brought
        to one voxel size.
    """
    from vitrea.geometry.symmetry import canonical_name, symmetry_matrices
    from vitrea.maps.transform import symmetrise

    operators = symmetry_matrices(canonical_name(parameters.symmetry))
    omitted = omitted_chains(parameters.omit_chains, len(parameters.model))
    paths = [*parameters.map, *parameters.model]
    found: list[Map] = []
    models: list[AtomicModel | None] = []
    for path in parameters.map:
        found.append(_of_map(parameters, path, found[0] if found else None, context))
        models.append(None)
    for number, path in enumerate(parameters.model, start=1):
        box = parameters.box_size or (found[0].voxels.shape[0] if found else 0)
        density, model = _of_model(parameters, path, omitted[number], box)
        found.append(density)
        models.append(model)
    for path, density in zip(paths, found, strict=True):
        check_same_grid(found[0], paths[0], density, path)
    if finish:
        found = [finish(*each) for each in zip(found, models, paths, strict=True)]
    if len(operators) > 1:
        found = [density.with_voxels(symmetrise(density.voxels, operators)) for density in found]
    return found


def omitted_chains(words: Sequence[str], models: int) -> Mapping[int, frozenset[str]]:
    """Take apart "D" (a chain left out of every model) and "2:D" (out of the second only).

    Returns
    -------
    mapping of int to frozenset of str
        Chains by number of the model, from 1.

    Raises
    ------
    InputError
        If there is no model of that number.
    """
    omitted: dict[int, set[str]] = {number: set() for number in range(1, models + 1)}
    for word in words:
        number, _, chain = word.rpartition(":")
        if number and (not number.isdigit() or int(number) not in omitted):
            raise InputError(f"--omit_chains {word}: there is no model {number}; --model is given {models} times")
        for one in [int(number)] if number else omitted:
            omitted[one].add(chain)
    return {number: frozenset(chains) for number, chains in omitted.items()}


def _of_model(
    parameters: MoleculeParameters, path: Path, omitted: frozenset[str], box_size: int
) -> tuple[Map, AtomicModel]:
    from vitrea.formats.atomic_models import read_atoms
    from vitrea.records.map import Map
    from vitrea.simulate.density import bounding_box_centre, density_from_atoms, sphere_diameter

    atoms = read_atoms(path, parameters.assembly or None)
    unknown = sorted(omitted - set(atoms.chains))
    if unknown:
        raise InputError(f"--omit_chains: {path} has no chain {unknown[0]} (it has: {', '.join(atoms.chains)})")
    kept = atoms.without_chains(omitted)
    if not len(kept):
        raise InputError(f"--omit_chains leaves nothing of {path}")
    box = box_size or 2 * round(0.5 * _ROOM * sphere_diameter(atoms) / parameters.pixel_size)
    try:
        # Centred as the whole is: what is left stays in its place.
        voxels = density_from_atoms(kept, box, parameters.pixel_size, parameters.b_factor, bounding_box_centre(atoms))
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return Map(voxels, parameters.pixel_size), kept


def _of_map(parameters: MoleculeParameters, path: Path, first: Map | None, context: Context) -> Map:
    import torch

    from vitrea.fourier.filters import apply_bfactor
    from vitrea.records.map import Map
    from vitrea.simulate.density import resample_map

    density = read_cubic_map(path)
    wanted = parameters.pixel_size or (first or density).voxel_size
    size = parameters.box_size or (first.voxels.shape[0] if first else 0)
    size = size or round(density.voxels.shape[0] * density.voxel_size / wanted)
    voxels, voxel_size = resample_map(torch.from_numpy(density.voxels), density.voxel_size, size, wanted)
    if abs(voxel_size - wanted) > _RESAMPLING_TOLERANCE * wanted:
        context.recorder.warn(f"{path} is resampled to {voxel_size:.5g} Å, the nearest to {wanted:g} possible")
    if parameters.b_factor:
        voxels = apply_bfactor(voxels, parameters.b_factor, voxel_size)
    return Map(voxels.numpy(), voxel_size)


def make_folder(folder: Path) -> None:
    """Make a folder; InputError where that is not possible."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"cannot make the folder {folder}: {error.strerror}") from error
