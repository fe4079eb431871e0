"""The molecules that `vitrea simulate particles` shows: maps and models, in one box and with one voxel size."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from vitrea.jobs.map_inputs import check_same_grid, read_cubic_map
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from vitrea.jobs.base import Context
    from vitrea.jobs.simulate_particles import SimulateParameters
    from vitrea.records.map import Map

_RESAMPLING_TOLERANCE = 1e-3


def read_molecules(parameters: SimulateParameters, context: Context) -> list[Map]:
    """Read the maps and draw the models, maps first; all have the box and the voxel size of the first.

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
    found: list[Map] = []
    for path in parameters.map:
        found.append(_of_map(parameters, path, found[0] if found else None, context))
        check_same_grid(found[0], parameters.map[0], found[-1], path)
    for number, path in enumerate(parameters.model, start=1):
        found.append(_of_model(parameters, path, omitted[number]))
        check_same_grid(found[0], [*parameters.map, *parameters.model][0], found[-1], path)
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


def _of_model(parameters: SimulateParameters, path: Path, omitted: frozenset[str]) -> Map:
    from vitrea.formats.atomic_models import read_atoms
    from vitrea.records.map import Map
    from vitrea.simulate.density import bounding_box_centre, density_from_atoms

    atoms = read_atoms(path, parameters.assembly or None)
    unknown = sorted(omitted - set(atoms.chains))
    if unknown:
        raise InputError(f"--omit_chains: {path} has no chain {unknown[0]} (it has: {', '.join(atoms.chains)})")
    kept = atoms.without_chains(omitted)
    if not len(kept):
        raise InputError(f"--omit_chains leaves nothing of {path}")
    try:
        # Centred as the whole is: what is left stays in its place.
        voxels = density_from_atoms(
            kept, parameters.box_size, parameters.pixel_size, parameters.b_factor, bounding_box_centre(atoms)
        )
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    return Map(voxels, parameters.pixel_size)


def _of_map(parameters: SimulateParameters, path: Path, first: Map | None, context: Context) -> Map:
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
