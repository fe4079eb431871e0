"""The files of ``vitrea localres``: maps, tables, pictures, a report, and a script for ChimeraX."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.atomic import atomic_path
from vitrea.formats.fsc_tables import shell_columns
from vitrea.formats.mrc import write_map
from vitrea.formats.star import write_star
from vitrea.jobs.base import Context
from vitrea.jobs.localres import LocalresParameters
from vitrea.records.errors import JobError
from vitrea.records.map import Map
from vitrea.records.table import Table

if TYPE_CHECKING:
    from torch import Tensor

    from vitrea.maps.local_fsc import LocalFsc
    from vitrea.maps.local_ratio_test import RatioTest

_BINS = 40
_PERCENTILES = (5, 25, 50, 75, 95)
_SHOWN = (2, 98)  # percentiles of the resolution between which colours run


@dataclass(frozen=True)
class LocalResolution:
    """Resolution from place to place.

    Attributes
    ----------
    method : str
        In words.
    resolution : ndarray of float32, shape [n, n, n]
        Å; 0 where nothing is known.
    mask : ndarray of bool, shape [n, n, n]
        Where it is reported.
    local : LocalFsc or None
        The curves, where the method is that of windows.
    tests : sequence of RatioTest
        What was found at each wavelength, where the method is the likelihood-ratio test.
    """

    method: str
    resolution: NDArray[np.float32]
    mask: NDArray[np.bool_]
    local: LocalFsc | None = None
    tests: list[RatioTest] = field(default_factory=list)

    def filtered(self, transform: Tensor, edge: float) -> NDArray[np.float32]:
        """Return a map filtered by what each window's FSC leaves of it."""
        from vitrea.maps.local_filter import filter_in_windows, window_filters

        assert self.local is not None
        return filter_in_windows(transform, self.local, window_filters(self.local, edge))

    @property
    def values(self) -> NDArray[np.float32]:
        """Å of the voxels of the mask at which something is known."""
        inside = self.resolution[self.mask]
        return inside[inside > 0]


def _named(output: Path, ending: str) -> Path:
    return output.with_name(f"{output.name}_locres{ending}")


def write_all(
    parameters: LocalresParameters, half1: Map, result: LocalResolution, filtered: Map, context: Context
) -> None:
    """Write everything and tell the figures.

    Raises
    ------
    JobError
        If no resolution is known anywhere in the mask.
    """
    output, values = parameters.output, result.values
    if not len(values):
        raise JobError(f"{result.method}: no resolution was found anywhere in the mask")
    percentiles = dict(zip(_PERCENTILES, np.percentile(values, _PERCENTILES).tolist(), strict=True))
    write_map(_named(output, ".mrc"), half1.with_voxels(result.resolution))
    write_map(_named(output, "_filtered.mrc"), filtered)
    write_star(_named(output, ".star"), _tables(parameters, result, percentiles), comment=context.command)
    if parameters.write_fscs and result.local is not None:
        write_star(_named(output, "_fscs.star"), _curves(result.local), comment=context.command)
    limits = _limits(values)
    _write_chimerax(output, filtered, result.mask, limits)
    _write_pictures(parameters, result, filtered, limits, percentiles, context)
    context.recorder.event(
        "localres",
        median_angstrom=percentiles[50],
        percentile_5_angstrom=percentiles[5],
        percentile_95_angstrom=percentiles[95],
        voxels=len(values),
    )
    context.recorder.event(
        "text",
        text=f"Local resolution in the mask: median {percentiles[50]:.2f} Å, 90% between {percentiles[5]:.2f} and "
        f"{percentiles[95]:.2f} Å ({result.method}); {_named(output, '.mrc')}; coloured in ChimeraX by "
        f"{_named(output, '.cxc')}",
    )


def _limits(values: NDArray[np.float32]) -> tuple[float, float]:
    low, high = np.percentile(values, _SHOWN).tolist()
    return (low, high) if high > 1.02 * low else (0.95 * low, 1.05 * low)


def _tables(
    parameters: LocalresParameters, result: LocalResolution, percentiles: dict[int, float]
) -> dict[str, dict[str, object] | Table]:
    general: dict[str, object] = {
        "rlnUnfilteredMapHalf1": str(parameters.half1),
        "rlnPostprocessedMap": str(_named(parameters.output, "_filtered.mrc")),
        "rlnBfactorUsedForSharpening": parameters.bfactor,
        "vitreaLocalResolutionMethod": result.method,
        "vitreaLocalResolutionVoxels": len(result.values),
    }
    if parameters.mask is not None:
        general["rlnMaskName"] = str(parameters.mask)
    general |= {f"vitreaLocalResolutionPercentile{at}": value for at, value in percentiles.items()}
    counts, edges = np.histogram(result.values, bins=_BINS)
    columns = {"rlnAngstromResolution": (edges[1:] + edges[:-1]) / 2, "vitreaVoxelCount": counts.astype(np.int64)}
    blocks: dict[str, dict[str, object] | Table] = {"general": general, "histogram": Table(columns)}
    if result.tests:
        blocks["tests"] = Table(
            {
                "rlnAngstromResolution": np.array([test.wavelength for test in result.tests]),
                "vitreaThresholdOverNoise": np.array([min(test.threshold, 999.0) for test in result.tests]),
                "vitreaVoxelsTested": np.array([test.tested for test in result.tests]),
                "vitreaVoxelsPassed": np.array([test.passed for test in result.tests]),
            }
        )
    return blocks


def _curves(local: LocalFsc) -> dict[str, dict[str, object] | Table]:
    """Return a block for each window, named as by RELION: z, y, x of its centre in voxels from that of the box."""
    size = local.lattice.size
    shells = shell_columns(size, local.voxel_size)
    blocks: dict[str, dict[str, object] | Table] = {}
    for number, centre in enumerate(local.lattice.centres - size // 2):
        name = "fsc_" + "_".join(f"{int(value):05d}" for value in centre)
        blocks[name] = Table(
            {
                **shells,
                "rlnFourierShellCorrelationCorrected": local.corrected[number],
                "rlnFourierShellCorrelationMaskedMaps": local.masked[number],
                "rlnCorrectedFourierShellCorrelationPhaseRandomizedMaskedMaps": local.randomised[number],
            }
        )
    return blocks


def _write_chimerax(output: Path, filtered: Map, mask: NDArray[np.bool_], limits: tuple[float, float]) -> None:
    """Write commands that show the filtered map as a surface in the colours of its resolution, with a key."""
    from vitrea.report.figures.local_resolution import resolution_colours

    level = _surface_level(filtered.voxels, mask)
    colours = resolution_colours(*limits)
    palette = ":".join(f"{value:.2f},{colour}" for value, colour in colours)
    key = " ".join(f"{colour}:{value:.1f}" for value, colour in colours)
    lines = [
        "# Local resolution in Å, on the surface of the locally filtered map.",
        "close session",
        f'open "{_named(output, "_filtered.mrc").name}" id 1',
        f'open "{_named(output, ".mrc").name}" id 2',
        f"volume #1 style surface step 1 level {level:.6g}",
        "hide #2 models",
        f"color sample #1 map #2 palette {palette}",
        f"key {key} pos 0.70,0.06 size 0.26,0.03",
        '2dlabels text "local resolution (Å)" xpos 0.70 ypos 0.11 size 18',
        "set bgColor white",
        "lighting soft",
        "view",
    ]
    with atomic_path(_named(output, ".cxc")) as temporary:
        temporary.write_text("\n".join([*lines, ""]), encoding="utf-8")


def _surface_level(voxels: NDArray[np.float32], mask: NDArray[np.bool_]) -> float:
    """Return a grey value that parts particle and solvent; where none does, the median in the mask."""
    from vitrea.maps.automatic_mask import choose_threshold

    try:
        return float(choose_threshold(voxels))
    except ValueError:
        return float(np.median(voxels[mask]))


def _write_pictures(
    parameters: LocalresParameters,
    result: LocalResolution,
    filtered: Map,
    limits: tuple[float, float],
    percentiles: dict[int, float],
    context: Context,
) -> None:
    from vitrea.report.figures import histogram
    from vitrea.report.figures.local_resolution import resolution_slices
    from vitrea.report.page import Section, write_page
    from vitrea.report.png import save_png

    output, values = parameters.output, result.values
    within = np.where(result.mask, result.resolution, 0.0)
    slices = resolution_slices(filtered.voxels, within, filtered.voxel_size, limits)
    bars = histogram(values, "local resolution in the mask (Å)")
    save_png(slices, _named(output, "_slices.png"))
    save_png(bars, _named(output, "_histogram.png"))
    facts = {"method": result.method, "voxels in the mask": f"{len(values):,}"}
    facts |= {f"{at}% of them are better than": f"{value:.2f} Å" for at, value in percentiles.items()}
    if result.local is not None:
        lattice, voxel = result.local.lattice, result.local.voxel_size
        facts["windows"] = f"{len(lattice.centres):,}, one every {lattice.step * voxel:.1f} Å"
        facts["radius, soft edge"] = f"{lattice.radius * voxel:.1f} Å, {lattice.edge * voxel:.1f} Å"
    sections = [
        Section(
            "Resolution from place to place",
            "The locally filtered map in the colours of its resolution, in the mask; grey outside. Resolution usually "
            "is best in the core and worst at the rim and in parts that move. A sharp change across a smooth density, "
            "or solvent as good as protein, speaks of a mask or a window that is wrong.",
            facts=facts,
            figures=[(slices, "Central slices"), (bars, "Voxels of the mask by resolution")],
        ),
        Section("ChimeraX", "Opens the coloured surface:", code=f"chimerax {_named(output, '.cxc').name}"),
        Section("Command", code=context.command),
    ]
    lead = f"Median {percentiles[50]:.2f} Å, 90% of the mask between {percentiles[5]:.2f} and {percentiles[95]:.2f} Å."
    write_page(_named(output, "_report.html"), f"Local resolution {output.name}", lead, sections)
