"""Atomic models from PDB and mmCIF files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from vitrea.formats.atomic import atomic_path
from vitrea.formats.mrc_header import reading
from vitrea.records.atomic_model import AtomicModel
from vitrea.records.errors import InputError


def read_atoms(path: str | Path, assembly: str | None = None) -> AtomicModel:
    """Read the first model of a PDB or mmCIF file (gzipped or not); waters are kept, as deposited.

    Parameters
    ----------
    path : str or Path
        The file.
    assembly : str, optional
        Name of a biological assembly ("1") to build with the operators of the file. By default the atoms as deposited.

    Raises
    ------
    InputError
        If the file is missing, cannot be read, holds no atoms, or does not have that assembly.
    """
    path = Path(path)
    structure = _read(path)
    model = structure[0] if assembly is None else _assemble(structure, assembly, path)
    return _to_record(model)


def write_moved_atoms(
    path: str | Path, source: str | Path, rotation: NDArray[np.float64], shift: NDArray[np.float64]
) -> None:
    """Write the first model of a PDB or mmCIF file with its atoms at ``R x + t``, as mmCIF.

    Parameters
    ----------
    path : str or Path
        The file to write.
    source : str or Path
        The file to read; all else it says goes along.
    rotation : ndarray, shape [3, 3]
        R.
    shift : ndarray, shape [3]
        t (x, y, z) in Å.

    Raises
    ------
    InputError
        If the one cannot be read, or the other not be written.
    """
    structure = _read(Path(source))
    del structure[1:]
    # Operators of symmetry and assemblies are those of the old place.
    structure.assemblies.clear()
    structure.ncs.clear()
    structure.spacegroup_hm = "P 1"
    structure.cell = gemmi.UnitCell()
    structure[0].transform_pos_and_adp(gemmi.Transform(gemmi.Mat33(np.asarray(rotation).tolist()), gemmi.Vec3(*shift)))
    structure.setup_entities()
    with atomic_path(path) as temporary:
        temporary.write_text(structure.make_mmcif_document().as_string(), encoding="utf-8")


def _read(path: Path) -> Any:
    try:
        with reading(path):
            path.open("rb").close()  # gemmi's words for a file that is not there are its own
            structure = gemmi.read_structure(str(path), format=gemmi.CoorFormat.Detect)
    except (RuntimeError, ValueError) as error:
        raise InputError(f"{path} is not a readable PDB or mmCIF file: {error}") from error
    if not len(structure) or not structure[0].count_atom_sites():
        raise InputError(f"{path} holds no atoms")
    return structure


def _assemble(structure: Any, assembly: str, path: Path) -> Any:
    found = {str(one.name): one for one in structure.assemblies}
    if assembly not in found:
        known = ", ".join(found) or "none"
        raise InputError(f"{path} has no biological assembly {assembly!r} (it has: {known})")
    # mmCIF assemblies name subchains, which a PDB file does not have until they are worked out.
    structure.setup_entities()
    return gemmi.make_assembly(found[assembly], structure[0], gemmi.HowToNameCopiedChain.AddNumber)


def _to_record(model: Any) -> AtomicModel:
    sites = list(model.all())
    atoms = [site.atom for site in sites]
    positions = np.array([atom.pos.tolist() for atom in atoms], dtype=np.float64).reshape(-1, 3)
    return AtomicModel(
        elements=np.array([atom.element.name for atom in atoms], dtype=object),
        positions=positions,
        b_factors=np.array([atom.b_iso for atom in atoms], dtype=np.float64),
        occupancies=np.array([atom.occ for atom in atoms], dtype=np.float64),
        chain_names=np.array([site.chain.name for site in sites], dtype=object),
        residue_names=np.array([f"{site.residue.name} {site.residue.seqid}" for site in sites], dtype=object),
    )
