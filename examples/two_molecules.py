"""Two molecules in one data set, told apart from nothing but particles: 2D, first models, classes in 3D.

What a user does, command by command. Junk goes with the 2D classes. Three first models are made together, without
symmetry: of classes that are kept equally large, the clearest molecule takes one, and the other classes share the
rest. That rest gets a first model of its own, with its symmetry; from both maps all particles are classified, freely.

    python examples/mixed_set.py make models_folder mixed
    python examples/two_molecules.py mixed/particles.star --output Project --diameter 220 --symmetry D2
    python examples/mixed_set.py classes mixed/truth.star Project/Class3D/run_data.star --groups 1+2,3

When a step fails the program says which and stops; run again, it goes on from there.
"""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

import numpy as np

from vitrea.formats.particle_files import read_particles
from vitrea.formats.star import read_star, write_star
from vitrea.records.table import Table

sys.path.insert(0, str(Path(__file__).parent))

from betagal_pipeline import Pipeline, carry_out

PER_CLASS = 100  # particles for each 2D class
START_RESOLUTION = 30.0  # Å, to which first models are blurred before particles are classified


def clearest_class(folder: Path) -> tuple[int, int]:
    """Return the number, from 1, of the class of the first models that is best resolved, and how many there are."""
    classes = read_star(folder / "First/run_model.star")["model_classes"]
    assert isinstance(classes, Table)
    return int(np.argmin(classes.numbers("rlnEstimatedResolution"))) + 1, len(classes)


def separate(pipeline: Pipeline, particles: Path, options: argparse.Namespace) -> None:
    """Do what a user does, command by command."""
    size = f"--particle_diameter {options.diameter:g}"
    count = min(max(len(read_particles(particles)) // PER_CLASS, 5), 50)
    pipeline.vitrea(
        "Averages of alike views",
        f"class2d --i {shlex.quote(str(particles))} --o Class2D/run --K {count} {size}",
        "Class2D/run_optimiser.star",
    )
    pipeline.vitrea(
        "Choice of classes and particles",
        "select --i Class2D/run_optimiser.star --auto --o selected.star",
        "selected.star",
    )
    pipeline.vitrea(
        "First models",
        f"initial-model --i selected.star --o First/run --K {options.models} --sym C1 {size} "
        f"--first_maps {options.first_maps} --method sgd --particles_at_start 100 --iter 20",
        "First/run_optimiser.star",
    )
    clear, models = clearest_class(pipeline.folder)
    others = ",".join(str(number) for number in range(1, models + 1) if number != clear)
    pipeline.vitrea(
        f"What is not in the clearest class, {clear}",
        f"select --i First/run_data.star --classes {others} --o rest.star",
        "rest.star",
    )
    pipeline.vitrea(
        "First model of the rest",
        f"initial-model --i rest.star --o Second/run --sym {options.symmetry} {size}",
        "Second/run_class001.mrc",
    )
    maps = [f"First/run_class{clear:03d}.mrc", "Second/run_class001.mrc"]
    references = Table({"rlnReferenceImage": np.array(maps, dtype=object)})
    write_star(pipeline.folder / "references.star", {"references": references})
    pipeline.vitrea(
        "Classes in 3D",
        f"class3d --i selected.star --ref references.star --K 2 --o Class3D/run {size} --ini_high {START_RESOLUTION:g} "
        f"--healpix_order 2 --balanced 0 --iter {options.iterations}",
        "Class3D/run_data.star",
    )


def main(arguments: list[str] | None = None) -> int:
    """Run the pipeline; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("particles", type=Path, help="STAR file")
    parser.add_argument("--output", type=Path, default=Path("Project"), help="folder to write to")
    parser.add_argument("--diameter", type=float, required=True, help="of the mask around a particle, Å")
    parser.add_argument("--symmetry", default="C1", help="point group of what is not the clearest molecule")
    parser.add_argument("--models", type=int, default=3, help="first models made together")
    parser.add_argument("--first_maps", type=int, default=2, help="independent starts of them to choose from")
    parser.add_argument("--iterations", type=int, default=12, help="of the classification in 3D")
    options = parser.parse_args(arguments)
    if not options.particles.is_file():
        parser.error(f"{options.particles}: no such file")
    return carry_out(options.output, lambda pipeline: separate(pipeline, options.particles.resolve(), options))


if __name__ == "__main__":
    raise SystemExit(main())
