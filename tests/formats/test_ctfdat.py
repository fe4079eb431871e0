"""XMIPP's lists of images and their CTFs, of versions 2 and 3."""

from __future__ import annotations

from pathlib import Path

import pytest

from vitrea.formats.ctfdat import CtfParameters, read_ctfdat, read_ctfparam
from vitrea.records.errors import InputError

XMIPP_2 = """\
sampling_rate=          2.5
voltage=                200
defocusU=               -16000.5
defocusV=               -15500
azimuthal_angle=        33.5
spherical_aberration=   2.26
Q0=                     -0.1
K=                      1
"""
XMIPP_3 = """\
# XMIPP_STAR_1 *
data_fullMicrograph
 _ctfSamplingRate 2.5
 _ctfVoltage 200
 _ctfDefocusU 16000.5
 _ctfDefocusV 15500
 _ctfDefocusAngle 33.5
 _ctfSphericalAberration 2.26
 _ctfQ0 0.1
"""
EXPECTED = CtfParameters(200, 16000.5, 15500, 33.5, 2.26, 0.1, 2.5)


@pytest.mark.parametrize("text", [XMIPP_2, XMIPP_3])
def test_both_versions_say_the_same(text: str, tmp_path: Path) -> None:
    (tmp_path / "a.ctfparam").write_text(text)
    assert read_ctfparam(tmp_path / "a.ctfparam") == EXPECTED


def test_list(tmp_path: Path) -> None:
    (tmp_path / "ctfs").mkdir()
    (tmp_path / "ctfs/mic1_Periodogramavg.ctfparam").write_text(XMIPP_2)
    (tmp_path / "all.ctfdat").write_text(
        "img1.spi ctfs/mic1_Periodogramavg.ctfparam\n\nimg2.spi ctfs/mic1_Periodogramavg.ctfparam\n"
    )
    entries = read_ctfdat(tmp_path / "all.ctfdat")
    assert [(entry.image, entry.micrograph, entry.ctf) for entry in entries] == [
        ("img1.spi", "mic1", EXPECTED),
        ("img2.spi", "mic1", EXPECTED),
    ]


def test_what_is_wrong_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.ctfparam").write_text(XMIPP_2.replace("Q0=", "Q1="))
    with pytest.raises(InputError, match=r"a\.ctfparam gives no Q0"):
        read_ctfparam(tmp_path / "a.ctfparam")
    (tmp_path / "a.ctfdat").write_text("img1.spi\n")
    with pytest.raises(InputError, match="line 1: 1 words"):
        read_ctfdat(tmp_path / "a.ctfdat")
    (tmp_path / "a.ctfdat").write_text("img1.spi gone.ctfparam\n")
    with pytest.raises(InputError, match=r"gone\.ctfparam, which .* names, does not exist"):
        read_ctfdat(tmp_path / "a.ctfdat")
    (tmp_path / "a.ctfdat").write_text("# nothing\n")
    with pytest.raises(InputError, match="names no images"):
        read_ctfdat(tmp_path / "a.ctfdat")
