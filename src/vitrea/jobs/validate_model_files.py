"""The files of a comparison of map and model: curves, chains, residues, densities, pictures, a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.atomic_models import write_moved_atoms
from vitrea.formats.fsc_tables import shell_columns
from vitrea.formats.mrc import write_map
from vitrea.formats.star import write_star
from vitrea.formats.star_values import text_column
from vitrea.jobs.base import Context
from vitrea.maps.half_maps import FSC_HALF, FSC_THRESHOLD
from vitrea.maps.model_map import as_seen, correlations_of_parts
from vitrea.records.table import Table
from vitrea.report.figures import fsc_curves, map_slices
from vitrea.report.figures.residues import residue_correlations
from vitrea.report.page import Section, write_page
from vitrea.report.png import save_png

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from vitrea.jobs.validate_model import ModelInputs, Placed, ValidateModelParameters
    from vitrea.maps.model_map import ModelFsc

_WATERS = ("HOH", "WAT", "DOD")
_SMALLEST_RADIUS, _SMALLEST_VOXELS = 2.0, 1.5  # Å; and voxels: fewer than a dozen values are no correlation
_LARGEST_RADIUS = 10.0  # Å; beyond it a residue shares most voxels with its neighbours
_GAP = 0.02  # mean FSC by which a model may agree better with the map it was refined into
_UNKNOWN = -1.0  # correlation that is written where there is none

_FSC_TEXT = (
    "A model that is right, and a map without noise, agree in all shells. Noise lets the curve fall: through 0.5 about "
    "where the half maps' own FSC falls through 0.143. A curve that falls much earlier than what a perfect model would "
    "reach means that the model does not explain the map, or does not lie in it. A dip at low resolution is the "
    "solvent, of which models know little."
)
_PART_TEXT = (
    "The correlation of the map with the model's density, as the map would show it, around the atoms of each residue "
    "(broken line: the median of the chain). Residues far below their neighbours deserve a look: disorder, a wrong "
    "rotamer, a shift of register."
)


@dataclass(frozen=True)
class Parts:
    """Correlations of chains and residues, waters left out; in the order of the file."""

    chains: list[str]
    chain_values: NDArray[np.float64]
    residue_chains: list[str]
    residues: list[str]
    residue_values: NDArray[np.float64]

    def of_chain(self, name: str) -> NDArray[np.float64]:
        """Return the correlations of a chain's residues."""
        return self.residue_values[[chain == name for chain in self.residue_chains]]


def write_results(
    parameters: ValidateModelParameters,
    inputs: ModelInputs,
    placed: Placed,
    mask: NDArray[np.float32],
    fsc: ModelFsc,
    context: Context,
) -> None:
    """Write all files and say what was found."""
    folder, density = parameters.output, inputs.density
    seen = as_seen(placed.density, density.voxels, mask)
    parts = _correlate_parts(parameters, inputs, placed, seen, fsc.resolution_at(FSC_HALF))
    figures = general_figures(parameters, inputs, placed, mask, fsc, seen)
    write_map(folder / "model.mrc", density.with_voxels(seen))
    write_map(folder / "mask.mrc", density.with_voxels(mask))
    if placed.is_moved:
        # From the centre of the box to where the header counts from: the file opens in place beside the map.
        centre = np.array(density.origin) + len(density.voxels) // 2 * density.voxel_size
        write_moved_atoms(folder / "model_fitted.cif", parameters.model, placed.rotation, placed.shift + centre)
    blocks: dict[str, Table | dict[str, Any]] = {
        "general": figures,
        "fsc": _fsc_table(fsc),
        "chains": _chain_table(parts),
    }
    if parts.residues:
        blocks["residues"] = _residue_table(parts)
    write_star(folder / "model_fsc.star", blocks, comment=context.command)
    lead = f"Map and model agree {_reach(fsc, FSC_HALF)} (FSC = 0.5), {_reach(fsc, FSC_THRESHOLD)} (0.143)."
    _write_report(parameters, inputs, placed, fsc, figures, seen, parts, lead)
    _tell(placed, fsc, figures, lead, context)


def general_figures(
    parameters: ValidateModelParameters,
    inputs: ModelInputs,
    placed: Placed,
    mask: NDArray[np.float32],
    fsc: ModelFsc,
    seen: NDArray[np.float32],
) -> dict[str, Any]:
    """Return the block ``general``: what was compared, and the single figures."""
    inside = mask > 0.5 * mask.max()
    block: dict[str, Any] = {
        "vitreaMap": inputs.name,
        "vitreaModel": str(parameters.model),
        "vitreaModelAtoms": len(placed.atoms),
        "vitreaModelFrame": placed.frame,
        "vitreaModelTurn": float(np.degrees(np.arccos(np.clip((np.trace(placed.rotation) - 1) / 2, -1, 1)))),
        "vitreaResolutionModelFsc05": fsc.resolution_at(FSC_HALF),
        "vitreaResolutionModelFsc0143": fsc.resolution_at(FSC_THRESHOLD),
        "vitreaModelCorrelation": float(np.corrcoef(seen[inside], inputs.density.voxels[inside])[0, 1]),
    }
    for axis, value in zip("XYZ", placed.shift.tolist(), strict=True):
        block[f"vitreaModelShift{axis}"] = value
    reference = fsc.resolution_at(FSC_HALF)
    if fsc.halves is not None and fsc.work is not None and fsc.free is not None:
        reference = fsc.resolution_at(FSC_THRESHOLD, fsc.halves)
        block["vitreaResolutionHalfMaps0143"] = reference
        block["vitreaFscWork"], block["vitreaFscFree"] = (fsc.mean(one, reference) for one in (fsc.work, fsc.free))
    block["vitreaMeanFscResolution"] = reference
    block["vitreaMeanFsc"] = fsc.mean(fsc.masked, reference)
    if placed.hand is not None:
        block["vitreaHand"] = placed.hand.verdict
        block["vitreaHandDifference"] = placed.hand.difference
    return block


def _reach(fsc: ModelFsc, threshold: float) -> str:
    """Say how far the FSC stays above a threshold."""
    if (fsc.masked[1:] >= threshold).all():
        return f"up to Nyquist, {2 * fsc.voxel_size:.2f} Å,"
    return f"to {fsc.resolution_at(threshold):.2f} Å"


def residue_radius(resolution: float, voxel_size: float) -> float:
    """Return the distance (Å) from a residue's atoms that counts for it: half the resolution, if that is sensible."""
    finite = resolution if np.isfinite(resolution) else 4 * voxel_size
    return max(_SMALLEST_RADIUS, min(finite / 2, _LARGEST_RADIUS), _SMALLEST_VOXELS * voxel_size)


def _correlate_parts(
    parameters: ValidateModelParameters,
    inputs: ModelInputs,
    placed: Placed,
    seen: NDArray[np.float32],
    resolution: float,
) -> Parts:
    voxel_size = inputs.density.voxel_size
    radius = parameters.residue_radius or residue_radius(resolution, voxel_size)
    chains, residues = placed.atoms.chain_names, placed.atoms.residue_names
    names = residues if residues is not None else np.full(len(chains), "", dtype=object)
    kept = np.array([str(name).split(" ")[0] not in _WATERS for name in names], dtype=bool)
    positions = placed.atoms.positions[kept] / voxel_size
    keys = [(str(chain), str(name)) for chain, name in zip(chains[kept], names[kept], strict=True)]

    def correlations(labels: list[Any]) -> tuple[list[Any], NDArray[np.float64]]:
        order = {label: number for number, label in enumerate(dict.fromkeys(labels))}
        parts = np.array([order[label] for label in labels], dtype=np.int64)
        return list(order), correlations_of_parts(seen, inputs.density.voxels, positions, parts, radius / voxel_size)

    chain_names, chain_values = correlations([chain for chain, _ in keys])
    if residues is None:
        return Parts(chain_names, chain_values, [], [], np.zeros(0))
    pairs, values = correlations(keys)
    return Parts(chain_names, chain_values, [chain for chain, _ in pairs], [name for _, name in pairs], values)


def _fsc_table(fsc: ModelFsc) -> Table:
    columns = {
        **shell_columns(fsc.size, fsc.voxel_size),
        "vitreaModelFscMasked": fsc.masked,
        "vitreaModelFscUnmasked": fsc.unmasked,
        "vitreaModelFscWork": fsc.work,
        "vitreaModelFscFree": fsc.free,
        "vitreaModelFscExpected": fsc.expected,
        "rlnFourierShellCorrelationMaskedMaps": fsc.halves,
    }
    return Table({name: column for name, column in columns.items() if column is not None})


def _chain_table(parts: Parts) -> Table:
    medians = [np.nanmedian(values) if np.isfinite(values := parts.of_chain(name)).any() else np.nan
               for name in parts.chains]  # fmt: skip
    return Table(
        {
            "vitreaChain": text_column(parts.chains),
            "vitreaRealSpaceCorrelation": _known(parts.chain_values),
            "vitreaMedianOfResidues": _known(np.array(medians)),
        }
    )


def _residue_table(parts: Parts) -> Table:
    names = [name.split(" ") for name in parts.residues]
    return Table(
        {
            "vitreaChain": text_column(parts.residue_chains),
            "vitreaResidueNumber": text_column([words[-1] for words in names]),
            "vitreaResidueName": text_column([words[0] for words in names]),
            "vitreaRealSpaceCorrelation": _known(parts.residue_values),
        }
    )


def _known(values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.where(np.isfinite(values), values, _UNKNOWN)


def _write_report(
    parameters: ValidateModelParameters,
    inputs: ModelInputs,
    placed: Placed,
    fsc: ModelFsc,
    figures: dict[str, Any],
    seen: NDArray[np.float32],
    parts: Parts,
    lead: str,
) -> None:
    folder, voxel_size = parameters.output, inputs.density.voxel_size
    curves = _draw_curves(fsc)
    slices = map_slices(inputs.density.voxels, voxel_size), map_slices(seen, voxel_size)
    residues = residue_correlations({name: parts.of_chain(name) for name in parts.chains if len(parts.of_chain(name))})
    for name, figure in (("fsc", curves), ("map_slices", slices[0]), ("model_slices", slices[1]),
                         ("residues", residues)):  # fmt: skip
        save_png(figure, folder / f"{name}.png")
    sections = [
        Section("Agreement", _FSC_TEXT, _facts(placed, figures), [(curves, "FSC of the model with the map")]),
        Section(
            "Side by side",
            "Central slices of the map, and of the model's density with each shell as strong as the map has it.",
            figures=[(slices[0], "Map"), (slices[1], "Model")],
        ),
        Section("Chains and residues", _PART_TEXT, _worst(parts), [(residues, "Correlation of each residue")]),
    ]
    if placed.hand is not None:
        same, mirrored = placed.hand.same_fsc, placed.hand.mirrored_fsc
        figure = fsc_curves({"as it is": same, "mirror image": mirrored}, fsc.voxel_size, fsc.size, (0.5, 0.143))
        sections.insert(1, Section("Hand", _hand_text(placed.hand.verdict), figures=[(figure, "FSC with both hands")]))
    write_page(folder / "report.html", f"{parameters.model} in {inputs.name}", lead, sections)


def _draw_curves(fsc: ModelFsc) -> Figure:
    curves = {"in the mask": fsc.masked, "whole box": fsc.unmasked}
    if fsc.work is not None and fsc.free is not None and fsc.expected is not None:
        curves = {
            "in the mask": fsc.masked,
            "half map 1 (work)": fsc.work,
            "half map 2 (free)": fsc.free,
            "a perfect model": fsc.expected,
        }
    end = None if (fsc.masked[1:] >= FSC_HALF).all() else fsc.resolution_at(FSC_HALF)
    return fsc_curves(curves, fsc.voxel_size, fsc.size, (0.5, 0.143), resolution=end)


def _facts(placed: Placed, figures: dict[str, Any]) -> dict[str, str]:
    from vitrea.jobs.validate_model import FRAME_NAMES

    facts = {
        "atoms": f"{figures['vitreaModelAtoms']}",
        "resolution at FSC 0.5, 0.143": f"{figures['vitreaResolutionModelFsc05']:.2f} Å, "
        f"{figures['vitreaResolutionModelFsc0143']:.2f} Å",
        "mean FSC": f"{figures['vitreaMeanFsc']:.3f} to {figures['vitreaMeanFscResolution']:.2f} Å",
        "correlation in the mask": f"{figures['vitreaModelCorrelation']:.3f}",
        "coordinates counted from": FRAME_NAMES[placed.frame],
        "turned by": f"{figures['vitreaModelTurn']:.2f}°",
    }
    if "vitreaFscWork" in figures:
        facts["mean FSC work, free"] = f"{figures['vitreaFscWork']:.3f}, {figures['vitreaFscFree']:.3f}"
    return facts


def _worst(parts: Parts) -> dict[str, str]:
    facts = {f"chain {name}": f"{value:.3f}" for name, value in zip(parts.chains, parts.chain_values, strict=True)}
    facts = dict(list(facts.items())[:30])
    known = np.flatnonzero(np.isfinite(parts.residue_values))
    order = known[np.argsort(parts.residue_values[known])][:10]
    listed = ", ".join(f"{parts.residue_chains[i]} {parts.residues[i]} ({parts.residue_values[i]:.2f})" for i in order)
    return {**facts, "lowest residues": listed or "none"}


def _hand_text(verdict: str) -> str:
    verdicts = {
        "right": "The map as it is fits the model better than its mirror image: the hand is right.",
        "wrong": "The mirror image of the map fits the model better: the map has the wrong hand.",
        "unclear": "Both hands fit about as well: the map does not tell its hand, or the model does not lie in it.",
    }
    return verdicts[verdict]


def _tell(placed: Placed, fsc: ModelFsc, figures: dict[str, Any], lead: str, context: Context) -> None:
    recorder = context.recorder
    work, free = figures.get("vitreaFscWork"), figures.get("vitreaFscFree")
    if work is not None and free is not None and work - free > _GAP:
        recorder.warn(
            f"the model agrees better with the first half map ({work:.3f}) than with the second ({free:.3f}): if it "
            "was refined into the first, it is over-fitted"
        )
    if not np.isfinite(fsc.resolution_at(FSC_HALF)):
        recorder.warn("map and model do not agree in the first shell already: they do not lie in the same place")
    recorder.event("validate model", **{name: value for name, value in figures.items() if isinstance(value, float)})
    hand = f" {_hand_text(placed.hand.verdict)}" if placed.hand is not None else ""
    recorder.event("text", text=lead + hand)
