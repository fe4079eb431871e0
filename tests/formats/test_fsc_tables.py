"""FSC curves of post-processing, cisTEM, FREALIGN and EMDB; what is none of these is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from vitrea.formats.fsc_tables import read_fsc_curve, shell_columns
from vitrea.formats.star import write_star
from vitrea.records.errors import InputError
from vitrea.records.table import Table

# As cisTEM's ResolutionStatistics writes them: the first row is shell 1, numbered 2.
CISTEM = """C        SHELL     RESOLUTION    RING_RADIUS            FSC       Part_FSC  Part_SSNR^0.5   Rec_SSNR^0.5
             2       120.0000         0.0083         0.9990         0.9995         9.0000        60.0000
             3        60.0000         0.0167         0.9800         0.9900         5.0000        14.0000
             4        40.0000         0.0250         0.5000         0.7000         2.0000         2.1000
             5        30.0000         0.0333         0.1000         0.2000         0.5000         0.7000
"""
# FREALIGN 9 puts the table behind the particles of its .par file, in lines that begin with C.
FREALIGN = """C           PSI   THETA     PHI       SHX       SHY     MAG  FILM      DF1      DF2  ANGAST     OCC
      1  120.00   30.00   10.00      1.00      2.00   60000     1  15000.0  14800.0   45.00  100.00
C                                                 sqrt       sqrt
C  NO.  RESOL  RING RAD   FSPR    FSC  Part_FSC  Part_SSNR  Rec_SSNR       CC   EXP. C    SIG C  ERFC  TOTVOX
C   2  120.0    0.0083   0.25  0.999     0.999     9.0000   60.00   0.9990   0.1000   0.0500  1.00      20
C   3   60.0    0.0167   1.25  0.980     0.990     5.0000   14.00   0.9800   0.1000   0.0500  1.00      60
C   4   40.0    0.0250  30.25  0.500     0.700     2.0000    2.10   0.5000   0.1000   0.0500  1.00     ****
C   5   30.0    0.0333  80.25  0.100     0.200     0.5000    0.70   0.1000   0.1000   0.0500  1.00     200
C  Average               28.0  0.645     0.722
"""
XML = """<fsc title="x" xaxis="Resolution (A-1)" yaxis="Correlation Coefficient">
  <coordinate><x>0.01</x><y>0.99</y></coordinate>
  <coordinate><x>0.02</x><y>0.7</y></coordinate>
  <coordinate><x>0.03</x><y>0.2</y></coordinate>
</fsc>
"""


@pytest.mark.parametrize("text", [CISTEM, "\n".join(CISTEM.splitlines()[1:]), FREALIGN])
def test_statistics_of_cistem_and_frealign_give_the_fsc_of_the_particle(tmp_path: Path, text: str) -> None:
    path = tmp_path / "statistics.txt"
    path.write_text(text)
    curve = read_fsc_curve(path)
    assert curve.name == "Part_FSC"
    assert curve.frequency == pytest.approx([1 / 120, 1 / 60, 1 / 40, 1 / 30])
    assert curve.value == pytest.approx([0.999, 0.99, 0.7, 0.2], abs=1e-3)
    assert read_fsc_curve(path, "FSC").value == pytest.approx([0.999, 0.98, 0.5, 0.1])


def test_star_files_give_the_corrected_curve_first(tmp_path: Path) -> None:
    k = np.array([1 / 999, 0.01, 0.02, 0.03])
    columns = {
        "rlnResolution": k,
        "rlnFourierShellCorrelationUnmaskedMaps": np.array([1, 0.9, 0.5, 0.1]),
        "rlnFourierShellCorrelationCorrected": np.array([1, 0.95, 0.7, 0.3]),
    }
    write_star(tmp_path / "post.star", {"general": {"rlnFinalResolution": 33.0}, "fsc": Table(columns)})
    assert read_fsc_curve(tmp_path / "post.star").value.tolist() == [1, 0.95, 0.7, 0.3]
    unmasked = read_fsc_curve(tmp_path / "post.star", "rlnFourierShellCorrelationUnmaskedMaps")
    assert unmasked.value.tolist() == [1, 0.9, 0.5, 0.1]
    model = {"model_class_1": Table({"rlnResolution": k, "rlnGoldStandardFsc": np.array([1, 0.8, 0.6, 0.2])})}
    write_star(tmp_path / "model.star", model)
    assert read_fsc_curve(tmp_path / "model.star").name == "rlnGoldStandardFsc"


def test_relions_own_files_are_read(shared_reference: Path) -> None:
    folder = shared_reference / "betagal_real"
    post = read_fsc_curve(folder / "postprocess/post.star")
    xml = read_fsc_curve(folder / "postprocess/post_fsc.xml")
    assert len(post.value) == len(xml.value) == 33
    assert xml.value == pytest.approx(post.value, abs=1e-4)
    assert read_fsc_curve(folder / "refine3d/run_model.star").name == "rlnGoldStandardFsc"


def test_curves_go_onto_the_shells_of_any_box(tmp_path: Path) -> None:
    path = tmp_path / "fsc.xml"
    path.write_text(XML)
    curve = read_fsc_curve(path)
    shells = curve.of_shells(40, 5.0)  # 200 Å: shells 0.005 apart
    assert shells[[0, 2, 3, 4, 6, 7]] == pytest.approx([1.0, 0.99, 0.845, 0.7, 0.2, 0.0])
    assert len(shells) == 21


@pytest.mark.parametrize(
    ("name", "text", "column", "sentence"),
    [
        ("none.txt", None, "", "none.txt does not exist"),
        ("notes.txt", "shopping list\nmilk\n", "", "neither STAR nor XML"),
        ("s.txt", CISTEM, "Corrected", "lacks the column Corrected"),
        ("s.txt", "\n".join(CISTEM.splitlines()[:3]), "", "too few for a curve"),
        ("s.txt", CISTEM.replace("0.7000", "7.0000", 1), "", "between -1 and 1"),
        ("bad.xml", XML.replace("</fsc>", ""), "", "not the XML of an FSC"),
        ("bad.xml", XML.replace("0.99", "x"), "", "not the XML of an FSC"),
        ("bad.star", "data_\nloop_\n_rlnResolution #1\n0.1\n0.2\n", "", "holds no FSC"),
    ],
)
def test_what_is_no_fsc_is_refused(tmp_path: Path, name: str, text: str | None, column: str, sentence: str) -> None:
    if text is not None:
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=sentence):
        read_fsc_curve(tmp_path / name, column)


@pytest.mark.parametrize(("size", "voxel_size", "first"), [(64, 2.0, 999.0), (1001, 1.5, 3003.0)])
def test_resolutions_of_shells_fall_from_row_to_row(size: int, voxel_size: float, first: float) -> None:
    """Shell 0 is at 999 Å, as RELION has it, but where shell 1 would be coarser than that."""
    columns = shell_columns(size, voxel_size)
    angstrom = columns["rlnAngstromResolution"]
    assert len(angstrom) == size // 2 + 1
    assert angstrom[0] == pytest.approx(first)
    assert angstrom[1:] == pytest.approx(size * voxel_size / np.arange(1, size // 2 + 1))
    assert (np.diff(angstrom) < 0).all()
    assert np.allclose(columns["rlnResolution"] * angstrom, 1.0)
    assert columns["rlnSpectralIndex"].tolist() == list(range(size // 2 + 1))
