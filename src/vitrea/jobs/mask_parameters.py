"""What `vitrea mask` can be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator

from vitrea.jobs.base import JobParameters, parameter
from vitrea.jobs.simulate_molecules import split_words

_SHAPE = "Shape"
_MODEL = "Model"


class MaskParameters(JobParameters):
    """Make a soft mask, as relion_mask_create does, or from an atomic model, or where two maps differ.

    Voxels of a map above a threshold (after an optional low-pass filter, and combined on request with a second map)
    start the mask; it is then extended by a few voxels and given a soft, raised-cosine edge. Without --ini_threshold a
    threshold is chosen and told, the map is filtered to 15 Å first, small pieces are dropped, and extension and edge
    have sensible widths. With --model the mask starts from the atoms of a PDB or mmCIF file, with --difference from
    where the input and another map differ, with --denovo it is a sphere, a shell, a cylinder or a tube.
    """

    input: Path | None = parameter(None, "Map to mask.", options=["--i"], positional=True)
    output: Path = parameter(Path("mask.mrc"), "Mask to write.", options=["--o"], positional=True)
    threshold: float | None = parameter(
        None,
        "Grey value above which voxels start the mask; by default it is chosen.",
        options=["--ini_threshold"],
        tab="Mask",
    )
    extend: float | None = parameter(
        None,
        "Extend the mask by this distance (negative: shrink it); by default 0 with --ini_threshold, else 7.5 Å.",
        unit="voxels",
        options=["--extend_inimask"],
        tab="Mask",
    )
    soft_edge: float | None = parameter(
        None,
        "Width of the soft edge; by default 0 with --ini_threshold and --denovo, else 15 Å, at least 5 voxels.",
        unit="voxels",
        options=["--width_soft_edge"],
        tab="Mask",
        ge=0,
    )
    lowpass: float | None = parameter(
        None,
        "Low-pass filter the input map to this resolution first; 0 or less: no filter; by default none with "
        "--ini_threshold, else 15 Å.",
        unit="Å",
        tab="Mask",
    )
    pixel_size: float = parameter(
        0.0, "Voxel size; 0: from the map's header.", unit="Å", options=["--angpix"], tab="Mask", ge=0
    )
    invert: bool = parameter(False, "Write one minus the mask.", tab="Mask")
    picture: Path | None = parameter(None, "Draw slices of the map with the outline of the mask (PNG).", tab="Mask")
    and_map: Path | None = parameter(
        None, "Start from voxels above threshold in both maps.", options=["--and"], tab="Logic"
    )
    or_map: Path | None = parameter(
        None, "Start from voxels above threshold in either map.", options=["--or"], tab="Logic"
    )
    and_not_map: Path | None = parameter(
        None,
        "Start from voxels above threshold in the input and not in this map.",
        options=["--and_not"],
        tab="Logic",
    )
    or_not_map: Path | None = parameter(
        None,
        "Start from voxels above threshold in the input, or not above it in this map.",
        options=["--or_not"],
        tab="Logic",
        expert=True,
    )
    logic_threshold: float | None = parameter(
        None, "Threshold of that map; by default 0.5 if it is a mask, else that of the input.", tab="Logic"
    )
    difference: Path | None = parameter(
        None, "Start from where the input and this map differ, for focussed classification.", tab="Difference"
    )
    difference_sign: Literal["both", "positive", "negative"] = parameter(
        "both", "Where the input has more (positive), less (negative), or either.", tab="Difference"
    )
    model: Path | None = parameter(None, "Start from the atoms of this PDB or mmCIF file.", tab=_MODEL)
    like: Path | None = parameter(
        None, "Map that gives box, voxel size and origin to a mask of a model or a shape.", tab=_MODEL
    )
    atom_radius: float = parameter(3.0, "Distance from an atom up to which is inside.", unit="Å", tab=_MODEL, gt=0)
    chains: Annotated[tuple[str, ...], BeforeValidator(split_words)] = parameter(
        (), "Chains to take, e.g. A,B; by default all.", tab=_MODEL
    )
    assembly: str = parameter("", "Biological assembly to build, e.g. 1; empty: atoms as deposited.", tab=_MODEL)
    centre_model: bool = parameter(
        False, "Put the middle of the model (of all its chains) in that of the box, wherever it lies.", tab=_MODEL
    )
    denovo: bool = parameter(False, "Make a sphere, shell, cylinder or tube instead of masking a map.", tab=_SHAPE)
    box_size: int = parameter(0, "Box size of a mask without --i or --like.", unit="voxels", tab=_SHAPE, ge=0)
    inner_radius: float = parameter(0.0, "Inner radius; above 0: hollow.", unit="voxels", tab=_SHAPE)
    outer_radius: float = parameter(0.0, "Outer radius.", unit="voxels", tab=_SHAPE)
    center_x: float = parameter(0.0, "Centre of the shape from the middle of the box.", unit="voxels", tab=_SHAPE)
    center_y: float = parameter(0.0, "Centre of the shape from the middle of the box.", unit="voxels", tab=_SHAPE)
    center_z: float = parameter(0.0, "Centre of the shape from the middle of the box.", unit="voxels", tab=_SHAPE)
    cylinder: bool = parameter(False, "Make the shape a cylinder.", tab=_SHAPE)
    cylinder_length: float = parameter(
        0.0, "Length of the cylinder; 0: through the whole box.", unit="voxels", tab=_SHAPE, ge=0
    )
    cylinder_axis: Annotated[tuple[float, ...], BeforeValidator(split_words)] = parameter(
        (0.0, 0.0, 1.0), "Direction of its axis, x,y,z.", tab=_SHAPE
    )
    helix: bool = parameter(False, "Keep the central part along z only, for helices.", tab="Helix", expert=True)
    z_percentage: float = parameter(0.3, "Share of the box along z to keep.", tab="Helix", expert=True, gt=0, lt=1)
