"""A mixed set with known answers, and how well a selection, a classification or a ranking of it did.

    python examples/mixed_set.py make models_folder mixed --particles 4000
    python examples/mixed_set.py selection mixed/truth.star Select/particles.star
    python examples/mixed_set.py classes mixed/truth.star Class3D/run_it025_data.star --groups 1+2,3
    python examples/mixed_set.py ranking mixed/truth.star Sort/particles.star

``make`` simulates images of beta-galactosidase (class 1), of the same with one of its four chains missing (class 2) and
of the 20S proteasome (class 3), 30%, 30% and 40% of the particles; 10% of all images are junk: noise, contaminants,
off-centre pairs. Beside it, ``picked_noise/`` holds nothing but noise that was picked because it looks like
beta-galactosidase. The models folder holds 5a1a.pdb(.gz) and 3j9i.pdb(.gz) of the Protein Data Bank.

The other commands match images by their number in the stack, and print numbers.
"""

from __future__ import annotations

import argparse
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from vitrea.formats.image_names import split_image_name
from vitrea.formats.mrc import read_map, write_map
from vitrea.formats.particle_files import read_particles
from vitrea.fourier.filters import lowpass
from vitrea.records.table import Table
from vitrea.simulate.population import CLASS_LABEL, KIND_LABEL
from vitrea.simulate.scoring import area_under_roc, score_assignment, score_selection

BOX, PIXEL_SIZE, DIAMETER = 64, 4.2, 200  # pixels, Å, Å
START_RESOLUTION = 50.0  # Å
# As the real beta-galactosidase data of the RELION tutorial were taken (EMPIAR-10204).
MICROSCOPE = "--voltage 200 --cs 1.4 --q0 0.1 --defocus_min 8000 --defocus_max 22000"


# The power of beta-galactosidase over that of the noise, summed over all frequencies to 10 Å, is then 1.15 times that
# of the real images of the RELION tutorial, as its map at RELION 5's poses shows it, a map that is itself blurred: 1.1
# to 1.5 times as much from 100 to 30 Å, 0.6 to 1.1 times (but for a CTF zero) from 25 to 10 Å.
SNR = 0.15


def say(text: str) -> None:
    """Print a line at once."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def model(folder: Path, name: str) -> Path:
    """Find a model, gzipped or not."""
    for path in (folder / f"{name}.pdb", folder / f"{name}.pdb.gz"):
        if path.is_file():
            return path.resolve()
    raise SystemExit(f"{folder} holds neither {name}.pdb nor {name}.pdb.gz")


def simulate(folder: Path, options: str) -> None:
    """Run ``vitrea simulate`` in a folder of its own, so that image names are relative to it."""
    folder.mkdir(parents=True, exist_ok=True)
    command = (
        f"simulate --box_size {BOX} --angpix {PIXEL_SIZE} --particle_diameter {DIAMETER} --noise coloured {MICROSCOPE} "
        f"--o . {options}"
    )
    say(f"\n$ vitrea {command}")
    subprocess.run([sys.executable, "-m", "vitrea", *shlex.split(command)], cwd=folder, check=True)


def make(arguments: argparse.Namespace) -> None:
    """Write the mixed set, a blurred map to start from, and the picked noise."""
    bgal, proteasome = (shlex.quote(str(model(arguments.models, name))) for name in ("5a1a", "3j9i"))
    seed = f"--b_factor 100 --random_seed {arguments.seed} --snr {arguments.snr}"
    folder: Path = arguments.output
    simulate(
        folder,
        f"--model {bgal} --model {bgal} --model {proteasome} --omit_chains 2:D --shares 0.3,0.3,0.4 "
        f"--junk_fraction {arguments.junk} --number {arguments.particles} "
        f"--groups {max(1, arguments.particles // 200)} {seed}",
    )
    first = read_map(folder / "truth_class001.mrc")
    blurred = lowpass(torch.from_numpy(first.voxels), START_RESOLUTION, first.voxel_size).numpy()
    write_map(folder / "start.mrc", first.with_voxels(blurred))
    if arguments.picked_noise:
        simulate(
            folder / "picked_noise",
            f"--model {bgal} --junk_fraction 1 --junk_kinds picked_noise --number {arguments.picked_noise} "
            f"--groups {max(1, arguments.picked_noise // 200)} {seed}",
        )


def numbers_in_stack(table: Table, path: Path) -> NDArray[np.int64]:
    """Number of each image in its stack; all must be of one stack."""
    names = [split_image_name(str(name)) for name in table["rlnImageName"]]
    if len({Path(file).name for file, _ in names}) > 1:
        raise SystemExit(f"{path} holds images of several stacks")
    return np.array([number for _, number in names], dtype=np.int64)


def read_with_truth(truth_path: Path, path: Path) -> tuple[Table, Table, NDArray[np.int64]]:
    """Read the truth and a result; the result's rows in the truth (all must be there)."""
    truth = read_particles(truth_path, require_images=False).table
    result = read_particles(path, require_images=False, require_ctf=False).table
    place = {int(number): row for row, number in enumerate(numbers_in_stack(truth, truth_path))}
    numbers = numbers_in_stack(result, path)
    unknown = [int(number) for number in numbers if int(number) not in place]
    if unknown:
        raise SystemExit(f"{path}: image {unknown[0] + 1} is not in {truth_path}")
    return truth, result, np.array([place[int(number)] for number in numbers], dtype=np.int64)


def percent(value: float) -> str:
    """Write a share."""
    return f"{100 * value:.2f}%"


def judge_selection(arguments: argparse.Namespace) -> None:
    """Print what a selection kept."""
    truth, _, rows = read_with_truth(arguments.truth, arguments.result)
    kept = np.zeros(len(truth), dtype=bool)
    kept[rows] = True
    score = score_selection(truth[KIND_LABEL], kept)
    say(f"real particles kept: {percent(score.real_kept)}")
    say(f"junk dropped: {percent(score.junk_dropped)}")
    for kind, (total, remain) in score.kinds.items():
        say(f"  {kind}: {remain} of {total} kept")
    for number in np.unique(truth[CLASS_LABEL][truth[CLASS_LABEL] > 0]):
        of_class = truth[CLASS_LABEL] == number
        say(f"  molecule {number}: {kept[of_class].sum()} of {of_class.sum()} kept")


def merged(classes: NDArray[Any], groups: str) -> NDArray[np.int64]:
    """Give all molecules of a group ("1+2,3") the number of its first; molecules in no group become 0."""
    result = np.zeros(len(classes), dtype=np.int64)
    for group in groups.split(","):
        members = [int(word) for word in group.split("+")]
        result[np.isin(classes, members)] = members[0]
    return result


def judge_classes(arguments: argparse.Namespace) -> None:
    """Print how classes correspond to molecules."""
    truth, result, rows = read_with_truth(arguments.truth, arguments.result)
    molecules = truth[CLASS_LABEL][rows].astype(np.int64)
    if arguments.groups:
        molecules = merged(molecules, arguments.groups)
    real = molecules > 0
    score = score_assignment(molecules[real], result[CLASS_LABEL][real].astype(np.int64))
    say(f"particles compared: {real.sum()} of {len(real)} (the others are junk or in no group)")
    say(f"one class a molecule: {percent(score.accuracy)} of particles are in their molecule's class")
    say(f"purity: {percent(score.purity)} of particles are of the molecule most frequent in their class")
    say("class: particles of molecule " + ", ".join(map(str, score.molecules)))
    for column, number in enumerate(score.classes):
        match = f"  -> molecule {score.matches[int(number)]}" if int(number) in score.matches else ""
        say(f"  {number}: {', '.join(map(str, score.counts[:, column]))}{match}")


def judge_ranking(arguments: argparse.Namespace) -> None:
    """Print how well a column separates junk from particles."""
    truth, result, rows = read_with_truth(arguments.truth, arguments.result)
    if arguments.column not in result:
        raise SystemExit(f"{arguments.result} has no column {arguments.column}")
    kinds, scores = truth[KIND_LABEL][rows], result.numbers(arguments.column)
    real = kinds == "particle"
    say(f"area under the ROC curve, junk against particles: {area_under_roc(scores, ~real):.4f}")
    for kind in sorted(set(kinds[~real])):
        some = real | (kinds == kind)
        say(f"  {kind}: {area_under_roc(scores[some], ~real[some]):.4f}")


def parse() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(required=True)
    maker = commands.add_parser("make", help="simulate the set")
    maker.add_argument("models", type=Path, help="folder with 5a1a.pdb and 3j9i.pdb, gzipped or not")
    maker.add_argument("output", type=Path, help="folder to write to")
    maker.add_argument("--particles", type=int, default=4000)
    maker.add_argument("--picked_noise", type=int, default=1000, help="images of picked noise; 0: none")
    maker.add_argument("--snr", type=float, default=SNR)
    maker.add_argument("--junk", type=float, default=0.1)
    maker.add_argument("--seed", type=int, default=1)
    maker.set_defaults(run=make)
    for name, run in (("selection", judge_selection), ("classes", judge_classes), ("ranking", judge_ranking)):
        judge = commands.add_parser(name, help=str(run.__doc__))
        judge.add_argument("truth", type=Path, help="truth.star")
        judge.add_argument("result", type=Path, help="STAR file of the result")
        judge.set_defaults(run=run)
        if name == "classes":
            judge.add_argument("--groups", default="", help='molecules that count as one, "1+2,3"; others are left out')
        if name == "ranking":
            judge.add_argument("--column", default="rlnParticleSelectZScore")
    return parser.parse_args()


if __name__ == "__main__":
    chosen = parse()
    chosen.run(chosen)
