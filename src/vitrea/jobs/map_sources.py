"""The images that ``vitrea map`` works on, and the files they go to."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from vitrea.formats.image_names import join_image_name, project_name, split_image_name
from vitrea.records.errors import InputError

if TYPE_CHECKING:
    from vitrea.formats.image_files import ImageFile, Kind
    from vitrea.records.micrographs import Micrographs, Movies
    from vitrea.records.particles import Particles

_CHUNK_BYTES = 64 << 20


@dataclass(frozen=True)
class Source:
    """Some images of one file, or one map.

    Attributes
    ----------
    file : ImageFile
    sections : ndarray of int
        Those wanted; of a map all.
    pixel_size : float
        Å.
    rows : ndarray of int
        Rows of the STAR file that they are.
    """

    file: ImageFile
    sections: NDArray[np.int64]
    pixel_size: float
    rows: NDArray[np.int64]

    @property
    def dims(self) -> int:
        """2 for images, 3 for a map."""
        return 3 if self.file.is_map else 2

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one image, or of the map."""
        return self.file.shape if self.file.is_map else self.file.shape[1:]

    @property
    def names(self) -> list[str]:
        """What messages call each."""
        path = str(self.file.path)
        if self.file.is_map or len(self.file) == 1:
            return [path]
        return [join_image_name(path, section) for section in self.sections.tolist()]

    def chunks(self) -> Iterator[tuple[NDArray[np.int64], NDArray[np.float32]]]:
        """Yield places among the sections, and the images, shape [m, y, x]; of a map [0] and [1, z, y, x]."""
        if self.file.is_map:
            yield np.zeros(1, dtype=np.int64), self.file.load_map().voxels[None]
            return
        step = max(1, _CHUNK_BYTES // (8 * self.shape[0] * self.shape[1]))
        for start in range(0, len(self.sections), step):
            places = np.arange(start, min(start + step, len(self.sections)))
            yield places, self.file.load(self.sections[places])

    def beside(self, places: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return what goes with images at these places: a map or the only image, [1, ...], or as many images."""
        if self.file.is_map or len(self.sections) == 1:
            return next(self.chunks())[1]
        return self.file.load(self.sections[places])


def open_source(name: str, pixel_size: float, kind: Kind = "auto") -> Source:
    """Open a file, or one image of it (``3@stack.mrcs``); a pixel size that nobody tells is 1 Å, as in RELION.

    Raises
    ------
    InputError
        If it cannot be read, or does not have that image.
    """
    from vitrea.formats.image_files import open_image_file

    path, index = split_image_name(name)
    file = open_image_file(path, "stack" if "@" in name else kind)
    if index >= len(file):
        raise InputError(f"{path} has {len(file)} images, so there is no {name}")
    sections = np.array([index]) if "@" in name else np.arange(len(file))
    return Source(file, sections, pixel_size or file.pixel_size or 1.0, np.zeros(0, dtype=np.int64))


@dataclass(frozen=True)
class ImageList:
    """The images of a STAR file, and how the file is written again.

    Attributes
    ----------
    images : Particles or Micrographs
    paths : list of Path
        Files of the images.
    file_of_row : ndarray of int
        Which of `paths` each row's image is in.
    section_of_row : ndarray of int
        Where in it.
    """

    images: Particles | Micrographs
    paths: list[Path]
    file_of_row: NDArray[np.int64]
    section_of_row: NDArray[np.int64]

    def source(self, number: int, pixel_size: float) -> Source:
        """Open the images that lie in one file, in the order in which they lie there."""
        rows = np.flatnonzero(self.file_of_row == number)
        return self._opened(number, rows[np.argsort(self.section_of_row[rows], kind="stable")], pixel_size)

    def image(self, row: int, pixel_size: float) -> Source:
        """Open the image of one row."""
        return self._opened(int(self.file_of_row[row]), np.array([row]), pixel_size)

    def _opened(self, number: int, rows: NDArray[np.int64], pixel_size: float) -> Source:
        from vitrea.formats.image_files import open_image_file

        file = open_image_file(self.paths[number], "stack")
        sections = self.section_of_row[rows]
        if sections[-1] >= len(file):
            raise InputError(f"{self.paths[number]} has {len(file)} images, image {sections[-1] + 1} is asked for")
        groups = {group.group: group.pixel_size for group in self.images.optics}
        known = groups[int(self.images.table["rlnOpticsGroup"][rows[0]])]
        return Source(file, sections, pixel_size or known, rows)


def read_image_list(path: Path, pixel_size: float) -> ImageList:
    """Read a STAR file of particles or, where it has no rlnImageName, of micrographs.

    Raises
    ------
    InputError
        If it cannot be read, or an image does not exist.
    """
    from vitrea.formats.micrograph_files import locate_images, read_micrographs
    from vitrea.formats.particle_files import read_particles
    from vitrea.formats.star import read_star
    from vitrea.records.micrographs import GivenOptics
    from vitrea.records.table import Table

    tables = [block for block in read_star(path).values() if isinstance(block, Table)]
    if not any("rlnImageName" in table for table in tables):
        given = GivenOptics(pixel_size=pixel_size) if pixel_size else None
        micrographs = read_micrographs(path, given, require_optics=False)
        count = len(micrographs)
        return ImageList(micrographs, locate_images(micrographs), np.arange(count), np.zeros(count, dtype=np.int64))
    particles = read_particles(path, require_ctf=False, pixel_size=pixel_size or None)
    return _of_particles(particles)


def _of_particles(particles: Particles) -> ImageList:
    from vitrea.formats.image_names import find_file

    numbers: dict[str, int] = {}
    files, sections = [], []
    for name in particles.table["rlnImageName"]:
        file, section = split_image_name(str(name))
        files.append(numbers.setdefault(file, len(numbers)))
        sections.append(section)
    paths = [find_file(file, particles.image_root) for file in numbers]
    return ImageList(particles, paths, np.array(files, dtype=np.int64), np.array(sections, dtype=np.int64))


@dataclass(frozen=True)
class Destination:
    """Where the images of a STAR file go: `star` is the new list, ``file_of(path)`` the file for those of a file."""

    star: Path
    file_of: Callable[[Path], Path]


def destination(star: Path, output: str, images: Particles | Micrographs | Movies) -> Destination:
    """Return where images and list go; see the description of `MapParameters`.

    Raises
    ------
    InputError
        If `output` is neither a .star file nor a single word, or is the input.
    """
    from vitrea.formats.image_names import place_in_job
    from vitrea.records.particles import Particles

    wanted = Path(output)
    if wanted.suffix.lower() == ".star":
        if wanted.resolve() == star.resolve():
            raise InputError(f"--o {output} is the STAR file that is read; choose another name")
        if isinstance(images, Particles):
            return Destination(wanted, lambda path: wanted.with_suffix(".mrcs"))
        return Destination(wanted, lambda path: wanted.with_suffix("") / place_in_job(project_name(path)))
    if not output or wanted.name != output or wanted.suffix:
        raise InputError("--o: for a STAR file give a .star file, or a word that is put into the names of the images")

    def beside(path: Path) -> Path:
        return path.with_name(f"{path.stem}_{output}{path.suffix}")

    return Destination(beside(star), beside)


def with_new_images(
    images: Particles | Micrographs, names: dict[int, str], sizes: dict[int, float], box: int
) -> Particles | Micrographs:
    """Return the rows that have new names, with new pixel sizes (Å) and, of particles, a new box."""
    from vitrea.formats.star_values import text_column
    from vitrea.records.particles import Particles

    rows = sorted(names)
    label = "rlnImageName" if isinstance(images, Particles) else images.name_label
    kept = images.rows(np.array(rows, dtype=np.int64)).with_columns({label: text_column([names[row] for row in rows])})
    of_group = {int(images.table["rlnOpticsGroup"][row]): sizes[row] for row in rows}
    optics = tuple(replace(group, pixel_size=of_group.get(group.group, group.pixel_size)) for group in images.optics)
    if isinstance(images, Particles):
        optics = tuple(replace(group, image_size=box) for group in optics)
    return replace(kept, optics=optics)
