"""The pictures of post-processing, and the page that explains them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from vitrea.jobs.postprocess_files import (
    MaskUsed,
    crossing_words,
    crossings,
    mask_words,
    phases_words,
    resolution_words,
    with_ending,
)
from vitrea.maps.fsc_checks import Finding
from vitrea.maps.half_maps import FSC_HALF, FSC_THRESHOLD
from vitrea.maps.postprocess import Postprocessed
from vitrea.report.figures.postprocessing import guinier_curves, half_map_curves, masked_slices
from vitrea.report.page import Section, write_page
from vitrea.report.png import figure_png, save_png

_WORDS = {
    "unmasked": "half maps as they are",
    "masked": "half maps inside the mask",
    "randomised": "the same with random phases: the mask's own",
    "corrected": "corrected for the mask: the one to quote",
}


def write_pictures(
    output: Path,
    voxel_size: float,
    result: Postprocessed,
    mask: MaskUsed | None,
    findings: Sequence[Finding],
    command: str,
) -> None:
    """Write ``_fsc.png``, ``_guinier.png`` and ``_report.html``; arguments as `postprocess_files.write_all`."""
    fsc = figure_png(half_map_curves(result.measured, result.fsc.resolution))
    guinier = figure_png(guinier_curves(result.guinier, result.bfactor))
    save_png(fsc, with_ending(output, "_fsc.png"))
    save_png(guinier, with_ending(output, "_guinier.png"))
    slices = masked_slices(result.density, None if mask is None else mask.voxels, voxel_size)
    facts = {"resolution": crossing_words(result.fsc.resolution, voxel_size), "B-factor": f"{result.bfactor:.0f} Å²"}
    if result.guinier.fit is not None:
        fit = result.guinier.fit
        facts["fit"] = f"{fit.lowest:.1f} to {fit.highest:.1f} Å, r² = {fit.correlation:.2f}"
    if mask is not None:
        facts["mask"] = mask_words(mask)
    if words := phases_words(result.measured):
        facts["random phases"] = words
    sections = [
        Section("Look at", facts={finding.name: finding.text for finding in findings}) if findings else None,
        Section(
            "The map",
            "Central slices of the sharpened map. The orange line is where the mask is one half, the dotted one where "
            "it ends: both should run outside the molecule, and there should be little but solvent between them.",
            facts=facts,
            figures=[(slices, "Sharpened map and mask")],
        ),
        Section(
            "Resolution",
            "The black curve is the one to quote. The red one is what the mask alone makes of random phases: it should "
            "fall to zero soon after the dotted red line, from which phases are random. In the grey band lies "
            "what noise alone would make in this mask (three standard deviations).",
            facts={name: _both(at, voxel_size) for name, at in crossings(result).items()},
            figures=[(fsc, "; ".join(f"{name}: {_WORDS[name]}" for name in result.measured.curves))],
        ),
        Section(
            "Sharpening",
            "Beyond about 10 Å the logarithm of the amplitude falls nearly on a line against 1/d²; the B-factor makes "
            "that line level. The grey band is the range of the fit.",
            figures=[(guinier, "Guinier plot")],
        ),
        Section("Command", code=command) if command else None,
    ]
    lead = f"{resolution_words(result)}."
    if findings:
        lead += f" {len(findings)} thing{'s' if len(findings) > 1 else ''} to look at: see below."
    path = with_ending(output, "_report.html")
    write_page(path, f"Post-processing {output}", lead, [section for section in sections if section is not None])


def _both(at: dict[float, float | None], voxel_size: float) -> str:
    return ", ".join(
        f"{crossing_words(at[level], voxel_size)} at FSC = {level:g}" for level in (FSC_HALF, FSC_THRESHOLD)
    )
