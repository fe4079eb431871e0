"""``vitrea validate orientations``: how evenly the views of a particle set sample Fourier space."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from vitrea.jobs.base import Context, Job, JobParameters, parameter
from vitrea.jobs.map_inputs import make_folder
from vitrea.jobs.particle_inputs import read_posed_particles
from vitrea.records.table import Table

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from vitrea.formats.star import Block
    from vitrea.maps.orientation_efficiency import PointSpread, Sampling, TiltScan

# Views from the side only, all around, have an SCF of 8 / pi^2 = 0.81 and make good maps.
_EVEN, _POOR = 0.8, 0.5
_MOST_EQUIVALENTS = 60_000
_SPREAD = "Point spread"

_READING = (
    "Each view fills a slab of Fourier space at right angles to its direction. The first map shows the views, with "
    "their symmetric equivalents; the second how often each direction of Fourier space was filled, over what even "
    "views would give: dark regions are poorly known, and the map is smeared along them.\n\n"
    "The sampling compensation factor (SCF) is the part of the signal-to-noise ratio that such views leave, as a mean "
    "over directions: 1 for even views, 0.81 for side views from all around, less where directions are neglected. To "
    "make up for it takes 1 / SCF times as many particles. SCF* counts directions that no view filled as filled by "
    "half a view: more particles of the same views do not help there. E_od is 1 less twice the relative spread of the "
    "width of the point-spread function over directions: 1 for even views; above 0.5 is wanted, though side views from "
    "all around, which miss no direction, have 0.3."
)
_TILTING = (
    "What SCF* the same particles would have had on a tilted stage, their in-plane angles being random. It holds for "
    "views found without tilt."
)


class ValidateOrientationsParameters(JobParameters):
    """Measure how evenly the views of particles sample Fourier space, and what tilt of the stage would help.

    Gives the sampling compensation factor (Baldwin & Lyumkis 2020) and the efficiency of the orientation distribution
    from its point-spread function (after Naydenova & Russo 2017); tells directions that no view sampled, and suggests a
    tilt where views are preferred. Only angles are read: images are not needed.

    Writes into a folder: orientations.star (figures, sampling of each direction, SCF* by tilt), views.png,
    sampling.png, tilts.png and report.html.
    """

    input: Path = parameter(
        ..., "STAR file with refined particles: their angles are needed.", options=["--i"], positional=True
    )
    output: Path = parameter(Path("Validate/orientations"), "Folder to write to.", options=["--o"])
    symmetry: str = parameter(
        "C1", "Point group the particles were refined in: C4, D2, T, O, I ...", options=["--sym"], cistem="symmetry"
    )
    views: int = parameter(
        10_000, "Most views that are counted, chosen at random; 0: all. SCF* falls with it where directions are empty.",
        ge=0,
    )  # fmt: skip
    fourier_radius: float = parameter(
        50.0, "Radius in Fourier space on which directions are sampled.", unit="cycles per box", expert=True, ge=1
    )
    resolution: float = parameter(4.0, "Resolution of the point-spread function.", unit="Å", tab=_SPREAD, gt=0)
    bfactor: float = parameter(
        150.0, "B-factor of the images, for the point-spread function.", unit="Å²", tab=_SPREAD, ge=0
    )
    particle_diameter: float = parameter(
        0.0,
        "Diameter of the particle; 0: 32 times the resolution, which is also the most.",
        unit="Å",
        tab=_SPREAD,
        ge=0,
    )
    random_seed: int = parameter(0, "Seed of the choice of views.", expert=True, ge=0)
    pixel_size: float = parameter(
        0.0, "Pixel size, where the STAR file gives none.", unit="Å", options=["--angpix"], ge=0, expert=True
    )


@dataclass(frozen=True)
class _Found:
    """What was measured: views [n, 2 or 3] with their equivalents as eulers, and their figures."""

    particles: int
    used: int
    group: str
    eulers: NDArray[np.float64]
    sampling: Sampling
    spread: PointSpread
    tilts: TiltScan

    @property
    def tilt(self) -> float:
        """Suggested tilt in degrees."""
        return self.tilts.suggested(_EVEN) if self.sampling.scf_star < _EVEN else 0.0


def run(parameters: ValidateOrientationsParameters, context: Context) -> None:
    """Measure and write.

    Raises
    ------
    InputError
        If the particles have no angles, or the point group is not known.
    """
    from vitrea.formats.star import write_star
    from vitrea.geometry.symmetry import canonical_name

    group = canonical_name(parameters.symmetry)
    particles = read_posed_particles(
        parameters.input, require_ctf=False, require_images=False, pixel_size=parameters.pixel_size or None
    )
    make_folder(parameters.output / "orientations.star")
    context.recorder.stage("sampling of directions")
    found = _measure(particles.eulers, group, parameters)
    blocks: dict[str, Block] = {
        "general": _general(found),
        "directions": _directions(found.sampling),
        "tilts": Table({"vitreaStageTilt": found.tilts.tilts, "vitreaScfStar": found.tilts.scf_star}),
    }
    write_star(parameters.output / "orientations.star", blocks, comment=context.command)
    _report(parameters.output, found, context)
    _tell(found, context)


def _measure(eulers: NDArray[np.float64], group: str, parameters: ValidateOrientationsParameters) -> _Found:
    from vitrea.geometry.euler import euler_to_matrix, matrix_to_euler
    from vitrea.geometry.symmetry import symmetry_matrices
    from vitrea.maps.orientation_efficiency import point_spread, sample_directions, scan_tilts, some_views, view_vectors

    operators, seed = symmetry_matrices(group), parameters.random_seed
    chosen = some_views(eulers, parameters.views, seed)
    # Of many equivalents fewer views tell as much, in the picture and of tilts.
    fewer = some_views(chosen, max(1, _MOST_EQUIVALENTS // len(operators)), seed)
    everywhere = matrix_to_euler((euler_to_matrix(fewer)[:, None] @ operators).reshape(-1, 3, 3))
    views = view_vectors(chosen, group)
    return _Found(
        particles=len(eulers),
        used=len(chosen),
        group=group,
        eulers=everywhere,
        sampling=sample_directions(views, parameters.fourier_radius),
        spread=point_spread(views, parameters.resolution, parameters.bfactor, parameters.particle_diameter),
        tilts=scan_tilts(fewer, group),
    )


def _general(found: _Found) -> dict[str, int | float | str]:
    sampling, spread = found.sampling, found.spread
    return {
        "vitreaParticles": found.particles,
        "vitreaViewsUsed": found.used,
        "vitreaSymmetry": found.group,
        "vitreaScf": sampling.scf,
        "vitreaScfStar": sampling.scf_star,
        "vitreaEmptyFraction": sampling.empty,
        "vitreaEfficiency": spread.efficiency,
        "vitreaPointSpreadMean": spread.mean,
        "vitreaPointSpreadDeviation": spread.deviation,
        "vitreaPointSpreadBest": float(spread.widths.min()),
        "vitreaPointSpreadWorst": float(spread.widths.max()),
        "vitreaSuggestedTilt": found.tilt,
    }


def _directions(sampling: Sampling) -> Table:
    x, y, z = sampling.directions.T
    columns = {
        "rlnAngleRot": np.degrees(np.arctan2(y, x)),
        "rlnAngleTilt": np.degrees(np.arccos(np.clip(z, -1, 1))),
        "vitreaRelativeSampling": sampling.relative,
    }
    return Table(columns)


def _report(folder: Path, found: _Found, context: Context) -> None:
    from vitrea.report.figures import angular_distribution, axis_map, line_plot
    from vitrea.report.page import Section, write_page
    from vitrea.report.png import save_png

    views = angular_distribution(found.eulers)
    relative = found.sampling.relative
    globe = axis_map(found.sampling.directions, relative, "sampling over that of even views",
                     limits=(0.0, float(np.quantile(relative, 0.98)) or 1.0))  # fmt: skip
    tilts = line_plot(found.tilts.tilts, {"SCF*": found.tilts.scf_star}, ("tilt of the stage (degrees)", "SCF*"),
                      mark=found.tilt or None, y_limits=(0.0, 1.05))  # fmt: skip
    for name, figure in (("views", views), ("sampling", globe), ("tilts", tilts)):
        save_png(figure, folder / f"{name}.png")
    facts = {
        "particles": f"{found.particles:,}, of which {found.used:,} counted",
        "symmetry": found.group,
        "SCF": f"{found.sampling.scf:.3f}",
        "SCF*": f"{found.sampling.scf_star:.3f}",
        "directions no view sampled": f"{100 * found.sampling.empty:.1f}%",
        "efficiency E_od": f"{found.spread.efficiency:.2f} (above 0.5 is wanted)",
        "width of the point-spread function": f"{found.spread.mean:.2f} ± {found.spread.deviation:.2f} Å, "
        f"{found.spread.widths.min():.2f} to {found.spread.widths.max():.2f} Å",
        "suggested tilt of the stage": f"{found.tilt:.0f}°" if found.tilt else "none",
    }  # fmt: skip
    sections = [
        Section("Views", _READING, facts, [(views, "Views, as directions in the map."),
                                           (globe, "How often each direction of Fourier space was sampled.")]),
        Section("Tilting", _TILTING, {}, [(tilts, "SCF* by tilt.")]),
        Section("Command", code=context.command),
    ]  # fmt: skip
    write_page(folder / "report.html", "Orientations", _verdict(found), sections)


def _verdict(found: _Found) -> str:
    """Say how good the views are, and what to do."""
    star, empty = found.sampling.scf_star, found.sampling.empty
    figures = f"SCF* {star:.2f}, E_od {found.spread.efficiency:.2f}"
    if star >= _EVEN:
        return f"The views sample all directions well ({figures})."
    missing = f", {100 * empty:.0f}% of directions were never sampled" if empty >= 0.005 else ""
    how = "poorly" if star < _POOR else "unevenly"
    advice = (
        f" Tilting the stage by {found.tilt:.0f} degrees would raise SCF* to {_at(found):.2f}." if found.tilt else ""
    )
    return f"The views sample Fourier space {how} ({figures}{missing}).{advice}"


def _at(found: _Found) -> float:
    return float(np.interp(found.tilt, found.tilts.tilts, found.tilts.scf_star))


def _tell(found: _Found, context: Context) -> None:
    if found.sampling.scf_star < _POOR:
        context.recorder.warn(
            "preferred orientations: the map will be smeared along directions that few views sampled; see vitrea "
            "validate fsc3d for what became of it"
        )
    context.recorder.event(
        "orientations",
        scf=found.sampling.scf,
        scf_star=found.sampling.scf_star,
        empty=found.sampling.empty,
        efficiency=found.spread.efficiency,
        suggested_tilt_deg=found.tilt,
    )
    context.recorder.event("text", text=_verdict(found))


JOB = Job(
    name="validate orientations",
    summary="Measure how evenly views sample Fourier space: SCF, efficiency, a tilt that would help.",
    parameters=ValidateOrientationsParameters,
    run=run,
    examples=["vitrea validate orientations --i particles.star --sym D2 --o Validate/orientations"],
)
