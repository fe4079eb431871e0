"""Three small movies of the demonstration's molecule, from which its particles can be had the long way.

The molecule is the one of `demo.py`. 600 particles in 3 movies of 16 frames, 1024 x 1024 pixels of 3.5 Å, 40 e-/Å²:
about 10 s and 9 MB a movie. They drift by 25 Å and bend by 8 Å; a gain has to be applied. Then, for example::

    vitrea motion --i Simulate/movies.star --o Motion --dose_per_frame 2.5
    vitrea ctf --i Motion/corrected_micrographs.star --o Ctf
    vitrea pick blob --i Ctf/micrographs_ctf.star --o Pick --characteristic-radius 40 --maximum-radius 75
    vitrea extract --i Ctf/micrographs_ctf.star --coordinate-list Pick/autopick.star --o Particles ...

    python examples/demo_movies.py [folder]
"""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

from demo import DIAMETER, density, protein

from vitrea.formats.mrc import write_map

MOVIES, PARTICLES, FRAMES, EXPOSURE = 3, 200, 16, 40  # of each movie; e-/Å² in all
MASS = 150  # kDa that the molecule's envelope would hold; its helices alone are 66 kDa, hard to see at 40 e-/Å²


def movie_command(molecule: str, folder: str = "Simulate", movies: int = MOVIES) -> str:
    """Return what follows ``vitrea`` to make the movies of a map."""
    return (
        f"simulate movie --map {molecule} --molecular_mass {MASS} --particle_diameter {DIAMETER} --o {folder} "
        f"--number {movies} --particles {PARTICLES} --frames {FRAMES} --exposure {EXPOSURE} --width 1024 "
        "--ice_thickness 300 --defocus_min 10000 --defocus_max 20000 --drift 25 --local_motion 8"
    )


def main() -> None:
    """Draw the molecule and make the movies."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path("demo_movies")
    folder.mkdir(parents=True, exist_ok=True)
    write_map(folder / "molecule.mrc", density(protein()))
    command = [sys.executable, "-m", "vitrea", *shlex.split(movie_command("molecule.mrc"))]
    subprocess.run(command, cwd=folder, check=True)


if __name__ == "__main__":
    main()
