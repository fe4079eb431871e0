"""Atoms and biological assemblies."""

import gzip
from pathlib import Path

import numpy as np
import pytest

from vitrea.formats.atomic_models import read_atoms
from vitrea.records.errors import InputError

PDB = """\
ATOM      1  N   ALA A   1      11.000  12.500 -13.250  0.50 20.00           N
ATOM      2  CA  ALA A   1      12.000  12.500 -13.250  1.00 30.00           C
HETATM    3 ZN    ZN B   1       1.000   2.000   3.000  1.00 40.00          ZN
END
"""
# A twofold axis along z as the biological assembly.
REMARK = """\
REMARK 350 BIOMOLECULE: 1
REMARK 350 APPLY THE FOLLOWING TO CHAINS: A, B
REMARK 350   BIOMT1   1  1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   1  0.000000  1.000000  0.000000        0.00000
REMARK 350   BIOMT3   1  0.000000  0.000000  1.000000        0.00000
REMARK 350   BIOMT1   2 -1.000000  0.000000  0.000000        0.00000
REMARK 350   BIOMT2   2  0.000000 -1.000000  0.000000        0.00000
REMARK 350   BIOMT3   2  0.000000  0.000000  1.000000        0.00000
"""


@pytest.mark.parametrize("packed", [False, True])
def test_pdb(tmp_path: Path, packed: bool) -> None:
    path = tmp_path / ("a.pdb.gz" if packed else "a.pdb")
    path.write_bytes(gzip.compress(PDB.encode()) if packed else PDB.encode())
    model = read_atoms(path)
    assert model.elements.tolist() == ["N", "C", "Zn"]
    np.testing.assert_allclose(model.positions, [[11, 12.5, -13.25], [12, 12.5, -13.25], [1, 2, 3]])
    assert model.b_factors.tolist() == [20.0, 30.0, 40.0]
    assert model.occupancies.tolist() == [0.5, 1.0, 1.0]
    assert (len(model), model.chains) == (3, ("A", "B"))


def test_assembly(tmp_path: Path) -> None:
    path = tmp_path / "a.pdb"
    path.write_text(REMARK + PDB)
    model = read_atoms(path, assembly="1")
    assert (len(model), model.chains) == (6, ("A1", "B1", "A2", "B2"))
    np.testing.assert_allclose(np.sort(model.positions[:, 0]), [-12, -11, -1, 1, 11, 12])
    np.testing.assert_allclose(model.positions[:, :2].sum(axis=0), 0, atol=1e-6)
    with pytest.raises(InputError, match=r"no biological assembly '2' \(it has: 1\)"):
        read_atoms(path, assembly="2")


def test_chains_can_be_left_out(tmp_path: Path) -> None:
    path = tmp_path / "a.pdb"
    path.write_text(REMARK + PDB)
    model = read_atoms(path, assembly="1").without_chains({"A1", "B2"})
    assert model.chains == ("B1", "A2")
    assert model.elements.tolist() == ["Zn", "N", "C"]
    assert model.b_factors.tolist() == [40.0, 20.0, 30.0]
    np.testing.assert_allclose(model.positions, [[1, 2, 3], [-11, -12.5, -13.25], [-12, -12.5, -13.25]], atol=1e-6)
    assert model.occupancies.tolist() == [1.0, 0.5, 1.0]


@pytest.mark.parametrize("content", [b"", b"nonsense\n", b"data_x\nloop_\n_a\n_b\n1\n"])
def test_files_that_are_no_models(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.cif"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"a\.cif"):
        read_atoms(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"a\.pdb does not exist"):
        read_atoms(tmp_path / "a.pdb")


def test_apoferritin_is_a_cube_of_24_chains(shared_data: Path) -> None:
    path = shared_data / "models" / "7a4m.cif.gz"
    one, shell = read_atoms(path), read_atoms(path, assembly="1")
    assert len(one.chains) == 1
    assert len(shell.chains) == 24
    assert len(shell) == 24 * len(one)
    # Octahedral symmetry: the second moments are the same along all axes, and none are mixed.
    centred = shell.positions - shell.positions.mean(axis=0)
    moments = centred.T @ centred / len(shell)
    np.testing.assert_allclose(moments, np.eye(3) * moments[0, 0], atol=1e-3 * moments[0, 0])
    assert read_atoms(shared_data / "models" / "5a1a.pdb.gz").chains == ("A", "B", "C", "D")
