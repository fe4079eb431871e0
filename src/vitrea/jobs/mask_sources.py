"""What a mask starts from: a map and its threshold, a difference of maps, an atomic model, a shape."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrea.jobs.base import Context
from vitrea.jobs.map_inputs import check_same_grid, read_cubic_map
from vitrea.jobs.mask_parameters import MaskParameters
from vitrea.records.errors import InputError
from vitrea.records.map import Map

if TYPE_CHECKING:
    from vitrea.records.atomic_model import AtomicModel

Binary = NDArray[np.bool_]

_PIECE = 0.1  # of the largest piece; smaller ones of a threshold that was chosen are dropped
_IS_MASK = 1e-3


@dataclass(frozen=True)
class Start:
    """Where a mask starts.

    Attributes
    ----------
    binary : ndarray of bool, shape [n, n, n]
    grid : Map
        The map it lies on, or an empty one with its scale.
    automatic : bool
        Whether extension and edge that are not given get widths of their own.
    words : str
        How it was made.
    """

    binary: Binary
    grid: Map
    automatic: bool
    words: str


def find_start(parameters: MaskParameters, context: Context) -> Start:
    """Read the files and return where the mask starts, logic applied.

    Raises
    ------
    InputError
        If files cannot be read or do not fit each other, or nothing or everything is inside.
    """
    if parameters.model is not None:
        start = _of_model(parameters, parameters.model, context)
    elif parameters.input is None:
        raise InputError("give the map to mask with --i, or --model for atoms, or --denovo for a sphere or a cylinder")
    elif parameters.difference is not None:
        start = _of_difference(parameters, parameters.input, parameters.difference, context)
    else:
        start = _of_map(parameters, parameters.input, context)
    start = _combined(parameters, start)
    if not start.binary.any() or start.binary.all():
        inside = "every" if start.binary.any() else "no"
        raise InputError(f"{start.words}: that leaves {inside} voxel in the mask{_grey_values(start)}")
    return start


def _grey_values(start: Start) -> str:
    low, high = start.grid.voxels.min(), start.grid.voxels.max()
    return f"; grey values run from {low:.4g} to {high:.4g}" if high > low else ""


def _filtered(density: Map, resolution: float) -> tuple[NDArray[Any], str]:
    from vitrea.maps.masking import lowpass_density

    if resolution <= 0:
        return density.voxels, ""
    return lowpass_density(density.voxels, resolution, density.voxel_size), f", low-pass filtered to {resolution:g} Å"


def _own_filter(parameters: MaskParameters, voxel_size: float) -> float:
    """Resolution of the filter where nothing else is said: 15 Å, no finer than four voxels."""
    from vitrea.maps.automatic_mask import LOWPASS

    return max(LOWPASS, 4 * voxel_size) if parameters.lowpass is None else parameters.lowpass


def _of_map(parameters: MaskParameters, path: Path, context: Context) -> Start:
    from vitrea.maps.automatic_mask import choose_threshold
    from vitrea.maps.masking import keep_large_pieces

    density = read_cubic_map(path, parameters.pixel_size, context.recorder)
    if parameters.threshold is not None:
        voxels, how = _filtered(density, parameters.lowpass or 0.0)
        words = f"--ini_threshold {parameters.threshold:g} of {path}{how}"
        return Start(voxels > parameters.threshold, density.with_voxels(voxels), False, words)
    voxels, how = _filtered(density, _own_filter(parameters, density.voxel_size))
    try:
        threshold = choose_threshold(voxels)
    except ValueError as error:
        raise InputError(f"{path}: {error} with --ini_threshold") from error
    binary = keep_large_pieces(voxels > threshold, _PIECE)
    return Start(binary, density.with_voxels(voxels), True, f"threshold {threshold:.5g} (chosen) of {path}{how}")


def _of_difference(parameters: MaskParameters, path: Path, other_path: Path, context: Context) -> Start:
    from vitrea.maps.mask_sources import difference_threshold, scaled_difference
    from vitrea.maps.masking import keep_large_pieces

    first = read_cubic_map(path, parameters.pixel_size, context.recorder)
    second = read_cubic_map(other_path, parameters.pixel_size)
    check_same_grid(first, path, second, other_path)
    resolution = _own_filter(parameters, first.voxel_size)
    try:
        difference = scaled_difference(_filtered(first, resolution)[0], _filtered(second, resolution)[0])
        threshold = difference_threshold(difference) if parameters.threshold is None else parameters.threshold
    except ValueError as error:
        raise InputError(f"--difference {other_path} of {path}: {error}") from error
    signed = {"both": np.abs(difference), "positive": difference, "negative": -difference}[parameters.difference_sign]
    binary = signed > threshold
    how = _filtered(first, resolution)[1]
    words = f"difference of {path} and {other_path}{how}, beyond {threshold:.5g}"
    if parameters.threshold is None:
        binary, words = keep_large_pieces(binary, _PIECE), f"{words} (chosen)"
    return Start(binary, first.with_voxels(signed), parameters.threshold is None, words)


def empty_grid(parameters: MaskParameters, what: str) -> Map:
    """Return the grid of a mask that starts from no map: that of --like, or --box_size and --angpix."""
    if parameters.like is not None:
        like = read_cubic_map(parameters.like, parameters.pixel_size)
        return like.with_voxels(np.zeros_like(like.voxels))
    if parameters.box_size < 1:
        raise InputError(f"{what} needs --like, a map whose box the mask gets, or --box_size, in voxels")
    return Map(np.zeros((parameters.box_size,) * 3, dtype=np.float32), parameters.pixel_size or 1.0)


def _of_model(parameters: MaskParameters, path: Path, context: Context) -> Start:
    from vitrea.maps.mask_sources import atoms_binary
    from vitrea.maps.masking import lowpass_density

    if parameters.input is not None or parameters.difference is not None:
        raise InputError("--model starts the mask from atoms: give the map whose box it gets with --like, not with --i")
    grid = empty_grid(parameters, "--model")
    if parameters.like is None and not parameters.pixel_size:
        raise InputError("--model with --box_size needs the voxel size, --angpix")
    model, middle = _read_model(parameters, path)
    positions = model.positions
    edge, size = grid.voxel_size, grid.voxels.shape[0]
    if parameters.centre_model:
        positions = positions - middle + np.asarray(grid.origin) + size // 2 * edge
    try:
        binary = atoms_binary(positions, size, edge, parameters.atom_radius, grid.origin)
    except ValueError as error:
        raise InputError(f"{path}: {error}; give the map it was fitted to with --like, or --centre_model") from error
    inside = ((positions >= grid.origin) & (positions < np.asarray(grid.origin) + size * edge)).all(axis=1)
    if not inside.all():
        context.recorder.warn(f"{path}: {(~inside).sum()} of {len(inside)} atoms lie outside the box")
    words = f"{len(model)} atoms of {path}, {parameters.atom_radius:g} Å about each"
    if parameters.lowpass is not None and parameters.lowpass > 0:
        smooth = lowpass_density(binary.astype(np.float32), parameters.lowpass, edge)
        binary, words = smooth > 0.5, f"{words}, smoothed to {parameters.lowpass:g} Å"
    return Start(binary, grid, True, words)


def _read_model(parameters: MaskParameters, path: Path) -> tuple[AtomicModel, NDArray[np.float64]]:
    """Return the atoms of the chains asked for, and the middle of all chains, (x, y, z) in Å."""
    from vitrea.formats.atomic_models import read_atoms

    model = read_atoms(path, parameters.assembly or None)
    middle = np.asarray(model.positions.min(axis=0) + model.positions.max(axis=0), dtype=np.float64) / 2
    if not parameters.chains:
        return model, middle
    for name in parameters.chains:
        if name not in model.chains:
            raise InputError(f"--chains: {path} has no chain {name} (it has: {', '.join(model.chains)})")
    return model.without_chains([name for name in model.chains if name not in parameters.chains]), middle


def _combined(parameters: MaskParameters, start: Start) -> Start:
    """Combine where the mask starts with a second map."""
    from vitrea.maps.masking import LOGIC

    logic = {name: getattr(parameters, f"{name}_map") for name in LOGIC}
    chosen = [(name, path) for name, path in logic.items() if path is not None]
    if len(chosen) > 1:
        raise InputError(f"give one of --{' and --'.join(name for name, _ in chosen)}, not several")
    if not chosen:
        return start
    name, path = chosen[0]
    other = read_cubic_map(path, parameters.pixel_size)
    check_same_grid(start.grid, parameters.input or parameters.like or path, other, path)
    threshold = _second_threshold(parameters, other, path)
    combined = LOGIC[name](start.binary, other.voxels > threshold)
    return replace(start, binary=combined, words=f"{start.words}, {name} {path} above {threshold:g}")


def _second_threshold(parameters: MaskParameters, other: Map, path: Path) -> float:
    if parameters.logic_threshold is not None:
        return parameters.logic_threshold
    if parameters.threshold is not None and parameters.difference is None:
        return parameters.threshold  # as RELION
    if abs(float(other.voxels.min())) < _IS_MASK and abs(float(other.voxels.max()) - 1) < _IS_MASK:
        return 0.5
    raise InputError(f"{path} is no mask: say with --logic_threshold above which grey value it counts")
