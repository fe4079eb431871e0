"""From micrographs to a map, hands off: CTF, picking, extraction, 2D, choice, first model, refinement, sharpening.

The steps of cisTEM's tutorial on its micrographs of apoferritin, run as a user would, command by command; what they are
told is the microscope, the particle's diameter and its symmetry. Particles are first coarse and quick to classify; once
refined they are extracted anew, centred and finer, and refined again. When a step fails the program says which and
stops; run again, it goes on from there. ``<output>/report.html`` collects the pictures.

    python examples/apoferritin_pipeline.py "folder/*.mrc" --output Project --model 7a4m.cif.gz
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from vitrea.formats.atomic_models import read_atoms
from vitrea.formats.micrograph_files import expand_names
from vitrea.formats.mrc import read_map, write_map
from vitrea.formats.particle_files import read_particles
from vitrea.records.map import Map
from vitrea.report.page import Section, write_page
from vitrea.simulate.density import density_from_atoms

sys.path.insert(0, str(Path(__file__).parent))

from betagal_pipeline import (
    Pipeline,
    StepFailedError,
    class_section,
    contour,
    input_section,
    map_section,
    resolution_section,
)

COARSE = 4.5  # Å, about the pixel of the images that are classified
COARSE_ITERATIONS = 6  # of the first refinement: then finer images tell more
# A wrong view of a nearly round molecule looks almost right, and a search near it stays there. The point group leaves
# few orientations: looking everywhere is cheap down to this order (3.75°, halved).
LOCAL_ORDER = 5
PER_CLASS = 100  # particles for each 2D class
# Å, to which maps are blurred before the coarse and the fine refinement: a hollow shell without detail has no views.
START_RESOLUTION, FINE_START_RESOLUTION = 15.0, 12.0
MASK_RESOLUTION = 12.0  # Å, at which the map is cut into molecule and solvent
MASK_MARGIN = 1.1  # of the diameter: what is masked around a particle; neighbours are close


def pick(pipeline: Pipeline, micrographs: str, options: argparse.Namespace) -> None:
    """From micrographs to coordinates."""
    optics = f"--voltage {options.voltage:g} --cs {options.cs:g} --amplitude_contrast {options.amplitude_contrast:g}"
    pipeline.vitrea(
        "Defocus of the micrographs",
        f"ctf --i {shlex.quote(micrographs)} --o CtfFind/micrographs_ctf.star --angpix {options.angpix:g} {optics}",
        "CtfFind/micrographs_ctf.star",
    )
    pipeline.vitrea(
        "Picking",
        f"pick blob --i CtfFind/micrographs_ctf.star --o AutoPick --characteristic_radius {options.diameter / 2:g} "
        f"--edge_distance {0.625 * options.diameter:g}",  # beyond the edge windows are filled with stripes
        "AutoPick/autopick.star",
    )


def classify(pipeline: Pipeline, options: argparse.Namespace) -> None:
    """From coordinates to particles whose class averages show molecules, and a first model of them."""
    size = f"--particle_diameter {MASK_MARGIN * options.diameter:g}"
    pipeline.vitrea(
        "Extraction, coarse",
        f"extract --i CtfFind/micrographs_ctf.star --coord_list AutoPick/autopick.star --part_dir Extract "
        f"--extract_size {options.box} --scale {even(options.box * options.angpix / COARSE)} --norm --invert_contrast",
        "Extract/particles.star",
    )
    count = len(read_particles(pipeline.folder / "Extract/particles.star"))
    pipeline.vitrea(
        "Averages of alike views",
        f"class2d --i Extract/particles.star --o Class2D/run --K {min(max(count // PER_CLASS, 5), 50)} {size}",
        "Class2D/run_optimiser.star",
    )
    pipeline.vitrea(
        "Choice of classes and particles",
        "select --i Class2D/run_optimiser.star --auto --o selected.star",
        "selected.star",
    )
    pipeline.vitrea(
        "First model",
        f"initial-model --i selected.star --o InitialModel/run --sym {options.symmetry} {size} "
        f"--first_maps {options.first_maps} --gather_signal",
        "InitialModel/run_class001.mrc",
    )
    pipeline.vitrea(
        "Refinement, coarse",
        f"refine3d --i selected.star --ref InitialModel/run_class001.mrc --o Refine3DCoarse/run "
        f"--sym {options.symmetry} {size} --ini_high {START_RESOLUTION:g} --healpix_order 3 "
        f"--auto_local_healpix_order {LOCAL_ORDER} --solvent_correct_fsc --gather_signal --iter {COARSE_ITERATIONS}",
        "Refine3DCoarse/run_class001.mrc",
    )


def refine(pipeline: Pipeline, options: argparse.Namespace) -> None:
    """From coarse poses to the map: particles cut out again, centred and finer."""
    size = f"--particle_diameter {MASK_MARGIN * options.diameter:g}"
    window = options.fine_box or options.box
    fine = even(window * options.angpix / options.fine_angpix)
    pixel_size = window * options.angpix / fine
    pipeline.vitrea(
        "Extraction, fine and centred",
        f"extract --i CtfFind/micrographs_ctf.star --reextract_data_star Refine3DCoarse/run_data.star --recenter "
        f"--part_dir ExtractFine --extract_size {window} --scale {fine} --norm --invert_contrast",
        "ExtractFine/particles.star",
    )
    resample_reference(pipeline.folder, fine, pixel_size)
    # Inside a sphere half the voxels are solvent, whose noise would count in references and in their FSC.
    mask_out(pipeline, "Mask for the refinement", "reference.mrc", "reference_mask.mrc")
    pipeline.vitrea(
        "Refinement, fine",
        f"refine3d --i ExtractFine/particles.star --ref reference.mrc --o Refine3D/run --sym {options.symmetry} {size} "
        "--solvent_mask reference_mask.mrc "
        f"--ini_high {FINE_START_RESOLUTION:g} --healpix_order 4 --auto_local_healpix_order {LOCAL_ORDER} "
        "--offset_range 1 --offset_step 1 --solvent_correct_fsc --gather_signal",
        "Refine3D/run_class001.mrc",
    )
    mask_out(pipeline, "Mask", "Refine3D/run_class001.mrc", "mask.mrc")
    pipeline.vitrea(
        "Resolution and sharpening",
        "postprocess --i Refine3D/run_half1_class001_unfil.mrc --mask mask.mrc --auto_bfac --o PostProcess/map",
        "PostProcess/map.mrc",
    )


def mask_out(pipeline: Pipeline, title: str, name: str, mask: str) -> None:
    """Cut a map into molecule and solvent."""
    pipeline.vitrea(
        title,
        f"mask --i {name} --lowpass {MASK_RESOLUTION:g} --ini_threshold {contour(pipeline.folder / name)} "
        f"--extend_inimask 3 --width_soft_edge 6 --o {mask}",
        mask,
    )


def even(size: float) -> int:
    """Round to an even number of pixels."""
    return 2 * round(size / 2)


def resample_reference(folder: Path, size: int, pixel_size: float) -> None:
    """Bring the coarse map to the box and pixels of the fine images."""
    import torch

    from vitrea.fourier.transforms import resample, resize_box

    coarse = read_map(folder / "Refine3DCoarse/run_class001.mrc")
    extent = len(coarse.voxels) * coarse.voxel_size
    voxels = resample(torch.from_numpy(coarse.voxels), round(extent / pixel_size), dims=3)
    voxels = resize_box(voxels, size, dims=3)
    write_map(folder / "reference.mrc", Map(np.ascontiguousarray(voxels.numpy()), pixel_size))


def compare_with_model(pipeline: Pipeline, options: argparse.Namespace) -> dict[str, str]:
    """Compare the map with one computed from an atomic model, inside the mask; return figures for the page.

    The hand of a map from untilted images is arbitrary, so the model is mirrored, too, and the better one counts. The
    axes of T and O leave a map no other freedom; for other point groups the best turn and shift are searched.
    """
    folder = pipeline.folder
    found = read_map(folder / "PostProcess/map.mrc")
    size = len(found.voxels)
    given = density_from_atoms(read_atoms(options.model, "1"), size, found.voxel_size)
    # x becomes -x about the voxel n // 2.
    mirrored = np.roll(given[:, :, ::-1], 1 - size % 2, axis=2)
    figures: dict[str, Any] = {}
    for hand, voxels in (("as it is", given), ("mirrored", mirrored)):
        name = "model.mrc" if hand == "as it is" else "model_mirrored.mrc"
        write_map(folder / name, Map(np.ascontiguousarray(voxels, dtype=np.float32), found.voxel_size))
        fixed = options.symmetry[0] in "TO"
        how = "" if fixed else f"--align --no-both-hands --sym {options.symmetry} "
        result = f"comparison_{Path(name).stem}.json"
        pipeline.vitrea(
            f"Comparison with the atomic model {hand}",
            f"compare PostProcess/map.mrc {name} {how}--mask mask.mrc --json {result}",
            result,
        )
        this = {"model": hand, **json.loads((folder / result).read_text(encoding="utf-8"))}
        this["finest shell with an FSC of 0.5"] = finest_shell(this["fsc"], size * found.voxel_size)
        if this["correlation"] > figures.get("correlation", -1.0):
            figures = this
    return {name: str(value) for name, value in figures.items() if isinstance(value, int | float | str)}


def finest_shell(fsc: list[float], extent: float) -> str:
    """Return the resolution of the finest shell where two maps agree: a hollow shell has zeros before, where FSCs dip.

    Parameters
    ----------
    fsc : list of float
        Shell by shell.
    extent : float
        Of the box, Å.
    """
    above = [shell for shell, value in enumerate(fsc) if shell > 0 and value >= 0.5]
    return f"{extent / above[-1]:.2f} Å" if above else "none"


def report(pipeline: Pipeline, options: argparse.Namespace, model: dict[str, str], seconds: float) -> Path:
    """Write the page; return its name."""
    folder = pipeline.folder
    picked = read_particles(folder / "Extract/particles.star")
    resolution_part, resolution = resolution_section(folder)
    sections = [
        input_section(picked),
        class_section(folder, MASK_MARGIN * options.diameter),
        map_section(folder),
        resolution_part,
        *([Section("Beside the atomic model", "The FSC with the map of a model.", facts=model)] if model else []),
        Section("Commands", "Run in this folder; times in seconds.", code="\n".join(pipeline.lines)),
    ]
    lead = (
        f"{len(picked):,} picks gave a map at {resolution:.1f} Å (gold-standard FSC 0.143) in {seconds / 60:.0f} min."
    )
    write_page(folder / "report.html", "From micrographs to a map", lead, sections)
    return folder / "report.html"


def main(arguments: list[str] | None = None) -> int:
    """Run the pipeline; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("micrographs", help="images, as a glob in quotes")
    parser.add_argument("--output", type=Path, default=Path("Project"), help="folder to write to")
    parser.add_argument("--angpix", type=float, default=1.5, help="pixel size of the micrographs, Å")
    parser.add_argument("--voltage", type=float, default=300.0, help="kV")
    parser.add_argument("--cs", type=float, default=0.0, help="mm; 0: the microscope has a corrector")
    parser.add_argument("--amplitude_contrast", type=float, default=0.07)
    parser.add_argument("--diameter", type=float, default=120.0, help="of the particle, Å")
    parser.add_argument("--symmetry", default="O", help="point group: Cn, Dn, T, O, I1 to I4")
    parser.add_argument("--box", type=int, default=200, help="of the windows, pixels of the micrographs")
    parser.add_argument("--fine_box", type=int, default=0, help="of those of the last refinement; 0: as --box")
    parser.add_argument("--first_maps", type=int, default=3, help="independent first maps to choose from")
    parser.add_argument("--fine_angpix", type=float, default=2.0, help="pixel size of the last refinement, Å")
    parser.add_argument("--model", type=Path, help="atomic model to compare the map with (its assembly 1)")
    options = parser.parse_args(arguments)
    try:
        expand_names([options.micrographs])
    except Exception as error:
        parser.error(str(error))
    options.output.mkdir(parents=True, exist_ok=True)
    pipeline, start = Pipeline(options.output.resolve()), time.perf_counter()
    try:
        pick(pipeline, str(Path(options.micrographs).absolute()), options)
        classify(pipeline, options)
        refine(pipeline, options)
        model = compare_with_model(pipeline, options) if options.model else {}
    except StepFailedError as error:
        sys.stderr.write(f"\n{error}\n")
        return 1
    page = report(pipeline, options, model, time.perf_counter() - start)
    sys.stdout.write(f"\nDone. Open {page} in a browser.\n")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
