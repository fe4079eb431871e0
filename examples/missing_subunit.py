"""Which particles of a symmetric molecule lack a subunit: refined together, turned onto each other, told apart in 3D.

What a user does, command by command. The point group puts every subunit of every particle into the same place
(``symmetry-expand``); there, and nowhere else, two classes are told apart at known poses (``class3d --skip_align
--focus_sphere``). A particle whose copies are all in the class with the subunit is whole.

    python examples/missing_subunit.py Project/Class3D/run_data.star --classes 2 \\
        --ref Project/Second/run_class001.mrc --output Subunit --diameter 220 --symmetry D2

Leaves ``whole.star`` and ``incomplete.star``. When a step fails the program says which and stops; run again, it goes on
from there.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from skimage.filters import threshold_otsu

from vitrea.formats.mrc import read_map
from vitrea.formats.particle_files import read_particles, write_particles
from vitrea.geometry.masks import soft_sphere
from vitrea.geometry.symmetry import canonical_name, symmetry_matrices
from vitrea.records.errors import InputError
from vitrea.records.map import Map

sys.path.insert(0, str(Path(__file__).parent))

from betagal_pipeline import Pipeline, carry_out

START_RESOLUTION = 30.0  # Å, of the reference of the refinement
# Å. Each particle is a part of the map it is compared with, noise and all, and the more so the finer the detail:
# without this limit a few thousand particles stay in the classes that chance put them in.
CLASS_RESOLUTION = 20.0
ITERATIONS = 25  # the smaller class comes to its size slowly
UNIT_ITERATIONS = 50


def asymmetric_unit(density: Map, symmetry: str) -> tuple[NDArray[np.float64], float]:
    """Find one of the equal parts of a symmetric molecule: the means of bright voxels, brought there by the operators.

    This is k-means clustering with as many means as operators, which stay images of each other. It starts at the bright
    voxel whose images are farthest apart.

    Parameters
    ----------
    density : Map
        Its axes are where the point group has them.
    symmetry : str
        Not C1.

    Returns
    -------
    centre : ndarray, shape [3]
        x, y, z from the middle of the box (voxel n // 2), Å.
    radius : float
        Of a ball with the part's radius of gyration, Å.
    """
    voxels = density.voxels
    bright = np.argwhere(voxels > threshold_otsu(voxels))[:, ::-1] - len(voxels) // 2  # type: ignore[no-untyped-call]
    points = bright * density.voxel_size
    images = np.einsum("gij,pj->gpi", symmetry_matrices(symmetry), points)
    nearest = np.linalg.norm(images[1:] - points, axis=2).min(axis=0)
    centre = points[nearest.argmax()].astype(np.float64)
    for _ in range(UNIT_ITERATIONS):
        own = np.linalg.norm(images - centre, axis=2).argmin(axis=0)
        members = images[own, np.arange(len(points))]
        centre = members.mean(axis=0)
    gyration = float(np.sqrt(((members - centre) ** 2).sum(axis=1).mean()))
    return centre, gyration * np.sqrt(5.0 / 3.0)


def emptier_class(folder: Path, centre: NDArray[np.float64], radius: float) -> int:
    """Return the number, from 1, of the class with less density in the sphere."""
    found = []
    for number in (1, 2):
        density = read_map(folder / f"Class3D/run_class{number:03d}.mrc")
        size, step = len(density.voxels), density.voxel_size
        ball = soft_sphere(size, radius / step, 3.0, centre=[*((centre / step)[::-1] + size // 2)])
        found.append(float((density.voxels * ball).sum()))
    return int(np.argmin(found)) + 1


def images_with(copies: Path, number: int) -> NDArray[np.bool_]:
    """Tell for each copy of an image whether any copy of the same image is in a class."""
    table = read_particles(copies).table
    names, image = np.unique(table["rlnImageName"].astype(str), return_inverse=True)
    hits = np.bincount(image, weights=table["rlnClassNumber"] == number, minlength=len(names))
    found: NDArray[np.bool_] = hits[image] > 0
    return found


def separate(pipeline: Pipeline, options: argparse.Namespace) -> None:
    """Do what a user does, command by command."""
    folder, size = pipeline.folder, f"--particle_diameter {options.diameter:g}"
    pipeline.vitrea(
        "The particles",
        f"select --i {shlex.quote(str(options.particles.resolve()))} --classes {options.classes} --o particles.star",
        "particles.star",
    )
    pipeline.vitrea(
        "Refinement of all of them",
        f"refine3d --i particles.star --ref {shlex.quote(str(options.ref.resolve()))} --o Refine3D/run "
        f"--sym {options.symmetry} {size} --ini_high {START_RESOLUTION:g} --healpix_order 2",
        "Refine3D/run_class001.mrc",
    )
    pipeline.vitrea(
        "Every subunit in one place",
        f"symmetry-expand --i Refine3D/run_data.star --sym {options.symmetry} --o copies.star",
        "copies.star",
    )
    density = read_map(folder / "Refine3D/run_class001.mrc")
    centre, radius = asymmetric_unit(density, options.symmetry)
    corner = centre + len(density.voxels) // 2 * density.voxel_size
    sphere = ",".join(f"{value:.1f}" for value in (*corner, radius))
    pipeline.vitrea(
        "With and without the subunit",
        f"class3d --i copies.star --ref Refine3D/run_class001.mrc --K 2 --o Class3D/run {size} --skip_align "
        f"--focus_sphere {sphere} --ini_high {CLASS_RESOLUTION:g} --strict_highres_exp {CLASS_RESOLUTION:g} "
        f"--iter {ITERATIONS}",
        "Class3D/run_data.star",
    )
    without = images_with(folder / "Class3D/run_data.star", emptier_class(folder, centre, radius))
    copies = read_particles(folder / "Class3D/run_data.star")
    _, first = np.unique(copies.table["rlnImageName"].astype(str), return_index=True)
    for name, chosen in (("whole", ~without), ("incomplete", without)):
        rows = np.sort(first[chosen[first]])
        write_particles(folder / f"{name}.star", copies.rows(rows))
        sys.stdout.write(f"{name}.star: {len(rows)} of {len(first)} particles\n")


def main(arguments: list[str] | None = None) -> int:
    """Run the pipeline; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("particles", type=Path, help="STAR file of a classification")
    parser.add_argument("--classes", default="1", help="those of the molecule, such as 2 or 1,3")
    parser.add_argument("--ref", type=Path, required=True, help="map of the molecule, axes as its point group has them")
    parser.add_argument("--output", type=Path, default=Path("Subunit"), help="folder to write to")
    parser.add_argument("--diameter", type=float, required=True, help="of the mask around a particle, Å")
    parser.add_argument("--symmetry", required=True, help="point group of the whole molecule")
    options = parser.parse_args(arguments)
    for path in (options.particles, options.ref):
        if not path.is_file():
            parser.error(f"{path}: no such file")
    try:
        if canonical_name(options.symmetry) == "C1":
            parser.error("--symmetry C1: a molecule without symmetry has no equal subunits")
    except InputError as error:
        parser.error(f"--symmetry: {error}")
    return carry_out(options.output, lambda pipeline: separate(pipeline, options))


if __name__ == "__main__":
    raise SystemExit(main())
