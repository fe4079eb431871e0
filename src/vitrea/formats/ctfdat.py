"""XMIPP's ``.ctfdat``: images and, for each, the file (``.ctfparam``) of its CTF.

Format: Sorzano et al. (2007), doi:10.1016/j.jsb.2007.08.013. XMIPP 2 writes defocus and amplitude contrast with the
opposite sign of RELION's; XMIPP 3 writes STAR, and RELION's signs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vitrea.formats.image_names import search_folders
from vitrea.formats.particle_files import block_as_table
from vitrea.formats.star import read_star
from vitrea.records.errors import InputError

_MICROGRAPH_ENDINGS = ("_Periodogramavg.ctfparam", "_Periodogramavg_ctfmodel_halfplane.ctfparam", ".ctfparam")
# By XMIPP 2's name and XMIPP 3's label.
_FIELDS = {
    "voltage": ("voltage", "ctfVoltage"),
    "defocus_u": ("defocusU", "ctfDefocusU"),
    "defocus_v": ("defocusV", "ctfDefocusV"),
    "defocus_angle": ("azimuthal_angle", "ctfDefocusAngle"),
    "spherical_aberration": ("spherical_aberration", "ctfSphericalAberration"),
    "amplitude_contrast": ("Q0", "ctfQ0"),
}
_REVERSED = ("defocus_u", "defocus_v", "amplitude_contrast")
_PIXEL_SIZE = ("sampling_rate", "ctfSamplingRate")


@dataclass(frozen=True)
class CtfParameters:
    """The CTF of a micrograph, in RELION's terms.

    Attributes
    ----------
    voltage : float
        kV.
    defocus_u, defocus_v : float
        Å, underfocus positive.
    defocus_angle : float
        Degrees.
    spherical_aberration : float
        mm.
    amplitude_contrast : float
        0 to 1.
    pixel_size : float
        Å; 0 where the file gives none.
    """

    voltage: float
    defocus_u: float
    defocus_v: float
    defocus_angle: float
    spherical_aberration: float
    amplitude_contrast: float
    pixel_size: float = 0.0


@dataclass(frozen=True)
class CtfdatEntry:
    """One image: its name, its micrograph's name, and its CTF."""

    image: str
    micrograph: str
    ctf: CtfParameters


def read_ctfdat(path: str | Path) -> list[CtfdatEntry]:
    """Read the list and all CTF files it names.

    Returns
    -------
    list of CtfdatEntry
        A micrograph's name is that of its CTF file, without folder and XMIPP's ending.

    Raises
    ------
    InputError
        If a file is missing, or a line has not two words (names the line).
    """
    path = Path(path)
    known: dict[str, CtfParameters] = {}
    entries = []
    for number, line in enumerate(_lines(path), start=1):
        words = line.split()
        if not words or words[0].startswith("#"):
            continue
        if len(words) != 2:
            raise InputError(f"{path} line {number}: {len(words)} words where an image and its .ctfparam are expected")
        image, file = words
        if file not in known:
            known[file] = read_ctfparam(_find(file, path))
        entries.append(CtfdatEntry(image, _micrograph(file), known[file]))
    if not entries:
        raise InputError(f"{path} names no images")
    return entries


def read_ctfparam(path: str | Path) -> CtfParameters:
    """Read the CTF of one micrograph.

    Raises
    ------
    InputError
        If the file is missing, or lacks a parameter.
    """
    path = Path(path)
    lines = _lines(path)
    is_star = any(line.startswith("data_") for line in lines)
    values = _star_values(path) if is_star else _pairs(lines)
    found = {}
    for field, names in _FIELDS.items():
        text = values.get(names[is_star])
        try:
            value = float("nan" if text is None else text)
        except ValueError:
            value = float("nan")
        if not np.isfinite(value):
            raise InputError(f"{path} gives no {names[is_star]}: it is {text!r}")
        found[field] = -value if field in _REVERSED and not is_star else value
    return CtfParameters(**found, pixel_size=float(values.get(_PIXEL_SIZE[is_star], 0.0)))


def _star_values(path: Path) -> dict[str, str]:
    tables = [block_as_table(block) for block in read_star(path).values()]
    return {label: str(column[0]) for table in tables for label, column in table.columns.items() if len(column)}


def _pairs(lines: list[str]) -> dict[str, str]:
    """Read ``name= value`` lines."""
    pairs = (line.partition("=") for line in lines if "=" in line)
    return {name.strip(): value.split()[0] for name, _, value in pairs if value.split()}


def _micrograph(file: str) -> str:
    name = Path(file).name
    for ending in _MICROGRAPH_ENDINGS:
        if name.endswith(ending):
            return name.removesuffix(ending)
    return name


def _find(file: str, listed_in: Path) -> Path:
    places = (folder / file for folder in search_folders(listed_in.parent))
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise InputError(f"{file}, which {listed_in} names, does not exist")
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8", errors="replace").splitlines()
    except FileNotFoundError:
        raise InputError(f"{path} does not exist; check its name") from None
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
