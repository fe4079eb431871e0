"""RELION's names of images: ``000001@folder/stack.mrcs``, and where the stacks lie."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path

from vitrea.records.errors import InputError

_JOB_FOLDER = re.compile(r"^[^/]+/job\d{3,}/")
UNSUPPORTED = {".tif": "TIFF", ".tiff": "TIFF", ".eer": "EER"}


def split_image_name(name: str) -> tuple[str, int]:
    """Split an image's name into the name of its file and its index there, from 0.

    A name without ``@`` is the first image of its file.

    Raises
    ------
    InputError
        If what stands before ``@`` is not a positive number.
    """
    number, at, file = name.partition("@")
    if not at:
        return name, 0
    if not number.isascii() or not number.isdigit() or int(number) < 1 or not file:
        raise InputError(f"rlnImageName {name!r} is not of the form 000001@stack.mrcs, counting from 1")
    return file, int(number) - 1


def join_image_name(file: str, index: int) -> str:
    """Return the name of the image at an index, from 0, of a file."""
    return f"{index + 1:06d}@{file}"


def project_name(path: Path) -> str:
    """Return a file's name from the project folder, which is the current one; absolute if it lies elsewhere.

    Links are kept as they are.
    """
    absolute, here = Path(os.path.normpath(path.absolute())), Path.cwd()
    return str(absolute.relative_to(here)) if absolute.is_relative_to(here) else str(absolute)


def without_job_folder(name: str) -> str:
    """Return a name without the folder of the job that made the file: ``Movies/a.mrc`` of ``Job/job2/Movies/a.mrc``."""
    return _JOB_FOLDER.sub("", name)


def place_in_job(name: str) -> Path:
    """Return where in its own folder a job puts what it makes of a file, as RELION has it.

    It is the name without the folder of the job before; of a name that leads out of the project only the last part.
    """
    place = Path(without_job_folder(name))
    return Path(place.name) if place.is_absolute() or ".." in place.parts else place


def search_folders(root: Path | None) -> list[Path]:
    """Return the folders that relative image names may start from, in the order they are tried.

    These are the STAR file's folder, the current folder (RELION names files from the project folder, where its programs
    run), and the folders above the STAR file, so that a project is found from elsewhere, too.
    """
    folders = [] if root is None else [root]
    folders.append(Path())
    if root is not None:
        folders.extend(root.resolve().parents)
    return folders


def find_file(file: str, root: Path | None) -> Path:
    """Return the place of a file that an image name gives.

    Parameters
    ----------
    file : str
        The part behind ``@``.
    root : Path or None
        Folder of the STAR file.

    Raises
    ------
    InputError
        If there is no such file in any of `search_folders`, or its format is not supported.
    """
    path = Path(file)
    if path.suffix.lower() in UNSUPPORTED:
        kind = UNSUPPORTED[path.suffix.lower()]
        raise InputError(f"{file}: particle images in {kind} format are not read; convert the stack to MRC")
    return locate_file(file, root, "image stack", "rlnImageName")


def locate_file(file: str, root: Path | None, what: str, label: str) -> Path:
    """Return the place of a file that a STAR file names, of whatever format.

    Parameters
    ----------
    file : str
        Its name; relative names are tried from all `search_folders`.
    root : Path or None
        Folder of the STAR file.
    what, label : str
        Kind of file and the label that names it, for the message.

    Raises
    ------
    InputError
        If there is no such file.
    """
    path = Path(file)
    for folder in [Path()] if path.is_absolute() else search_folders(root):
        if (folder / path).is_file():
            return folder / path
    tried = "" if path.is_absolute() else f" (looked in {_places(root)})"
    raise InputError(f"the {what} {file} does not exist{tried}; check {label} or run from the project folder")


def _places(root: Path | None) -> str:
    places: Iterable[Path] = [Path.cwd()] if root is None else dict.fromkeys([root.resolve(), Path.cwd()])
    return ", ".join(map(str, places))
