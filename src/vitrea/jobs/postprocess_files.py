"""The files of post-processing: maps, RELION's post.star, the FSC for EMDB, plots and the report."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.atomic import atomic_path
from vitrea.formats.fsc_tables import NO_RESOLUTION, shell_columns
from vitrea.formats.mrc import write_map
from vitrea.formats.star import write_star
from vitrea.formats.star_values import text_column
from vitrea.fourier.fsc import shell_resolution
from vitrea.maps.automatic_mask import AutomaticMask
from vitrea.maps.fsc_checks import Finding
from vitrea.maps.half_maps import FSC_HALF, FSC_THRESHOLD, HalfMapFsc
from vitrea.maps.postprocess import Postprocessed, sharpen_half
from vitrea.maps.sharpening import SharpeningSettings
from vitrea.records.map import Map
from vitrea.records.recorder import Recorder
from vitrea.records.table import Table


@dataclass(frozen=True)
class MaskUsed:
    """A solvent mask, its file, and how it was made where that was done here."""

    voxels: NDArray[np.float32]
    name: str
    made: AutomaticMask | None = None


def with_ending(output: Path, ending: str) -> Path:
    """Return the name of an output file."""
    return output.with_name(output.name + ending)


def write_all(
    output: Path,
    like: Map,
    result: Postprocessed,
    settings: SharpeningSettings,
    mask: MaskUsed | None,
    half_paths: tuple[Path, Path],
    halves: Sequence[Map],
    findings: Sequence[Finding],
    command: str,
) -> None:
    """Write all files of a post-processing.

    Parameters
    ----------
    output : Path
        Start of their names.
    like : Map
        A half map, for the scale.
    result, settings, mask, findings
        What was found, and how.
    half_paths : tuple of Path
        Of the half maps.
    halves : sequence of Map
        The half maps where they are to be written, treated as the map was; else empty.
    command : str
        For the head of the STAR file.
    """
    from vitrea.jobs.postprocess_report import write_pictures

    used = mask if result.masked is not None else None
    names = {
        "rlnUnfilteredMapHalf1": str(half_paths[0]),
        "rlnUnfilteredMapHalf2": str(half_paths[1]),
        "rlnPostprocessedMap": str(with_ending(output, ".mrc")),
    }
    write_map(with_ending(output, ".mrc"), like.with_voxels(result.density))
    if used is not None:
        names["rlnMaskName"] = used.name
        names["rlnPostprocessedMapMasked"] = str(with_ending(output, "_masked.mrc"))
        write_map(with_ending(output, "_masked.mrc"), like.with_voxels(used.voxels * result.density))
    if mask is not None and mask.made is not None:
        write_map(with_ending(output, "_automask.mrc"), like.with_voxels(mask.voxels))
    for number, half in enumerate(halves, start=1):
        density = sharpen_half(half.voxels, result, settings)
        write_map(with_ending(output, f"_half{number}.mrc"), like.with_voxels(density))
        if used is not None:
            write_map(with_ending(output, f"_half{number}_masked.mrc"), like.with_voxels(used.voxels * density))
    blocks: dict[str, Table | Mapping[str, object]] = {
        "general": general_block(result, names, mask),
        "fsc": fsc_table(result),
        "guinier": guinier_table(result),
        "resolutions": resolutions_table(result),
        "noise": noise_table(result),
    }
    write_star(with_ending(output, ".star"), blocks, comment=command)
    write_fsc_xml(with_ending(output, "_fsc.xml"), result)
    write_pictures(output, like.voxel_size, result, mask, findings, command)


def general_block(result: Postprocessed, names: dict[str, str], mask: MaskUsed | None) -> dict[str, object]:
    """Return the block ``general`` of RELION's post.star; `names` holds the labels of files.

    Where no resolution is claimed ``rlnFinalResolution`` is 999 Å: a number that is worse than any for whoever sorts or
    compares it, and what RELION starts from.
    """
    fsc, fit = result.fsc, result.guinier.fit
    block: dict[str, object] = {
        "rlnFinalResolution": min(fsc.resolution, NO_RESOLUTION),
        "rlnBfactorUsedForSharpening": result.bfactor,
        **names,
    }
    if fsc.particle_fraction is not None:
        block["rlnParticleBoxFractionSolventMask"] = fsc.particle_fraction
    if fsc.weight_fraction is not None:
        block["rlnParticleBoxFractionMolecularWeight"] = fsc.weight_fraction
    if fsc.randomised_from is not None:
        block["rlnRandomiseFrom"] = fsc.size * fsc.voxel_size / fsc.randomised_from
        if fsc.draws != 1:  # RELION's
            block["vitreaRandomPhaseDraws"] = fsc.draws
    if fit is not None:
        block["rlnFittedSlopeGuinierPlot"] = fit.slope
        block["rlnFittedInterceptGuinierPlot"] = fit.intercept
        block["rlnCorrelationFitGuinierPlot"] = fit.correlation
    if mask is not None and mask.made is not None:
        block["vitreaMaskThreshold"] = mask.made.threshold
        block["vitreaMaskThresholdChosen"] = int(mask.made.chosen)
        block["vitreaMaskLowPass"] = mask.made.lowpass
        block["vitreaMaskExtendPixels"] = mask.made.extend_pixels
        block["vitreaMaskEdgePixels"] = mask.made.soft_edge_pixels
    return block


def _present(columns: dict[str, Any]) -> Table:
    return Table({name: column for name, column in columns.items() if column is not None})


def fsc_table(result: Postprocessed) -> Table:
    """Return the block ``fsc`` of RELION's post.star: one row a shell.

    Where the mask was set aside the corrected curve is the unmasked one; the others are there still, as in RELION.
    """
    fsc = result.measured
    return _present(
        {
            **shell_columns(fsc.size, fsc.voxel_size),
            "rlnFourierShellCorrelationCorrected": result.fsc.corrected,
            "rlnFourierShellCorrelationParticleMaskFraction": fsc.particle,
            "rlnFourierShellCorrelationParticleMolWeight": fsc.weighed,
            "rlnFourierShellCorrelationUnmaskedMaps": fsc.unmasked,
            "rlnFourierShellCorrelationMaskedMaps": fsc.masked,
            "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps": fsc.randomised,
        }
    )


def noise_table(result: Postprocessed) -> Table:
    """Return the block ``noise``: what the corrected FSC of pure noise would scatter by, one row a shell."""
    fsc = result.fsc
    return _present({"rlnSpectralIndex": np.arange(len(fsc.unmasked)), "vitreaFscNoiseDeviation": fsc.noise})


def guinier_table(result: Postprocessed) -> Table:
    """Return the block ``guinier`` of RELION's post.star: one row a shell."""
    plot = result.guinier
    return _present(
        {
            "rlnResolutionSquared": plot.resolution_squared,
            "rlnLogAmplitudesOriginal": plot.original,
            "rlnLogAmplitudesMTFCorrected": plot.mtf_corrected,
            "rlnLogAmplitudesWeighted": plot.weighted,
            "rlnLogAmplitudesSharpened": plot.sharpened,
            "rlnLogAmplitudesIntercept": None if plot.fit is None else np.full(len(plot.original), plot.fit.intercept),
        }
    )


def crossings(result: Postprocessed) -> dict[str, dict[float, float | None]]:
    """Return where each curve falls below 0.5 and 0.143, interpolated, in Å; None where it does not."""
    fsc = result.measured
    return {
        name: {threshold: fsc.crossing(curve, threshold) for threshold in (FSC_HALF, FSC_THRESHOLD)}
        for name, curve in fsc.curves.items()
    }


def resolutions_table(result: Postprocessed) -> Table:
    """Return the block ``resolutions``: each curve and threshold, and the resolution interpolated between shells.

    -1 stands for a curve that stays above up to Nyquist, 999 for one that is below from the first shell on.
    """
    rows = [(name, level, at) for name, found in crossings(result).items() for level, at in found.items()]
    return Table(
        {
            "vitreaFscCurve": text_column([name for name, _, _ in rows]),
            "vitreaFscThreshold": np.array([level for _, level, _ in rows]),
            "rlnAngstromResolution": np.array([-1.0 if at is None else min(at, NO_RESOLUTION) for _, _, at in rows]),
        }
    )


def crossing_words(at: float | None, voxel_size: float) -> str:
    """Return a resolution in words."""
    if at is None:
        return f"beyond Nyquist ({2 * voxel_size:.2f} Å)"
    return f"{at:.2f} Å" if np.isfinite(at) else "at no resolution"


def resolution_words(result: Postprocessed) -> str:
    """Return the final resolution in words, also where there is none."""
    if np.isfinite(result.fsc.resolution):
        return f"Final resolution {result.fsc.resolution:.2f} Å (FSC = {FSC_THRESHOLD})"
    if result.fsc.corrected_shell:
        return f"No resolution: up to where the FSC falls below {FSC_THRESHOLD} no shell is told from noise"
    return f"No resolution: the FSC is below {FSC_THRESHOLD} from the first shell on"


def mask_words(mask: MaskUsed) -> str:
    """Return how a mask was made, in a sentence."""
    inside = f"{100 * float(np.mean(mask.voxels > 0.5)):.1f}% of the box inside"
    made = mask.made
    if made is None:
        return f"{mask.name}: {inside}"
    how = "chosen" if made.chosen else "given"
    filtered = f"low-pass filtered to {made.lowpass:g} Å" if made.lowpass else "unfiltered"
    return (
        f"threshold {made.threshold:.5g} ({how}) of the average {filtered}, extended by {made.extend_pixels:.3g} "
        f"voxels, soft edge {made.soft_edge_pixels:.3g} voxels; {inside}"
    )


def phases_words(fsc: HalfMapFsc) -> str:
    """Return how random phases were come by, and what noise is left, in a sentence; empty where there are none."""
    if fsc.randomised_from is None or fsc.noise is None:
        return ""
    how = {0: "the mean of all draws", 1: "one draw, RELION's"}.get(fsc.draws or 0, f"the mean of {fsc.draws} draws")
    first = min(fsc.randomised_from + 2, len(fsc.noise) - 1)
    at = shell_resolution(first, fsc.voxel_size, fsc.size)
    return f"{how}; the FSC of noise in this mask scatters by {fsc.noise[first]:.3f} at {at:.1f} Å"


def write_fsc_xml(path: Path, result: Postprocessed) -> None:
    """Write the corrected FSC in the form EMDB takes at deposition: x rises in 1/Å, y lies in [-1, 1], no exponents."""
    kind = "masked-corrected FSC" if result.fsc.masked is not None else "unmasked FSC"
    frequency = shell_columns(result.fsc.size, result.fsc.voxel_size)["rlnResolution"]
    lines = [f'<fsc title="Vitrea {kind}" xaxis="Resolution (A-1)" yaxis="Correlation Coefficient">']
    for x, y in zip(frequency, np.clip(result.fsc.corrected, -1.0, 1.0), strict=True):
        lines += ["  <coordinate>", f"    <x>{x:.8f}</x>", f"    <y>{y:.6f}</y>", "  </coordinate>"]
    with atomic_path(path) as temporary:
        temporary.write_text("\n".join([*lines, "</fsc>", ""]), encoding="utf-8")


def tell(output: Path, result: Postprocessed, mask: MaskUsed | None, recorder: Recorder) -> None:
    """Report the result: the mask, where the curves fall, resolution and B-factor."""
    if mask is not None:
        recorder.event("text", text=f"mask: {mask_words(mask)}")
    if words := phases_words(result.measured):
        recorder.event("text", text=f"random phases: {words}")
    found = crossings(result)
    voxel_size = result.fsc.voxel_size
    recorder.event("text", text=f"{'FSC':12}{'0.5':>26}{'0.143':>26}")
    for name, at in found.items():
        words = "".join(f"{crossing_words(at[level], voxel_size):>26}" for level in (FSC_HALF, FSC_THRESHOLD))
        recorder.event("text", text=f"{name:12}{words}")
    recorder.event(
        "postprocess",
        resolution_angstrom=result.fsc.resolution,
        bfactor_angstrom2=result.bfactor,
        unmasked_resolution_angstrom=result.fsc.without_mask().resolution,
    )
    final = f"{resolution_words(result)}, B-factor {result.bfactor:.0f} Å²"
    files = f"sharpened map in {with_ending(output, '.mrc')}, all of it in {with_ending(output, '_report.html')}"
    recorder.event("text", text=f"{final}; {files}")
